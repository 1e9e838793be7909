//! Actions on the buckets of a platform: what each is called, may do and holds, and how it goes over the wire.

use std::{fmt, str::FromStr, time::Duration};

use sfdata_proto::v1::{self as wire, s3_action as kind};

use super::{Class, ParseError, Resource, deadline, malformed, seconds, unknown};
use crate::limits;

/// What a bucket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Where the LA uploads.
    DataStore,
    /// Between the steps of a pipeline.
    Workspace,
    /// What the core account may read, while the LA shares it.
    Shared,
    /// Copies of data store and shared.
    Backup,
}

impl Bucket {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::DataStore, Self::Workspace, Self::Shared, Self::Backup];

    /// `data-store`, `workspace`, `shared` or `backup`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DataStore => "data-store",
            Self::Workspace => "workspace",
            Self::Shared => "shared",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Bucket {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            malformed(format!("{text:?} is no bucket of a platform: data-store, workspace, shared or backup"))
        })
    }
}

/// Actions on the buckets of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3 {
    /// Objects and bytes of each bucket. Always legal; names no object.
    Usage {
        /// By folder as well, whose names are the LA's.
        by_prefix: bool,
    },
    /// Make the buckets and their settings as they should be. Repeating it is harmless.
    Ensure {
        /// This one, or all that the agent has.
        bucket: Option<Bucket>,
        /// How long it may take.
        deadline: Duration,
    },
    /// What [`S3::Ensure`] would change. Always legal.
    Drift {
        /// This one, or all that the agent has.
        bucket: Option<Bucket>,
    },
    /// Whether the core account may read the shared bucket. Always legal.
    ShareShow,
    /// Let it. Legal unless the LA has revoked it. Repeating it is harmless.
    ShareGrant,
    /// Let it no more. Repeating it is harmless.
    ShareRevoke,
    /// Nobody reads, writes or deletes what begins so. Repeating it is harmless.
    Quarantine {
        /// In which bucket.
        bucket: Bucket,
        /// Beginning of keys.
        prefix: String,
    },
    /// It may be read again. Repeating it is harmless.
    LiftQuarantine {
        /// In which bucket.
        bucket: Bucket,
        /// As it was given.
        prefix: String,
    },
    /// What is in quarantine. Always legal.
    Quarantines,
    /// A URL to write one object by. Legal where the LA's policy allows data.
    UploadUrl(Object),
    /// A URL to read one object by. Legal where the LA's policy allows data and the object is there.
    DownloadUrl(Object),
}

/// One object, and how long a URL to it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// In which bucket.
    pub bucket: Bucket,
    /// Which one.
    pub key: String,
    /// How long.
    pub expires: Duration,
}

impl Object {
    fn parse(bucket: &str, key: String, expires_seconds: u32) -> Result<Self, ParseError> {
        let expires = Duration::from_secs(expires_seconds.into());
        if expires.is_zero() || expires > limits::PRESIGNED_URL {
            let most = limits::PRESIGNED_URL;
            return Err(malformed(format!("a URL that is good for {expires_seconds} s: 1 s to {most:?} are allowed")));
        }
        if key.is_empty() || key.len() > limits::OBJECT_KEY_BYTES || key.contains(char::is_control) {
            let most = limits::OBJECT_KEY_BYTES;
            return Err(malformed(format!("a key has 1 to {most} bytes, and no control characters")));
        }
        Ok(Self { bucket: bucket.parse()?, key, expires })
    }
}

