//! A one-off task of a service's task definition, once, whatever happens to the agent.
//!
//! RunTask takes a token: the same one starts one task. ECS keeps it for a day at most and forgets a task an hour after
//! it stopped, so that a token alone could start a second one. Hence the journal keeps all that is asked for before the
//! call, and the task's ARN after it; between the two the task is looked for by who started it, and what could have
//! been forgotten is not started again.

use std::time::Duration;

use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, DesiredStatus, KeyValuePair,
    LaunchType, NetworkConfiguration, Service, Tag, Task, TaskOverride,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sfdata_common::{Timestamp, command, outcome::FailureCode, retry::jittered};
use sfdata_proto::v1::action_result::Kind;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Ecs, NO_CAPACITY,
    definition::{COMMAND, Definition},
    deploy::short,
    line::Line,
    restart::PAUSE,
    state::LOOKS_TO_BE_SURE,
    task::{told, unknown},
    tasks::{exit_code, is_spot, task_id, unix_ms},
    wait::insist,
};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// ECS forgets a stopped task after an hour at the earliest; a part of it is kept for clocks that differ.
const KNOWN_FOR: i64 = 50 * 60;
/// A new task may take so long to be seen: reads may be behind.
const APPEARS: Duration = Duration::from_secs(60);
/// What a task that is told to stop may take: Fargate lets it have 120 s at most (ECS developer guide, stopTimeout), and
/// takes its network away after that.
const STOPS: Duration = Duration::from_secs(240);
/// Longest pause between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Why a task is stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stop {
    Cancelled,
    Deadline,
}

/// What is asked for, as the journal keeps it: a repetition has to ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    service: String,
    definition: String,
    container: String,
    /// What a shell as entry point is given in place of the words that were ordered.
    text: Option<String>,
    subnets: Vec<String>,
    security_groups: Vec<String>,
    public_ip: Option<String>,
    platform_version: Option<String>,
    spot: bool,
    fell_back: bool,
    /// When it was first asked for, in seconds.
    asked: i64,
    /// ARN of the task, once it is known.
    task: Option<String>,
    stop: Option<Stop>,
}

impl Note {
    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn decode(kept: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(kept).map_err(|_| {
            let text = "what the journal kept of this run cannot be read; look at the cluster's tasks and their logs, \
                        then order it again";
            Error::failed(FailureCode::Internal, text)
        })
    }

    /// Token of the request, and who the task says that it was started by: 34 characters of 36.
    fn token(&self, job: &Job) -> String {
        format!("{}-{}", job.command().to_string().replace('-', ""), if self.fell_back { 2 } else { 1 })
    }

    /// Ask again, for on-demand capacity.
    fn fall_back(&mut self) {
        (self.spot, self.fell_back, self.task) = (false, true, None);
        self.asked = Timestamp::now().as_second();
    }

    fn network(&self) -> Result<NetworkConfiguration, Error> {
        let vpc = AwsVpcConfiguration::builder()
            .set_subnets(Some(self.subnets.clone()))
            .set_security_groups(Some(self.security_groups.clone()))
            .set_assign_public_ip(self.public_ip.as_deref().map(AssignPublicIp::from))
            .build()
            .map_err(|error| Error::failed(FailureCode::Internal, error.to_string()))?;
        Ok(NetworkConfiguration::builder().awsvpc_configuration(vpc).build())
    }
}

/// What became of a request for a task.
enum Asked {
    /// Its ARN.
    Started(String),
    NoCapacity,
}

impl Ecs {
    pub(super) async fn run(&self, name: &str, run: &command::Run, job: &Job) -> Result<Kind, Error> {
        let ends = Instant::now() + run.deadline;
        let (mut note, mut unsure) = match job.checkpoint() {
            Some(kept) => (Note::decode(&kept)?, true),
            None => {
                let (plan, note) = self.prepare(name, run).await?;
                if let Some(answer) = job.agree_and_keep(plan, note.encode()).await? {
                    return Ok(answer);
                }
                (note, false)
            }
        };
        loop {
            if note.task.is_none() {
                match self.start(&note, run, unsure, ends, job).await? {
                    Asked::Started(arn) => note.task = Some(arn),
                    Asked::NoCapacity if note.spot => note.fall_back(),
                    Asked::NoCapacity => return Err(no_capacity(&note)),
                }
                job.keep(note.encode()).await?;
                unsure = false;
                if note.task.is_none() {
                    job.progress("there is no Spot capacity; asking for on-demand capacity", None);
                    continue;
                }
            }
            let task = self.follow(&mut note, run, ends, job).await?;
            if note.spot && note.stop.is_none() && task.started_at().is_none() && says_no_capacity(&task) {
                note.fall_back();
                job.keep(note.encode()).await?;
                continue;
            }
            return verdict(&task, &note, run);
        }
    }

