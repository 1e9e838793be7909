//! Words for what the wire has numbers for. They are stable: scripts match on them.

use std::time::Duration;

/// Of `COMMAND_STATE_WAITING` the end, `waiting`.
pub fn kebab(name: &str, prefix: &str) -> String {
    match name.trim_start_matches(prefix) {
        "UNSPECIFIED" => "unknown".to_owned(), // absent, or newer than this program
        rest => rest.to_ascii_lowercase().replace('_', "-"),
    }
}

/// A duration in its largest unit.
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A duration to the minute: `41h 20m`.
pub fn long(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..3_600 => span(Duration::from_secs(seconds)),
        seconds => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_durations_are_short() {
        assert_eq!(kebab("COMMAND_STATE_NOT_SENT", "COMMAND_STATE_"), "not-sent");
        assert_eq!(kebab("COMMAND_STATE_UNSPECIFIED", "COMMAND_STATE_"), "unknown");
        let spans = [0, 59, 61, 7_199, 90_000, 200_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0s", "59s", "1m", "1h", "25h", "2d"]);
        assert_eq!([59, 3_599, 7_260].map(|seconds| long(Duration::from_secs(seconds))), ["59s", "59m", "2h 01m"]);
    }
}
