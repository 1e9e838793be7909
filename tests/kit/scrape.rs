//! A page of metrics, read as strictly as Prometheus's own tools do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::get;

/// What was read.
#[derive(Debug)]
pub struct Page {
    /// As it came.
    pub text: String,
    /// Values by name and labels, as they stand on the page.
    samples: BTreeMap<String, f64>,
}

impl Page {
    /// What this listener serves under `/metrics`.
    pub async fn of(ops: SocketAddr) -> Result<Self> {
        let (status, text) = get(ops, "/metrics").await.with_context(|| format!("nobody answers at {ops}"))?;
        ensure!(status == 200, "/metrics answers {status}");
        Self::read(text)
    }

    /// The value of `sample`: a name, with its labels where there are some.
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// The sum over all samples of a name that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let of = |sample: &str| {
            sample.split('{').next() == Some(name) && labels.iter().all(|label| sample.contains(label.as_str()))
        };
        self.samples.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| value).sum()
    }

    /// Every sample belongs to the family that is declared before it, and each is there once.
    fn read(text: String) -> Result<Self> {
        let (mut family, mut kind) = (String::new(), String::new());
        let (mut samples, mut declared, mut helped) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, of) = of.split_once(' ').with_context(|| line.to_owned())?;
                ensure!(["counter", "gauge", "histogram"].contains(&of), "{line}: no such type");
                ensure!((of == "counter") == name.ends_with("_total"), "{line}: counters alone end in _total");
                ensure!(helped.contains(name), "{line}: without help");
                ensure!(declared.insert(name.to_owned()), "{line}: declared twice");
                (family, kind) = (name.to_owned(), of.to_owned());
            } else if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').with_context(|| line.to_owned())?;
                ensure!(!help.is_empty(), "{line}: says nothing");
                helped.insert(name.to_owned());
            } else {
                let (sample, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
                let name = sample.split('{').next().unwrap_or_default();
                let Some(suffix) = name.strip_prefix(&family) else { bail!("{line}: is not of {family}") };
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                ensure!(suffixes.contains(&suffix), "{line}: is not of {family}");
                let before = samples.insert(sample.to_owned(), value.parse().with_context(|| line.to_owned())?);
                ensure!(before.is_none(), "{line}: is there twice");
            }
        }
        Ok(Self { text, samples })
    }

    /// What `promtool check metrics` finds wrong; an error where there is none, installed or fetched by `tests/run`.
    pub fn promtool(&self) -> Result<Option<String>> {
        let fetched = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tools/usr/bin/promtool");
        let program = if fetched.exists() { fetched } else { PathBuf::from("promtool") };
        let started =
            Command::new(program).args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child =
            started.context("promtool is missing: let tests/run fetch it, or on Debian: apt install prometheus")?;
        child.stdin.take().context("a pipe")?.write_all(self.text.as_bytes())?;
        let ended = child.wait_with_output()?;
        Ok(Some(String::from_utf8_lossy(&ended.stderr).into_owned()).filter(|_| !ended.status.success()))
    }
}
