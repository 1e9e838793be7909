//! Runs: which there are, one with its steps, and its end.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sfdata_common::outcome::FailureCode;

use super::{
    Dagster, lacks, page, refused,
    seen::{Detail, Run, RunStatus, Step, StepStatus, TAGS, at},
    statuses,
};
use crate::services::Error;

/// A run, in every document that shows some.
pub(super) const RUN: &str = "
fragment Run on Run {
  runId
  jobName
  status
  creationTime # ? creation times of runs
  startTime
  endTime
  tags { key value }
}
";

const DETAIL: &str = "query Detail($id: ID!) {
  run: runOrError(runId: $id) {
    __typename
    ... on PythonError { className }
    ... on Run {
      ...Run
      executionPlan { steps { key } } # ? the number of steps
      stepStats {
        stepKey
        status
        startTime
        endTime
        attempts { startTime } # ? attempts of steps
      }
    }
  }
}";

const TERMINATE: &str = "mutation Terminate($id: String!) {
  ended: terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename ... on PythonError { className } }
}";

/// Runs that are looked for by a tag.
pub const TAGGED_RUNS: usize = 100;

/// Which runs are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunsAsked {
    /// Any of these; none is all.
    pub statuses: Vec<RunStatus>,
    /// Of this job alone.
    pub job: Option<String>,
    /// With all of these tags.
    pub tags: Vec<(String, String)>,
    /// At most, the newest first.
    pub limit: usize,
}

#[derive(Deserialize)]
pub(super) struct FoundRuns {
    pub(super) count: Option<u64>,
    pub(super) results: Vec<FoundRun>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundRun {
    run_id: String,
    job_name: Option<String>,
    status: RunStatus,
    creation_time: Option<f64>,
    start_time: Option<f64>,
    end_time: Option<f64>,
    #[serde(default)]
    tags: Option<Vec<FoundTag>>,
}

#[derive(Deserialize)]
struct FoundTag {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundDetail {
    #[serde(flatten)]
    run: FoundRun,
    execution_plan: Option<FoundPlan>,
    #[serde(default)]
    step_stats: Option<Vec<FoundStep>>,
}

#[derive(Deserialize)]
struct FoundPlan {
    steps: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundStep {
    step_key: String,
    status: Option<StepStatus>,
    start_time: Option<f64>,
    end_time: Option<f64>,
    attempts: Option<Vec<serde::de::IgnoredAny>>,
}

impl FoundRun {
    pub(super) fn seen(self) -> Run {
        let tags = self.tags.unwrap_or_default().into_iter().filter(|tag| TAGS.contains(&tag.key.as_str()));
        Run {
            id: self.run_id,
            job: self.job_name.unwrap_or_default(),
            status: self.status,
            created: self.creation_time.and_then(at),
            started: self.start_time.and_then(at),
            ended: self.end_time.and_then(at),
            tags: tags.map(|tag| (tag.key, tag.value)).collect::<BTreeMap<_, _>>(),
        }
    }
}

impl From<FoundStep> for Step {
    fn from(found: FoundStep) -> Self {
        Self {
            key: found.step_key,
            status: found.status.unwrap_or(StepStatus::Unknown),
            started: found.start_time.and_then(at),
            ended: found.end_time.and_then(at),
            attempts: found.attempts.map(|attempts| attempts.len()),
        }
    }
}

impl Dagster {
    /// Runs, the newest first.
    pub async fn runs(&self, asked: &RunsAsked) -> Result<Vec<Run>, Error> {
        let mut all: Vec<Run> = Vec::new();
        while all.len() < asked.limit {
            let (left, after) = (asked.limit - all.len(), all.last().map(|run| run.id.clone()));
            let job = asked.job.as_deref();
            let some = self.page_of_runs("list runs", &asked.statuses, job, &asked.tags, left, after).await?;
            let whole = some.len() >= page(left);
            all.extend(some);
            if !whole {
                break;
            }
        }
        Ok(all)
    }

    /// Runs with this tag, the newest first; at most [`TAGGED_RUNS`].
    pub async fn runs_by_tag(&self, key: &str, value: &str) -> Result<Vec<Run>, Error> {
        let tags = vec![(key.to_owned(), value.to_owned())];
        self.runs(&RunsAsked { tags, limit: TAGGED_RUNS, ..RunsAsked::default() }).await
    }

