//! What one operator keeps on their machine for one hub: a folder of mode 0700.
//!
//! `profile.toml` says where the hub is and who the operator is; `tls.key` and `tls.crt` are for the wire;
//! `trust.pem` is the trust bundle that was verified last; `signing.key` signs commands. A renewal keeps `tls.key`
//! and replaces `tls.crt` alone, in one rename: key and certificate match at every instant, whoever else reads.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sfdata_common::{
    channel::SharedTls,
    ids::OperatorName,
    keyfile,
    tls::{self, Identity, Knows, TlsKey},
    trust::{self, Bundle},
};
use sfdata_proto::v1 as wire;

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing there.
    #[error(
        "there is no profile in {folder}; ask an admin for an operator's token (hubctl operators invite NAME), \
         then run: hubctl login TOKEN"
    )]
    NotThere { folder: PathBuf },
    /// `profile.toml`.
    #[error("{path} is not valid")]
    Settings {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The folder can't be made.
    #[error("cannot make the folder {folder}")]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No signing key yet.
    #[error("there is no signing key at {path}; make one with: hubctl key create")]
    NoSigningKey { path: PathBuf },
    /// A file.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// Certificate or TLS key.
    #[error("the profile's certificate cannot be used; run hubctl login with a new token")]
    Tls(#[from] tls::Error),
    /// `trust.pem`.
    #[error("{path} cannot be used")]
    Trust {
        path: PathBuf,
        #[source]
        source: trust::Error,
    },
}

/// `profile.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// `host:port` of the hub's authenticated listener.
    pub(crate) address: String,
    /// The hub's organisation.
    pub(crate) trust_domain: String,
    /// Who the operator is.
    pub(crate) operator: OperatorName,
    /// The signing key, where it is not the profile's own file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signing_key: Option<PathBuf>,
}

/// A trust bundle that was verified before it was kept.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// As it is signed.
    pub(crate) envelope: wire::Envelope,
    /// What it says.
    pub(crate) bundle: Bundle,
}

/// A profile that is complete.
#[derive(Debug)]
pub(crate) struct Profile {
    folder: PathBuf,
    /// What `profile.toml` says.
    pub(crate) settings: Settings,
}

