//! Having a service run another task definition, and going back where that does not hold.
//!
//! The journal keeps which definition was there before, which one was made, and the decision to go back: each before
//! the call that follows from it. UpdateService with a definition makes a deployment only where the service has another
//! one, so that it may be repeated. Going back is decided once: after that nothing goes forward again.

use std::time::Duration;

use aws_sdk_ecs::types::Task;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sfdata_common::{
    command,
    image::{Image, Repository},
    limits,
    outcome::FailureCode,
    retry::jittered,
};
use sfdata_proto::v1::{EcsServiceState, EcsStatusResult, action_result::Kind};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    Ecs, alone,
    definition::{Definition, Edit},
    probe::Answers,
    resource,
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
    /// A new revision of its task definition.
    Edit(Edit<'a>),
    /// The revision that its current one was made from.
    Previous,
}

/// What is the same for all services of a deploy.
#[derive(Clone, Copy)]
struct Order<'a> {
    wanted: Wanted<'a>,
    rollout: &'a command::Rollout,
    /// By when all has to hold.
    ends: Instant,
    /// Taken up again after a crash.
    resumed: bool,
    job: &'a Job,
}

/// What a deploy keeps in the journal, for each service in turn.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    service: String,
    /// The task definition before.
    before: String,
    /// What it shall have; none before it is registered.
    to: Option<String>,
    /// How the tasks before answered; looked at before anything is changed.
    #[serde(default)]
    answers: Option<Answers>,
    /// It has it, and that holds.
    done: bool,
    /// Why all goes back to what was before.
    back: Option<String>,
}

impl Note {
    /// Whether it may have something to go back from.
    fn moved(&self) -> Option<&str> {
        self.to.as_deref().filter(|to| *to != self.before && (self.done || self.back.is_some()))
    }
}

fn encode(notes: &[Note]) -> Bytes {
    serde_json::to_vec(notes).unwrap_or_default().into()
}

