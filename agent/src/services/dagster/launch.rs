//! What is ordered of Dagster: a job launched, a failed run taken up again, a code location loaded anew.
//!
//! None of these calls is repeated here. A launch that was not answered may have been heard: who must launch once gives the
//! run a tag and looks for it.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sfdata_common::outcome::FailureCode;

use super::{
    Dagster, lacks,
    observe::FoundLocation,
    read, refused,
    seen::{Location, LocationState},
    there_is,
};
use crate::services::Error;

/// Dagster's own job for all assets, which is not told among the others.
const ASSETS: &str = "__ASSET_JOB";

const JOBS: &str = "query Jobs {
  repositoriesOrError {
    __typename
    ... on PythonError { className }
    ... on RepositoryConnection { nodes { name location { name } jobs { name } } }
  }
}";

const LAUNCH: &str = "mutation Launch($params: ExecutionParams!) {
  launched: launchRun(executionParams: $params) {
    __typename
    ... on PythonError { className }
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid {
      errors {
        reason
        stack { entries { ... on EvaluationStackPathEntry { fieldName } } } # ? places of errors in a configuration
      }
    }
  }
}";

const RELOAD: &str = "mutation Reload($name: String!) {
  reloaded: reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on PythonError { className }
    ... on WorkspaceLocationEntry {
      name
      loadStatus
      locationOrLoadError { __typename ... on PythonError { className message } }
    }
  }
}";

const LOCATIONS: &str = "query Locations {
  workspaceOrError {
    __typename
    ... on PythonError { className }
    ... on Workspace {
      locationEntries { name loadStatus locationOrLoadError { __typename ... on PythonError { className } } }
    }
  }
}";

/// A job to launch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// Its name.
    pub job: String,
    /// Its code location; to be named where several have a job of that name.
    pub location: Option<String>,
    /// Its repository, likewise.
    pub repository: Option<String>,
    /// Run configuration, a JSON object.
    pub config: Option<String>,
    /// Given to the run.
    pub tags: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct FoundRepositories {
    nodes: Vec<FoundRepository>,
}

#[derive(Deserialize)]
struct FoundRepository {
    name: String,
    location: Named,
    jobs: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundWorkspace {
    location_entries: Vec<FoundLocation>,
}

#[derive(Deserialize)]
struct FoundLaunch {
    run: FoundId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundId {
    run_id: String,
}

/// A job, where it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    location: String,
    repository: String,
    job: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} in {})", self.job, self.repository, self.location)
    }
}

impl Dagster {
    /// Launch a job; the id of its run, which the daemon starts.
    ///
    /// # Errors
    /// [`FailureCode::NotFound`] where there is no such job, or more than one; [`FailureCode::Rejected`] where its
    /// configuration is wrong. After [`FailureCode::Unavailable`] it may have been launched all the same.
    pub async fn launch(&self, launch: &Launch) -> Result<String, Error> {
        let tried = format!("launch job {}", launch.job);
        let config = config(&tried, launch.config.as_deref())?;
        let place = only(&tried, launch, self.jobs(&tried).await?)?;
        let params = json!({
            "selector": {
                "repositoryLocationName": place.location,
                "repositoryName": place.repository,
                "jobName": place.job,
            },
            "runConfigData": config,
            "mode": "default",
            "executionMetadata": { "tags": tags(&launch.tags) },
        });
        let mut told = self.ask(&tried, LAUNCH, json!({ "params": params })).await?;
        launched(&tried, told.data.remove("launched").unwrap_or_default())
    }

    /// The one job that is meant, as `name (repository in location)`.
    pub(super) async fn defined(&self, launch: &Launch) -> Result<String, Error> {
        let tried = format!("launch job {}", launch.job);
        config(&tried, launch.config.as_deref())?;
        only(&tried, launch, self.jobs(&tried).await?).map(|place| place.to_string())
    }

    /// Run what failed of a run, and what comes after it, again as a run of its own; its id.
    pub async fn re_execute_from_failure(&self, id: &str, with: &[(String, String)]) -> Result<String, Error> {
        let tried = format!("run again what failed of run {id}");
        let mut told = self.ask(&tried, &re_execute(with), json!({ "id": id })).await?;
        launched(&tried, told.data.remove("launched").unwrap_or_default())
    }