impl Profile {
    /// Read the profile in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let path = settings_file(folder);
        if !path.exists() {
            return Err(Error::NotThere { folder: folder.into() });
        }
        let bytes = keyfile::read(&path)?;
        let settings = toml::from_slice(&bytes).map_err(|source| Error::Settings { path, source: Box::new(source) })?;
        Ok(Self { folder: folder.into(), settings })
    }

    /// Write a whole profile over whatever is in `folder`, which exists; `profile.toml` last.
    pub(crate) fn write(
        folder: &Path,
        settings: Settings,
        key: &TlsKey,
        chain: &[Vec<u8>],
        trust: Option<&wire::Envelope>,
    ) -> Result<Self, Error> {
        let profile = Self { folder: folder.into(), settings };
        keyfile::replace_secret(&profile.file("tls.key"), &key.to_pem())?;
        profile.replace_chain(chain)?;
        match trust {
            Some(envelope) => profile.replace_trust(envelope)?,
            None => profile.forget_trust()?,
        }
        // Paths and names are plain strings: TOML can hold each of them.
        let text = toml::to_string(&profile.settings)
            .map_err(|error| keyfile::Error::Write { path: settings_file(folder), source: io::Error::other(error) })?;
        keyfile::write(&settings_file(folder), text.as_bytes())?;
        Ok(profile)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The TLS key, for a certificate request.
    pub(crate) fn tls_key(&self) -> Result<TlsKey, Error> {
        Ok(TlsKey::read(&self.file("tls.key"))?)
    }

    fn chain(&self) -> Result<Vec<Vec<u8>>, Error> {
        Ok(tls::certificates_from_pem(&keyfile::read(&self.file("tls.crt"))?)?)
    }

    /// Certificate and key as they are now.
    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        Ok(Identity::new(self.chain()?, &self.tls_key()?)?)
    }

    /// Keep a renewed certificate, leaf first.
    pub(crate) fn replace_chain(&self, chain: &[Vec<u8>]) -> Result<(), Error> {
        Ok(keyfile::write(&self.file("tls.crt"), tls::certificates_to_pem(chain).as_bytes())?)
    }

    /// How to connect: the hub is known by the CAs of the trust bundle or, before the first bundle, by the CA that
    /// the join token pinned and that came with the certificate.
    pub(crate) fn tls(&self, identity: &Identity) -> Result<SharedTls, Error> {
        let certificates = match self.trust()? {
            Some(held) => held.bundle.ca_certificates,
            None => self.chain()?.split_off(1),
        };
        let hub = Knows::Cas { certificates: &certificates, trust_domain: &self.settings.trust_domain };
        Ok(Arc::new(tls::client(Some(identity), hub)?.into()))
    }

    /// The trust bundle that is held, where there is one.
    pub(crate) fn trust(&self) -> Result<Option<Held>, Error> {
        let path = self.trust_file();
        if !path.exists() {
            return Ok(None);
        }
        let text = keyfile::read(&path)?;
        let parse = || {
            let envelope = trust::from_pem(&text)?;
            let bundle = Bundle::parse(&envelope.payload)?;
            Ok(Held { envelope, bundle })
        };
        parse().map(Some).map_err(|source| Error::Trust { path, source })
    }

    /// Where the trust bundle is kept.
    pub(crate) fn trust_file(&self) -> PathBuf {
        trust_file(&self.folder)
    }

    /// Keep a trust bundle that was verified.
    pub(crate) fn replace_trust(&self, envelope: &wire::Envelope) -> Result<(), Error> {
        Ok(keyfile::write(&self.trust_file(), trust::to_pem(envelope).as_bytes())?)
    }

    /// Another hub's bundle would name other CAs.
    fn forget_trust(&self) -> Result<(), Error> {
        let path = self.trust_file();
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(keyfile::Error::Write { path, source }.into())
            }
            _ => Ok(()),
        }
    }

    /// Where the key is that signs commands.
    pub(crate) fn signing_key_file(&self) -> Result<PathBuf, Error> {
        existing(self.settings.signing_key.clone().unwrap_or_else(|| own_signing_key_file(&self.folder)))
    }
}

fn settings_file(folder: &Path) -> PathBuf {
    folder.join("profile.toml")
}

/// Where the profile in `folder` keeps its trust bundle.
pub(crate) fn trust_file(folder: &Path) -> PathBuf {
    folder.join("trust.pem")
}

/// Where the profile in `folder` keeps a signing key of its own.
pub(crate) fn own_signing_key_file(folder: &Path) -> PathBuf {
    folder.join("signing.key")
}

/// Where the signing key is, with a profile or before there is one.
pub(crate) fn signing_key_file(folder: &Path) -> Result<PathBuf, Error> {
    match Profile::open(folder) {
        Err(Error::NotThere { .. }) => existing(own_signing_key_file(folder)),
        profile => profile?.signing_key_file(),
    }
}

fn existing(path: PathBuf) -> Result<PathBuf, Error> {
    if path.exists() { Ok(path) } else { Err(Error::NoSigningKey { path }) }
}

/// Make the profile's folder, closed to others, unless it is there.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::Folder { folder: folder.into(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn settings() -> Settings {
        Settings {
            address: "hub.example:7101".into(),
            trust_domain: "sfdata.example".into(),
            operator: "alice".parse().unwrap(),
            signing_key: None,
        }
    }

    #[test]
    fn a_profile_is_found_as_it_was_written_and_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/default");
        make_folder(&folder).unwrap();
        Profile::write(&folder, settings(), &TlsKey::generate().unwrap(), &[vec![1], vec![2]], None).unwrap();
        let profile = Profile::open(&folder).unwrap();
        assert_eq!(profile.settings, settings());
        assert_eq!(profile.chain().unwrap(), [vec![1], vec![2]]);
        assert!(profile.trust().unwrap().is_none());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.clone()), mode(folder.join("tls.key"))), (0o700, 0o600));
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let home = tempfile::tempdir().unwrap();
        assert!(Profile::open(home.path()).unwrap_err().to_string().contains("hubctl login"));
        let profile = Profile { folder: home.path().into(), settings: settings() };
        assert!(profile.signing_key_file().unwrap_err().to_string().contains("hubctl key create"));
    }
}
