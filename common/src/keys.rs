//! Ed25519 keys: the ones that sign trust bundles, commands, dispatches and receipts.
//!
//! One crypto library, aws-lc-rs, which wipes private keys when they are dropped. Private halves are
//! PEM files (PKCS#8, RFC 8410), public halves 32 raw bytes, printed as `ed25519:` and base64url.

use std::{fmt, path::Path, str::FromStr};

use aws_lc_rs::{
    digest, rand,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::keyfile;

/// Why a key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// The contents.
    #[error("{path} holds no Ed25519 private key in PEM (PKCS#8)")]
    NotAKey {
        /// The file.
        path: std::path::PathBuf,
    },
    /// A public key as text.
    #[error("{0:?} is not a public key; it looks like ed25519:… with 43 characters behind the colon")]
    NotPublic(String),
    /// The random generator or the library failed.
    #[error("the crypto library could not make a key")]
    Library,
}

/// SHA-256, 32 bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Random bytes from the crypto library.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::Library)?;
    Ok(bytes)
}

/// The public half of an Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From 32 raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// First 16 hex digits of SHA-256 over the raw key.
    pub fn id(&self) -> String {
        hex::encode(&sha256(&self.0)[..8])
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        text.strip_prefix("ed25519:")
            .and_then(|rest| BASE64_URL_SAFE_NO_PAD.decode(rest).ok())
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or_else(|| Error::NotPublic(text.chars().take(80).collect()))
    }
}

/// An Ed25519 key that can sign.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    id: String,
}

impl SigningKey {
    /// A new random key.
    pub fn generate() -> Result<Self, Error> {
        Self::from_pair(Ed25519KeyPair::generate().map_err(|_| Error::Library)?)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, Error> {
        let public = PublicKey::from_bytes(pair.public_key().as_ref()).ok_or(Error::Library)?;
        Ok(Self { pair, public, id: public.id() })
    }

    /// Make a key and write it to a new file of mode 0600.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let key = Self::generate()?;
        keyfile::create_secret(path, &key.to_pem()?)?;
        Ok(key)
    }

    /// Read a key file; refused when others may read it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = keyfile::read_secret(path)?;
        let wrong = || Error::NotAKey { path: path.into() };
        let block = pem::parse(text.as_bytes()).map_err(|_| wrong())?;
        let der = Zeroizing::new(block.into_contents());
        Self::from_pair(Ed25519KeyPair::from_pkcs8(&der).map_err(|_| wrong())?)
    }

    fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        let der = self.pair.to_pkcs8v1().map_err(|_| Error::Library)?;
        Ok(Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()))))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The public half's id, as put beside signatures.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sign; 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let made = SigningKey::create(&path).unwrap();
        let read = SigningKey::read(&path).unwrap();
        assert_eq!(made.public(), read.public());
        assert_eq!(made.public().to_string().parse::<PublicKey>().unwrap(), made.public());
        let signature = read.sign(b"message");
        assert!(made.public().verifies(b"message", &signature));
        assert!(!made.public().verifies(b"messagf", &signature));
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
