//! An order: a command that is signed here and submitted, then followed to its end. Stop 1 on a command's path.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use futures::StreamExt as _;
use serde_json::json;
use sfdata_common::{
    Timestamp,
    command::{Action, Class, Command, Mode, ParseError},
    envelope,
    ids::{AgentId, CommandId},
    limits,
    sealed::Opener,
    telemetry::traces::{Span, SpanKind, TraceContext},
};
use sfdata_proto::v1::{
    Envelope, GetCommandRequest, ProposeRequest, SubmitRequest, action_result::Kind, submit_response::Message,
};
use tonic::{Request, Response, Status};

use crate::{
    cli::{self, Context},
    client::Hub,
    exit::{Exit, Usage},
    follow::{self, Board, Events, Stop},
    output, pinned, results, status,
    table::{Table, row},
    targets::Targets,
    wait::Wait,
    words,
};

/// Clocks differ: a command is valid from a little before it was signed.
const BACKDATE: Duration = Duration::from_secs(5);

/// A hub that is asked again needs no longer for a request that it was busy with when the connection broke.
const SETTLED: Duration = Duration::from_secs(2);

/// What every command to agents takes.
#[derive(Debug, Args)]
pub(crate) struct Order {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    about: About,
}

/// What every change to a platform takes besides.
#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) order: Order,
    #[command(flatten)]
    plan: Plan,
}

/// Whether to act at all.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Plan {
    /// Show what would be changed, and its digest; change nothing
    #[arg(long, help_heading = "Planning")]
    plan: bool,
    /// Act only if the plan still has this digest
    #[arg(long, value_name = "DIGEST", value_parser = cli::digest, help_heading = "Planning")]
    if_plan: Option<[u8; 32]>,
}

impl Plan {
    /// What becomes of the plan.
    pub(crate) fn mode(&self) -> Mode {
        match *self {
            Self { plan: true, .. } => Mode::PlanOnly,
            Self { if_plan: Some(digest), .. } => Mode::ActIfPlan(digest),
            Self { .. } => Mode::Act,
        }
    }
}

impl Change {
    /// Sign it, submit it, wait for it, show what came of it.
    pub(crate) async fn run(self, context: &Context, action: Action) -> anyhow::Result<Exit> {
        self.ready(context).await?.run(context, action).await
    }

    /// Connected, with its targets known, to ask them something first.
    pub(crate) async fn ready(self, context: &Context) -> anyhow::Result<Ready> {
        let mode = self.plan.mode();
        self.order.ready(context, mode).await
    }
}

/// Why, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct About {
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// Why, for the audit record and the LA
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = None::<&str>)]
    pub(crate) reason: String,
}

impl About {
    /// Whether anybody waits for what comes of it.
    pub(crate) fn waits(&self) -> bool {
        self.wait.waits()
    }
}

impl Order {
    /// How long the action may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.about.wait.deadline()
    }

    /// Why, in the operator's words.
    pub(crate) fn reason(&self) -> &str {
        &self.about.reason
    }

    /// Sign it, submit it, wait for it, show what came of it.
    pub(crate) async fn run(self, context: &Context, action: Action) -> anyhow::Result<Exit> {
        self.ready(context, Mode::Act).await?.run(context, action).await
    }

    /// Whether anybody waits for what comes of it.
    pub(crate) fn waits(&self) -> bool {
        self.about.waits()
    }

    /// Connected, with its targets known.
    pub(crate) async fn ready(self, context: &Context, mode: Mode) -> anyhow::Result<Ready> {
        let hub = Hub::connect(context).await?;
        let targets = self.targets.resolve(&hub).await?;
        Ok(Ready { hub, targets, mode, about: self.about })
    }
}

/// An order whose targets are known.
pub(crate) struct Ready {
    pub(crate) hub: Hub,
    targets: Vec<AgentId>,
    mode: Mode,
    pub(crate) about: About,
}

/// What an action would change, the same at every target.
pub(crate) struct AgreedPlan {
    pub(crate) digest: [u8; 32],
    pub(crate) table: Table,
}

impl Ready {
    /// Of parts that were found otherwise.
    pub(crate) fn new(hub: Hub, targets: Vec<AgentId>, mode: Mode, about: About) -> Self {
        Self { hub, targets, mode, about }
    }

