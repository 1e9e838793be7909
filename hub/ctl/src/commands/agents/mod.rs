//! `hubctl agents`: the fleet's registry.

mod discover;
mod history;
mod invite;
mod list;
mod refresh;
mod register;
mod registry;
mod show;
mod upgrade;

use clap::Subcommand;

pub(super) use self::{
    invite::label,
    list::{COLUMNS, row, watch},
    show::{tables, to_json},
};
use crate::{cli::Context, exit::Exit};

/// Invite, register, see, edit, lock and upgrade agents
#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    Invite(invite::Invite),
    Register(register::Register),
    Unregister(register::Unregister),
    List(list::List),
    Show(show::Show),
    History(history::History),
    Edit(registry::Edit),
    Lock(registry::Lock),
    Unlock(registry::Unlock),
    Remove(registry::Remove),
    Refresh(refresh::Refresh),
    Discover(discover::Discover),
    Upgrade(upgrade::Upgrade),
}

impl Agents {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Invite(invite) => invite.run(context).await,
            Self::Register(register) => register.run(context).await,
            Self::Unregister(unregister) => unregister.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::History(history) => history.run(context).await,
            Self::Edit(edit) => edit.run(context).await,
            Self::Lock(lock) => lock.run(context).await,
            Self::Unlock(unlock) => unlock.run(context).await,
            Self::Remove(remove) => remove.run(context).await,
            Self::Refresh(refresh) => refresh.run(context).await,
            Self::Discover(discover) => discover.run(context).await,
            Self::Upgrade(upgrade) => upgrade.run(context).await,
        }
    }
}
