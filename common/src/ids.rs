//! Identifiers: one newtype each, parsed once at the edge and trusted from there on.
//!
//! Names are what ends up in certificates, keys of the store and policy texts, so their
//! alphabet is small: lower-case letters, digits and hyphens.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest agent id or operator name, in bytes; leaves room in an S3 bucket name (63) for a prefix.
const MAX_NAME: usize = 48;

/// Why a text is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Names: `[a-z0-9-]`, no hyphen at either end.
    #[error("{value:?} is not a valid {what}: use 1 to {MAX_NAME} lower-case letters, digits and inner hyphens")]
    Name {
        /// What was expected.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// Accounts: 12 digits.
    #[error("{0:?} is not an AWS account: use its 12 digits")]
    Account(String),
    /// Roles of IAM.
    #[error("{0:?} is not the name of an IAM role: use 1 to 64 letters, digits and +=,.@_-, without path and ARN")]
    Role(String),
    /// Commands: a UUID of version 7.
    #[error("{0:?} is not a command id: it is a UUID of version 7, as hubctl printed it")]
    Command(String),
}

fn valid_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                if valid_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::Name { what: $what, value: text.chars().take(80).collect() })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// One agent, which is one LA's account: `northshire`.
    AgentId,
    "agent id"
);
name!(
    /// One person who operates the fleet: `alice`.
    OperatorName,
    "operator name"
);
name!(
    /// A named set of agents: `pilot`.
    GroupName,
    "group name"
);

/// A 12-digit AWS account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl AccountId {
    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Account(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for AccountId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<AccountId> for String {
    fn from(account: AccountId) -> String {
        account.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Name of an IAM role, without its path: STS does not tell that, and within an account the name alone is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleName(String);

impl RoleName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoleName {
    type Err = Error;
    /// IAM API reference, CreateRole: `[\w+=,.@-]+`, at most 64.
    fn from_str(text: &str) -> Result<Self, Error> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Role(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One command, for ever: a UUIDv7 made where the command is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(Uuid);

impl CommandId {
    /// A fresh id; later ids sort after earlier ones.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The sixteen bytes, which sort as the ids do in time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of sixteen stored bytes; `None` when they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().filter(|uuid| uuid.get_version_num() == 7).map(Self)
    }
}

impl FromStr for CommandId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text)
            .ok()
            .filter(|uuid| uuid.get_version_num() == 7)
            .map(Self)
            // One spelling: what is signed as one id is told and encoded as the same.
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| Error::Command(text.chars().take(80).collect()))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Position of a dispatch in one agent's order: an epoch, and a number from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// Grows only when a hub is restored from a backup.
    pub epoch: u64,
    /// Number in the epoch.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["a", "northshire", "la-7", &"x".repeat(48)] {
            assert_eq!(good.parse::<AgentId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "ä", "a_b", "a.b", &"x".repeat(49)] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn command_ids_are_uuid_7_and_sort_in_time() {
        let (a, b) = (CommandId::generate(), CommandId::generate());
        assert!(a < b);
        assert_eq!(a.to_string().parse::<CommandId>().unwrap(), a);
        assert_eq!(CommandId::from_bytes(a.as_bytes()), Some(a));
        assert!("5f0c1f5e-8d3c-4b8e-9d3a-0123456789ab".parse::<CommandId>().is_err(), "version 4");
        assert!(a.to_string().replace('-', "").parse::<CommandId>().is_err());
        let letters = "01a229ba-19ac-7792-bc27-6316a8c5c279";
        assert!(letters.parse::<CommandId>().is_ok());
        assert!(letters.to_uppercase().parse::<CommandId>().is_err(), "another spelling");
    }
}
