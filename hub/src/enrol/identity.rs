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

use arc_swap::ArcSwap;
use sfdata_common::{
    Timestamp, keyfile,
    keys::{self, PublicKey, SigningKey},
    tls,
    trust::{hub_identity_from_pem, hub_identity_to_pem},
};
use sfdata_proto::v1 as wire;
use tracing::info;

use super::authority::{self, Authority, CERTIFICATE_FILE, KEY_FILE, NEXT};
use crate::signer::{SharedSigner, Signer, kms};

/// The key that signs dispatches.
pub const DISPATCH_FILE: &str = "dispatch.key";
/// The key that is to sign them next.
const NEXT_DISPATCH_FILE: &str = "dispatch-next.key";
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
    /// Nothing is known of the key.
    #[error(
        "KMS could not be asked for the public half of {key}, which a hub needs at its first start; start it again"
    )]
    Kms {
        /// Its ARN.
        key: String,
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
    pub dispatch: SharedSigner,
    /// Will sign dispatches, once it is activated.
    pub next_dispatch: Option<Arc<Signer>>,
    /// Will issue certificates, once it is activated.
    pub next_authority: Option<Authority>,
    /// Of KMS, and not in use by now.
    kms: Option<Arc<Signer>>,
    folder: PathBuf,
    hub_id: String,
}

/// A dispatch key of KMS, and its public half where KMS could be asked.
pub type OfKms = (kms::Key, Option<PublicKey>);

impl HubKeys {
    /// Open the keys in `folder`, or make them at the first start; the dispatch key in a file.
    pub fn open_or_create(folder: &Path, trust_domain: &str, hub_id: &str, now: Timestamp) -> Result<Self, Error> {
        Self::with_kms(folder, trust_domain, hub_id, None, now)
    }

