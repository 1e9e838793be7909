//! Which capacity a service's tasks run on: Fargate's on-demand, or Spot with a base of on-demand tasks.
//!
//! A strategy needs a forced deployment, which is made once as a restart's is: the journal keeps the deployment before
//! and the one that was made. Where Spot has none the service is moved on to on-demand; where the tasks do not hold it
//! is moved back to what it had. Each of these moves is decided once, and kept before its call.

use std::time::Duration;

use aws_sdk_ecs::types::{CapacityProviderStrategyItem, Service, Task};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sfdata_common::{
    command::{self, FargateCapacity},
    outcome::FailureCode,
};
use sfdata_proto::v1::{EcsCapacity, EcsCapacityResult, EcsServiceState, action_result::Kind};
use tokio::time::Instant;

use super::{
    Ecs, NO_CAPACITY, alone,
    detail::capacity,
    probe::Answers,
    resource,
    restart::{Forced, current},
    rollout::Rollout,
    run::is_fargate,
    state::{Judge, Verdict, primary, rollout_failed, state},
};
use crate::{
    config::Role,
    execute::Job,
    services::{Error, Plan},
};

const ON_DEMAND: &str = "FARGATE";
const SPOT: &str = "FARGATE_SPOT";

/// One entry of a strategy, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    provider: String,
    base: u32,
    weight: u32,
}

impl Item {
    fn of(provider: &str, base: u32, weight: u32) -> Self {
        Self { provider: provider.into(), base, weight }
    }

    fn to_aws(&self) -> Result<CapacityProviderStrategyItem, Error> {
        let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        CapacityProviderStrategyItem::builder()
            .capacity_provider(&self.provider)
            .base(whole(self.base))
            .weight(whole(self.weight))
            .build()
            .map_err(|error| Error::failed(FailureCode::Internal, error.to_string()))
    }
}

impl From<EcsCapacity> for Item {
    fn from(told: EcsCapacity) -> Self {
        Self { provider: told.provider, base: told.base, weight: told.weight }
    }
}

impl From<&Item> for EcsCapacity {
    fn from(item: &Item) -> Self {
        Self { provider: item.provider.clone(), base: item.base, weight: item.weight }
    }
}

/// One change of the strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    to: Vec<Item>,
    /// PRIMARY before the call, and the newest event.
    before: String,
    event: Option<String>,
    /// What the call made PRIMARY.
    ours: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    service: String,
    definition: String,
    was: Vec<Item>,
    /// How its tasks answered before; looked at before anything is changed.
    answers: Option<Answers>,
    /// What was tried, the last one still under way.
    moves: Vec<Move>,
    /// Why it is not Spot.
    fell_back: Option<String>,
    /// Why all goes back to what was.
    back: Option<String>,
}

impl Note {
    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn decode(kept: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(kept).ok().filter(|note: &Self| !note.moves.is_empty()).ok_or_else(|| {
            let text = "what the journal kept of this change of capacity cannot be read; look at the service, then \
                        order it again";
            Error::failed(FailureCode::Internal, text)
        })
    }

    fn last(&mut self) -> &mut Move {
        let last = self.moves.len() - 1;
        &mut self.moves[last]
    }
}

