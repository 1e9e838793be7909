//! The hub under test: the real `sfdata-hub run`, a process of its own.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use crate::estate::Estate;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A hub that runs; killed when dropped.
pub(crate) struct Hub {
    child: Child,
    /// When it was started.
    pub(crate) began: Instant,
}

impl Hub {
    /// Start it on the estate's folder and wait until it is ready.
    pub(crate) async fn start(estate: &Estate) -> Result<Self> {
        let log_path = estate.folder().join("hub.log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
        let began = Instant::now();
        let child = Command::new(beside("sfdata-hub")?)
            .arg("--config")
            .arg(&estate.config)
            .arg("run")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start sfdata-hub")?;
        let mut hub = Self { child, began };
        while !is_ready(estate) {
            if began.elapsed() > READY_WITHIN || hub.child.try_wait()?.is_some() {
                bail!("the hub is not ready; its log:\n{}", std::fs::read_to_string(&log_path)?);
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(hub)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// End it as a power cut would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(estate: &Estate) -> bool {
    let ask = || {
        let mut tcp = TcpStream::connect(estate.ops)?;
        tcp.set_read_timeout(Some(Duration::from_secs(1)))?;
        tcp.write_all(b"GET /readyz HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The real agent, `sfdata-agent run`; killed when dropped.
pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    /// Start the agent that has joined from `data_dir`. AWS is nowhere: it looks, fails, and goes on.
    pub(crate) fn start(estate: &Estate, data_dir: &Path) -> Result<Self> {
        let config = estate.folder().join("agent.toml");
        let text = format!(
            "data_dir = {data_dir:?}\n[aws]\nregion = \"eu-west-2\"\nendpoint_url = \"http://127.0.0.1:9\"\n\
             [platform]\ncluster = \"load\"\nwebserver = \"webserver\"\ndaemon = \"daemon\"\n"
        );
        std::fs::write(&config, text)?;
        let log = File::create(estate.folder().join("agent.log"))?;
        let mut command = Command::new(beside("sfdata-agent")?);
        command.arg("--config").arg(&config).arg("run").stdin(Stdio::null()).stderr(log);
        // Credentials that are none: without them the SDK would ask the instance for some.
        command.env("AWS_ACCESS_KEY_ID", "none").env("AWS_SECRET_ACCESS_KEY", "none");
        Ok(Self { child: command.spawn().context("cannot start sfdata-agent")? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary of the same build.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join(name);
    if !path.exists() {
        bail!("{} is missing; tests/load/run builds it", path.display());
    }
    Ok(path)
}