    /// The same where the dispatch key may be in KMS. Which one is in use the identity file says, and nothing else.
    pub fn with_kms(
        folder: &Path,
        trust_domain: &str,
        hub_id: &str,
        kms: Option<OfKms>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| Error::Folder { path: folder.into(), source })?;
        let identity = folder.join(IDENTITY_FILE);
        let mut keys = if identity.exists() {
            Self::open(folder, trust_domain, &identity, kms)?
        } else {
            info!(folder = %folder.display(), "first start: making the hub's keys");
            Self::create(folder, trust_domain, kms, now)?
        };
        keys.hub_id = hub_id.to_owned();
        keys.show()?;
        Ok(keys)
    }

    /// Write the identity file, unless it says all this already.
    fn show(&self) -> Result<(), Error> {
        let (path, text) = (self.folder.join(IDENTITY_FILE), hub_identity_to_pem(&self.identity()));
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            keyfile::write(&path, text.as_bytes())?;
        }
        Ok(())
    }

    fn open(folder: &Path, trust_domain: &str, identity: &Path, kms: Option<OfKms>) -> Result<Self, Error> {
        let changed = |what| Error::Changed { identity: identity.into(), what };
        let shown = hub_identity_from_pem(&keyfile::read(identity)?).ok_or_else(|| changed("kind of content"))?;
        settle_ca(folder, &shown.ca_certificate)?;
        for name in [KEY_FILE, CERTIFICATE_FILE] {
            let missing = folder.join(name);
            if !missing.exists() {
                return Err(Error::Missing { missing, identity: identity.into() });
            }
        }
        let authority = Arc::new(Authority::open(folder, trust_domain)?);
        if shown.trust_domain != trust_domain {
            return Err(changed("trust domain"));
        }
        if shown.ca_certificate != authority.certificate() {
            return Err(changed("CA certificate"));
        }
        let next_authority = match shown.next_ca_certificate.is_empty() {
            true => None,
            false => Some(Authority::open_as(NEXT, folder, trust_domain)?),
        };
        let current = PublicKey::from_bytes(&shown.dispatch_key).ok_or_else(|| changed("dispatch key"))?;
        let next = PublicKey::from_bytes(&shown.next_dispatch_key);
        let mut known = Vec::new();
        for name in [DISPATCH_FILE, NEXT_DISPATCH_FILE] {
            if folder.join(name).exists() {
                known.push(Arc::new(Signer::from(SigningKey::read(&folder.join(name))?)));
            }
        }
        let kms = kms.map(|(key, public)| {
            // While KMS is away it is known by exclusion: what no file has.
            let public = public.unwrap_or_else(|| {
                let in_a_file = known.iter().any(|signer| signer.public() == current);
                if in_a_file { next.unwrap_or(current) } else { current }
            });
            Arc::new(Signer::kms(key, public))
        });
        let find = |public| known.iter().chain(&kms).find(|signer| signer.public() == public).map(Arc::clone);
        let dispatch = match find(current) {
            Some(signer) => signer,
            None if known.is_empty() && kms.is_none() => {
                return Err(Error::Missing { missing: folder.join(DISPATCH_FILE), identity: identity.into() });
            }
            None => return Err(changed("dispatch key")),
        };
        let next_dispatch = next.and_then(find);
        let keys = Self {
            authority,
            next_authority,
            dispatch: Arc::new(ArcSwap::new(dispatch)),
            next_dispatch,
            kms,
            folder: folder.into(),
            hub_id: shown.hub_id,
        };
        keys.settle()?;
        Ok(keys)
    }

    /// Give the file of the key in use its name, where a rotation was cut off behind the identity file.
    fn settle(&self) -> Result<(), Error> {
        let [file, next] = [DISPATCH_FILE, NEXT_DISPATCH_FILE].map(|name| self.folder.join(name));
        if next.exists() && SigningKey::read(&next)?.public() == self.dispatch.load().public() {
            fs::rename(&next, &file).map_err(|source| keyfile::Error::Write { path: file, source })?;
        }
        Ok(())
    }

    /// Have a dispatch key that is to take the other's place: the one of KMS that the configuration names and that is not in
    /// use, or else a new file. Harmless to repeat.
    pub fn stage_dispatch(&mut self) -> Result<Arc<Signer>, Error> {
        if let Some(next) = &self.next_dispatch {
            return Ok(Arc::clone(next));
        }
        let current = self.dispatch.load().public();
        let next = match self.kms.as_ref().filter(|signer| signer.public() != current) {
            Some(signer) => Arc::clone(signer),
            None => {
                let path = self.folder.join(NEXT_DISPATCH_FILE);
                let key = if path.exists() { SigningKey::read(&path)? } else { SigningKey::create(&path)? };
                Arc::new(Signer::from(key))
            }
        };
        self.next_dispatch = Some(Arc::clone(&next));
        self.show()?;
        Ok(next)
    }

    /// Sign with the staged key from now on, everywhere. The identity file says so before anything is signed by it.
    pub fn activate_dispatch(&mut self) -> Result<(), Error> {
        let Some(next) = self.next_dispatch.take() else { return Ok(()) };
        let before = self.dispatch.swap(next);
        if let Err(error) = self.show() {
            self.next_dispatch = Some(self.dispatch.swap(before));
            return Err(error);
        }
        self.settle()
    }

    /// Have a CA that is to take the other's place. Harmless to repeat.
    pub fn stage_ca(&mut self, now: Timestamp) -> Result<Vec<u8>, Error> {
        if self.next_authority.is_none() {
            // What was cut off before the identity file showed it nobody has seen.
            for name in NEXT {
                let _ = fs::remove_file(self.folder.join(name));
            }
            self.next_authority = Some(Authority::create_as(NEXT, &self.folder, self.authority.trust_domain(), now)?);
            self.show()?;
        }
        Ok(self.next_authority.as_ref().map(Authority::certificate).unwrap_or_default())
    }

    /// Issue by the staged CA from now on, everywhere. The identity file says so before anything is issued by it.
    pub fn activate_ca(&mut self) -> Result<(), Error> {
        let Some(next) = self.next_authority.take() else { return Ok(()) };
        let mut shown = self.identity();
        shown.ca_certificate = next.certificate().into();
        keyfile::write(&self.folder.join(IDENTITY_FILE), hub_identity_to_pem(&shown).as_bytes())?;
        settle_ca(&self.folder, &shown.ca_certificate)?;
        self.authority.becomes(&next);
        Ok(())
    }

    /// Nobody has seen what a first start left behind that did not come to its end, so that is made anew.
    fn create(folder: &Path, trust_domain: &str, kms: Option<OfKms>, now: Timestamp) -> Result<Self, Error> {
        let of_kms = match kms {
            None => None,
            Some((key, None)) => return Err(Error::Kms { key: key.arn().to_owned() }),
            Some((key, Some(public))) => Some(Arc::new(Signer::kms(key, public))),
        };
        for name in [KEY_FILE, CERTIFICATE_FILE, DISPATCH_FILE, NEXT_DISPATCH_FILE] {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(keyfile::Error::Write { path, source }.into());
                }
                _ => {}
            }
        }
        let dispatch = match &of_kms {
            Some(signer) => Arc::clone(signer),
            None => Arc::new(Signer::from(SigningKey::create(&folder.join(DISPATCH_FILE))?)),
        };
        Ok(Self {
            authority: Arc::new(Authority::create(folder, trust_domain, now)?),
            dispatch: Arc::new(ArcSwap::new(dispatch)),
            next_dispatch: None,
            next_authority: None,
            kms: of_kms,
            folder: folder.into(),
            hub_id: String::new(),
        })
    }

    /// What goes into the trust bundle.
    pub fn identity(&self) -> wire::HubIdentity {
        let raw = |signer: &Signer| signer.public().as_bytes().to_vec().into();
        wire::HubIdentity {
            trust_domain: self.authority.trust_domain().to_owned(),
            hub_id: self.hub_id.clone(),
            dispatch_key: raw(&self.dispatch.load()),
            ca_certificate: self.authority.certificate().into(),
            next_dispatch_key: self.next_dispatch.as_deref().map(raw).unwrap_or_default(),
            next_ca_certificate: self.next_authority.as_ref().map(|next| next.certificate().into()).unwrap_or_default(),
        }
    }
}

