//! Log lines as they come in: opened, in order, one line of text or one JSON document each.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use serde_json::json;
use sfdata_common::{
    Timestamp,
    ids::{AgentId, CommandId},
    sealed::{Opener, Place},
};
use sfdata_proto::v1::{LogLine, LogLines, SealedPart};

use crate::table::clean;

/// Digits of a task's id that are shown: as AWS's own tables do.
const TASK_DIGITS: usize = 8;

/// Where parts of a stream become lines.
pub(crate) struct Lines {
    opener: Arc<Opener>,
    command: CommandId,
    json: bool,
    /// Lines say whose they are.
    many: bool,
    /// The part that comes next, by agent.
    next: BTreeMap<AgentId, u32>,
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Not what the agent sealed.
    #[error(
        "a part of {0}'s lines cannot be opened: it was changed on its way, or is not from {0}; nothing of it is shown"
    )]
    Forged(String),
    /// A part did not come.
    #[error("some lines of {0} were lost on their way, before the next one; ask for these again")]
    Gap(String),
}

impl Lines {
    pub(crate) fn new(opener: Arc<Opener>, command: CommandId, json: bool, many: bool) -> Self {
        Self { opener, command, json, many, next: BTreeMap::new() }
    }

    /// The lines of one part, with what is to be said of it; a repeated part has none.
    pub(crate) fn take(&mut self, agent: &str, part: &SealedPart) -> (Vec<String>, Option<Error>) {
        let forged = || (Vec::new(), Some(Error::Forged(agent.to_owned())));
        let Ok(id) = agent.parse::<AgentId>() else { return forged() };
        let next = self.next.entry(id.clone()).or_default();
        if part.number < *next {
            return (Vec::new(), None);
        }
        let place = Place { command: self.command, agent: &id, part: Some(part.number) };
        let opened = part.sealed.as_ref().and_then(|sealed| self.opener.open(place, sealed).ok());
        let Some(lines) = opened.and_then(|bytes| LogLines::decode(&*bytes).ok()) else { return forged() };
        let gap = (part.number > *next).then(|| Error::Gap(agent.to_owned()));
        *next = part.number + 1;
        (lines.lines.iter().map(|line| self.line(agent, line)).collect(), gap)
    }

    /// Whether all parts came that this agent says it sent.
    pub(crate) fn has_all(&self, agent: &str, parts: u32) -> bool {
        let came = agent.parse().ok().and_then(|id: AgentId| self.next.get(&id).copied());
        came.unwrap_or_default() >= parts
    }

    fn line(&self, agent: &str, line: &LogLine) -> String {
        let at = Timestamp::from_millisecond(line.at_unix_ms).unwrap_or_default();
        if self.json {
            return json!({
                "agent_id": agent,
                "time": at,
                "task": line.task,
                "container": line.container,
                "message": line.message,
            })
            .to_string();
        }
        let whose = if self.many { format!("{agent} ") } else { String::new() };
        let task = line.task.get(..TASK_DIGITS).unwrap_or(&line.task);
        let at = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        format!("{whose}{at} {}/{} {}", clean(&line.container), clean(task), clean(line.message.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(opener: &Opener, command: CommandId, number: u32, message: &str) -> SealedPart {
        let agent = "ely".parse().unwrap();
        let line = LogLine {
            at_unix_ms: 1_000,
            task: "0123456789abcdef".into(),
            container: "daemon".into(),
            message: message.into(),
        };
        let place = Place { command, agent: &agent, part: Some(number) };
        let sealed = opener.reply_key().seal(place, &LogLines { lines: vec![line] }.encode_to_vec()).unwrap();
        SealedPart { number, sealed: Some(sealed) }
    }

    #[test]
    fn lines_are_shown_once_and_in_order_and_what_is_missing_is_told() {
        let (opener, command) = (Arc::new(Opener::generate().unwrap()), CommandId::generate());
        let mut lines = Lines::new(Arc::clone(&opener), command, false, false);
        let first = part(&opener, command, 0, "started\x1b[2J\n");
        assert_eq!(
            lines.take("ely", &first),
            (vec!["1970-01-01T00:00:01.000Z daemon/01234567 started [2J".to_owned()], None),
            "a line cannot command the terminal"
        );
        assert_eq!(lines.take("ely", &first), (vec![], None));
        assert_eq!(lines.take("ely", &part(&opener, command, 2, "x")).1, Some(Error::Gap("ely".into())));
        assert!(lines.has_all("ely", 3) && !lines.has_all("ely", 4) && lines.has_all("york", 0));
        let foreign = part(&Opener::generate().unwrap(), command, 3, "x");
        assert_eq!(lines.take("ely", &foreign), (vec![], Some(Error::Forged("ely".into()))));
        assert_eq!(lines.take("york", &part(&opener, command, 0, "x")).1, Some(Error::Forged("york".into())));
    }

    #[test]
    fn a_program_gets_a_document_a_line() {
        let (opener, command) = (Arc::new(Opener::generate().unwrap()), CommandId::generate());
        let mut lines = Lines::new(Arc::clone(&opener), command, true, true);
        let (shown, _) = lines.take("ely", &part(&opener, command, 0, "a \"b\""));
        assert_eq!(
            shown,
            ["{\"agent_id\":\"ely\",\"time\":\"1970-01-01T00:00:01Z\",\"task\":\"0123456789abcdef\",\
              \"container\":\"daemon\",\"message\":\"a \\\"b\\\"\"}"]
        );
    }
}
