//! `hubctl commands cancel`: take a command back. The hub cancels at once what it has not sent; an agent that has it is
//! asked by a signed command, and its own outcome of the cancelled one tells whether it could.

use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Mode},
    ids::{AgentId, CommandId},
};
use sfdata_proto::v1::CommandState;

use super::ask;
use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    follow::{self, Board, Stop, Target},
    order, output, results,
};

/// Take a command back: what was not sent is cancelled, what runs is asked to stop
#[derive(Debug, Args)]
#[command(after_help = "\
A cancellation is a signed command itself. Shown is how the cancelled command ended.
Exits with 0 when it ended as cancelled wherever it was not over yet, 3 when it did not.")]
pub(crate) struct Cancel {
    /// Command's id
    id: CommandId,
    #[command(flatten)]
    about: order::About,
}

impl Cancel {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let before = Board::of(&ask(&hub, self.id).await?);
        let targets = open(&before)?;
        if targets.is_empty() {
            output::note(format_args!("command {} has ended everywhere; there is nothing to cancel", self.id));
            show(context, &before, None)?;
            return Ok(Exit::Done);
        }
        let begun = Instant::now();
        let mut submitted =
            order::submit(&hub, Action::Agent(Agent::Cancel(self.id)), Mode::Act, targets.clone(), &self.about).await?;
        if !self.about.wait.waits() {
            return submitted.show_id(context);
        }
        let id = submitted.command.id;
        output::note(format_args!("command {id} cancels {}", self.id));
        let left = || Some(self.about.wait.patience().saturating_sub(begun.elapsed()));

        // What was waiting is cancelled by now; the agents that have it are asked.
        let now = Board::of(&ask(&hub, self.id).await?);
        let mut asking = Board::new(id, submitted.command.action.name(), &open(&now)?);
        let events = submitted.events.take();
        let mut stop = follow::follow(&hub, &mut asking, events, left(), None).await?;
        submitted.came_to(&asking);

        // Those that could be asked tell how it ended.
        if matches!(stop, Stop::Ended) {
            let mut ending = now;
            ending.targets.retain(|agent, _| {
                asking.targets.get(agent).is_some_and(|target| target.state == CommandState::Succeeded)
            });
            stop = follow::follow(&hub, &mut ending, None, left(), None).await?;
        }
        let after = Board::of(&ask(&hub, self.id).await?);
        show(context, &after, Some(&asking))?;
        if let Stop::UnderWay(why) = &stop {
            follow::warn_under_way(&after, why);
        }
        Ok(exit(&after, &targets, &stop))
    }
}

/// Targets where the command has not ended.
fn open(board: &Board) -> anyhow::Result<Vec<AgentId>> {
    let open = board.targets.iter().filter(|(_, target)| !target.is_ended());
    open.map(|(agent, _)| agent.parse()).collect::<Result<_, _>>().context("the hub names a target that hubctl cannot")
}

/// How the cancelled command stands, and which agents did not take the cancellation.
fn show(context: &Context, board: &Board, asking: Option<&Board>) -> anyhow::Result<()> {
    let (json, mut tables) = results::report(board, Timestamp::now());
    let not_taken = asking.and_then(|asking| results::others(asking, Timestamp::now()));
    if not_taken.is_some() {
        output::warn("some agents did not take the cancellation, see the last table");
    }
    tables.extend(not_taken);
    context.output.data(&json, &tables)?;
    Ok(())
}

/// What became of those that were to be cancelled.
fn exit(after: &Board, targets: &[AgentId], stop: &Stop) -> Exit {
    let meant = || targets.iter().filter_map(|agent| after.targets.get(agent.as_str()));
    if meant().all(|target| target.state == CommandState::Cancelled) {
        Exit::Done
    } else if matches!(stop, Stop::UnderWay(_)) && !meant().all(Target::is_ended) {
        Exit::UnderWay
    } else {
        Exit::NotSucceeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_to_be_cancelled_decides_the_exit_code() {
        let agents: Vec<AgentId> = ["ely", "york", "bath"].map(|id| id.parse().unwrap()).to_vec();
        let mut board = Board::new("id", "ecs.restart", &agents);
        let mut set = |agent: &str, state| {
            board.targets.get_mut(agent).unwrap().state = state;
            let decided = exit(&board, &agents[..2], &Stop::Ended);
            (decided, exit(&board, &agents[..2], &Stop::UnderWay(String::new())))
        };
        set("bath", CommandState::Succeeded);
        assert_eq!(set("ely", CommandState::Cancelled), (Exit::NotSucceeded, Exit::UnderWay));
        assert_eq!(set("york", CommandState::Cancelled), (Exit::Done, Exit::Done));
        assert_eq!(set("york", CommandState::Succeeded), (Exit::NotSucceeded, Exit::NotSucceeded));
    }
}
