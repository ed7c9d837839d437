//! The figures as text.

use std::fmt::Write as _;

use crate::mounted::Messages;
use crate::report::{Cell, Figures, Report, Section};
use crate::row::Unit;

/// The whole report.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("\n{}; {} rounds, interleaved\n", report.machine, report.rounds);
    for line in &report.missing {
        let _ = writeln!(text, "missing: {line}");
    }
    for section in &report.sections {
        if section.rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n== {} ==", section.title);
        for (name, version) in &section.systems {
            let _ = writeln!(text, "{name}: {version}");
        }
        for row in &section.rows {
            let _ = write!(text, "\n{}", block(section, row));
        }
    }
    text
}

/// One row: a line for each system.
pub(crate) fn block(section: &Section, row: &Figures) -> String {
    let mut text = format!("{:<46}", format!("{} [{}]", row.title, row.name));
    let _ = write!(text, "{:>10}  {:<17}", "median", "min–max");
    for reference in &section.references {
        let _ = write!(text, "{:>20}", format!("× {reference}"));
    }
    text.push_str("  messages\n");
    for ((name, _), cell) in section.systems.iter().zip(&row.cells) {
        let _ = writeln!(text, "{}", line(section, row, name, cell).trim_end());
    }
    text
}

fn line(section: &Section, row: &Figures, name: &str, cell: &Cell) -> String {
    let mut text = format!("  {name:<44}");
    if let Some(why) = &cell.failure {
        let _ = write!(text, "failed: {why}");
        return text;
    }
    let Some(median) = cell.median() else {
        text.push('–');
        return text;
    };
    let range = format!("{}–{}", figure(row.unit, cell.min()), figure(row.unit, cell.max()));
    let _ = write!(text, "{:>10}  {range:<17}", figure(row.unit, median));
    for reference in &section.references {
        let ratio = section.median(row, reference).filter(|median| *median > 0.0);
        let ratio = ratio.map_or("–".to_owned(), |reference| format!("{:.2}", median / reference));
        let _ = write!(text, "{ratio:>20}");
    }
    if let Some(last) = cell.messages.last() {
        let _ = write!(text, "  {}", messages(last));
    }
    text
}

fn messages(messages: &Messages) -> String {
    let total: u64 = messages.values().sum();
    let mut kinds: Vec<_> = messages.iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let kinds: Vec<_> = kinds.iter().take(4).map(|(name, count)| format!("{name} {count}")).collect();
    if kinds.is_empty() { "0".to_owned() } else { format!("{total} ({})", kinds.join(", ")) }
}

/// With its unit.
pub(crate) fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Kibibytes => format!("{:.1} MiB", value / 1024.0),
        Unit::Seconds if value < 0.1 => format!("{:.2} ms", value * 1000.0),
        Unit::Seconds if value < 1.0 => format!("{:.0} ms", value * 1000.0),
        Unit::Seconds => format!("{value:.2} s"),
    }
}
