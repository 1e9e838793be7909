//! What a person sees while waiting: moving lines on a terminal, plain lines elsewhere. Always on stderr.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    follow::{Board, Target},
    output, results,
    table::clean,
};

/// More targets than this get one common line: a terminal has few.
const LINES: usize = 20;
const LINE: &str = "{spinner} {prefix} {elapsed:>4.dim} {wide_msg}";
const BAR: &str = "{spinner} {prefix} {elapsed:>4.dim} [{bar:24}] {wide_msg}";
/// Often enough to look alive.
const TICK: Duration = Duration::from_millis(120);

/// The display; it goes when it is dropped.
pub(crate) enum Progress {
    /// No terminal: a line for each change.
    Plain,
    /// A line for each target.
    Each(MultiProgress, BTreeMap<String, ProgressBar>),
    /// One line for all.
    Common(ProgressBar),
}

impl Progress {
    /// Begin to show a command.
    pub(crate) fn new(board: &Board) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Plain;
        }
        if board.targets.len() > LINES {
            let bar = ProgressBar::new(board.targets.len() as u64);
            bar.set_style(style("{spinner} [{bar:30}] {pos}/{len} ended {elapsed:.dim} {wide_msg}"));
            bar.enable_steady_tick(TICK);
            return Self::Common(bar);
        }
        let multi = MultiProgress::new();
        let width = board.targets.keys().map(String::len).max().unwrap_or(0);
        let bar = |(agent, target): (&String, &Target)| {
            let bar = multi.add(ProgressBar::no_length());
            bar.set_style(style(LINE));
            bar.set_prefix(format!("{agent:width$}"));
            bar.set_message(clean(&results::describe(target)));
            bar.enable_steady_tick(TICK);
            (agent.clone(), bar)
        };
        let bars = board.targets.iter().map(bar).collect();
        Self::Each(multi, bars)
    }

    /// One target changed.
    pub(crate) fn show(&self, agent: &str, target: &Target) {
        let text = clean(&results::describe(target));
        match self {
            Self::Plain => output::note(format_args!("{agent}: {text}")),
            Self::Each(_, bars) => {
                if let Some(bar) = bars.get(agent) {
                    bar.set_message(text);
                    // One target has the room for a bar, once it knows how far it is.
                    match target.progress.as_ref().and_then(|progress| progress.percent) {
                        Some(percent) if bars.len() == 1 => {
                            bar.set_style(style(BAR));
                            bar.set_length(100);
                            bar.set_position(percent.into());
                        }
                        _ => bar.set_style(style(LINE)),
                    }
                    if target.is_ended() {
                        bar.disable_steady_tick();
                    }
                }
            }
            Self::Common(bar) => {
                bar.set_message(format!("{agent}: {text}"));
                bar.inc(u64::from(target.is_ended()));
            }
        }
    }

    /// Print lines of data without tearing those that move; `false` when nobody reads them any more.
    pub(crate) fn print(&self, lines: &[String]) -> bool {
        let print = || lines.iter().all(|line| output::line(line));
        match self {
            Self::Plain => print(),
            Self::Each(multi, _) => multi.suspend(print),
            Self::Common(bar) => bar.suspend(print),
        }
    }

    /// Say something without tearing the lines.
    pub(crate) fn say(&self, text: impl Display) {
        match self {
            Self::Plain => output::note(text),
            Self::Each(multi, _) => multi.suspend(|| output::note(text)),
            Self::Common(bar) => bar.suspend(|| output::note(text)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match self {
            Self::Plain => {}
            Self::Each(_, bars) => bars.values().for_each(ProgressBar::finish_and_clear),
            Self::Common(bar) => bar.finish_and_clear(),
        }
    }
}

/// The templates are constants; one that is wrong would show as the plain default.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
