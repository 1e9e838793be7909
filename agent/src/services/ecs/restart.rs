//! Restarting a service exactly once, although UpdateService takes no token that would make it so.
//!
//! Before the call the journal keeps which deployment is PRIMARY. From then on a different one means that the
//! call had its effect, whether or not its answer was ever read: then it is waited for and never called again.
//! For the same reason the SDK must not repeat this call by itself: each try here looks first.

use std::time::Duration;

use aws_sdk_ecs::{
    Config, config::retry::RetryConfig, operation::update_service::builders::UpdateServiceFluentBuilder, types::Service,
};
use bytes::Bytes;
use sfdata_common::{limits, outcome::FailureCode, retry::jittered};
use sfdata_proto::v1::action_result::Kind;
use tokio::time::{Instant, sleep};

use super::{
    Ecs, resource,
    state::{self, primary},
};
use crate::{
    config::Role,
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// Pause before the second try; doubled for each later one. Also what a resumed restart waits before it looks:
/// a call that was under way when the agent died shows by then.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// A call that makes a new deployment whether or not anything else changes.
pub(super) struct Forced<'a> {
    /// For messages: `restart`.
    pub(super) what: &'a str,
    pub(super) call: UpdateServiceFluentBuilder,
    /// Whether it may still be made, as the service is now.
    pub(super) may: &'a (dyn Fn(&Service) -> Result<(), Error> + Sync),
}

impl Ecs {
    pub(super) async fn restart(&self, name: &str, role: Role, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let ends = Instant::now() + deadline;
        let (note, resumed) = match job.checkpoint() {
            Some(kept) => (Note::decode(name, &kept)?, true),
            None => {
                let service = self.look(name).await?;
                let before = may_restart(&service, name, role)?;
                let again = format!("a new one of {}", service.task_definition().unwrap_or("the same definition"));
                let plan = Plan::default().change(resource(name), "deployment", &before, again);
                let note = Note { before, ours: None };
                if let Some(answer) = job.agree_and_keep(plan, note.encode()).await? {
                    return Ok(answer);
                }
                (note, false)
            }
        };
        let Note { before, ours } = note;
        let ours = match ours {
            Some(ours) => ours,
            None => {
                let may = |service: &Service| may_restart(service, name, role).map(|_| ());
                let call = self.client.update_service().cluster(&self.platform.cluster).service(name);
                let forced = Forced { what: "restart", call: call.force_new_deployment(true), may: &may };
                let ours = self.deploy_once(name, role, &before, resumed, ends, job, forced).await?;
                job.keep(Note { before: before.clone(), ours: Some(ours.clone()) }.encode()).await?;
                ours
            }
        };
        let done = format!("{name} was told to restart (deployment {ours})");
        let mut judge = state::Restart { before: &before, ours: &ours };
        let state = self.wait(name, role, ends, job, &done, &mut judge).await?;
        Ok(self.reached(state).await)
    }

    /// Make a deployment that is younger than `before`, or find the one that an earlier try made.
    pub(super) async fn deploy_once(
        &self,
        name: &str,
        role: Role,
        before: &str,
        resumed: bool,
        ends: Instant,
        job: &Job,
        forced: Forced<'_>,
    ) -> Result<String, Error> {
        let Forced { what, call, may } = forced;
        let (mut pause, mut failed) = (PAUSE, None);
        for attempt in 0..=limits::AWS_TRIES {
            if resumed || attempt > 0 {
                tokio::select! {
                    biased;
                    () = job.cancelled().cancelled() => {
                        return Err(Error::cancelled(format!("ECS shows no {what} of {name} so far")));
                    }
                    () = sleep(jittered(pause, 0.2)) => pause *= 2,
                }
                let unsure = |error: Error| error.after(&format!("a {what} may have been ordered already"));
                let service = self.look_by(name, ends, job).await.map_err(unsure)?;
                if let Some(ours) = newer(&service, role, before) {
                    return Ok(ours);
                }
                may(&service)?;
            }
            if job.cancelled().is_cancelled() {
                return Err(Error::cancelled(format!("no {what} of {name} was ordered")));
            }
            if attempt == limits::AWS_TRIES || (attempt > 0 && Instant::now() >= ends) {
                break;
            }
            job.progress(format!("ordering a {what} of {name} from ECS"), None);
            match self.force_deployment(name, what, call.clone()).await {
                Ok(service) => {
                    return newer(&service, role, before).ok_or_else(|| {
                        let text = format!("ECS accepted a {what} of {name} and shows none; look at its status");
                        Error::failed(FailureCode::Unavailable, text)
                    });
                }
                // What was not answered rightly may have had its effect all the same; what was throttled had none.
                Err(Error::Failed { code, message })
                    if code == FailureCode::Unavailable
                        || (code == FailureCode::Throttled && attempt + 1 < limits::AWS_TRIES) =>
                {
                    failed = Some(Error::Failed { code, message });
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::failed(FailureCode::Deadline, format!("no time was left for a {what} of {name}"))
        }))
    }

