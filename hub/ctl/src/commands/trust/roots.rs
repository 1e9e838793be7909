//! `hubctl trust set-root`: other root keys, or another threshold, in the draft of a bundle. The version before has to agree:
//! such a bundle needs the threshold of the old root keys beside its own.

use std::path::PathBuf;

use clap::Args;

use super::{
    draft::BundleFile,
    init::{RootKey, check},
    show,
};
use crate::{cli::Context, exit::Exit, output};

/// Put other root keys in the place of those that sign bundles
#[derive(Debug, Args)]
#[command(after_help = "\
All that are to be root keys from then on are named, those that stay among them. The bundle is signed by the threshold of
the old ones and by that of the new ones; who holds both signs once. Agents follow step by step; who has not used hubctl
since before the last change but one has to log in again.

Example:
  hubctl trust set-root --root-key root-1.key --root-key ed25519:... --root-key ed25519:... --threshold 2")]
pub(crate) struct SetRoot {
    /// Root key: a key file, or ed25519:... when somebody else keeps it; repeatable
    #[arg(long = "root-key", value_name = "FILE|KEY", required = true)]
    root_keys: Vec<RootKey>,
    /// How many root keys must sign a bundle
    #[arg(long, value_name = "K")]
    threshold: usize,
    #[command(flatten)]
    file: BundleFile,
    /// Write the result here, instead of in place
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl SetRoot {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let mut keys = Vec::new();
        for key in &self.root_keys {
            keys.push(key.public(context).await?);
        }
        check(&keys, 0, self.threshold)?;
        let mut before = (0, 0);
        let bundle = self.file.change(context, self.out.as_deref(), |bundle| {
            before = (bundle.threshold, bundle.root_keys.len());
            (bundle.root_keys, bundle.threshold) = (keys.clone(), self.threshold);
            Ok(())
        })?;
        output::note(format_args!(
            "to be signed by {} of the {} old root keys, and by {} of the {} new ones",
            before.0,
            before.1,
            bundle.threshold,
            bundle.root_keys.len()
        ));
        show::print(context, &bundle.unsigned(), &bundle, None)?;
        Ok(Exit::Done)
    }
}