fn decode(kept: &[u8]) -> Result<Vec<Note>, Error> {
    serde_json::from_slice(kept).map_err(|_| {
        let text = "what the journal kept of this deploy cannot be read; look at the services, then order it again";
        Error::failed(FailureCode::Internal, text)
    })
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

    /// The services that are Dagster's own, in the order in which a new image is safe: what defines the jobs before what
    /// launches them, and the page last.
    pub(super) fn dagster(&self) -> Vec<(&str, Role)> {
        let of = |wanted| self.platform.services().filter(move |(_, role)| *role == wanted);
        [Role::CodeServer, Role::Daemon, Role::Webserver].into_iter().flat_map(of).collect()
    }

    /// One service after the other; all that were changed go back when one does not hold.
    pub(super) async fn deploy(
        &self,
        services: &[(&str, Role)],
        wanted: Wanted<'_>,
        rollout: &command::Rollout,
        job: &Job,
    ) -> Result<Kind, Error> {
        let began = Instant::now();
        let (mut notes, resumed) = match job.checkpoint() {
            Some(kept) => (decode(&kept)?, true),
            None => match self.begin(services, wanted, job).await? {
                Ok(notes) => (notes, false),
                Err(answer) => return Ok(answer),
            },
        };
        let role_of =
            |note: &Note| services.iter().find(|(name, _)| *name == note.service).map_or(Role::Other, |s| s.1);
        let order = Order { wanted, rollout, ends: began + rollout.deadline * 2 / 3, resumed, job };
        let mut reached = Vec::with_capacity(notes.len());
        let mut why = notes.iter().find_map(|note| note.back.clone());
        for at in 0..notes.len() {
            if why.is_some() {
                break;
            }
            let role = role_of(&notes[at]);
            match self.go_on(&mut notes, at, role, &order).await {
                Ok(state) => {
                    reached.push(state);
                    notes[at].done = true;
                }
                Err(Error::Failed { code, message }) if goes_back(code, &notes, at) => {
                    why = Some(self.with_last_stop(&notes[at].service, message).await);
                    notes[at].back = why.clone();
                }
                Err(error) => {
                    return Err(stays(&notes).map_or_else(|| error.clone(), |stays| error.clone().after(&stays)));
                }
            }
            job.keep(encode(&notes)).await?;
        }
        if let Some(why) = why {
            let moved: Vec<_> = notes.iter().rev().map(|note| (note, role_of(note))).collect();
            return Err(self.go_back(&moved, began + rollout.deadline, &why, job).await);
        }
        if let [_] = services
            && let Some(state) = reached.pop()
        {
            return Ok(self.reached(state).await);
        }
        if let Err(error) = self.add_images(&mut reached).await {
            warn!(%error, "the images of the services are not known");
        }
        let cluster = self.platform.cluster.clone();
        Ok(Kind::EcsStatus(EcsStatusResult { cluster, services: reached, details: Vec::new() }))
    }

    /// Decide what to do; the answer of a command that only asks.
    async fn begin(
        &self,
        services: &[(&str, Role)],
        wanted: Wanted<'_>,
        job: &Job,
    ) -> Result<Result<Vec<Note>, Kind>, Error> {
        let (mut plan, mut notes) = (Plan::default(), Vec::with_capacity(services.len()));
        if let Wanted::Edit(Edit::Image(image)) = wanted {
            self.ecr.check(image).await?;
        }
        for (name, role) in services {
            let (with, note) = self.plan(plan, name, *role, wanted).await?;
            plan = with;
            notes.push(note);
        }
        if let Some(answer) = job.agree_and_keep(plan, encode(&notes)).await? {
            return Ok(Err(answer));
        }
        Ok(Ok(notes))
    }

    async fn plan(&self, plan: Plan, name: &str, role: Role, wanted: Wanted<'_>) -> Result<(Plan, Note), Error> {
        let service = self.look(name).await?;
        if primary(&state(&service, role)).is_none() {
            let text = format!("{name} has no primary deployment: ECS does not deploy it by itself");
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        let before = service.task_definition().unwrap_or_default().to_owned();
        let old = self.definition(&before).await?;
        let (plan, to) = match wanted {
            Wanted::Edit(edit) => {
                if let Some(why) = edit.refused(&old, name) {
                    return Err(Error::failed(FailureCode::Rejected, why));
                }
                let same = old.is_already(edit, name).then(|| before.clone());
                (edit.plan(plan, name, &old), same)
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
        let plan = alone::plan(plan, &service, name, role);
        Ok((plan, Note { service: name.to_owned(), before, to, ..Note::default() }))
    }

    /// Make what one service shall have, give it, and wait until that holds.
    async fn go_on(
        &self,
        notes: &mut [Note],
        at: usize,
        role: Role,
        order: &Order<'_>,
    ) -> Result<EcsServiceState, Error> {
        let Order { rollout, ends, resumed, job, .. } = *order;
        let to = match notes[at].to.clone() {
            Some(to) => to,
            None => {
                let to = self.register_once(&notes[at], order).await?;
                notes[at].to = Some(to.clone());
                job.keep(encode(notes)).await?;
                to
            }
        };
        if notes[at].answers.is_none() && to != notes[at].before {
            notes[at].answers = Some(self.answers(&notes[at].service, &notes[at].before, job).await);
            job.keep(encode(notes)).await?;
        }
        let Note { service: name, before, .. } = &notes[at];
        if job.cancelled().is_cancelled() && !resumed {
            return Err(Error::cancelled(format!("{name} was not changed")));
        }
        self.give_by(name, role, [before, &to], ends, job).await?;
        // Where it ran that before, what ended earlier is not this rollout's.
        let failed_tasks = (to != *before).then_some(rollout.failed_tasks);
        let mut judge = Rollout::of(&to, failed_tasks, rollout.settle);
        let done = format!("{name} was given {}", short(&to));
        let state = self.wait(name, role, ends, job, &done, &mut judge).await?;
        let answered = notes[at].answers.unwrap_or_default();
        let new = |task: &Task| task.task_definition_arn() == Some(&to);
        let again = self.answer_again(name, &to, answered, new, ends, job).await;
        again.map_err(|error| error.after(&done))?;
        Ok(state)
    }

    /// A revision of `before` with this image, or the one that an earlier try made. Nobody runs it yet.
    async fn register_once(&self, note: &Note, order: &Order<'_>) -> Result<String, Error> {
        let Note { service: name, before, .. } = note;
        let Order { wanted, resumed, job, .. } = *order;
        let Wanted::Edit(edit) = wanted else { return Err(lost()) };
        let old = self.definition(before).await?;
        let made = self.made(edit, &old, name, job).await?;
        let request = old.edited(edit.made_of(made.as_deref()), name, job.command()).ok_or_else(|| {
            let text = format!(
                "which container of task definition {} is the service's own cannot be told: name one {name}, or let \
                 only one be essential",
                short(before)
            );
            Error::failed(FailureCode::Rejected, text)
        })?;
        self.register_or_find(&old, &request, name, resumed, job).await
    }

    /// Register what is made of `old`, or find what an earlier try has made.
    pub(super) async fn register_or_find(
        &self,
        old: &Definition,
        request: &Value,
        name: &str,
        resumed: bool,
        job: &Job,
    ) -> Result<String, Error> {
        let (mut pause, mut failed) = (PAUSE, None);
        for attempt in 0..=limits::AWS_TRIES {
            if resumed || attempt > 0 {
                tokio::select! {
                    biased;
                    () = job.cancelled().cancelled() => {}
                    () = sleep(jittered(pause, 0.2)) => pause *= 2,
                }
                let newest = self.definition(old.family()).await?;
                if newest.is_by(job.command()) && newest.previous() == Some(old.arn()) {
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
            match self.register(request).await {
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
        let (configuration, unbalanced) = (alone::configuration(&service, role), alone::unbalanced(&service, role));
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
        if has == to && configuration.is_none() && unbalanced.is_none() {
            return Ok(());
        }
        let cluster = &self.platform.cluster;
        job.progress(format!("giving {name} {}", short(to)), None);
        let call = self.client.update_service().cluster(cluster).service(name).task_definition(to);
        let answer = call
            .set_deployment_configuration(configuration)
            .set_availability_zone_rebalancing(unbalanced)
            .send()
            .await
            .map_err(|e| {
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

    /// [`Ecs::give`], also through a time in which AWS can't be asked.
    async fn give_by(
        &self,
        name: &str,
        role: Role,
        definitions: [&str; 2],
        ends: Instant,
        job: &Job,
    ) -> Result<(), Error> {
        loop {
            match self.give(name, role, definitions, job).await {
                Err(error) if error.is_passing() && Instant::now() < ends => {
                    job.progress(format!("AWS does not take the change of {name}; trying again"), None);
                    sleep(jittered(PAUSE, 0.2)).await;
                }
                ended => return ended,
            }
        }
    }

    pub(super) async fn with_last_stop(&self, name: &str, message: String) -> String {
        if message.contains("last stopped task") {
            return message;
        }
        match self.last_stop(name).await {
            Ok(Some(stopped)) => format!("{message}; last stopped task: {stopped}"),
            _ => message,
        }
    }

    /// The outcome of a deploy that did not hold: it says why, and whether what was there before is there again. What goes
    /// wrong with one service keeps no other from going back.
    async fn go_back(&self, notes: &[(&Note, Role)], ends: Instant, why: &str, job: &Job) -> Error {
        let (mut told, mut stuck) = (Vec::with_capacity(notes.len()), Vec::new());
        for (note, role) in notes {
            let Some(from) = note.moved() else { continue };
            let (name, before) = (&note.service, short(&note.before));
            job.progress(format!("rolling {name} back to {before}"), None);
            match self.give_by(name, *role, [from, &note.before], ends, job).await {
                Ok(()) => told.push((note, *role, before)),
                Err(error) => stuck.push(error.after(&format!("{name} could not be rolled back to {before}"))),
            }
        }
        let mut back = Vec::with_capacity(told.len());
        for (note, role, before) in told {
            let done = format!("{} was told to go back to {before}", note.service);
            let mut judge = Rollout::of(&note.before, None, Duration::ZERO);
            match self.wait(&note.service, role, ends, job, &done, &mut judge).await {
                Ok(_) => back.push(format!("{} to {before}", note.service)),
                Err(error) => stuck.push(error),
            }
        }
        let back = if back.is_empty() {
            why.to_owned()
        } else {
            format!("{why}; rolled back: {}, which is what runs again", back.join(", "))
        };
        match stuck.into_iter().reduce(Error::and) {
            Some(stuck) => stuck.after(&back),
            None => Error::failed(FailureCode::RolledBack, back),
        }
    }
}

/// Whether a failure at one service means that what was changed is taken back: not where somebody else is at work; and
/// there has to be something. That AWS can't be asked is one when it has lasted until the deadline.
fn goes_back(code: FailureCode, notes: &[Note], at: usize) -> bool {
    let earlier = notes[..at].iter().any(|note| note.moved().is_some());
    match code {
        FailureCode::Deadline | FailureCode::Rejected | FailureCode::Unavailable | FailureCode::Throttled => {
            earlier || notes[at].to.as_ref().is_some_and(|to| *to != notes[at].before)
        }
        FailureCode::AccessDenied | FailureCode::NotFound => earlier,
        _ => false,
    }
}

/// The services that go on with what they were given, where a deploy ends before its end.
fn stays(notes: &[Note]) -> Option<String> {
    let moved: Vec<_> = notes.iter().filter(|note| note.moved().is_some()).map(|note| &*note.service).collect();
    (!moved.is_empty()).then(|| format!("{} keep what they were given", moved.join(", ")))
}

/// What cannot be.
fn lost() -> Error {
    Error::failed(
        FailureCode::Internal,
        "no task definition was made or found; this is a fault of the agent; report it",
    )
}

/// `family:revision` of an ARN.
pub(super) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_the_journal_and_damaged_ones_are_told() {
        let note = |done, back: Option<&str>| Note {
            service: "daemon".into(),
            before: "a:1".into(),
            to: Some("a:2".into()),
            answers: Some(Answers::default()),
            done,
            back: back.map(Into::into),
        };
        let notes = vec![note(true, None), note(false, Some("it crashed"))];
        assert_eq!(decode(&encode(&notes)), Ok(notes));
        assert!(matches!(decode(b"{"), Err(Error::Failed { code: FailureCode::Internal, .. })));
    }

    #[test]
    fn only_what_was_changed_goes_back() {
        let to = |to: &str| Note { before: "a:1".into(), to: Some(to.into()), ..Note::default() };
        assert_eq!(to("a:2").moved(), None, "not begun");
        assert_eq!(Note { done: true, ..to("a:2") }.moved(), Some("a:2"));
        assert_eq!(Note { back: Some("late".into()), ..to("a:2") }.moved(), Some("a:2"));
        assert_eq!(Note { done: true, ..to("a:1") }.moved(), None, "it had it already");
    }
}
