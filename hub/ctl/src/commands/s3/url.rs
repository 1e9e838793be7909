//! `hubctl s3 upload-url` and `download-url`: one object, for whoever is given the URL.

use std::time::Duration;

use clap::Args;
use sfdata_common::command::{self, Action, Bucket};

use crate::{cli::Context, exit::Exit, order::Order};

/// Which object, and for how long.
#[derive(Debug, Args)]
struct Object {
    /// Bucket: data-store, workspace, shared or backup
    #[arg(value_name = "ROLE")]
    bucket: Bucket,
    /// Key of the object; it is kept in the audit record
    key: String,
    /// How long the URL is good, an hour at most; it cannot be taken back
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    expires: Duration,
}

impl From<Object> for command::Object {
    fn from(Object { bucket, key, expires }: Object) -> Self {
        Self { bucket, key, expires }
    }
}

/// Print a URL by which whoever has it may write one object
///
/// The URL is sealed to this one run of hubctl: the hub can't read it. It is refused until the LA's own policy allows
/// actions of class data.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl s3 upload-url data-store ssda903/2024/header.csv --agent northshire -o json
  curl --upload-file header.csv URL")]
pub(crate) struct UploadUrl {
    #[command(flatten)]
    object: Object,
    #[command(flatten)]
    order: Order,
}

impl UploadUrl {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::S3(command::S3::UploadUrl(self.object.into()))).await
    }
}

/// Print a URL by which whoever has it may read one object
///
/// The URL is sealed to this one run of hubctl: the hub can't read it. It is refused until the LA's own policy allows
/// actions of class data.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl s3 download-url shared ssda903/concatenated.csv --expires 5m --agent northshire")]
pub(crate) struct DownloadUrl {
    #[command(flatten)]
    object: Object,
    #[command(flatten)]
    order: Order,
}

impl DownloadUrl {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::S3(command::S3::DownloadUrl(self.object.into()))).await
    }
}