    async fn prepare(&self, name: &str, run: &command::Run) -> Result<(Plan, Note), Error> {
        let service = self.look(name).await?;
        let definition = self.definition(service.task_definition().unwrap_or_default()).await?;
        let mut note = note(&service, &definition, name, run)?;
        let line = Line::of(&definition, &note.container, &run.command)?;
        let task = format!("ecs-task of {name}");
        let mut plan = Plan::default()
            .change(&task, "taskDefinition", "", short(&note.definition))
            .change(&task, "entryPoint", "", line.shown_entry_point())
            .change(&task, "command", "", format!("{:?}", line.command));
        note.text = (line.command != run.command).then(|| line.command.concat());
        for (variable, value) in run.environment.iter().flat_map(|environment| environment.set()) {
            plan = plan.change(&task, format!("environment {variable}"), "", format!("{value:?}"));
        }
        if let Some(size) = run.size {
            plan = plan.change(&task, "cpu", definition.cpu(), size.cpu().to_string()).change(
                &task,
                "memory",
                definition.memory(),
                size.memory().to_string(),
            );
        }
        let on = if run.spot { "FARGATE_SPOT; FARGATE where there is none" } else { "FARGATE" };
        Ok((plan.change(&task, "capacityProvider", "", on), note))
    }

    /// Have it started, or find what was. What may have had its effect is looked for and asked for again, by the same token.
    async fn start(
        &self,
        note: &Note,
        run: &command::Run,
        mut unsure: bool,
        ends: Instant,
        job: &Job,
    ) -> Result<Asked, Error> {
        let may_have = |error: Error| error.after("a task may have been started");
        let (what, mut pause) = (format!("the tasks of {}", note.service), PAUSE);
        loop {
            if unsure {
                sleep(jittered(pause, 0.2)).await; // a call that was under way when the agent died shows by then
                pause = (pause * 2).min(LOOK);
                // Also when it is cancelled: what was started has to be found to be stopped.
                let found = insist(&what, ends, job, || self.started_by(note, job)).await;
                if let Some(arn) = found.map_err(may_have)? {
                    return Ok(Asked::Started(arn));
                }
                still_known(note, Timestamp::now().as_second())?;
            }
            if job.cancelled().is_cancelled() {
                let so_far = if unsure { "ECS shows no task of it so far" } else { "no task was started" };
                return Err(Error::cancelled(so_far));
            }
            job.progress(format!("asking ECS for a task of {}", short(&note.definition)), None);
            match self.ask_for(note, run, job).await {
                // It may have had its effect all the same; what was throttled at once had none.
                Err(error) if unsure || is_unavailable(&error) => {
                    if !error.is_passing() || Instant::now() >= ends {
                        return Err(may_have(error));
                    }
                    job.progress(format!("whether a task was started is not known yet: {error}"), None);
                    unsure = true;
                }
                asked => return asked,
            }
        }
    }

