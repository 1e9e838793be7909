//! Floods at a real hub, from outside and with valid certificates, while a hundred agents work.
//!
//! During each flood commands go on; every agent stays connected; the hub's memory stays within what its limits add up to; and
//! afterwards its file descriptors are given back. Attackers are processes of the lowest priority, so that what is measured is
//! what they do to the hub and not how they compete with it for two cores.

pub(super) mod attacker;
mod kinds;
mod patient;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use sfdata_common::{
    Timestamp,
    ids::AgentId,
    limits,
    peer::Subject,
    tls::{self, TlsKey},
};
use tokio::time::{sleep, timeout};

use self::kinds::Kind;
use crate::{
    estate::Estate,
    fleet::Fleet,
    hub::Hub,
    numbers::{Latencies, ms, say, show},
    operator::Operator,
    process,
};

const MIB: u64 = 1024 * 1024;
const AGENTS: usize = 100;
/// Commands are measured so long without a flood.
const QUIET: Duration = Duration::from_secs(3);
/// During a flood the slowest hundredth of commands may take so many times as long as without ...
const TIMES: u32 = 3;
/// ... or so long, whichever is more: below that the scheduler of a machine with two cores, which runs hub, agents and attacker,
/// makes such differences by itself. A hub that a flood keeps from its work answers after the flood, which is longer. Without
/// optimization a flood costs the hub many times as much.
const UNNOTICED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 250 });
/// So a flood lasts so long at least.
const LEAST: u64 = 2;
/// A command that takes so long has failed.
const LOST: Duration = Duration::from_secs(20);
/// After a flood, descriptors are given back within this: the enrolment listener ends what is left after a minute, but the
/// attacker's end of each connection is gone by then.
const GIVEN_BACK: Duration = Duration::from_secs(20);
/// Descriptors that come and go by themselves.
const FEW: usize = 8;
/// What an open stream costs beside its head: the task of its request, and HTTP/2's own book.
const STREAM: u64 = 34 * 1024;
/// What an open connection costs: TLS and HTTP/2 (tests/load: 43 KiB an agent, whose stream is open).
const CONNECTION: u64 = 64 * 1024;
/// What the hub itself does meanwhile: commands of a run, their events and the audit record, and the allocator's rests.
const OWN: u64 = 48 * MIB;

/// Who floods, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Without a certificate, at the enrolment listener.
    Anybody,
    /// Without a certificate, at the authenticated listener.
    Nobody,
    /// With an agent's certificate.
    Agent,
    /// With the certificate of an operator who may only look.
    Viewer,
}

impl Who {
    const ALL: [Self; 4] = [Self::Anybody, Self::Nobody, Self::Agent, Self::Viewer];

    fn name(self) -> &'static str {
        match self {
            Self::Anybody => "enrolment",
            Self::Nobody => "nobody",
            Self::Agent => "agent",
            Self::Viewer => "viewer",
        }
    }

    /// A method that it may name, and whose message is read before anything is decided.
    fn path(self) -> &'static str {
        match self {
            Self::Anybody => "/sfdata.v1.EnrolService/Enrol",
            Self::Nobody | Self::Viewer => "/sfdata.v1.OperatorService/Submit",
            Self::Agent => "/sfdata.v1.LinkService/Connect",
        }
    }

    /// Whether this flood is one that it can send: without a certificate no frame gets to the authenticated listener, and
    /// with one nobody does what needs none.
    fn can(self, kind: Kind) -> bool {
        match self {
            Self::Anybody => true,
            Self::Nobody => kind.is_before_tls() || kind == Kind::Handshakes,
            Self::Agent | Self::Viewer => !kind.is_before_tls(),
        }
    }
}

/// What the hub may take in memory under this flood, by its limits.
fn bound() -> u64 {
    let streams = u64::from(limits::STREAMS_PER_CONNECTION) * (u64::from(limits::HEADER_LIST_BYTES) + STREAM);
    let of_frames = attacker::CONNECTIONS as u64 * (CONNECTION + u64::from(limits::CONNECTION_WINDOW) + streams);
    let held = limits::CONNECTIONS_PER_SUBJECT as u64 * CONNECTION;
    let handshakes = limits::HANDSHAKES as u64 * CONNECTION;
    OWN + limits::UNFINISHED_BYTES as u64 + of_frames + held + handshakes
}

struct Scene {
    estate: Estate,
    hub: Hub,
    fleet: Fleet,
    operator: Operator,
    targets: Vec<AgentId>,
    quiet: Latencies,
    resident: u64,
    descriptors: usize,
    seconds: u64,
}

