//! Whose signatures a command has: the one rule by which hub, agents and hubctl judge them.
//!
//! A command has the signature of the operator who orders it, and those of the operators who approve it, all over the
//! same bytes. Signatures are verified before those bytes are parsed. Two keys of one operator count once.

use jiff::Timestamp;
use sfdata_proto::v1 as wire;

use crate::{
    command::{Class, Command},
    envelope,
    ids::OperatorName,
    trust::{Bundle, OperatorKey},
};

/// Operators that have to sign what is of class destroy.
pub const DESTROY: usize = 2;

/// Why the signatures of a command do not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// None is of a key in the bundle.
    #[error("no operator of the trust bundle signed it")]
    Nobody,
    /// It names a key and was made by another, or over other bytes.
    #[error("the signature is not {0}'s")]
    Signature(OperatorName),
    /// Too late.
    #[error("{name}'s key expired at {at}")]
    Expired {
        /// Whose.
        name: OperatorName,
        /// When.
        at: Timestamp,
    },
}

/// The operators whose signatures hold, in the order of the signatures; at least one.
#[derive(Debug)]
pub struct Signers<'a>(Vec<&'a OperatorKey>);

impl<'a> Signers<'a> {
    /// Verify every signature by a key that the bundle lists; one that does not hold spoils all. Signatures by keys that it
    /// does not list, as of an operator who has left, count for nothing.
    pub fn of(envelope: &wire::Envelope, bundle: &'a Bundle, now: Timestamp) -> Result<Self, Wrong> {
        let mut signers: Vec<&OperatorKey> = Vec::new();
        for operator in envelope.signatures.iter().filter_map(|signature| bundle.signer(&signature.key_id)) {
            if signers.iter().any(|signer| signer.key == operator.key) {
                continue;
            }
            if !envelope::is_signed_by(envelope, Command::PAYLOAD_TYPE, &operator.key) {
                return Err(Wrong::Signature(operator.name.clone()));
            }
            if operator.expires <= now {
                return Err(Wrong::Expired { name: operator.name.clone(), at: operator.expires });
            }
            signers.push(operator);
        }
        if signers.is_empty() { Err(Wrong::Nobody) } else { Ok(Self(signers)) }
    }

    /// The one of that name.
    pub fn named(&self, name: &OperatorName) -> Option<&'a OperatorKey> {
        self.0.iter().find(|signer| signer.name == *name).copied()
    }

    /// Those beside `author` whose roles allow actions of this class, each once.
    pub fn approvers(&self, author: &OperatorName, class: Class) -> Vec<&'a OperatorName> {
        let may = |signer: &OperatorKey| signer.roles.iter().any(|role| role.grants(class));
        let mut names: Vec<&OperatorName> =
            self.0.iter().filter(|signer| signer.name != *author && may(signer)).map(|signer| &signer.name).collect();
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::SigningKey, trust::Role};

    fn key(name: &str, key: &SigningKey, role: Role, expires: i64) -> OperatorKey {
        OperatorKey {
            name: name.parse().unwrap(),
            key: key.public(),
            roles: vec![role],
            expires: Timestamp::from_second(expires).unwrap(),
        }
    }

    #[test]
    fn each_operator_counts_once_and_only_with_a_role_for_it() {
        let [alice, again, bob, viewer, stranger, old] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        let bundle = Bundle {
            version: 1,
            trust_domain: "sfdata.example".into(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: vec![],
            threshold: 1,
            operators: vec![
                key("alice", &alice, Role::Admin, 200),
                key("alice", &again, Role::Admin, 200),
                key("bob", &bob, Role::Admin, 200),
                key("carol", &viewer, Role::Viewer, 200),
                key("dave", &old, Role::Admin, 100),
            ],
            dispatch_keys: vec![],
            ca_certificates: vec![],
        };
        let now = Timestamp::from_second(100).unwrap();
        let author: OperatorName = "alice".parse().unwrap();
        let count = |keys: &[&SigningKey]| {
            let mut signed = envelope::seal(Command::PAYLOAD_TYPE, &b"payload"[..], keys[0]);
            keys[1..].iter().for_each(|key| envelope::add_signature(&mut signed, key));
            Signers::of(&signed, &bundle, now).map(|signers| signers.approvers(&author, Class::Destroy).len())
        };
        assert_eq!(count(&[&alice]), Ok(0));
        assert_eq!(count(&[&alice, &again]), Ok(0), "another key is no other person");
        assert_eq!(count(&[&alice, &viewer, &stranger]), Ok(0));
        assert_eq!(count(&[&stranger, &bob, &alice]), Ok(1));
        assert_eq!(count(&[&stranger]), Err(Wrong::Nobody));
        assert!(matches!(count(&[&alice, &old]), Err(Wrong::Expired { .. })));
        let mut forged = envelope::seal(Command::PAYLOAD_TYPE, &b"payload"[..], &alice);
        forged.signatures.push(wire::Signature { key_id: bob.id().to_owned(), ..forged.signatures[0].clone() });
        assert_eq!(Signers::of(&forged, &bundle, now).unwrap_err(), Wrong::Signature("bob".parse().unwrap()));
    }
}
