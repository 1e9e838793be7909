//! Orders to Dagster itself: what they may do, and how they go over the wire.

use std::time::Duration;

use sfdata_proto::v1::{self as wire, dagster_action as kind};

use super::{Class, ParseError, Resource, deadline, environment, malformed, seconds, unknown};
use crate::{ids::CommandId, limits};

/// The tag that says which command launched a run; no order may set it.
pub const COMMAND_TAG: &str = "sfdata/command";

/// Statuses of runs, by Dagster's own names.
pub const RUN_STATUSES: [&str; 9] =
    ["QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING", "SUCCESS", "FAILURE", "CANCELED"];

/// Actions on Dagster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dagster {
    /// Daemons, code locations, what runs. Always legal.
    Status,
    /// Runs, the newest first. Always legal.
    Runs {
        /// Any of [`RUN_STATUSES`]; none is all.
        statuses: Vec<String>,
        /// Of this job alone.
        job: Option<String>,
        /// So many at most.
        limit: u32,
    },
    /// One run with its steps. Always legal.
    ShowRun {
        /// Its id.
        run: String,
        /// Until it has ended, for so long at most; `None` tells it as it is.
        watch: Option<Duration>,
    },
    /// Launch a job. Its run is tagged with the command's id, so that a repetition finds it.
    Launch(Launch),
    /// End a run. Legal until it has ended; repeating it is harmless.
    Cancel {
        /// Its id.
        run: String,
        /// How long to wait for its end.
        deadline: Duration,
    },
    /// Load code locations anew. Repeating it is harmless.
    Reload {
        /// `None` is all.
        location: Option<String>,
    },
    /// Run again what failed of a run. Tagged like a launch.
    Reexecute {
        /// Id of the run that failed.
        run: String,
        /// Whether to wait for the end of the new one.
        wait: bool,
        /// How long.
        deadline: Duration,
    },
    /// All schedules. Always legal.
    Schedules,
    /// All sensors. Always legal.
    Sensors,
}

/// A job to launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its name.
    pub job: String,
    /// Where it is defined, if several are called so.
    pub location: Option<String>,
    /// Likewise.
    pub repository: Option<String>,
    /// Run configuration: a JSON object. Kept in the clear.
    pub config: Option<String>,
    /// For its run: sorted by key, unique.
    pub tags: Vec<(String, String)>,
    /// Whether to wait for the run's end.
    pub wait: bool,
    /// How long.
    pub deadline: Duration,
}

impl Dagster {
    /// `dagster.verb`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "dagster.status",
            Self::Runs { .. } => "dagster.runs",
            Self::ShowRun { .. } => "dagster.run",
            Self::Launch(_) => "dagster.launch",
            Self::Cancel { .. } => "dagster.cancel",
            Self::Reload { .. } => "dagster.reload",
            Self::Reexecute { .. } => "dagster.reexecute",
            Self::Schedules => "dagster.schedules",
            Self::Sensors => "dagster.sensors",
        }
    }

    /// How long it may take, if it launches a run: for that Dagster has to be awake.
    pub fn launches(&self) -> Option<Duration> {
        match self {
            Self::Launch(Launch { deadline, .. }) | Self::Reexecute { deadline, .. } => Some(*deadline),
            Self::Status | Self::Runs { .. } | Self::ShowRun { .. } | Self::Schedules | Self::Sensors => None,
            Self::Cancel { .. } | Self::Reload { .. } => None,
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Status | Self::Runs { .. } | Self::ShowRun { .. } | Self::Schedules | Self::Sensors => Class::Read,
            Self::Launch(_) | Self::Cancel { .. } | Self::Reload { .. } | Self::Reexecute { .. } => Class::Operate,
        }
    }

    pub(super) fn resource(&self, command: CommandId) -> Option<Resource> {
        match self {
            Self::Status | Self::Runs { .. } | Self::ShowRun { .. } | Self::Schedules | Self::Sensors => None,
            Self::Launch(_) | Self::Reexecute { .. } => Some(Resource::Run(command.to_string())),
            Self::Cancel { run, .. } => Some(Resource::Run(run.clone())),
            Self::Reload { .. } => Some(Resource::CodeLocations),
        }
    }

    pub(super) fn to_wire(&self) -> wire::DagsterAction {
        let kind = match self.clone() {
            Self::Status => kind::Kind::Status(wire::DagsterStatus {}),
            Self::Runs { statuses, job, limit } => {
                kind::Kind::Runs(wire::DagsterRuns { statuses, job: job.unwrap_or_default(), limit })
            }
            Self::ShowRun { run: run_id, watch } => kind::Kind::ShowRun(wire::DagsterShowRun {
                run_id,
                watch: watch.is_some(),
                deadline_seconds: watch.map_or(0, seconds),
            }),
            Self::Launch(launch) => kind::Kind::Launch(wire::DagsterLaunch {
                job: launch.job,
                location: launch.location.unwrap_or_default(),
                repository: launch.repository.unwrap_or_default(),
                config: launch.config.unwrap_or_default(),
                tags: launch.tags.into_iter().map(|(key, value)| wire::DagsterTag { key, value }).collect(),
                wait: launch.wait,
                deadline_seconds: seconds(launch.deadline),
            }),
            Self::Cancel { run: run_id, deadline } => {
                kind::Kind::Cancel(wire::DagsterCancel { run_id, deadline_seconds: seconds(deadline) })
            }
            Self::Reload { location } => {
                kind::Kind::Reload(wire::DagsterReload { location: location.unwrap_or_default() })
            }
            Self::Reexecute { run: run_id, wait, deadline } => {
                kind::Kind::Reexecute(wire::DagsterReexecute { run_id, wait, deadline_seconds: seconds(deadline) })
            }
            Self::Schedules => kind::Kind::Schedules(wire::DagsterSchedules {}),
            Self::Sensors => kind::Kind::Sensors(wire::DagsterSensors {}),
        };
        wire::DagsterAction { kind: Some(kind) }
    }
}

