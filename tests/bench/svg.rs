//! The figures as a picture: for each row, how many times as long as the reference each system takes, on a logarithmic scale.

use std::fmt::Write as _;

use crate::report::{Figures, Report, Section};
use crate::table::figure;

const WIDTH: f64 = 930.0;
const LABELS: f64 = 330.0;
const RIGHT: f64 = 130.0;
const BAR: f64 = 9.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 62.0;
/// The scale's ends, unless figures lie outside of what is drawn: those reach its edge.
const LEAST: f64 = 1.0 / 16.0;
const MOST: f64 = 64.0;
/// Readable on white and on black.
const COLOURS: [&str; 8] = ["#7d8590", "#b07aa1", "#e08a3c", "#c9a227", "#2f9e6e", "#3b82d6", "#d1495b", "#17a2b8"];

pub(crate) fn text(report: &Report) -> String {
    let mut body = String::new();
    let mut top = 10.0;
    for section in report.sections.iter().filter(|section| !section.rows.is_empty()) {
        top = draw(&mut body, section, top) + 20.0;
    }
    let _ = write!(
        body,
        "<text x=\"10\" y=\"{top:.0}\" class=\"f\">{}</text>",
        escape(&format!("{}; medians of {} rounds", report.machine, report.rounds))
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {0:.0}\" width=\"{WIDTH:.0}\" height=\"{0:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<style>\ntext {{ fill: #24292f }} .f {{ fill: #6e7781 }} .h {{ \
         font-weight: bold; font-size: 13px }} line {{ stroke: #8b949e; stroke-opacity: .35 }} .one {{ stroke-opacity: 1 \
         }}\n@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .f {{ fill: #9198a1 }} \
         }}\n</style>\n{body}\n</svg>\n",
        top + 14.0
    )
}

/// One section; where the next may begin.
fn draw(body: &mut String, section: &Section, top: f64) -> f64 {
    let Some(reference) = reference(section) else { return top };
    let _ = writeln!(
        body,
        "<text x=\"10\" y=\"{:.0}\" class=\"h\">{}: × {} (logarithmic, shorter is better)</text>",
        top + 14.0,
        section.title,
        escape(&reference)
    );
    legend(body, section, top + 32.0);
    let start = top + HEAD;
    let mut rows = String::new();
    let mut y = start;
    for row in &section.rows {
        y = draw_row(&mut rows, section, row, &reference, y);
    }
    grid(body, start, y - GAP / 2.0);
    body.push_str(&rows);
    y
}

/// The first that took part.
fn reference(section: &Section) -> Option<String> {
    let is_here = |name: &&String| section.systems.iter().any(|(system, _)| system == *name);
    section.references.iter().find(is_here).or_else(|| section.systems.first().map(|(name, _)| name)).cloned()
}

fn legend(body: &mut String, section: &Section, y: f64) {
    let mut x = 10.0;
    for (number, (name, _)) in section.systems.iter().enumerate() {
        let _ = writeln!(
            body,
            "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" \
             y=\"{y:.0}\">{}</text>",
            y - 9.0,
            COLOURS[number % COLOURS.len()],
            x + 14.0,
            escape(name)
        );
        x += 34.0 + 6.5 * name.len() as f64;
    }
}

fn grid(body: &mut String, top: f64, bottom: f64) {
    let mut ratio = LEAST;
    while ratio <= MOST {
        let x = place(ratio);
        let label = if ratio < 1.0 { format!("1/{:.0}", 1.0 / ratio) } else { format!("{ratio:.0}") };
        let class = if (ratio - 1.0).abs() < f64::EPSILON { " class=\"one\"" } else { "" };
        let _ = writeln!(
            body,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{bottom:.0}\"{class}/><text x=\"{x:.1}\" y=\"{:.0}\" \
             class=\"f\" text-anchor=\"middle\">{label}</text>",
            top - 4.0,
            top - 8.0
        );
        ratio *= 2.0;
    }
}

fn draw_row(body: &mut String, section: &Section, row: &Figures, reference: &str, top: f64) -> f64 {
    // A row that the reference has no figure for is compared to the next one that has.
    let others = section.references.iter().map(String::as_str);
    let mut bases = [reference].into_iter().chain(others);
    let Some((name, base)) = bases.find_map(|name| Some((name, section.median(row, name)?))) else { return top };
    let middle = top + BAR * row.cells.len() as f64 / 2.0 + 4.0;
    let note = if name == reference { String::new() } else { format!(" (× {name})") };
    let _ = writeln!(body, "<text x=\"10\" y=\"{middle:.0}\">{}</text>", escape(&format!("{}{note}", row.title)));
    let mut y = top;
    for (number, cell) in row.cells.iter().enumerate() {
        let Some(median) = cell.median() else {
            if cell.failure.is_some() {
                let x = place(1.0) + 3.0;
                let _ = writeln!(
                    body,
                    "<text x=\"{x:.0}\" y=\"{:.0}\" class=\"f\" font-size=\"8\">failed</text>",
                    y + BAR - 1.0
                );
                y += BAR;
            }
            continue;
        };
        let (one, end) = (place(1.0), place(median / base));
        // A bar of no length could not be seen.
        let (x, width) = (one.min(end), (one - end).abs().max(2.0));
        let _ = writeln!(
            body,
            "<rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{}\"/><text x=\"{:.1}\" \
             y=\"{:.0}\" class=\"f\" font-size=\"8\">{:.2} ({})</text>",
            BAR - 1.0,
            COLOURS[number % COLOURS.len()],
            one.max(end) + 4.0,
            y + BAR - 1.5,
            median / base,
            figure(row.unit, median)
        );
        y += BAR;
    }
    y + GAP
}

fn place(ratio: f64) -> f64 {
    let part = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LABELS + part * (WIDTH - LABELS - RIGHT)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
