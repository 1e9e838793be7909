//! What the kernel knows of a process: memory and CPU time, from /proc.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// The kernel counts CPU time in these (`USER_HZ`, which is 100 on every Linux that Rust runs on).
const TICK: Duration = Duration::from_millis(10);

/// Resident memory, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// CPU time used so far, in user and kernel mode, by all threads.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, in brackets, may hold anything (proc(5)).
    let (_, rest) = text.rsplit_once(')').context("no process name")?;
    let ticks: Vec<u32> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}

/// Run a program to its end; `None` when it took longer than that, and was killed.
pub(crate) async fn finish(mut command: Command, within: Duration) -> Result<Option<Output>> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let pid = rustix::process::Pid::from_child(&child);
    let mut ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    match tokio::time::timeout(within, &mut ended).await {
        Ok(ended) => Ok(Some(ended??)),
        Err(_) => {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            ended.await??;
            Ok(None)
        }
    }
}
