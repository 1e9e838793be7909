//! What was used: one amount an hour and key. Hub and agent read and write it by the same rules.
//!
//! A record replaces the earlier ones of its key, so that it may be sent again, late and twice. There is room for numbers,
//! enumerations and identifiers alone: nothing that an LA's people wrote fits in.

pub mod bill;
pub mod days;
pub mod group;

use std::{fmt, str::FromStr, sync::Arc};

use sfdata_proto::v1 as wire;

use crate::{Timestamp, limits};
pub use wire::{UsageComponent as Component, UsageMeter as Meter};

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A meter or a component that this version does not know.
    #[error("a record of usage has an unknown {0}")]
    Unknown(&'static str),
    /// Not an identifier.
    #[error("{0:?} is no name in a record of usage; it has 1 to 100 letters, digits, hyphens and underscores")]
    Label(String),
    /// More than can be used in an hour.
    #[error("{amount} is more of {meter} than an hour can have")]
    Absurd {
        /// Which meter.
        meter: &'static str,
        /// What was told.
        amount: u64,
    },
}

/// An hour, counted in UTC since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub u32);

impl Hour {
    /// Seconds of an hour.
    pub const SECONDS: i64 = 3600;

    /// The hour that this instant is in.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_second().div_euclid(Self::SECONDS).clamp(0, u32::MAX.into()).try_into().unwrap_or_default())
    }

    /// When it begins, in seconds since the Unix epoch.
    pub fn begin(self) -> i64 {
        i64::from(self.0) * Self::SECONDS
    }

    /// Days since the Unix epoch.
    pub fn day(self) -> u32 {
        self.0 / 24
    }
}

/// A job of Dagster or a cause of being awake: an identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=limits::USAGE_LABEL_BYTES).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(Error::Label(text.chars().take(limits::USAGE_LABEL_BYTES).collect()))
        }
    }
}

/// What an amount is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What was counted.
    pub meter: Meter,
    /// Of which part of the platform.
    pub component: Component,
    /// Of Fargate: on Spot capacity.
    pub spot: bool,
    /// Of tasks of runs.
    pub job: Option<Label>,
    /// Why the platform was awake meanwhile.
    pub cause: Option<Label>,
}

impl Key {
    /// Of this meter and component, with nothing more to tell.
    pub fn new(meter: Meter, component: Component) -> Self {
        Self { meter, component, spot: false, job: None, cause: None }
    }
}

/// One amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Counts with each change of any record of one book.
    pub revision: u64,
    /// When.
    pub hour: Hour,
    /// Of what.
    pub key: Key,
    /// How much, in the meter's unit.
    pub amount: u64,
}

/// The meter's stable name, as in `fargate-cpu`.
pub fn meter_name(meter: Meter) -> &'static str {
    match meter {
        Meter::Unspecified => "unspecified",
        Meter::FargateCpu => "fargate-cpu",
        Meter::FargateMemory => "fargate-memory",
        Meter::AuroraCapacity => "aurora-capacity",
        Meter::S3Stored => "s3-stored",
        Meter::S3Requests => "s3-requests",
        Meter::LogsIngested => "logs-ingested",
        Meter::Awake => "awake",
    }
}

/// The component's stable name, as in `code-server`.
pub fn component_name(component: Component) -> &'static str {
    match component {
        Component::Unspecified => "unspecified",
        Component::Webserver => "webserver",
        Component::Daemon => "daemon",
        Component::CodeServer => "code-server",
        Component::Run => "run",
        Component::Other => "other",
        Component::Database => "database",
        Component::DataStore => "data-store",
        Component::Workspace => "workspace",
        Component::Shared => "shared",
        Component::Backup => "backup",
        Component::Logs => "logs",
        Component::Platform => "platform",
    }
}

