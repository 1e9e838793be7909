//! How Dagster's runs ended, by job and by dataset: counted as they are seen, each once, and known while Dagster sleeps.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sfdata_common::{error::chain, keyfile, limits, retry::jittered};
use sfdata_proto::v1 as wire;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::services::dagster::{
    Dagster,
    seen::{DATASET_TAG, Run, RunStatus},
};

const FILE: &str = "runs.json";
/// Runs that are known to have been counted: some times more than one look tells of.
const COUNTED: usize = 1_000;
/// Jobs, and datasets, that are told of; the one that was seen least lately gives way.
const NAMES: usize = 100;
/// Who does not look at Dagster for its power does so for this.
const LOOK: Duration = Duration::from_secs(60);

/// What is on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    jobs: BTreeMap<String, Job>,
    datasets: BTreeMap<String, Dataset>,
    /// Ids of runs, and when they ended.
    counted: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Job {
    succeeded: u64,
    failed: u64,
    canceled: u64,
    failing: u32,
    last_success: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    last: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Dataset {
    last_success: Option<Timestamp>,
    last: Timestamp,
}

/// The record; clones share it.
#[derive(Debug, Clone)]
pub struct Runs {
    path: Option<Arc<PathBuf>>,
    record: Arc<Mutex<Record>>,
}

impl Runs {
    /// One that is kept nowhere.
    pub fn none() -> Self {
        Self { path: None, record: Arc::default() }
    }

    /// Of the agent in `data_dir`. What cannot be read is begun anew: it is told of, and decides nothing.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let read = || {
            let text = keyfile::read(&path).map_err(|error| chain(&error).to_string())?;
            serde_json::from_slice(&text).map_err(|error| error.to_string())
        };
        let record = match path.exists().then(read) {
            None => Record::default(),
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                error!(path = %path.display(), error, "what was counted of runs cannot be read; it is counted anew");
                Record::default()
            }
        };
        Self { path: Some(Arc::new(path)), record: Arc::new(Mutex::new(record)) }
    }

    /// Count what was seen to have ended, once, however often it is seen.
    pub async fn saw(&self, ended: &[Run]) {
        let text = {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            if !record.count(ended) {
                return;
            }
            serde_json::to_vec(&*record)
        };
        let Some(path) = self.path.clone() else { return };
        let write = move || {
            let text = text.map_err(|error| error.to_string())?;
            keyfile::write(&path, &text).map_err(|error| chain(&error).to_string())
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            warn!(error, "what was counted of runs is not on disk, and is lost should the agent end");
        }
    }

    /// As a health report tells it; `None` before any run was seen.
    pub fn health(&self) -> Option<wire::RunsHealth> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millisecond);
        let jobs = record.jobs.iter().map(|(name, job)| wire::JobHealth {
            job: name.clone(),
            succeeded: job.succeeded,
            failed: job.failed,
            canceled: job.canceled,
            failing: job.failing,
            last_success_unix_ms: at(job.last_success),
            last_failure_unix_ms: at(job.last_failure),
        });
        let datasets = record.datasets.iter().map(|(name, dataset)| wire::DatasetHealth {
            dataset: name.clone(),
            last_success_unix_ms: at(dataset.last_success),
        });
        (!record.jobs.is_empty()).then(|| wire::RunsHealth { jobs: jobs.collect(), datasets: datasets.collect() })
    }

    /// Look by itself, where nobody does for the platform's power.
    pub async fn watch(self, dagster: Dagster, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(jittered(LOOK, 0.1)) => {}
            }
            match timeout(limits::POWER_ACT, dagster.observe()).await {
                Ok(Ok(seen)) => self.saw(&seen.ended).await,
                Ok(Err(error)) => debug!(%error, "runs could not be looked at"),
                Err(_) => debug!("Dagster did not tell its runs in time"),
            }
        }
    }
}

impl Record {
    /// Whether anything was new.
    fn count(&mut self, ended: &[Run]) -> bool {
        let mut new: Vec<(&Run, Timestamp)> = ended
            .iter()
            .filter_map(|run| Some((run, run.ended?)))
            .filter(|(run, _)| !self.counted.contains_key(&run.id))
            .collect();
        if new.is_empty() {
            return false;
        }
        new.sort_by_key(|(_, at)| *at);
        for (run, at) in new {
            if self.counted.insert(run.id.clone(), at).is_none() {
                self.add(run, at);
            }
        }
        // Those of this look will be seen again, however old they are.
        while self.counted.len() > COUNTED.max(ended.len()) {
            let old = self.counted.iter().filter(|(id, _)| !ended.iter().any(|run| run.id == **id));
            let Some(oldest) = old.min_by_key(|(_, at)| **at).map(|(id, _)| id.clone()) else { break };
            self.counted.remove(&oldest);
        }
        make_room(&mut self.jobs, |job| job.last);
        make_room(&mut self.datasets, |dataset| dataset.last);
        true
    }

