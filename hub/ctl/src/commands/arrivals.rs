//! `hubctl arrivals`: files that have arrived, and what could not be handed on.

use clap::{Args, Subcommand};
use sfdata_common::command::{self, Action, ArrivalId};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// Look at files that have arrived, and try or drop what could not be handed on
#[derive(Debug, Subcommand)]
pub(crate) enum Arrivals {
    List(List),
    Retry(Retry),
    Drop(Drop),
}

impl Arrivals {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.order.run(context, Action::Arrivals(command::Arrivals::List)).await,
            Self::Retry(Retry { id, change }) => {
                change.run(context, Action::Arrivals(command::Arrivals::Retry(id))).await
            }
            Self::Drop(Drop { id, change }) => change.run(context, Action::Arrivals(command::Arrivals::Drop(id))).await,
        }
    }
}

/// List what waits for Dagster and what is parked
///
/// Keys of objects may name a child: the list is sealed to this one run of hubctl, and the hub can't read it. It is refused
/// until the LA's own policy allows actions of class data. How many there are stands in the health report of hubctl agents
/// show.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl arrivals list --agent northshire
  hubctl arrivals list --all -o json")]
pub(crate) struct List {
    #[command(flatten)]
    order: Order,
}

/// Try a parked arrival again
///
/// It was parked because its message was not understood, is of another bucket, or because Dagster refused to launch its job.
/// Correct that first.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl arrivals retry 0123456789abcdef0123456789abcdef --agent northshire")]
pub(crate) struct Retry {
    /// Which, as the list has it
    #[arg(value_name = "ARRIVAL")]
    id: ArrivalId,
    #[command(flatten)]
    change: Change,
}

/// Never hand on an arrival that is parked or waits
///
/// The file itself stays where it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl arrivals drop 0123456789abcdef0123456789abcdef --agent northshire --reason 'sent twice'")]
pub(crate) struct Drop {
    /// Which, as the list has it
    #[arg(value_name = "ARRIVAL")]
    id: ArrivalId,
    #[command(flatten)]
    change: Change,
}
