//! What ECS says of a service, as the wire carries it, and the pure judgements over it: is a scaling there yet,
//! is a restart, is anything in motion.
//!
//! A judgement sees one look after the other and decides; how often is looked, and until when, is `wait`'s.

use std::time::Duration;

use aws_sdk_ecs::{
    primitives::DateTime,
    types::{Deployment, Service, ServiceEvent},
};
use jiff::Timestamp;
use sfdata_common::outcome::FailureCode;
use sfdata_proto::v1::{EcsDeployment, EcsServiceState};

use crate::{config::Role, services::Error};

/// Events told of a service: enough to see what it is at, and why it is stuck.
const EVENTS: usize = 5;
/// So many looks in a row must show another desired count before it counts as somebody's change: ECS answers
/// reads from several places, and one may be behind.
pub(super) const LOOKS_TO_BE_SURE: u32 = 3;

/// What one look means for who waits.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The wanted state is there.
    Reached,
    /// Not yet: how far it is.
    Waits { step: String, percent: Option<u32> },
    /// It will not come.
    Lost(Error),
}

/// Judges looks in the order in which they were made.
pub(super) trait Judge {
    fn judge(&mut self, state: &EcsServiceState) -> Verdict;

    /// Whether tasks that end are to be counted into the primary deployment's `failed_tasks`: ECS itself counts only
    /// those that never came to run.
    fn counts(&self) -> bool {
        false
    }

    /// For how long it has to stay reached.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    /// What becomes of it when the deadline comes first.
    fn after_deadline(&self) -> &'static str {
        "; ECS keeps trying: look at its status and at its tasks' logs"
    }
}

pub(super) fn state(service: &Service, role: Role) -> EcsServiceState {
    EcsServiceState {
        name: service.service_name().unwrap_or_default().into(),
        role: role.as_str().into(),
        status: service.status().unwrap_or_default().into(),
        desired: count(service.desired_count()),
        running: count(service.running_count()),
        pending: count(service.pending_count()),
        image: String::new(),
        image_digest: String::new(),
        task_definition: service.task_definition().unwrap_or_default().into(),
        deployments: service.deployments().iter().map(deployment).collect(),
        events: service.events().iter().take(EVENTS).map(event).collect(),
    }
}

/// A service that the configuration names and ECS does not know.
pub(super) fn missing(name: &str, role: Role) -> EcsServiceState {
    EcsServiceState { name: name.into(), role: role.as_str().into(), status: "MISSING".into(), ..Default::default() }
}

fn deployment(deployment: &Deployment) -> EcsDeployment {
    EcsDeployment {
        id: deployment.id().unwrap_or_default().into(),
        status: deployment.status().unwrap_or_default().into(),
        rollout_state: deployment.rollout_state().map(|state| state.as_str().into()).unwrap_or_default(),
        rollout_reason: deployment.rollout_state_reason().unwrap_or_default().into(),
        desired: count(deployment.desired_count()),
        running: count(deployment.running_count()),
        pending: count(deployment.pending_count()),
        failed_tasks: count(deployment.failed_tasks()),
    }
}

fn event(event: &ServiceEvent) -> String {
    let text = event.message().unwrap_or_default();
    match event.created_at().and_then(time) {
        Some(at) => format!("{at} {text}"),
        None => text.into(),
    }
}

/// To the second.
pub(super) fn time(at: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(at.secs()).ok()
}

pub(super) fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// The deployment that ECS works towards.
pub(super) fn primary(state: &EcsServiceState) -> Option<&EcsDeployment> {
    state.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
}

pub(super) fn settled(state: &EcsServiceState) -> bool {
    state.running == state.desired && state.pending == 0 && state.deployments.len() <= 1
}

/// Whether ECS is about to change something of this service.
pub fn in_motion(state: &EcsServiceState) -> bool {
    !settled(state) || state.deployments.iter().any(|deployment| deployment.rollout_state == "IN_PROGRESS")
}

pub(super) fn share(part: u32, whole: u32) -> Option<u32> {
    (part.min(whole) * 100).checked_div(whole)
}

/// `reason`, or that there is none.
fn because(reason: &str) -> &str {
    if reason.is_empty() { "ECS gives no reason" } else { reason.trim_end_matches('.') }
}

/// Reached when as many run as wanted, nothing is pending and no older deployment is left.
#[derive(Debug)]
pub(super) struct Scaling {
    desired: u32,
    other: u32,
}

impl Scaling {
    pub(super) fn to(desired: u32) -> Self {
        Self { desired, other: 0 }
    }
}

