//! Actions on the buckets of a platform: what each is called, may do and holds, and how it goes over the wire.

use sfdata_proto::v1::{self as wire, s3_action as kind};

use super::{Class, ParseError, unknown};

/// Actions on the buckets of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3 {
    /// Objects and bytes of each bucket. Always legal; names no object.
    Usage,
}

impl S3 {
    /// `s3.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Usage => "s3.usage",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Usage => Class::Read,
        }
    }

    pub(super) fn to_wire(&self) -> wire::S3Action {
        let kind = match self {
            Self::Usage => kind::Kind::Usage(wire::S3Usage {}),
        };
        wire::S3Action { kind: Some(kind) }
    }
}

impl TryFrom<wire::S3Action> for S3 {
    type Error = ParseError;

    fn try_from(message: wire::S3Action) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::Usage(_) => Self::Usage,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn any_action() -> impl Strategy<Value = S3> {
        Just(S3::Usage)
    }
}
