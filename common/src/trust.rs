//! The trust bundle: who may sign what. Made offline, carried by the hub, pinned by agents.
//!
//! It works as TUF's root does (TUF specification, section 5.3): version N+1 needs the threshold of N's root
//! keys and of its own; versions neither go down nor skip. So the hub can carry it and can't change it.

use std::fmt;

use jiff::Timestamp;
use prost::Message as _;
use sfdata_proto::v1 as wire;

use crate::{
    command::Class,
    envelope,
    ids::OperatorName,
    keys::{PublicKey, sha256},
};

/// What an operator's key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Looks and operates.
    Operator,
    /// Looks, operates and changes.
    Maintainer,
    /// Looks, and sees an LA's data where the LA allows it.
    DataSteward,
    /// Everything, and the fleet itself.
    Admin,
}

impl Role {
    /// All roles, as offered by `--role`.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Operator, Self::Maintainer, Self::DataSteward, Self::Admin];

    /// The word used in policies and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Maintainer => "maintainer",
            Self::DataSteward => "data-steward",
            Self::Admin => "admin",
        }
    }

    /// Whether a command of that class may be signed by this role.
    pub fn grants(self, class: Class) -> bool {
        match self {
            Self::Viewer => class == Class::Read,
            Self::Operator => matches!(class, Class::Read | Class::Operate),
            Self::Maintainer => matches!(class, Class::Read | Class::Operate | Class::Change),
            Self::DataSteward => matches!(class, Class::Read | Class::Data),
            Self::Admin => true,
        }
    }

    fn from_wire(role: i32) -> Option<Self> {
        Some(match wire::OperatorRole::try_from(role).ok()? {
            wire::OperatorRole::Unspecified => return None,
            wire::OperatorRole::Viewer => Self::Viewer,
            wire::OperatorRole::Operator => Self::Operator,
            wire::OperatorRole::Maintainer => Self::Maintainer,
            wire::OperatorRole::DataSteward => Self::DataSteward,
            wire::OperatorRole::Admin => Self::Admin,
        })
    }

    fn to_wire(self) -> wire::OperatorRole {
        match self {
            Self::Viewer => wire::OperatorRole::Viewer,
            Self::Operator => wire::OperatorRole::Operator,
            Self::Maintainer => wire::OperatorRole::Maintainer,
            Self::DataSteward => wire::OperatorRole::DataSteward,
            Self::Admin => wire::OperatorRole::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One operator's signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorKey {
    /// Whose it is.
    pub name: OperatorName,
    /// The public half.
    pub key: PublicKey,
    /// What it may be used for.
    pub roles: Vec<Role>,
    /// Not valid from then on.
    pub expires: Timestamp,
}

/// The content of a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// From 1, one by one.
    pub version: u64,
    /// First part of every identity: `sfdata.example`.
    pub trust_domain: String,
    /// When it was made.
    pub issued: Timestamp,
    /// Keys that sign bundles.
    pub root_keys: Vec<PublicKey>,
    /// How many of them must.
    pub threshold: usize,
    /// Keys that sign commands.
    pub operators: Vec<OperatorKey>,
    /// Keys that sign dispatches.
    pub dispatch_keys: Vec<PublicKey>,
    /// Certificates that issue leaves, in DER.
    pub ca_certificates: Vec<Vec<u8>>,
}

/// Why a bundle or statement is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a bundle.
    #[error("the trust bundle is not valid: {0}")]
    Malformed(String),
    /// Too few signatures.
    #[error(
        "trust bundle version {version} has {have} of {need} signatures by {whose} root keys; \
         sign it with more of them (hubctl trust sign)"
    )]
    Threshold {
        /// Version of the refused bundle.
        version: u64,
        /// Signatures that hold.
        have: usize,
        /// Signatures needed.
        need: usize,
        /// `its own` or `the previous version's`.
        whose: &'static str,
    },
    /// Version goes down, stays or skips.
    #[error("trust bundle version {offered} does not follow version {current}; the next one must be {}", current + 1)]
    Version {
        /// Version held.
        current: u64,
        /// Version offered.
        offered: u64,
    },
    /// Another organisation's.
    #[error("the trust bundle is for {offered}, not for {ours}")]
    TrustDomain {
        /// Ours.
        ours: String,
        /// Theirs.
        offered: String,
    },
    /// Other root keys than those pinned.
    #[error("the trust bundle's root keys are not those that were pinned; ask whoever invited you for a new token")]
    Pin,
    /// A statement that an admin did not sign.
    #[error("the epoch statement is not signed by an operator with role admin who is in the trust bundle")]
    Statement,
}

