//! When a change of what a service runs has failed: the operator's bounds for the agent's judgement.

use std::time::Duration;

use sfdata_proto::v1 as wire;

use super::{ParseError, deadline, malformed, seconds};
use crate::limits;

/// When a change of a service's task definition has failed, so that it is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// For all of it; a third is kept for going back.
    pub deadline: Duration,
    /// So many tasks of the new definition may not end by themselves.
    pub failed_tasks: u32,
    /// All tasks have to run for so long.
    pub settle: Duration,
}

impl Rollout {
    pub(super) fn to_wire(self) -> wire::EcsRollout {
        wire::EcsRollout {
            deadline_seconds: seconds(self.deadline),
            failed_tasks: self.failed_tasks,
            settle_seconds: seconds(self.settle),
        }
    }
}

impl TryFrom<wire::EcsRollout> for Rollout {
    type Error = ParseError;

    fn try_from(message: wire::EcsRollout) -> Result<Self, ParseError> {
        let (deadline, settle) =
            (deadline(message.deadline_seconds)?, Duration::from_secs(message.settle_seconds.into()));
        if settle > deadline / 3 {
            return Err(malformed(format!("tasks cannot be watched for {settle:?} within a deadline of {deadline:?}")));
        }
        if message.failed_tasks == 0 || message.failed_tasks > limits::FAILED_TASKS {
            return Err(malformed(format!(
                "{} ended tasks are out of range: 1 to {}",
                message.failed_tasks,
                limits::FAILED_TASKS
            )));
        }
        Ok(Self { deadline, failed_tasks: message.failed_tasks, settle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_to_watch_and_to_go_back_and_a_task_that_may_end() {
        let parse = |deadline_seconds, failed_tasks, settle_seconds| {
            Rollout::try_from(wire::EcsRollout { deadline_seconds, failed_tasks, settle_seconds }).is_ok()
        };
        assert!(parse(60, 2, 20));
        assert!(!parse(60, 2, 21) && !parse(60, 0, 20) && !parse(60, limits::FAILED_TASKS + 1, 20) && !parse(0, 2, 0));
    }
}
