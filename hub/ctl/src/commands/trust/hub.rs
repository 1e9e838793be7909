//! `hubctl trust update-hub`: have the draft of a bundle list the keys that the hub shows of itself: those in use, and those
//! that are to take their place.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use sfdata_common::{keyfile, keys::PublicKey, trust::hub_identity_from_pem};

use super::{draft::BundleFile, show};
use crate::{cli::Context, exit::Exit, output};

/// List the dispatch keys and CAs that the hub shows of itself, and no others
#[derive(Debug, Args)]
#[command(after_help = "\
For a rotation it is run twice: when the next key is staged, so that both are listed, and when it is in use, so that the
old one goes. The file is changed by the rule of add-operator.

Example:
  hubctl trust update-hub --hub hub-identity.pem")]
pub(crate) struct UpdateHub {
    /// The hub's identity as it is now, from its data_dir
    // Named as the global option, and so of its type: here there is no hub to connect to.
    #[arg(long, value_name = "FILE")]
    hub: String,
    #[command(flatten)]
    file: BundleFile,
    /// Write the result here, instead of in place
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl UpdateHub {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = hub_identity_from_pem(&keyfile::read(self.hub.as_ref())?)
            .with_context(|| format!("{} is not the identity file that `sfdata-hub init` writes", self.hub))?;
        let mut shown = vec![&hub.dispatch_key];
        shown.extend(Some(&hub.next_dispatch_key).filter(|key| !key.is_empty()));
        let shown: Option<Vec<PublicKey>> = shown.into_iter().map(|key| PublicKey::from_bytes(key)).collect();
        let shown = shown.context("the hub's dispatch key is not valid")?;
        let mut cas = vec![hub.ca_certificate.to_vec()];
        cas.extend(Some(hub.next_ca_certificate.to_vec()).filter(|der| !der.is_empty()));
        let bundle = self.file.change(context, self.out.as_deref(), |bundle| {
            ensure!(
                bundle.trust_domain == hub.trust_domain,
                "{} is of {}, and the bundle of {}",
                self.hub,
                hub.trust_domain,
                bundle.trust_domain
            );
            let (gone, new) = (missing(&bundle.dispatch_keys, &shown), missing(&shown, &bundle.dispatch_keys));
            gone.iter().for_each(|key| output::note(format_args!("no more listed: dispatch key {key}")));
            new.iter().for_each(|key| output::note(format_args!("newly listed: dispatch key {key}")));
            bundle.dispatch_keys = shown.clone();
            let (gone, new) = (missing(&bundle.ca_certificates, &cas), missing(&cas, &bundle.ca_certificates));
            gone.iter().for_each(|der| output::note(format_args!("no more listed: CA {}", show::fingerprint(der))));
            new.iter().for_each(|der| output::note(format_args!("newly listed: CA {}", show::fingerprint(der))));
            bundle.ca_certificates = cas.clone();
            Ok(())
        })?;
        show::print(context, &bundle.unsigned(), &bundle, None)?;
        Ok(Exit::Done)
    }
}

/// Those of `some` that `others` lack.
fn missing<T: Clone + PartialEq>(some: &[T], others: &[T]) -> Vec<T> {
    some.iter().filter(|one| !others.contains(one)).cloned().collect()
}
