//! Actions on the database of a platform: what each is called, may do and holds, and how it goes over the wire.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use sfdata_proto::v1::{self as wire, aurora_action as kind};

use super::{Class, ParseError, Resource, deadline, malformed, seconds};

/// How long an Aurora cluster may be idle before it pauses (RDS API reference, ServerlessV2ScalingConfiguration).
const PAUSE_SECONDS: RangeInclusive<u32> = 300..=86_400;

/// Aurora capacity units, in halves: 0 to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acu(u16);

impl Acu {
    const MOST: f64 = 256.0;

    /// So many units, if there is such a capacity.
    pub fn new(units: f64) -> Option<Self> {
        let halves = units * 2.0;
        let legal = (0.0..=Self::MOST).contains(&units) && halves.fract() == 0.0;
        legal.then_some(Self(halves as u16))
    }

    /// In whole units.
    pub fn units(self) -> f64 {
        f64::from(self.0) / 2.0
    }

    /// Whether nothing runs.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Acu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.units().fmt(f)
    }
}

impl FromStr for Acu {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let units = text.parse().ok().and_then(Self::new);
        units.ok_or_else(|| malformed(format!("{text:?} is no capacity: 0 to {} ACU in halves", Self::MOST)))
    }
}

/// The range in which a cluster scales, and whether it pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Zero lets it pause.
    pub min: Acu,
    /// At least 1.
    pub max: Acu,
    /// How long it must be idle; there just when `min` is zero.
    pub pause_after: Option<Duration>,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} ACU", self.min, self.max)?;
        self.pause_after.map_or(Ok(()), |pause| write!(f, ", pausing after {} s", pause.as_secs()))
    }
}

impl Capacity {
    fn parse(min: f64, max: f64, pause_seconds: u32) -> Result<Self, ParseError> {
        let acu = |units| {
            Acu::new(units)
                .ok_or_else(|| malformed(format!("{units} ACU are out of range: 0 to {} in halves", Acu::MOST)))
        };
        let (min, max) = (acu(min)?, acu(max)?);
        if max < Acu(2) || max < min {
            return Err(malformed(format!(
                "{min} to {max} ACU is no range: the maximum is at least 1, and the minimum"
            )));
        }
        match (min.is_zero(), pause_seconds) {
            (false, 0) => Ok(Self { min, max, pause_after: None }),
            (false, _) => Err(malformed("only a database with a minimum of 0 ACU pauses")),
            (true, seconds) if PAUSE_SECONDS.contains(&seconds) => {
                Ok(Self { min, max, pause_after: Some(Duration::from_secs(seconds.into())) })
            }
            (true, seconds) => Err(malformed(format!(
                "a minimum of 0 ACU needs a pause after {} to {} s, not {seconds}",
                PAUSE_SECONDS.start(),
                PAUSE_SECONDS.end()
            ))),
        }
    }
}

/// Actions on the Aurora cluster of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aurora {
    /// State, engine, capacity range. Always legal.
    Status,
    /// Start it and wait until it is available. Repeating it is harmless.
    Start {
        /// How long to wait for it.
        deadline: Duration,
    },
    /// Stop it and wait until it is stopped. Repeating it is harmless.
    Stop {
        /// How long to wait for it.
        deadline: Duration,
    },
    /// Set the range in which it scales and wait until that is in force. Repeating it is harmless.
    SetCapacity {
        /// The range.
        capacity: Capacity,
        /// How long to wait for it.
        deadline: Duration,
    },
    /// Take a snapshot and wait until it is available. Its name makes it once.
    Snapshot {
        /// What to call it; without a name it is called after the command.
        name: Option<String>,
        /// How long to wait for it.
        deadline: Duration,
    },
    /// The snapshots of the cluster. Always legal.
    Snapshots,
    /// Delete a manual snapshot of the cluster. A repetition finds that it is gone.
    DeleteSnapshot {
        /// Which.
        name: String,
        /// How long to wait for it.
        deadline: Duration,
    },
    /// Make a new cluster of a snapshot, with one instance, and wait until it is available. Touches nothing that exists.
    Restore {
        /// A snapshot of the cluster, manual or automated.
        snapshot: String,
        /// What to call the new cluster; nothing may be called so yet.
        new_cluster: String,
        /// How long to wait for it.
        deadline: Duration,
    },
}

