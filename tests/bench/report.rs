//! The figures.

use std::fs;

use anyhow::{Context as _, Result};

use crate::arguments::Arguments;
use crate::machine::Machine;
use crate::mounted::Messages;
use crate::row::Unit;
use crate::{json, svg};

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) missing: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) sections: Vec<Section>,
}

/// Rows in which the same systems take part.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Names and versions.
    pub(crate) systems: Vec<(String, String)>,
    /// Those to which all are compared.
    pub(crate) references: Vec<String>,
    pub(crate) rows: Vec<Figures>,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// As many as the section has systems.
    pub(crate) cells: Vec<Cell>,
}

/// One system in one row. Neither samples nor a failure: the row says nothing about this system.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) samples: Vec<f64>,
    /// One for each sample, of our systems.
    pub(crate) messages: Vec<Messages>,
    pub(crate) failure: Option<String>,
}

impl Report {
    pub(crate) fn new(machine: Machine, missing: Vec<String>, rounds: usize) -> Self {
        Self { machine, missing, rounds, sections: Vec::new() }
    }

    /// Writes the files that were asked for.
    pub(crate) fn save(&self, arguments: &Arguments) -> Result<()> {
        if let Some(path) = &arguments.json {
            fs::write(path, json::text(self)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(path) = &arguments.svg {
            fs::write(path, svg::text(self)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

impl Section {
    pub(crate) fn new(title: &'static str, systems: Vec<(String, String)>, references: &[&str]) -> Self {
        let references = references.iter().map(|name| (*name).to_owned()).collect();
        Self { title, systems, references, rows: Vec::new() }
    }

    /// The median of the system with this name.
    pub(crate) fn median(&self, row: &Figures, system: &str) -> Option<f64> {
        let number = self.systems.iter().position(|(name, _)| name == system)?;
        row.cells.get(number)?.median()
    }
}

impl Cell {
    pub(crate) fn median(&self) -> Option<f64> {
        if self.failure.is_some() || self.samples.is_empty() {
            return None;
        }
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let is_odd = sorted.len() % 2 == 1;
        Some(if is_odd { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 })
    }

    pub(crate) fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}
