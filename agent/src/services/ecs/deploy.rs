//! Having a service run another task definition, and going back where that does not hold.
//!
//! The journal keeps which definition was there before, which one was made, and the decision to go back: each before
//! the call that follows from it. UpdateService with a definition makes a deployment only where the service has another
//! one, so that it may be repeated. Going back is decided once: after that nothing goes forward again.

use std::time::Duration;

use aws_sdk_ecs::types::{DeploymentConfiguration, Service};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sfdata_common::{
    command,
    image::{Image, Repository},
    limits,
    outcome::FailureCode,
    retry::jittered,
};
use sfdata_proto::v1::{EcsServiceState, action_result::Kind};
use tokio::time::{Instant, sleep};

use super::{
    Ecs, resource,
    restart::PAUSE,
    rollout::Rollout,
    state::{primary, state},
};
use crate::{
    config::Role,
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// What a service is to run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// This image, in a new revision of its task definition.
    Image(&'a Image),
    /// The revision that its current one was made from.
    Previous,
}

/// What a deploy keeps in the journal.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The task definition before.
    before: String,
    /// What it shall have; none before it is registered.
    to: Option<String>,
    /// Why it goes back to `before`.
    back: Option<String>,
}

impl Note {
    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn decode(name: &str, kept: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(kept).map_err(|_| {
            Error::failed(
                FailureCode::Internal,
                format!("what the journal kept of this deploy cannot be read; look at {name}, then order it again"),
            )
        })
    }
}

