//! A private key under a passphrase: PKCS#8 encrypted by PBES2 (RFC 8018) with scrypt and AES-256-CBC, in PEM, as
//! `openssl pkey` reads it. Behind it in the file stands the public half in the clear, so that nobody has to be asked
//! for a passphrase only to see which key it is.
//!
//! Invariant: what a file asks of the machine is judged before anything is derived, for a file may be hostile.

use std::path::{Path, PathBuf};

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
    pkcs5::{
        pbes2::{Kdf, Parameters},
        scrypt,
    },
};
use zeroize::Zeroizing;

use super::{Error, PublicKey, SigningKey, random};
use crate::{keyfile, limits};

const PRIVATE: &str = "PRIVATE KEY";
const PROTECTED: &str = "ENCRYPTED PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// A key file as it was read.
#[derive(Debug)]
pub enum KeyFile {
    /// Ready to sign.
    Open(SigningKey),
    /// Under a passphrase.
    Protected(ProtectedKey),
}

/// A key that signs nothing until its passphrase is given.
#[derive(Debug)]
pub struct ProtectedKey {
    path: PathBuf,
    public: Option<PublicKey>,
    der: Vec<u8>,
}

impl KeyFile {
    /// Read a key file; refused when others may read it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = keyfile::read_secret(path)?;
        let wrong = || Error::NotAKey { path: path.into() };
        let mut blocks = pem::parse_many(text.as_bytes()).map_err(|_| wrong())?.into_iter();
        let block = blocks.next().ok_or_else(wrong)?;
        match block.tag() {
            PROTECTED => {
                let public = blocks.find(|block| block.tag() == PUBLIC);
                let public =
                    public.map(|block| PublicKey::from_spki(block.contents()).ok_or_else(wrong)).transpose()?;
                Ok(Self::Protected(ProtectedKey { path: path.into(), public, der: block.into_contents() }))
            }
            PRIVATE => {
                let der = Zeroizing::new(block.into_contents());
                SigningKey::from_pkcs8(&der).map(Self::Open).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    /// Whether it is under a passphrase.
    pub fn is_protected(&self) -> bool {
        matches!(self, Self::Protected(_))
    }

    /// The public half; `None` where another program wrote the file and it is under a passphrase.
    pub fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Open(key) => Some(key.public()),
            Self::Protected(key) => key.public,
        }
    }
}

impl ProtectedKey {
    /// The key, if `passphrase` is its own. A tenth of a second of work, on purpose.
    pub fn unlock(&self, passphrase: &str) -> Result<SigningKey, Error> {
        let wrong = || Error::NotAKey { path: self.path.clone() };
        let info = EncryptedPrivateKeyInfoRef::try_from(&self.der[..]).map_err(|_| wrong())?;
        let asks = info.encryption_algorithm.pbes2().ok_or_else(wrong)?;
        if !is_bearable(&asks.kdf) {
            return Err(Error::Work { path: self.path.clone() });
        }
        let der = info.decrypt(passphrase).map_err(|_| Error::Passphrase { path: self.path.clone() })?;
        let key =
            SigningKey::from_pkcs8(der.as_bytes()).ok_or_else(|| Error::Passphrase { path: self.path.clone() })?;
        match self.public {
            Some(public) if public != key.public() => Err(wrong()),
            _ => Ok(key),
        }
    }
}

/// Whether this much work and memory may be asked of whoever opens the file.
fn is_bearable(kdf: &Kdf) -> bool {
    match kdf {
        Kdf::Scrypt(asks) => {
            let (n, r, p) = (asks.cost_parameter, u64::from(asks.block_size), u64::from(asks.parallelization));
            let bytes = n.saturating_mul(r).saturating_mul(128);
            n > 1 && r > 0 && p > 0 && p <= limits::SCRYPT_PASSES && bytes <= limits::SCRYPT_BYTES
        }
        Kdf::Pbkdf2(asks) => asks.iteration_count > 0 && asks.iteration_count <= limits::PBKDF2_ROUNDS,
        _ => false,
    }
}

/// The text of a key file under a passphrase.
pub(super) fn to_pem(key: &SigningKey, passphrase: &str) -> Result<Zeroizing<String>, Error> {
    // 16 MiB and five passes: OWASP's equal of more memory, within what OpenSSL bears without being told to.
    let scrypt = scrypt::Params::new(14, 8, 5).map_err(|_| Error::Library)?;
    let (salt, iv) = (random::<16>()?, random::<16>()?);
    seal(key, passphrase, Parameters::generate_scrypt_aes256cbc(scrypt, &salt, iv).map_err(|_| Error::Library)?)
}

