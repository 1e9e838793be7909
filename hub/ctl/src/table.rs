//! Tables in plain columns, as other tools can cut them.
//!
//! Texts come from hubs and agents, which may lie: control characters never reach the terminal.

use std::fmt::Write as _;

use sfdata_common::csv;

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Pending,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Pending => Some("33"),
        }
    }
}

/// One text and its tone.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text in a tone; an empty one shows as `-`.
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        match text.as_ref() {
            "" => Self { text: "-".to_owned(), tone: Tone::Plain },
            text => Self { text: clean(text), tone },
        }
    }
}

impl Cell {
    /// What it says.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How it says it.
    pub(crate) fn tone(&self) -> Tone {
        self.tone
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text.to_string(), Tone::Plain)
    }
}

/// One row from anything that makes cells.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::table::Cell::from(&$cell)),*] };
}
pub(crate) use row;

/// Columns under their names.
#[derive(Debug)]
pub(crate) struct Table {
    names: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(names: &[&str]) -> Self {
        Self { names: names.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Facts of one thing: a name and its value on each line, without a head line.
    pub(crate) fn card() -> Self {
        Self::new(&[])
    }

    /// Add a row.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// For a spreadsheet.
    pub(crate) fn csv(&self) -> String {
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| if cell.text == "-" { "" } else { &cell.text }).collect());
        let head = Some(self.names.iter().map(String::as_str).collect()).filter(|head: &Vec<&str>| !head.is_empty());
        head.into_iter().chain(rows).map(csv::line).collect()
    }

    /// As text, each line ended; colours where `colour` says so.
    pub(crate) fn render(&self, colour: bool) -> String {
        let head: Vec<Cell> = self.names.iter().map(Cell::from).collect();
        let lines = || Some(&head).filter(|head| !head.is_empty()).into_iter().chain(&self.rows);
        let columns = lines().map(Vec::len).max().unwrap_or(0);
        let width =
            |column| lines().filter_map(|line| line.get(column)).map(|cell: &Cell| cell.text.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for line in lines() {
            for (column, cell) in line.iter().enumerate() {
                let last = column + 1 == line.len();
                let pad = if last { 0 } else { widths[column] - cell.text.chars().count() + 2 };
                match cell.tone.code().filter(|_| colour) {
                    Some(code) => _ = write!(out, "\x1b[{code}m{}\x1b[0m{:pad$}", cell.text, ""),
                    None => _ = write!(out, "{}{:pad$}", cell.text, ""),
                }
            }
            out.push('\n');
        }
        out
    }
}

/// The text on one line, without anything that a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_colours() {
        let mut table = Table::new(&["AGENT", "STATE", "NOTE"]);
        table.push(vec!["northshire".into(), Cell::new("connected", Tone::Good), "".into()]);
        table.push(vec!["ely".into(), Cell::new("away 3h", Tone::Bad), "held".into()]);
        insta::assert_snapshot!(table.render(false), @r#"
        AGENT       STATE      NOTE
        northshire  connected  -
        ely         away 3h    held
        "#);
        assert!(table.render(true).contains("\x1b[31maway 3h\x1b[0m    held"));
    }

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        let mut table = Table::card();
        table.push(row!["detail", "a\x1b[2Jb\nc\u{9b}d"]);
        assert_eq!(table.render(false), "detail  a [2Jb c d\n");
    }
}
