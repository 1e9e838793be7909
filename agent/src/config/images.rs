//! The `[images]` section: which repositories of the account's own registry operators may see and tag. The core account's
//! agent has one. A repository that is not named is not looked at.

use serde::Deserialize;
use sfdata_common::{image, limits};

use super::Problem;

/// The `[images]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    /// Names of repositories of the account's own registry, such as `sfdata/dagster`.
    pub repositories: Vec<String>,
}

/// What can't be meant.
#[derive(Debug, thiserror::Error)]
pub enum Odd {
    /// One of them.
    #[error(transparent)]
    Name(image::Error),
    /// Too many.
    #[error("there are {count}, and {} at most; name those of the platform", limits::IMAGE_REPOSITORIES)]
    Many {
        /// So many.
        count: usize,
    },
}

impl Images {
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let names = &self.repositories;
        let odd = names.iter().filter_map(|name| image::repository_name(name.clone()).err());
        problems.extend(odd.map(|odd| Problem::Images(Odd::Name(odd))));
        let again = names.iter().enumerate().filter(|(at, name)| names[..*at].contains(name));
        problems.extend(again.map(|(_, value)| Problem::Twice { key: "images.repositories", value: value.clone() }));
        if names.len() > limits::IMAGE_REPOSITORIES {
            problems.push(Problem::Images(Odd::Many { count: names.len() }));
        }
    }
}