fn malformed(what: impl fmt::Display) -> Error {
    Error::Malformed(what.to_string())
}

impl Bundle {
    /// Media type of a signed bundle.
    pub const PAYLOAD_TYPE: &'static str = "application/vnd.sfdata.trust-bundle.v1+protobuf";
    const PEM_TAG: &'static str = "SFDATA TRUST BUNDLE";

    /// Read the payload without judging its signatures: for showing and for signing.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let message = wire::TrustBundle::decode(payload).map_err(malformed)?;
        let key = |bytes: &[u8]| PublicKey::from_bytes(bytes).ok_or_else(|| malformed("a key is not 32 bytes long"));
        let root = message.root.unwrap_or_default();
        let root_keys: Vec<_> = root.keys.iter().map(|bytes| key(bytes)).collect::<Result<_, _>>()?;
        let threshold = root.threshold as usize;
        if threshold == 0 || threshold > root_keys.len() {
            return Err(malformed(format!("threshold {threshold} of {} root keys", root_keys.len())));
        }
        let mut operators = Vec::with_capacity(message.operators.len());
        for operator in message.operators {
            let roles: Option<Vec<Role>> = operator.roles.into_iter().map(Role::from_wire).collect();
            operators.push(OperatorKey {
                name: operator.name.parse().map_err(malformed)?,
                key: key(&operator.public_key)?,
                roles: roles.ok_or_else(|| malformed("an operator has a role that this version does not know"))?,
                expires: Timestamp::from_millisecond(operator.expires_unix_ms).map_err(malformed)?,
            });
        }
        Ok(Self {
            version: message.version,
            trust_domain: message.trust_domain,
            issued: Timestamp::from_millisecond(message.issued_unix_ms).map_err(malformed)?,
            root_keys,
            threshold,
            operators,
            dispatch_keys: message.dispatch_keys.iter().map(|bytes| key(bytes)).collect::<Result<_, _>>()?,
            ca_certificates: message.ca_certificates.into_iter().map(|der| der.to_vec()).collect(),
        })
    }

    /// The payload to be signed.
    pub fn encode(&self) -> Vec<u8> {
        let raw = |key: &PublicKey| key.as_bytes().to_vec().into();
        wire::TrustBundle {
            version: self.version,
            trust_domain: self.trust_domain.clone(),
            issued_unix_ms: self.issued.as_millisecond(),
            root: Some(wire::RootKeys {
                keys: self.root_keys.iter().map(raw).collect(),
                threshold: self.threshold.try_into().unwrap_or(u32::MAX),
            }),
            operators: self
                .operators
                .iter()
                .map(|operator| wire::OperatorKey {
                    name: operator.name.to_string(),
                    public_key: raw(&operator.key),
                    roles: operator.roles.iter().map(|role| role.to_wire().into()).collect(),
                    expires_unix_ms: operator.expires.as_millisecond(),
                })
                .collect(),
            dispatch_keys: self.dispatch_keys.iter().map(raw).collect(),
            ca_certificates: self.ca_certificates.iter().map(|der| der.clone().into()).collect(),
        }
        .encode_to_vec()
    }

    /// An envelope around this bundle that nobody has signed yet.
    pub fn unsigned(&self) -> wire::Envelope {
        wire::Envelope {
            payload_type: Self::PAYLOAD_TYPE.to_owned(),
            payload: self.encode().into(),
            signatures: Vec::new(),
        }
    }

    /// What tokens and configurations pin: the root keys and how many of them must sign.
    pub fn root_pin(&self) -> [u8; 32] {
        let mut keys = self.root_keys.clone();
        keys.sort();
        let mut text = format!("sfdata root keys v1 {}", self.threshold).into_bytes();
        keys.iter().for_each(|key| text.extend_from_slice(key.as_bytes()));
        sha256(&text)
    }

    /// Accept a first bundle: signed by its own threshold and, where one is pinned, with those root keys.
    pub fn verify_first(envelope: &wire::Envelope, pin: Option<&[u8]>) -> Result<Self, Error> {
        let bundle = Self::parse(&envelope.payload)?;
        bundle.check_threshold(envelope, &bundle, "its own")?;
        match pin {
            Some(pin) if pin != bundle.root_pin() => Err(Error::Pin),
            _ => Ok(bundle),
        }
    }

    /// Accept the bundle that follows this one.
    pub fn verify_next(&self, envelope: &wire::Envelope) -> Result<Self, Error> {
        let next = Self::parse(&envelope.payload)?;
        if next.version != self.version + 1 {
            return Err(Error::Version { current: self.version, offered: next.version });
        }
        if next.trust_domain != self.trust_domain {
            return Err(Error::TrustDomain { ours: self.trust_domain.clone(), offered: next.trust_domain });
        }
        self.check_threshold(envelope, &next, "the previous version's")?;
        next.check_threshold(envelope, &next, "its own")?;
        Ok(next)
    }

    fn check_threshold(&self, envelope: &wire::Envelope, of: &Self, whose: &'static str) -> Result<(), Error> {
        let have = envelope::count_signers(envelope, Self::PAYLOAD_TYPE, &self.root_keys);
        if have < self.threshold {
            return Err(Error::Threshold { version: of.version, have, need: self.threshold, whose });
        }
        Ok(())
    }

    /// The keys of an operator: one, or two while one takes the other's place.
    pub fn operator_keys(&self, name: &OperatorName) -> impl Iterator<Item = &OperatorKey> {
        self.operators.iter().filter(move |operator| operator.name == *name)
    }

    /// The key of an operator that holds longest.
    pub fn operator(&self, name: &OperatorName) -> Option<&OperatorKey> {
        self.operator_keys(name).max_by_key(|operator| operator.expires)
    }

    /// Whose key has this id.
    pub fn signer(&self, key_id: &str) -> Option<&OperatorKey> {
        self.operators.iter().find(|operator| operator.key.id() == key_id)
    }

    /// Accept an operator's word that the hub was restored and counts anew from a higher epoch.
    pub fn verify_epoch(&self, envelope: &wire::Envelope, now: Timestamp) -> Result<wire::EpochStatement, Error> {
        let statement = wire::EpochStatement::decode(&envelope.payload[..]).map_err(|_| Error::Statement)?;
        let name: OperatorName = statement.operator.parse().map_err(|_| Error::Statement)?;
        let signed = self.operator_keys(&name).any(|operator| {
            let admin = operator.roles.contains(&Role::Admin) && operator.expires > now;
            admin && envelope::is_signed_by(envelope, EPOCH_PAYLOAD_TYPE, &operator.key)
        });
        if signed && statement.trust_domain == self.trust_domain { Ok(statement) } else { Err(Error::Statement) }
    }
}

