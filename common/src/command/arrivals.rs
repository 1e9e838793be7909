//! The orders about files that have arrived: what each may do, and how it goes over the wire.

use std::{fmt, str::FromStr};

use sfdata_proto::v1::{self as wire, arrivals_action as kind};

use super::{Class, ParseError, Resource, malformed, unknown};
use crate::keys::sha256;

/// Which arrival, without saying of what: the first half of a SHA-256, printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArrivalId([u8; Self::BYTES]);

impl ArrivalId {
    /// Length of its encoding.
    pub const BYTES: usize = 16;

    /// Of what is told apart by these parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut bytes = b"sfdata-arrival-v1".to_vec();
        for part in parts {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(*part);
        }
        let mut id = [0; Self::BYTES];
        id.copy_from_slice(&sha256(&bytes)[..Self::BYTES]);
        Self(id)
    }

    /// From 16 raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 16 raw bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for ArrivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for ArrivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ArrivalId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bytes = hex::decode(text).ok().and_then(|bytes| Self::from_bytes(&bytes));
        let canonical = bytes.filter(|id| id.to_string() == text);
        canonical.ok_or_else(|| {
            malformed(format!(
                "{text:?} is no id of an arrival: 32 hexadecimal digits, as hubctl arrivals list has them"
            ))
        })
    }
}

/// Actions on files that have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrivals {
    /// Tell what waits and what is parked, sealed. Always legal.
    List,
    /// Take a parked one up again. Repeating it is harmless.
    Retry(ArrivalId),
    /// Never hand on one that is parked or waits; the file stays where it is. Repeating it is harmless.
    Drop(ArrivalId),
}

impl Arrivals {
    /// `arrivals.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::List => "arrivals.list",
            Self::Retry(_) => "arrivals.retry",
            Self::Drop(_) => "arrivals.drop",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::List => Class::Data,
            Self::Retry(_) | Self::Drop(_) => Class::Operate,
        }
    }

    pub(super) fn reveals_data(&self) -> bool {
        matches!(self, Self::List)
    }

    pub(super) fn resource(&self) -> Option<Resource> {
        match self {
            Self::List => None,
            Self::Retry(_) | Self::Drop(_) => Some(Resource::Arrivals),
        }
    }

    pub(super) fn to_wire(&self) -> wire::ArrivalsAction {
        let kind = match self {
            Self::List => kind::Kind::List(wire::ArrivalsList {}),
            Self::Retry(id) => kind::Kind::Retry(wire::ArrivalRetry { id: id.to_string() }),
            Self::Drop(id) => kind::Kind::Drop(wire::ArrivalDrop { id: id.to_string() }),
        };
        wire::ArrivalsAction { kind: Some(kind) }
    }
}

impl TryFrom<wire::ArrivalsAction> for Arrivals {
    type Error = ParseError;

    fn try_from(message: wire::ArrivalsAction) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::List(_) => Self::List,
            kind::Kind::Retry(retry) => Self::Retry(retry.id.parse()?),
            kind::Kind::Drop(drop) => Self::Drop(drop.id.parse()?),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn any_action() -> impl Strategy<Value = Arrivals> {
        let id = any::<[u8; 16]>().prop_map(ArrivalId);
        prop_oneof![Just(Arrivals::List), id.clone().prop_map(Arrivals::Retry), id.prop_map(Arrivals::Drop),]
    }

    #[test]
    fn an_id_is_32_digits_and_tells_where_a_part_ends() {
        let id = ArrivalId::of(&[b"a", b"bc"]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, ArrivalId::of(&[b"ab", b"c"]));
        for illegal in ["", "0f", &id.to_string().to_uppercase(), &format!("{id}00"), &"g".repeat(32)] {
            assert!(illegal.parse::<ArrivalId>().is_err(), "{illegal}");
        }
    }
}