impl Ecs {
    pub(super) async fn set_capacity(
        &self,
        name: &str,
        role: Role,
        wanted: FargateCapacity,
        rollout: &command::Rollout,
        job: &Job,
    ) -> Result<Kind, Error> {
        let began = Instant::now();
        let (mut note, mut resumed) = match job.checkpoint() {
            Some(kept) => (Note::decode(&kept)?, true),
            None => {
                let service = self.look(name).await?;
                let note = note(&service, name, role, wanted)?;
                let plan = plan(&service, name, role, &note);
                if note.was == note.moves[0].to && alone::is(&service, role) {
                    let answer = job.agree(plan).await?;
                    return Ok(answer.unwrap_or(self.moved(state(&service, role), &note).await));
                }
                if let Some(answer) = job.agree_and_keep(plan, note.encode()).await? {
                    return Ok(answer);
                }
                (note, false)
            }
        };
        loop {
            let ends = began + if note.back.is_some() { rollout.deadline } else { rollout.deadline * 2 / 3 };
            let moved = self.move_to(&mut note, role, rollout, ends, resumed, job).await;
            let (seen, starved) = moved.map_err(|error| match &note.back {
                Some(why) => error.after(&format!("{why}; {name} could not be moved back")),
                None => error,
            })?;
            resumed = false;
            let at = note.last().clone();
            let (why, service) = match seen {
                Ok(state) if note.back.is_none() => return Ok(self.moved(state, &note).await),
                Ok(_) => {
                    let (why, was) = (note.back.clone().unwrap_or_default(), shown(&note.was));
                    let text = format!("{why}; rolled back: {name} to {was}, which is what runs again");
                    return Err(Error::failed(FailureCode::RolledBack, text));
                }
                Err(Error::Failed { code: FailureCode::Deadline | FailureCode::Rejected, message })
                    if note.back.is_none() =>
                {
                    let service = self.look_by(name, began + rollout.deadline, job).await;
                    (message.clone(), service.map_err(|error| error.after(&message))?)
                }
                Err(error) => return Err(error.after(note.back.as_deref().unwrap_or("its capacity was changed"))),
            };
            let stopped = self.last_stop(name).await.ok().flatten().unwrap_or_default();
            let to = if has_spot(&at.to) && (starved || why.contains(NO_CAPACITY) || stopped.contains(NO_CAPACITY)) {
                job.progress("there is no Spot capacity; moving on to on-demand capacity", None);
                note.fell_back = Some(NO_CAPACITY.into());
                vec![Item::of(ON_DEMAND, 0, 1)]
            } else if at.to == note.was {
                return Err(Error::failed(FailureCode::Rejected, why));
            } else {
                let why = if stopped.is_empty() { why } else { format!("{why}; last stopped task: {stopped}") };
                job.progress(format!("moving {name} back to {}", shown(&note.was)), None);
                note.back = Some(why);
                note.was.clone()
            };
            note.moves.push(step(&service, role, to, name)?);
            job.keep(note.encode()).await?;
        }
    }

    /// Have the last move made, and wait until it holds: what was reached, and whether Spot had none.
    async fn move_to(
        &self,
        note: &mut Note,
        role: Role,
        rollout: &command::Rollout,
        ends: Instant,
        resumed: bool,
        job: &Job,
    ) -> Result<(Result<EcsServiceState, Error>, bool), Error> {
        let (name, definition) = (note.service.clone(), note.definition.clone());
        let at = note.last().clone();
        let ours = match at.ours {
            Some(ours) => ours,
            None => {
                if note.answers.is_none() {
                    note.answers = Some(self.answers(&name, &definition, job).await);
                    job.keep(note.encode()).await?;
                }
                let so_far = if resumed {
                    "a change of capacity may have been ordered already"
                } else {
                    "this change of capacity was not ordered yet"
                };
                let service = self.look_by(&name, ends, job).await.map_err(|error| error.after(so_far))?;
                let strategy = at.to.iter().map(Item::to_aws).collect::<Result<_, _>>()?;
                let call = self
                    .client
                    .update_service()
                    .cluster(&self.platform.cluster)
                    .service(&name)
                    .set_capacity_provider_strategy(Some(strategy))
                    .set_deployment_configuration(alone::configuration(&service, role))
                    .set_availability_zone_rebalancing(alone::unbalanced(&service, role))
                    .force_new_deployment(true);
                let may = |service: &Service| current(service, &name, role).map(|_| ());
                let forced = Forced { what: "change of capacity", call, may: &may };
                let ours = self.deploy_once(&name, role, &at.before, resumed, ends, job, forced).await?;
                note.last().ours = Some(ours.clone());
                job.keep(note.encode()).await?;
                ours
            }
        };
        let failed_tasks = note.back.is_none().then_some(rollout.failed_tasks);
        let settle = if note.back.is_none() { rollout.settle } else { Duration::ZERO };
        let mut judge = Moved {
            before: &at.before,
            ours: &ours,
            event: at.event.as_deref(),
            rollout: Rollout::of(&definition, failed_tasks, settle),
            spot: has_spot(&at.to),
            starved: false,
        };
        let done = format!("{name} was moved to {}", shown(&at.to));
        let seen = self.wait(&name, role, ends, job, &done, &mut judge).await;
        let starved = judge.starved;
        let seen = match seen {
            Ok(state) if note.back.is_none() => {
                let new = |task: &Task| task.started_by() == Some(&ours);
                let again =
                    self.answer_again(&name, &definition, note.answers.unwrap_or_default(), new, ends, job).await;
                again.map_err(|error| error.after(&done)).map(|()| state)
            }
            seen => seen,
        };
        Ok((seen, starved))
    }