/// Send every flood whose name begins with `only`.
pub(super) async fn all(folder: &Path, time: Duration, only: &str) -> Result<()> {
    let estate = Estate::new(folder, AGENTS + 1).await?;
    let hub = Hub::start(&estate).await?;
    let mut fleet = Fleet::new(&estate).await?;
    fleet.connect(&estate, 0..AGENTS).await?;
    let operator = Operator::new(&estate)?;
    let targets = fleet.ids(0..AGENTS);
    fs::write(estate.folder().join("ca.pem"), tls::certificates_to_pem(&estate.bundle.ca_certificates))?;
    let attacker = estate.agents.get(AGENTS).context("no agent for the attacker")?.clone();
    identity(&estate, Who::Agent, &Subject::Agent(attacker))?;
    identity(&estate, Who::Viewer, &Subject::Operator(estate.viewer.clone()))?;

    let done = AtomicBool::new(false);
    let quiet = async {
        sleep(QUIET).await;
        done.store(true, Relaxed);
    };
    let (quiet, ()) = tokio::join!(commands(&operator, &targets, &done), quiet);
    let quiet = quiet?;
    show("quiet_p50_ms", ms(quiet.p50()));
    show("quiet_p99_ms", ms(quiet.p99()));
    let (resident, descriptors) = (process::resident(hub.pid())?, open_files(hub.pid())?);
    show("quiet_mib", resident / MIB);
    show("memory_bound_mib", (resident + bound()) / MIB);
    show("p99_bound_ms", ms((quiet.p99() * TIMES).max(UNNOTICED)));
    let scene = Scene {
        estate,
        hub,
        fleet,
        operator,
        targets,
        quiet,
        resident,
        descriptors,
        seconds: time.as_secs().max(LEAST),
    };

    let mut findings = Vec::new();
    let mut floods = 0;
    for who in Who::ALL {
        for kind in Kind::value_variants() {
            let name = format!("{}_{}", who.name(), kind.name());
            if who.can(*kind) && name.starts_with(only) {
                floods += 1;
                if let Err(error) = Box::pin(scene.flood(who, *kind, &name)).await {
                    say(format_args!("FINDING in flood {name}: {error:#}"));
                    findings.push(name);
                }
            }
        }
    }
    ensure!(floods > 0, "no flood's name begins with {only}");
    show("floods", floods);
    show("flood_findings", findings.len());
    ensure!(findings.is_empty(), "findings in {} of {floods} floods: {}", findings.len(), findings.join(", "));
    Ok(())
}

/// A certificate and its key in a file, for the attacker.
fn identity(estate: &Estate, who: Who, subject: &Subject) -> Result<()> {
    let key = TlsKey::generate()?;
    let chain = estate.authority.issue(&key.request()?, subject, limits::AGENT_CERTIFICATE, Timestamp::now())?;
    let text = format!("{}{}", key.to_pem().as_str(), tls::certificates_to_pem(&chain));
    Ok(fs::write(identity_file(estate, who), text)?)
}

fn identity_file(estate: &Estate, who: Who) -> PathBuf {
    estate.folder().join(format!("{}.pem", who.name()))
}

/// Commands one after the other, each to another agent, until that is `done`.
async fn commands(operator: &Operator, targets: &[AgentId], done: &AtomicBool) -> Result<Latencies> {
    let mut all = Vec::new();
    for target in targets.iter().cycle() {
        if done.load(Relaxed) && !all.is_empty() {
            break;
        }
        let one = timeout(LOST, operator.order(vec![target.clone()])).await;
        all.push(one.with_context(|| format!("a command took more than {LOST:?}"))??);
    }
    Ok(Latencies::new(all))
}

fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

impl Scene {
    fn target(&self, who: Who) -> SocketAddr {
        if who == Who::Anybody { self.estate.enrol } else { self.estate.address }
    }

    async fn flood(&self, who: Who, kind: Kind, name: &str) -> Result<()> {
        let watched = self.fleet.watch(0..AGENTS);
        let done = AtomicBool::new(false);
        let most = AtomicU64::new(0);
        let attack = async {
            let told = self.attack(who, kind).await;
            done.store(true, Relaxed);
            told
        };
        let look = async {
            while !done.load(Relaxed) {
                most.fetch_max(process::resident(self.hub.pid())?, Relaxed);
                sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        let (told, commands, looked) = tokio::join!(attack, commands(&self.operator, &self.targets, &done), look);
        let (told, latencies) = (told?, commands?);
        looked.context("the hub is gone")?;
        let most = most.into_inner();
        show(&format!("flood_{name}_p99_ms"), ms(latencies.p99()));
        show(&format!("flood_{name}_mib"), most / MIB);
        let rates: BTreeMap<&str, u64> = told
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(what, value)| Some((what, value.parse().ok()?)))
            .collect();
        let rate = |what: &str| rates.get(what).copied().unwrap_or_default();
        for (what, value) in &rates {
            show(&format!("flood_{name}_{what}_per_s"), value);
        }
        if kind == Kind::Handshakes && who == Who::Agent {
            show("handshakes_offered_per_s", rate("offered"));
            show("handshakes_done_per_s", rate("opened"));
            // Those that ended without having been done.
            show("handshakes_shed_per_s", rate("cut").saturating_sub(rate("opened")));
        }

        let lost = watched.iter().filter(|status| status.has_changed().unwrap_or(true)).count();
        ensure!(lost == 0, "{lost} of {AGENTS} agents lost their link");
        let slowest = (self.quiet.p99() * TIMES).max(UNNOTICED);
        let p99 = latencies.p99();
        ensure!(p99 <= slowest, "the p99 of commands was {p99:?}; at most {slowest:?} (quiet: {:?})", self.quiet.p99());
        let bound = self.resident + bound();
        ensure!(most <= bound, "the hub had {} MiB; its limits add up to {}", most / MIB, bound / MIB);
        let began = Instant::now();
        loop {
            let open = open_files(self.hub.pid())?;
            if open <= self.descriptors + FEW {
                break Ok(());
            }
            if began.elapsed() > GIVEN_BACK {
                bail!("{open} descriptors are open after {GIVEN_BACK:?}; before it were {}", self.descriptors);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The flood, from a process of the lowest priority; what it says.
    async fn attack(&self, who: Who, kind: Kind) -> Result<String> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?).args(["attack", "flood"]);
        command.arg(kind.name().replace('_', "-")).arg("--ca").arg(self.estate.folder().join("ca.pem"));
        command.args(["--target", &self.target(who).to_string(), "--path", who.path()]);
        command.args(["--seconds", &self.seconds.to_string()]);
        if matches!(who, Who::Agent | Who::Viewer) {
            command.arg("--identity").arg(identity_file(&self.estate, who));
        }
        let within = Duration::from_secs(self.seconds) + LOST;
        let output = process::finish(command, within).await?.context("the attacker hangs")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the attacker failed: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}
