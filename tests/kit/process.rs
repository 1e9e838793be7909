//! The real binaries as child processes, to be stopped in order or killed at any instant.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};

use crate::fleet::binary;

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
