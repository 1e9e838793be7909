//! Words for what the wire has numbers for: states, ages, sizes, times. Words are stable: scripts match on them.

use std::time::Duration;

pub(crate) use sfdata_common::words::span;
use sfdata_common::{Timestamp, words::kebab};
use sfdata_proto::v1::{
    AgentState, AlertState, ArrivalState, AuroraPauseBlockerReason, CancelDisposition, CommandState, LogsEnd,
    OperatorFlag, OperatorState, ParkReason, PowerMode, PowerPhase, S3ShareState,
};

/// `waiting`, `succeeded`, ...
pub(crate) fn command_state(state: CommandState) -> String {
    kebab(state.as_str_name(), "COMMAND_STATE_")
}

/// `pending`, `firing`, `clearing`.
pub(crate) fn alert_state(state: AlertState) -> String {
    kebab(state.as_str_name(), "ALERT_STATE_")
}

/// `invited`, `connected`, `away`, `locked`.
pub(crate) fn agent_state(state: AgentState) -> String {
    kebab(state.as_str_name(), "AGENT_STATE_")
}

/// `invited`, `active`, `locked`.
pub(crate) fn operator_state(state: OperatorState) -> String {
    kebab(state.as_str_name(), "OPERATOR_STATE_")
}

/// `unused`, `key-expires`.
pub(crate) fn operator_flag(flag: OperatorFlag) -> String {
    kebab(flag.as_str_name(), "OPERATOR_FLAG_")
}

/// `asked`, `already-ended`, `not-begun`.
pub(crate) fn disposition(disposition: CancelDisposition) -> String {
    kebab(disposition.as_str_name(), "CANCEL_DISPOSITION_")
}

/// `connections`, `minimum-above-zero`, ...
pub(crate) fn pause_blocker(reason: AuroraPauseBlockerReason) -> String {
    kebab(reason.as_str_name(), "AURORA_PAUSE_BLOCKER_REASON_")
}

/// `all`, `lines`, `bytes`, `deadline`.
pub(crate) fn logs_end(end: LogsEnd) -> String {
    kebab(end.as_str_name(), "LOGS_END_")
}

/// `granted`, `not-granted`, `altered`.
pub(crate) fn share_state(state: S3ShareState) -> String {
    kebab(state.as_str_name(), "S3_SHARE_STATE_")
}

/// `waiting`, `settled`.
pub(crate) fn arrival_state(state: ArrivalState) -> String {
    kebab(state.as_str_name(), "ARRIVAL_STATE_")
}

/// `unreadable`, `foreign`, `refused`.
pub(crate) fn park_reason(reason: ParkReason) -> String {
    kebab(reason.as_str_name(), "PARK_REASON_")
}

/// `asleep`, `waking`, `awake`, `draining`.
pub(crate) fn power_phase(phase: PowerPhase) -> String {
    kebab(phase.as_str_name(), "POWER_PHASE_")
}

/// `automatic`, `manual`.
pub(crate) fn power_mode(mode: PowerMode) -> String {
    kebab(mode.as_str_name(), "POWER_MODE_")
}

/// A moment of the wire; zero is none.
pub(crate) fn time(unix_ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(unix_ms).ok().filter(|_| unix_ms != 0)
}

/// To the second, for tables.
pub(crate) fn second(unix_ms: i64) -> String {
    time(unix_ms).map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// How long ago, in its largest unit; a moment that is not past yet is `0s`.
pub(crate) fn age(unix_ms: i64, now: Timestamp) -> String {
    match time(unix_ms) {
        None => "never".to_owned(),
        Some(at) => span(Duration::try_from(now.duration_since(at)).unwrap_or_default()),
    }
}

/// `532 B`, `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_the_words_of_the_documentation() {
        assert_eq!(command_state(CommandState::Succeeded), "succeeded");
        assert_eq!(agent_state(AgentState::Away), "away");
        assert_eq!(operator_state(OperatorState::Unspecified), "unknown");
        assert_eq!(disposition(CancelDisposition::AlreadyEnded), "already-ended");
    }

    #[test]
    fn ages_and_sizes_are_short() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let ago = |seconds: i64| age((1_000_000 - seconds) * 1000, now);
        assert_eq!(
            [ago(-5), ago(59), ago(61), ago(7_199), ago(90_000), ago(200_000)],
            ["0s", "59s", "1m", "1h", "25h", "2d"]
        );
        assert_eq!(age(0, now), "never");
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(1_048_575), bytes(5 << 30)],
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 GiB"]
        );
    }
}
