//! Waiting until ECS has done what was ordered: look, judge, tell how far it is, look again less often.
//!
//! A wait changes nothing in AWS, so it may be broken off at any instant and begun again. It outlasts a time in which AWS
//! can't be asked: what nobody judges is worse than a late word.

use std::time::Duration;

use aws_sdk_ecs::types::Service;
use sfdata_common::{outcome::FailureCode, retry::jittered};
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

/// What a read tells, asked for again while AWS can't be asked: at least once, and until `ends`.
pub(super) async fn insist<T, F>(what: &str, ends: Instant, job: &Job, ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        match ask().await {
            Err(error) if error.is_passing() && Instant::now() < ends => {
                job.progress(format!("AWS does not tell {what}; asking again"), None);
                sleep(jittered(pause, 0.2)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            ended => return ended,
        }
    }
}

impl Ecs {
    /// [`Ecs::look`], also through a time in which AWS can't be asked.
    pub(super) async fn look_by(&self, name: &str, ends: Instant, job: &Job) -> Result<Service, Error> {
        let what = format!("the state of {name}");
        tokio::select! {
            biased;
            () = job.cancelled().cancelled() => Err(Error::cancelled(format!("{name} was not looked at again"))),
            seen = insist(&what, ends, job, || self.look(name)) => seen,
        }
    }

    /// Look until `judge` has seen enough. `done` says what was ordered, for messages that end the wait early.
    pub(super) async fn wait(
        &self,
        name: &str,
        role: Role,
        ends: Instant,
        job: &Job,
        done: &str,
        judge: &mut impl Judge,
    ) -> Result<EcsServiceState, Error> {
        let (mut pause, mut reached) = (PAUSE_MIN, None);
        let (mut told, mut event) = (String::from("ECS was not seen since"), None);
        loop {
            let look_by = ends.max(Instant::now() + GRACE);
            let seen = tokio::select! {
                biased;
                () = job.cancelled().cancelled() => return Err(broken_off(done, &told)),
                seen = self.see(name, role, judge.counts()) => seen,
                () = sleep_until(look_by) => return Err(self.late(name, done, &told, event, judge).await),
            };
            let (step, percent) = match seen {
                Err(error) if error.is_passing() => (format!("AWS does not tell the state of {name}: {error}"), None),
                Err(error) => return Err(error.after(done)),
                Ok(seen) => {
                    event = seen.events.first().cloned();
                    let verdict = judge.judge(&seen);
                    reached = if verdict == Verdict::Reached { reached.or_else(|| Some(Instant::now())) } else { None };
                    match (verdict, reached) {
                        (Verdict::Lost(error), _) => return Err(error.after(done)),
                        (Verdict::Waits { step, percent }, _) => (step, percent),
                        (Verdict::Reached, reached) => {
                            let left = judge.settle().saturating_sub(reached.map_or(Duration::ZERO, |at| at.elapsed()));
                            // What sleeps can't fail.
                            if left.is_zero() || seen.desired == 0 {
                                return Ok(seen);
                            }
                            pause = pause.min(left);
                            let watched = judge.settle().as_secs();
                            (format!("all tasks run; whether they stay is watched for {watched} s"), Some(99))
                        }
                    }
                }
            };
            if step != told {
                job.progress(step.clone(), percent);
                told = step;
            }
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late(name, done, &told, event, judge).await);
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => return Err(broken_off(done, &told)),
                () = sleep(pause.min(left)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn see(&self, name: &str, role: Role, counts: bool) -> Result<EcsServiceState, Error> {
        let mut seen = state(&self.look(name).await?, role);
        if let Some(primary) = seen.deployments.iter_mut().find(|deployment| counts && deployment.status == "PRIMARY") {
            let ended = self.ended_tasks(name, &primary.id).await?;
            primary.failed_tasks = primary.failed_tasks.max(ended);
        }
        Ok(seen)
    }

    async fn late(&self, name: &str, done: &str, told: &str, event: Option<String>, judge: &impl Judge) -> Error {
        let mut text = format!("{done}; the deadline came first: {told}");
        if let Some(event) = event {
            text += &format!("; last event: {}", event.trim_end_matches('.'));
        }
        // Why a task stopped is often the whole answer, and never worth a second deadline.
        if let Ok(Ok(Some(stopped))) = timeout(GRACE, self.last_stop(name)).await {
            text += &format!("; last stopped task: {stopped}");
        }
        Error::failed(FailureCode::Deadline, text + judge.after_deadline())
    }
}

fn broken_off(done: &str, told: &str) -> Error {
    Error::cancelled(format!("{done}; only the waiting was stopped: {told}"))
}
