//! The agent's own service: another image for the agent itself, and back again where the new one does not report in.
//!
//! ECS stops the old agent before it starts the new one, since one journal has one reader. So the command is begun by the
//! old agent and ended by whichever comes back: what it is, it asks ECS, and what was done, the journal. The new one ends
//! it when it has a link to the hub and ECS calls its deployment complete, and gives the service the old definition again
//! where that takes too long. Where the new one does not even start, ECS's circuit breaker does so, and the old one tells.

use std::time::Duration;

use aws_sdk_ecs::types::{
    Deployment, DeploymentCircuitBreaker, DeploymentConfiguration, DeploymentRolloutState, Service,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sfdata_common::{Timestamp, image::Image, limits, outcome::FailureCode, retry::jittered};
use sfdata_proto::v1::{AgentUpgradeResult, action_result::Kind};
use tokio::time::sleep;

use super::{Ecs, alone, definition::Edit, deploy::short, metadata::Own, resource};
use crate::{
    config::Role,
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// What operators call the agent's own service, whatever its name is.
pub(super) const ROLE: &str = "agent";

/// What an upgrade keeps in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The task definition before, as an ARN.
    before: String,
    /// What the agent shall run by; none before it is registered.
    to: Option<String>,
    /// The deployment before: another one with the same definition is a way back.
    deployment: String,
    /// The service may have been given the new one.
    asked: bool,
    /// By when the new agent has to have reported in.
    ends_unix_ms: i64,
    /// Why the service goes back.
    back: Option<String>,
}

/// The service as ECS shows it.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    definition: &'a str,
    deployment: &'a str,
    complete: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Give the service the new definition.
    Give,
    /// The time was over before it was given anything.
    Late,
    /// Somebody else has the word: ECS, or the agent that comes.
    Wait,
    /// Decide to go back.
    GoBack(&'static str),
    /// Give the service the old definition.
    GiveBack,
    /// The old agent runs again.
    Back,
    /// The new agent runs, and has reported in.
    Reached,
    /// Somebody else has changed the service.
    Conflict,
}

/// For the agent that runs by `me`.
fn next(note: &Note, to: &str, me: &str, seen: Seen<'_>, linked: bool, late: bool) -> Step {
    let (old, has_old, has_new) = (me == short(&note.before), seen.definition == note.before, seen.definition == to);
    if !(has_old || has_new) || !(old || me == short(to)) {
        return Step::Conflict;
    }
    let gone_back = note.asked && seen.deployment != note.deployment;
    match (has_old, note.back.is_some()) {
        (false, true) => Step::GiveBack,
        (true, back) if back || gone_back => {
            if old {
                Step::Back
            } else {
                Step::Wait
            }
        }
        (true, _) if late => Step::Late,
        (true, _) => Step::Give,
        (false, false) if !old && linked && seen.complete => Step::Reached,
        (false, false) if !late => Step::Wait,
        (false, false) if old => Step::GoBack("ECS had not put the new agent in place of the old one in time"),
        (false, false) if linked => Step::GoBack("ECS did not call the new agent's deployment complete in time"),
        (false, false) => Step::GoBack("the new agent had no link to the hub in time"),
    }
}

impl Ecs {
    /// Have the agent run another image, or end what the agent before has begun of that.
    pub(crate) async fn upgrade(&self, image: &Image, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let name = self.platform.agent_service.as_deref().ok_or_else(unknown)?;
        let (mut note, resumed) = match job.checkpoint() {
            Some(kept) => (decode(&kept)?, true),
            None => match self.begin_upgrade(name, image, deadline, job).await? {
                Ok(note) => (note, false),
                Err(answer) => return Ok(answer),
            },
        };
        let to = match note.to.clone() {
            Some(to) => to,
            None => {
                let old = self.definition(&note.before).await?;
                let request = old.edited(Edit::Image(image), name, job.command()).ok_or_else(|| unclear(name))?;
                let to = self.register_or_find(&old, &request, name, resumed, job).await?;
                note.to = Some(to.clone());
                job.keep(encode(&note)).await?;
                to
            }
        };
        if to == note.before {
            return Ok(reached(name, &note, &to, image));
        }
        loop {
            if job.cancelled().is_cancelled() {
                return Err(Error::cancelled(match note.asked {
                    false => format!("{name} was not changed"),
                    true => format!("{name} keeps what it was given, {}", short(&to)),
                }));
            }
            match self.step(name, &mut note, &to, image, deadline, job).await {
                Ok(Some(result)) => return Ok(result),
                Err(error) if !error.is_passing() || note.is_over(deadline) => return Err(error),
                Err(error) => job.progress(format!("the state of {name} is not known: {error}"), None),
                Ok(None) if note.is_over(deadline) => {
                    let text = format!(
                        "{name} came to no end: look at its deployments and events; it keeps what it was given"
                    );
                    return Err(Error::failed(FailureCode::Deadline, text));
                }
                Ok(None) => {}
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {}
                () = sleep(jittered(limits::UPGRADE_LOOK, 0.2)) => {}
            }
        }
    }

    /// One look, and what follows from it; the result where it is reached.
    async fn step(
        &self,
        name: &str,
        note: &mut Note,
        to: &str,
        image: &Image,
        deadline: Duration,
        job: &Job,
    ) -> Result<Option<Kind>, Error> {
        let Own { ecs, definition: me } = self.own_task().await?;
        let service = ecs.look(name).await?;
        let seen = seen(&service);
        let late = Timestamp::now().as_millisecond() > note.ends_unix_ms;
        match next(note, to, &me, seen, job.is_linked(), late) {
            Step::Give => {
                if !note.asked {
                    note.asked = true;
                    job.keep(encode(note)).await?;
                }
                job.progress(format!("giving {name} {}; ECS stops this agent and starts the new one", short(to)), None);
                ecs.give_own(&service, name, to).await?;
            }
            Step::Late => {
                let text = format!("the time was over before {name} was given another image; it was not changed");
                return Err(Error::failed(FailureCode::Deadline, text));
            }
            Step::Wait => job.progress(format!("{name} is given {}: {me} runs", short(seen.definition)), None),
            Step::GoBack(why) => {
                note.back = Some(ecs.with_last_stop(name, format!("{why}: within {:?}", deadline * 2 / 3)).await);
                job.keep(encode(note)).await?;
                ecs.give_own(&service, name, &note.before).await?;
            }
            Step::GiveBack => {
                job.progress(format!("giving {name} {} again", short(&note.before)), None);
                ecs.give_own(&service, name, &note.before).await?;
            }
            Step::Back => {
                let why = match note.back.take() {
                    Some(why) => why,
                    None => {
                        let why = format!("{} did not come up, and ECS itself went back from it", short(to));
                        ecs.with_last_stop(name, why).await
                    }
                };
                let before = short(&note.before);
                let text = format!("{why}; rolled back: {name} to {before}, which is what runs again");
                return Err(Error::failed(FailureCode::RolledBack, text));
            }
            Step::Reached => return Ok(Some(reached(name, note, to, image))),
            Step::Conflict => {
                let text = format!(
                    "somebody else has changed {name} meanwhile: it has {}, and this agent runs by {me}; it was left \
                     alone: look at the service",
                    short(seen.definition)
                );
                return Err(Error::failed(FailureCode::Conflict, text));
            }
        }
        Ok(None)
    }

    /// Decide what to do; the answer of a command that only asks.
    async fn begin_upgrade(
        &self,
        name: &str,
        image: &Image,
        deadline: Duration,
        job: &Job,
    ) -> Result<Result<Note, Kind>, Error> {
        self.ecr.check(image).await?;
        let Own { ecs, definition: me } = self.own_task().await?;
        let service = ecs.look(name).await?;
        let Seen { definition, deployment, complete } = seen(&service);
        if short(definition) != me {
            let text = format!(
                "{name} of cluster {} has {}, and this agent runs by {me}: platform.agent_service is not its own service, or \
                 a deployment of it is under way",
                ecs.platform.cluster,
                short(definition)
            );
            return Err(Error::failed(FailureCode::Conflict, text));
        }
        let old = self.definition(definition).await?;
        // The image gets the agent's role, keys and journal: one of another repository would be another program in its place.
        let (runs, wanted) = (repository(old.image(name)), image.repository.to_string());
        if runs != wanted {
            let text =
                format!("{name} runs an image of {runs}, and is given no other program, as one of {wanted} would be");
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        let edit = Edit::Image(image);
        let same = old.is_already(edit, name);
        if !same && !complete {
            let text = format!("the last deployment of {name} is not complete, so that there is nothing to go back to");
            return Err(Error::failed(FailureCode::Conflict, format!("{text}; order it again when it is")));
        }
        if !same && old.edited(edit, name, job.command()).is_none() {
            return Err(unclear(name));
        }
        let mut plan = edit.plan(Plan::default(), name, &old);
        if !same {
            plan = alone::plan(plan, &service, name, Role::Daemon);
            let breaker = if goes_back(&service) { "on, with rollback" } else { "" };
            plan = plan.change(resource(name), "deploymentCircuitBreaker", breaker, "on, with rollback");
        }
        let ends = Timestamp::now() + deadline * 2 / 3;
        let note = Note {
            before: definition.to_owned(),
            to: same.then(|| definition.to_owned()),
            deployment: deployment.to_owned(),
            ends_unix_ms: ends.as_millisecond(),
            ..Note::default()
        };
        Ok(match job.agree_and_keep(plan, encode(&note)).await? {
            Some(answer) => Err(answer),
            None => Ok(note),
        })
    }

    /// Let the own service have this definition: one agent at a time, and back by itself where tasks fail. To be repeated at
    /// will.
    async fn give_own(&self, service: &Service, name: &str, definition: &str) -> Result<(), Error> {
        let cluster = &self.platform.cluster;
        let mut configuration =
            service.deployment_configuration().cloned().unwrap_or_else(|| DeploymentConfiguration::builder().build());
        configuration.minimum_healthy_percent = Some(0);
        configuration.maximum_percent = Some(100);
        configuration.deployment_circuit_breaker =
            Some(DeploymentCircuitBreaker::builder().enable(true).rollback(true).build());
        let call = self.client.update_service().cluster(cluster).service(name).task_definition(definition);
        let call = call.deployment_configuration(configuration);
        let call = call.set_availability_zone_rebalancing(alone::unbalanced(service, Role::Daemon));
        call.send().await.map(|_| ()).map_err(|e| {
            let tried = format!("give service {name} of cluster {cluster} {}", short(definition));
            failure(tried, "ecs:UpdateService and iam:PassRole", e)
        })
    }
}

impl Note {
    /// Whether also the time for going back is over.
    fn is_over(&self, deadline: Duration) -> bool {
        let third = i64::try_from((deadline / 3).as_millis()).unwrap_or(i64::MAX);
        Timestamp::now().as_millisecond() > self.ends_unix_ms.saturating_add(third)
    }
}

/// Nothing says which service is the agent's own.
pub(super) fn unknown() -> Error {
    let text = "this agent does not know which ECS service it runs as: write its name into the agent's configuration, as in \
                [platform] agent_service = \"agent\"";
    Error::failed(FailureCode::Rejected, text)
}

/// Of an image by tag or by digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

fn unclear(name: &str) -> Error {
    let text = format!(
        "which container of the agent's task definition is its own cannot be told: name one {name}, or let only one be \
         essential"
    );
    Error::failed(FailureCode::Rejected, text)
}

fn reached(name: &str, note: &Note, to: &str, image: &Image) -> Kind {
    Kind::AgentUpgrade(AgentUpgradeResult {
        service: name.into(),
        task_definition: short(to).into(),
        previous: short(&note.before).into(),
        image: image.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

fn seen(service: &Service) -> Seen<'_> {
    let primary = service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
    Seen {
        definition: service.task_definition().unwrap_or_default(),
        deployment: primary.and_then(Deployment::id).unwrap_or_default(),
        complete: primary.and_then(Deployment::rollout_state) == Some(&DeploymentRolloutState::Completed),
    }
}

/// Whether ECS goes back by itself.
fn goes_back(service: &Service) -> bool {
    let breaker = service.deployment_configuration().and_then(DeploymentConfiguration::deployment_circuit_breaker);
    breaker.is_some_and(|breaker| breaker.enable() && breaker.rollback())
}

fn encode(note: &Note) -> Bytes {
    serde_json::to_vec(note).unwrap_or_default().into()
}

fn decode(kept: &[u8]) -> Result<Note, Error> {
    serde_json::from_slice(kept).map_err(|_| {
        let text =
            "what the journal kept of this upgrade cannot be read; look at the agent's service, then order it again";
        Error::failed(FailureCode::Internal, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "arn:aws:ecs:eu-west-2:1:task-definition/agent:1";
    const NEW: &str = "arn:aws:ecs:eu-west-2:1:task-definition/agent:2";

    fn note(asked: bool, back: bool) -> Note {
        let (before, deployment) = (OLD.into(), "first".into());
        Note { before, to: Some(NEW.into()), deployment, asked, ends_unix_ms: 7, back: back.then(|| "late".into()) }
    }

    fn step(
        note: &Note,
        me: &str,
        definition: &str,
        deployment: &str,
        complete: bool,
        linked: bool,
        late: bool,
    ) -> Step {
        next(note, NEW, me, Seen { definition, deployment, complete }, linked, late)
    }

    #[test]
    fn the_new_agent_ends_it_when_it_is_linked_and_its_deployment_complete() {
        let new = |complete, linked, late| step(&note(true, false), "agent:2", NEW, "second", complete, linked, late);
        assert_eq!(new(true, true, false), Step::Reached);
        assert_eq!(new(true, true, true), Step::Reached, "better late than back");
        assert_eq!([new(true, false, false), new(false, true, false)], [Step::Wait, Step::Wait]);
        assert!(matches!(new(true, false, true), Step::GoBack(why) if why.contains("no link")));
        assert!(matches!(new(false, true, true), Step::GoBack(why) if why.contains("complete")));
    }

    #[test]
    fn the_old_agent_gives_once_waits_to_be_stopped_and_tells_of_a_way_back() {
        let old = |asked, back, definition, deployment| {
            step(&note(asked, back), "agent:1", definition, deployment, true, true, false)
        };
        assert_eq!(old(false, false, OLD, "first"), Step::Give);
        assert_eq!(old(true, false, OLD, "first"), Step::Give, "it was asked for, and never came");
        assert_eq!(step(&note(false, false), "agent:1", OLD, "first", true, true, true), Step::Late);
        assert_eq!(old(true, false, NEW, "second"), Step::Wait, "also where it calls itself complete");
        assert_eq!(old(true, false, OLD, "third"), Step::Back);
        assert_eq!(old(false, false, OLD, "other"), Step::Give, "somebody restarted it before it was asked for");
        assert_eq!(old(true, true, OLD, "third"), Step::Back);
        assert_eq!(old(true, true, NEW, "second"), Step::GiveBack);
        let late = step(&note(true, false), "agent:1", NEW, "second", false, true, true);
        assert!(matches!(late, Step::GoBack(why) if why.contains("in place of the old one")));
    }

    #[test]
    fn an_image_is_of_its_repository_however_it_is_named() {
        let home = "111111111111.dkr.ecr.eu-west-2.amazonaws.com/sfdata/agent";
        for image in
            [home.to_owned(), format!("{home}:1.2"), format!("{home}@sha256:ab"), format!("{home}:1.2@sha256:ab")]
        {
            assert_eq!(repository(&image), home);
        }
        assert_eq!(repository("registry:5000/agent"), "registry:5000/agent");
    }

    #[test]
    fn what_was_decided_stays_and_what_others_do_is_left_alone() {
        let new = |back, definition| step(&note(true, back), "agent:2", definition, "x", true, true, false);
        assert_eq!(new(true, NEW), Step::GiveBack, "although all is well by now");
        assert_eq!([new(true, OLD), new(false, OLD)], [Step::Wait, Step::Wait], "ECS stops it");
        assert_eq!(new(false, "arn:aws:ecs:eu-west-2:1:task-definition/agent:3"), Step::Conflict);
        assert_eq!(step(&note(true, false), "agent:3", NEW, "x", true, true, false), Step::Conflict);
    }

    #[test]
    fn notes_survive_the_journal_and_damaged_ones_are_told() {
        assert_eq!(decode(&encode(&note(true, true))), Ok(note(true, true)));
        assert!(matches!(decode(b"{"), Err(Error::Failed { code: FailureCode::Internal, .. })));
    }
}
