//! What the platform's containers write, from CloudWatch Logs, streamed to the operator who asks and to nobody else.
//!
//! Lines may name a child: they are sealed before they leave this process, in parts that the hub hands on and does not
//! keep, and neither the journal nor the agent's own log ever holds one. A reading is not taken up again after a restart.

mod lines;

use std::time::Duration;

use aws_sdk_cloudwatchlogs::{Client, types::FilteredLogEvent};
use jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use sfdata_common::{
    command::{self, LogSource, LogsUntil},
    outcome::FailureCode,
};
use sfdata_proto::v1::{LogsEnd, LogsResult, action_result::Kind};
use tokio::time::{Instant, sleep, timeout_at};

use self::lines::{Event, Lines};
use super::{
    Error,
    aws::{Aws, client, failure},
    ecs::{Ecs, LogPlace},
};
use crate::execute::Job;

/// Between two looks for new lines: 30 calls a minute for each group that is followed.
const FOLLOW: Duration = Duration::from_secs(2);
/// No more often is told what is not a whole part, and how far it is.
const TELL: Duration = Duration::from_secs(1);
/// What a compiled pattern may take.
const PATTERN_BYTES: usize = 1024 * 1024;

/// The logs of the platform's containers.
#[derive(Debug, Clone)]
pub struct Logs {
    client: Client,
    ecs: Ecs,
}

/// Streams of one log group.
#[derive(Debug)]
struct Streams {
    group: String,
    which: Which,
}

/// How far the streams of one log group have been read.
struct Cursor<'a> {
    streams: &'a Streams,
    token: Option<String>,
    reached: i64,
    done: bool,
}

impl<'a> Cursor<'a> {
    fn at(streams: &'a Streams, reached: i64) -> Self {
        Self { streams, token: None, reached, done: false }
    }
}

#[derive(Debug)]
enum Which {
    /// All whose names begin so.
    Prefix(String),
    /// Just this one.
    Named(String),
}

impl Logs {
    pub(super) fn new(aws: &Aws, ecs: &Ecs) -> Self {
        Self { client: client!(aws, aws_sdk_cloudwatchlogs), ecs: ecs.clone() }
    }

    /// Do what was ordered.
    pub async fn execute(&self, action: &command::Logs, job: &Job) -> Result<Kind, Error> {
        let command::Logs::Read { source, since, until, grep, limit, deadline } = action;
        if job.resumed() {
            let text = "the agent was started anew while it read; nothing was changed, ask again";
            return Err(Error::failed(FailureCode::Unavailable, text));
        }
        let lines = Lines::new(pattern(grep)?, *limit, since.as_millisecond());
        let now = Instant::now();
        let mut reading = Reading { job, lines, parts: 0, told: now, shown: now };
        let ends = Instant::now() + *deadline;
        let read = async {
            let streams = self.streams(source).await?;
            self.read(&streams, *since, *until, ends, &mut reading).await
        };
        let ended = tokio::select! {
            biased;
            () = job.cancelled().cancelled() => None,
            ended = timeout_at(ends, read) => Some(ended),
        };
        // What was found is told, however it ended.
        let _ = timeout_at(Instant::now() + TELL, reading.tell(true)).await;
        let end = match ended {
            None => return Err(Error::cancelled(format!("{} lines were told", reading.lines.count()))),
            Some(Ok(end)) => end?,
            Some(Err(_)) if *until == LogsUntil::Followed => LogsEnd::Deadline,
            Some(Err(_)) => {
                let text = format!(
                    "not all was searched within {deadline:?}; {} lines were told; ask for a shorter time",
                    reading.lines.count()
                );
                return Err(Error::failed(FailureCode::Deadline, text));
            }
        };
        Ok(Kind::Logs(LogsResult {
            lines: reading.lines.count(),
            parts: reading.parts,
            end: end.into(),
            last_unix_ms: reading.lines.last_unix_ms(),
        }))
    }

    async fn read(
        &self,
        streams: &[Streams],
        since: Timestamp,
        until: LogsUntil,
        ends: Instant,
        reading: &mut Reading<'_>,
    ) -> Result<LogsEnd, Error> {
        let mut from = since.as_millisecond();
        let to = if let LogsUntil::Then(then) = until { Some(then.as_millisecond()) } else { None };
        let whole = to.unwrap_or(i64::MAX).min(Timestamp::now().as_millisecond()) - from;
        loop {
            let end = self.pass(streams, from, to, whole, reading).await?;
            let all = end.is_some() || until != LogsUntil::Followed;
            if all || Instant::now() + FOLLOW >= ends {
                reading.tell(true).await?;
                return Ok(end.unwrap_or(if all { LogsEnd::All } else { LogsEnd::Deadline }));
            }
            reading.tell(true).await?;
            sleep(FOLLOW).await;
            from = reading.lines.next_from();
        }
    }

