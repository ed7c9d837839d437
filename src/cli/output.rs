//! Printing results: lines, tables, JSON.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::format::Format;
use super::template::Template;
use crate::error::{Context as _, Result};

/// Where results go.
#[derive(Debug, Clone)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether values are wanted: as JSON, or what a template makes of them.
    pub(super) fn is_json(&self) -> bool {
        self.format != Format::Text
    }

    /// The template, where one is given.
    pub(super) const fn template(&self) -> Option<&Template> {
        match &self.format {
            Format::Template(template) => Some(template),
            _ => None,
        }
    }

    /// Prints text as it is.
    pub(super) fn text(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes as they are.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        match write(bytes) {
            // The reader has closed the pipe: it needs no more output.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.doing("write to", "standard output"),
        }
    }

    /// Prints a result that must reach its reader: a closed pipe is an error here, too.
    pub(super) fn deliver(&self, result: &str) -> Result<()> {
        write(format!("{result}\n").as_bytes()).doing("print the result to", "standard output")
    }

    pub(super) fn line(&self, line: &str) -> Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Prints a value as JSON; by a template it is a line, and of an array each element is.
    pub(super) fn json(&self, value: &Value) -> Result<()> {
        let Some(template) = self.template() else { return self.line(&format!("{value:#}")) };
        let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        all.iter().try_for_each(|one| self.line(&template.render(one)?))
    }

    /// Prints rows under a head, in columns.
    pub(super) fn table<const N: usize>(&self, head: [&str; N], rows: &[[String; N]]) -> Result<()> {
        let head = head.map(str::to_owned);
        let lines: Vec<&[String]> = std::iter::once(&head).chain(rows).map(<[String; N]>::as_slice).collect();
        self.text(&columns(&lines, &[]))
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

/// Rows in columns, three spaces apart. On a terminal that is too narrow for them, columns of these numbers are cut.
pub(super) fn columns(rows: &[&[String]], flexible: &[usize]) -> String {
    columns_within(rows, flexible, terminal_width())
}

fn columns_within(rows: &[&[String]], flexible: &[usize], room: Option<usize>) -> String {
    let count = rows.iter().map(|row| row.len()).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let mut widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let whole = widths.iter().sum::<usize>().saturating_add(GAP.len().saturating_mul(count.saturating_sub(1)));
    let mut missing = room.map_or(0, |room| whole.saturating_sub(room));
    for column in flexible {
        if let Some(width) = widths.get_mut(*column) {
            let cut = missing.min(width.saturating_sub(FLEXIBLE_MIN));
            *width = width.saturating_sub(cut);
            missing = missing.saturating_sub(cut);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let cell = cut(cell, *width);
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
            line.push_str(GAP);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

const GAP: &str = "   ";
/// No column is cut further.
const FLEXIBLE_MIN: usize = 10;

/// The beginning of a text, with an ellipsis, where all of it is wider.
pub(super) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or_default();
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut beginning: String = text.chars().take_while(fits).collect();
    beginning.push('…');
    beginning.into()
}

/// How wide the terminal is, if standard output is one.
fn terminal_width() -> Option<usize> {
    // error: standard output is no terminal, or one whose width is not known
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Text that came from outside, without what a terminal would obey.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Bytes for people, in decimal units as Docker prints them.
pub(super) fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return format!("{}{unit}", three_digits(value));
        }
        value /= 1000.0;
    }
    format!("{}TB", three_digits(value))
}

fn three_digits(value: f64) -> String {
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long ago, for people.
pub(super) fn ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let passed = now.saturating_sub(seconds);
    let units = [
        ("year", 31_536_000),
        ("month", 2_592_000),
        ("week", 604_800),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
    ];
    for (unit, length) in units {
        let count = passed / length;
        if count > 0 {
            return format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" });
        }
    }
    format!("{passed} second{} ago", if passed == 1 { "" } else { "s" })
}

/// The first 12 digits of an id.
pub(super) fn short(hex: &str) -> String {
    hex.get(..12).unwrap_or(hex).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_345_678, "12.3MB"),
            (999_999, "1MB"),
            (5_000_000_000, "5GB"),
            (7_200_000_000_000, "7.2TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn only_what_may_be_cut_is_cut_and_only_where_it_must() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["A", "FLEXIBLE", "C"]), row(["1234567", "from here to there", "x"])];
        let rows: Vec<&[String]> = rows.iter().map(<[String; 3]>::as_slice).collect();
        let whole = "A         FLEXIBLE             C\n1234567   from here to there   x\n";
        for room in [None, Some(32), Some(80)] {
            assert_eq!(columns_within(&rows, &[1], room), whole);
        }
        let narrow = "A         FLEXIBLE            C\n1234567   from here to the…   x\n";
        assert_eq!(columns_within(&rows, &[1], Some(31)), narrow);
        let least = "A         FLEXIBLE     C\n1234567   from here…   x\n";
        assert_eq!(columns_within(&rows, &[1], Some(3)), least);
        assert_eq!(columns_within(&rows, &[], Some(3)), whole);
        assert_eq!((cut("日本語", 5), cut("日本語", 4)), ("日本…".into(), "日…".into()));
    }
}
