//! An LA's history in words, the same on a terminal and on a page.

use std::time::Duration;

use sfdata_proto::v1::{HistorySpan, PowerPhase};

use crate::{
    health,
    words::{kebab, long},
};

/// `awake for arrivals`.
pub fn power(phase: PowerPhase, cause: &str) -> String {
    let phase = kebab(phase.as_str_name(), "POWER_PHASE_");
    match cause {
        "" => phase,
        _ if phase == "asleep" => phase,
        cause => format!("{phase} for {cause}"),
    }
}

/// `healthy 52m, degraded 8m`, the longest first.
pub fn health_line(span: &HistorySpan) -> String {
    line(span.health.iter().map(|time| (health::word(time.word()), time.seconds)))
}

/// `asleep 40m, awake for arrivals 20m`, the longest first.
pub fn power_line(span: &HistorySpan) -> String {
    line(span.power.iter().map(|time| (power(time.phase(), &time.cause), time.seconds)))
}

/// Seconds in which the hub looked.
pub fn watched(span: &HistorySpan) -> u32 {
    span.health.iter().fold(0, |sum, time| sum.saturating_add(time.seconds))
}

fn line(times: impl Iterator<Item = (String, u32)>) -> String {
    let mut times: Vec<_> = times.collect();
    times.sort_by_key(|(_, seconds)| std::cmp::Reverse(*seconds));
    let one = |(name, seconds): &(String, u32)| format!("{name} {}", long(Duration::from_secs((*seconds).into())));
    times.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::{HealthTime, HealthWord, PowerTime};

    use super::*;

    #[test]
    fn what_lasted_longest_comes_first() {
        let health = |word: HealthWord, seconds| HealthTime { word: word.into(), seconds };
        let power =
            |phase: PowerPhase, cause: &str, seconds| PowerTime { phase: phase.into(), cause: cause.into(), seconds };
        let span = HistorySpan {
            health: vec![health(HealthWord::Healthy, 480), health(HealthWord::Degraded, 3120)],
            power: vec![power(PowerPhase::Asleep, "", 30), power(PowerPhase::Awake, "arrivals", 3570)],
            ..Default::default()
        };
        assert_eq!(health_line(&span), "degraded 52m, healthy 8m");
        assert_eq!(power_line(&span), "awake for arrivals 59m, asleep 30s");
        assert_eq!((watched(&span), power_line(&HistorySpan::default())), (3600, String::new()));
    }
}