    async fn ask_for(&self, note: &Note, run: &command::Run, job: &Job) -> Result<Asked, Error> {
        let token = note.token(job);
        let variable = |(name, value): &(String, String)| KeyValuePair::builder().name(name).value(value).build();
        let container = ContainerOverride::builder()
            .name(&note.container)
            .set_command(Some(note.text.clone().map_or_else(|| run.command.clone(), |text| vec![text])))
            .set_environment(run.environment.as_ref().map(|e| e.set().iter().map(variable).collect()))
            .build();
        let overrides = TaskOverride::builder()
            .container_overrides(container)
            .set_cpu(run.size.map(|size| size.cpu().to_string()))
            .set_memory(run.size.map(|size| size.memory().to_string()))
            .build();
        let call = self
            .client
            .run_task()
            .cluster(&self.platform.cluster)
            .task_definition(&note.definition)
            .count(1)
            .client_token(&token)
            .started_by(&token)
            .overrides(overrides)
            .network_configuration(note.network()?)
            .set_platform_version(note.platform_version.clone())
            .tags(Tag::builder().key(COMMAND).value(job.command().to_string()).build());
        let call = if note.spot {
            let spot = CapacityProviderStrategyItem::builder().capacity_provider("FARGATE_SPOT").weight(1).build();
            call.capacity_provider_strategy(spot.map_err(|e| Error::failed(FailureCode::Internal, e.to_string()))?)
        } else {
            call.launch_type(LaunchType::Fargate)
        };
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let tried = format!("run a task of {}", short(&note.definition));
                return match failure(tried, "ecs:RunTask, ecs:TagResource and iam:PassRole", error) {
                    Error::Failed { message, .. } if message.contains(NO_CAPACITY) => Ok(Asked::NoCapacity),
                    error => Err(error),
                };
            }
        };
        if let Some(arn) = answer.tasks().iter().find_map(Task::task_arn) {
            return Ok(Asked::Started(arn.into()));
        }
        let reasons: Vec<_> = answer.failures().iter().filter_map(|failed| failed.reason()).collect();
        if reasons.iter().any(|reason| reason.contains(NO_CAPACITY)) {
            return Ok(Asked::NoCapacity);
        }
        let reasons = if reasons.is_empty() { "no reason given".into() } else { reasons.join(", ") };
        Err(Error::failed(
            FailureCode::Rejected,
            format!("ECS started no task of {}: {reasons}; correct the order or the service", short(&note.definition)),
        ))
    }

    /// The task that an earlier try of this request started.
    async fn started_by(&self, note: &Note, job: &Job) -> Result<Option<String>, Error> {
        let token = note.token(job);
        let family = short(&note.definition).split(':').next().unwrap_or_default();
        for status in [DesiredStatus::Running, DesiredStatus::Stopped] {
            let tasks = self.tasks_of_family(family, status).await?;
            if let Some(task) = tasks.iter().find(|task| task.started_by() == Some(&token)) {
                return Ok(task.task_arn().map(Into::into));
            }
        }
        Ok(None)
    }

    /// Look at the task until it has stopped, or runs where that is enough; stop it when it is no longer wanted.
    async fn follow(&self, note: &mut Note, run: &command::Run, ends: Instant, job: &Job) -> Result<Task, Error> {
        let arn = note.task.clone().unwrap_or_default();
        let done = format!("task {} of {} was started", short(&arn), note.service);
        let (began, mut seen, mut pause, mut step) = (Instant::now(), false, Duration::from_millis(500), String::new());
        let (mut stops_by, mut stopping, mut missing) = (None, false, 0);
        loop {
            match self.task(&arn).await {
                Ok(Some(task)) => {
                    (seen, missing) = (true, 0);
                    let over = task.last_status() == Some("STOPPED");
                    if over || (run.detach && task.last_status() == Some("RUNNING") && note.stop.is_none()) {
                        return Ok(task);
                    }
                    let now = progress(&task, note);
                    if now != step {
                        job.progress(now.clone(), None);
                        step = now;
                    }
                }
                Ok(None) if missing + 1 >= LOOKS_TO_BE_SURE && (seen || began.elapsed() > APPEARS) => {
                    let there = "how it ended cannot be told: look at its logs";
                    return Err(unknown(short(&arn), &self.platform.cluster, there).after(&done));
                }
                Ok(None) => missing += 1,
                Err(error) if error.is_passing() => {
                    job.progress(format!("AWS does not tell the state of task {}; asking again", short(&arn)), None);
                }
                Err(error) => return Err(error.after(&done)),
            }
            if note.stop.is_none() {
                note.stop = match () {
                    () if job.cancelled().is_cancelled() => Some(Stop::Cancelled),
                    () if Instant::now() >= ends => Some(Stop::Deadline),
                    () => None,
                };
                if note.stop.is_some() {
                    job.keep(note.encode()).await?; // decided once, durable before the call
                }
            }
            if let Some(stop) = note.stop
                && !stopping
            {
                stops_by.get_or_insert_with(|| Instant::now() + STOPS);
                match self.end_task(&arn, &reason(stop, job)).await {
                    Ok(()) => (stopping, pause) = (true, Duration::from_millis(500)),
                    Err(error) if error.is_passing() => {
                        job.progress(format!("AWS does not stop task {}; trying again", short(&arn)), None);
                    }
                    Err(error) => return Err(error.after(&done)),
                }
            }
            match stops_by {
                Some(late) if Instant::now() >= late => {
                    let text = format!("{done}, was to be stopped, and has not stopped; order it with ecs stop-task");
                    return Err(Error::failed(FailureCode::Deadline, text));
                }
                Some(_) => sleep(pause).await,
                None => tokio::select! {
                    biased;
                    () = job.cancelled().cancelled() => {}
                    () = sleep_until(ends) => {}
                    () = sleep(pause) => {}
                },
            }
            pause = (pause * 2).min(LOOK);
        }
    }
}

