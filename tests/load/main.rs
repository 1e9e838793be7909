//! The fleet load generator: one process that holds thousands of agents over real mutual TLS against a hub in a process of
//! its own, and beside it the bare signed stream that the hub is compared with.
//!
//! Prints `metric: value` lines on stdout. `README.md` says what each means, and holds the figures and their targets.

mod actions;
mod agent_path;
#[path = "../attack/attack.rs"]
mod attack;
mod bare;
mod estate;
mod fleet;
mod hub;
mod measures;
mod monitoring;
mod numbers;
mod operator;
mod process;
mod region;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::measures::Run;

/// Measure a hub under the load of many agents
#[derive(Parser)]
struct Cli {
    /// Agents of the timed measures; memory, growth and reconnecting take ten times as many, up to 10,000
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Seconds of sustained load on each side, spread over the rounds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Measure one thing alone
    #[arg(long)]
    only: Option<Only>,
    /// Where hubs' folders are made and removed again; on a real disk
    #[arg(long, default_value = "target/load")]
    folder: PathBuf,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// The server that the hub is compared with; started by the generator itself
    #[command(hide = true)]
    BareServer { folder: PathBuf },
    /// Measure what watching a region costs a hub; tests/load/monitoring builds and starts it
    Monitoring(monitoring::Asked),
    /// Attack what reads, listens and judges; tests/attack/run builds and starts it
    Attack(attack::Asked),
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Only {
    #[value(name = "command_p50_ratio", alias = "command_p99_ratio")]
    Command,
    #[value(name = "fanout_ratio")]
    FanOut,
    #[value(name = "sustained_ratio")]
    Sustained,
    #[value(name = "rss_per_agent_ratio")]
    Memory,
    #[value(name = "growth_ratio")]
    Growth,
    #[value(name = "reconnect_s")]
    Reconnect,
    HubRest,
    AgentRest,
    AgentPath,
    ActionOverhead,
    CallsAtRest,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let cli = Cli::parse();
    // What the kit would log is no metric.
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match &cli.mode {
            Some(Mode::BareServer { folder }) => bare::server::run(folder).await,
            Some(Mode::Attack(asked)) => Box::pin(attack::run(&cli.folder, asked)).await,
            Some(Mode::Monitoring(asked)) => Box::pin(monitoring::measure(&cli.folder, asked)).await,
            None => Box::pin(measure(&cli)).await,
        }
    })
}

async fn measure(cli: &Cli) -> Result<()> {
    let wanted = |one: Only| cli.only.is_none_or(|only| only == one);
    let seconds = Duration::from_secs(cli.seconds);
    if wanted(Only::ActionOverhead) {
        Box::pin(actions::overhead()).await?;
    }
    if wanted(Only::CallsAtRest) {
        actions::calls_at_rest().await?;
    }
    if matches!(cli.only, Some(Only::ActionOverhead | Only::CallsAtRest)) {
        return Ok(()); // they have an estate of their own
    }
    let mut run = Run::prepare(&cli.folder, cli.agents, seconds).await?;
    if wanted(Only::Command) || wanted(Only::FanOut) || wanted(Only::Sustained) {
        run.timings(wanted(Only::Command), wanted(Only::FanOut), wanted(Only::Sustained)).await?;
    }
    if wanted(Only::Memory) {
        run.memory().await?;
    }
    if wanted(Only::Growth) {
        run.growth().await?;
    }
    if wanted(Only::Reconnect) {
        run.reconnect().await?;
    }
    if wanted(Only::HubRest) {
        run.hub_at_rest().await?;
    }
    if wanted(Only::AgentRest) {
        run.agent_at_rest().await?;
    }
    if wanted(Only::AgentPath) {
        run.agent_path().await?;
    }
    Ok(())
}
