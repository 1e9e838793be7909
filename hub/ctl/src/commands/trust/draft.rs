//! The file in which the next trust bundle is made, and the one rule about it:
//!
//! - no file: the next version of the bundle that the profile holds is begun;
//! - a bundle with enough signatures is a version that counts: the version after it is begun;
//! - anything else is a draft: it is changed in place and keeps its version. Signatures that it had are dropped, for
//!   they do not fit any more.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sfdata_common::{
    Timestamp, keyfile,
    trust::{self, Bundle},
};
use sfdata_proto::v1::Envelope;

use crate::{cli::Context, output, profile::trust_file};

/// Where the draft is.
#[derive(Debug, Args)]
pub(super) struct BundleFile {
    /// File of the bundle that is being made
    #[arg(long = "bundle", value_name = "FILE", default_value = "bundle.pem")]
    pub(super) path: PathBuf,
}

impl BundleFile {
    /// The bundle as it is signed so far.
    pub(super) fn read(&self) -> anyhow::Result<(Envelope, Bundle)> {
        read(&self.path)
    }

    /// Write it back, or to `out`.
    pub(super) fn write(&self, envelope: &Envelope) -> anyhow::Result<()> {
        write(&self.path, envelope)
    }

    /// Apply a change by the rule, write the unsigned result and say what it is.
    pub(super) fn change(
        &self,
        context: &Context,
        out: Option<&Path>,
        change: impl FnOnce(&mut Bundle) -> anyhow::Result<()>,
    ) -> anyhow::Result<Bundle> {
        let (source, from) = match self.path.exists() {
            true => (&self.path, self.read()?),
            false => {
                let held = trust_file(&context.folder);
                let from = read(&held).with_context(|| {
                    format!(
                        "there is neither a bundle to change in {} nor one that this profile holds; begin with \
                         hubctl trust init",
                        self.path.display()
                    )
                })?;
                (&held.clone(), from)
            }
        };
        let draft = begin(&from.0, from.1, Timestamp::now());
        let (mut bundle, begun) = (draft.bundle, draft.begun);
        change(&mut bundle)?;
        let out = out.unwrap_or(&self.path);
        write(out, &bundle.unsigned())?;
        output::note(match begun {
            Begun::Next => format!(
                "{} is complete: begun version {} in {}, to be signed",
                source.display(),
                bundle.version,
                out.display()
            ),
            Begun::Draft { dropped: 0 } => {
                format!("changed the draft of version {} in {}, to be signed", bundle.version, out.display())
            }
            Begun::Draft { dropped } => format!(
                "changed the draft of version {} in {}; its signatures ({dropped}) do not fit any more and are dropped",
                bundle.version,
                out.display()
            ),
        });
        Ok(bundle)
    }
}

struct Draft {
    bundle: Bundle,
    begun: Begun,
}

#[derive(Debug, PartialEq, Eq)]
enum Begun {
    /// The version after a complete one.
    Next,
    /// The same version once more.
    Draft { dropped: usize },
}

/// What a change starts from.
fn begin(envelope: &Envelope, bundle: Bundle, now: Timestamp) -> Draft {
    let complete = Bundle::verify_first(envelope, None).is_ok();
    let version = bundle.version + u64::from(complete);
    let begun = if complete { Begun::Next } else { Begun::Draft { dropped: envelope.signatures.len() } };
    Draft { bundle: Bundle { version, issued: now, ..bundle }, begun }
}

/// Read a bundle's file without judging it.
pub(super) fn read(path: &Path) -> anyhow::Result<(Envelope, Bundle)> {
    let unusable = || format!("{} cannot be used", path.display());
    let envelope = trust::from_pem(&keyfile::read(path)?).with_context(unusable)?;
    let bundle = Bundle::parse(&envelope.payload).with_context(unusable)?;
    Ok((envelope, bundle))
}

/// Write a bundle's file.
pub(super) fn write(path: &Path, envelope: &Envelope) -> anyhow::Result<()> {
    Ok(keyfile::write(path, trust::to_pem(envelope).as_bytes())?)
}

#[cfg(test)]
mod tests {
    use sfdata_common::{envelope, keys::SigningKey, telemetry::traces::Tracer};

    use super::*;
    use crate::keyring::Keyring;

    fn bundle(roots: &[&SigningKey], threshold: usize) -> Bundle {
        Bundle {
            version: 4,
            trust_domain: "sfdata.example".into(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: roots.iter().map(|key| key.public()).collect(),
            threshold,
            operators: vec![],
            dispatch_keys: vec![],
            ca_certificates: vec![],
        }
    }

    #[test]
    fn only_a_complete_bundle_is_followed_by_the_next_version() {
        let (a, b, stranger) =
            (SigningKey::generate().unwrap(), SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let bundle = bundle(&[&a, &b], 2);
        let begin = |signers: &[&SigningKey]| {
            let mut envelope = bundle.unsigned();
            signers.iter().for_each(|key| envelope::add_signature(&mut envelope, key));
            let draft = begin(&envelope, bundle.clone(), Timestamp::UNIX_EPOCH);
            (draft.bundle.version, draft.begun)
        };
        assert_eq!(begin(&[]), (4, Begun::Draft { dropped: 0 }));
        assert_eq!(begin(&[&a]), (4, Begun::Draft { dropped: 1 }));
        assert_eq!(begin(&[&a, &stranger]), (4, Begun::Draft { dropped: 2 }));
        assert_eq!(begin(&[&a, &b]), (5, Begun::Next));
    }

    #[test]
    fn without_a_file_the_bundle_held_by_the_profile_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = SigningKey::generate().unwrap();
        let context = Context {
            folder: folder.path().into(),
            hub: None,
            output: output::Output::new(output::Format::Table, true),
            tracer: Tracer::default(),
            proposing: None,
            global: Vec::new(),
            keyring: Keyring::default(),
        };
        let file = BundleFile { path: folder.path().join("bundle.pem") };
        let change = || file.change(&context, None, |_| Ok(())).map(|bundle| bundle.version);
        assert!(change().unwrap_err().to_string().contains("hubctl trust init"));
        let mut held = bundle(&[&root], 1).unsigned();
        envelope::add_signature(&mut held, &root);
        write(&trust_file(folder.path()), &held).unwrap();
        assert_eq!(change().unwrap(), 5, "begun");
        assert_eq!(change().unwrap(), 5, "changed in place");
        assert!(file.read().unwrap().0.signatures.is_empty());
    }
}
