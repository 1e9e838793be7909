//! `sfdata-hub`: the hub's own command line, for whoever runs it on its machine.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use sfdata_common::{Timestamp, config::Source, ids::OperatorName, ops, shutdown, telemetry};
use sfdata_hub::{
    admin,
    config::Config,
    enrol::identity::IDENTITY_FILE,
    hub,
    rotation::{self, Step, What},
    store::backup,
};

/// Keep the fleet: accept signed commands, deliver them to agents, record what happened
#[derive(Parser)]
#[command(name = "sfdata-hub", version)]
struct Cli {
    /// The hub's configuration [default: /etc/sfdata/hub.toml]
    #[arg(long, global = true, value_name = "FILE", env = "SFDATA_HUB_CONFIG", conflicts_with = "config_text")]
    config: Option<PathBuf>,
    /// The configuration itself, in place of a file: for containers, whose programs are given no files
    #[arg(long, global = true, value_name = "TOML", env = TEXT, hide_env_values = true)]
    config_text: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const TEXT: &str = "SFDATA_HUB_TOML";
const FILE: &str = "/etc/sfdata/hub.toml";

#[derive(Subcommand)]
enum Command {
    /// Make a hub's keys and store, and a join token for its first operator
    ///
    /// Prints the token to stdout. Harmless to repeat: keys and data stay, the token is a new one.
    Init {
        /// Operator to invite
        #[arg(long)]
        operator: OperatorName,
    },
    /// Print what a trust bundle lists of this hub (hub-identity.pem); nothing in it is secret
    Identity,
    /// Serve until asked to stop (SIGTERM)
    Run,
    /// Say what is wrong with the configuration, and exit with 1 if anything is
    CheckConfig,
    /// Ask the hub that runs here whether it lives, and exit with 1 if it does not: for a container's health check
    Healthcheck,
    /// Write a backup of the store, also while the hub runs
    ///
    /// The hub's keys (ca.key, dispatch.key) are not in it; keep them apart.
    Backup {
        /// File to write; - for standard output, as in: sfdata-hub backup --out - | aws s3 cp - s3://…
        #[arg(long)]
        out: PathBuf,
    },
    /// Put another key in the place of one, while the hub runs
    ///
    /// Without a step it says where a rotation stands. The steps: --stage; hubctl trust update-hub, sign and publish;
    /// --activate; and once more hubctl trust update-hub, sign and publish.
    Rotate {
        /// Which key
        key: Rotated,
        /// Have a next one; of dispatch keys the one of KMS that hub.toml names and that is not in use, or else a new file
        #[arg(long, conflicts_with = "activate")]
        stage: bool,
        /// Use the next one from now on; refused while agents do not hold a bundle that lists it
        #[arg(long)]
        activate: bool,
        /// Whoever is left behind
        #[arg(long, requires = "activate")]
        force: bool,
    },
    /// Make the store anew from a backup; never over an existing one
    Restore {
        /// File to read; - for standard input
        #[arg(long)]
        from: PathBuf,
        /// Move a store that is there, whole or damaged, to a folder beside it first
        #[arg(long)]
        set_aside: bool,
    },
}

/// What can be rotated from here.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Rotated {
    /// The key that signs dispatches
    Dispatch,
    /// The CA that issues certificates
    Ca,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sfdata-hub: {}", sfdata_common::error::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let cli = Cli::parse();
    let source = Source::new(TEXT, cli.config_text, cli.config.unwrap_or_else(|| FILE.into()));
    let config = Config::open(source.clone())?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?.block_on(async {
        match cli.command {
            Command::Init { operator } => init(&config, &operator).await,
            Command::Identity => identity(&config),
            Command::Run => serve(&config).await,
            Command::CheckConfig => {
                writeln!(io::stderr(), "{} is valid", source.name().display())?;
                Ok(())
            }
            Command::Healthcheck => {
                let address = config.listen.ops;
                ops::ask(address).await.with_context(|| format!("no hub that lives answers at {address} (listen.ops)"))
            }
            Command::Backup { out } => write_backup(&config, out).await,
            Command::Rotate { key, stage, activate, force } => rotate(
                &config,
                key,
                if activate {
                    Step::Activate { force }
                } else if stage {
                    Step::Stage
                } else {
                    Step::Show
                },
            ),
            Command::Restore { from, set_aside } => restore(&config, &from, set_aside),
        }
    })
}

async fn init(config: &Config, operator: &OperatorName) -> Result<()> {
    let (token, identity) = hub::init(config, operator, Timestamp::now()).await?;
    writeln!(io::stderr(), "The hub's identity, for the trust bundle: {}", identity.display())?;
    writeln!(io::stderr(), "Join token of operator {operator}, for one use within the hour (hubctl login TOKEN):")?;
    writeln!(io::stdout(), "{token}")?;
    Ok(())
}

fn identity(config: &Config) -> Result<()> {
    let path = config.data_dir.join(IDENTITY_FILE);
    let text = fs::read(&path).with_context(|| format!("cannot read {}; sfdata-hub init makes it", path.display()))?;
    Ok(io::stdout().write_all(&text)?)
}

async fn serve(config: &Config) -> Result<()> {
    telemetry::init(&config.log)?;
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    let hub = hub::Hub::start(config, stop).await?;
    hub.stopped().await?;
    Ok(())
}

async fn write_backup(config: &Config, out: PathBuf) -> Result<()> {
    let to_stdout = out.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        bail!("a backup is binary; send it to a file or a pipe");
    }
    let target: Box<dyn Write + Send> = if to_stdout {
        Box::new(io::stdout())
    } else {
        let file = File::create_new(&out);
        Box::new(
            file.with_context(|| format!("cannot make {}; a file that is there is not overwritten", out.display()))?,
        )
    };
    let summary = admin::backup(&config.data_dir, target).await?;
    writeln!(io::stderr(), "{} records written to {}", summary.records, out.display())?;
    Ok(())
}

fn rotate(config: &Config, key: Rotated, step: Step) -> Result<()> {
    let what = match key {
        Rotated::Dispatch => What::Dispatch,
        Rotated::Ca => What::Ca,
    };
    let asked = rotation::ask(&config.data_dir, what, step);
    let answer = asked.with_context(|| {
        format!("no hub that runs in {} answers; start it first, and run this as its user", config.data_dir.display())
    })?;
    let said = answer.map_err(anyhow::Error::msg)?;
    write!(io::stdout(), "{said}")?;
    Ok(())
}

fn restore(config: &Config, from: &PathBuf, set_aside: bool) -> Result<()> {
    let source: Box<dyn io::Read> = if from.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(from).with_context(|| format!("cannot read {}", from.display()))?)
    };
    if set_aside && let Some(aside) = backup::set_aside(&config.data_dir)? {
        writeln!(io::stderr(), "The store that was there is in {} now", aside.display())?;
    }
    let (summary, epoch) = backup::restore(&config.data_dir, source)?;
    writeln!(io::stderr(), "{} records restored; the hub is now in epoch {epoch}.", summary.records)?;
    writeln!(
        io::stderr(),
        "Start it, then let an admin run: hubctl trust accept-restore --reason …\n\
         Until then agents take no commands, because the hub may have forgotten some that they ran."
    )?;
    Ok(())
}