impl S3 {
    /// `s3.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "s3.usage",
            Self::Ensure { .. } => "s3.ensure",
            Self::Drift { .. } => "s3.drift",
            Self::ShareShow => "s3.share_show",
            Self::ShareGrant => "s3.share_grant",
            Self::ShareRevoke => "s3.share_revoke",
            Self::Quarantine { .. } => "s3.quarantine",
            Self::LiftQuarantine { .. } => "s3.lift_quarantine",
            Self::Quarantines => "s3.quarantines",
            Self::UploadUrl(_) => "s3.upload_url",
            Self::DownloadUrl(_) => "s3.download_url",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Usage { by_prefix: true }
            | Self::LiftQuarantine { .. }
            | Self::UploadUrl(_)
            | Self::DownloadUrl(_) => Class::Data,
            Self::Usage { by_prefix: false } | Self::Drift { .. } | Self::ShareShow | Self::Quarantines => Class::Read,
            Self::Ensure { .. } | Self::ShareGrant | Self::Quarantine { .. } => Class::Change,
            Self::ShareRevoke => Class::Operate,
        }
    }

    pub(super) fn reveals_data(&self) -> bool {
        matches!(self, Self::Usage { by_prefix: true } | Self::UploadUrl(_) | Self::DownloadUrl(_))
    }

    pub(super) fn resource(&self) -> Option<Resource> {
        match self {
            Self::Usage { .. }
            | Self::Drift { .. }
            | Self::ShareShow
            | Self::Quarantines
            | Self::UploadUrl(_)
            | Self::DownloadUrl(_) => None,
            Self::Ensure { .. }
            | Self::ShareGrant
            | Self::ShareRevoke
            | Self::Quarantine { .. }
            | Self::LiftQuarantine { .. } => Some(Resource::Buckets),
        }
    }

    pub(super) fn to_wire(&self) -> wire::S3Action {
        let named = |bucket: &Option<Bucket>| bucket.map(|bucket| bucket.to_string()).unwrap_or_default();
        let kind = match self {
            Self::Usage { by_prefix } => kind::Kind::Usage(wire::S3Usage { by_prefix: *by_prefix }),
            Self::Ensure { bucket, deadline } => {
                kind::Kind::Ensure(wire::S3Ensure { bucket: named(bucket), deadline_seconds: seconds(*deadline) })
            }
            Self::Drift { bucket } => kind::Kind::Drift(wire::S3Drift { bucket: named(bucket) }),
            Self::ShareShow => kind::Kind::ShareShow(wire::S3ShareShow {}),
            Self::ShareGrant => kind::Kind::ShareGrant(wire::S3ShareGrant {}),
            Self::ShareRevoke => kind::Kind::ShareRevoke(wire::S3ShareRevoke {}),
            Self::Quarantine { bucket, prefix } => {
                kind::Kind::Quarantine(wire::S3Quarantine { bucket: bucket.to_string(), prefix: prefix.clone() })
            }
            Self::LiftQuarantine { bucket, prefix } => kind::Kind::LiftQuarantine(wire::S3LiftQuarantine {
                bucket: bucket.to_string(),
                prefix: prefix.clone(),
            }),
            Self::Quarantines => kind::Kind::Quarantines(wire::S3Quarantines {}),
            Self::UploadUrl(Object { bucket, key, expires }) => kind::Kind::UploadUrl(wire::S3UploadUrl {
                bucket: bucket.to_string(),
                key: key.clone(),
                expires_seconds: seconds(*expires),
            }),
            Self::DownloadUrl(Object { bucket, key, expires }) => kind::Kind::DownloadUrl(wire::S3DownloadUrl {
                bucket: bucket.to_string(),
                key: key.clone(),
                expires_seconds: seconds(*expires),
            }),
        };
        wire::S3Action { kind: Some(kind) }
    }
}

impl TryFrom<wire::S3Action> for S3 {
    type Error = ParseError;

    fn try_from(message: wire::S3Action) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::Usage(usage) => Self::Usage { by_prefix: usage.by_prefix },
            kind::Kind::Ensure(ensure) => {
                Self::Ensure { bucket: named(&ensure.bucket)?, deadline: deadline(ensure.deadline_seconds)? }
            }
            kind::Kind::Drift(drift) => Self::Drift { bucket: named(&drift.bucket)? },
            kind::Kind::ShareShow(_) => Self::ShareShow,
            kind::Kind::ShareGrant(_) => Self::ShareGrant,
            kind::Kind::ShareRevoke(_) => Self::ShareRevoke,
            kind::Kind::Quarantine(begin) => {
                Self::Quarantine { bucket: begin.bucket.parse()?, prefix: prefix(begin.prefix)? }
            }
            kind::Kind::LiftQuarantine(lift) => {
                Self::LiftQuarantine { bucket: lift.bucket.parse()?, prefix: prefix(lift.prefix)? }
            }
            kind::Kind::Quarantines(_) => Self::Quarantines,
            kind::Kind::UploadUrl(url) => Self::UploadUrl(Object::parse(&url.bucket, url.key, url.expires_seconds)?),
            kind::Kind::DownloadUrl(url) => {
                Self::DownloadUrl(Object::parse(&url.bucket, url.key, url.expires_seconds)?)
            }
        })
    }
}