impl Judge for Scaling {
    fn judge(&mut self, state: &EcsServiceState) -> Verdict {
        if state.desired != self.desired {
            self.other += 1;
            if self.other >= LOOKS_TO_BE_SURE {
                return Verdict::Lost(Error::failed(
                    FailureCode::Conflict,
                    format!(
                        "somebody else has set the desired count of {} to {}; agree with them, then order again",
                        state.name, state.desired
                    ),
                ));
            }
            return Verdict::Waits { step: "ECS does not show the new count yet".into(), percent: Some(0) };
        }
        self.other = 0;
        if settled(state) {
            return Verdict::Reached;
        }
        let failed = primary(state).filter(|deployment| deployment.rollout_state == "FAILED");
        if let Some(deployment) = failed.filter(|_| state.running < state.desired && state.pending == 0) {
            return Verdict::Lost(rollout_failed(state, deployment));
        }
        let step = if state.running <= self.desired {
            format!("{} of {} tasks run", state.running, self.desired)
        } else {
            format!("{} tasks run, {} are to stop", state.running, state.running - self.desired)
        };
        // Stopping tasks and older deployments are the rest: all run, and it has not ended yet.
        let percent = if state.running > self.desired { None } else { share(state.running, self.desired) };
        Verdict::Waits { step, percent: percent.map(|percent| percent.min(99)) }
    }
}

/// Reached when the rollout of our deployment has completed.
#[derive(Debug)]
pub(super) struct Restart<'a> {
    /// PRIMARY when the restart was ordered.
    pub(super) before: &'a str,
    /// What the order made PRIMARY.
    pub(super) ours: &'a str,
}

impl Judge for Restart<'_> {
    fn judge(&mut self, state: &EcsServiceState) -> Verdict {
        let waits = |step: String, percent| Verdict::Waits { step, percent };
        let ours = state.deployments.iter().find(|deployment| deployment.id == self.ours);
        if let Some(failed) = ours.filter(|deployment| deployment.rollout_state == "FAILED") {
            return Verdict::Lost(rollout_failed(state, failed));
        }
        match primary(state) {
            // Ours is gone already, and the one that took its place says why.
            Some(now) if now.rollout_reason.contains("rolling back") => {
                let ours = EcsDeployment { id: self.ours.into(), failed_tasks: 0, ..now.clone() };
                Verdict::Lost(rollout_failed(state, &ours))
            }
            Some(now) if now.id == self.ours => {
                // Without a rollout state (other deployment types) the counts have to do.
                let counted = now.rollout_state.is_empty() && settled(state);
                if now.rollout_state == "COMPLETED" || counted {
                    return Verdict::Reached;
                }
                let percent = share(now.running, now.desired).map(|percent| percent.min(99));
                waits(format!("{} of {} new tasks run", now.running, now.desired), percent)
            }
            Some(now) if now.id == self.before => waits("ECS does not show the new deployment yet".into(), Some(0)),
            Some(now) => Verdict::Lost(Error::failed(
                FailureCode::Conflict,
                format!(
                    "somebody else has deployed {} meanwhile ({}), which took the place of this restart ({}); look at \
                     its status before another restart",
                    state.name, now.id, self.ours
                ),
            )),
            None => waits("ECS shows no primary deployment".into(), None),
        }
    }
}