    /// All pages of all streams, merged: a line is told when none before it can come from another one any more.
    async fn pass(
        &self,
        streams: &[Streams],
        from: i64,
        to: Option<i64>,
        whole: i64,
        reading: &mut Reading<'_>,
    ) -> Result<Option<LogsEnd>, Error> {
        let mut cursors: Vec<_> = streams.iter().map(|streams| Cursor::at(streams, from)).collect();
        let mut early = Vec::new();
        // Who is behind is asked next, so that no more than a page of each is held.
        while let Some(behind) = cursors.iter_mut().filter(|one| !one.done).min_by_key(|one| one.reached) {
            early.extend(self.page(behind, from, to).await?);
            let sure = cursors.iter().filter(|one| !one.done).map(|one| one.reached).min();
            let ripe = match sure {
                Some(sure) => early.extract_if(.., |event: &mut Event| event.at_unix_ms < sure).collect(),
                None => std::mem::take(&mut early),
            };
            let end = reading.lines.take(ripe);
            if end.is_some() {
                return Ok(end);
            }
            reading.tell(false).await?;
            if let Some(sure) = sure {
                reading.at(sure - from, whole);
            }
        }
        Ok(None)
    }

    async fn page(&self, cursor: &mut Cursor<'_>, from: i64, to: Option<i64>) -> Result<Vec<Event>, Error> {
        let Streams { group, which } = cursor.streams;
        let call = self.client.filter_log_events().log_group_name(group).start_time(from).set_end_time(to);
        let call = match which {
            Which::Prefix(prefix) => call.log_stream_name_prefix(prefix),
            Which::Named(name) => call.log_stream_names(name),
        };
        let page = call.set_next_token(cursor.token.take()).send().await;
        let page = page.map_err(|e| failure(format_args!("read log group {group}"), "logs:FilterLogEvents", e))?;
        (cursor.token, cursor.done) = (page.next_token.clone(), page.next_token.is_none());
        let events: Vec<_> = page.events.unwrap_or_default().into_iter().map(event).collect();
        cursor.reached = events.iter().map(|event| event.at_unix_ms).fold(cursor.reached, i64::max);
        Ok(events)
    }

    async fn streams(&self, source: &LogSource) -> Result<Vec<Streams>, Error> {
        let task = match source {
            LogSource::Task(task) => task,
            LogSource::Service(service) => {
                let places = self.ecs.logs_of_service(service).await?;
                let all = |LogPlace { group, prefix }| Streams { group, which: Which::Prefix(prefix) };
                return Ok(places.into_iter().map(all).collect());
            }
        };
        let places = match self.ecs.logs_of_task(task).await? {
            Some(places) => places,
            None => self.ecs.logs_of_platform().await?,
        };
        // A container that has written nothing yet has no stream, and to name one is an error.
        let mut found = Vec::new();
        for LogPlace { group, prefix } in places {
            let name = format!("{prefix}{task}");
            if self.exists(&group, &name).await? {
                found.push(Streams { group, which: Which::Named(name) });
            }
        }
        if found.is_empty() {
            return Err(Error::failed(
                FailureCode::NotFound,
                format!(
                    "task {task} has no log stream: it is no task of this platform, or has written nothing yet; its \
                     tasks are in hubctl ecs status"
                ),
            ));
        }
        Ok(found)
    }

    async fn exists(&self, group: &str, name: &str) -> Result<bool, Error> {
        let call = self.client.describe_log_streams().log_group_name(group).log_stream_name_prefix(name).limit(1);
        match call.send().await {
            Ok(answer) => Ok(answer.log_streams().iter().any(|stream| stream.log_stream_name() == Some(name))),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(false),
            Err(e) => Err(failure(format_args!("look for {name} in log group {group}"), "logs:DescribeLogStreams", e)),
        }
    }
}

/// Lines on their way to the operator.
struct Reading<'a> {
    job: &'a Job,
    lines: Lines,
    parts: u32,
    told: Instant,
    shown: Instant,
}

impl Reading<'_> {
    /// Parts that are full, or all there is; once a second all in any case, so that who waits sees what there is.
    async fn tell(&mut self, all: bool) -> Result<(), Error> {
        let all = all || self.told.elapsed() >= TELL;
        if all {
            self.told = Instant::now();
        }
        for part in self.lines.parts(all) {
            self.job.stream(self.parts, &part).await?;
            self.parts += 1;
        }
        Ok(())
    }

    fn at(&mut self, reached: i64, whole: i64) {
        if self.shown.elapsed() >= TELL {
            self.shown = Instant::now();
            let percent = reached.max(0).checked_mul(100).and_then(|done| done.checked_div(whole));
            let percent = percent.and_then(|percent| u32::try_from(percent.min(99)).ok());
            self.job.progress(format!("{} lines found", self.lines.count()), percent);
        }
    }
}

fn pattern(grep: &str) -> Result<Option<Regex>, Error> {
    if grep.is_empty() {
        return Ok(None);
    }
    let pattern = RegexBuilder::new(grep).size_limit(PATTERN_BYTES).build();
    pattern.map(Some).map_err(|_| {
        let text = format!("{grep:?} is no regular expression, or too large a one; see https://docs.rs/regex/#syntax");
        Error::failed(FailureCode::Rejected, text)
    })
}

fn event(event: FilteredLogEvent) -> Event {
    Event {
        at_unix_ms: event.timestamp.unwrap_or_default(),
        id: event.event_id.unwrap_or_default(),
        stream: event.log_stream_name.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
    }
}
