//! Broken input for everything that reads what others wrote: one process a target, so that an overflow of the stack or an
//! abort is a finding and not the end of the bench.
//!
//! The search is guided by what became of an input: each target names it (let in, or the name of the refusal), and an input
//! with a new name is kept and changed further. That needs no compiler but the stable one. Inputs that were kept are under
//! `corpus/TARGET`; each run begins with them.

mod engine;
mod mutate;
pub(super) mod signed;
mod stored;
mod targets;
mod texts;
mod tokens;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use futures::StreamExt as _;

use self::targets::TARGETS;
use crate::{
    numbers::{say, show},
    process::finish,
};

/// Beyond the time that it was given, a target that still runs hangs.
const GRACE: Duration = Duration::from_secs(30);
/// Where inputs that did harm are left.
const FINDINGS: &str = "target/attack/findings";
/// Where inputs that are worth keeping are; from the root of the repository.
const CORPUS: &str = "tests/attack/corpus";

/// How long, how, and which.
#[derive(Args)]
pub(crate) struct Asked {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Begin of the random numbers; the same seed and corpus give the same inputs
    #[arg(long, default_value_t = 20_261_130)]
    seed: u64,
    /// Put inputs with a new result into the corpus
    #[arg(long)]
    keep: bool,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
}

/// One target, in this process.
#[derive(Args)]
pub(crate) struct One {
    name: String,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    keep: bool,
}

/// Attack every target, as many at once as there are cores.
pub(crate) async fn all(asked: &Asked) -> Result<()> {
    ensure!(Path::new(CORPUS).is_dir(), "{CORPUS} is not here: start it from the root of the repository");
    let names: HashSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    ensure!(names.len() == TARGETS.len(), "two targets have one name");
    let wanted = |name: &str| asked.target.as_ref().is_none_or(|target| target == name);
    let chosen: Vec<&str> = TARGETS.iter().map(|target| target.name).filter(|name| wanted(name)).collect();
    if chosen.is_empty() {
        bail!("there is no such target; there are {}", TARGETS.map(|target| target.name).join(", "));
    }
    fs::create_dir_all(FINDINGS)?;
    let cores = std::thread::available_parallelism()?.get();
    let results: Vec<Result<u64>> =
        futures::stream::iter(&chosen).map(|name| apart(name, asked)).buffered(cores).collect().await;
    let mut runs = 0;
    let mut findings = 0;
    for (name, result) in chosen.iter().zip(results) {
        match result {
            Ok(more) => runs += more,
            Err(error) => {
                findings += 1;
                say(format_args!("FINDING in {name}: {error:#}"));
            }
        }
    }
    show("fuzz_targets", chosen.len());
    show("fuzz_seconds_each", asked.seconds);
    show("fuzz_runs", runs);
    show("fuzz_findings", findings);
    ensure!(findings == 0, "{findings} of {} targets have findings; inputs are in {FINDINGS}", chosen.len());
    Ok(())
}

/// One target in a process of its own; gives the number of inputs.
async fn apart(name: &str, asked: &Asked) -> Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["attack", "fuzz-target", name, "--seconds", &asked.seconds.to_string()]);
    command.args(["--seed", &asked.seed.to_string()]).args(asked.keep.then_some("--keep"));
    let input = current(name);
    let kept = || {
        let finding = Path::new(FINDINGS).join(name);
        fs::copy(&input, &finding).map_or_else(|_| "which is lost".to_owned(), |_| finding.display().to_string())
    };
    let Some(output) = finish(command, Duration::from_secs(asked.seconds) + GRACE).await? else {
        bail!("it hangs; its input: {}", kept());
    };
    let (said, told) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        let tail: Vec<&str> = said.lines().rev().take(6).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{}: {}; its input: {}", output.status, tail.join(" | "), kept());
    }
    let (runs, kinds) = told.trim().split_once(' ').context("it does not say what it did")?;
    show(&format!("fuzz_{name}"), format!("{runs} inputs, {kinds} results"));
    Ok(runs.parse()?)
}

/// Where a target keeps the input that it is at: what is there when it dies, killed it.
fn current(name: &str) -> PathBuf {
    Path::new(FINDINGS).with_file_name(format!("now-{name}"))
}

/// Attack one target here.
pub(crate) fn one(one: &One) -> Result<()> {
    let target = TARGETS.iter().find(|target| target.name == one.name).context("there is no such target")?;
    let corpus = Path::new(CORPUS).join(target.name);
    let current = current(target.name);
    let search = engine::Search {
        target,
        corpus: &corpus,
        current: &current,
        time: Duration::from_secs(one.seconds),
        seed: one.seed,
        keep: one.keep,
    };
    // On a thread of its own: some targets have a runtime, and within one none can be entered.
    let searched = std::thread::scope(|scope| scope.spawn(|| engine::search(&search)).join());
    let done = searched.map_err(|_| anyhow::anyhow!("the search itself panicked"))??;
    let told = format!("{} {}\n", done.runs, done.kinds);
    std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes())?;
    Ok(())
}
