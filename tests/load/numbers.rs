//! What was measured, and how it is told: one `metric: value` line each on stdout, talk on stderr.

use std::{
    io::{self, Write as _},
    time::Duration,
};

/// Print one metric.
pub(crate) fn show(metric: &str, value: impl std::fmt::Display) {
    // Nobody reads on: the run goes on, its end tells.
    let _ = writeln!(io::stdout(), "{metric}: {value}");
}

/// Say what is going on.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Milliseconds, as they are printed.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1e3)
}

/// Seconds, as they are printed.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

/// How long one thing took, over many tries.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The value that `share` of them do not exceed; nothing was measured: zero.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn p50(&self) -> Duration {
        self.at(0.5)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(0.99)
    }
}

/// The middle one of an odd number of rounds.
pub(crate) fn median(rounds: impl IntoIterator<Item = f64>) -> f64 {
    let mut rounds: Vec<f64> = rounds.into_iter().collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_values_that_were_measured() {
        let latencies = Latencies::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(latencies.at(0.0), Duration::from_millis(1));
        assert_eq!(latencies.p99(), Duration::from_millis(99));
        assert_eq!(latencies.at(1.0), Duration::from_millis(100));
        assert_eq!(Latencies::new(vec![]).p50(), Duration::ZERO);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    }
}