impl Aurora {
    /// `aurora.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "aurora.status",
            Self::Start { .. } => "aurora.start",
            Self::Stop { .. } => "aurora.stop",
            Self::SetCapacity { .. } => "aurora.set-capacity",
            Self::Snapshot { .. } => "aurora.snapshot",
            Self::Snapshots => "aurora.snapshots",
            Self::DeleteSnapshot { .. } => "aurora.delete-snapshot",
            Self::Restore { .. } => "aurora.restore",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Status | Self::Snapshots => Class::Read,
            Self::Start { .. } | Self::Stop { .. } | Self::Snapshot { .. } => Class::Operate,
            Self::SetCapacity { .. } | Self::Restore { .. } => Class::Change,
            Self::DeleteSnapshot { .. } => Class::Destroy,
        }
    }

    pub(super) fn resource(&self) -> Option<Resource> {
        match self {
            Self::Status | Self::Snapshots => None,
            Self::Restore { new_cluster, .. } => Some(Resource::RestoredDatabase(new_cluster.clone())),
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::SetCapacity { .. }
            | Self::Snapshot { .. }
            | Self::DeleteSnapshot { .. } => Some(Resource::Database),
        }
    }

    pub(super) fn to_wire(&self) -> wire::AuroraAction {
        let kind = match self {
            Self::Status => kind::Kind::Status(wire::AuroraStatus {}),
            Self::Start { deadline } => kind::Kind::Start(wire::AuroraStart { deadline_seconds: seconds(*deadline) }),
            Self::Stop { deadline } => kind::Kind::Stop(wire::AuroraStop { deadline_seconds: seconds(*deadline) }),
            Self::SetCapacity { capacity: Capacity { min, max, pause_after }, deadline } => {
                kind::Kind::SetCapacity(wire::AuroraSetCapacity {
                    min_acu: min.units(),
                    max_acu: max.units(),
                    auto_pause_seconds: pause_after.map_or(0, seconds),
                    deadline_seconds: seconds(*deadline),
                })
            }
            Self::Snapshot { name, deadline } => kind::Kind::Snapshot(wire::AuroraSnapshot {
                name: name.clone().unwrap_or_default(),
                deadline_seconds: seconds(*deadline),
            }),
            Self::Snapshots => kind::Kind::Snapshots(wire::AuroraSnapshots {}),
            Self::DeleteSnapshot { name, deadline } => kind::Kind::DeleteSnapshot(wire::AuroraDeleteSnapshot {
                name: name.clone(),
                deadline_seconds: seconds(*deadline),
            }),
            Self::Restore { snapshot, new_cluster, deadline } => kind::Kind::Restore(wire::AuroraRestore {
                snapshot: snapshot.clone(),
                new_cluster: new_cluster.clone(),
                deadline_seconds: seconds(*deadline),
            }),
        };
        wire::AuroraAction { kind: Some(kind) }
    }
}

impl TryFrom<wire::AuroraAction> for Aurora {
    type Error = ParseError;

    fn try_from(message: wire::AuroraAction) -> Result<Self, ParseError> {
        let kind = message.kind.ok_or_else(|| malformed("it names no action that this version knows"))?;
        Ok(match kind {
            kind::Kind::Status(_) => Self::Status,
            kind::Kind::Start(start) => Self::Start { deadline: deadline(start.deadline_seconds)? },
            kind::Kind::Stop(stop) => Self::Stop { deadline: deadline(stop.deadline_seconds)? },
            kind::Kind::SetCapacity(set) => Self::SetCapacity {
                capacity: Capacity::parse(set.min_acu, set.max_acu, set.auto_pause_seconds)?,
                deadline: deadline(set.deadline_seconds)?,
            },
            kind::Kind::Snapshot(snapshot) => Self::Snapshot {
                name: Some(snapshot.name).filter(|name| !name.is_empty()).map(new_name).transpose()?,
                deadline: deadline(snapshot.deadline_seconds)?,
            },
            kind::Kind::Snapshots(_) => Self::Snapshots,
            kind::Kind::DeleteSnapshot(delete) => {
                Self::DeleteSnapshot { name: snapshot_name(delete.name)?, deadline: deadline(delete.deadline_seconds)? }
            }
            kind::Kind::Restore(restore) => Self::Restore {
                snapshot: snapshot_name(restore.snapshot)?,
                new_cluster: new_name(restore.new_cluster)?,
                deadline: deadline(restore.deadline_seconds)?,
            },
        })
    }
}