impl Ecs {
    /// The image that a tag means, in the repository of the image that the service has.
    pub(super) async fn resolve(&self, name: &str, tag: &str) -> Result<Image, Error> {
        let service = self.look(name).await?;
        let definition = self.definition(service.task_definition().unwrap_or_default()).await?;
        let image = definition.image(name);
        let unnamed = image.split('@').next().unwrap_or_default();
        let repository = match unnamed.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => unnamed,
        };
        let repository: Repository = repository.parse().map_err(|_| {
            let text = format!("the image of {name} is {image}, which is not in ECR; deploy one by digest from there");
            Error::failed(FailureCode::Rejected, text)
        })?;
        self.ecr.resolve(&repository, tag).await
    }

    pub(super) async fn deploy(
        &self,
        name: &str,
        role: Role,
        wanted: Wanted<'_>,
        rollout: &command::Rollout,
        job: &Job,
    ) -> Result<Kind, Error> {
        let began = Instant::now();
        let (mut note, resumed) = match job.checkpoint() {
            Some(kept) => (Note::decode(name, &kept)?, true),
            None => match self.begin(name, role, wanted, job).await? {
                Ok(note) => (note, false),
                Err(answer) => return Ok(answer),
            },
        };
        let to = match (&note.to, wanted) {
            (Some(to), _) => to.clone(),
            (None, Wanted::Image(image)) => {
                let to = self.register_once(name, &note.before, image, resumed, job).await?;
                note.to = Some(to.clone());
                job.keep(note.encode()).await?;
                to
            }
            (None, Wanted::Previous) => return Err(lost()),
        };
        let why = match &note.back {
            Some(why) => why.clone(),
            None => {
                let failed = Some(rollout.failed_tasks);
                let mut judge = Rollout::of(&to, failed, rollout.settle);
                let done = format!("{name} was given {}", short(&to));
                if job.cancelled().is_cancelled() && !resumed {
                    return Err(Error::cancelled(format!("{name} was not changed")));
                }
                self.give(name, role, [&note.before, &to], job).await?;
                let ends = began + rollout.deadline * 2 / 3;
                match self.wait_through(name, role, ends, job, &done, &mut judge).await {
                    Ok(state) => return Ok(self.reached(state).await),
                    Err(Error::Failed { code: FailureCode::Deadline | FailureCode::Rejected, message })
                        if to != note.before =>
                    {
                        let why = self.with_last_stop(name, message).await;
                        note.back = Some(why.clone());
                        job.keep(note.encode()).await?;
                        why
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        self.go_back(name, role, [&to, &note.before], began + rollout.deadline, &why, job).await
    }

    /// Decide what to do; the answer of a command that only asks.
    async fn begin(&self, name: &str, role: Role, wanted: Wanted<'_>, job: &Job) -> Result<Result<Note, Kind>, Error> {
        let service = self.look(name).await?;
        if primary(&state(&service, role)).is_none() {
            let text = format!("{name} has no primary deployment: ECS does not deploy it by itself");
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        let before = service.task_definition().unwrap_or_default().to_owned();
        let old = self.definition(&before).await?;
        let plan = Plan::default();
        let (plan, to) = match wanted {
            Wanted::Image(image) => {
                self.ecr.check(image).await?;
                let image = image.to_string();
                let same = (old.image(name) == image).then(|| before.clone());
                (plan.change(resource(name), "image", old.image(name), image), same)
            }
            Wanted::Previous => {
                let previous = old.previous().ok_or_else(|| {
                    let text = format!(
                        "{} was not made by a deploy, so that it names no revision before it; deploy the image that \
                         {name} shall run",
                        short(&before)
                    );
                    Error::failed(FailureCode::Rejected, text)
                })?;
                let new = self.definition(previous).await?;
                if !new.is_active() {
                    let text = format!("{} was deregistered; deploy the image that {name} shall run", short(previous));
                    return Err(Error::failed(FailureCode::Rejected, text));
                }
                let plan = plan.change(resource(name), "taskDefinition", short(&before), short(previous)).change(
                    resource(name),
                    "image",
                    old.image(name),
                    new.image(name),
                );
                (plan, Some(previous.to_owned()))
            }
        };
        let (least, most) = percents(&service);
        let plan = match alone(&service, role) {
            Some(_) => plan.change(resource(name), "minimumHealthyPercent", least.to_string(), "0").change(
                resource(name),
                "maximumPercent",
                most.to_string(),
                "100",
            ),
            None => plan,
        };
        if let Some(answer) = job.agree(plan).await? {
            return Ok(Err(answer));
        }
        let note = Note { before, to, back: None };
        job.keep(note.encode()).await?; // durable before the first call
        Ok(Ok(note))
    }

    /// A revision of `before` with this image, or the one that an earlier try made. Nobody runs it yet.
    async fn register_once(
        &self,
        name: &str,
        before: &str,
        image: &Image,
        resumed: bool,
        job: &Job,
    ) -> Result<String, Error> {
        let old = self.definition(before).await?;
        let request = old.with_image(name, image, job.command()).ok_or_else(|| {
            let text = format!("task definition {} has no container", short(before));
            Error::failed(FailureCode::Rejected, text)
        })?;
        let (mut pause, mut failed) = (PAUSE, None);
        for attempt in 0..=limits::AWS_TRIES {
            if resumed || attempt > 0 {
                tokio::select! {
                    biased;
                    () = job.cancelled().cancelled() => {}
                    () = sleep(jittered(pause, 0.2)) => pause *= 2,
                }
                let newest = self.definition(old.family()).await?;
                if newest.is_by(job.command()) {
                    return Ok(newest.arn().into());
                }
            }
            if job.cancelled().is_cancelled() {
                return Err(Error::cancelled(format!("{name} was not changed")));
            }
            if attempt == limits::AWS_TRIES {
                break;
            }
            job.progress(format!("registering a revision of {}", old.family()), None);
            match self.register(&request).await {
                Ok(arn) => return Ok(arn),
                Err(error @ Error::Failed { code: FailureCode::Unavailable | FailureCode::Throttled, .. }) => {
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(lost))
    }

    /// Let the service have the second of these definitions, if it has the first. To be repeated at will.
    async fn give(&self, name: &str, role: Role, [from, to]: [&str; 2], job: &Job) -> Result<(), Error> {
        let service = self.look(name).await?;
        let has = service.task_definition().unwrap_or_default();
        let alone = alone(&service, role);
        if has != to && has != from {
            return Err(Error::failed(
                FailureCode::Conflict,
                format!(
                    "somebody else has given {name} another task definition meanwhile, {}; it was left alone: look at \
                     its status",
                    short(has)
                ),
            ));
        }
        if has == to && alone.is_none() {
            return Ok(());
        }
        let cluster = &self.platform.cluster;
        job.progress(format!("giving {name} {}", short(to)), None);
        let call = self.client.update_service().cluster(cluster).service(name).task_definition(to);
        let answer = call.set_deployment_configuration(alone).send().await.map_err(|e| {
            let tried = format!("give service {name} of cluster {cluster} {}", short(to));
            failure(tried, "ecs:UpdateService and iam:PassRole", e)
        });
        match answer {
            Ok(_) => Ok(()),
            // It may have had its effect all the same.
            Err(error @ Error::Failed { code: FailureCode::Unavailable, .. }) => {
                let now = self.look(name).await.map_err(|_| error.clone().after("the deploy may be under way"))?;
                if now.task_definition() == Some(to) { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Wait, also through a time in which AWS can't be asked: a rollout that nobody judges is worse than a late word.
    async fn wait_through(
        &self,
        name: &str,
        role: Role,
        ends: Instant,
        job: &Job,
        done: &str,
        judge: &mut Rollout<'_>,
    ) -> Result<EcsServiceState, Error> {
        loop {
            match self.wait(name, role, ends, job, done, judge).await {
                Err(Error::Failed { code: FailureCode::Unavailable | FailureCode::Throttled, .. })
                    if Instant::now() < ends =>
                {
                    job.progress(format!("AWS does not tell the state of {name}; asking again"), None);
                    tokio::select! {
                        () = job.cancelled().cancelled() => {}
                        () = sleep(PAUSE) => {}
                    }
                }
                ended => return ended,
            }
        }
    }

    async fn with_last_stop(&self, name: &str, message: String) -> String {
        if message.contains("last stopped task") {
            return message;
        }
        match self.last_stop(name).await {
            Ok(Some(stopped)) => format!("{message}; last stopped task: {stopped}"),
            _ => message,
        }
    }

    /// The outcome of a deploy that did not hold: it says why, and whether what was there before is there again.
    async fn go_back(
        &self,
        name: &str,
        role: Role,
        [from, before]: [&str; 2],
        ends: Instant,
        why: &str,
        job: &Job,
    ) -> Result<Kind, Error> {
        let before_is = short(before);
        let undone = |error: Error| error.after(&format!("{why}; {name} could not be rolled back to {before_is}"));
        self.give(name, role, [from, before], job).await.map_err(undone)?;
        job.progress(format!("rolling {name} back to {before_is}"), None);
        let done = format!("{name} was told to go back to {before_is}");
        let mut judge = Rollout::of(before, None, Duration::ZERO);
        let back = self.wait_through(name, role, ends, job, &done, &mut judge).await;
        back.map_err(|error| error.after(why))?;
        Err(Error::failed(
            FailureCode::RolledBack,
            format!("{why}; {name} was rolled back to {before_is}, which runs again"),
        ))
    }
}

/// What cannot be.
fn lost() -> Error {
    Error::failed(
        FailureCode::Internal,
        "no task definition was made or found; this is a fault of the agent; report it",
    )
}

/// `family:revision` of an ARN.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// minimumHealthyPercent and maximumPercent.
fn percents(service: &Service) -> (i32, i32) {
    let configuration = service.deployment_configuration();
    let given = |percent: Option<i32>, default| percent.unwrap_or(default);
    (
        given(configuration.and_then(DeploymentConfiguration::minimum_healthy_percent), 100),
        given(configuration.and_then(DeploymentConfiguration::maximum_percent), 200),
    )
}

/// The deployment configuration that lets no second daemon start beside the first, where it has to be set.
fn alone(service: &Service, role: Role) -> Option<DeploymentConfiguration> {
    (role == Role::Daemon && percents(service) != (0, 100)).then(|| {
        let mut configuration =
            service.deployment_configuration().cloned().unwrap_or_else(|| DeploymentConfiguration::builder().build());
        configuration.minimum_healthy_percent = Some(0);
        configuration.maximum_percent = Some(100);
        configuration
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_the_journal_and_a_damaged_one_is_told() {
        let note = Note { before: "a:1".into(), to: Some("a:2".into()), back: Some("it crashed".into()) };
        assert_eq!(Note::decode("daemon", &note.encode()), Ok(note));
        assert!(matches!(Note::decode("daemon", b"{"), Err(Error::Failed { code: FailureCode::Internal, .. })));
    }

    #[test]
    fn only_a_daemon_that_could_run_twice_is_given_a_deployment_configuration() {
        let service = |least, most| {
            let configuration =
                DeploymentConfiguration::builder().minimum_healthy_percent(least).maximum_percent(most).build();
            Service::builder().deployment_configuration(configuration).build()
        };
        assert_eq!(alone(&service(100, 200), Role::CodeServer), None);
        assert_eq!(alone(&service(0, 100), Role::Daemon), None);
        for other in [service(100, 200), service(0, 200), Service::builder().build()] {
            let set = alone(&other, Role::Daemon).unwrap();
            assert_eq!((set.minimum_healthy_percent, set.maximum_percent), (Some(0), Some(100)));
        }
    }
}
