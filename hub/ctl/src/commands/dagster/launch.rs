//! `hubctl dagster launch`, `retry`: runs that are made, once for each command whatever happens.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use sfdata_common::command::{self, Action};

use crate::{
    cli::Context,
    exit::{Exit, Usage},
    order::Change,
};

/// What the estate's pipelines tell their runs apart by.
const DATASET: &str = "dataset";

/// Launch a job
///
/// Its run gets the tag sfdata/command. Configuration and tags are signed, kept and shown in the clear: no secrets, and no
/// data of the LA's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl dagster launch clean --dataset ssda903 --wait --agent northshire
  hubctl dagster launch clean --tag dataset=cin --config run.json --group pilot --plan")]
pub(crate) struct Launch {
    /// Name of the job
    job: String,
    /// Tag dataset=NAME of the run
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Tag of the run; repeatable
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// File with the run configuration, a JSON object
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Code location that defines the job, where several do
    #[arg(long, value_name = "NAME")]
    location: Option<String>,
    /// Repository of it, likewise
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Succeed only when the run has: another end is told as run-failed. The run goes on after --timeout
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    change: Change,
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Launch {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let all: Vec<_> = self.tags.into_iter().chain(self.dataset.map(|name| (DATASET.to_owned(), name))).collect();
        let count = all.len();
        let tags: BTreeMap<String, String> = all.into_iter().collect();
        if tags.len() < count {
            return Err(Usage("a tag is given twice".into()).into());
        }
        let config = match self.config {
            Some(path) => {
                let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let object: serde_json::Map<_, _> = serde_json::from_str(&text)
                    .map_err(|error| Usage(format!("{} is no JSON object: {error}", path.display())))?;
                Some(serde_json::Value::Object(object).to_string())
            }
            None => None,
        };
        let action = command::Dagster::Launch(command::Launch {
            job: self.job,
            location: self.location,
            repository: self.repository,
            config,
            tags: tags.into_iter().collect(),
            wait: self.wait,
            deadline: self.change.order.deadline(),
        });
        self.change.run(context, Action::Dagster(action)).await
    }
}

/// Run again what failed of a run, and what comes after it, as a run of its own
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl dagster retry 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0 --wait --agent northshire")]
pub(crate) struct Retry {
    /// Id of the run that failed or was canceled
    #[arg(value_name = "RUN")]
    run: String,
    /// Succeed only when the new run has
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    change: Change,
}

impl Retry {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        let action = command::Dagster::Reexecute { run: self.run, wait: self.wait, deadline };
        self.change.run(context, Action::Dagster(action)).await
    }
}