/// Whether all its tasks run on Fargate.
pub(super) fn is_fargate(service: &Service) -> bool {
    let fargate = |item: &CapacityProviderStrategyItem| item.capacity_provider().starts_with("FARGATE");
    match service.capacity_provider_strategy() {
        [] => service.launch_type() == Some(&LaunchType::Fargate),
        strategy => strategy.iter().all(fargate),
    }
}

fn note(service: &Service, definition: &Definition, name: &str, run: &command::Run) -> Result<Note, Error> {
    let rejected = |text: String| Error::failed(FailureCode::Rejected, text);
    if !is_fargate(service) {
        return Err(rejected(format!("{name} does not run on Fargate, and only Fargate tasks can be run")));
    }
    let network = service.network_configuration().and_then(|network| network.awsvpc_configuration());
    let network = network.ok_or_else(|| rejected(format!("{name} has no network configuration to run a task with")))?;
    let container = definition.main_name(name).ok_or_else(|| {
        rejected(format!(
            "which container of task definition {} is the service's own cannot be told: name one {name}, or let only \
             one be essential",
            short(definition.arn())
        ))
    })?;
    Ok(Note {
        service: name.into(),
        definition: definition.arn().into(),
        container: container.into(),
        text: None,
        subnets: network.subnets().to_vec(),
        security_groups: network.security_groups().to_vec(),
        public_ip: network.assign_public_ip().map(|assign| assign.as_str().into()),
        platform_version: service.platform_version().map(Into::into),
        spot: run.spot,
        fell_back: false,
        asked: Timestamp::now().as_second(),
        task: None,
        stop: None,
    })
}

fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Failed { code: FailureCode::Unavailable, .. })
}

/// That ECS would still know a task that this request started, even one that has ended.
fn still_known(note: &Note, now: i64) -> Result<(), Error> {
    if now - note.asked <= KNOWN_FOR {
        return Ok(());
    }
    Err(Error::failed(
        FailureCode::Unavailable,
        format!(
            "what became of a task of {} that was asked for could not be told for so long that ECS would have forgotten \
             one that ended; none was started again: look at its logs, then order it again",
            note.service
        ),
    ))
}

fn reason(stop: Stop, job: &Job) -> String {
    match stop {
        Stop::Cancelled => format!("sfdata: command {} was cancelled", job.command()),
        Stop::Deadline => format!("sfdata: the deadline of command {} came first", job.command()),
    }
}

fn progress(task: &Task, note: &Note) -> String {
    let status = task.last_status().unwrap_or("not known");
    let since = Timestamp::from_millisecond(unix_ms(task.started_at())).ok().filter(|_| task.started_at().is_some());
    let on = if is_spot(task) { " on Spot" } else { "" };
    match (since, note.stop) {
        (_, Some(_)) => format!("task {} is to stop: {status}", task_id(task)),
        (Some(since), None) => {
            format!("task {} is {status}{on} since {}", task_id(task), since.strftime("%H:%M:%S UTC"))
        }
        (None, None) => format!("task {} is {status}{on}", task_id(task)),
    }
}

fn says_no_capacity(task: &Task) -> bool {
    task.stopped_reason().is_some_and(|reason| reason.contains(NO_CAPACITY))
}

fn no_capacity(note: &Note) -> Error {
    let text = format!("Fargate has no capacity for a task of {} just now; try again in a few minutes", note.service);
    Error::failed(FailureCode::Unavailable, text)
}