impl TryFrom<wire::DagsterAction> for Dagster {
    type Error = ParseError;

    fn try_from(message: wire::DagsterAction) -> Result<Self, ParseError> {
        Ok(match message.kind.ok_or_else(unknown)? {
            kind::Kind::Status(_) => Self::Status,
            kind::Kind::Runs(runs) => {
                let wrong = runs.statuses.iter().find(|status| !RUN_STATUSES.contains(&status.as_str()));
                if let Some(status) = wrong {
                    let text = format!("{status:?} is no status of a run; there is {}", RUN_STATUSES.join(", "));
                    return Err(malformed(text));
                }
                if runs.statuses.len() > RUN_STATUSES.len() {
                    return Err(malformed("a status is named more than once"));
                }
                if runs.limit == 0 || runs.limit > limits::DAGSTER_RUNS {
                    let text = format!("{} runs are out of range: 1 to {}", runs.limit, limits::DAGSTER_RUNS);
                    return Err(malformed(text));
                }
                Self::Runs { statuses: runs.statuses, job: optional("job", runs.job)?, limit: runs.limit }
            }
            kind::Kind::ShowRun(show) => Self::ShowRun {
                run: run(show.run_id)?,
                watch: match (show.watch, show.deadline_seconds) {
                    (false, 0) => None,
                    (false, _) => return Err(malformed("it has a deadline, and nothing is watched")),
                    (true, seconds) => Some(deadline(seconds)?),
                },
            },
            kind::Kind::Launch(message) => Self::Launch(launch(message)?),
            kind::Kind::Cancel(cancel) => {
                Self::Cancel { run: run(cancel.run_id)?, deadline: deadline(cancel.deadline_seconds)? }
            }
            kind::Kind::Reload(reload) => Self::Reload { location: optional("location", reload.location)? },
            kind::Kind::Reexecute(again) => Self::Reexecute {
                run: run(again.run_id)?,
                wait: again.wait,
                deadline: deadline(again.deadline_seconds)?,
            },
            kind::Kind::Schedules(_) => Self::Schedules,
            kind::Kind::Sensors(_) => Self::Sensors,
        })
    }
}

fn launch(message: wire::DagsterLaunch) -> Result<Launch, ParseError> {
    let job = optional("job", message.job)?.ok_or_else(|| malformed("it names no job"))?;
    if message.config.len() > limits::RUN_CONFIG_BYTES {
        return Err(malformed(format!("the run configuration is longer than {} bytes", limits::RUN_CONFIG_BYTES)));
    }
    let tags: Vec<_> = message.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    if !tags.is_sorted_by(|(a, _), (b, _)| a < b) || tags.len() > limits::RUN_TAGS {
        return Err(malformed(format!("tags must be sorted, unique and at most {}", limits::RUN_TAGS)));
    }
    for (key, value) in &tags {
        if !is_name(key) || key.starts_with("sfdata/") || value.len() > limits::RUN_TAG_BYTES {
            return Err(malformed(format!("{key:?} is no tag that may be set, or its value is too long")));
        }
    }
    let secret = |text: &str| environment::has_password(text);
    if secret(&message.config) || tags.iter().any(|(_, value)| secret(value)) {
        return Err(malformed("configuration or tags hold a URL with a password, which would be kept in the clear"));
    }
    Ok(Launch {
        job,
        location: optional("location", message.location)?,
        repository: optional("repository", message.repository)?,
        config: (!message.config.is_empty()).then_some(message.config),
        tags,
        wait: message.wait,
        deadline: deadline(message.deadline_seconds)?,
    })
}

/// Names of jobs, locations and tags: Dagster itself lets locations and tags be nearly anything.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= limits::DAGSTER_NAME_BYTES && !name.chars().any(char::is_control)
}

