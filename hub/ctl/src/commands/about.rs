//! `hubctl version` and `hubctl completions`: about hubctl itself.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

use crate::{
    cli::{Cli, Context},
    exit::Exit,
    output,
};

/// Print the version
#[derive(Debug, Args)]
pub(crate) struct Version {}

impl Version {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let version = env!("CARGO_PKG_VERSION");
        context.output.text(&json!({ "name": "hubctl", "version": version }), format_args!("hubctl {version}"))?;
        Ok(Exit::Done)
    }
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl completions bash > /etc/bash_completion.d/hubctl")]
pub(crate) struct Completions {
    /// Shell to print it for
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hubctl", &mut script);
        output::write(&script)?;
        Ok(Exit::Done)
    }
}
