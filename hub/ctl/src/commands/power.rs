//! `hubctl power`: whether an LA's platform sleeps, and why.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::json;
use sfdata_common::{
    Timestamp,
    command::{self, Action, Mode},
};
use sfdata_proto::v1::{PowerResult, action_result::Kind};

use crate::{
    cli::Context,
    exit::{Exit, Usage},
    order::{Change, Order},
    power,
    table::{Cell, Table},
};

/// See why a platform is awake or asleep, and wake it
#[derive(Debug, Subcommand)]
pub(crate) enum Power {
    Status(Status),
    Explain(Explain),
    Wake(Wake),
    Sleep(Sleep),
    StayAwake(StayAwake),
    Settings(Settings),
}

impl Power {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Status(status) => status.run(context).await,
            Self::Explain(explain) => explain.run(context).await,
            Self::Wake(wake) => wake.run(context).await,
            Self::Sleep(sleep) => sleep.run(context).await,
            Self::StayAwake(stay) => stay.run(context).await,
            Self::Settings(settings) => settings.run(context).await,
        }
    }
}

/// Show whether platforms sleep, since when, why, and what they wake for next
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl power status --all
  hubctl power status --agent northshire -o json")]
pub(crate) struct Status {
    #[command(flatten)]
    order: Order,
}

impl Status {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Power(command::Power::Status)).await
    }
}

/// Say in sentences why a platform is awake, what must happen before it sleeps, and when it wakes next
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl power explain --agent northshire")]
pub(crate) struct Explain {
    #[command(flatten)]
    order: Order,
}

impl Explain {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let told = told(self.order, context).await?;
        let now = Timestamp::now();
        let json: serde_json::Map<_, _> =
            told.iter().map(|(agent, result)| (agent.clone(), power::result(result))).collect();
        let text: Vec<String> = told.iter().map(|(agent, result)| power::explain(agent, result, now)).collect();
        context.output.text(&json!(json), text.join("\n").trim_end())?;
        Ok(Exit::Done)
    }
}

/// What every target answers.
async fn told(order: Order, context: &Context) -> anyhow::Result<Vec<(String, PowerResult)>> {
    if !order.waits() {
        return Err(Usage("it shows an answer: not with --no-wait".into()).into());
    }
    let answers = order.ready(context, Mode::Act).await?.ask(Action::Power(command::Power::Status)).await?;
    let power = |(agent, kind)| match kind {
        Kind::Power(result) => Ok((agent, result)),
        _ => Err(anyhow!("{agent} answered something else; update its agent")),
    };
    answers.into_iter().map(power).collect()
}

/// Wake a platform for yourself and wait until it is awake
///
/// It stays awake for as long as a person gets (15 minutes by default), then sleeps by itself when there is no other reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl power wake --agent northshire --reason 'looking at a failed run'")]
pub(crate) struct Wake {
    #[command(flatten)]
    change: Change,
}

impl Wake {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        self.change.run(context, Action::Power(command::Power::Wake { deadline })).await
    }
}

/// Take back what people asked for and wait until the platform sleeps
///
/// No run is stopped and no tick is missed for it: it waits until there is no other reason to be awake, and says for what.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl power sleep --agent northshire --timeout 30m")]
pub(crate) struct Sleep {
    #[command(flatten)]
    change: Change,
}

impl Sleep {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        self.change.run(context, Action::Power(command::Power::Sleep { deadline })).await
    }
}

/// Wake a platform and keep it awake until a time
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl power stay-awake --until 2027-01-22T18:00Z --agent northshire --reason 'statutory return'
  hubctl power stay-awake --until 4h --group pilot")]
pub(crate) struct StayAwake {
    /// Until when: a time such as 2027-01-22T18:00Z, or how long from now
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Timestamp,
    #[command(flatten)]
    change: Change,
}

fn until(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wrong = || format!("{text:?} is neither a time such as 2027-01-22T18:00Z nor a duration such as 4h");
    let after = humantime::parse_duration(text).map_err(|_| wrong())?;
    Timestamp::now().checked_add(after).map_err(|_| wrong())
}

impl StayAwake {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.change.run(context, Action::Power(command::Power::StayAwake { until: self.until })).await
    }
}

/// Show how a platform is put to sleep, or leave its services to people for a while
///
/// What else there is to set stands in the [power] section of the agent's own configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl power settings --all
  hubctl power settings --manual --agent northshire --reason 'migration of the database'
  hubctl power settings --automatic --agent northshire")]
pub(crate) struct Settings {
    /// Neither put it to sleep nor wake it: people do
    #[arg(long, conflicts_with = "automatic")]
    manual: bool,
    /// Put it to sleep and wake it again
    #[arg(long)]
    automatic: bool,
    #[command(flatten)]
    change: Change,
}

impl Settings {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if self.manual || self.automatic {
            let action = command::Power::SetMode { manual: self.manual };
            return self.change.run(context, Action::Power(action)).await;
        }
        let told = told(self.change.order, context).await?;
        let columns: Vec<&'static str> = ["AGENT"].into_iter().chain(power::SETTINGS_COLUMNS).collect();
        let mut table = Table::new(&columns);
        for (agent, result) in &told {
            table.push([Cell::from(agent)].into_iter().chain(power::settings_row(result)).collect());
        }
        let json: serde_json::Map<_, _> =
            told.iter().map(|(agent, result)| (agent.clone(), power::result(result))).collect();
        context.output.data(&json!(json), &[table])?;
        Ok(Exit::Done)
    }
}
