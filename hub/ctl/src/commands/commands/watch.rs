//! `hubctl commands watch`: follow a command that was submitted before.

use std::time::Duration;

use clap::Args;
use sfdata_common::ids::CommandId;

use super::ask;
use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    follow::{self, Board},
};

/// Follow a command until it has ended everywhere
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Command's id
    id: CommandId,
    /// Stop following after this time, as in 90s or 10m; the command goes on
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl Watch {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let mut board = Board::of(&ask(&hub, self.id).await?);
        follow::to_the_end(context, &hub, &mut board, None, self.timeout).await
    }
}