/// The most that an account can use in an hour, far above any quota of AWS: more is an error of whoever told it.
fn most(meter: Meter) -> u64 {
    const HOUR: u64 = 3600;
    match meter {
        Meter::Unspecified => 0,
        Meter::FargateCpu => 4_000 * 1024 * HOUR,                 // vCPUs
        Meter::FargateMemory => 32_000 * 1024 * HOUR,             // GiB
        Meter::AuroraCapacity => 256 * 1000 * HOUR,               // ACU of one cluster
        Meter::S3Stored => 24 * 1024 * 1024 * 1024 * 1024 * 1024, // a day of a PiB
        Meter::S3Requests => 5_500 * 100 * HOUR,                  // of a hundred prefixes
        Meter::LogsIngested => 1024 * 1024 * 1024 * 1024,         // a TiB
        Meter::Awake => HOUR,
    }
}

impl Record {
    /// Of several hours together: any amount.
    pub fn of_sum(record: &wire::UsageRecord) -> Result<Self, Error> {
        let meter = Meter::try_from(record.meter).ok().filter(|meter| *meter != Meter::Unspecified);
        let component =
            Component::try_from(record.component).ok().filter(|component| *component != Component::Unspecified);
        let label = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
        let meter = meter.ok_or(Error::Unknown("meter"))?;
        let key = Key {
            meter,
            component: component.ok_or(Error::Unknown("component"))?,
            spot: record.spot,
            job: label(&record.job)?,
            cause: label(&record.cause)?,
        };
        Ok(Self { revision: record.revision, hour: Hour(record.hour), key, amount: record.amount })
    }
}

/// Of one hour.
impl TryFrom<&wire::UsageRecord> for Record {
    type Error = Error;

    fn try_from(record: &wire::UsageRecord) -> Result<Self, Error> {
        let one = Self::of_sum(record)?;
        if one.amount > most(one.key.meter) {
            return Err(Error::Absurd { meter: meter_name(one.key.meter), amount: one.amount });
        }
        Ok(one)
    }
}

impl From<&Record> for wire::UsageRecord {
    fn from(record: &Record) -> Self {
        let Record { revision, hour, key, amount } = record;
        let text = |label: &Option<Label>| label.as_ref().map(|label| label.as_str().to_owned()).unwrap_or_default();
        Self {
            revision: *revision,
            hour: hour.0,
            meter: key.meter.into(),
            component: key.component.into(),
            spot: key.spot,
            job: text(&key.job),
            cause: text(&key.cause),
            amount: *amount,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(change: impl FnOnce(&mut wire::UsageRecord)) -> Result<Record, Error> {
        let mut record = wire::UsageRecord {
            revision: 1,
            hour: 500_000,
            meter: Meter::FargateCpu.into(),
            component: Component::Run.into(),
            spot: true,
            job: "ingest_ssda903".into(),
            cause: "arrivals".into(),
            amount: 1024 * 60,
        };
        change(&mut record);
        Record::try_from(&record)
    }

    #[test]
    fn what_is_written_is_read() {
        let one = record(|_| {}).unwrap();
        assert_eq!(Record::try_from(&wire::UsageRecord::from(&one)).unwrap(), one);
        assert_eq!(one.hour.day(), 20_833);
        assert_eq!(Hour::of(Timestamp::from_second(-1).unwrap()), Hour(0));
    }

    #[test]
    fn nothing_but_names_and_possible_amounts_is_taken() {
        assert_eq!(record(|r| r.meter = 99), Err(Error::Unknown("meter")));
        assert_eq!(record(|r| r.component = 0), Err(Error::Unknown("component")));
        for odd in ["Kim Doe", "a/b.csv", "\u{1b}[31m", "<b>", "é", &"a".repeat(101)] {
            assert!(matches!(record(|r| r.job = odd.into()), Err(Error::Label(_))), "{odd}");
            assert!(matches!(record(|r| r.cause = odd.into()), Err(Error::Label(_))), "{odd}");
        }
        assert!(matches!(record(|r| r.amount = u64::MAX), Err(Error::Absurd { .. })));
        let second_too_many = |r: &mut wire::UsageRecord| {
            r.meter = Meter::Awake.into();
            r.amount = 3601;
        };
        assert!(matches!(record(second_too_many), Err(Error::Absurd { .. })));
    }
}
