//! Whether the hub can take work, as its operations listener tells it: `/readyz` answers 503 with these reasons while it
//! can't take commands. It is to be taken out of service then, not to be restarted.

use std::sync::Arc;

use sfdata_common::{limits, ops::Shown};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Whether the hub can take work. Whoever knows changes their part of it (`watch::Sender::send_modify`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Everything is open and the listeners serve.
    pub started: bool,
    /// Asked to stop.
    pub draining: bool,
    /// Why the store writes no more.
    pub store_failed: Option<String>,
    /// Bytes free on the store's disk, when that is below `limits::DISK_RESERVE_BYTES`.
    pub disk_low: Option<u64>,
}

impl Readiness {
    /// Why the hub takes no commands; nothing when it does.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining {
            reasons.push("draining: the hub was asked to stop".to_owned());
        } else if !self.started {
            reasons.push("starting".to_owned());
        }
        if let Some(why) = &self.store_failed {
            reasons.push(format!("the store failed: {why}"));
        }
        if let Some(free) = self.disk_low {
            let reserve = limits::DISK_RESERVE_BYTES;
            reasons.push(format!("disk low: {free} bytes free, {reserve} wanted; free some space in data_dir"));
        }
        reasons
    }
}

/// What the listener shows.
pub fn shown(readiness: watch::Receiver<Readiness>, metrics: &Metrics) -> Shown {
    Shown { reasons: Arc::new(move || readiness.borrow().reasons()), metrics: metrics.page() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told() {
        let (readiness, seen) = watch::channel(Readiness::default());
        let shown = shown(seen, &Metrics::default());
        assert_eq!((shown.reasons)(), ["starting"]);
        readiness.send_modify(|readiness| readiness.started = true);
        assert!((shown.reasons)().is_empty());
        readiness.send_modify(|readiness| {
            readiness.draining = true;
            readiness.store_failed = Some("no space".into());
            readiness.disk_low = Some(7);
        });
        let told = (shown.reasons)().join("\n");
        for reason in ["draining", "the store failed: no space", "disk low: 7 bytes"] {
            assert!(told.contains(reason), "{told}");
        }
    }
}
