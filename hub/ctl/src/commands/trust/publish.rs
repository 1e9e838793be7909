//! `hubctl trust publish`: hand a signed bundle to the hub, which carries it to every agent.

use clap::Args;
use serde_json::json;
use sfdata_common::trust::Bundle;
use sfdata_proto::v1::PublishTrustRequest;

use super::draft::BundleFile;
use crate::{cli::Context, client::Hub, exit::Exit, output, pinned};

/// Send a signed bundle to the hub, and through it to every agent
#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    file: BundleFile,
    /// Also where it cuts off members who hold a certificate of a CA that it drops
    #[arg(long)]
    force: bool,
}

impl Publish {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let (envelope, _) = self.file.read()?;
        // What is not complete is seen here, with what is missing, before anybody is asked.
        let bundle = Bundle::verify_first(&envelope, None)?;
        let hub = Hub::connect(context).await?;
        let request = PublishTrustRequest { trust_bundle: Some(envelope.clone()), force: self.force };
        let tried = format!("publish trust bundle version {}", bundle.version);
        let version = hub.ask(tried, hub.operator().publish_trust(request)).await?.version;
        output::note(format_args!("published trust bundle version {version}; agents take it over as they connect"));
        pinned::follow(&hub.profile, &envelope)?;
        context.output.text(&json!({ "version": version }), version)?;
        Ok(Exit::Done)
    }
}