/// Media type of a signed epoch statement.
pub const EPOCH_PAYLOAD_TYPE: &str = "application/vnd.sfdata.epoch.v1+protobuf";

const HUB_IDENTITY_TAG: &str = "SFDATA HUB IDENTITY";

/// What a hub shows of itself, as text: written by the hub, read where a bundle is made for it.
pub fn hub_identity_to_pem(identity: &wire::HubIdentity) -> String {
    pem::encode(&pem::Pem::new(HUB_IDENTITY_TAG, identity.encode_to_vec()))
}

/// What a hub shows of itself, from its file's text.
pub fn hub_identity_from_pem(text: &[u8]) -> Option<wire::HubIdentity> {
    let block = pem::parse(text).ok().filter(|block| block.tag() == HUB_IDENTITY_TAG)?;
    wire::HubIdentity::decode(block.contents()).ok()
}

/// A bundle's envelope as text, for files.
pub fn to_pem(envelope: &wire::Envelope) -> String {
    pem::encode(&pem::Pem::new(Bundle::PEM_TAG, envelope.encode_to_vec()))
}

/// A bundle's envelope from its file's text.
pub fn from_pem(text: &[u8]) -> Result<wire::Envelope, Error> {
    let block = pem::parse(text).map_err(|_| malformed("the file is not in PEM"))?;
    if block.tag() != Bundle::PEM_TAG {
        return Err(malformed(format!("the file holds a {}", block.tag())));
    }
    wire::Envelope::decode(block.contents()).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn bundle(version: u64, roots: &[&SigningKey], threshold: usize) -> Bundle {
        Bundle {
            version,
            trust_domain: "sfdata.example".into(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: roots.iter().map(|key| key.public()).collect(),
            threshold,
            operators: vec![OperatorKey {
                name: "alice".parse().unwrap(),
                key: SigningKey::generate().unwrap().public(),
                roles: vec![Role::Operator],
                expires: Timestamp::from_second(4_000_000_000).unwrap(),
            }],
            dispatch_keys: vec![],
            ca_certificates: vec![vec![1, 2, 3]],
        }
    }

    fn sign(bundle: &Bundle, keys: &[&SigningKey]) -> wire::Envelope {
        let mut envelope = bundle.unsigned();
        keys.iter().for_each(|key| envelope::add_signature(&mut envelope, key));
        envelope
    }

    #[test]
    fn a_bundle_survives_file_and_wire() {
        let a = SigningKey::generate().unwrap();
        let first = bundle(1, &[&a], 1);
        let envelope = from_pem(to_pem(&sign(&first, &[&a])).as_bytes()).unwrap();
        assert_eq!(Bundle::verify_first(&envelope, Some(&first.root_pin())).unwrap(), first);
        assert_eq!(Bundle::verify_first(&envelope, Some(&[0; 32])), Err(Error::Pin));
    }

    #[test]
    fn rotation_needs_the_old_threshold_and_the_new_one() {
        let [a, b, c, d] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        let first = bundle(1, &[&a, &b, &c], 2);
        let second = bundle(2, &[&c, &d], 2);
        let verify = |keys: &[&SigningKey]| first.verify_next(&sign(&second, keys));
        assert!(
            matches!(verify(&[&c, &d]), Err(Error::Threshold { have: 1, need: 2, whose, .. }) if whose.starts_with("the previous"))
        );
        assert!(matches!(verify(&[&a, &b]), Err(Error::Threshold { have: 0, whose: "its own", .. })));
        assert!(matches!(verify(&[&a, &b, &c]), Err(Error::Threshold { have: 1, whose: "its own", .. })));
        assert_eq!(verify(&[&b, &c, &d]).unwrap(), second);
    }

    #[test]
    fn versions_neither_go_down_nor_skip() {
        let a = SigningKey::generate().unwrap();
        let second = bundle(2, &[&a], 1);
        for offered in [1, 2, 4] {
            assert_eq!(
                second.verify_next(&sign(&bundle(offered, &[&a], 1), &[&a])),
                Err(Error::Version { current: 2, offered })
            );
        }
        let mut foreign = bundle(3, &[&a], 1);
        foreign.trust_domain = "other.example".into();
        assert!(matches!(second.verify_next(&sign(&foreign, &[&a])), Err(Error::TrustDomain { .. })));
    }

    #[test]
    fn only_an_admin_states_an_epoch() {
        let (root, key) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut held = bundle(1, &[&root], 1);
        held.operators[0].key = key.public();
        let statement = wire::EpochStatement {
            trust_domain: "sfdata.example".into(),
            epoch: 2,
            operator: "alice".into(),
            ..Default::default()
        };
        let envelope = envelope::seal(EPOCH_PAYLOAD_TYPE, statement.encode_to_vec(), &key);
        assert_eq!(held.verify_epoch(&envelope, Timestamp::UNIX_EPOCH), Err(Error::Statement));
        held.operators[0].roles = vec![Role::Admin];
        assert_eq!(held.verify_epoch(&envelope, Timestamp::UNIX_EPOCH).unwrap().epoch, 2);
    }
}