    /// Whether nothing is changed.
    pub(crate) fn plans(&self) -> bool {
        self.mode == Mode::PlanOnly
    }

    /// Sign it, submit it, wait for it, show what came of it.
    pub(crate) async fn run(self, context: &Context, action: Action) -> anyhow::Result<Exit> {
        if let Some(lives) = context.proposing {
            return self.propose(context, action, lives).await;
        }
        if action.reveals_data() && !self.about.waits() {
            return Err(Usage("its answer is sealed to who waits for it: not with --no-wait".into()).into());
        }
        let mut submitted = self.submit(action).await?;
        let command = &submitted.command;
        if !self.about.waits() {
            return submitted.show_id(context);
        }
        output::note(format_args!("command {}", command.id));
        let mut board = Board::new(command.id, command.action.name(), &command.targets);
        board.opener = submitted.opener.take();
        let events = submitted.events.take();
        let exit = follow::to_the_end(context, &self.hub, &mut board, events, Some(self.patience())).await;
        submitted.came_to(&board);
        exit
    }

    /// Sign it, for what every target now says that it would change, and hand it in for a second operator.
    async fn propose(self, context: &Context, action: Action, lives: Duration) -> anyhow::Result<Exit> {
        if action.class() == Class::Read || self.mode == Mode::PlanOnly {
            return Err(Usage("looking needs no second operator: order it without commands propose".into()).into());
        }
        if action.reveals_data() {
            return Err(Usage("its answer is sealed to who orders it and waits: it can't be proposed".into()).into());
        }
        let plan = if action.has_plan() { Some(self.plan(action.clone()).await?) } else { None };
        let mode = match (&plan, self.mode) {
            (Some(plan), Mode::ActIfPlan(wanted)) if plan.digest != wanted => {
                bail!("nothing was proposed: the plan is not the one of --if-plan any more")
            }
            (Some(plan), _) => Mode::ActIfPlan(plan.digest),
            (None, mode) => mode,
        };
        let signed = sign(&self.hub, action, mode, self.targets, &self.about, lives).await?;
        let Command { id, expires, .. } = signed.command;
        let request = ProposeRequest { command: Some(signed.envelope) };
        self.hub.ask("propose the command", self.hub.proposals().propose(request)).await?;
        let json = json!({
            "command_id": id.to_string(),
            "expires": words::time(expires.as_millisecond()),
            "plan_digest": plan.as_ref().map(|plan| hex::encode(plan.digest)),
        });
        let mut facts = Table::card();
        facts.push(row!["command", id]);
        facts.push(row!["expires", words::second(expires.as_millisecond())]);
        context.output.data(&json, &plan.map(|plan| plan.table).into_iter().chain([facts]).collect::<Vec<_>>())?;
        output::note(format_args!("nothing is done yet; another operator approves it: hubctl commands approve {id}"));
        Ok(Exit::Done)
    }

    /// What the action would change, if that is the same at every target.
    pub(crate) async fn plan(&self, action: Action) -> anyhow::Result<AgreedPlan> {
        let answers = self.ask_as(action, Mode::PlanOnly).await.context("nothing was ordered")?;
        let mut table = Table::new(&["AGENT", "RESOURCE", "PROPERTY", "BEFORE", "AFTER"]);
        let mut digests = Vec::new();
        for (agent, answer) in answers {
            let Kind::Plan(plan) = answer else { bail!("{agent} answered with something else than a plan") };
            if plan.changes.is_empty() {
                bail!("there is nothing to do at {agent}: what is ordered is so already");
            }
            for change in &plan.changes {
                table.push(row![agent, change.resource, change.property, change.before, change.after]);
            }
            digests.push(plan.digest);
        }
        let digest = digests.first().and_then(|digest| digest[..].try_into().ok());
        let digest = digest.context("an agent's plan has no digest")?;
        if digests.iter().any(|other| other[..] != digest) {
            bail!("the agents would change different things; propose it for each of them by itself");
        }
        Ok(AgreedPlan { digest, table })
    }

    /// Sign it and hand it in.
    pub(crate) async fn submit(&self, action: Action) -> anyhow::Result<Submitted> {
        submit(&self.hub, action, self.mode, self.targets.clone(), &self.about).await
    }

