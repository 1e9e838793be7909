//! How usage is grouped, and what a group is called in commands and addresses.

use std::str::FromStr;

use serde::Deserialize;
use sfdata_proto::v1::UsageGroup;

/// What the rows are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum By {
    /// An LA each.
    #[default]
    La,
    /// A part of the platforms each.
    Component,
    /// A job of Dagster each; of runs alone.
    Job,
    /// A reason to be awake each.
    Cause,
    /// A day each.
    Day,
    /// A month each.
    Month,
}

/// Not one of [`By::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("usage is not grouped by {0:?}; write la, component, job, cause, day or month")]
pub struct Unknown(String);

impl By {
    /// In the order in which they are offered.
    pub const ALL: [Self; 6] = [Self::La, Self::Component, Self::Job, Self::Cause, Self::Day, Self::Month];

    /// Its stable name, as in `--by la`.
    pub fn name(self) -> &'static str {
        match self {
            Self::La => "la",
            Self::Component => "component",
            Self::Job => "job",
            Self::Cause => "cause",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// On the wire.
    pub fn group(self) -> UsageGroup {
        match self {
            Self::La => UsageGroup::Agent,
            Self::Component => UsageGroup::Component,
            Self::Job => UsageGroup::Job,
            Self::Cause => UsageGroup::Cause,
            Self::Day => UsageGroup::Day,
            Self::Month => UsageGroup::Month,
        }
    }
}

impl FromStr for By {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|by| by.name() == text).ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl TryFrom<String> for By {
    type Error = Unknown;

    fn try_from(text: String) -> Result<Self, Unknown> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_found_by_its_name() {
        for by in By::ALL {
            assert_eq!(by.name().parse(), Ok(by));
        }
        assert!("LA".parse::<By>().unwrap_err().to_string().contains("month"));
    }
}
