//! Orders about the platform's sleep: what they may do, and how they go over the wire.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_proto::v1::{self as wire, power_action as kind};

use super::{Class, ParseError, deadline, malformed, seconds, unknown};

/// Actions on the power of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Look and tell what is decided, and why.
    Status,
    /// Wake it for a person. Harmless when it is awake.
    Wake {
        /// How long it may take.
        deadline: Duration,
    },
    /// Take back what people asked for and let it sleep. Never stops what runs.
    Sleep {
        /// How long it may take.
        deadline: Duration,
    },
    /// Keep it awake until then; a time that is over ends what was asked for before.
    StayAwake {
        /// Until when.
        until: Timestamp,
    },
    /// Whether it sleeps and wakes by itself.
    SetMode {
        /// It does not.
        manual: bool,
    },
}

impl Power {
    /// `power.verb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "power.status",
            Self::Wake { .. } => "power.wake",
            Self::Sleep { .. } => "power.sleep",
            Self::StayAwake { .. } => "power.stay-awake",
            Self::SetMode { .. } => "power.set-mode",
        }
    }

    pub(super) fn class(self) -> Class {
        match self {
            Self::Status => Class::Read,
            Self::Wake { .. } | Self::Sleep { .. } | Self::StayAwake { .. } => Class::Operate,
            Self::SetMode { .. } => Class::Change,
        }
    }

    pub(super) fn to_wire(self) -> wire::PowerAction {
        let kind = match self {
            Self::Status => kind::Kind::Status(wire::PowerStatus {}),
            Self::Wake { deadline } => kind::Kind::Wake(wire::PowerWake { deadline_seconds: seconds(deadline) }),
            Self::Sleep { deadline } => kind::Kind::Sleep(wire::PowerSleep { deadline_seconds: seconds(deadline) }),
            Self::StayAwake { until } => {
                kind::Kind::StayAwake(wire::PowerStayAwake { until_unix_ms: until.as_millisecond() })
            }
            Self::SetMode { manual } => {
                let mode = if manual { wire::PowerMode::Manual } else { wire::PowerMode::Automatic };
                kind::Kind::SetMode(wire::PowerSetMode { mode: mode.into() })
            }
        };
        wire::PowerAction { kind: Some(kind) }
    }
}

impl TryFrom<wire::PowerAction> for Power {
    type Error = ParseError;

    fn try_from(message: wire::PowerAction) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::Status(_) => Self::Status,
            kind::Kind::Wake(wake) => Self::Wake { deadline: deadline(wake.deadline_seconds)? },
            kind::Kind::Sleep(sleep) => Self::Sleep { deadline: deadline(sleep.deadline_seconds)? },
            kind::Kind::StayAwake(stay) => {
                Self::StayAwake { until: Timestamp::from_millisecond(stay.until_unix_ms).map_err(malformed)? }
            }
            kind::Kind::SetMode(set) => match set.mode() {
                wire::PowerMode::Automatic => Self::SetMode { manual: false },
                wire::PowerMode::Manual => Self::SetMode { manual: true },
                wire::PowerMode::Unspecified => return Err(malformed("it names no mode of power")),
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits;

    pub(in crate::command) fn any_action() -> impl Strategy<Value = Power> {
        let deadline = || (1..=limits::ACTION_DEADLINE_MAX.as_secs()).prop_map(Duration::from_secs);
        prop_oneof![
            Just(Power::Status),
            deadline().prop_map(|deadline| Power::Wake { deadline }),
            deadline().prop_map(|deadline| Power::Sleep { deadline }),
            (0i64..4_000_000_000_000)
                .prop_map(|ms| Power::StayAwake { until: Timestamp::from_millisecond(ms).unwrap() }),
            any::<bool>().prop_map(|manual| Power::SetMode { manual }),
        ]
    }
}
