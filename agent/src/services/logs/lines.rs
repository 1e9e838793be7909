//! What of the log events that were read is told, and in which parts: each once, in order, within the bounds.

use std::collections::BTreeMap;

use prost::Message as _;
use regex::Regex;
use sfdata_common::limits;
use sfdata_proto::v1::{LogLine, LogLines, LogsEnd};

/// CloudWatch shows an event some seconds after it was written, in any order: so far back is asked again.
const LATE_MS: i64 = 30_000;
/// A line is cut here: longer ones are dumps, and four of them would fill a part.
const LINE_BYTES: usize = 4 * 1024;

/// One log event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) at_unix_ms: i64,
    /// `prefix/container/task`.
    pub(super) stream: String,
    pub(super) message: String,
}

/// Takes events in, and gives parts out.
#[derive(Debug)]
pub(super) struct Lines {
    grep: Option<Regex>,
    limit: u32,
    /// Seen lately, with their times.
    seen: BTreeMap<String, i64>,
    open: Vec<LogLine>,
    open_bytes: usize,
    full: Vec<LogLines>,
    lines: u32,
    bytes: usize,
    newest_unix_ms: i64,
    last_unix_ms: i64,
}

impl Lines {
    pub(super) fn new(grep: Option<Regex>, limit: u32, since_unix_ms: i64) -> Self {
        Self {
            grep,
            limit,
            seen: BTreeMap::new(),
            open: Vec::new(),
            open_bytes: 0,
            full: Vec::new(),
            lines: 0,
            bytes: 0,
            newest_unix_ms: since_unix_ms,
            last_unix_ms: since_unix_ms,
        }
    }

    /// Take some events in, in any order. `Some` is why no more are wanted.
    pub(super) fn take(&mut self, mut events: Vec<Event>) -> Option<LogsEnd> {
        events.sort_by(|a, b| (a.at_unix_ms, &a.id).cmp(&(b.at_unix_ms, &b.id)));
        for event in events {
            self.newest_unix_ms = self.newest_unix_ms.max(event.at_unix_ms);
            if self.seen.insert(event.id.clone(), event.at_unix_ms).is_some() {
                continue;
            }
            if self.grep.as_ref().is_some_and(|grep| !grep.is_match(&event.message)) {
                continue;
            }
            if self.lines >= self.limit {
                return Some(LogsEnd::Lines);
            }
            let line = line(event);
            let size = line.encoded_len() + 4; // its tag and length in the list
            if self.bytes + size > limits::LOG_BYTES {
                return Some(LogsEnd::Bytes);
            }
            if self.open_bytes + size > limits::LOG_PART_BYTES {
                self.close();
            }
            (self.lines, self.bytes, self.open_bytes) = (self.lines + 1, self.bytes + size, self.open_bytes + size);
            self.last_unix_ms = line.at_unix_ms;
            self.open.push(line);
        }
        // What is older is not asked for again.
        self.seen.retain(|_, at| *at >= self.newest_unix_ms - LATE_MS);
        None
    }

    /// What is to be told by now: parts that are full, or all of it.
    pub(super) fn parts(&mut self, all: bool) -> Vec<LogLines> {
        if all {
            self.close();
        }
        std::mem::take(&mut self.full)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(LogLines { lines: std::mem::take(&mut self.open) });
            self.open_bytes = 0;
        }
    }

    /// Where to look for what comes next.
    pub(super) fn next_from(&self) -> i64 {
        self.newest_unix_ms - LATE_MS
    }

    pub(super) fn count(&self) -> u32 {
        self.lines
    }

    pub(super) fn last_unix_ms(&self) -> i64 {
        self.last_unix_ms
    }
}

fn line(event: Event) -> LogLine {
    let mut parts = event.stream.rsplitn(3, '/');
    let (task, container) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut message = event.message;
    if message.len() > LINE_BYTES {
        let cut = (0..=LINE_BYTES).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        let rest = message.len() - cut;
        message.truncate(cut);
        message += &format!("… ({rest} bytes more)");
    }
    LogLine { at_unix_ms: event.at_unix_ms, task: task.into(), container: container.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u32, at: i64, message: &str) -> Event {
        Event { id: id.to_string(), at_unix_ms: at, stream: "dagster/daemon/abc".into(), message: message.into() }
    }

    fn told(lines: &mut Lines) -> Vec<String> {
        lines.parts(true).into_iter().flat_map(|part| part.lines).map(|line| line.message).collect()
    }

    #[test]
    fn each_event_is_told_once_and_in_order_however_often_and_late_it_is_read() {
        let mut lines = Lines::new(None, 9, 0);
        assert_eq!(lines.take(vec![event(2, 20, "b"), event(1, 10, "a")]), None);
        assert_eq!(told(&mut lines), ["a", "b"]);
        assert_eq!(lines.take(vec![event(2, 20, "b"), event(3, 15, "late"), event(4, 50_000, "c")]), None);
        assert_eq!(told(&mut lines), ["late", "c"]);
        assert_eq!(lines.next_from(), 50_000 - LATE_MS);
        assert_eq!(lines.seen.len(), 1, "what is not asked for again is forgotten at once");
        assert!(told(&mut lines).is_empty());
    }

    #[test]
    fn it_ends_with_the_lines_that_were_asked_for_and_counts_only_those_that_match() {
        let mut lines = Lines::new(Some(Regex::new("(?i)err").unwrap()), 2, 0);
        let events = vec![event(1, 1, "ok"), event(2, 2, "Error a"), event(3, 3, "err b"), event(4, 4, "ok")];
        assert_eq!(lines.take(events), None);
        assert_eq!(lines.take(vec![event(5, 5, "ERR c")]), Some(LogsEnd::Lines));
        assert_eq!((told(&mut lines), lines.last_unix_ms()), (vec!["Error a".to_owned(), "err b".to_owned()], 3));
    }

    #[test]
    fn no_part_and_no_line_is_too_long_and_all_together_are_bounded() {
        let mut lines = Lines::new(None, limits::LOG_LINES, 0);
        let long = "ä".repeat(LINE_BYTES);
        let mut parts = Vec::new();
        let end = (0..5_000).find_map(|n| {
            let end = lines.take(vec![event(n, n.into(), &long)]);
            parts.extend(lines.parts(false));
            end
        });
        assert_eq!(end, Some(LogsEnd::Bytes));
        parts.extend(lines.parts(true));
        let sizes: Vec<_> = parts.iter().map(prost::Message::encoded_len).collect();
        assert!(sizes.iter().all(|size| *size <= limits::LOG_PART_BYTES), "{sizes:?}");
        assert!(sizes.iter().sum::<usize>() <= limits::LOG_BYTES && parts.len() < limits::WATCH_BACKLOG / 2);
        let first = &parts[0].lines[0];
        assert!(first.message.ends_with(&format!("… ({} bytes more)", 2 * LINE_BYTES - LINE_BYTES)), "{first:?}");
        assert_eq!((&*first.task, &*first.container), ("abc", "daemon"));
    }
}