    fn add(&mut self, run: &Run, at: Timestamp) {
        let job = self.jobs.entry(run.job.clone()).or_default();
        // Runs are not always seen in the order in which they ended.
        let is_last = at >= job.last;
        job.last = job.last.max(at);
        match run.status {
            RunStatus::Success => {
                job.succeeded += 1;
                job.failing = if is_last { 0 } else { job.failing };
                job.last_success = job.last_success.max(Some(at));
            }
            RunStatus::Failure => {
                job.failed += 1;
                job.failing += u32::from(job.last_success.is_none_or(|success| success < at));
                job.last_failure = job.last_failure.max(Some(at));
            }
            _ => job.canceled += 1,
        }
        let Some(name) = run.tags.get(DATASET_TAG) else { return };
        let dataset = self.datasets.entry(name.clone()).or_default();
        dataset.last = dataset.last.max(at);
        if run.status == RunStatus::Success {
            dataset.last_success = dataset.last_success.max(Some(at));
        }
    }
}

fn make_room<T>(named: &mut BTreeMap<String, T>, last: impl Fn(&T) -> Timestamp) {
    while named.len() > NAMES {
        let Some(oldest) = named.iter().min_by_key(|(_, one)| last(one)).map(|(name, _)| name.clone()) else { return };
        named.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u32, job: &str, status: RunStatus, ended: i64) -> Run {
        Run {
            id: id.to_string(),
            job: job.into(),
            status,
            created: None,
            started: None,
            ended: Some(Timestamp::from_second(ended).unwrap()),
            tags: BTreeMap::from([(DATASET_TAG.to_owned(), "ssda903".to_owned())]),
        }
    }

    #[tokio::test]
    async fn each_run_counts_once_however_often_it_is_seen_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let all = [run(1, "clean", RunStatus::Success, 10), run(2, "clean", RunStatus::Failure, 20)];
        for _ in 0..3 {
            let runs = Runs::open(folder.path());
            runs.saw(&all).await;
            runs.saw(&all[..1]).await;
            let health = runs.health().unwrap();
            let job = wire::JobHealth {
                job: "clean".into(),
                succeeded: 1,
                failed: 1,
                canceled: 0,
                failing: 1,
                last_success_unix_ms: 10_000,
                last_failure_unix_ms: 20_000,
            };
            let dataset = wire::DatasetHealth { dataset: "ssda903".into(), last_success_unix_ms: 10_000 };
            assert_eq!(health, wire::RunsHealth { jobs: vec![job], datasets: vec![dataset] });
        }
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Runs::open(folder.path()).health(), None);
    }

    #[test]
    fn failures_in_a_row_end_with_a_success_that_came_after_them() {
        let mut record = Record::default();
        record.count(&[run(1, "clean", RunStatus::Failure, 10), run(2, "clean", RunStatus::Failure, 20)]);
        assert_eq!(record.jobs["clean"].failing, 2);
        record.count(&[run(3, "clean", RunStatus::Success, 15)]); // told late
        assert_eq!(record.jobs["clean"].failing, 2);
        record.count(&[run(4, "clean", RunStatus::Canceled, 25), run(5, "clean", RunStatus::Success, 30)]);
        assert_eq!((record.jobs["clean"].failing, record.jobs["clean"].canceled), (0, 1));
        record.count(&[run(6, "clean", RunStatus::Failure, 28)]);
        assert_eq!(record.jobs["clean"].failing, 0, "a success came after it");
    }

    #[test]
    fn memory_is_bounded_and_what_is_still_seen_is_not_forgotten() {
        let mut record = Record::default();
        let first = run(0, "old", RunStatus::Success, 1);
        for id in 1..2 * COUNTED as u32 {
            record.count(&[first.clone(), run(id, &format!("job{id}"), RunStatus::Success, id.into())]);
        }
        assert_eq!((record.counted.len(), record.jobs.len()), (COUNTED, NAMES));
        assert!(record.counted.contains_key("0"), "each look tells of it");
    }
}