    /// How long it is followed.
    pub(crate) fn patience(&self) -> Duration {
        self.about.wait.patience()
    }

    /// What every target answers to a question on which the order depends. Nothing is ordered unless all do.
    pub(crate) async fn ask(&self, question: Action) -> anyhow::Result<Vec<(String, Kind)>> {
        self.ask_as(question, Mode::Act).await.context("nothing was ordered")
    }

    /// As [`Self::ask`], or what it would change.
    pub(crate) async fn ask_as(&self, question: Action, mode: Mode) -> anyhow::Result<Vec<(String, Kind)>> {
        let mut submitted = submit(&self.hub, question, mode, self.targets.clone(), &self.about).await?;
        let command = &submitted.command;
        let mut board = Board::new(command.id, command.action.name(), &command.targets);
        let events = submitted.events.take();
        let stop = follow::follow(&self.hub, &mut board, events, Some(self.patience()), None).await;
        submitted.came_to(&board);
        let stop = stop?;
        if let Stop::UnderWay(why) = stop {
            bail!(
                "{} was not answered everywhere ({why}); see hubctl commands show {}",
                board.action,
                board.command_id
            );
        }
        results::answers(&board).map_err(|which| anyhow!("{}: {which}", board.action))
    }
}

/// A command that the hub has.
pub(crate) struct Submitted {
    pub(crate) command: Command,
    /// What happens to it; none where the connection broke, and the hub has it all the same.
    pub(crate) events: Option<Events>,
    /// Opens what it reveals of an LA's data.
    pub(crate) opener: Option<Arc<Opener>>,
    /// Of the whole order, until this is dropped.
    span: Span,
}

impl Submitted {
    /// Say in the trace how far the order has come, as the exit code does.
    pub(crate) fn came_to(&mut self, board: &Board) {
        match board.exit() {
            Exit::Done => self.span.succeeded(),
            Exit::UnderWay => self.span.failed("under-way"),
            _ => self.span.failed("not-succeeded"),
        }
    }

    /// All that there is to show when nobody waits.
    pub(crate) fn show_id(&self, context: &Context) -> anyhow::Result<Exit> {
        context.output.text(&json!({ "command_id": self.command.id.to_string() }), self.command.id)?;
        Ok(Exit::Done)
    }
}

/// Sign an action for these targets and hand it in. When this returns it is durable at the hub.
pub(crate) async fn submit(
    hub: &Hub,
    action: Action,
    mode: Mode,
    targets: Vec<AgentId>,
    about: &About,
) -> anyhow::Result<Submitted> {
    let Signed { command, envelope, opener } = sign(hub, action, mode, targets, about, about.wait.validity()).await?;
    if hub.proposing && command.class() != Class::Read {
        return Err(Usage(format!("{} can't be proposed", command.action.name())).into());
    }
    let span = hub.tracer.span("command", SpanKind::Internal, None).command(&command);
    let events = open(hub, &command, envelope, span.context()).await?;
    Ok(Submitted { command, events, opener, span })
}

/// A command that nobody but its operator has seen.
struct Signed {
    command: Command,
    envelope: Envelope,
    opener: Option<Arc<Opener>>,
}

async fn sign(
    hub: &Hub,
    action: Action,
    mode: Mode,
    targets: Vec<AgentId>,
    about: &About,
    lives: Duration,
) -> anyhow::Result<Signed> {
    let trust = pinned::refresh(hub).await?;
    if trust.epoch_needs_statement {
        output::warn(pinned::NEEDS_STATEMENT);
    }
    let held = trust.held.context(
        "the hub has no trust bundle yet, so that no agent would obey; an admin makes one: hubctl trust init, \
         add-operator, sign, publish",
    )?;
    let key = hub.signing_key().await?;
    let opener = if action.reveals_data() { Some(Arc::new(Opener::generate()?)) } else { None };
    let now = Timestamp::now();
    let not_before = now - BACKDATE;
    let command = Command {
        id: CommandId::generate(),
        action,
        targets,
        not_before,
        expires: (now + lives).min(not_before + limits::COMMAND_VALIDITY_MAX),
        operator: hub.profile.settings.operator.clone(),
        reason: about.reason.clone(),
        trust_version: held.bundle.version,
        mode,
        reply_key: opener.as_ref().map(|opener| opener.reply_key()),
    };
    let envelope = envelope::seal(Command::PAYLOAD_TYPE, checked(&command)?, &key);
    Ok(Signed { command, envelope, opener })
}