fn seal(key: &SigningKey, passphrase: &str, asks: Parameters) -> Result<Zeroizing<String>, Error> {
    let der = key.to_pkcs8()?;
    let info = PrivateKeyInfoRef::try_from(&der[..]).map_err(|_| Error::Library)?;
    let sealed = info.encrypt_with_params(asks, passphrase).map_err(|_| Error::Library)?;
    let blocks = [pem::Pem::new(PROTECTED, sealed.as_bytes()), pem::Pem::new(PUBLIC, key.public().to_spki())];
    Ok(Zeroizing::new(pem::encode_many(&blocks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "correct horse battery";

    fn read(folder: &Path, text: &str) -> ProtectedKey {
        let path = folder.join("key.pem");
        keyfile::create_secret(&path, text).unwrap();
        let KeyFile::Protected(read) = KeyFile::read(&path).unwrap() else { panic!("it is open") };
        read
    }

    #[test]
    fn a_protected_key_opens_with_its_passphrase_and_with_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let made = SigningKey::generate().unwrap();
        let read = read(folder.path(), &to_pem(&made, PASSPHRASE).unwrap());
        assert_eq!(read.public, Some(made.public()));
        assert_eq!(read.unlock(PASSPHRASE).unwrap().public(), made.public());
        for wrong in ["", "correct horse batterx", "correct horse battery "] {
            assert!(matches!(read.unlock(wrong), Err(Error::Passphrase { .. })), "{wrong:?}");
        }
        let error = SigningKey::read(&read.path).unwrap_err().to_string();
        assert!(error.contains("passphrase"), "{error}");
    }

    #[test]
    fn a_public_half_that_is_not_the_keys_own_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut read = read(folder.path(), &to_pem(&SigningKey::generate().unwrap(), PASSPHRASE).unwrap());
        read.public = Some(SigningKey::generate().unwrap().public());
        assert!(matches!(read.unlock(PASSPHRASE), Err(Error::NotAKey { .. })));
    }

    #[test]
    fn a_file_that_asks_for_too_much_is_refused_before_any_work() {
        let folder = tempfile::tempdir().unwrap();
        let read = read(folder.path(), &to_pem(&SigningKey::generate().unwrap(), PASSPHRASE).unwrap());
        // N is the INTEGER 16384 of the parameters, and r the INTEGER 8 behind it.
        let at = read.der.windows(7).position(|bytes| bytes == [2, 2, 0x40, 0, 2, 1, 8]).unwrap();
        let with = |change: &dyn Fn(&mut [u8])| {
            let mut der = read.der.clone();
            change(&mut der[at..at + 7]);
            ProtectedKey { path: read.path.clone(), public: None, der }.unlock(PASSPHRASE)
        };
        assert!(with(&|_| {}).is_ok());
        assert!(matches!(with(&|der| der[4..].copy_from_slice(&[2, 1, 0])), Err(Error::Work { .. })), "r is 0");
        assert!(with(&|der| der[2..4].copy_from_slice(&[0x7f, 0xff])).is_err(), "no power of two");
        let scrypt = |log_n, r, p| {
            let params = scrypt::Params::new(log_n, r, p).unwrap();
            is_bearable(&Parameters::generate_scrypt_aes256cbc(params, &[0; 16], [0; 16]).unwrap().kdf)
        };
        assert!(scrypt(14, 8, 5) && scrypt(17, 8, 1));
        assert!(!scrypt(33, 8, 1) && !scrypt(14, 60_000, 1) && !scrypt(14, 8, 60_000));
    }

    #[test]
    fn what_openssl_writes_by_itself_is_read_and_bounded_too() {
        let key = SigningKey::generate().unwrap();
        let pbkdf2 = |rounds| Parameters::generate_pbkdf2_sha256_aes256cbc(rounds, &[7; 8], [9; 16]).unwrap();
        let sealed = seal(&key, PASSPHRASE, pbkdf2(2_048)).unwrap();
        let text = sealed.split_inclusive("-----END ENCRYPTED PRIVATE KEY-----").next().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let read = read(folder.path(), text);
        assert_eq!((read.public, read.unlock(PASSPHRASE).unwrap().public()), (None, key.public()));
        assert!(is_bearable(&pbkdf2(600_000).kdf));
        assert!(!is_bearable(&pbkdf2(90_000_000).kdf) && !is_bearable(&pbkdf2(0).kdf));
    }
}