/// What came of the task.
fn verdict(task: &Task, note: &Note, run: &command::Run) -> Result<Kind, Error> {
    let (id, exit) = (task_id(task), exit_code(task, &note.container));
    let reason = task.stopped_reason().unwrap_or("no reason given").trim_end_matches('.');
    let container = task.containers().iter().find(|one| one.name() == Some(&note.container));
    let more = container.and_then(|one| one.reason()).map(|more| format!(": {}", more.trim_end_matches('.')));
    let by_us = task.stop_code().is_some_and(|code| code.as_str() == "UserInitiated");
    let ended = exit.map_or_else(|| "without an exit code".to_owned(), |code| format!("with exit code {code}"));
    match note.stop {
        Some(Stop::Cancelled) if by_us => {
            return Err(Error::cancelled(format!("task {id} of {} was stopped and ended {ended}", note.service)));
        }
        Some(Stop::Deadline) if by_us => {
            return Err(Error::failed(
                FailureCode::Deadline,
                format!(
                    "task {id} of {} had not ended within {:?}, was stopped, and ended {ended}; give it longer with \
                     --timeout",
                    note.service, run.deadline
                ),
            ));
        }
        _ => {}
    }
    if task.last_status() != Some("STOPPED") || exit == Some(0) {
        return Ok(Kind::EcsTask(told(task, &note.container, note.fell_back)));
    }
    let spot = if is_spot(task) && task.stop_code().is_some_and(|code| code.as_str() == "SpotInterruption") {
        "; AWS took its Spot capacity back: order it without --spot"
    } else {
        "; look at its logs"
    };
    Err(Error::failed(
        FailureCode::TaskFailed,
        format!("task {id} of {} ended {ended}: {reason}{}{spot}", note.service, more.unwrap_or_default()),
    ))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Container, TaskStopCode};

    use super::*;

    fn order() -> command::Run {
        command::Run {
            service: "code".into(),
            command: vec!["true".into()],
            environment: None,
            size: None,
            spot: false,
            detach: false,
            deadline: Duration::from_secs(60),
        }
    }

    fn kept(stop: Option<Stop>) -> Note {
        Note {
            service: "code".into(),
            definition: "arn:aws:ecs:eu-west-2:1:task-definition/code:7".into(),
            container: "code".into(),
            text: None,
            subnets: vec!["subnet-1".into()],
            security_groups: vec![],
            public_ip: Some("DISABLED".into()),
            platform_version: None,
            spot: true,
            fell_back: false,
            asked: 1,
            task: Some("arn".into()),
            stop,
        }
    }

    fn ended(code: TaskStopCode, exit: Option<i32>, reason: &str) -> Task {
        Task::builder()
            .task_arn("arn:aws:ecs:eu-west-2:1:task/c/0123")
            .last_status("STOPPED")
            .stop_code(code)
            .stopped_reason(reason)
            .containers(Container::builder().name("code").set_exit_code(exit).build())
            .build()
    }

    #[test]
    fn a_note_survives_the_journal_and_a_damaged_one_is_told() {
        let mut note = kept(Some(Stop::Deadline));
        assert_eq!(Note::decode(&note.encode()), Ok(note.clone()));
        assert!(matches!(Note::decode(b"{"), Err(Error::Failed { code: FailureCode::Internal, .. })));
        note.fall_back();
        assert!(!note.spot && note.fell_back && note.task.is_none() && note.asked > 1);
    }

    #[test]
    fn what_ecs_may_have_forgotten_is_not_started_again() {
        let note = kept(None);
        for (later, known) in [(0, true), (KNOWN_FOR, true), (KNOWN_FOR + 1, false), (24 * 3600, false)] {
            assert_eq!(still_known(&note, note.asked + later).is_ok(), known, "{later} s later");
        }
        let refused = still_known(&note, note.asked + KNOWN_FOR + 1);
        let Err(Error::Failed { code: FailureCode::Unavailable, message }) = refused else { panic!("{refused:?}") };
        assert!(message.contains("none was started again"), "{message}");
    }

    #[test]
    fn only_exit_code_zero_is_a_success_and_a_stop_is_told_as_what_it_was() {
        use TaskStopCode::{EssentialContainerExited, TaskFailedToStart, UserInitiated};
        let of = |task: Task, stop| verdict(&task, &kept(stop), &order());
        let exited = |code| ended(EssentialContainerExited, Some(code), "Essential container in task exited");
        assert!(matches!(of(exited(0), None), Ok(Kind::EcsTask(_))));
        assert!(matches!(of(exited(0), Some(Stop::Cancelled)), Ok(Kind::EcsTask(_))), "it was sooner than the stop");
        let Err(Error::Failed { code: FailureCode::TaskFailed, message }) = of(exited(3), None) else { panic!() };
        assert!(message.contains("task 0123 of code ended with exit code 3"), "{message}");
        let pull = ended(TaskFailedToStart, None, "CannotPullContainerError: not found");
        let Err(Error::Failed { code: FailureCode::TaskFailed, message }) = of(pull, None) else { panic!() };
        assert!(message.contains("without an exit code: CannotPull"), "{message}");
        let stopped = || ended(UserInitiated, Some(143), "sfdata");
        assert!(matches!(of(stopped(), Some(Stop::Cancelled)), Err(Error::Cancelled { .. })));
        let late = of(stopped(), Some(Stop::Deadline));
        assert!(matches!(late, Err(Error::Failed { code: FailureCode::Deadline, .. })), "{late:?}");
        let by_others = of(stopped(), None);
        assert!(matches!(by_others, Err(Error::Failed { code: FailureCode::TaskFailed, .. })), "{by_others:?}");
    }
}
