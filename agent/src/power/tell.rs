//! What is decided, as the wire carries it.

use jiff::Timestamp;
use sfdata_proto::v1::{self as wire, PowerMode, PowerPhase};

use super::{
    alarms::Alarm,
    decide::{Decision, Fault},
    reasons::Reason,
    settings::Settings,
    state::{Phase, State},
};

/// Alarms that a health report tells: the next ones.
pub(super) const ALARMS_IN_HEALTH: usize = 3;
/// Alarms that an answer tells.
const ALARMS: usize = 50;

pub(super) fn state(decision: &Decision, alarms: &[Alarm], settings: &Settings) -> wire::PowerState {
    let state = &decision.state;
    let State { wishes, .. } = state;
    let mode = if wishes.manual { PowerMode::Manual } else { PowerMode::Automatic };
    let lead = state.lead(settings);
    let mut alarms: Vec<&Alarm> = alarms.iter().collect();
    alarms.sort_by_key(|alarm| alarm.rings(lead));
    wire::PowerState {
        mode: mode.into(),
        phase: phase(state.phase).into(),
        generation: state.generation,
        since_unix_ms: state.since.as_millisecond(),
        cause: state.cause.clone().unwrap_or_default(),
        reasons: decision.reasons.iter().map(reason).collect(),
        alarms: alarms
            .into_iter()
            .take(ALARMS)
            .map(|alarm| wire::PowerAlarm {
                at_unix_ms: alarm.at.as_millisecond(),
                kind: alarm.what.kind().into(),
                name: alarm.what.name().into(),
                wakes_unix_ms: alarm.rings(lead).as_millisecond(),
            })
            .collect(),
        faults: decision.faults.iter().map(fault).collect(),
        awake_until_unix_ms: millisecond(wishes.awake_until),
        wake_seconds: seconds(state.wake_duration(settings)),
        quiet_since_unix_ms: millisecond(state.quiet),
    }
}

pub(super) fn settings(settings: &Settings) -> wire::PowerSettings {
    wire::PowerSettings {
        quiet_seconds: seconds(settings.quiet),
        person_seconds: seconds(settings.person),
        margin_seconds: seconds(settings.margin),
        stuck_seconds: seconds(settings.stuck),
        longest_sleep_seconds: seconds(settings.longest_sleep),
        sensor_poll_seconds: settings.usual_poll().0.map_or(0, seconds),
    }
}

fn phase(phase: Phase) -> PowerPhase {
    match phase {
        Phase::Asleep => PowerPhase::Asleep,
        Phase::Waking => PowerPhase::Waking,
        Phase::Awake => PowerPhase::Awake,
        Phase::Draining => PowerPhase::Draining,
    }
}

fn reason(reason: &Reason) -> wire::PowerReason {
    wire::PowerReason {
        kind: reason.kind.as_str().into(),
        name: reason.name.clone(),
        count: reason.count,
        until_unix_ms: millisecond(reason.until),
    }
}

fn fault(fault: &Fault) -> wire::PowerFault {
    wire::PowerFault { kind: fault.kind.into(), detail: fault.detail.clone() }
}

fn millisecond(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_millisecond)
}

fn seconds(duration: std::time::Duration) -> u32 {
    duration.as_secs().try_into().unwrap_or(u32::MAX)
}
