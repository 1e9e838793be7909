//! Background work: passes that take no input, may run at any time and repeat harmlessly.

use std::{future::Future, time::Duration};

use sfdata_common::error::chain;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Run `pass` every `interval` until the hub stops.
pub async fn every<E: std::error::Error, F: Future<Output = Result<(), E>>>(
    name: &'static str,
    interval: Duration,
    stop: CancellationToken,
    mut pass: impl FnMut() -> F,
) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = pass().await {
            warn!(task = name, error = %chain(&error), "a pass failed; it will be repeated");
        }
    }
}
