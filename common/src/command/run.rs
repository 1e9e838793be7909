//! A task that runs once, beside a service and as it is defined, with another command.

use std::time::Duration;

use sfdata_proto::v1 as wire;

use super::{Environment, ParseError, deadline, environment, malformed, seconds};
use crate::{fargate::Size, limits};

/// A one-off task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Name of the ECS service whose task definition and network it has.
    pub service: String,
    /// What its main container executes, in place of its own command.
    pub command: Vec<String>,
    /// Variables that are set besides; none are taken away.
    pub environment: Option<Environment>,
    /// What it has of CPU and memory, in place of what is defined.
    pub size: Option<Size>,
    /// Whether to run it on Spot while there is any.
    pub spot: bool,
    /// Whether it is done as soon as the task runs.
    pub detach: bool,
    /// When the task is stopped.
    pub deadline: Duration,
}

impl Run {
    pub(super) fn to_wire(&self) -> wire::EcsRun {
        wire::EcsRun {
            service: self.service.clone(),
            command: self.command.clone(),
            environment: self.environment.as_ref().map(Environment::variables).unwrap_or_default(),
            cpu: self.size.map_or(0, Size::cpu),
            memory: self.size.map_or(0, Size::memory),
            spot: self.spot,
            detach: self.detach,
            deadline_seconds: seconds(self.deadline),
        }
    }

    pub(super) fn parse(message: wire::EcsRun, service: String) -> Result<Self, ParseError> {
        let bytes: usize = message.command.iter().map(String::len).sum();
        if message.command.is_empty() || message.command[0].is_empty() {
            return Err(malformed("a task needs a command"));
        }
        if message.command.len() > limits::RUN_WORDS || bytes > limits::RUN_BYTES {
            return Err(malformed(format!(
                "a command has at most {} words and {} bytes",
                limits::RUN_WORDS,
                limits::RUN_BYTES
            )));
        }
        if message.command.iter().any(|word| environment::has_password(word)) {
            return Err(malformed("a word of the command is a URL with a password, and would be kept in the clear"));
        }
        let set: Vec<_> = message.environment.into_iter().map(|v| (v.name, v.value)).collect();
        Ok(Self {
            service,
            command: message.command,
            environment: (!set.is_empty()).then(|| Environment::new(set, Vec::new())).transpose()?,
            size: match (message.cpu, message.memory) {
                (0, 0) => None,
                (cpu, memory) => Some(Size::new(cpu, memory).map_err(malformed)?),
            },
            spot: message.spot,
            detach: message.detach,
            deadline: deadline(message.deadline_seconds)?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn any_run() -> impl Strategy<Value = Run> {
        let words = proptest::collection::vec("[a-z -]{1,20}", 1..6);
        let variable = proptest::option::of(("[A-Z]{1,9}", "[a-z0-9 ]{0,20}"));
        (words, variable, 0u32..=8, any::<(bool, bool)>(), 1u64..3600).prop_map(
            |(command, variable, gib, (spot, detach), seconds)| Run {
                service: "code-server".into(),
                command,
                environment: variable.map(|variable| Environment::new([variable], vec![]).unwrap()),
                size: (gib >= 2).then(|| Size::new(1024, gib * 1024).unwrap()),
                spot,
                detach,
                deadline: Duration::from_secs(seconds),
            },
        )
    }

    #[test]
    fn a_command_is_there_is_bounded_and_holds_no_password() {
        let parse = |command: &[&str]| {
            let command = command.iter().map(ToString::to_string).collect();
            Run::parse(wire::EcsRun { command, deadline_seconds: 60, ..Default::default() }, "code".into())
        };
        assert!(parse(&["dagster", "instance", "migrate"]).is_ok());
        let long = "x".repeat(limits::RUN_BYTES + 1);
        for refused in [&[][..], &[""], &[&long], &["psql", "postgres://dagster:hunter2@db/dagster"]] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
        assert!(parse(&vec!["x"; limits::RUN_WORDS + 1]).is_err());
    }
}