/// Give the files of the CA in use their names, where a rotation was cut off behind the identity file. The key goes first, so
/// that the certificate tells whether there is anything left to do.
fn settle_ca(folder: &Path, current: &[u8]) -> Result<(), Error> {
    let next = folder.join(NEXT[1]);
    let shown = fs::read(&next).ok().and_then(|text| tls::certificates_from_pem(&text).ok());
    if shown.is_none_or(|certificates| certificates.first().is_none_or(|der| *der != current)) {
        return Ok(());
    }
    for (from, to) in NEXT.into_iter().zip([KEY_FILE, CERTIFICATE_FILE]) {
        let path = folder.join(to);
        match fs::rename(folder.join(from), &path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(keyfile::Error::Write { path, source }.into());
            }
            _ => {}
        }
    }
    Ok(())
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
        let made = open(folder, "sfdata.example").unwrap().identity();
        assert_eq!(open(folder, "sfdata.example").unwrap().identity(), made);
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
    fn a_staged_key_takes_the_others_place_and_survives_being_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut keys = open(folder, "sfdata.example").unwrap();
        let first = keys.dispatch.load().public();
        let staged = keys.stage_dispatch().unwrap().public();
        assert_eq!(keys.stage_dispatch().unwrap().public(), staged, "harmless to repeat");
        let mut again = open(folder, "sfdata.example").unwrap();
        assert_eq!((again.dispatch.load().public(), again.next_dispatch.as_ref().unwrap().public()), (first, staged));
        let shared = Arc::clone(&again.dispatch);
        again.activate_dispatch().unwrap();
        assert_eq!((shared.load().public(), again.next_dispatch.is_none()), (staged, true));
        assert!(!folder.join(NEXT_DISPATCH_FILE).exists());
        assert_eq!(SigningKey::read(&folder.join(DISPATCH_FILE)).unwrap().public(), staged);
        // Cut off after the identity file was written, and before the key's file got its name.
        let (file, next) = (folder.join(DISPATCH_FILE), folder.join(NEXT_DISPATCH_FILE));
        fs::rename(&file, &next).unwrap();
        SigningKey::create(&file).unwrap();
        assert_eq!(open(folder, "sfdata.example").unwrap().dispatch.load().public(), staged);
        assert_eq!(SigningKey::read(&file).unwrap().public(), staged);
    }

    #[test]
    fn a_staged_ca_takes_the_others_place_and_survives_being_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let now = Timestamp::now();
        let mut keys = open(folder, "sfdata.example").unwrap();
        let (first, staged) = (keys.authority.certificate(), keys.stage_ca(now).unwrap());
        assert_eq!(keys.stage_ca(now).unwrap(), staged, "harmless to repeat");
        let mut again = open(folder, "sfdata.example").unwrap();
        assert_eq!((again.authority.certificate(), again.stage_ca(now).unwrap()), (first, staged.clone()));
        let shared = Arc::clone(&again.authority);
        // Cut off behind the identity file, and then between key and certificate.
        let identity = folder.join(IDENTITY_FILE);
        let mut shown = again.identity();
        (shown.ca_certificate, shown.next_ca_certificate) = (shown.next_ca_certificate, Default::default());
        fs::write(&identity, hub_identity_to_pem(&shown)).unwrap();
        fs::rename(folder.join(NEXT[0]), folder.join(KEY_FILE)).unwrap();
        assert_eq!(open(folder, "sfdata.example").unwrap().authority.certificate(), staged);
        again.next_authority = Some(Authority::open(folder, "sfdata.example").unwrap());
        again.activate_ca().unwrap();
        assert_eq!(shared.certificate(), staged);
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
