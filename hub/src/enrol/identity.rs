//! The keys by which a hub is known: its CA and its dispatch key, and the file that shows their public halves so that
//! a trust bundle can be made for them.
//!
//! They are made once, at the first start. From the moment that hub-identity.pem exists a trust bundle may name them,
//! so a key that is missing then is never replaced silently: every agent would refuse the new one.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sfdata_common::{
    Timestamp, keyfile,
    keys::{self, SigningKey},
    trust::{hub_identity_from_pem, hub_identity_to_pem},
};
use sfdata_proto::v1 as wire;
use tracing::info;

use super::authority::{self, Authority, CERTIFICATE_FILE, KEY_FILE};

/// The key that signs dispatches.
pub const DISPATCH_FILE: &str = "dispatch.key";
/// What the hub shows of itself. Nothing in it is secret.
pub const IDENTITY_FILE: &str = "hub-identity.pem";

/// Why the hub's keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The dispatch key.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// The folder.
    #[error("cannot make the folder {path} for the hub's keys; check data_dir and who may write there")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key is gone that agents may trust already.
    #[error(
        "{missing} is missing, but {identity} says that this hub had one; restore it from the hub's backup. Only if no \
         trust bundle was ever made for this hub: remove {identity} and start again"
    )]
    Missing {
        /// The lost file.
        missing: PathBuf,
        /// What remembers it.
        identity: PathBuf,
    },
    /// The identity file says something else than keys or configuration.
    #[error(
        "{identity} shows another {what} than this hub has; correct the configuration, or restore the hub's files from \
         one backup"
    )]
    Changed {
        /// The file.
        identity: PathBuf,
        /// Which part.
        what: &'static str,
    },
}

/// The hub's long-lived keys.
pub struct HubKeys {
    /// Issues certificates.
    pub authority: Arc<Authority>,
    /// Signs dispatches.
    pub dispatch: Arc<SigningKey>,
}

impl HubKeys {
    /// Open the keys in `folder`, or make them at the first start.
    pub fn open_or_create(folder: &Path, trust_domain: &str, hub_id: &str, now: Timestamp) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| Error::Folder { path: folder.into(), source })?;
        let identity = folder.join(IDENTITY_FILE);
        let keys = if identity.exists() {
            Self::open(folder, trust_domain, &identity)?
        } else {
            info!(folder = %folder.display(), "first start: making the hub's keys");
            Self::create(folder, trust_domain, now)?
        };
        let text = hub_identity_to_pem(&keys.identity(hub_id));
        if fs::read(&identity).ok().as_deref() != Some(text.as_bytes()) {
            keyfile::write(&identity, text.as_bytes())?;
        }
        Ok(keys)
    }

    fn open(folder: &Path, trust_domain: &str, identity: &Path) -> Result<Self, Error> {
        for name in [KEY_FILE, CERTIFICATE_FILE, DISPATCH_FILE] {
            let missing = folder.join(name);
            if !missing.exists() {
                return Err(Error::Missing { missing, identity: identity.into() });
            }
        }
        let keys = Self {
            authority: Arc::new(Authority::open(folder, trust_domain)?),
            dispatch: Arc::new(SigningKey::read(&folder.join(DISPATCH_FILE))?),
        };
        let changed = |what| Error::Changed { identity: identity.into(), what };
        let shown = hub_identity_from_pem(&keyfile::read(identity)?).ok_or_else(|| changed("kind of content"))?;
        for (what, same) in [
            ("trust domain", shown.trust_domain == trust_domain),
            ("CA certificate", shown.ca_certificate == keys.authority.certificate()),
            ("dispatch key", shown.dispatch_key == keys.dispatch.public().as_bytes()[..]),
        ] {
            if !same {
                return Err(changed(what));
            }
        }
        Ok(keys)
    }

    /// Nobody has seen what a first start left behind that did not come to its end, so that is made anew.
    fn create(folder: &Path, trust_domain: &str, now: Timestamp) -> Result<Self, Error> {
        for name in [KEY_FILE, CERTIFICATE_FILE, DISPATCH_FILE] {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(keyfile::Error::Write { path, source }.into());
                }
                _ => {}
            }
        }
        Ok(Self {
            authority: Arc::new(Authority::create(folder, trust_domain, now)?),
            dispatch: Arc::new(SigningKey::create(&folder.join(DISPATCH_FILE))?),
        })
    }

    /// What goes into the trust bundle.
    pub fn identity(&self, hub_id: &str) -> wire::HubIdentity {
        wire::HubIdentity {
            trust_domain: self.authority.trust_domain().to_owned(),
            hub_id: hub_id.to_owned(),
            dispatch_key: self.dispatch.public().as_bytes().to_vec().into(),
            ca_certificate: self.authority.certificate().to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, trust_domain: &str) -> Result<HubKeys, Error> {
        HubKeys::open_or_create(folder, trust_domain, "core", Timestamp::now())
    }

    #[test]
    fn keys_are_made_once_and_a_lost_one_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = &folder.path().join("new");
        let made = open(folder, "sfdata.example").unwrap().identity("core");
        assert_eq!(open(folder, "sfdata.example").unwrap().identity("core"), made);
        let shown = hub_identity_from_pem(&fs::read(folder.join(IDENTITY_FILE)).unwrap()).unwrap();
        assert_eq!(shown, made);
        assert!(matches!(open(folder, "other.example"), Err(Error::Changed { what: "trust domain", .. })));

        for name in [KEY_FILE, CERTIFICATE_FILE, DISPATCH_FILE] {
            let (here, away) = (folder.join(name), folder.join("away"));
            fs::rename(&here, &away).unwrap();
            assert!(matches!(open(folder, "sfdata.example"), Err(Error::Missing { missing, .. }) if missing == here));
            fs::rename(&away, &here).unwrap();
        }
        SigningKey::create(&folder.join("other")).unwrap();
        fs::rename(folder.join("other"), folder.join(DISPATCH_FILE)).unwrap();
        assert!(matches!(open(folder, "sfdata.example"), Err(Error::Changed { what: "dispatch key", .. })));
    }

    #[test]
    fn a_first_start_that_was_cut_off_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(folder.path(), "sfdata.example", Timestamp::now()).unwrap();
        fs::remove_file(folder.path().join(CERTIFICATE_FILE)).unwrap();
        open(folder.path(), "sfdata.example").unwrap();
        open(folder.path(), "sfdata.example").unwrap();
    }
}
