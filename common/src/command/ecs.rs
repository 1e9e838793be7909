//! Actions on the ECS services of a platform: what each is called, may do and holds, and how it goes over the wire.

use std::time::Duration;

use sfdata_proto::v1::{self as wire, ecs_action as kind};

use super::{
    Class, Environment, ParseError, Resource, Rollout, Run, deadline, environment, malformed, seconds, unknown,
};
use crate::{
    fargate::Size,
    ids::CommandId,
    image::{self, Image},
    limits,
};

/// What Fargate tasks run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FargateCapacity {
    /// What stays for as long as the task runs.
    OnDemand,
    /// What is cheaper, and may be taken back.
    Spot {
        /// So many tasks stay on demand.
        base: u32,
    },
}

/// Actions on the ECS services of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ecs {
    /// Services, deployments, tasks, last events. Always legal.
    Status,
    /// Set the desired count and wait until it runs. Repeating it is harmless.
    Scale {
        /// Name of the ECS service.
        service: String,
        /// Wanted number of tasks.
        desired: u32,
        /// How long to wait for the service to be stable.
        deadline: Duration,
    },
    /// Replace the tasks and wait until the new ones run. The journal remembers which deployment
    /// was there before, so that a repetition does not restart twice.
    Restart {
        /// Name of the ECS service.
        service: String,
        /// How long to wait for the service to be stable.
        deadline: Duration,
    },
    /// Run another image, and go back where that fails. The journal remembers the definition before.
    Deploy {
        /// Name of the ECS service; none is all that is Dagster's own, one after the other.
        service: Option<String>,
        /// What its main container shall run.
        image: Image,
        /// When it has failed.
        rollout: Rollout,
    },
    /// Run the definition again that the current one was made from.
    Rollback {
        /// Name of the ECS service; none is all that is Dagster's own, one after the other.
        service: Option<String>,
        /// When it has failed.
        rollout: Rollout,
    },
    /// Run with another amount of CPU and memory, and go back where that fails.
    SetResources {
        /// Name of the ECS service.
        service: String,
        /// What its tasks shall have.
        size: Size,
        /// When it has failed.
        rollout: Rollout,
    },
    /// Run with other environment variables, and go back where that fails.
    SetEnv {
        /// Name of the ECS service.
        service: String,
        /// What is different of its main container's.
        environment: Environment,
        /// When it has failed.
        rollout: Rollout,
    },
    /// Run on other capacity, and go back where that fails. The journal remembers what was there before.
    SetCapacity {
        /// Name of the ECS service.
        service: String,
        /// What its tasks shall run on.
        capacity: FargateCapacity,
        /// When it has failed.
        rollout: Rollout,
    },
    /// Get a variable from Secrets Manager in place of a plain value, and go back where that fails. The journal remembers
    /// the definition before; the secret is made once by a token.
    UseSecret {
        /// Name of the ECS service.
        service: String,
        /// Of its main container.
        variable: String,
        /// ARN of a secret that there is; none makes one.
        secret: Option<String>,
        /// When it has failed.
        rollout: Rollout,
    },
    /// Run a task once with another command. The journal remembers what was asked for, and the task.
    Run(Run),
    /// Stop a task. Legal for any of the cluster; repeating it is harmless.
    StopTask {
        /// Id or ARN.
        task: String,
        /// For whoever looks at the task.
        reason: String,
        /// How long to wait until it has stopped.
        deadline: Duration,
    },
    /// Which image a tag means, in the repository that the service's image is from. Always legal.
    Image {
        /// Name of the ECS service.
        service: String,
        /// What to look for.
        tag: String,
    },
}