    pub(super) async fn page_of_runs(
        &self,
        tried: &str,
        of: &[RunStatus],
        job: Option<&str>,
        tags: &[(String, String)],
        limit: usize,
        after: Option<String>,
    ) -> Result<Vec<Run>, Error> {
        let of = if of.is_empty() { String::new() } else { format!("statuses: [{}], ", statuses(of)) };
        let text = format!(
            "query Runs($job: String, $tags: [ExecutionTag!], $limit: Int, $after: String) {{
  runs: runsOrError(filter: {{{of}pipelineName: $job, tags: $tags}}, limit: $limit, cursor: $after) {{
    __typename
    ... on PythonError {{ className }}
    ... on Runs {{ results {{ ...Run }} }}
  }}
}}{RUN}"
        );
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let tags = if tags.is_empty() { Value::Null } else { Value::Array(tags) };
        let variables = json!({ "job": job, "tags": tags, "limit": page(limit), "after": after });
        let found: FoundRuns = self.ask(tried, &text, variables).await?.part(tried, "runs", "Runs")?;
        Ok(found.results.into_iter().map(Run::from).collect())
    }

    /// A run with its steps.
    pub async fn run(&self, id: &str) -> Result<Detail, Error> {
        let tried = format!("read run {id}");
        let mut told = self.ask(&tried, &format!("{DETAIL}{RUN}"), json!({ "id": id })).await?;
        let found: FoundDetail = told.part(&tried, "run", "Run")?;
        let mut steps: Vec<Step> = found.step_stats.unwrap_or_default().into_iter().map(Step::from).collect();
        steps.sort_by_key(|step| step.started.unwrap_or(Timestamp::MAX));
        number(&mut steps);
        let total = found.execution_plan.map(|plan| plan.steps.len().max(steps.len()));
        Ok(Detail { run: found.run.seen(), steps, total, degraded: told.degraded })
    }

    /// End a run: its task is told to stop, and the run is CANCELING until it has. One that is over is a conflict.
    pub async fn terminate(&self, id: &str) -> Result<(), Error> {
        let tried = format!("end run {id}");
        let mut told = self.ask(&tried, TERMINATE, json!({ "id": id })).await?;
        let value = told.data.remove("ended").unwrap_or_default();
        match value["__typename"].as_str() {
            Some("TerminateRunSuccess") => Ok(()),
            Some("TerminateRunFailure") => {
                let text =
                    format!("cannot {tried}: Dagster cannot end it as it stands; see how with hubctl dagster show");
                Err(Error::failed(FailureCode::Conflict, text))
            }
            Some(kind) => Err(refused(&tried, kind, &value)),
            None => Err(lacks(&tried, "ended")),
        }
    }
}

/// The mapping keys of dynamic steps, as in `load[a_file_csv]`, are often names of files: each becomes its number, in the
/// order in which they come.
fn number(steps: &mut [Step]) {
    let mut seen: Vec<String> = Vec::new();
    for step in steps {
        let Some((op, rest)) = step.key.split_once('[') else { continue };
        let (mapped, after) = rest.rsplit_once(']').unwrap_or((rest, ""));
        let number = seen.iter().position(|known| known == mapped).unwrap_or_else(|| {
            seen.push(mapped.to_owned());
            seen.len() - 1
        });
        step.key = format!("{op}[#{}]{after}", number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_keys_of_dynamic_steps_are_told_as_numbers() {
        let step = |key: &&str| Step {
            key: (*key).into(),
            status: StepStatus::Success,
            started: None,
            ended: None,
            attempts: None,
        };
        let keys = ["find", "load[mary_csv]", "load[john_csv]", "all.clean[mary_csv]", "tell[?]", "odd[john", "end"];
        let mut steps: Vec<Step> = keys.iter().map(step).collect();
        number(&mut steps);
        let told: Vec<&str> = steps.iter().map(|step| step.key.as_str()).collect();
        assert_eq!(told, ["find", "load[#1]", "load[#2]", "all.clean[#1]", "tell[#3]", "odd[#4]", "end"]);
    }
}
