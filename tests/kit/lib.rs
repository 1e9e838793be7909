//! The test kit: a whole fleet in a folder of its own, with real mutual TLS on free ports, and the means to break it.
//!
//! Nothing is mocked. [`fleet::Fleet`] runs the product's own hub and agents against the AWS stand-in; [`rogue`] speaks
//! the wire as somebody who took over a hub or an agent would; [`wire`] is the network between them;
//! [`process`] runs the real binaries, to be killed, with configurations from [`settings`]; [`iam`] holds policies beside calls;
//! [`receiver`] is who is told of alerts; [`collector`] is where traces go; [`dagster`] is a real Dagster, and one that answers wrongly;
//! [`fargate`] runs an agent as a task of ECS; [`crowd`] is a whole region of LAs, [`web`] looks at the web page, [`screen`] at a terminal; [`scrape`] reads metrics as Prometheus does;
//! [`release`] is what programs of a release said to each other, heard by a [`relay`] and spoken again by [`raw`] peers;
//! [`sts`] is an STS that answers as it should not, [`kms`] a KMS with an Ed25519 key.

pub mod collector;
pub mod crowd;
pub mod dagster;
pub mod fargate;
pub mod fleet;
pub mod h2;
pub mod iam;
pub mod kms;
pub mod operator;
pub mod process;
pub mod raw;
pub mod receiver;
pub mod relay;
pub mod release;
pub mod rogue;
pub mod scrape;
pub mod screen;
pub mod settings;
pub mod standin;
pub mod sts;
pub mod web;
pub mod wire;

use std::time::{Duration, Instant};

/// Wait until `condition` gives something, looking often; panics with `what` when it takes too long.
pub async fn eventually<T>(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(began.elapsed() < within, "after {within:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Memory of this process that is resident, in bytes.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}
