//! hubctl, the operators' command line: stop 1 on a command's path, where it is signed, and the last, where its
//! outcome is shown. Data goes to stdout, talk to stderr.

mod cli;
mod commands;
mod containers;

mod arrivals;
mod buckets;
mod database;
mod follow;
mod health;
mod images;
mod lines;
mod moment;
mod order;
mod platform;
mod power;
mod pipelines;
mod progress;
mod results;
mod targets;
mod wait;

mod client;
mod keyring;
mod pinned;
mod dsse;
mod proof;
mod profile;
mod status;

mod exit;
mod output;
mod table;
mod words;

use std::process::ExitCode;

use clap::Parser as _;
use sfdata_common::error::chain;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let exit = Box::pin(cli.run()).await.unwrap_or_else(|error| {
        output::error(chain(error.as_ref()));
        exit::code_of(&error)
    });
    exit.into()
}