/// The bytes to sign, if an agent would take them.
fn checked(command: &Command) -> Result<Vec<u8>, Usage> {
    let payload = command.encode();
    match Command::parse(&payload) {
        Ok(_) => Ok(payload),
        Err(ParseError::Malformed(what)) => Err(Usage(what)),
        Err(error) => Err(Usage(error.to_string())),
    }
}

/// Hand the command in; its events, or none where the connection broke and the hub has it all the same.
async fn open(
    hub: &Hub,
    command: &Command,
    signed: Envelope,
    trace: Option<TraceContext>,
) -> anyhow::Result<Option<Events>> {
    let tried = format!("submit {}", command.action.name());
    let span = hub.tracer.span("submit", SpanKind::Client, trace);
    let mut request = Request::new(SubmitRequest { command: Some(signed) });
    if let Some(context) = span.context() {
        context.send(request.metadata_mut());
    }
    let mut operator = hub.operator();
    let call = async {
        let mut stream = operator.submit(request).await?.into_inner();
        match stream.message().await?.and_then(|first| first.message) {
            Some(Message::Accepted(_)) => Ok(Response::new(stream)),
            _ => Err(Status::internal("it did not say whether it took the command")),
        }
    };
    let answer = hub.ask(&tried, call).await;
    drop(span);
    match answer {
        Ok(stream) => Ok(Some(
            stream
                .filter_map(async |answer| match answer.map(|answer| answer.message) {
                    Ok(Some(Message::Event(event))) => Some(Ok(event)),
                    Ok(_) => None,
                    Err(status) => Some(Err(status)),
                })
                .boxed(),
        )),
        Err(
            error @ (status::Error::Unreachable { .. }
            | status::Error::Dropped { .. }
            | status::Error::Late { .. }
            | status::Error::Fault { .. }),
        ) => was_taken(hub, command.id, error).await.map(|()| None),
        Err(error) => Err(error.into()),
    }
}

/// There was no good answer when the command was handed in: look whether it was taken all the same.
async fn was_taken(hub: &Hub, id: CommandId, broken: status::Error) -> anyhow::Result<()> {
    let look = async || {
        let request = GetCommandRequest { command_id: id.to_string(), ..Default::default() };
        hub.ask("look for the command", hub.operator().get_command(request)).await
    };
    let mut seen = look().await;
    // It may still be on its way into the store.
    if matches!((&seen, &broken), (Err(status::Error::Refused { .. }), status::Error::Dropped { .. })) {
        tokio::time::sleep(SETTLED).await;
        seen = look().await;
    }
    match (seen, &broken) {
        (Ok(_), _) => Ok(()),
        (Err(status::Error::Refused { .. }), status::Error::Unreachable { .. } | status::Error::Dropped { .. }) => {
            Err(broken.into())
        }
        _ => Err(broken).with_context(|| {
            format!(
                "it is not known whether the hub took command {id}; before trying again, see: hubctl commands show {id}"
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use sfdata_common::command::Ecs;

    use super::*;

    fn command(service: &str, reason: &str) -> Command {
        let now = Timestamp::UNIX_EPOCH;
        Command {
            id: CommandId::generate(),
            action: Action::Ecs(Ecs::Restart { service: service.into(), deadline: Duration::from_secs(60) }),
            targets: vec!["ely".parse().unwrap()],
            not_before: now,
            expires: now + Duration::from_secs(60),
            operator: "alice".parse().unwrap(),
            reason: reason.into(),
            trust_version: 1,
            mode: Mode::Act,
            reply_key: None,
        }
    }

    #[test]
    fn what_an_agent_would_not_take_is_not_sent() {
        assert!(checked(&command("daemon", "stuck")).is_ok());
        let error = checked(&command("the daemon", "")).unwrap_err().to_string();
        assert!(error.contains("not the name of an ECS service"), "{error}");
        assert!(checked(&command("daemon", &"x".repeat(501))).unwrap_err().to_string().contains("500 bytes"));
    }
}
