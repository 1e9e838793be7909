//! Waiting for the database: look, tell how far it is, look again less often, until an operator or the time ends it.
//!
//! Only looks are broken off. A call that changes something is always heard out, so that what is told is what was done.

use std::time::Duration;

use sfdata_common::outcome::FailureCode;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{execute::Job, services::Error};

/// First pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause: what RDS does takes minutes, and its quota of reads is the whole account's.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What a look may still take after the deadline: there is time for one, since all may well be there.
const GRACE: Duration = Duration::from_secs(5);

/// One action's patience, and what it has done so far.
pub(super) struct Watch<'a> {
    job: &'a Job,
    ends: Instant,
    pause: Duration,
    done: String,
    /// Something may be in force.
    ordered: bool,
    told: Option<String>,
}

impl<'a> Watch<'a> {
    /// From now until the deadline.
    pub(super) fn new(job: &'a Job, deadline: Duration) -> Self {
        let done = match job.resumed() {
            true => "what was ordered before the agent was started anew stays in force",
            false => "nothing was changed",
        };
        let (done, ordered) = (done.to_owned(), job.resumed());
        Self { job, ends: Instant::now() + deadline, pause: PAUSE_MIN, done, ordered, told: None }
    }

    /// What is in force from here on, whatever comes of the waiting.
    pub(super) fn did(&mut self, done: impl Into<String>) {
        (self.done, self.ordered, self.told, self.pause) = (done.into(), true, None, PAUSE_MIN);
    }

    /// Read something, unless the order is taken back or its time is over. Once something was ordered, it is read again
    /// where AWS can't be asked: RDS goes on meanwhile.
    pub(super) async fn read<T, F>(&mut self, look: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            let look_by = self.ends.max(Instant::now() + GRACE);
            let seen = tokio::select! {
                biased;
                () = self.job.cancelled().cancelled() => return Err(self.broken_off()),
                seen = look() => seen,
                () = sleep_until(look_by) => return Err(self.late()),
            };
            match seen {
                Err(error) if self.ordered && error.is_passing() => {
                    self.wait(format!("RDS does not tell how it is: {error}"), None).await?;
                }
                seen => return seen.map_err(|error| self.after(error)),
            }
        }
    }

    /// A call that changes something failed. Where only its answer is missing it may have had its effect all the same: the
    /// next look tells, after a pause.
    pub(super) async fn unsure(&mut self, what: impl Into<String>, error: Error) -> Result<(), Error> {
        if !error.is_passing() {
            return Err(self.after(error));
        }
        if !self.ordered {
            (self.done, self.ordered) = (what.into(), true);
        }
        self.wait(format!("RDS did not answer: {error}"), None).await
    }

    /// It is not there yet: say how far it is, and pause.
    pub(super) async fn wait(&mut self, step: impl Into<String>, percent: Option<u32>) -> Result<(), Error> {
        let step = step.into();
        if self.told.as_ref() != Some(&step) || percent.is_some() {
            self.job.progress(step.clone(), percent);
        }
        self.told = Some(step);
        let left = self.ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.late());
        }
        tokio::select! {
            biased;
            () = self.job.cancelled().cancelled() => return Err(self.broken_off()),
            () = sleep(self.pause.min(left)) => {}
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    /// Something stands in the way for good.
    pub(super) fn lost(&self, code: FailureCode, text: impl Into<String>) -> Error {
        self.after(Error::failed(code, text))
    }

    /// An error that came after what was done.
    pub(super) fn after(&self, error: Error) -> Error {
        error.after(&self.done)
    }

    fn broken_off(&self) -> Error {
        Error::cancelled(format!("{}; only the waiting was stopped{}", self.done, self.last()))
    }

    fn late(&self) -> Error {
        let text = format!("{}; the deadline came first{}; RDS goes on: look at its status", self.done, self.last());
        Error::failed(FailureCode::Deadline, text)
    }

    fn last(&self) -> String {
        self.told.as_ref().map(|told| format!(": {told}")).unwrap_or_default()
    }
}