fn named(bucket: &str) -> Result<Option<Bucket>, ParseError> {
    if bucket.is_empty() { Ok(None) } else { bucket.parse().map(Some) }
}

/// A beginning of keys that means itself in a policy: there `*` and `?` stand for others, and `${` begins a variable.
fn prefix(prefix: String) -> Result<String, ParseError> {
    if prefix.is_empty() || prefix.len() > limits::QUARANTINE_PREFIX_BYTES {
        return Err(malformed(format!("a prefix has 1 to {} bytes", limits::QUARANTINE_PREFIX_BYTES)));
    }
    if prefix.contains(['*', '?']) || prefix.contains("${") || prefix.contains(char::is_control) {
        return Err(malformed(format!("{prefix:?} holds *, ?, ${{ or a control character, which no prefix may")));
    }
    Ok(prefix)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn any_bucket() -> impl Strategy<Value = Bucket> {
        select(&Bucket::ALL[..])
    }

    pub(in super::super) fn any_action() -> impl Strategy<Value = S3> {
        let deadline = (1u64..3600).prop_map(Duration::from_secs);
        let object = || {
            (any_bucket(), "[a-zé/ ]{1,20}", 1u64..=3600).prop_map(|(bucket, key, expires)| Object {
                bucket,
                key,
                expires: Duration::from_secs(expires),
            })
        };
        prop_oneof![
            object().prop_map(S3::UploadUrl),
            object().prop_map(S3::DownloadUrl),
            any::<bool>().prop_map(|by_prefix| S3::Usage { by_prefix }),
            (proptest::option::of(any_bucket()), deadline)
                .prop_map(|(bucket, deadline)| S3::Ensure { bucket, deadline }),
            proptest::option::of(any_bucket()).prop_map(|bucket| S3::Drift { bucket }),
            select(&[S3::ShareShow, S3::ShareGrant, S3::ShareRevoke, S3::Quarantines][..]),
            (any_bucket(), "[a-zé/ ]{1,20}").prop_map(|(bucket, prefix)| S3::Quarantine { bucket, prefix }),
            (any_bucket(), "[a-zé/ ]{1,20}").prop_map(|(bucket, prefix)| S3::LiftQuarantine { bucket, prefix }),
        ]
    }

    #[test]
    fn a_url_is_for_one_object_and_an_hour_at_most() {
        assert!(Object::parse("shared", "a/b.csv".into(), 3600).is_ok());
        let long = "x".repeat(limits::OBJECT_KEY_BYTES + 1);
        for (bucket, key, seconds) in [
            ("shared", "a", 0),
            ("shared", "a", 3601),
            ("shared", "", 1),
            ("shared", "a\n", 1),
            ("shared", &long, 1),
            ("x", "a", 1),
        ] {
            assert!(Object::parse(bucket, key.into(), seconds).is_err(), "{bucket} {key} {seconds}");
        }
    }

    #[test]
    fn a_prefix_means_itself() {
        for right in ["a", "in/2024/", "$5/", "{x}"] {
            assert!(prefix(right.into()).is_ok(), "{right}");
        }
        for wrong in ["", "a*", "?", "${aws:userid}", "a\n", &"x".repeat(limits::QUARANTINE_PREFIX_BYTES + 1)] {
            assert!(prefix(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bucket_that_no_platform_has_is_refused() {
        let drift = |bucket: &str| {
            let drift = wire::S3Drift { bucket: bucket.into() };
            S3::try_from(wire::S3Action { kind: Some(kind::Kind::Drift(drift)) })
        };
        assert_eq!(drift("shared"), Ok(S3::Drift { bucket: Some(Bucket::Shared) }));
        assert!(drift("access-logs").unwrap_err().to_string().contains("data-store, workspace, shared or backup"));
    }
}