impl Ecs {
    /// `ecs.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "ecs.status",
            Self::Scale { .. } => "ecs.scale",
            Self::Restart { .. } => "ecs.restart",
            Self::Deploy { .. } => "ecs.deploy",
            Self::Rollback { .. } => "ecs.rollback",
            Self::SetResources { .. } => "ecs.set-resources",
            Self::SetEnv { .. } => "ecs.set-env",
            Self::SetCapacity { .. } => "ecs.set-capacity",
            Self::UseSecret { .. } => "ecs.use-secret",
            Self::Run(_) => "ecs.run",
            Self::StopTask { .. } => "ecs.stop-task",
            Self::Image { .. } => "ecs.image",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Status | Self::Image { .. } => Class::Read,
            Self::Scale { .. } | Self::Restart { .. } | Self::StopTask { .. } => Class::Operate,
            Self::Deploy { .. }
            | Self::Rollback { .. }
            | Self::SetResources { .. }
            | Self::SetEnv { .. }
            | Self::SetCapacity { .. }
            | Self::UseSecret { .. }
            | Self::Run(_) => Class::Change,
        }
    }

    pub(super) fn resource(&self, command: CommandId) -> Option<Resource> {
        match self {
            Self::Status | Self::Image { .. } => None,
            // Side by side, and in nobody's way.
            Self::Run(_) => Some(Resource::Task(command.to_string())),
            Self::StopTask { task, .. } => Some(Resource::Task(task.rsplit('/').next().unwrap_or_default().to_owned())),
            Self::Deploy { service: None, .. } | Self::Rollback { service: None, .. } => Some(Resource::Dagster),
            Self::Scale { service, .. }
            | Self::Restart { service, .. }
            | Self::Deploy { service: Some(service), .. }
            | Self::Rollback { service: Some(service), .. }
            | Self::SetResources { service, .. }
            | Self::SetEnv { service, .. }
            | Self::SetCapacity { service, .. }
            | Self::UseSecret { service, .. } => Some(Resource::EcsService(service.clone())),
        }
    }

    pub(super) fn to_wire(&self) -> wire::EcsAction {
        let kind = match self {
            Self::Status => kind::Kind::Status(wire::EcsStatus {}),
            Self::Scale { service, desired, deadline } => kind::Kind::Scale(wire::EcsScale {
                service: service.clone(),
                desired: *desired,
                deadline_seconds: seconds(*deadline),
            }),
            Self::Restart { service, deadline } => {
                kind::Kind::Restart(wire::EcsRestart { service: service.clone(), deadline_seconds: seconds(*deadline) })
            }
            Self::Deploy { service, image, rollout } => kind::Kind::Deploy(wire::EcsDeploy {
                service: service.clone().unwrap_or_default(),
                image: image.to_string(),
                rollout: Some(rollout.to_wire()),
            }),
            Self::Rollback { service, rollout } => kind::Kind::Rollback(wire::EcsRollback {
                service: service.clone().unwrap_or_default(),
                rollout: Some(rollout.to_wire()),
            }),
            Self::SetResources { service, size, rollout } => kind::Kind::SetResources(wire::EcsSetResources {
                service: service.clone(),
                cpu: size.cpu(),
                memory: size.memory(),
                rollout: Some(rollout.to_wire()),
            }),
            Self::SetEnv { service, environment, rollout } => {
                kind::Kind::SetEnv(environment.to_wire(service.clone(), *rollout))
            }
            Self::SetCapacity { service, capacity, rollout } => kind::Kind::SetCapacity(wire::EcsSetCapacity {
                service: service.clone(),
                spot: matches!(capacity, FargateCapacity::Spot { .. }),
                base: match capacity {
                    FargateCapacity::OnDemand => 0,
                    FargateCapacity::Spot { base } => *base,
                },
                rollout: Some(rollout.to_wire()),
            }),
            Self::UseSecret { service, variable, secret, rollout } => kind::Kind::UseSecret(wire::EcsUseSecret {
                service: service.clone(),
                variable: variable.clone(),
                secret: secret.clone().unwrap_or_default(),
                rollout: Some(rollout.to_wire()),
            }),
            Self::Run(run) => kind::Kind::Run(run.to_wire()),
            Self::StopTask { task, reason, deadline } => kind::Kind::StopTask(wire::EcsStopTask {
                task: task.clone(),
                reason: reason.clone(),
                deadline_seconds: seconds(*deadline),
            }),
            Self::Image { service, tag } => {
                kind::Kind::Image(wire::EcsImage { service: service.clone(), tag: tag.clone() })
            }
        };
        wire::EcsAction { kind: Some(kind) }
    }
}

impl TryFrom<wire::EcsAction> for Ecs {
    type Error = ParseError;

