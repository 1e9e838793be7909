//! Launching exactly one run for a command, although Dagster's mutation takes no token.
//!
//! The run has a tag with the command's id. What was not answered is looked for by that tag for as long as Dagster may still
//! be at work on it; only then a resumed command launches again, and one that is not resumed gives up.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sfdata_common::{
    command::{self, COMMAND_TAG},
    outcome::FailureCode,
};
use sfdata_proto::v1::action_result::Kind;
use tokio::time::{Instant, sleep};

use super::{
    Dagster,
    actions::{read, result},
    launch::Launch,
    seen::{Detail, Run, RunStatus, StepStatus},
};
use crate::{
    execute::Job,
    services::{Error, Plan},
};

/// A request that was heard shows by then, or never: what Dagster does for it with a code server, it gives up after 60 s
/// (DAGSTER_GRPC_TIMEOUT_SECONDS).
const SETTLES: Duration = Duration::from_secs(90);
/// By which Dagster itself says which run is run again.
const PARENT_TAG: &str = "dagster/parent_run_id";
/// Between two looks for it.
const PAUSE: Duration = Duration::from_secs(2);

/// What is kept before the first call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// When it was asked for, in seconds since 1970.
    asked: i64,
    /// Once it is known.
    run: Option<String>,
}

impl Note {
    fn now() -> Self {
        Self { asked: Timestamp::now().as_second(), run: None }
    }

    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn decode(kept: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(kept).map_err(|_| {
            Error::failed(
                FailureCode::Internal,
                "the note of what was launched cannot be read; look with hubctl dagster runs",
            )
        })
    }
}

impl Dagster {
    /// Launch a job for this command, and wait for its run's end where that is wanted.
    pub(super) async fn launch_once(&self, ordered: &command::Launch, job: &Job) -> Result<Kind, Error> {
        let command::Launch { job: name, location, repository, config, tags, wait, deadline } = ordered;
        let ends = Instant::now() + *deadline;
        let mut tags = tags.clone();
        tags.push((COMMAND_TAG.into(), job.command().to_string()));
        let launch = Launch {
            job: name.clone(),
            location: location.clone(),
            repository: repository.clone(),
            config: config.clone(),
            tags,
        };
        let note = match job.checkpoint() {
            Some(kept) => Note::decode(&kept)?,
            None => {
                let place = read(job, self.defined(&launch)).await?;
                let note = Note::now();
                let plan = Plan::default().change(format!("dagster-job {place}"), "run", "", "a new one");
                if let Some(answer) = job.agree_and_keep(plan, note.encode()).await? {
                    return Ok(answer);
                }
                note
            }
        };
        let run = self.once(note, None, job, || self.launch(&launch)).await?;
        self.launched(&run, *wait, ends, job).await
    }

    /// Run again what failed of a run, once for this command.
    pub(super) async fn re_execute_once(
        &self,
        id: &str,
        wait: bool,
        deadline: Duration,
        job: &Job,
    ) -> Result<Kind, Error> {
        let ends = Instant::now() + deadline;
        let note = match job.checkpoint() {
            Some(kept) => Note::decode(&kept)?,
            None => {
                let status = read(job, self.run(id)).await?.run.status;
                if !matches!(status, RunStatus::Failure | RunStatus::Canceled) {
                    let text = format!("run {id} is {status}: only what failed or was canceled is run again");
                    return Err(Error::failed(FailureCode::Conflict, text));
                }
                let note = Note::now();
                let plan = Plan::default().change(format!("dagster-run {id}"), "re-execution", "", "from its failure");
                if let Some(answer) = job.agree_and_keep(plan, note.encode()).await? {
                    return Ok(answer);
                }
                note
            }
        };
        let tags = [(COMMAND_TAG.to_owned(), job.command().to_string())];
        let run = self.once(note, Some(id), job, || self.re_execute_from_failure(id, &tags)).await?;
        self.launched(&run, wait, ends, job).await
    }

