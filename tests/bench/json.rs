//! The figures for programs.

use serde_json::{Map, Value, json};

use crate::report::{Cell, Figures, Report, Section};
use crate::row::Unit;

pub(crate) fn text(report: &Report) -> String {
    let sections: Map<String, Value> =
        report.sections.iter().map(|section| (section.title.to_owned(), of_section(section))).collect();
    let value = json!({
        "machine": report.machine.json(),
        "missing": report.missing,
        "rounds": report.rounds,
        "sections": sections,
    });
    format!("{value:#}\n")
}

fn of_section(section: &Section) -> Value {
    let versions: Map<String, Value> =
        section.systems.iter().map(|(name, version)| (name.clone(), version.as_str().into())).collect();
    let rows: Map<String, Value> = section.rows.iter().map(|row| (row.name.clone(), of_row(section, row))).collect();
    json!({ "systems": versions, "rows": rows })
}

fn of_row(section: &Section, row: &Figures) -> Value {
    let cells: Map<String, Value> = section
        .systems
        .iter()
        .zip(&row.cells)
        .map(|((name, _), cell)| (name.clone(), of_cell(section, row, cell)))
        .collect();
    let unit = match row.unit {
        Unit::Seconds => "s",
        Unit::Kibibytes => "KiB",
    };
    json!({ "title": row.title, "unit": unit, "systems": cells })
}

fn of_cell(section: &Section, row: &Figures, cell: &Cell) -> Value {
    let mut value = Map::new();
    if let Some(why) = &cell.failure {
        value.insert("failed".into(), why.as_str().into());
    }
    if let Some(median) = cell.median() {
        value.insert("median".into(), median.into());
        value.insert("min".into(), cell.min().into());
        value.insert("max".into(), cell.max().into());
        for reference in &section.references {
            if let Some(other) = section.median(row, reference).filter(|other| *other > 0.0) {
                value.insert(format!("ratio to {reference}"), (median / other).into());
            }
        }
        value.insert("samples".into(), cell.samples.clone().into());
    }
    if !cell.messages.is_empty() {
        value.insert("messages".into(), json!(cell.messages));
    }
    value.into()
}
