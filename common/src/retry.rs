//! Waiting longer after each failure, with full jitter, so that a fleet does not come back in step
//! (the AWS Architecture Blog's "Exponential Backoff And Jitter" has the reasoning).

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::limits;

/// Waits between tries to reach the hub.
#[derive(Debug)]
pub struct Reconnect {
    delays: ExponentialBackoff,
}

impl Default for Reconnect {
    fn default() -> Self {
        let delays = ExponentialBuilder::default()
            .with_min_delay(limits::RECONNECT_MIN)
            .with_max_delay(limits::RECONNECT_MAX)
            .without_max_times()
            .build();
        Self { delays }
    }
}

impl Reconnect {
    /// How long to wait before the next try: anything from nothing to the current step.
    pub fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(limits::RECONNECT_MAX).mul_f64(fastrand::f64())
    }
}

/// `duration`, moved by up to `share` of itself to either side: what many do once must not fall together.
pub fn jittered(duration: Duration, share: f64) -> Duration {
    duration.mul_f64(1.0 + share * (2.0 * fastrand::f64() - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_are_spread() {
        let most = |n: usize| {
            (0..200)
                .map(|_| {
                    let mut reconnect = Reconnect::default();
                    (0..n).map(|_| reconnect.next_delay()).last().unwrap()
                })
                .max()
                .unwrap()
        };
        assert!(most(1) <= limits::RECONNECT_MIN);
        assert!(most(1) > limits::RECONNECT_MIN / 2);
        assert!(most(20) <= limits::RECONNECT_MAX);
        assert!(most(20) > limits::RECONNECT_MAX / 2);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let hour = Duration::from_secs(3600);
        for _ in 0..1000 {
            let moved = jittered(hour, 0.1);
            assert!((3240..=3960).contains(&moved.as_secs()), "{moved:?}");
        }
    }
}
