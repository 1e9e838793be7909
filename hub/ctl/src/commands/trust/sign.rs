//! `hubctl trust sign`: put a root key's signature under a bundle. Needs no hub and no profile.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use sfdata_common::{envelope, trust::Bundle};

use super::{
    draft::{self, BundleFile},
    show,
};
use crate::{cli::Context, exit::Exit, output, profile::trust_file};

/// Sign a bundle with root keys
#[derive(Debug, Args)]
#[command(after_help = "\
A bundle with other root keys than the version before is signed by that version's, too. They are known from the bundle that
the profile holds, or from --previous.

Example:
  hubctl trust sign --root-key /media/usb/root-1.key")]
pub(crate) struct Sign {
    /// File of a root key; repeatable
    #[arg(long = "root-key", value_name = "FILE", required = true)]
    root_keys: Vec<PathBuf>,
    /// File of the version before, where root keys change and this machine has no profile
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    file: BundleFile,
}

impl Sign {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let (mut envelope, bundle) = self.file.read()?;
        let previous = self.previous(context, &bundle)?;
        for path in &self.root_keys {
            let key = context.keyring.open(path).await?;
            let listed = |bundle: &Bundle| bundle.root_keys.contains(&key.public());
            ensure!(
                listed(&bundle) || previous.as_ref().is_some_and(listed),
                "{} is not a root key of this bundle; its root keys are listed by: hubctl trust show {}",
                path.display(),
                self.file.path.display()
            );
            envelope::add_signature(&mut envelope, &key);
        }
        self.file.write(&envelope)?;
        let missing = |of: &Bundle| {
            of.threshold.saturating_sub(envelope::count_signers(&envelope, Bundle::PAYLOAD_TYPE, &of.root_keys))
        };
        output::note(match (missing(&bundle), previous.as_ref().map_or(0, missing)) {
            (0, 0) => format!("version {} is complete; next: hubctl trust publish", bundle.version),
            (0, old) => format!("version {} needs {old} more of the root keys before", bundle.version),
            (new, 0) => format!("version {} needs {new} more", bundle.version),
            (new, old) => format!("version {} needs {new} more, and {old} of the root keys before", bundle.version),
        });
        show::print(context, &envelope, &bundle, None)?;
        Ok(Exit::Done)
    }

    /// The version before this one, where its file is at hand.
    fn previous(&self, context: &Context, bundle: &Bundle) -> anyhow::Result<Option<Bundle>> {
        if let Some(path) = &self.previous {
            let previous = draft::read(path)?.1;
            ensure!(
                previous.version + 1 == bundle.version,
                "{} is version {}, and version {} follows another one",
                path.display(),
                previous.version,
                bundle.version
            );
            return Ok(Some(previous));
        }
        let held = trust_file(&context.folder);
        let held = if held.exists() { Some(draft::read(&held)?.1) } else { None };
        Ok(held.filter(|held| held.version + 1 == bundle.version && held.trust_domain == bundle.trust_domain))
    }
}
