//! Moments of the past, as --since and --until take them.

use std::{str::FromStr, time::Duration};

use sfdata_common::Timestamp;

/// A time, or how long ago.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    Ago(Duration),
    At(Timestamp),
}

impl Moment {
    /// As it is now.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(duration) => now.saturating_sub(duration).unwrap_or(Timestamp::UNIX_EPOCH),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = || text.parse().map(Self::At);
        humantime::parse_duration(text)
            .map(Self::Ago)
            .or_else(|_| at())
            .map_err(|_| "use a duration as in 30m, or a time as in 2026-11-23T09:00:00Z".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_is_a_moment_of_the_past_or_an_error(text in "\\PC{0,24}|[0-9]{1,22}(ns|ms|s|m|h|d|y| )?[0-9:TZ.+-]{0,20}") {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            if let Ok(moment) = text.parse::<Moment>() {
                let _ = moment.before(now).to_string();
            }
        }
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!("5m".parse::<Moment>().unwrap().before(now), Timestamp::from_second(700).unwrap());
        assert_eq!("1970-01-01T00:00:07Z".parse::<Moment>().unwrap().before(now), Timestamp::from_second(7).unwrap());
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