    /// The run of this command: the one that there is, or the one that `launch` makes.
    async fn once<F: Future<Output = Result<String, Error>>>(
        &self,
        mut note: Note,
        parent: Option<&str>,
        job: &Job,
        launch: impl Fn() -> F,
    ) -> Result<String, Error> {
        if let Some(run) = note.run {
            return Ok(run);
        }
        let mut found = None;
        if job.resumed() {
            found = self.settled(note.asked, note.asked, parent, job).await?;
            if found.is_none() {
                note.asked = Timestamp::now().as_second();
                job.keep(note.encode()).await?;
            }
        }
        if found.is_none() && job.cancelled().is_cancelled() {
            return Err(Error::cancelled("nothing was launched"));
        }
        let run = match found {
            Some(run) => run,
            None => match launch().await {
                Ok(run) => run,
                // It may have been heard.
                Err(error) if error.is_passing() => {
                    job.progress("Dagster did not answer rightly; looking whether it launched a run", None);
                    let found = self.settled(note.asked, Timestamp::now().as_second(), parent, job).await;
                    let found = found.map_err(|unseen| error.clone().and(unseen))?;
                    found.ok_or_else(|| error.after("no run of this command was seen, and none was launched again"))?
                }
                Err(error) => return Err(error),
            },
        };
        note.run = Some(run.clone());
        job.keep(note.encode()).await?;
        Ok(run)
    }

    /// The run of this command that there is, looked for until a request of `last` must have settled.
    async fn settled(&self, first: i64, last: i64, parent: Option<&str>, job: &Job) -> Result<Option<String>, Error> {
        let left = last + SETTLES.as_secs() as i64 - Timestamp::now().as_second();
        let by = Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or_default()).min(SETTLES);
        loop {
            let late = Instant::now() >= by;
            match self.of_command(first, parent, job).await {
                Ok(runs) if !runs.is_empty() => return Ok(runs.last().map(|run| run.id.clone())),
                Ok(_) if late => return Ok(None),
                Err(error) if late || !error.is_passing() => {
                    return Err(error.after("it is not known whether a run was launched"));
                }
                Ok(_) | Err(_) => {}
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {
                    let text = "it is not known whether a run was launched; look with hubctl dagster runs";
                    return Err(Error::cancelled(text));
                }
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Runs of this command: by its tag or, where Dagster takes none for a re-execution, those of the parent since it was
    /// asked for.
    async fn of_command(&self, since: i64, parent: Option<&str>, job: &Job) -> Result<Vec<Run>, Error> {
        let ours = self.runs_by_tag(COMMAND_TAG, &job.command().to_string()).await?;
        let Some(parent) = parent.filter(|_| ours.is_empty()) else { return Ok(ours) };
        let mut again = self.runs_by_tag(PARENT_TAG, parent).await?;
        // A tag is another command's, or the parent's own, which is handed down where none is given: that tells nothing.
        again.retain(|run| run.created.is_some_and(|created| created.as_second() >= since));
        Ok(again)
    }

    async fn launched(&self, id: &str, wait: bool, ends: Instant, job: &Job) -> Result<Kind, Error> {
        if !wait {
            let detail = self.run(id).await.map_err(|error| error.after(&format!("run {id} was launched")))?;
            return Ok(result(&detail));
        }
        let detail = self.ended(id, ends, job).await?;
        verdict(&detail).map_or_else(|| Ok(result(&detail)), Err)
    }
}

/// Why a run that was waited for is no success.
fn verdict(detail: &Detail) -> Option<Error> {
    let (id, job) = (&detail.run.id, &detail.run.job);
    let failed = detail.steps.iter().filter(|step| step.status == StepStatus::Failure);
    let failed: Vec<_> = failed.map(|step| step.key.as_str()).take(5).collect();
    let text = match detail.run.status {
        RunStatus::Success => return None,
        RunStatus::Canceled => format!("run {id} of {job} was canceled"),
        _ if failed.is_empty() => format!("run {id} of {job} failed before or after its steps"),
        _ => format!("run {id} of {job} failed at {}", failed.join(", ")),
    };
    let remedy = "look at its task's logs with hubctl logs, then run that again with hubctl dagster retry";
    Some(Error::failed(FailureCode::RunFailed, format!("{text}; {remedy}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_the_journal_and_a_damaged_one_is_told() {
        let note = Note { asked: 7, run: Some("0190".into()) };
        assert_eq!(Note::decode(&note.encode()), Ok(note));
        assert!(matches!(Note::decode(b"{"), Err(Error::Failed { code: FailureCode::Internal, .. })));
    }
}