    /// Load a code location anew: Dagster does not do it by itself when its code server has come back.
    pub async fn reload(&self, name: &str) -> Result<LocationState, Error> {
        let tried = format!("reload code location {name}");
        let mut told = self.ask(&tried, RELOAD, json!({ "name": name })).await?;
        let value = told.data.remove("reloaded").unwrap_or_default();
        match value["__typename"].as_str() {
            Some("WorkspaceLocationEntry") => {
                let found: FoundLocation = read(&tried, "reloaded", value)?;
                Ok(Location::from(found).state)
            }
            Some("RepositoryLocationNotFound") => {
                let there = there_is(names(self.locations().await?));
                let text = format!("cannot {tried}: there is no such code location; {there}");
                Err(Error::failed(FailureCode::NotFound, text))
            }
            Some(kind) => Err(refused(&tried, kind, &value)),
            None => Err(lacks(&tried, "reloaded")),
        }
    }

    /// All code locations, loaded or not: the least that tells whether Dagster is there.
    pub async fn locations(&self) -> Result<Vec<Location>, Error> {
        let tried = "list the code locations";
        let mut told = self.ask(tried, LOCATIONS, json!({})).await?;
        let found: FoundWorkspace = told.part(tried, "workspaceOrError", "Workspace")?;
        Ok(found.location_entries.into_iter().map(Location::from).collect())
    }

    /// Whether this code location is loaded, or each one; where there is none, none is.
    pub async fn is_loaded(&self, location: Option<&str>) -> Result<bool, Error> {
        Ok(all_loaded(self.locations().await?, location))
    }

    async fn jobs(&self, tried: &str) -> Result<Vec<Place>, Error> {
        let mut told = self.ask(tried, JOBS, json!({})).await?;
        let found: FoundRepositories = told.part(tried, "repositoriesOrError", "RepositoryConnection")?;
        let of = |repository: FoundRepository| {
            let (location, name) = (repository.location.name, repository.name);
            let place = move |job: Named| Place { location: location.clone(), repository: name.clone(), job: job.name };
            repository.jobs.into_iter().map(place)
        };
        Ok(found.nodes.into_iter().flat_map(of).collect())
    }
}

/// Of code locations.
pub(super) fn names(locations: Vec<Location>) -> Vec<String> {
    locations.into_iter().map(|location| location.name).collect()
}

fn all_loaded(mut locations: Vec<Location>, only: Option<&str>) -> bool {
    locations.retain(|one| only.is_none_or(|name| one.name == name));
    !locations.is_empty() && locations.iter().all(|one| one.state == LocationState::Loaded)
}

/// Dagster 1.8 takes no tags for a re-execution, and makes it without: its parent's id is among its tags either way.
fn re_execute(tags: &[(String, String)]) -> String {
    let one = |(key, value): &(String, String)| format!("{{key: {}, value: {}}}", json!(key), json!(value));
    let tags = tags.iter().map(one).collect::<Vec<_>>().join(", ");
    format!(
        "mutation ReExecute($id: String!) {{
  launched: launchRunReexecution(reexecutionParams: {{
    parentRunId: $id
    strategy: FROM_FAILURE
    extraTags: [{tags}] # ? tags of re-executions
  }}) {{
    __typename
    ... on PythonError {{ className }}
    ... on LaunchRunSuccess {{ run {{ runId }} }}
  }}
}}"
    )
}