    fn try_from(message: wire::EcsAction) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::Status(_) => Self::Status,
            kind::Kind::Scale(scale) => {
                if scale.desired > limits::TASKS_PER_SERVICE {
                    return Err(malformed(format!("more than {} tasks", limits::TASKS_PER_SERVICE)));
                }
                Self::Scale {
                    service: service(scale.service)?,
                    desired: scale.desired,
                    deadline: deadline(scale.deadline_seconds)?,
                }
            }
            kind::Kind::Restart(restart) => {
                Self::Restart { service: service(restart.service)?, deadline: deadline(restart.deadline_seconds)? }
            }
            kind::Kind::Deploy(deploy) => Self::Deploy {
                service: one_or_all(deploy.service)?,
                image: deploy.image.parse().map_err(malformed)?,
                rollout: deploy.rollout.unwrap_or_default().try_into()?,
            },
            kind::Kind::Rollback(rollback) => Self::Rollback {
                service: one_or_all(rollback.service)?,
                rollout: rollback.rollout.unwrap_or_default().try_into()?,
            },
            kind::Kind::SetResources(set) => Self::SetResources {
                service: service(set.service)?,
                size: Size::new(set.cpu, set.memory).map_err(malformed)?,
                rollout: set.rollout.unwrap_or_default().try_into()?,
            },
            kind::Kind::SetEnv(asked) => Self::SetEnv {
                environment: Environment::new(asked.set.into_iter().map(|v| (v.name, v.value)), asked.unset)?,
                service: service(asked.service)?,
                rollout: asked.rollout.unwrap_or_default().try_into()?,
            },
            kind::Kind::SetCapacity(set) => Self::SetCapacity {
                capacity: match (set.spot, set.base) {
                    (true, base) if base <= limits::TASKS_PER_SERVICE => FargateCapacity::Spot { base },
                    (true, _) => return Err(malformed(format!("more than {} tasks", limits::TASKS_PER_SERVICE))),
                    (false, 0) => FargateCapacity::OnDemand,
                    (false, _) => return Err(malformed("only Spot has a base of on-demand tasks")),
                },
                service: service(set.service)?,
                rollout: set.rollout.unwrap_or_default().try_into()?,
            },
            kind::Kind::UseSecret(asked) => Self::UseSecret {
                service: service(asked.service)?,
                variable: environment::variable(asked.variable)?,
                secret: Some(asked.secret).filter(|arn| !arn.is_empty()).map(secret).transpose()?,
                rollout: asked.rollout.unwrap_or_default().try_into()?,
            },
            kind::Kind::Run(mut run) => {
                let service = service(std::mem::take(&mut run.service))?;
                Self::Run(Run::parse(run, service)?)
            }
            kind::Kind::StopTask(stop) => {
                if stop.reason.is_empty() || stop.reason.len() > limits::REASON_BYTES {
                    return Err(malformed(format!("a reason is needed, of at most {} bytes", limits::REASON_BYTES)));
                }
                Self::StopTask {
                    task: task(stop.task)?,
                    reason: stop.reason,
                    deadline: deadline(stop.deadline_seconds)?,
                }
            }
            kind::Kind::Image(asked) => {
                Self::Image { service: service(asked.service)?, tag: image::tag(asked.tag).map_err(malformed)? }
            }
        })
    }
}

/// A service, or none for all that is Dagster's own.
fn one_or_all(name: String) -> Result<Option<String>, ParseError> {
    Some(name).filter(|name| !name.is_empty()).map(service).transpose()
}

/// ECS service names (ECS API reference, CreateService).
pub(super) fn service(name: String) -> Result<String, ParseError> {
    named("service", name)
}

/// A cluster's name, or none (ECS API reference, CreateCluster).
pub(super) fn cluster(name: String) -> Result<Option<String>, ParseError> {
    Some(name).filter(|name| !name.is_empty()).map(|name| named("cluster", name)).transpose()
}

/// Up to 255 letters, digits, hyphens and underscores.
fn named(what: &str, name: String) -> Result<String, ParseError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 255 || !name.bytes().all(legal) {
        return Err(malformed(format!("{name:?} is not the name of an ECS {what}")));
    }
    Ok(name)
}

/// A task by its id, 32 hexadecimal digits, or by its ARN (ECS developer guide, "Amazon Resource Names").
fn task(name: String) -> Result<String, ParseError> {
    let id = match name.split_once(":task/") {
        Some((arn, path)) if arn.starts_with("arn:") && path.split('/').count() <= 2 => path.rsplit('/').next(),
        Some(_) => None,
        None => Some(name.as_str()),
    };
    let legal = |id: &str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    let arn = |b: u8| b.is_ascii_alphanumeric() || b"-_:/".contains(&b);
    if !id.is_some_and(legal) || name.len() > 400 || !name.bytes().all(arn) {
        return Err(malformed(format!(
            "{name:?} is neither the id of an ECS task, 32 hexadecimal digits, nor its ARN"
        )));
    }
    Ok(name)
}

