//! Lists: as a table, as ids, as JSON, or by a template.

use clap::Args;
use serde_json::{Map, Value};

use super::Context;
use super::output::{columns, short, visible};
use crate::error::{Error, Result};

/// What every list is asked for.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Look {
    /// Show whole ids, and cut nothing
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Print no head over the columns
    #[arg(long, short = 'n')]
    noheading: bool,
    /// Sort by this column
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
}

impl Look {
    /// An id, which may be shortened.
    pub(super) fn id(&self, id: &str) -> String {
        if self.no_trunc { id.to_owned() } else { short(id.strip_prefix("sha256:").unwrap_or(id)) }
    }
}

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    /// What stands over it.
    pub(super) head: &'static str,
    /// What it is called in a template, as Docker calls it.
    pub(super) name: &'static str,
    pub(super) place: Place,
}

/// Where a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the table.
    Table,
    /// In the table, and cut where a terminal is too narrow.
    Flexible,
    /// Only in templates.
    Template,
}

/// What stands in a column.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    /// What it is sorted by, where that is not the text.
    order: Option<u64>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), order: None }
    }
}

impl Cell {
    /// A text that stands for a number.
    pub(super) fn number(text: impl Into<String>, number: u64) -> Self {
        Self { text: text.into(), order: Some(number) }
    }

    /// A text that stands for a time, of which the latest comes first.
    pub(super) fn time(text: impl Into<String>, seconds: u64) -> Self {
        Self { text: text.into(), order: Some(u64::MAX.saturating_sub(seconds)) }
    }
}

#[derive(Debug)]
struct Row {
    id: String,
    cells: Vec<Cell>,
    /// Which of the values it shows.
    value: usize,
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    columns: &'static [Column],
    rows: Vec<Row>,
    values: Vec<Value>,
    /// The table is sorted by its first columns.
    is_sorted: bool,
}

impl List {
    pub(super) const fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new(), values: Vec::new(), is_sorted: false }
    }

    /// One whose table is sorted.
    pub(super) fn sorted(columns: &'static [Column]) -> Self {
        Self { is_sorted: true, ..Self::new(columns) }
    }

    /// Adds a thing: its value, and its rows with as many cells as there are columns.
    pub(super) fn push(&mut self, id: &str, value: Value, rows: impl IntoIterator<Item = Vec<Cell>>) {
        let number = self.values.len();
        self.values.push(value);
        self.rows.extend(rows.into_iter().map(|cells| Row { id: id.to_owned(), cells, value: number }));
    }

    /// Prints it as the user wants it.
    pub(super) fn print(mut self, context: &Context, look: &Look) -> Result<()> {
        let output = &context.output;
        let as_json = output.is_json() && output.template().is_none();
        match &look.sort {
            Some(key) => self.sort(key)?,
            None if self.is_sorted && !as_json => {
                let texts = |row: &Row| row.cells.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>();
                self.rows.sort_by_cached_key(texts);
            }
            None => {}
        }
        if let Some(template) = output.template() {
            let lines: Vec<String> =
                self.rows.iter().map(|row| template.render(&self.fields(row))).collect::<Result<_>>()?;
            if !template.is_table {
                return lines.iter().try_for_each(|line| output.line(line));
            }
            let head = self.columns.iter().map(|column| (column.name.to_owned(), column.head.into()));
            let head = template.head(&Value::Object(self.any_fields(head)))?;
            let head = Some(head).filter(|_| !look.noheading);
            let cells = |line: &String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
            let rows: Vec<Vec<String>> = head.iter().chain(&lines).map(cells).collect();
            return output.text(&columns(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[]));
        }
        let mut seen = vec![false; self.values.len()];
        let mut is_new = |row: &&Row| seen.get_mut(row.value).is_some_and(|seen| !std::mem::replace(seen, true));
        if as_json {
            let numbers: Vec<usize> = self.rows.iter().filter(|row| is_new(row)).map(|row| row.value).collect();
            let values = numbers.iter().filter_map(|number| self.values.get_mut(*number).map(Value::take));
            return output.json(&values.collect());
        }
        if context.quiet {
            return self.rows.iter().filter(is_new).try_for_each(|row| output.line(&row.id));
        }
        self.table(context, look)
    }

    fn table(&self, context: &Context, look: &Look) -> Result<()> {
        let shown: Vec<(usize, &Column)> =
            self.columns.iter().enumerate().filter(|(_, column)| column.place != Place::Template).collect();
        let flexible = shown.iter().enumerate().filter(|(_, (_, column))| column.place == Place::Flexible);
        let flexible: Vec<usize> = flexible.map(|(number, _)| number).filter(|_| !look.no_trunc).collect();
        let head: Vec<String> = shown.iter().map(|(_, column)| column.head.to_owned()).collect();
        let cells = |row: &Row| -> Vec<String> {
            let cell = |number: usize| row.cells.get(number).map_or_else(String::new, |cell| visible(&cell.text));
            shown.iter().map(|(number, _)| cell(*number)).collect()
        };
        let rows: Vec<Vec<String>> =
            Some(head).filter(|_| !look.noheading).into_iter().chain(self.rows.iter().map(cells)).collect();
        context.output.text(&columns(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), &flexible))
    }

    /// All that a template knows of a row: its cells, and what JSON has beside them.
    fn fields(&self, row: &Row) -> Value {
        let mut fields = self.values.get(row.value).and_then(Value::as_object).cloned().unwrap_or_default();
        let cells = self.columns.iter().zip(&row.cells);
        fields.extend(cells.map(|(column, cell)| (column.name.to_owned(), cell.text.clone().into())));
        Value::Object(fields)
    }

    /// The same names as [`List::fields`], for the head: what is no column stands for itself.
    fn any_fields(&self, columns: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
        let first = self.values.first().and_then(Value::as_object);
        let names = first.into_iter().flat_map(Map::keys).map(|name| (name.clone(), name.to_uppercase().into()));
        names.chain(columns).collect()
    }

    fn sort(&mut self, key: &str) -> Result<()> {
        let plain = |text: &str| text.to_lowercase().replace([' ', '_', '-'], "");
        let is_it = |column: &Column| [column.head, column.name].iter().any(|name| plain(name) == plain(key));
        let number = self.columns.iter().position(is_it).ok_or_else(|| {
            let known: Vec<String> = self.columns.iter().map(|column| column.name.to_lowercase()).collect();
            Error::Usage(format!("--sort: there is no column {key:?}; there are {}", known.join(", ")))
        })?;
        let order = |row: &Row| {
            let cell = row.cells.get(number);
            (cell.and_then(|cell| cell.order), cell.map(|cell| cell.text.clone()).unwrap_or_default())
        };
        self.rows.sort_by_cached_key(order);
        Ok(())
    }
}
