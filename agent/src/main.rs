//! `sfdata-agent`: the agent's own command line, for the LA whose account it stands in.

#[path = "main/say.rs"]
mod say;

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
    config::{Config, Draft},
    discover,
    identity::{self, receipts},
    policy::{Brake, Rules, Sharing},
    services::{self, Services, survey::Survey},
};
use sfdata_common::{
    Timestamp,
    config::{self, Source},
    discovery, ops,
    outcome::FailureCode,
    shutdown, telemetry,
};
use sfdata_proto::v1::S3ShareState;
use tokio_util::sync::CancellationToken;

/// Manage this account's Dagster platform on the hub's signed word, within the LA's own policy
#[derive(Parser)]
#[command(name = "sfdata-agent", version)]
struct Cli {
    /// The agent's configuration [default: /etc/sfdata/agent.toml]
    #[arg(long, global = true, value_name = "FILE", env = "SFDATA_AGENT_CONFIG", conflicts_with = "config_text")]
    config: Option<PathBuf>,
    /// The configuration itself, in place of a file: for containers, whose programs are given no files
    #[arg(long, global = true, value_name = "TOML", env = TEXT, hide_env_values = true)]
    config_text: Option<String>,
    /// Where ECS tells a task what it is; set by ECS (ECS developer guide, "Task metadata endpoint version 4").
    #[arg(long, global = true, hide = true, env = "ECS_CONTAINER_METADATA_URI_V4", value_name = "URL")]
    task_metadata: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const TEXT: &str = "SFDATA_AGENT_TOML";
const FILE: &str = "/etc/sfdata/agent.toml";

#[derive(Subcommand)]
enum Command {
    /// Look at this account and print a proposed [platform] section; exit with 3 if a person has to complete it
    Discover(Discover),
    #[command(flatten)]
    Configured(Configured),
}

/// What needs a whole configuration.
#[derive(Subcommand)]
enum Configured {
    /// Join the hub that invited or registered this agent
    Enrol(Enrol),
    /// Serve until asked to stop (SIGTERM)
    Run,
    /// Say what is wrong with configuration and policy, and exit with 1 if anything is
    CheckConfig {
        /// Ask AWS as well whether what `[platform]` names exists
        #[arg(long)]
        aws: bool,
    },
    /// Ask the agent that runs here whether it lives, and exit with 1 if it does not: for a container's health check
    Healthcheck,
    /// Refuse everything but reads from now on; the hub sees that, and why
    Hold {
        /// Why, in your words
        #[arg(long)]
        reason: String,
    },
    /// Let commands in again
    Release,
    /// What your policy and your freezes say
    #[command(subcommand)]
    Policy(say::Policy),
    /// List the commands that wait for your approval, where your policy wants it
    Approvals(say::List),
    /// Let a command begin that waits for your approval
    Approve(say::Approve),
    /// Refuse a command that waits for your approval
    Refuse(say::Refuse),
    /// What the core account may read of the shared bucket: your own word on it, which no hub can overrule
    #[command(subcommand)]
    Share(Share),
    /// Have a new key sign receipts: made now, told to the hub within a minute by the agent that runs, and used when the hub has it
    RotateReceiptKey,
    /// Print this agent's own record of commands, checked, one line of JSON each
    Audit,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Enrol {
    /// Token that `hubctl agents invite` printed
    #[arg(long, env = "SFDATA_JOIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// With this account's AWS identity, where [join] of the configuration says; again, if the certificate has ended
    #[arg(long)]
    aws: bool,
}

#[derive(Subcommand)]
enum Share {
    /// Take it back, at once and for good; exit with 4 while it is not known to be out of the bucket's policy
    Revoke {
        /// Why, in your words; the hub's operators see it
        #[arg(long)]
        reason: String,
    },
    /// Let it be granted again by an operator; by itself this shares nothing
    Allow,
    /// Show whether it may read, and whether you have revoked it
    Show,
}

/// Of the configuration only `[aws]` is used, so that it may still lack its `[platform]`.
#[derive(clap::Args)]
struct Discover {
    /// Region to look at, in place of the configuration's; with it there need not be a configuration
    #[arg(long)]
    region: Option<String>,
    /// ECS cluster of the platform, where several could be it
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Toml, value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    // Plain comments: with help of its own, each value would take a paragraph of --help.
    // To be pasted into the configuration.
    Toml,
    // One JSON document, for programs.
    Json,
}

/// It is revoked, and not yet taken out at AWS.
const PENDING: u8 = 4;
/// A person has to complete what was printed.
const INCOMPLETE: u8 = 3;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sfdata-agent: {}", sfdata_common::error::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    let source = Source::new(TEXT, cli.config_text, cli.config.unwrap_or_else(|| FILE.into()));
    match cli.command {
        Command::Discover(options) => runtime()?.block_on(discover(&source, options)),
        Command::Configured(command) => configured(&source, cli.task_metadata, command),
    }
}

fn configured(source: &Source, task_metadata: Option<String>, command: Configured) -> Result<ExitCode> {
    let mut config: Config = source.load()?;
    config.check()?;
    config.file = source.file().map(Into::into);
    config.task_metadata = task_metadata;
    let brake = Brake::new(&config.data_dir);
    match command {
        Configured::CheckConfig { aws } => {
            Rules::load(config.policy.as_deref(), &config.freeze)?;
            if aws {
                runtime()?.block_on(check_presence(&config))?;
            }
            writeln!(io::stderr(), "{} is valid", source.name().display())?;
        }
        Configured::Healthcheck => {
            let address = config.ops.address.context("[ops] address is not set, so that nobody can ask the agent")?;
            let asked = runtime()?.block_on(ops::ask(address));
            asked.with_context(|| format!("no agent that lives answers at {address} ([ops] address)"))?;
        }
        Configured::Hold { reason } => {
            brake.hold(&reason, Timestamp::now())?;
            writeln!(io::stderr(), "Held: everything but reads is refused until sfdata-agent release")?;
        }
        Configured::Release => {
            brake.release()?;
            writeln!(io::stderr(), "Released: commands are let in again")?;
        }
        Configured::Policy(asked) => return asked.run(&config),
        Configured::Approvals(list) => list.run(&config)?,
        Configured::Approve(word) => word.run(&config)?,
        Configured::Refuse(word) => word.run(&config)?,
        Configured::Share(word) => return runtime()?.block_on(share(&config, word)),
        Configured::RotateReceiptKey => rotate_receipt_key(&config)?,
        Configured::Audit => print_audit(&config)?,
        Configured::Enrol(how) => runtime()?.block_on(enrol(&config, how))?,
        Configured::Run => {
            telemetry::init(&config.log)?;
            runtime()?.block_on(serve(&config))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn share(config: &Config, word: Share) -> Result<ExitCode> {
    let sharing = Sharing::new(&config.data_dir);
    let s3 = Services::new(&config.aws, &config.platform, sharing.clone()).await.s3;
    let mut said = io::stderr();
    match word {
        Share::Revoke { reason } => {
            sharing.revoke(&reason, Timestamp::now())?;
            writeln!(said, "Revoked: nothing is shared from now on until sfdata-agent share allow")?;
            if config.platform.buckets.shared.is_none() {
                writeln!(said, "This agent has no shared bucket so far: there is nothing to take out")?;
                return Ok(ExitCode::SUCCESS);
            }
            let shown = match s3.take_back(&CancellationToken::new()).await {
                Ok(shown) => shown,
                Err(error) => {
                    writeln!(said, "It is not known whether the core account can still read: {error}")?;
                    let next = match error {
                        services::Error::Failed { code: FailureCode::Unavailable | FailureCode::Throttled, .. } => {
                            "A running agent tries again each minute; sfdata-agent share show tells when it is done"
                        }
                        _ => {
                            "A running agent tries again each minute, and fails likewise until that is put right; \
                             sfdata-agent share show tells when it is done"
                        }
                    };
                    writeln!(said, "{next}")?;
                    return Ok(ExitCode::from(PENDING));
                }
            };
            writeln!(said, "The agent's statement is not in the policy of bucket {}", shown.bucket)?;
            if !shown.other_grants.is_empty() {
                let others = shown.other_grants.join(", ");
                writeln!(said, "Not the agent's, and to be taken away at S3: {others} also lets the core account in")?;
            }
        }
        Share::Allow => {
            sharing.allow()?;
            writeln!(said, "Allowed: an operator may share again; by itself nothing is shared")?;
        }
        Share::Show => {
            let shown = s3.show_share().await?;
            let mut out = io::stdout();
            let reader = if shown.core_reader.is_empty() { "nobody is named" } else { &shown.core_reader };
            let state = match shown.state() {
                S3ShareState::Granted => "granted",
                S3ShareState::Altered => "altered: the agent's statement says something else",
                _ => "not granted",
            };
            writeln!(out, "bucket   {}\nreader   {reader}\nshared   {state}", shown.bucket)?;
            match shown.revoked {
                Some(revoked) => writeln!(
                    out,
                    "revoked  since {}: {}",
                    Timestamp::from_millisecond(revoked.since_unix_ms).unwrap_or_default(),
                    revoked.reason
                )?,
                None => writeln!(out, "revoked  no")?,
            }
            shown.other_grants.iter().try_for_each(|other| writeln!(out, "other    {other} lets it in as well"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start threads")
}

async fn check_presence(config: &Config) -> Result<()> {
    let services = Services::new(&config.aws, &config.platform, Sharing::new(&config.data_dir)).await;
    Ok(services.presence(&config.platform).await.check()?)
}

async fn discover(configured: &Source, options: Discover) -> Result<ExitCode> {
    let draft = match configured.load() {
        Err(config::Error::Read { source, .. })
            if source.kind() == io::ErrorKind::NotFound && options.region.is_some() =>
        {
            writeln!(
                io::stderr(),
                "There is no {}: AWS is asked with the credentials of this place",
                configured.name().display()
            )?;
            Draft::default()
        }
        read => read?,
    };
    let survey = Survey::new(&draft.aws(options.region)?).await;
    let proposal = discover::propose(&survey.account(options.cluster.as_deref()).await?);
    let text = match options.output {
        Format::Toml => discovery::toml(&proposal, Timestamp::now()),
        Format::Json => discovery::json(&proposal)?,
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    let left: Vec<_> = proposal.left().map(|line| line.key.as_str()).collect();
    if left.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let what = left.join(", ");
    writeln!(io::stderr(), "sfdata-agent: cannot tell {what} in account {}; choose by the comments", proposal.account)?;
    Ok(ExitCode::from(INCOMPLETE))
}

async fn enrol(config: &Config, how: Enrol) -> Result<()> {
    let services = Services::new(&config.aws, &config.platform, Sharing::new(&config.data_dir)).await;
    let account = services.account().await?;
    let agent = match how.token {
        Some(token) => identity::enrol(&config.data_dir, &token, &account, Timestamp::now()).await?,
        None => {
            let by_aws = identity::by_aws(config, &services).ok_or(identity::Error::NoPlace)?;
            by_aws.enrol(Timestamp::now()).await?
        }
    };
    writeln!(io::stderr(), "Agent {agent} has joined from account {account}. Start it: sfdata-agent run")?;
    Ok(())
}

async fn serve(config: &Config) -> Result<()> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    Ok(Agent::start(config, stop).await?.stopped().await?)
}

fn rotate_receipt_key(config: &Config) -> Result<()> {
    let present = receipts::present(&config.data_dir)?;
    let next = receipts::stage(&config.data_dir)?;
    writeln!(io::stderr(), "{next} takes the place of {present} when the hub has it on its register")?;
    writeln!(io::stdout(), "{next}")?;
    Ok(())
}

fn print_audit(config: &Config) -> Result<()> {
    let mut out = io::stdout().lock();
    for entry in audit::read(&config.data_dir)? {
        let (entry, _) = entry?;
        writeln!(out, "{}", serde_json::to_string(&entry)?)?;
    }
    Ok(())
}
