//! A command on its way: where each target stands, until it has ended everywhere or the time has run out.
//!
//! A broken stream is opened again with `WatchCommand`, which tells first where every target stands: nothing that
//! happened meanwhile is missed.

use std::{collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::pending, stream::BoxStream};
use prost::Message as _;
use sfdata_common::{
    Timestamp,
    error::chain,
    retry::Reconnect,
    sealed::{Opener, Place},
};
use sfdata_proto::v1::{
    ActionResult, CommandEvent, CommandProgress, CommandState, Failed, FailureCode, GetCommandResponse, Outcome,
    Succeeded, TargetStatus, WatchCommandRequest, action_result::Kind, outcome,
};
use tonic::Status;

use crate::{cli::Context, client::Hub, exit::Exit, lines::Lines, output, progress::Progress, results, status, words};

/// Changes of one command.
pub(crate) type Events = BoxStream<'static, Result<CommandEvent, Status>>;

/// Where one target stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) state: CommandState,
    pub(crate) changed_unix_ms: i64,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) progress: Option<CommandProgress>,
}

impl Target {
    /// Whether nothing more will happen there.
    pub(crate) fn is_ended(&self) -> bool {
        use CommandState::{Cancelled, Expired, Failed, Refused, Succeeded};
        matches!(self.state, Succeeded | Failed | Refused | Expired | Cancelled)
    }
}

impl From<&TargetStatus> for Target {
    fn from(status: &TargetStatus) -> Self {
        Self {
            state: status.state(),
            changed_unix_ms: status.changed_unix_ms,
            outcome: status.outcome.clone(),
            progress: status.progress.clone(),
        }
    }
}

/// Where all targets of one command stand.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    pub(crate) command_id: String,
    /// `noun.verb`.
    pub(crate) action: String,
    pub(crate) targets: BTreeMap<String, Target>,
    /// Opens results that are sealed to this process.
    pub(crate) opener: Option<Arc<Opener>>,
}

impl Board {
    /// Just submitted: everybody waits.
    pub(crate) fn new(command_id: impl Display, action: &str, targets: &[impl ToString]) -> Self {
        let waiting = Target { state: CommandState::Waiting, ..Default::default() };
        let targets = targets.iter().map(|target| (target.to_string(), waiting.clone())).collect();
        Self { command_id: command_id.to_string(), action: action.to_owned(), targets, opener: None }
    }

    /// As the hub tells it.
    pub(crate) fn of(answer: &GetCommandResponse) -> Self {
        let summary = answer.summary.clone().unwrap_or_default();
        let targets = answer.targets.iter().map(|status| (status.agent_id.clone(), status.into())).collect();
        Self { command_id: summary.id, action: summary.action, targets, opener: None }
    }

    /// Take in a change; the target if there was one. What has ended stays as it is.
    fn apply(&mut self, event: &CommandEvent) -> Option<&Target> {
        let target = self.targets.get_mut(&event.agent_id)?;
        if target.is_ended() || (target.state == event.state() && target.progress == event.progress) {
            return None;
        }
        *target = Target {
            state: event.state(),
            changed_unix_ms: event.at_unix_ms,
            outcome: event.outcome.clone(),
            progress: event.progress.clone(),
        };
        if let Some(opener) = &self.opener
            && let Some(outcome) = &mut target.outcome
            && !open(opener, &self.command_id, &event.agent_id, outcome)
        {
            target.state = CommandState::Failed;
            let message = "the answer is not sealed to this command: it was changed on its way, or the agent did not \
                           make it; nothing of it is shown, ask again, and tell who runs the hub";
            let failed = Failed { code: FailureCode::Internal.into(), message: message.to_owned() };
            target.outcome = Some(Outcome { kind: Some(outcome::Kind::Failed(failed)) });
        }
        Some(target)
    }

    /// Whether it has ended everywhere.
    pub(crate) fn is_ended(&self) -> bool {
        self.targets.values().all(Target::is_ended)
    }

    /// What hubctl's exit code says of it.
    pub(crate) fn exit(&self) -> Exit {
        if !self.is_ended() {
            Exit::UnderWay
        } else if self.targets.values().all(|target| target.state == CommandState::Succeeded) {
            Exit::Done
        } else {
            Exit::NotSucceeded
        }
    }