    async fn moved(&self, mut state: EcsServiceState, note: &Note) -> Kind {
        self.with_image(&mut state).await;
        Kind::EcsCapacity(EcsCapacityResult {
            service: Some(state),
            capacity_provider_strategy: note
                .moves
                .iter()
                .last()
                .map_or(&note.was, |at| &at.to)
                .iter()
                .map(Into::into)
                .collect(),
            fell_back: note.fell_back.clone().unwrap_or_default(),
        })
    }
}

/// Its strategy; launch type FARGATE is the same as all on demand.
fn strategy(service: &Service) -> Vec<Item> {
    match service.capacity_provider_strategy() {
        [] => vec![Item::of(ON_DEMAND, 0, 1)],
        some => some.iter().map(|item| capacity(item).into()).collect(),
    }
}

fn target(wanted: FargateCapacity) -> Vec<Item> {
    match wanted {
        FargateCapacity::OnDemand => vec![Item::of(ON_DEMAND, 0, 1)],
        FargateCapacity::Spot { base: 0 } => vec![Item::of(SPOT, 0, 1)],
        FargateCapacity::Spot { base } => vec![Item::of(ON_DEMAND, base, 0), Item::of(SPOT, 0, 1)],
    }
}

fn has_spot(strategy: &[Item]) -> bool {
    strategy.iter().any(|item| item.provider == SPOT)
}

fn shown(strategy: &[Item]) -> String {
    let one = |item: &Item| format!("{} base {} weight {}", item.provider, item.base, item.weight);
    strategy.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn step(service: &Service, role: Role, to: Vec<Item>, name: &str) -> Result<Move, Error> {
    let before = current(service, name, role)?;
    let event = state(service, role).events.into_iter().next();
    Ok(Move { to, before, event, ours: None })
}

fn note(service: &Service, name: &str, role: Role, wanted: FargateCapacity) -> Result<Note, Error> {
    if !is_fargate(service) {
        let text = format!("{name} does not run on Fargate: its capacity is its instances', and is not changed here");
        return Err(Error::failed(FailureCode::Rejected, text));
    }
    Ok(Note {
        service: name.into(),
        definition: service.task_definition().unwrap_or_default().into(),
        was: strategy(service),
        answers: None,
        moves: vec![step(service, role, target(wanted), name)?],
        fell_back: None,
        back: None,
    })
}

fn plan(service: &Service, name: &str, role: Role, note: &Note) -> Plan {
    let (was, to) = (&note.was, &note.moves[0].to);
    let before = match service.capacity_provider_strategy() {
        [] if was != to => "(launch type FARGATE)".into(),
        _ => shown(was),
    };
    let plan = Plan::default().change(resource(name), "capacityProviderStrategy", before, shown(to));
    alone::plan(plan, service, name, role)
}

/// Reached when the deployment that was made has rolled out.
#[derive(Debug)]
struct Moved<'a> {
    before: &'a str,
    ours: &'a str,
    /// The newest event before it.
    event: Option<&'a str>,
    rollout: Rollout<'a>,
    /// It is moved to Spot; what ECS says of a lack of it while it leaves Spot is of what was before.
    spot: bool,
    /// Spot has none.
    starved: bool,
}

