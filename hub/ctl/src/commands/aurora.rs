//! `hubctl aurora`: the database of an LA's platform.

use std::time::Duration;

use clap::{Args, Subcommand};
use sfdata_common::command::{self, Action, Acu, Capacity};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// See and operate the Aurora database of Dagster
#[derive(Debug, Subcommand)]
pub(crate) enum Aurora {
    Status(Status),
    Start(Start),
    Stop(Stop),
    SetCapacity(SetCapacity),
    Snapshot(Snapshot),
    Snapshots(Snapshots),
    DeleteSnapshot(DeleteSnapshot),
    Restore(Restore),
}

impl Aurora {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Status(status) => status.run(context).await,
            Self::Start(start) => start.run(context).await,
            Self::Stop(stop) => stop.run(context).await,
            Self::SetCapacity(set) => set.run(context).await,
            Self::Snapshot(snapshot) => snapshot.run(context).await,
            Self::Snapshots(snapshots) => snapshots.run(context).await,
            Self::DeleteSnapshot(delete) => delete.run(context).await,
            Self::Restore(restore) => restore.run(context).await,
        }
    }
}

/// Show the database's state, capacity, connections, last backup, and why it does not pause
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl aurora status --all
  hubctl aurora status --agent northshire -o json")]
pub(crate) struct Status {
    #[command(flatten)]
    order: Order,
}

impl Status {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Aurora(command::Aurora::Status)).await
    }
}

/// Start the database and wait until it is available
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl aurora start --agent northshire --timeout 20m")]
pub(crate) struct Start {
    #[command(flatten)]
    change: Change,
}

impl Start {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        self.change.run(context, Action::Aurora(command::Aurora::Start { deadline })).await
    }
}

/// Stop the database and wait until it is stopped
///
/// Nothing of Dagster works meanwhile. RDS starts it again by itself after seven days.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl aurora stop --agent northshire --timeout 20m --reason 'school holidays'")]
pub(crate) struct Stop {
    #[command(flatten)]
    change: Change,
}

impl Stop {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        self.change.run(context, Action::Aurora(command::Aurora::Stop { deadline })).await
    }
}

/// Set the range in which Aurora Serverless v2 scales
///
/// With a minimum of 0 it pauses when nobody is connected, and the next connection waits some 15 seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl aurora set-capacity 0.5 4 --agent northshire
  hubctl aurora set-capacity 0 4 --pause-after 15m --group pilot --plan")]
pub(crate) struct SetCapacity {
    /// Fewest Aurora capacity units: 0 to 256, in halves
    #[arg(value_name = "MIN")]
    min: Acu,
    /// Most Aurora capacity units: 1 to 256, in halves
    #[arg(value_name = "MAX")]
    max: Acu,
    /// Pause after so long without connections, 5m to 24h; with a minimum of 0 alone
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pause_after: Option<Duration>,
    #[command(flatten)]
    change: Change,
}

impl SetCapacity {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let capacity = Capacity { min: self.min, max: self.max, pause_after: self.pause_after };
        let action = command::Aurora::SetCapacity { capacity, deadline: self.change.order.deadline() };
        self.change.run(context, Action::Aurora(action)).await
    }
}

/// Take a snapshot of the database and wait until it is available
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl aurora snapshot --agent northshire --timeout 30m
  hubctl aurora snapshot --name before-upgrade --group pilot --timeout 30m")]
pub(crate) struct Snapshot {
    /// What to call it, in lower case [default: sfdata- and the command's id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    change: Change,
}

impl Snapshot {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let action = command::Aurora::Snapshot { name: self.name, deadline: self.change.order.deadline() };
        self.change.run(context, Action::Aurora(action)).await
    }
}

/// List the snapshots of the database, manual and automated
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl aurora snapshots --agent northshire -o json")]
pub(crate) struct Snapshots {
    #[command(flatten)]
    order: Order,
}

impl Snapshots {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Aurora(command::Aurora::Snapshots)).await
    }
}

/// Delete a manual snapshot of the database; it can't be brought back
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl aurora delete-snapshot before-upgrade --agent northshire")]
pub(crate) struct DeleteSnapshot {
    /// Snapshot, as `hubctl aurora snapshots` shows it
    name: String,
    #[command(flatten)]
    change: Change,
}

impl DeleteSnapshot {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let action = command::Aurora::DeleteSnapshot { name: self.name, deadline: self.change.order.deadline() };
        self.change.run(context, Action::Aurora(action)).await
    }
}

/// Make a new database of a snapshot, beside the live one
///
/// It gets the network, key, capacity range and deletion protection of the live database and one instance, NAME-1. Nothing
/// that exists is touched, and nothing uses the new database until it is told to. Its master password is that of the
/// snapshot's time.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl aurora restore before-upgrade --as northshire-restored --agent northshire --timeout 1h")]
pub(crate) struct Restore {
    /// Snapshot, as `hubctl aurora snapshots` shows it
    snapshot: String,
    /// What to call the new cluster, in lower case
    #[arg(long = "as", value_name = "NAME")]
    new_cluster: String,
    #[command(flatten)]
    change: Change,
}

impl Restore {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let Self { snapshot, new_cluster, change } = self;
        let action = command::Aurora::Restore { snapshot, new_cluster, deadline: change.order.deadline() };
        change.run(context, Action::Aurora(action)).await
    }
}
