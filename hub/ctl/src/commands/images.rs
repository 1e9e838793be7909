//! `hubctl images`: what the registry of the core account holds, and which of it is a release.

use std::str::FromStr;

use clap::{Args, Subcommand};
use sfdata_common::{
    command::{self, Action},
    image,
};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// See the images of the platform and give them a release's tag
///
/// The agent of the account that has the registry is asked, which is that of the core account.
#[derive(Debug, Subcommand)]
pub(crate) enum Images {
    List(List),
    Promote(Promote),
}

impl Images {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Promote(promote) => promote.run(context).await,
        }
    }
}

/// List the images in the registry: tags, age, size, platforms, and what ECR's scan has found
///
/// Of the repositories in the agent's [images]. An image for several platforms is one line; its findings are the most that
/// one of its platforms has.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl images list --agent core
  hubctl images list --repository sfdata/dagster --agent core -o json")]
pub(crate) struct List {
    /// One repository alone, by its name
    #[arg(long, value_name = "NAME", value_parser = |text: &str| image::repository_name(text.to_owned()))]
    repository: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl List {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Images(command::Images::List { repository: self.repository })).await
    }
}

/// Give an image, by digest, a release's tag
///
/// Nothing is pulled or pushed, and an image for several platforms stays one. An image that has the tag already is a success;
/// one that another image has is not moved, and the command ends as failed: conflict.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl images promote sfdata/dagster@sha256:2f1c... 2024.12.1 --agent core --plan
  hubctl images promote sfdata/dagster@sha256:2f1c... 2024.12.1 --agent core --reason 'passed at northshire'")]
pub(crate) struct Promote {
    /// Image: the repository's name as images list shows it, and the digest
    #[arg(value_name = "REPOSITORY@DIGEST")]
    image: Named,
    /// What it shall be called
    #[arg(value_parser = |text: &str| image::tag(text.to_owned()))]
    tag: String,
    #[command(flatten)]
    change: Change,
}

/// An image in a registry that is known otherwise.
#[derive(Debug, Clone)]
struct Named {
    repository: String,
    digest: String,
}

impl FromStr for Named {
    type Err = image::Error;

    fn from_str(text: &str) -> Result<Self, image::Error> {
        let (repository, digest) = text.split_once('@').ok_or_else(|| image::Error::DigestAlone(text.into()))?;
        Ok(Self { repository: image::repository_name(repository.into())?, digest: image::digest(digest.into())? })
    }
}

impl Promote {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let Named { repository, digest } = self.image;
        let action = command::Images::Promote { repository, digest, tag: self.tag };
        self.change.run(context, Action::Images(action)).await
    }
}