    /// Where it has not ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().filter(|(_, target)| !target.is_ended()).map(|(agent, _)| &**agent)
    }

    /// `ely (waiting), york (running)`.
    fn under_way(&self) -> String {
        let open = self.targets.iter().filter(|(_, target)| !target.is_ended());
        open.map(|(agent, target)| format!("{agent} ({})", words::command_state(target.state)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Put what a sealed result holds in its place; `false` where there is none that opens. Of readings of logs the numbers
/// alone are told in the clear.
fn open(opener: &Opener, command: &str, agent: &str, outcome: &mut Outcome) -> bool {
    let Some(outcome::Kind::Succeeded(Succeeded { result: Some(result) })) = &mut outcome.kind else { return true };
    let sealed = match &result.kind {
        Some(Kind::Logs(_)) => return true,
        Some(Kind::Sealed(sealed)) => sealed,
        _ => return false,
    };
    let (Ok(command), Ok(agent)) = (command.parse(), agent.parse()) else { return false };
    let opened = opener.open(Place { command, agent: &agent, part: None }, sealed).ok();
    let Some(opened) = opened.and_then(|bytes| ActionResult::decode(&*bytes).ok()) else { return false };
    *result = opened;
    true
}

/// Why following a command ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It has ended everywhere.
    Ended,
    /// Something came before that; the command goes on.
    UnderWay(String),
}

/// Follow a command, show what came of it, and say so in the exit code. It goes on at the hub whatever happens here.
pub(crate) async fn to_the_end(
    context: &Context,
    hub: &Hub,
    board: &mut Board,
    events: Option<Events>,
    patience: Option<Duration>,
) -> anyhow::Result<Exit> {
    let stop = follow(hub, board, events, patience, None).await;
    let (json, tables) = results::report(board, Timestamp::now());
    context.output.data(&json, &tables)?;
    results::hints(board).iter().for_each(output::note);
    if let Stop::UnderWay(why) = stop? {
        warn_under_way(board, &why);
    }
    Ok(board.exit())
}

/// Say what is not over yet, and how to see it again.
pub(crate) fn warn_under_way(board: &Board, why: &str) {
    output::warn(format_args!("{why}; still under way: {}", board.under_way()));
    output::note(match board.opener {
        Some(_) => "its answer was sealed to this run of hubctl, and is lost with it: ask again".to_owned(),
        None => format!("it goes on; see it again with: hubctl commands watch {}", board.command_id),
    });
}

/// Follow a command until it has ended at every target of the board, with progress on stderr, and on stdout the lines that
/// are streamed. An error is the hub's no.
pub(crate) async fn follow(
    hub: &Hub,
    board: &mut Board,
    events: Option<Events>,
    patience: Option<Duration>,
    lines: Option<&mut Lines>,
) -> Result<Stop, status::Error> {
    let progress = Progress::new(board);
    let time_is_up = async {
        match patience {
            Some(patience) => tokio::time::sleep(patience).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        changes = take_changes(hub, board, events, &progress, lines) => match changes {
            Err(error) if !error.is_denial() => Ok(Stop::UnderWay(chain(&error).to_string())),
            stop => stop,
        },
        () = time_is_up => Ok(Stop::UnderWay("the time has run out".to_owned())),
        _ = tokio::signal::ctrl_c() => Ok(Stop::UnderWay("interrupted".to_owned())),
    }
}

async fn take_changes(
    hub: &Hub,
    board: &mut Board,
    mut events: Option<Events>,
    progress: &Progress,
    mut lines: Option<&mut Lines>,
) -> Result<Stop, status::Error> {
    let tried = format!("follow command {}", board.command_id);
    let mut reconnect = Reconnect::default();
    let mut broken = false; // said once for each break
    while !board.is_ended() {
        let next = match &mut events {
            Some(stream) => stream.next().await,
            None => match watch(hub, &board.command_id).await {
                Ok(stream) => {
                    events = Some(stream);
                    continue;
                }
                Err(status) => Some(Err(status)),
            },
        };
        match next {
            Some(Ok(event)) => {
                broken = false;
                if let Some(part) = event.progress.as_ref().and_then(|progress| progress.sealed.as_ref()) {
                    if let Some(lines) = &mut lines {
                        let (lines, wrong) = lines.take(&event.agent_id, part);
                        wrong.iter().for_each(|wrong| progress.say(wrong));
                        if !progress.print(&lines) {
                            return Ok(Stop::UnderWay("nobody reads on".to_owned()));
                        }
                    }
                    continue;
                }
                if let Some(target) = board.apply(&event) {
                    progress.show(&event.agent_id, target);
                    reconnect = Reconnect::default();
                }
            }
            Some(Err(status)) if !status::is_passing(&status) => return Err(hub.words(tried, &status)),
            Some(Err(_)) | None => {
                if !broken {
                    progress.say(format_args!("the connection to the hub at {} broke; trying again", hub.address()));
                }
                (broken, events) = (true, None);
                tokio::time::sleep(reconnect.next_delay()).await;
            }
        }
    }
    Ok(Stop::Ended)
}

async fn watch(hub: &Hub, command_id: &str) -> Result<Events, Status> {
    let request = WatchCommandRequest { command_id: command_id.to_owned() };
    let stream = hub.operator().watch_command(request).await?.into_inner();
    Ok(stream.filter_map(async |answer| answer.map(|answer| answer.event).transpose()).boxed())
}

#[cfg(test)]
mod tests {
    use sfdata_common::ids::CommandId;
    use sfdata_proto::v1::S3UrlResult;

    use super::*;

    fn event(agent: &str, state: CommandState) -> CommandEvent {
        CommandEvent { agent_id: agent.into(), state: state.into(), ..Default::default() }
    }

    fn board(states: &[CommandState]) -> Board {
        let agents: Vec<String> = (0..states.len()).map(|n| format!("la-{n}")).collect();
        let mut board = Board::new("id", "ecs.status", &agents);
        for (agent, state) in agents.iter().zip(states) {
            board.apply(&event(agent, *state));
        }
        board
    }

    #[test]
    fn the_exit_code_says_how_it_went() {
        use CommandState::{Expired, Running, Succeeded, Waiting};
        assert_eq!(board(&[Succeeded, Succeeded]).exit(), Exit::Done);
        assert_eq!(board(&[Succeeded, Expired]).exit(), Exit::NotSucceeded);
        assert_eq!(board(&[Expired, Running]).exit(), Exit::UnderWay);
        assert_eq!(board(&[Waiting]).exit(), Exit::UnderWay);
        assert_eq!(board(&[Succeeded, Waiting, Running]).under_way(), "la-1 (waiting), la-2 (running)");
    }

    #[test]
    fn an_answer_that_is_not_sealed_to_this_command_is_none() {
        let (opener, id, ely) = (Arc::new(Opener::generate().unwrap()), CommandId::generate(), "ely".parse().unwrap());
        let url =
            |url: &str| ActionResult { kind: Some(Kind::S3Url(S3UrlResult { url: url.into(), ..Default::default() })) };
        let apply = |result: ActionResult| {
            let mut board = Board::new(id, "s3.upload-url", &["ely"]);
            board.opener = Some(Arc::clone(&opener));
            let succeeded = outcome::Kind::Succeeded(Succeeded { result: Some(result) });
            let outcome = Some(Outcome { kind: Some(succeeded) });
            board.apply(&CommandEvent { outcome, ..event("ely", CommandState::Succeeded) }).unwrap();
            (board.exit(), board.targets["ely"].outcome.clone().unwrap())
        };
        let seal = |to: &Opener| {
            let place = Place { command: id, agent: &ely, part: None };
            let sealed = to.reply_key().seal(place, &url("https://ours").encode_to_vec()).unwrap();
            ActionResult { kind: Some(Kind::Sealed(sealed)) }
        };
        let (exit, outcome) = apply(seal(&opener));
        assert!(exit == Exit::Done && format!("{outcome:?}").contains("https://ours"));
        for forged in [url("https://theirs"), seal(&Opener::generate().unwrap()), ActionResult::default()] {
            let (exit, outcome) = apply(forged);
            assert!(exit == Exit::NotSucceeded && !format!("{outcome:?}").contains("https://theirs"));
        }
    }

    #[test]
    fn what_has_ended_stays_ended_and_a_repetition_is_no_change() {
        let mut board = board(&[CommandState::Succeeded, CommandState::Sent]);
        assert!(board.apply(&event("la-0", CommandState::Running)).is_none());
        assert!(board.apply(&event("la-1", CommandState::Sent)).is_none());
        assert!(board.apply(&event("stranger", CommandState::Sent)).is_none());
        assert!(board.apply(&event("la-1", CommandState::Received)).is_some());
        assert_eq!(board.targets["la-0"].state, CommandState::Succeeded);
    }
}
