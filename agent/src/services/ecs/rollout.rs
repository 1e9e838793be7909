//! Whether a service has come to run a task definition: the agent's own judgement, sooner than ECS's circuit breaker,
//! which needs three failures and can be switched off.

use std::time::Duration;

use sfdata_common::outcome::FailureCode;
use sfdata_proto::v1::EcsServiceState;

use super::state::{Judge, LOOKS_TO_BE_SURE, Verdict, primary, rollout_failed, settled, share};
use crate::services::Error;

/// Reached when all tasks run this definition, and stay.
#[derive(Debug)]
pub(super) struct Rollout<'a> {
    /// ARN of the task definition.
    pub(super) definition: &'a str,
    /// So many ended tasks are a failure; none are where nothing better is to be had.
    pub(super) failed_tasks: Option<u32>,
    /// How long all have to run.
    pub(super) settle: Duration,
    other: u32,
}

impl<'a> Rollout<'a> {
    pub(super) fn of(definition: &'a str, failed_tasks: Option<u32>, settle: Duration) -> Self {
        Self { definition, failed_tasks, settle, other: 0 }
    }
}

impl Judge for Rollout<'_> {
    fn judge(&mut self, state: &EcsServiceState) -> Verdict {
        let Some(now) = primary(state) else {
            return Verdict::Waits { step: "ECS shows no primary deployment".into(), percent: None };
        };
        if state.task_definition != self.definition {
            self.other += 1;
            if self.other < LOOKS_TO_BE_SURE {
                let step = "ECS does not show the new task definition yet".into();
                return Verdict::Waits { step, percent: Some(0) };
            }
            return Verdict::Lost(if now.rollout_reason.contains("rolling back") {
                rollout_failed(state, now)
            } else {
                Error::failed(
                    FailureCode::Conflict,
                    format!(
                        "somebody else has given {} another task definition meanwhile, {}; look at its status",
                        state.name, state.task_definition
                    ),
                )
            });
        }
        self.other = 0;
        if now.rollout_state == "FAILED" {
            return Verdict::Lost(rollout_failed(state, now));
        }
        if self.failed_tasks.is_some_and(|most| now.failed_tasks >= most) {
            return Verdict::Lost(Error::failed(
                FailureCode::Rejected,
                format!("{} tasks of {} ended that should run on", now.failed_tasks, state.name),
            ));
        }
        // Without a rollout state (other deployment types) the counts have to do.
        if settled(state) && matches!(now.rollout_state.as_str(), "COMPLETED" | "") {
            return Verdict::Reached;
        }
        let failed = match now.failed_tasks {
            0 => String::new(),
            tasks => format!(", ended early: {tasks}"),
        };
        let percent = share(now.running, now.desired).map(|percent| percent.min(99));
        Verdict::Waits { step: format!("{} of {} new tasks run{failed}", now.running, now.desired), percent }
    }

    fn counts(&self) -> bool {
        self.failed_tasks.is_some()
    }

    fn settle(&self) -> Duration {
        self.settle
    }

    fn after_deadline(&self) -> &'static str {
        ""
    }
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::EcsDeployment;

    use super::*;

    fn seen(definition: &str, rollout: &str, running: u32, failed_tasks: u32) -> EcsServiceState {
        let deployment = EcsDeployment {
            id: "b".into(),
            status: "PRIMARY".into(),
            rollout_state: rollout.into(),
            desired: 2,
            running,
            failed_tasks,
            ..Default::default()
        };
        EcsServiceState {
            name: "code".into(),
            task_definition: definition.into(),
            desired: 2,
            running,
            deployments: vec![deployment],
            ..Default::default()
        }
    }

    fn judge(states: &[EcsServiceState]) -> Verdict {
        let mut rollout = Rollout::of("new", Some(2), Duration::ZERO);
        states.iter().map(|state| rollout.judge(state)).last().unwrap()
    }

    fn code(verdict: Verdict) -> FailureCode {
        match verdict {
            Verdict::Lost(Error::Failed { code, .. }) => code,
            other => panic!("not lost: {other:?}"),
        }
    }

    #[test]
    fn it_is_reached_when_all_tasks_run_the_definition() {
        assert_eq!(judge(&[seen("new", "COMPLETED", 2, 1)]), Verdict::Reached);
        assert_eq!(judge(&[seen("new", "", 2, 0)]), Verdict::Reached);
        for state in [seen("new", "IN_PROGRESS", 2, 0), seen("new", "COMPLETED", 1, 0)] {
            assert!(matches!(judge(&[state]), Verdict::Waits { .. }), "a task that ended later counts");
        }
    }

    #[test]
    fn two_ended_tasks_are_a_failure_whatever_ecs_says() {
        for rollout in ["IN_PROGRESS", "COMPLETED"] {
            assert_eq!(code(judge(&[seen("new", rollout, 2, 2)])), FailureCode::Rejected);
        }
        assert_eq!(code(judge(&[seen("new", "FAILED", 0, 0)])), FailureCode::Rejected);
        assert_eq!(Rollout::of("new", None, Duration::ZERO).judge(&seen("new", "COMPLETED", 2, 9)), Verdict::Reached);
    }

    #[test]
    fn another_definition_is_somebody_elses_or_the_circuit_breakers_once_it_is_sure() {
        let other = seen("old", "IN_PROGRESS", 2, 0);
        assert!(matches!(judge(&[other.clone(), other.clone()]), Verdict::Waits { .. }));
        let looks = vec![other.clone(); LOOKS_TO_BE_SURE as usize];
        assert_eq!(code(judge(&looks)), FailureCode::Conflict);
        let mut back = other;
        back.deployments[0].rollout_reason = "ECS deployment circuit breaker: rolling back to a".into();
        assert_eq!(code(judge(&vec![back; LOOKS_TO_BE_SURE as usize])), FailureCode::Rejected);
    }
}
