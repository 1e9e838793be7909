//! `hubctl logs`: what an LA's containers write, readable here and nowhere on the way.

use clap::Args;
use sfdata_common::{
    Timestamp,
    command::{self, Action, Agent, LogSource, LogsUntil, Mode},
    ids::AgentId,
    limits,
    outcome::Outcome,
};
use sfdata_proto::v1::{CommandState, LogsEnd, action_result::Kind};

use crate::{
    cli::Context,
    exit::{Exit, Usage},
    follow::{self, Board, Stop},
    lines::Lines,
    moment::Moment,
    order::{self, Order},
    output, results, words,
};

/// Read what a service or a task writes
///
/// The agents refuse it until the LA's own policy allows actions of class data. Lines are sealed to this one run of
/// hubctl: the hub hands them on, and can neither read nor keep them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl logs daemon --agent northshire --since 30m --reason 'run 4711 failed'
  hubctl logs code-server --agent northshire --grep '(?i)error' --limit 100
  hubctl logs 0123456789abcdef0123456789abcdef --agent northshire --follow")]
pub(crate) struct Logs {
    /// Service (webserver, daemon, code-server, or its name in ECS), or id of an ECS task, also that of a run
    #[arg(value_name = "SERVICE|TASK")]
    source: String,
    /// From when on: a duration as in 30m, or a time as in 2026-11-23T09:00:00Z
    #[arg(long, value_name = "WHEN", default_value = "1h")]
    since: Moment,
    /// Until when, in the same form
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    until: Option<Moment>,
    /// Go on with what is written from now on, until Ctrl-C or --timeout
    #[arg(short, long, conflicts_with = "no_wait")]
    follow: bool,
    /// Only lines that this regular expression finds
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    grep: String,
    /// So many lines at most, the oldest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::LOG_LINES)))]
    limit: u32,
    #[command(flatten)]
    order: Order,
}

impl Logs {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if !self.order.waits() {
            return Err(Usage("lines are streamed to who waits for them: not with --no-wait".into()).into());
        }
        let now = Timestamp::now();
        let action = Action::Logs(command::Logs::Read {
            source: source(&self.source),
            since: self.since.before(now),
            until: match self.until {
                _ if self.follow => LogsUntil::Followed,
                Some(until) => LogsUntil::Then(until.before(now)),
                None => LogsUntil::Now,
            },
            grep: self.grep,
            limit: self.limit,
            deadline: self.order.deadline(),
        });
        let ready = self.order.ready(context, Mode::Act).await?;
        let mut submitted = ready.submit(action).await?;
        let command = &submitted.command;
        output::note(format_args!("command {}", command.id));
        let mut board = Board::new(command.id, command.action.name(), &command.targets);
        let mut lines = submitted
            .opener
            .take()
            .map(|opener| Lines::new(opener, command.id, context.output.is_json(), command.targets.len() > 1));
        let events = submitted.events.take();
        let stop = follow::follow(&ready.hub, &mut board, events, Some(ready.patience()), lines.as_mut()).await?;
        if let (Stop::UnderWay(_), true) = (&stop, self.follow) {
            // Nobody reads on: the agents need not, either.
            let open: Vec<AgentId> = board.open().filter_map(|agent| agent.parse().ok()).collect();
            order::submit(&ready.hub, Action::Agent(Agent::CancelOwn(command.id)), Mode::Act, open, &ready.about)
                .await?;
            return Ok(Exit::Done);
        }
        submitted.came_to(&board);
        tell_ends(&board, lines.as_ref());
        if let Some(table) = results::others(&board, Timestamp::now()) {
            output::note(table.render(false));
        }
        if let Stop::UnderWay(why) = &stop {
            output::warn(format_args!("{why}; what comes later is not shown"));
        }
        Ok(board.exit())
    }
}

/// A task's id has 32 digits, or stands at the end of its ARN.
fn source(text: &str) -> LogSource {
    let id = text.rsplit('/').next().unwrap_or(text);
    let is_task = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_task { LogSource::Task(id.to_ascii_lowercase()) } else { LogSource::Service(text.to_owned()) }
}

/// Say which answers are not all there is.
fn tell_ends(board: &Board, lines: Option<&Lines>) {
    for (agent, target) in board.targets.iter().filter(|(_, target)| target.state == CommandState::Succeeded) {
        let Some(Ok(Outcome::Succeeded(result))) = target.outcome.clone().map(Outcome::try_from) else { continue };
        let Some(Kind::Logs(read)) = result.kind else { continue };
        if lines.is_some_and(|lines| !lines.has_all(agent, read.parts)) {
            output::warn(format_args!("{agent}: the last lines were lost on their way; ask for these again"));
        }
        let last = words::time(read.last_unix_ms).unwrap_or_default();
        match read.end() {
            LogsEnd::Lines => output::note(format_args!(
                "{agent}: there is more than {} lines; go on with --since {last}, or raise --limit",
                read.lines
            )),
            LogsEnd::Bytes => output::note(format_args!(
                "{agent}: there is more than one command streams ({} KiB); go on with --since {last}, or use --grep",
                limits::LOG_BYTES / 1024
            )),
            LogsEnd::Deadline => output::note(format_args!("{agent}: the time for following is over (--timeout)")),
            LogsEnd::All if read.lines == 0 => output::note(format_args!("{agent}: no such lines")),
            LogsEnd::All | LogsEnd::Unspecified => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_known_by_its_id_or_arn() {
        let id = "0123456789abcdef0123456789abcdef";
        let arn = format!("arn:aws:ecs:eu-west-2:111111111111:task/sfdata-ely/{id}");
        for text in [id, arn.as_str(), &id.to_ascii_uppercase()] {
            assert_eq!(source(text), LogSource::Task(id.into()));
        }
        assert_eq!(source("daemon"), LogSource::Service("daemon".into()));
    }
}
