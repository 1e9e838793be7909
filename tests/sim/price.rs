//! What it costs, in US dollars of eu-west-2 (London) without tax.

use crate::{clock::HOUR, judge::Verdict};

/// Fargate, Linux on x86, on demand: one vCPU for an hour. An assumption: AWS's published price, not looked up again.
pub const VCPU_HOUR: f64 = 0.04656;
/// The same for one GB of memory. Ephemeral storage is within the free 20 GB.
pub const GB_HOUR: f64 = 0.00511;
/// Aurora Serverless v2: one ACU for an hour. An assumption: near the published price, not looked up again.
pub const ACU_HOUR: f64 = 0.14;
/// What Aurora keeps while somebody is connected; an assumption for Dagster's storage at rest.
pub const ACU: f64 = 0.5;
/// vCPU and GB of webserver, daemon and code server. Tasks of runs are the same under each policy, and left out.
pub const SIZES: [(f64, f64); 3] = [(0.5, 1.0), (0.5, 1.0), (0.5, 2.0)];

/// The cost of a simulation's services and database.
pub fn cost(verdict: &Verdict) -> f64 {
    let hours = |time: i64| time as f64 / HOUR as f64;
    let tasks =
        verdict.billed.iter().zip(SIZES).map(|(time, (vcpu, gb))| hours(*time) * (vcpu * VCPU_HOUR + gb * GB_HOUR));
    tasks.sum::<f64>() + hours(verdict.database) * ACU * ACU_HOUR
}
