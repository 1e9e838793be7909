//! The real binaries as child processes, to be stopped in order or killed at any instant.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    eventually,
    fleet::{Fleet, binary},
    settings::write_hub,
};

/// Within this a binary of ours starts, refuses to, or drains.
const SOON: Duration = Duration::from_secs(30);

/// One child; killed when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Start `name` of this workspace with `args`; what it logs goes to `log`.
    pub fn start(name: &str, args: &[&str], log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new(binary(name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}; build the whole workspace first: cargo build --workspace"))?;
        Ok(Self { child })
    }

    /// `kill -9`, and wait until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Run `name` of this workspace to its end: how it ended, what it printed, and what it said on stderr.
pub async fn outcome(name: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary(name));
    command.args(args).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread");
    let ran = ran.expect("it starts: build the programs first, cargo build --workspace");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

/// A child with a log of its own.
pub struct Run {
    /// It.
    pub process: Process,
    /// What it prints and logs.
    pub log: PathBuf,
}

impl Run {
    /// Start `name` of this workspace, or another program by its whole path; its log goes into `folder`.
    pub fn start(name: &str, args: &[&str], folder: &Path) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let log = folder.join(format!("run-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)));
        Self { process: Process::start(name, args, &log).expect("it starts"), log }
    }

    /// What it has printed and logged.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Wait for its end.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let log = self.log.display().to_string();
        let status = eventually(&format!("it ends; see {log}"), SOON, async || self.process.ended()).await;
        (status, self.said())
    }

    /// It ended in failure and told all of this.
    pub async fn refuses(self, words: &[&str]) {
        let (status, said) = self.ended().await;
        assert_eq!(status.code(), Some(1), "{said}");
        for word in words {
            assert!(said.contains(word), "not told: {word}\n{said}");
        }
    }
}

/// The real hub in place of a fleet's own, ready.
pub async fn real_hub(fleet: &mut Fleet) -> Run {
    fleet.stop_hub().await;
    let file = write_hub(&fleet.hub_config, &fleet.folder.path().join("hub.toml")).expect("a configuration");
    let run = Run::start("sfdata-hub", &["--config", &file.display().to_string(), "run"], fleet.folder.path());
    ready(fleet.hub_config.listen.ops).await;
    run
}

/// Wait until a hub says that it is ready.
pub async fn ready(ops: SocketAddr) {
    eventually("the hub is ready", SOON, async || get(ops, "/readyz").await.filter(|(status, _)| *status == 200)).await;
}

/// Ask a hub's operations listener: status and body, if it answers.
pub async fn get(ops: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(ops).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