/// What RDS takes as a name: up to 63 letters, digits and single hyphens, a letter first (RDS API reference,
/// CreateDBClusterSnapshot). It keeps names in lower case. Two characters less, since a cluster's instance is called `NAME-1`.
fn new_name(name: String) -> Result<String, ParseError> {
    if name.len() > 61 || !is_name(&name) {
        return Err(malformed(format!(
            "{name:?} is no name for RDS: up to 61 lower-case letters, digits and single hyphens, a letter first"
        )));
    }
    Ok(name)
}

/// A snapshot that exists: what AWS itself took has a prefix, as in `rds:la-2026-11-23-03-10`.
fn snapshot_name(name: String) -> Result<String, ParseError> {
    let own = name.split_once(':').map_or(&*name, |(_, own)| own);
    let prefix = name.split_once(':').map_or("rds", |(prefix, _)| prefix);
    if name.len() > 255 || !is_name(own) || !is_name(prefix) {
        return Err(malformed(format!("{name:?} is not the name of a snapshot; write it as RDS shows it")));
    }
    Ok(name)
}

fn is_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(legal)
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,9}){0,4}";
    const SNAPSHOT: &str = "(rds:|awsbackup:)?[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,9}){0,4}";

    pub(in crate::command) fn any_action() -> impl Strategy<Value = Aurora> {
        let deadline = || (1u64..3600).prop_map(Duration::from_secs);
        prop_oneof![
            Just(Aurora::Status),
            deadline().prop_map(|deadline| Aurora::Start { deadline }),
            deadline().prop_map(|deadline| Aurora::Stop { deadline }),
            (proptest::option::of(NAME), deadline()).prop_map(|(name, deadline)| Aurora::Snapshot { name, deadline }),
            Just(Aurora::Snapshots),
            (SNAPSHOT, deadline()).prop_map(|(name, deadline)| Aurora::DeleteSnapshot { name, deadline }),
            (SNAPSHOT, NAME, deadline()).prop_map(|(snapshot, new_cluster, deadline)| Aurora::Restore {
                snapshot,
                new_cluster,
                deadline
            }),
            (any_capacity(), deadline()).prop_map(|(capacity, deadline)| Aurora::SetCapacity { capacity, deadline }),
        ]
    }

    fn any_capacity() -> impl Strategy<Value = Capacity> {
        (0u16..=512, 0u16..=512, 300u64..=86_400).prop_map(|(one, other, pause)| {
            let (min, max) = (Acu(one.min(other)), Acu(one.max(other).max(2)));
            Capacity { min, max, pause_after: min.is_zero().then(|| Duration::from_secs(pause)) }
        })
    }

    #[test]
    fn a_name_is_one_that_rds_keeps_as_it_is() {
        let long = "a".repeat(62);
        for wrong in ["", "1st", "A", "a--b", "a-", "a_b", "rds:a", &long] {
            assert!(new_name(wrong.into()).is_err(), "{wrong}");
        }
        for wrong in ["", ":a", "rds:", "rds:a:b", "arn:aws:rds", "a b"] {
            assert!(snapshot_name(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_is_one_that_rds_takes() {
        for (min, max, pause) in [(0.0, 1.0, 300), (0.0, 256.0, 86_400), (0.5, 1.0, 0), (256.0, 256.0, 0)] {
            assert!(Capacity::parse(min, max, pause).is_ok(), "{min} {max} {pause}");
        }
        for (min, max, pause) in [
            (0.0, 1.0, 0),
            (0.0, 1.0, 299),
            (0.0, 1.0, 86_401),
            (0.5, 1.0, 300),
            (0.5, 0.5, 0),
            (2.0, 1.0, 0),
            (0.25, 1.0, 0),
            (-0.5, 1.0, 0),
            (1.0, 256.5, 0),
            (f64::NAN, 1.0, 0),
            (1.0, f64::INFINITY, 0),
        ] {
            assert!(Capacity::parse(min, max, pause).is_err(), "{min} {max} {pause}");
        }
        assert_eq!("0.5".parse::<Acu>().unwrap().to_string(), "0.5");
        assert!("much".parse::<Acu>().is_err());
    }
}
