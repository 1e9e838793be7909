//! The trust bundle that a profile holds, and how it follows the hub's: the hub carries bundles and can't change
//! them, so each newer one is verified against the one that is held.

use sfdata_common::{
    error::chain,
    keys::sha256,
    trust::{self, Bundle},
};
use sfdata_proto::v1::{self as wire, GetTrustRequest};

use crate::{
    client::Hub,
    output,
    profile::{Held, Profile},
};

/// Why the hub's bundle is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Two bundles under one number.
    #[error(
        "there are two different trust bundles of version {version}, and this profile holds another one; \
         tell an admin: root keys signed twice, or the hub is not honest"
    )]
    Fork { version: u64 },
    /// Root keys changed in a version that was missed.
    #[error(
        "trust bundle version {offered} cannot be checked: this profile holds version {held}, and the root keys \
         changed in between; ask an admin for a new token (hubctl operators invite NAME), which pins the new ones, and run \
         hubctl login"
    )]
    Missed { held: u64, offered: u64 },
    /// It does not verify.
    #[error(transparent)]
    Invalid(#[from] trust::Error),
}

/// How an offered bundle stands to the one that is held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The same.
    Same,
    /// To be taken over.
    Newer(Bundle),
    /// Behind the one that is held.
    Older(u64),
}

/// Judge an offered bundle. The next version is signed by the one that is held; a later one counts only where the
/// root keys are still those that are held.
pub(crate) fn judge(held: Option<&Held>, offered: &wire::Envelope) -> Result<Step, Error> {
    let Some(Held { envelope, bundle: held }) = held else {
        return Ok(Step::Newer(Bundle::verify_first(offered, None)?));
    };
    let next = Bundle::parse(&offered.payload)?;
    if next.version < held.version {
        return Ok(Step::Older(next.version));
    }
    if next.version == held.version {
        let same = sha256(&offered.payload) == sha256(&envelope.payload);
        return if same { Ok(Step::Same) } else { Err(Error::Fork { version: held.version }) };
    }
    if next.version == held.version + 1 {
        return Ok(Step::Newer(held.verify_next(offered)?));
    }
    if next.trust_domain != held.trust_domain {
        return Err(trust::Error::TrustDomain { ours: held.trust_domain.clone(), offered: next.trust_domain }.into());
    }
    match Bundle::verify_first(offered, Some(&held.root_pin())) {
        Ok(bundle) => Ok(Step::Newer(bundle)),
        Err(trust::Error::Pin) => Err(Error::Missed { held: held.version, offered: next.version }),
        Err(error) => Err(error.into()),
    }
}

/// Take over an offered bundle where it is newer, and say so.
pub(crate) fn follow(profile: &Profile, offered: &wire::Envelope) -> anyhow::Result<()> {
    let held = profile.trust()?;
    match judge(held.as_ref(), offered)? {
        Step::Same => {}
        Step::Newer(bundle) => {
            profile.replace_trust(offered)?;
            output::note(format_args!("trust bundle version {} is now held in this profile", bundle.version));
        }
        Step::Older(version) => output::warn(format_args!(
            "the hub shows trust bundle version {version}, which is older than the one held here; if it was restored \
             from a backup, publish the newer one again: hubctl trust publish --bundle {}",
            profile.trust_file().display()
        )),
    }
    Ok(())
}

/// Said while agents wait for an admin's word.
pub(crate) const NEEDS_STATEMENT: &str = "the hub was restored from a backup, and agents take no command until an admin \
     runs: hubctl trust accept-restore --reason ...";

/// What the hub says of trust, once its bundle has been taken over.
pub(crate) struct Trust {
    /// The bundle that is held now; none before the first.
    pub(crate) held: Option<Held>,
    /// Epoch of sequence numbers.
    pub(crate) epoch: u64,
    /// Whether agents wait for an admin's statement about it.
    pub(crate) epoch_needs_statement: bool,
}

/// Ask the hub for its newest bundle and follow it.
pub(crate) async fn refresh(hub: &Hub) -> anyhow::Result<Trust> {
    let answer = hub.ask("read the trust bundle", hub.operator().get_trust(GetTrustRequest {})).await?;
    let first = hub.profile.trust()?.is_none();
    if let Some(offered) = &answer.trust_bundle {
        match follow(&hub.profile, offered) {
            // What is held stays good; commands signed under it are judged by the agents.
            Err(error) if !first => {
                output::warn(format_args!("the hub's trust bundle is not taken over: {}", chain(error.as_ref())));
            }
            result => result?,
        }
    }
    let held = hub.profile.trust()?;
    if let Some(held) = held.as_ref().filter(|_| first) {
        output::warn(format_args!(
            "it is the first one here; compare its root pin with an admin's: {}",
            hex::encode(held.bundle.root_pin())
        ));
    }
    Ok(Trust { held, epoch: answer.epoch, epoch_needs_statement: answer.epoch_needs_statement })
}

#[cfg(test)]
mod tests {
    use sfdata_common::{Timestamp, envelope, keys::SigningKey};

    use super::*;

    fn signed(version: u64, root: &SigningKey, by: &[&SigningKey]) -> wire::Envelope {
        let bundle = Bundle {
            version,
            trust_domain: "sfdata.example".into(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: vec![root.public()],
            threshold: 1,
            operators: vec![],
            dispatch_keys: vec![],
            ca_certificates: vec![],
        };
        let mut envelope = bundle.unsigned();
        by.iter().for_each(|key| envelope::add_signature(&mut envelope, key));
        envelope
    }

    fn held(version: u64, root: &SigningKey) -> Held {
        let envelope = signed(version, root, &[root]);
        Held { bundle: Bundle::parse(&envelope.payload).unwrap(), envelope }
    }

    #[test]
    fn a_newer_bundle_is_followed_while_the_root_keys_hold() {
        let (root, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let held = held(2, &root);
        let judge = |offered: &wire::Envelope| judge(Some(&held), offered);
        assert!(matches!(judge(&signed(2, &root, &[&root])), Ok(Step::Same)));
        assert!(matches!(judge(&signed(1, &root, &[&root])), Ok(Step::Older(1))));
        assert!(matches!(judge(&signed(3, &other, &[&root, &other])), Ok(Step::Newer(_))), "rotation, step by step");
        assert!(matches!(judge(&signed(7, &root, &[&root])), Ok(Step::Newer(_))), "missed some, same root keys");
        assert!(matches!(judge(&signed(7, &other, &[&root, &other])), Err(Error::Missed { held: 2, offered: 7 })));
        assert!(matches!(judge(&signed(3, &root, &[&other])), Err(Error::Invalid(_))));
        assert!(matches!(judge(&signed(2, &other, &[&other])), Err(Error::Fork { version: 2 })));
    }

    #[test]
    fn the_first_bundle_must_hold_by_itself() {
        let root = SigningKey::generate().unwrap();
        assert!(matches!(judge(None, &signed(4, &root, &[&root])), Ok(Step::Newer(_))));
        assert!(matches!(judge(None, &signed(1, &root, &[])), Err(Error::Invalid(_))));
    }
}