    /// One request, never repeated by the SDK.
    async fn force_deployment(
        &self,
        name: &str,
        what: &str,
        call: UpdateServiceFluentBuilder,
    ) -> Result<Service, Error> {
        let cluster = &self.platform.cluster;
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let answer = call.customize().config_override(once).send().await.map_err(|e| {
            failure(format_args!("order a {what} of service {name} of cluster {cluster}"), "ecs:UpdateService", e)
        })?;
        Ok(answer.service.unwrap_or_else(|| Service::builder().build()))
    }
}

/// Id of the deployment to be replaced, or why there must be no restart.
fn may_restart(service: &Service, name: &str, role: Role) -> Result<String, Error> {
    let rejected = |text: String| Error::failed(FailureCode::Rejected, text);
    if service.desired_count() == 0 {
        return Err(rejected(format!("{name} is scaled to zero; scale it first")));
    }
    let most = service.deployment_configuration().and_then(|configuration| configuration.maximum_percent());
    if let Some(most) = most.filter(|most| role == Role::Daemon && *most > 100) {
        return Err(rejected(format!(
            "{name} is Dagster's daemon and must never run twice, but its deployment configuration lets ECS start the \
             new task beside the old one (maximumPercent {most}); deploy it, which sets maximumPercent 100 and \
             minimumHealthyPercent 0, or scale it to 0 and back to 1"
        )));
    }
    current(service, name, role)
}

/// Id of the PRIMARY deployment.
pub(super) fn current(service: &Service, name: &str, role: Role) -> Result<String, Error> {
    let current = primary(&state::state(service, role)).map(|deployment| deployment.id.clone());
    current.ok_or_else(|| {
        let text = format!("{name} has no primary deployment: ECS does not deploy it by itself");
        Error::failed(FailureCode::Rejected, text)
    })
}

/// The PRIMARY deployment, if it is not `before`.
fn newer(service: &Service, role: Role, before: &str) -> Option<String> {
    primary(&state::state(service, role)).map(|deployment| deployment.id.clone()).filter(|id| id != before)
}

/// What a restart keeps in the journal: two lines, of which the second comes after the call.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    /// PRIMARY before the call.
    before: String,
    /// What the call made PRIMARY.
    ours: Option<String>,
}

impl Note {
    fn encode(&self) -> Bytes {
        format!("{}\n{}", self.before, self.ours.as_deref().unwrap_or_default()).into()
    }

    fn decode(name: &str, kept: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(kept).ok().and_then(|text| text.split_once('\n'));
        match text {
            Some((before, ours)) if !before.is_empty() => {
                Ok(Self { before: before.into(), ours: (!ours.is_empty()).then(|| ours.into()) })
            }
            _ => Err(Error::failed(
                FailureCode::Internal,
                format!("what the journal kept of this restart cannot be read; look at {name}, then order it again"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Deployment, DeploymentConfiguration};

    use super::*;

    fn service(desired: i32, primary: &str, most: i32) -> Service {
        Service::builder()
            .desired_count(desired)
            .deployments(Deployment::builder().id("draining").status("ACTIVE").build())
            .deployments(Deployment::builder().id(primary).status("PRIMARY").build())
            .deployment_configuration(DeploymentConfiguration::builder().maximum_percent(most).build())
            .build()
    }

    #[test]
    fn a_note_survives_the_journal_and_a_damaged_one_is_told() {
        for ours in [None, Some("ecs-svc/2".to_owned())] {
            let note = Note { before: "ecs-svc/1".into(), ours };
            assert_eq!(Note::decode("daemon", &note.encode()), Ok(note));
        }
        for damaged in [&b""[..], b"ecs-svc/1", b"\nx", b"\xff\n"] {
            assert!(matches!(Note::decode("daemon", damaged), Err(Error::Failed { code: FailureCode::Internal, .. })));
        }
    }

    #[test]
    fn only_another_primary_deployment_is_the_effect_of_the_call() {
        assert_eq!(newer(&service(1, "a", 200), Role::Other, "a"), None);
        assert_eq!(newer(&service(1, "b", 200), Role::Other, "a"), Some("b".into()));
        assert_eq!(newer(&Service::builder().build(), Role::Other, "a"), None);
    }

    #[test]
    fn nothing_that_sleeps_and_no_second_daemon_is_started() {
        assert_eq!(may_restart(&service(1, "a", 200), "code", Role::CodeServer), Ok("a".into()));
        assert_eq!(may_restart(&service(1, "a", 100), "daemon", Role::Daemon), Ok("a".into()));
        for (service, role) in [(service(0, "a", 100), Role::CodeServer), (service(1, "a", 200), Role::Daemon)] {
            let refused = may_restart(&service, "x", role);
            assert!(matches!(refused, Err(Error::Failed { code: FailureCode::Rejected, .. })), "{refused:?}");
        }
    }
}
