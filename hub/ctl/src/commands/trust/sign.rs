//! `hubctl trust sign`: put a root key's signature under a bundle. Needs no hub and no profile.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use sfdata_common::{envelope, trust::Bundle};

use super::{draft::BundleFile, show};
use crate::{cli::Context, exit::Exit, output};

/// Sign a bundle with root keys
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl trust sign --root-key /media/usb/root-1.key")]
pub(crate) struct Sign {
    /// File of a root key; repeatable
    #[arg(long = "root-key", value_name = "FILE", required = true)]
    root_keys: Vec<PathBuf>,
    #[command(flatten)]
    file: BundleFile,
}

impl Sign {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let (mut envelope, bundle) = self.file.read()?;
        for path in &self.root_keys {
            let key = context.keyring.open(path).await?;
            ensure!(
                bundle.root_keys.contains(&key.public()),
                "{} is not a root key of this bundle; its root keys are listed by: hubctl trust show {}",
                path.display(),
                self.file.path.display()
            );
            envelope::add_signature(&mut envelope, &key);
        }
        self.file.write(&envelope)?;
        let have = envelope::count_signers(&envelope, Bundle::PAYLOAD_TYPE, &bundle.root_keys);
        output::note(match bundle.threshold.saturating_sub(have) {
            0 => format!("version {} is complete; next: hubctl trust publish", bundle.version),
            missing => format!("version {} needs {missing} more", bundle.version),
        });
        show::print(context, &envelope, &bundle, None)?;
        Ok(Exit::Done)
    }
}
