//! `hubctl dagster`: what Dagster does in an LA, and what it is told to do.

mod launch;

use clap::{Args, Subcommand};
use sfdata_common::{
    command::{self, Action, RUN_STATUSES},
    limits,
};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// See and operate Dagster itself: runs, schedules, sensors, code locations
#[derive(Debug, Subcommand)]
pub(crate) enum Dagster {
    Status(Status),
    Runs(Runs),
    Show(Show),
    Schedules(Schedules),
    Sensors(Sensors),
    Launch(launch::Launch),
    Retry(launch::Retry),
    Cancel(Cancel),
    Reload(Reload),
}

impl Dagster {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Status(status) => status.order.run(context, Action::Dagster(command::Dagster::Status)).await,
            Self::Runs(runs) => runs.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Schedules(all) => all.order.run(context, Action::Dagster(command::Dagster::Schedules)).await,
            Self::Sensors(all) => all.order.run(context, Action::Dagster(command::Dagster::Sensors)).await,
            Self::Launch(launch) => launch.run(context).await,
            Self::Retry(retry) => retry.run(context).await,
            Self::Cancel(cancel) => cancel.run(context).await,
            Self::Reload(reload) => reload.run(context).await,
        }
    }
}

/// Show daemons, code locations, what runs and what ended last
///
/// A daemon posts a heartbeat every 30 s. Dagster has to be awake: it is asked through its webserver.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl dagster status --agent northshire
  hubctl dagster status --all -o json")]
pub(crate) struct Status {
    #[command(flatten)]
    order: Order,
}

/// List runs, the newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl dagster runs --agent northshire
  hubctl dagster runs --status FAILURE --job clean --limit 10 --all")]
pub(crate) struct Runs {
    /// Only those of this status, by Dagster's own name; repeatable
    #[arg(long = "status", value_name = "STATUS", ignore_case = true,
        value_parser = clap::builder::PossibleValuesParser::new(RUN_STATUSES))]
    statuses: Vec<String>,
    /// Only those of this job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// So many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::DAGSTER_RUNS)))]
    limit: u32,
    #[command(flatten)]
    order: Order,
}

impl Runs {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let statuses = self.statuses.iter().map(|status| status.to_ascii_uppercase()).collect();
        let action = command::Dagster::Runs { statuses, job: self.job, limit: self.limit };
        self.order.run(context, Action::Dagster(action)).await
    }
}

/// Show a run with its steps
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl dagster show 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0 --agent northshire --watch")]
pub(crate) struct Show {
    /// Id of the run
    #[arg(value_name = "RUN")]
    run: String,
    /// Tell how far it is until it has ended, for --timeout at most
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    order: Order,
}

impl Show {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let watch = self.watch.then(|| self.order.deadline());
        self.order.run(context, Action::Dagster(command::Dagster::ShowRun { run: self.run, watch })).await
    }
}

/// List schedules with their next and last ticks
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl dagster schedules --agent northshire")]
pub(crate) struct Schedules {
    #[command(flatten)]
    order: Order,
}

/// List sensors with their next and last ticks
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl dagster sensors --agent northshire")]
pub(crate) struct Sensors {
    #[command(flatten)]
    order: Order,
}

/// End a run and wait until it has ended
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl dagster cancel 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0 --agent northshire --reason 'wrong file'")]
pub(crate) struct Cancel {
    /// Id of the run
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    change: Change,
}

impl Cancel {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        self.change.run(context, Action::Dagster(command::Dagster::Cancel { run: self.run, deadline })).await
    }
}

/// Load code locations anew, which Dagster does not do by itself when a code server comes back
///
/// It fails where one of them cannot be loaded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl dagster reload --group pilot
  hubctl dagster reload pipelines --agent northshire")]
pub(crate) struct Reload {
    /// Name of one code location; without it all
    location: Option<String>,
    #[command(flatten)]
    change: Change,
}

impl Reload {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let action = command::Dagster::Reload { location: self.location };
        self.change.run(context, Action::Dagster(action)).await
    }
}