pub(super) fn rollout_failed(state: &EcsServiceState, deployment: &EcsDeployment) -> Error {
    let failed = match deployment.failed_tasks {
        0 => String::new(),
        tasks => format!(", failed tasks: {tasks}"),
    };
    let event =
        state.events.first().map(|event| format!("; last event: {}", event.trim_end_matches('.'))).unwrap_or_default();
    Error::failed(
        FailureCode::Rejected,
        format!(
            "ECS gave up the rollout of {} ({}{failed}): {}{event}; look at the logs of its tasks",
            state.name,
            deployment.id,
            because(&deployment.rollout_reason),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(id: &str, status: &str, state: &str, running: u32) -> EcsDeployment {
        EcsDeployment {
            id: id.into(),
            status: status.into(),
            rollout_state: state.into(),
            desired: 2,
            running,
            ..Default::default()
        }
    }

    fn service(desired: u32, running: u32, deployments: Vec<EcsDeployment>) -> EcsServiceState {
        EcsServiceState { name: "code".into(), desired, running, deployments, ..Default::default() }
    }

    fn code(verdict: Verdict) -> FailureCode {
        match verdict {
            Verdict::Lost(Error::Failed { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_scaling_waits_for_all_tasks_and_for_older_deployments() {
        let waits = |step: &str, percent| Verdict::Waits { step: step.into(), percent };
        let mut up = Scaling::to(3);
        let one = || rollout("a", "PRIMARY", "COMPLETED", 1);
        assert_eq!(up.judge(&service(3, 2, vec![one()])), waits("2 of 3 tasks run", Some(66)));
        let two = vec![one(), rollout("b", "ACTIVE", "COMPLETED", 1)];
        assert_eq!(up.judge(&service(3, 3, two)), waits("3 of 3 tasks run", Some(99)));
        let pending = EcsServiceState { pending: 1, ..service(3, 3, vec![one()]) };
        assert_eq!(up.judge(&pending), waits("3 of 3 tasks run", Some(99)));
        assert_eq!(up.judge(&service(3, 3, vec![one()])), Verdict::Reached);

        let mut down = Scaling::to(0);
        assert_eq!(down.judge(&service(0, 2, vec![one()])), waits("2 tasks run, 2 are to stop", None));
        assert_eq!(down.judge(&service(0, 0, vec![one()])), Verdict::Reached);
    }

    #[test]
    fn another_count_is_a_conflict_once_it_is_sure() {
        let mut scaling = Scaling::to(2);
        let other = service(5, 5, vec![]);
        let early = [scaling.judge(&other), scaling.judge(&other)];
        assert!(early.iter().all(|verdict| matches!(verdict, Verdict::Waits { .. })));
        assert!(matches!(scaling.judge(&service(2, 1, vec![])), Verdict::Waits { .. }), "a read was behind");
        scaling.judge(&other);
        scaling.judge(&other);
        assert_eq!(code(scaling.judge(&other)), FailureCode::Conflict);
    }

    #[test]
    fn a_scaling_of_a_failed_deployment_does_not_wait_for_the_deadline() {
        let failed = || vec![rollout("a", "PRIMARY", "FAILED", 0)];
        assert_eq!(code(Scaling::to(2).judge(&service(2, 0, failed()))), FailureCode::Rejected);
        assert!(matches!(Scaling::to(0).judge(&service(0, 1, failed())), Verdict::Waits { .. }));
    }

    #[test]
    fn a_restart_ends_with_the_rollout_of_its_own_deployment() {
        let mut restart = Restart { before: "a", ours: "b" };
        let mut judge = |deployments| restart.judge(&service(2, 2, deployments));
        let old = |status| rollout("a", status, "COMPLETED", 2);
        let waits = |step: &str, percent| Verdict::Waits { step: step.into(), percent };

        assert_eq!(judge(vec![old("PRIMARY")]), waits("ECS does not show the new deployment yet", Some(0)));
        let both = |state, running| vec![rollout("b", "PRIMARY", state, running), old("ACTIVE")];
        assert_eq!(judge(both("IN_PROGRESS", 1)), waits("1 of 2 new tasks run", Some(50)));
        assert_eq!(judge(both("", 2)), waits("2 of 2 new tasks run", Some(99)), "the old one is still there");
        assert_eq!(judge(vec![rollout("b", "PRIMARY", "", 2)]), Verdict::Reached);
        assert_eq!(judge(vec![rollout("b", "PRIMARY", "COMPLETED", 2)]), Verdict::Reached);
    }

    #[test]
    fn a_failed_rollout_is_told_apart_from_somebody_elses_deployment() {
        let mut restart = Restart { before: "a", ours: "b" };
        let mut judge = |deployments| restart.judge(&service(2, 0, deployments));

        assert_eq!(code(judge(vec![rollout("b", "PRIMARY", "FAILED", 0)])), FailureCode::Rejected);
        let back = EcsDeployment {
            rollout_reason: "ECS deployment circuit breaker: rolling back to deploymentId a".into(),
            ..rollout("c", "PRIMARY", "IN_PROGRESS", 0)
        };
        assert_eq!(code(judge(vec![back.clone(), rollout("b", "ACTIVE", "FAILED", 0)])), FailureCode::Rejected);
        assert_eq!(code(judge(vec![back])), FailureCode::Rejected, "ours is gone already");
        let theirs = rollout("c", "PRIMARY", "IN_PROGRESS", 0);
        assert_eq!(code(judge(vec![theirs, rollout("b", "ACTIVE", "IN_PROGRESS", 1)])), FailureCode::Conflict);
    }

    #[test]
    fn what_sleeps_or_runs_steadily_is_not_in_motion() {
        assert!(!in_motion(&service(0, 0, vec![rollout("a", "PRIMARY", "COMPLETED", 0)])));
        assert!(!in_motion(&missing("x", Role::Other)));
        assert!(in_motion(&service(1, 0, vec![])));
        assert!(in_motion(&service(2, 2, vec![rollout("a", "PRIMARY", "IN_PROGRESS", 2)])));
    }
}
