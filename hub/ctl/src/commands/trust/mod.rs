//! `hubctl trust`: make, sign and publish trust bundles. All but `publish`, `show` and `accept-restore` work offline.
//!
//! A bundle is on its way as a file: `init` or the first change begins a draft, changes edit it in place, root keys
//! sign it, `publish` sends it.

mod draft;
mod hub;
mod init;
mod operators;
mod publish;
mod restore;
mod roots;
mod show;
mod sign;

use clap::Subcommand;

use crate::{cli::Context, exit::Exit};

/// Make, sign and publish who may sign what
#[derive(Debug, Subcommand)]
#[command(after_help = "\
The first bundle of a new hub:
  hubctl key create --out root-1.key                        Each keeper of a root key, offline
  hubctl trust init --hub hub-identity.pem --root-key root-1.key --root-key ed25519:... --threshold 2
  hubctl trust add-operator alice --key ed25519:... --role admin
  hubctl trust sign --root-key root-1.key                   Each keeper, until the threshold is met
  hubctl trust publish

A change later on: add-operator, remove-operator, update-hub or set-root, sign, publish.")]
pub(crate) enum Trust {
    Init(init::Init),
    AddOperator(operators::AddOperator),
    RemoveOperator(operators::RemoveOperator),
    UpdateHub(hub::UpdateHub),
    SetRoot(roots::SetRoot),
    Sign(sign::Sign),
    Publish(publish::Publish),
    Show(show::Show),
    AcceptRestore(restore::AcceptRestore),
}

impl Trust {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Init(init) => init.run(context).await,
            Self::AddOperator(add) => add.run(context),
            Self::RemoveOperator(remove) => remove.run(context),
            Self::UpdateHub(update) => update.run(context),
            Self::SetRoot(roots) => roots.run(context).await,
            Self::Sign(sign) => sign.run(context).await,
            Self::Publish(publish) => publish.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::AcceptRestore(restore) => restore.run(context).await,
        }
    }
}