fn optional(what: &str, name: String) -> Result<Option<String>, ParseError> {
    match name {
        none if none.is_empty() => Ok(None),
        name if is_name(&name) => Ok(Some(name)),
        name => Err(malformed(format!("{name:?} is not the name of a {what}"))),
    }
}

/// Ids of runs are UUIDs.
fn run(id: String) -> Result<String, ParseError> {
    let legal = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    if id.len() != 36 || !id.bytes().all(legal) {
        return Err(malformed(format!("{id:?} is not the id of a run")));
    }
    Ok(id)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn any_action() -> impl Strategy<Value = Dagster> {
        let name = || proptest::option::of("[a-z_]{1,20}");
        let run = || "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        let time = || (1u64..3600).prop_map(Duration::from_secs);
        let tags = proptest::collection::btree_map("[a-z]{1,9}", ".{0,20}", 0..4);
        let launch = ("[a-z]{1,9}", name(), name(), proptest::option::of("[{}a-z]{1,30}"), tags, any::<bool>(), time());
        prop_oneof![
            Just(Dagster::Status),
            Just(Dagster::Schedules),
            Just(Dagster::Sensors),
            (proptest::sample::subsequence(RUN_STATUSES.to_vec(), 0..9), name(), 1..=limits::DAGSTER_RUNS).prop_map(
                |(statuses, job, limit)| Dagster::Runs {
                    statuses: statuses.into_iter().map(Into::into).collect(),
                    job,
                    limit
                }
            ),
            (run(), proptest::option::of(time())).prop_map(|(run, watch)| Dagster::ShowRun { run, watch }),
            (run(), time()).prop_map(|(run, deadline)| Dagster::Cancel { run, deadline }),
            (run(), any::<bool>(), time()).prop_map(|(run, wait, deadline)| Dagster::Reexecute { run, wait, deadline }),
            name().prop_map(|location| Dagster::Reload { location }),
            launch.prop_map(|(job, location, repository, config, tags, wait, deadline)| Dagster::Launch(Launch {
                job,
                location,
                repository,
                config,
                tags: tags.into_iter().collect(),
                wait,
                deadline,
            })),
        ]
    }

    #[test]
    fn a_launch_is_bounded_holds_no_password_and_no_tag_of_ours() {
        let legal = wire::DagsterLaunch { job: "clean".into(), deadline_seconds: 9, ..Default::default() };
        let parse = |launch| Dagster::try_from(wire::DagsterAction { kind: Some(kind::Kind::Launch(launch)) });
        let tags = |tags: &[(&str, &str)]| -> Vec<wire::DagsterTag> {
            tags.iter().map(|(key, value)| wire::DagsterTag { key: (*key).into(), value: (*value).into() }).collect()
        };
        assert!(parse(wire::DagsterLaunch { tags: tags(&[("a", "1"), ("b", "")]), ..legal.clone() }).is_ok());
        for illegal in [
            wire::DagsterLaunch { job: String::new(), ..legal.clone() },
            wire::DagsterLaunch { job: "a\n".into(), ..legal.clone() },
            wire::DagsterLaunch { deadline_seconds: 0, ..legal.clone() },
            wire::DagsterLaunch { config: "x".repeat(limits::RUN_CONFIG_BYTES + 1), ..legal.clone() },
            wire::DagsterLaunch { config: "{\"url\": \"postgres://a:hunter2@db/a\"}".into(), ..legal.clone() },
            wire::DagsterLaunch { tags: tags(&[("b", ""), ("a", "")]), ..legal.clone() },
            wire::DagsterLaunch { tags: tags(&[("a", ""), ("a", "")]), ..legal.clone() },
            wire::DagsterLaunch { tags: tags(&[(COMMAND_TAG, "")]), ..legal },
        ] {
            assert!(parse(illegal.clone()).is_err(), "{illegal:?}");
        }
    }

    #[test]
    fn runs_are_named_by_their_ids_and_statuses_by_dagsters_names() {
        let parse = |kind| Dagster::try_from(wire::DagsterAction { kind: Some(kind) });
        let runs = |status: &str, limit| {
            kind::Kind::Runs(wire::DagsterRuns { statuses: vec![status.into()], job: String::new(), limit })
        };
        assert!(parse(runs("FAILURE", 1)).is_ok());
        assert!(parse(runs("failed", 1)).is_err() && parse(runs("FAILURE", 0)).is_err());
        let show = |run_id: &str, watch, deadline_seconds| {
            parse(kind::Kind::ShowRun(wire::DagsterShowRun { run_id: run_id.into(), watch, deadline_seconds }))
        };
        let id = "0190c3a2-7c1e-7b5e-9a53-3f1d9a6a1c11";
        assert!(show(id, false, 0).is_ok() && show(id, true, 60).is_ok());
        assert!(show(id, false, 60).is_err() && show(id, true, 0).is_err() && show("last", false, 0).is_err());
    }
}