fn tags(tags: &[(String, String)]) -> Vec<Value> {
    tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

fn config(tried: &str, text: Option<&str>) -> Result<Map<String, Value>, Error> {
    let wrong = |_| {
        let text = format!("cannot {tried}: its run configuration is no JSON object; correct the order");
        Error::failed(FailureCode::Rejected, text)
    };
    text.map_or_else(|| Ok(Map::new()), |text| serde_json::from_str(text).map_err(wrong))
}

/// The one job that is meant.
fn only(tried: &str, launch: &Launch, all: Vec<Place>) -> Result<Place, Error> {
    let is_meant = |place: &&Place| {
        place.job == launch.job
            && launch.location.as_ref().is_none_or(|location| *location == place.location)
            && launch.repository.as_ref().is_none_or(|repository| *repository == place.repository)
    };
    let meant: Vec<&Place> = all.iter().filter(is_meant).collect();
    let shown = |place: &Place| place.to_string();
    let text = match meant[..] {
        [only] => return Ok(only.clone()),
        [] => {
            let jobs = all.iter().filter(|place| place.job != ASSETS).map(shown).collect();
            format!(
                "there is no such job in a location that is loaded; {}; see the locations with hubctl dagster status",
                there_is(jobs)
            )
        }
        _ => format!("there are several: {}; name its location", there_is(meant.into_iter().map(shown).collect())),
    };
    Err(Error::failed(FailureCode::NotFound, format!("cannot {tried}: {text}")))
}

fn launched(tried: &str, value: Value) -> Result<String, Error> {
    match value["__typename"].as_str() {
        Some("LaunchRunSuccess") => read(tried, "run", value).map(|FoundLaunch { run }| run.run_id),
        Some("RunConfigValidationInvalid") => {
            let text = format!(
                "cannot {tried}: its run configuration is wrong: {}; correct it, or ask who wrote the job",
                wrongs(&value)
            );
            Err(Error::failed(FailureCode::Rejected, text))
        }
        Some("RunConflict") => {
            Err(Error::failed(FailureCode::Conflict, format!("cannot {tried}: it conflicts with a run that there is")))
        }
        Some(kind) => Err(refused(tried, kind, &value)),
        None => Err(lacks(tried, "launched")),
    }
}

/// What is wrong with a configuration and where: no values, which are the LA's.
fn wrongs(value: &Value) -> String {
    let one = |error: &Value| {
        let reason = error["reason"].as_str().unwrap_or("an error").to_ascii_lowercase().replace('_', " ");
        let entries = error["stack"]["entries"].as_array().into_iter().flatten();
        let path: Vec<_> = entries.filter_map(|entry| entry["fieldName"].as_str()).collect();
        if path.is_empty() { format!("{reason} at its top") } else { format!("{reason} at {}", path.join(".")) }
    };
    let all: Vec<_> = value["errors"].as_array().into_iter().flatten().map(one).take(5).collect();
    if all.is_empty() { "it does not say where".into() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(location: &str, job: &str) -> Place {
        Place { location: location.into(), repository: "sync".into(), job: job.into() }
    }

    #[test]
    fn a_job_is_found_by_its_name_where_that_is_enough() {
        let all = || vec![place("a", "clean"), place("a", "move"), place("b", "clean"), place("a", ASSETS)];
        let launch = |job: &str, location: Option<&str>| {
            let launch = Launch { job: job.into(), location: location.map(Into::into), ..Launch::default() };
            only("launch it", &launch, all())
        };
        assert_eq!(launch("move", None), Ok(place("a", "move")));
        assert_eq!(launch("clean", Some("b")), Ok(place("b", "clean")));
        let Err(Error::Failed { code: FailureCode::NotFound, message }) = launch("clean", None) else { panic!() };
        assert!(message.contains("clean (sync in a), clean (sync in b)") && message.contains("location"), "{message}");
        let Err(Error::Failed { code: FailureCode::NotFound, message }) = launch("cleen", None) else { panic!() };
        assert!(message.contains("move (sync in a)") && !message.contains(ASSETS), "{message}");
    }

    #[test]
    fn a_location_is_judged_by_itself_and_no_location_is_not_loaded() {
        let locations = || {
            let state = |name: &str, state| Location { name: name.into(), state };
            vec![state("ours", LocationState::Loaded), state("another", LocationState::Loading)]
        };
        assert!(all_loaded(locations(), Some("ours")), "another one does not matter");
        assert!(!all_loaded(locations(), Some("another")) && !all_loaded(locations(), Some("gone")));
        assert!(!all_loaded(locations(), None) && !all_loaded(vec![], None));
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_told_without_its_values() {
        let value = json!({"__typename": "RunConfigValidationInvalid", "errors": [
            {"reason": "RUNTIME_TYPE_MISMATCH", "message": "Mary", "stack": {"entries": [
                {"fieldName": "ops"}, {}, {"fieldName": "seconds"}]}},
            {"reason": "MISSING_REQUIRED_FIELD", "stack": {"entries": []}},
        ]});
        let Err(Error::Failed { code: FailureCode::Rejected, message }) = launched("launch it", value) else {
            panic!()
        };
        assert!(
            message.contains("runtime type mismatch at ops.seconds, missing required field at its top"),
            "{message}"
        );
        assert!(!message.contains("Mary"));
        assert!(config("launch it", Some("[1]")).is_err() && config("launch it", None).unwrap().is_empty());
    }
}
