//! `sfdata-agent`: the agent's own command line, for the LA whose account it stands in.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use sfdata_agent::{
    agent::Agent,
    audit,
    config::Config,
    identity,
    policy::{self, Brake},
    services::Services,
};
use sfdata_common::{Timestamp, config, shutdown, telemetry};

/// Manage this account's Dagster platform on the hub's signed word, within the LA's own policy
#[derive(Parser)]
#[command(name = "sfdata-agent", version)]
struct Cli {
    /// The agent's configuration
    #[arg(long, global = true, default_value = "/etc/sfdata/agent.toml", env = "SFDATA_AGENT_CONFIG")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Join the hub that invited this agent
    Enrol {
        /// Token that `hubctl agents invite` printed
        #[arg(long, env = "SFDATA_JOIN_TOKEN", hide_env_values = true)]
        token: String,
    },
    /// Serve until asked to stop (SIGTERM)
    Run,
    /// Say what is wrong with configuration and policy, and exit with 1 if anything is
    CheckConfig,
    /// Refuse everything but reads from now on; the hub sees that, and why
    Hold {
        /// Why, in your words
        #[arg(long)]
        reason: String,
    },
    /// Let commands in again
    Release,
    /// Print this agent's own record of commands, checked, one line of JSON each
    Audit,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sfdata-agent: {}", sfdata_common::error::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let cli = Cli::parse();
    let config: Config = config::load(&cli.config)?;
    config.check()?;
    let brake = Brake::new(&config.data_dir);
    match cli.command {
        Command::CheckConfig => {
            policy::load(config.policy.as_deref())?;
            writeln!(io::stderr(), "{} is valid", cli.config.display())?;
        }
        Command::Hold { reason } => {
            brake.hold(&reason, Timestamp::now())?;
            writeln!(io::stderr(), "Held: everything but reads is refused until sfdata-agent release")?;
        }
        Command::Release => {
            brake.release()?;
            writeln!(io::stderr(), "Released: commands are let in again")?;
        }
        Command::Audit => print_audit(&config)?,
        Command::Enrol { token } => runtime()?.block_on(enrol(&config, &token))?,
        Command::Run => {
            telemetry::init(&config.log)?;
            runtime()?.block_on(serve(&config))?;
        }
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start threads")
}

async fn enrol(config: &Config, token: &str) -> Result<()> {
    let account = Services::new(&config.aws, &config.platform).await.account().await?;
    let agent = identity::enrol(&config.data_dir, token, &account, Timestamp::now()).await?;
    writeln!(io::stderr(), "Agent {agent} has joined from account {account}. Start it: sfdata-agent run")?;
    Ok(())
}

async fn serve(config: &Config) -> Result<()> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    Ok(Agent::start(config, stop).await?.stopped().await?)
}

fn print_audit(config: &Config) -> Result<()> {
    let mut out = io::stdout().lock();
    for entry in audit::read(&config.data_dir)? {
        let (entry, _) = entry?;
        writeln!(out, "{}", serde_json::to_string(&entry)?)?;
    }
    Ok(())
}
