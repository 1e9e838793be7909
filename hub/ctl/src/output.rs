//! Data to stdout, as a table or as JSON; talk to stderr.
//!
//! A reader that goes away (`| head`) is not an error.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use serde_json::Value;

use crate::table::{Table, clean};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // Plain comments: with help of its own, each value would make every --help three times as long.
    // Columns, for people.
    Table,
    // One JSON document, for programs.
    Json,
    // The columns of the table, for spreadsheets.
    Csv,
}

/// Where data goes and how it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// Colour only where somebody sees it and wants it.
    pub(crate) fn new(format: Format, no_colour: bool) -> Self {
        Self { format, colour: !no_colour && io::stdout().is_terminal() }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person sits before a terminal and wants to look at it.
    pub(crate) fn is_screen(self) -> bool {
        self.format == Format::Table && io::stdout().is_terminal() && io::stdin().is_terminal()
    }

    /// Whether colours are seen and wanted.
    pub(crate) fn has_colour(self) -> bool {
        self.colour
    }

    /// Whether numbers are for a spreadsheet.
    pub(crate) fn is_csv(self) -> bool {
        self.format == Format::Csv
    }

    /// Print `json`, or the tables with an empty line between them.
    pub(crate) fn data(self, json: &Value, tables: &[Table]) -> io::Result<()> {
        let text = match self.format {
            Format::Json => format!("{json:#}\n"),
            Format::Table | Format::Csv => self.render(tables),
        };
        write(text.as_bytes())
    }

    /// Print `json`, or a text that stands alone, such as a token.
    pub(crate) fn text(self, json: &Value, text: impl Display) -> io::Result<()> {
        match self.format {
            Format::Json => write(format!("{json:#}\n").as_bytes()),
            Format::Table | Format::Csv => write(format!("{text}\n").as_bytes()),
        }
    }

    /// Print one state of something that goes on changing: a JSON document on one line, or the tables, on a
    /// terminal in place of those before.
    pub(crate) fn refresh(self, json: &Value, tables: &[Table]) -> io::Result<()> {
        let text = match self.format {
            Format::Json => format!("{json}\n"),
            Format::Table if io::stdout().is_terminal() => format!("\x1b[H\x1b[2J{}", self.render(tables)),
            Format::Table | Format::Csv => format!("{}\n", self.render(tables)),
        };
        write(text.as_bytes())
    }

    fn render(self, tables: &[Table]) -> String {
        let one = |table: &Table| if self.is_csv() { table.csv() } else { table.render(self.colour) };
        tables.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

/// Print bytes as they are.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Print one line of many; `false` when nobody reads them any more.
pub(crate) fn line(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}

/// Say something beside the data.
pub(crate) fn note(text: impl Display) {
    talk("", &text);
}

/// Say something that wants attention.
pub(crate) fn warn(text: impl Display) {
    talk("warning: ", &text);
}

/// Say why hubctl ends without having done its work.
pub(crate) fn error(text: impl Display) {
    talk("error: ", &text);
}

fn talk(kind: &str, text: &dyn Display) {
    let text = text.to_string();
    let lines: Vec<String> = text.lines().map(clean).collect();
    // Nobody is left to tell when stderr is closed.
    _ = writeln!(io::stderr().lock(), "{kind}{}", lines.join("\n"));
}

/// Ask a person; without one it is a no.
pub(crate) fn confirm(question: impl Display) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(io::stderr().lock(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