impl Judge for Moved<'_> {
    fn judge(&mut self, state: &EcsServiceState) -> Verdict {
        let mut new = state.events.iter().take_while(|event| Some(event.as_str()) != self.event);
        if let Some(event) = new.find(|event| self.spot && event.contains(NO_CAPACITY)) {
            self.starved = true;
            return Verdict::Lost(Error::failed(FailureCode::Rejected, event.clone()));
        }
        match primary(state) {
            Some(now) if now.id == self.before => {
                Verdict::Waits { step: "ECS does not show the new deployment yet".into(), percent: Some(0) }
            }
            Some(now) if now.id != self.ours && now.rollout_reason.contains("rolling back") => {
                Verdict::Lost(rollout_failed(state, now))
            }
            Some(now) if now.id != self.ours => Verdict::Lost(Error::failed(
                FailureCode::Conflict,
                format!("somebody else has deployed {} meanwhile ({}); look at its status", state.name, now.id),
            )),
            _ => self.rollout.judge(state),
        }
    }

    fn counts(&self) -> bool {
        self.rollout.counts()
    }

    fn settle(&self) -> Duration {
        self.rollout.settle()
    }

    fn after_deadline(&self) -> &'static str {
        self.rollout.after_deadline()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::LaunchType;
    use sfdata_proto::v1::EcsDeployment;

    use super::*;

    #[test]
    fn launch_type_fargate_is_all_on_demand_and_instances_are_refused() {
        let fargate = Service::builder().launch_type(LaunchType::Fargate).build();
        assert!(is_fargate(&fargate));
        assert_eq!(strategy(&fargate), target(FargateCapacity::OnDemand));
        assert!(!is_fargate(&Service::builder().launch_type(LaunchType::Ec2).build()));
        let own = CapacityProviderStrategyItem::builder().capacity_provider("my-instances").build().unwrap();
        assert!(!is_fargate(&Service::builder().capacity_provider_strategy(own).build()));
        assert_eq!(
            shown(&target(FargateCapacity::Spot { base: 2 })),
            "FARGATE base 2 weight 0, FARGATE_SPOT base 0 weight 1"
        );
    }

    #[test]
    fn only_a_new_event_says_that_spot_has_none() {
        let old = format!("2026-01-01T00:00:00Z (service code) was unable to place a task. Reason: {NO_CAPACITY}.");
        let deployment =
            |id: &str| EcsDeployment { id: id.into(), status: "PRIMARY".into(), desired: 1, ..Default::default() };
        let state = |events: &[&str], id: &str| EcsServiceState {
            name: "code".into(),
            task_definition: "d".into(),
            desired: 1,
            events: events.iter().map(ToString::to_string).collect(),
            deployments: vec![deployment(id)],
            ..Default::default()
        };
        let mut judge = Moved {
            before: "a",
            ours: "b",
            event: Some(&old),
            rollout: Rollout::of("d", Some(2), Duration::ZERO),
            spot: true,
            starved: false,
        };
        assert!(matches!(judge.judge(&state(&[&old], "a")), Verdict::Waits { .. }));
        assert!(matches!(judge.judge(&state(&["new", &old], "b")), Verdict::Waits { .. }));
        assert!(matches!(
            judge.judge(&state(&[], "c")),
            Verdict::Lost(Error::Failed { code: FailureCode::Conflict, .. })
        ));
        assert!(!judge.starved);
        let newer = old.replace("2026-01-01", "2026-01-02");
        assert!(matches!(judge.judge(&state(&[&newer, &old], "b")), Verdict::Lost(_)));
        assert!(judge.starved);
        let mut leaving =
            Moved { spot: false, starved: false, rollout: Rollout::of("d", Some(2), Duration::ZERO), ..judge };
        assert!(matches!(leaving.judge(&state(&[&newer, &old], "b")), Verdict::Waits { .. }), "of the Spot before");
    }

    #[test]
    fn a_note_survives_the_journal_and_a_damaged_one_is_told() {
        let at = Move { to: target(FargateCapacity::Spot { base: 0 }), before: "a".into(), event: None, ours: None };
        let note = Note {
            service: "code".into(),
            definition: "d".into(),
            was: target(FargateCapacity::OnDemand),
            answers: None,
            moves: vec![at],
            fell_back: None,
            back: None,
        };
        assert_eq!(Note::decode(&note.encode()), Ok(note.clone()));
        for damaged in [&b"{"[..], &Note { moves: vec![], ..note }.encode()] {
            assert!(matches!(Note::decode(damaged), Err(Error::Failed { code: FailureCode::Internal, .. })));
        }
    }
}
