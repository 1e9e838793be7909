//! Logs: one line an event, for people or as JSON, to stderr. `RUST_LOG`-style filters come from the
//! configuration, not from the environment. Traces stand in [`traces`].

pub mod traces;

use std::io::{self, IsTerminal as _};

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, fmt};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For a terminal.
    #[default]
    Human,
    /// For a log collector.
    Json,
}

/// The `[log]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` or `json`.
    pub format: Format,
    /// What to log: `info`, or by module as in `info,sfdata_hub::sessions=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        // The AWS SDK tells at every look where its credentials come from.
        Self { format: Format::Human, level: "info,aws_config=warn".into() }
    }
}

/// The level is not a filter.
#[derive(Debug, thiserror::Error)]
#[error("log.level {level:?} is not valid; use error, warn, info, debug or trace, optionally by module")]
pub struct InvalidLevel {
    level: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Parse the filter without switching it on.
pub fn check(log: &Log) -> Result<EnvFilter, InvalidLevel> {
    EnvFilter::try_new(&log.level).map_err(|source| InvalidLevel { level: log.level.clone(), source })
}

/// Switch logging on, once for a process.
pub fn init(log: &Log) -> Result<(), InvalidLevel> {
    let lines = fmt().with_env_filter(check(log)?).with_writer(io::stderr);
    match log.format {
        Format::Human => lines.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => lines.json().init(),
    }
    Ok(())
}
