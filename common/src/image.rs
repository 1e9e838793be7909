//! Container images in ECR: a repository, and one image of it by digest. A tag can be moved; what is signed cannot.

use std::{fmt, str::FromStr};

/// Registry, region and name: `111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The AWS account whose registry it is: 12 digits.
    pub registry: String,
    /// Where the registry is.
    pub region: String,
    /// With its namespaces.
    pub name: String,
}

/// One image, by digest: `111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub repository: Repository,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somewhere else, or misspelt.
    #[error(
        "{0:?} is no repository of ECR; write it whole, as in 111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster"
    )]
    Repository(String),
    /// The same, without its registry.
    #[error("{0:?} is no repository's name; write it as ECR lists it, without its registry, as in sfdata/dagster")]
    RepositoryName(String),
    /// Not a digest alone.
    #[error("{0:?} names no digest; write sha256: and 64 hexadecimal digits")]
    DigestAlone(String),
    /// By tag, or by nothing.
    #[error("{0:?} names no digest; write REPOSITORY@sha256: and 64 hexadecimal digits, or use --tag")]
    Digest(String),
    /// Not what a registry takes.
    #[error("{0:?} is no tag: up to 128 letters, digits, underscores, full stops and hyphens")]
    Tag(String),
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = || {
            let (host, name) = text.split_once('/')?;
            let (registry, host) = host.split_once(".dkr.ecr.")?;
            let region = host.strip_suffix(".amazonaws.com")?;
            let legal = registry.len() == 12
                && registry.bytes().all(|c| c.is_ascii_digit())
                && (1..=32).contains(&region.len())
                && region.bytes().all(|c| lower(c) || c == b'-')
                && is_name(name);
            legal.then(|| Self { registry: registry.into(), region: region.into(), name: name.into() })
        };
        parts().ok_or_else(|| Error::Repository(text.into()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.dkr.ecr.{}.amazonaws.com/{}", self.registry, self.region, self.name)
    }
}

impl FromStr for Image {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('@') {
            Some((repository, of)) if is_digest(of) => Ok(Self { repository: repository.parse()?, digest: of.into() }),
            _ => Err(Error::Digest(text.into())),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

fn lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// ECR API reference, CreateRepository.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.bytes().all(|c| lower(c) || matches!(c, b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(lower)
            && part.bytes().last().is_some_and(lower)
    };
    (2..=256).contains(&name.len()) && name.split('/').all(part)
}

fn is_digest(digest: &str) -> bool {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'a'..=b'f'))
}

/// The name of a repository in a registry that is known otherwise. That of a registry itself, which looks like a namespace,
/// is none.
pub fn repository_name(name: String) -> Result<String, Error> {
    if is_name(&name) && !name.contains(".dkr.ecr.") { Ok(name) } else { Err(Error::RepositoryName(name)) }
}

/// A digest by itself.
pub fn digest(text: String) -> Result<String, Error> {
    if is_digest(&text) { Ok(text) } else { Err(Error::DigestAlone(text)) }
}

/// A tag, if it can be one (OCI distribution specification).
pub fn tag(text: String) -> Result<String, Error> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let legal = text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'));
    if legal { Ok(text) } else { Err(Error::Tag(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: &str = "111111111111.dkr.ecr.eu-west-2.amazonaws.com/team/dagster";

    #[test]
    fn an_image_is_a_digest_of_a_repository_of_ecr() {
        let text = format!("{REPOSITORY}@sha256:{}", "0a".repeat(32));
        let image: Image = text.parse().unwrap();
        assert_eq!(
            (image.repository.registry.as_str(), image.repository.region.as_str()),
            ("111111111111", "eu-west-2")
        );
        assert_eq!((image.repository.name.as_str(), image.to_string()), ("team/dagster", text));
    }

    #[test]
    fn what_can_be_moved_or_is_elsewhere_is_no_image() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for bad in [
            format!("{REPOSITORY}:latest"),
            format!("{REPOSITORY}@sha256:0a"),
            format!("{REPOSITORY}@{}", digest.to_uppercase()),
            format!("docker.io/library/nginx@{digest}"),
            format!("{REPOSITORY}/@{digest}"),
            format!("{REPOSITORY}:latest@{digest}"),
            format!("1.dkr.ecr.eu-west-2.amazonaws.com/dagster@{digest}"),
        ] {
            assert!(bad.parse::<Image>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_begins_with_a_word_and_is_bounded() {
        assert!(tag("2024.11.2-rc_1".into()).is_ok());
        for bad in [String::new(), "-x".into(), ".x".into(), "a/b".into(), "x".repeat(129)] {
            assert!(tag(bad.clone()).is_err(), "{bad}");
        }
    }
}
