//! Answers that only the operator who asked can read: log lines, names of objects, presigned URLs.
//!
//! The operator's tool makes a key for one command and signs its public half with it; the agent seals to that (HPKE,
//! RFC 9180: X25519, HKDF-SHA256, AES-256-GCM). What passes through the hub, and what it keeps, is of no use to anybody
//! once the tool has ended, nor to a hub in the wrong hands at any time.

use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE,
    hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey},
};
use sfdata_proto::v1 as wire;

use crate::ids::{AgentId, CommandId};

const INFO: &[u8] = b"sfdata-sealed-v1";

/// Why an answer cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The random generator or the library failed, or the public key is none.
    #[error("the crypto library could not seal the answer")]
    Seal,
    /// Another key, another command, another agent, another place, or changed on the way.
    #[error("the sealed answer is not one to this command: it was changed on its way, or comes from somebody else")]
    Open,
}

/// Where an answer belongs; it opens at no other place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The command that it answers.
    pub command: CommandId,
    /// Who answers.
    pub agent: &'a AgentId,
    /// Its number among the parts that are streamed, from 0; `None` is the command's result.
    pub part: Option<u32>,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        let part = self.part.map_or_else(|| "result".into(), |number| format!("part {number}"));
        format!("{} {} {part}", self.command, self.agent).into_bytes()
    }
}

/// The public half of a key that an operator's tool made for one command: X25519, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyKey([u8; Self::BYTES]);

impl ReplyKey {
    /// Length of its encoding.
    pub const BYTES: usize = 32;

    /// From 32 raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Seal an answer.
    pub fn seal(&self, place: Place<'_>, answer: &[u8]) -> Result<wire::Sealed, Error> {
        let key = HpkePublicKey(self.0.to_vec());
        let (encapsulated, ciphertext) = SUITE.seal(INFO, &place.bytes(), answer, &key).map_err(|_| Error::Seal)?;
        Ok(wire::Sealed { encapsulated_key: encapsulated.0.into(), ciphertext: ciphertext.into() })
    }
}

/// The private half, which never leaves the process that made it and is wiped when it is dropped.
pub struct Opener {
    private: HpkePrivateKey,
    public: ReplyKey,
}

impl Opener {
    /// A new key, for one command.
    pub fn generate() -> Result<Self, Error> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| Error::Seal)?;
        let public = ReplyKey::from_bytes(&public.0).ok_or(Error::Seal)?;
        Ok(Self { private, public })
    }

    /// What the agents seal to.
    pub fn reply_key(&self) -> ReplyKey {
        self.public
    }

    /// Open an answer.
    pub fn open(&self, place: Place<'_>, sealed: &wire::Sealed) -> Result<Vec<u8>, Error> {
        let encapsulated = EncapsulatedSecret(sealed.encapsulated_key.to_vec());
        SUITE.open(&encapsulated, INFO, &place.bytes(), &sealed.ciphertext, &self.private).map_err(|_| Error::Open)
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_at_its_place_for_who_asked_and_nowhere_else() {
        let (opener, other) = (Opener::generate().unwrap(), Opener::generate().unwrap());
        let (ely, york): (AgentId, AgentId) = ("ely".parse().unwrap(), "york".parse().unwrap());
        let command = CommandId::generate();
        let place = Place { command, agent: &ely, part: Some(3) };
        let sealed = opener.reply_key().seal(place, b"a child's name").unwrap();
        assert_eq!(opener.open(place, &sealed).unwrap(), b"a child's name");
        assert!(!sealed.ciphertext.windows(5).any(|bytes| bytes == b"child"));

        assert_eq!(other.open(place, &sealed), Err(Error::Open));
        for elsewhere in [
            Place { agent: &york, ..place },
            Place { command: CommandId::generate(), ..place },
            Place { part: Some(4), ..place },
            Place { part: None, ..place },
        ] {
            assert_eq!(opener.open(elsewhere, &sealed), Err(Error::Open), "{elsewhere:?}");
        }
        let mut changed = sealed.clone();
        changed.ciphertext = [&sealed.ciphertext[1..], b"x"].concat().into();
        assert_eq!(opener.open(place, &changed), Err(Error::Open));
        let none = wire::Sealed { encapsulated_key: b"short"[..].into(), ciphertext: sealed.ciphertext };
        assert_eq!(opener.open(place, &none), Err(Error::Open));
    }

    #[test]
    fn no_secret_is_printed() {
        let opener = Opener::generate().unwrap();
        assert!(!format!("{opener:?}").contains("private"));
    }
}
