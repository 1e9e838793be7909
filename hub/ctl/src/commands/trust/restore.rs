//! `hubctl trust accept-restore`: after a hub was restored from a backup, agents accept its new epoch of sequence
//! numbers only on an admin's signed word.

use anyhow::Context as _;
use clap::Args;
use prost::Message as _;
use serde_json::json;
use sfdata_common::{
    Timestamp, envelope,
    trust::{self, EPOCH_PAYLOAD_TYPE},
};
use sfdata_proto::v1::{EpochStatement, PublishEpochRequest};

use crate::{cli::Context, client::Hub, exit::Exit, output, pinned};

/// Tell agents, signed, that the hub was restored from a backup and counts anew
#[derive(Debug, Args)]
#[command(after_help = "\
Sign only what you know: that somebody you trust restored the hub, and when.

Example:
  hubctl trust accept-restore --reason 'disk of the hub lost, restored the backup of 3 March 02:00'")]
pub(crate) struct AcceptRestore {
    /// What happened, for the audit record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl AcceptRestore {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let trust = pinned::refresh(&hub).await?;
        let json = json!({ "epoch": trust.epoch, "published": trust.epoch_needs_statement });
        if !trust.epoch_needs_statement {
            output::note(format_args!("nothing to do: epoch {} needs no statement", trust.epoch));
            context.output.text(&json, trust.epoch)?;
            return Ok(Exit::Done);
        }
        let held =
            trust.held.context("the hub has no trust bundle; publish the newest one first: hubctl trust publish")?;
        let key = hub.signing_key().await?;
        let now = Timestamp::now();
        let statement = EpochStatement {
            trust_domain: held.bundle.trust_domain.clone(),
            epoch: trust.epoch,
            operator: hub.profile.settings.operator.to_string(),
            reason: self.reason,
            issued_unix_ms: now.as_millisecond(),
        };
        let signed = envelope::seal(EPOCH_PAYLOAD_TYPE, statement.encode_to_vec(), &key);
        held.bundle.verify_epoch(&signed, now).map_err(|error| match error {
            trust::Error::Statement => anyhow::anyhow!(
                "agents would not take this statement: trust bundle version {} does not list {} with this signing key \
                 and role admin",
                held.bundle.version,
                hub.profile.settings.operator
            ),
            error => error.into(),
        })?;
        let request = PublishEpochRequest { statement: Some(signed) };
        hub.ask(format_args!("accept epoch {}", trust.epoch), hub.operator().publish_epoch(request)).await?;
        output::note(format_args!("agents now accept epoch {}", trust.epoch));
        context.output.text(&json, trust.epoch)?;
        Ok(Exit::Done)
    }
}
