//! The attack bench: bytes that nobody honest sends, to every parser; floods, to every listener; and what the door costs.
//!
//! A mode of the load generator, with whose estate, fleet and operator it works. Prints `metric: value` lines on stdout and
//! findings on stderr; a finding makes it fail. `README.md` beside this file says what is attacked and by which bounds.

mod door;
mod floods;
mod fuzz;
mod tls;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

/// What to attack; all of it, one after the other, when none is named.
#[derive(Args)]
pub(crate) struct Asked {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Feed every parser with broken input
    Fuzz(fuzz::Asked),
    /// Attack one parser; started by `fuzz`, one process each
    #[command(hide = true)]
    FuzzTarget(fuzz::One),
    /// Scan both TLS listeners, and knock with certificates that must not open
    Tls {
        /// A Python with sslyze; tests/attack/run makes it
        #[arg(long)]
        python: PathBuf,
    },
    /// Flood both listeners, from outside and with valid certificates, beside a hundred agents at work
    Floods {
        /// Seconds of each flood
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Only floods whose name begins so
        #[arg(long, default_value = "")]
        only: String,
    },
    /// One flood; started by `floods`, a process of its own
    #[command(hide = true)]
    Flood(floods::attacker::Asked),
    /// Time the agent's door beside its two bare signature checks
    Door {
        /// Commands to judge
        #[arg(long, default_value_t = 20_000)]
        commands: usize,
    },
}

/// Do it; an error is a finding, or a bench that could not be run.
pub(crate) async fn run(folder: &std::path::Path, asked: &Asked) -> Result<()> {
    match &asked.what {
        What::Fuzz(asked) => fuzz::all(asked).await,
        What::FuzzTarget(one) => fuzz::one(one),
        What::Tls { python } => Box::pin(tls::check(folder, python)).await,
        What::Floods { seconds, only } => Box::pin(floods::all(folder, Duration::from_secs(*seconds), only)).await,
        What::Flood(asked) => floods::attacker::run(asked).await,
        What::Door { commands } => {
            ensure!(*commands > 0, "at least one command");
            door::measure(*commands)
        }
    }
}
