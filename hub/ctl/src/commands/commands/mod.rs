//! `hubctl commands`: what was ordered and what came of it.

mod cancel;
mod list;
mod proposals;
mod show;
mod watch;

use clap::Subcommand;
use sfdata_common::ids::CommandId;
use sfdata_proto::v1::{GetCommandRequest, GetCommandResponse};

use crate::{cli::Context, client::Hub, exit::Exit};

/// List, show, follow and cancel commands; propose and approve them
#[derive(Debug, Subcommand)]
pub(crate) enum Commands {
    List(list::List),
    Show(show::Show),
    Watch(watch::Watch),
    Cancel(cancel::Cancel),
    Propose(proposals::Propose),
    Approve(proposals::Approve),
    Reject(proposals::Reject),
}

impl Commands {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Watch(watch) => watch.run(context).await,
            Self::Cancel(cancel) => cancel.run(context).await,
            Self::Propose(propose) => Box::pin(propose.run(context)).await,
            Self::Approve(approve) => approve.run(context).await,
            Self::Reject(reject) => reject.run(context).await,
        }
    }
}

async fn ask(hub: &Hub, id: CommandId) -> anyhow::Result<GetCommandResponse> {
    let request = GetCommandRequest { command_id: id.to_string(), proof: false };
    Ok(hub.ask(format_args!("show command {id}"), hub.operator().get_command(request)).await?)
}