/// The ARN of a secret; ECS takes one with a key of its JSON and a version behind it, too.
fn secret(arn: String) -> Result<String, ParseError> {
    let parts: Vec<&str> = arn.split(':').collect();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_:/+=.@".contains(&b);
    let is_secret = matches!(parts[..], ["arn", _, "secretsmanager", _, _, "secret", name, ..] if !name.is_empty());
    if !is_secret || arn.len() > limits::SECRET_ARN_BYTES || !arn.bytes().all(legal) {
        return Err(malformed(format!("{arn:?} is not the ARN of a secret in Secrets Manager")));
    }
    Ok(arn)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{super::run, *};

    #[test]
    fn a_task_is_named_by_id_or_arn() {
        let id = "0123456789abcdef0123456789abcdef";
        let arn = format!("arn:aws:ecs:eu-west-2:111111111111:task/cluster/{id}");
        assert!(task(id.into()).is_ok() && task(arn).is_ok());
        for other in ["", "webserver", "arn:aws:ecs:eu-west-2:1:service/c/webserver", &format!("c/{id}")] {
            assert!(task(other.into()).is_err(), "{other}");
        }
    }

    pub(in super::super) fn any_action() -> impl Strategy<Value = Ecs> {
        let service = "[A-Za-z0-9_-]{1,40}";
        let deadline = (1u64..3600).prop_map(Duration::from_secs);
        let rollout = (3u64..3600, 1..=limits::FAILED_TASKS).prop_map(|(seconds, failed_tasks)| Rollout {
            deadline: Duration::from_secs(seconds),
            failed_tasks,
            settle: Duration::from_secs(seconds / 3),
        });
        let image =
            "[0-9]{12}\\.dkr\\.ecr\\.eu-west-[0-9]\\.amazonaws\\.com/[a-z]{2,9}(/[a-z0-9]{1,9})?@sha256:[0-9a-f]{64}";
        let image = image.prop_map(|text| text.parse::<Image>().unwrap());
        prop_oneof![
            Just(Ecs::Status),
            (service, 0..=limits::TASKS_PER_SERVICE, deadline.clone())
                .prop_map(|(service, desired, deadline)| Ecs::Scale { service, desired, deadline }),
            (service, deadline).prop_map(|(service, deadline)| Ecs::Restart { service, deadline }),
            (proptest::option::of(service), image, rollout.clone()).prop_map(|(service, image, rollout)| Ecs::Deploy {
                service,
                image,
                rollout
            }),
            (proptest::option::of(service), rollout.clone())
                .prop_map(|(service, rollout)| Ecs::Rollback { service, rollout }),
            (service, "[A-Z]{1,9}", ".{0,20}", rollout.clone()).prop_map(|(service, name, value, rollout)| {
                let environment = Environment::new([(name, value)], vec!["old_one".into()]).unwrap();
                Ecs::SetEnv { service, environment, rollout }
            }),
            (service, 2u32..=8, rollout.clone()).prop_map(|(service, gib, rollout)| Ecs::SetResources {
                service,
                size: Size::new(1024, gib * 1024).unwrap(),
                rollout
            }),
            (service, "[A-Z_]{1,20}", proptest::option::of("[a-z]{1,9}-[A-Za-z0-9]{6}"), rollout.clone()).prop_map(
                |(service, variable, name, rollout)| Ecs::UseSecret {
                    service,
                    variable,
                    secret: name.map(|name| format!("arn:aws:secretsmanager:eu-west-2:111111111111:secret:{name}")),
                    rollout
                }
            ),
            (service, proptest::option::of(0..=limits::TASKS_PER_SERVICE), rollout).prop_map(
                |(service, base, rollout)| Ecs::SetCapacity {
                    service,
                    capacity: base.map_or(FargateCapacity::OnDemand, |base| FargateCapacity::Spot { base }),
                    rollout
                }
            ),
            run::tests::any_run().prop_map(Ecs::Run),
            ("(arn:aws:ecs:eu-west-2:1:task/[a-z]{1,9}/)?[0-9a-f]{32}", ".{1,40}", 1u64..3600).prop_map(
                |(task, reason, seconds)| Ecs::StopTask { task, reason, deadline: Duration::from_secs(seconds) }
            ),
            (service, "[a-z0-9_][a-z0-9_.-]{0,20}").prop_map(|(service, tag)| Ecs::Image { service, tag }),
        ]
    }
}
