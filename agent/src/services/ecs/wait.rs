//! Waiting until ECS has done what was ordered: look, judge, tell how far it is, look again less often.
//!
//! A wait changes nothing in AWS, so it may be broken off at any instant and begun again.

use std::time::Duration;

use sfdata_common::outcome::FailureCode;
use sfdata_proto::v1::EcsServiceState;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Ecs,
    state::{Judge, Verdict, state},
};
use crate::{config::Role, execute::Job, services::Error};

/// First pause between two looks; a task takes some seconds to start at the very least.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause: twelve calls a minute for each wait, far under ECS's rate of reads for an account.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What a look may still take after the deadline: there is time for one, since all may well be there.
const GRACE: Duration = Duration::from_secs(5);

impl Ecs {
    /// Look until `judge` has seen enough. `done` says what was ordered, for messages that end the wait early.
    pub(super) async fn wait(
        &self,
        name: &str,
        role: Role,
        ends: Instant,
        job: &Job,
        done: &str,
        mut judge: impl Judge,
    ) -> Result<EcsServiceState, Error> {
        let mut pause = PAUSE_MIN;
        let (mut told, mut event) = (String::from("ECS was not seen since"), None);
        loop {
            let look_by = ends.max(Instant::now() + GRACE);
            let seen = tokio::select! {
                biased;
                () = job.cancelled().cancelled() => return Err(broken_off(done, &told)),
                service = self.look(name) => state(&service.map_err(|error| error.after(done))?, role),
                () = sleep_until(look_by) => return Err(self.late(name, done, &told, event).await),
            };
            match judge.judge(&seen) {
                Verdict::Reached => return Ok(seen),
                Verdict::Lost(error) => return Err(error.after(done)),
                Verdict::Waits { step, percent } => {
                    if step != told {
                        job.progress(step.clone(), percent);
                        told = step;
                    }
                }
            }
            event = seen.events.into_iter().next();
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late(name, done, &told, event).await);
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => return Err(broken_off(done, &told)),
                () = sleep(pause.min(left)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn late(&self, name: &str, done: &str, told: &str, event: Option<String>) -> Error {
        let mut text = format!("{done}; the deadline came first: {told}");
        if let Some(event) = event {
            text += &format!("; last event: {}", event.trim_end_matches('.'));
        }
        // Why a task stopped is often the whole answer, and never worth a second deadline.
        if let Ok(Ok(Some(stopped))) = timeout(GRACE, self.last_stop(name)).await {
            text += &format!("; last stopped task: {stopped}");
        }
        Error::failed(FailureCode::Deadline, text + "; ECS keeps trying: look at its status and at its tasks' logs")
    }
}

fn broken_off(done: &str, told: &str) -> Error {
    Error::cancelled(format!("{done}; only the waiting was stopped: {told}"))
}
