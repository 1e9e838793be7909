//! The orders about images in the registry of the agent's own account: what each may do, and how it goes over the wire.

use sfdata_proto::v1::{self as wire, images_action as kind};

use super::{Class, ParseError, Resource, malformed, unknown};
use crate::image;

/// Actions on images in ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Images {
    /// Tell what there is. Always legal.
    List {
        /// One of the agent's repositories; none is all.
        repository: Option<String>,
    },
    /// Give an image a tag that no other has. Repeating it is harmless.
    Promote {
        /// One of the agent's repositories.
        repository: String,
        /// `sha256:` and 64 hexadecimal digits.
        digest: String,
        /// What it shall be called.
        tag: String,
    },
}

impl Images {
    /// `images.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::List { .. } => "images.list",
            Self::Promote { .. } => "images.promote",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::List { .. } => Class::Read,
            Self::Promote { .. } => Class::Change,
        }
    }

    pub(super) fn resource(&self) -> Option<Resource> {
        match self {
            Self::List { .. } => None,
            Self::Promote { repository, .. } => Some(Resource::Images(repository.clone())),
        }
    }

    pub(super) fn to_wire(&self) -> wire::ImagesAction {
        let kind = match self {
            Self::List { repository } => {
                kind::Kind::List(wire::ImagesList { repository: repository.clone().unwrap_or_default() })
            }
            Self::Promote { repository, digest, tag } => kind::Kind::Promote(wire::ImagesPromote {
                repository: repository.clone(),
                digest: digest.clone(),
                tag: tag.clone(),
            }),
        };
        wire::ImagesAction { kind: Some(kind) }
    }
}

impl TryFrom<wire::ImagesAction> for Images {
    type Error = ParseError;

    fn try_from(message: wire::ImagesAction) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::List(list) => {
                let repository = Some(list.repository).filter(|name| !name.is_empty());
                Self::List { repository: repository.map(image::repository_name).transpose().map_err(malformed)? }
            }
            kind::Kind::Promote(promote) => Self::Promote {
                repository: image::repository_name(promote.repository).map_err(malformed)?,
                digest: image::digest(promote.digest).map_err(malformed)?,
                tag: image::tag(promote.tag).map_err(malformed)?,
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn any_action() -> impl Strategy<Value = Images> {
        let name = "[a-z0-9]{2,9}(/[a-z0-9]{1,9})?";
        prop_oneof![
            proptest::option::of(name).prop_map(|repository| Images::List { repository }),
            (name, "sha256:[0-9a-f]{64}", "[a-z0-9_][a-z0-9_.-]{0,20}")
                .prop_map(|(repository, digest, tag)| Images::Promote { repository, digest, tag }),
        ]
    }

    #[test]
    fn what_names_no_image_is_no_order() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let parse = |repository: &str, digest: &str, tag: &str| {
            let promote = wire::ImagesPromote { repository: repository.into(), digest: digest.into(), tag: tag.into() };
            Images::try_from(wire::ImagesAction { kind: Some(kind::Kind::Promote(promote)) })
        };
        assert!(parse("sfdata/dagster", &digest, "2024.12.1").is_ok());
        for (repository, digest, tag) in [
            ("", &*digest, "1"),
            ("111111111111.dkr.ecr.eu-west-2.amazonaws.com/sfdata/dagster", &digest, "1"),
            ("sfdata/dagster", "latest", "1"),
            ("sfdata/dagster", &digest, "-1"),
            ("sfdata/*", &digest, "1"),
        ] {
            assert!(parse(repository, digest, tag).is_err(), "{repository} {digest} {tag}");
        }
    }
}
