//! Ed25519 keys: the ones that sign trust bundles, commands, dispatches and receipts.
//!
//! One crypto library, aws-lc-rs, which wipes private keys when they are dropped. Private halves are
//! PEM files (PKCS#8, RFC 8410; under a passphrase: [`protected`]), public halves 32 raw bytes, printed as `ed25519:`
//! and base64url.

mod protected;

use std::{fmt, path::Path, str::FromStr};

use aws_lc_rs::{
    digest, rand,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

pub use self::protected::{KeyFile, ProtectedKey};
use crate::keyfile;

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 10.1).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

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
    /// Under a passphrase that nobody gave.
    #[error("the key in {path} is under a passphrase; give it, or take it off: hubctl key passphrase --remove")]
    Locked {
        /// The file.
        path: std::path::PathBuf,
    },
    /// Another passphrase than the key's.
    #[error("the passphrase does not open {path}")]
    Passphrase {
        /// The file.
        path: std::path::PathBuf,
    },
    /// Hostile, or made for another machine.
    #[error(
        "{path} asks for more memory or work than a passphrase is worth; make the file anew with hubctl key passphrase on \
         a machine that you trust it to"
    )]
    Work {
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

    /// From a SubjectPublicKeyInfo in DER, as certificates and KMS have it.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        der.strip_prefix(&SPKI).and_then(Self::from_bytes)
    }

    /// As a SubjectPublicKeyInfo in DER.
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI[..], &self.0].concat()
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
        Self::create_under(path, None)
    }

    /// The same, under a passphrase where one is given.
    pub fn create_under(path: &Path, passphrase: Option<&str>) -> Result<Self, Error> {
        let key = Self::generate()?;
        keyfile::create_secret(path, &key.to_text(passphrase)?)?;
        Ok(key)
    }

    /// Write this key in place of the file that it came from, under another passphrase or none.
    pub fn replace(&self, path: &Path, passphrase: Option<&str>) -> Result<(), Error> {
        Ok(keyfile::replace_secret(path, &self.to_text(passphrase)?)?)
    }

    /// Read a key file that is under no passphrase; refused when others may read it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match KeyFile::read(path)? {
            KeyFile::Open(key) => Ok(key),
            KeyFile::Protected(_) => Err(Error::Locked { path: path.into() }),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_pkcs8(der).ok().and_then(|pair| Self::from_pair(pair).ok())
    }

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.pair.to_pkcs8v1().map(|der| Zeroizing::new(der.as_ref().to_vec())).map_err(|_| Error::Library)
    }

    fn to_text(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, Error> {
        match passphrase {
            Some(passphrase) => protected::to_pem(self, passphrase),
            None => Ok(Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", &self.to_pkcs8()?[..])))),
        }
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
        assert_eq!(PublicKey::from_spki(&made.public().to_spki()), Some(made.public()));
        assert_eq!(PublicKey::from_spki(&made.public().to_spki()[1..]), None);
        let signature = read.sign(b"message");
        assert!(made.public().verifies(b"message", &signature));
        assert!(!made.public().verifies(b"messagf", &signature));
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
