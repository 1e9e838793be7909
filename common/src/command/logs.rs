//! The order to read logs: what it may do, and how it goes over the wire.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_proto::v1::{self as wire, logs_action as kind, logs_read};

use super::{Class, ParseError, deadline, ecs, malformed, seconds, unknown};
use crate::limits;

/// Actions on the logs of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logs {
    /// Stream lines to the operator who asks, sealed.
    Read {
        /// Whose.
        source: LogSource,
        /// From when on.
        since: Timestamp,
        /// Until when.
        until: LogsUntil,
        /// Only lines that this regular expression finds; empty is all.
        grep: String,
        /// So many at most.
        limit: u32,
        /// How long it may take, and how long it is followed.
        deadline: Duration,
    },
}

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSource {
    /// All tasks of an ECS service, by its name.
    Service(String),
    /// One task of the cluster, by its id.
    Task(String),
}

/// Where reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogsUntil {
    /// With what is there.
    Now,
    /// With this moment.
    Then(Timestamp),
    /// It goes on with what is written, until the deadline.
    Followed,
}

impl Logs {
    /// `logs.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "logs.read",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Read { .. } => Class::Data,
        }
    }

    pub(super) fn to_wire(&self) -> wire::LogsAction {
        let Self::Read { source, since, until, grep, limit, deadline } = self;
        let read = wire::LogsRead {
            source: Some(match source {
                LogSource::Service(service) => logs_read::Source::Service(service.clone()),
                LogSource::Task(task) => logs_read::Source::Task(task.clone()),
            }),
            since_unix_ms: since.as_millisecond(),
            until_unix_ms: if let LogsUntil::Then(until) = until { until.as_millisecond() } else { 0 },
            follow: *until == LogsUntil::Followed,
            grep: grep.clone(),
            limit: *limit,
            deadline_seconds: seconds(*deadline),
        };
        wire::LogsAction { kind: Some(kind::Kind::Read(read)) }
    }
}

impl TryFrom<wire::LogsAction> for Logs {
    type Error = ParseError;

    fn try_from(message: wire::LogsAction) -> Result<Self, ParseError> {
        let kind::Kind::Read(read) = message.kind.ok_or_else(unknown)?;
        let time = |ms| Timestamp::from_millisecond(ms).map_err(malformed);
        let since = time(read.since_unix_ms)?;
        let until = match (read.follow, read.until_unix_ms) {
            (true, 0) => LogsUntil::Followed,
            (true, _) => return Err(malformed("logs are followed, or read until a time, not both")),
            (false, 0) => LogsUntil::Now,
            (false, until) if time(until)? > since => LogsUntil::Then(time(until)?),
            (false, _) => return Err(malformed("logs are to be read until before they begin")),
        };
        if read.limit == 0 || read.limit > limits::LOG_LINES {
            return Err(malformed(format!("{} lines are out of range: 1 to {}", read.limit, limits::LOG_LINES)));
        }
        if read.grep.len() > limits::LOG_PATTERN_BYTES {
            return Err(malformed(format!("the pattern is longer than {} bytes", limits::LOG_PATTERN_BYTES)));
        }
        Ok(Self::Read {
            source: match read.source.ok_or_else(|| malformed("it does not say whose log"))? {
                logs_read::Source::Service(service) => LogSource::Service(ecs::service(service)?),
                logs_read::Source::Task(task) => LogSource::Task(self::task(task)?),
            },
            since,
            until,
            grep: read.grep,
            limit: read.limit,
            deadline: deadline(read.deadline_seconds)?,
        })
    }
}

/// Ids of tasks: 32 hexadecimal digits, or a UUID in clusters with the older format.
fn task(id: String) -> Result<String, ParseError> {
    let legal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
    if !(32..=36).contains(&id.len()) || !id.bytes().all(legal) {
        return Err(malformed(format!("{id:?} is not the id of an ECS task")));
    }
    Ok(id)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn any_action() -> impl Strategy<Value = Logs> {
        let source =
            prop_oneof!["[A-Za-z0-9_-]{1,40}".prop_map(LogSource::Service), "[0-9a-f]{32}".prop_map(LogSource::Task)];
        let until = prop_oneof![
            Just(LogsUntil::Now),
            Just(LogsUntil::Followed),
            (2_000_000_000i64..3_000_000_000).prop_map(|at| LogsUntil::Then(Timestamp::from_second(at).unwrap()))
        ];
        (source, 1i64..2_000_000_000, until, ".{0,20}", 1..=limits::LOG_LINES, 1u64..3600).prop_map(
            |(source, since, until, grep, limit, seconds)| Logs::Read {
                source,
                since: Timestamp::from_second(since).unwrap(),
                until,
                grep,
                limit,
                deadline: Duration::from_secs(seconds),
            },
        )
    }

    #[test]
    fn a_reading_is_bounded_and_says_whose_log_and_until_when() {
        let legal = wire::LogsRead {
            source: Some(logs_read::Source::Service("daemon".into())),
            since_unix_ms: 5,
            limit: 1,
            deadline_seconds: 9,
            ..Default::default()
        };
        let parse = |read| Logs::try_from(wire::LogsAction { kind: Some(kind::Kind::Read(read)) });
        assert!(parse(legal.clone()).is_ok());
        for illegal in [
            wire::LogsRead { source: None, ..legal.clone() },
            wire::LogsRead { source: Some(logs_read::Source::Task("daemon".into())), ..legal.clone() },
            wire::LogsRead { source: Some(logs_read::Source::Service("a/b".into())), ..legal.clone() },
            wire::LogsRead { limit: 0, ..legal.clone() },
            wire::LogsRead { limit: limits::LOG_LINES + 1, ..legal.clone() },
            wire::LogsRead { until_unix_ms: 5, ..legal.clone() },
            wire::LogsRead { until_unix_ms: 6, follow: true, ..legal.clone() },
            wire::LogsRead { grep: "x".repeat(limits::LOG_PATTERN_BYTES + 1), ..legal.clone() },
            wire::LogsRead { deadline_seconds: 0, ..legal },
        ] {
            assert!(parse(illegal.clone()).is_err(), "{illegal:?}");
        }
    }
}
