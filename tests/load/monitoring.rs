//! What watching a region costs its hub: LAs catch up with usage, then report as on a working day while somebody has the
//! fleet's page open and Prometheus scrapes. Idle is the same hub with the same store and no LA connected.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use sfdata_common::{
    Timestamp, limits,
    peer::Subject,
    tls::{self, Knows},
    usage::Hour,
};
use sfdata_tests::{process::get, web::Viewer};
use tokio::time::{interval, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::body::Body;

use crate::{
    estate::{Estate, TRUST_DOMAIN},
    hub::{self, Hub},
    numbers::{Latencies, ms, say, show},
    operator::Operator,
    process,
    region::{self, Region, Reporting},
};

/// After a start, and after many have connected, until memory is looked at.
const SETTLE: Duration = Duration::from_secs(15);
/// Over which a hub is watched that does nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Prometheus' own default is a minute; this is what busy sites choose.
const SCRAPE: Duration = Duration::from_secs(15);
/// Somebody loads the page anew, beside the one who leaves it open.
const RELOAD: Duration = Duration::from_secs(60);
const MEMORY: Duration = Duration::from_secs(1);
const PAGES: usize = 500;
const LISTS: usize = 50;
const CHANGES: usize = 40;
/// Changes fall anywhere between two lists of an open page.
const BETWEEN: Duration = Duration::from_millis(700);
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(clap::Args)]
pub(crate) struct Asked {
    /// LAs of the region
    #[arg(long, default_value_t = 320)]
    las: usize,
    /// Seconds over which full reporting is watched
    #[arg(long, default_value_t = 180)]
    seconds: u64,
}

/// All of it, on a hub of its own below `folder`.
pub(crate) async fn measure(folder: &Path, asked: &Asked) -> Result<()> {
    say(format_args!("making keys and certificates of {} LAs ...", asked.las));
    let estate = Estate::new(folder, asked.las.clamp(2, limits::TARGETS_PER_COMMAND)).await?;
    let mut region = Region::new(&estate)?;
    catch_up(&estate, &mut region).await?;

    let hub = Hub::start(&estate).await?;
    sleep(SETTLE).await;
    let (idle_cpu, idle) = (cpu_percent(&hub, IDLE).await?, process::resident(hub.pid())?);
    show("idle_cpu_percent", format_args!("{idle_cpu:.2}"));
    show("idle_rss_mib", format_args!("{:.1}", mib(idle)));
    let hubctl = Hubctl::join(&estate).await?;
    region.connect(&estate).await?;
    sleep(SETTLE).await;
    let connected = process::resident(hub.pid())?;
    show("connected_rss_mib", format_args!("{:.1}", mib(connected)));

    let viewer = viewer(&estate)?;
    let reporting = region.report();
    let scraping = AbortOnDropHandle::new(tokio::spawn(scrape(estate.ops)));
    let first = load(&viewer, "/ui/").await?;
    show("fleet_page_first_ms", ms(first.time));
    let open = Open::new(&viewer).await?;
    sleep(SETTLE).await;
    let bytes = region::report_bytes();
    say(format_args!("{} LAs report, {bytes} bytes each, for {} s ...", asked.las, asked.seconds));
    let (cpu, peak) = watch(&hub, &viewer, Duration::from_secs(asked.seconds)).await?;
    show("reporting_cpu_percent", format_args!("{cpu:.2}"));
    show("reporting_rss_mib", format_args!("{:.1}", mib(peak.saturating_sub(idle))));
    show("reporting_over_connected_rss_mib", format_args!("{:.1}", mib(peak.saturating_sub(connected))));

    fleet_page(&viewer).await?;
    state_changes(&reporting, open).await?;
    hubctl.agents_list(estate.agents.len()).await?;
    drop(scraping);
    reporting.end().await
}

async fn catch_up(estate: &Estate, region: &mut Region) -> Result<()> {
    let hub = Hub::start(estate).await?;
    region.connect(estate).await?;
    say(format_args!("all LAs tell what they used in 35 days ..."));
    let before = process::cpu(hub.pid())?;
    let told = region.catch_up().await?;
    let cpu = process::cpu(hub.pid())? - before;
    region.disconnect();
    let records = told.records as f64;
    show("usage_records", told.records);
    show("usage_records_per_s", format_args!("{:.0}", records / told.time.as_secs_f64()));
    show("hub_cpu_per_usage_record_us", format_args!("{:.1}", cpu.as_secs_f64() * 1e6 / records));
    hub.kill()?; // what was confirmed is durable
    let hub = Hub::start(estate).await?;
    let today = Hour::of(Timestamp::now()).day();
    let kept = Operator::new(estate)?.usage(today - 36, today + 1).await?;
    let hours = told.awake as f64 / 3600.0;
    ensure!((kept.awake_hours - hours).abs() < 1e-6 * hours, "{hours} h were told, {} h are kept", kept.awake_hours);
    hub.kill()
}

/// Of one core, over so long.
async fn cpu_percent(hub: &Hub, time: Duration) -> Result<f64> {
    let (before, began) = (process::cpu(hub.pid())?, Instant::now());
    sleep(time).await;
    Ok(100.0 * (process::cpu(hub.pid())? - before).div_duration_f64(began.elapsed()))
}

/// CPU in percent of one core, and the most memory, while somebody loads the page now and then.
async fn watch(hub: &Hub, viewer: &Viewer, time: Duration) -> Result<(f64, u64)> {
    let looking = async {
        let (mut looks, mut loads, mut most) = (interval(MEMORY), interval(RELOAD), 0);
        let began = Instant::now();
        while began.elapsed() < time {
            tokio::select! {
                _ = looks.tick() => most = most.max(process::resident(hub.pid())?),
                _ = loads.tick() => {
                    load(viewer, "/ui/").await?;
                }
            }
        }
        Ok::<_, anyhow::Error>(most)
    };
    let (cpu, most) = tokio::try_join!(cpu_percent(hub, time), looking)?;
    Ok((cpu, most))
}

async fn scrape(ops: SocketAddr) {
    let mut turns = interval(SCRAPE);
    loop {
        turns.tick().await;
        let _ = get(ops, "/metrics").await;
    }
}

fn viewer(estate: &Estate) -> Result<Viewer> {
    let certificate = estate.certificate(&Subject::Operator(estate.operator.clone()))?;
    let cas = &estate.bundle.ca_certificates;
    let tls = tls::client(Some(&certificate), Knows::Cas { certificates: cas, trust_domain: TRUST_DOMAIN })?;
    Ok(Viewer::new(&estate.address.to_string(), Arc::new(ArcSwap::new(tls))))
}

struct Loaded {
    /// From the request to the last byte: the hub's time, and what it takes to get there and back on this machine.
    time: Duration,
    /// As it was sent, with its head in plain.
    bytes: usize,
}

/// Load as a browser does.
async fn load(viewer: &Viewer, path: &str) -> Result<Loaded> {
    let began = Instant::now();
    let answer = viewer.ask(Method::GET, path, true).await?;
    let time = began.elapsed();
    ensure!(answer.status == StatusCode::OK, "{path}: {}", answer.status);
    let head: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    Ok(Loaded { time, bytes: head + answer.body.len() })
}

async fn fleet_page(viewer: &Viewer) -> Result<()> {
    say(format_args!("the fleet's page, {PAGES} times ..."));
    let (mut times, mut page) = (Vec::with_capacity(PAGES), 0);
    for _ in 0..PAGES {
        let loaded = load(viewer, "/ui/").await?;
        times.push(loaded.time);
        page = page.max(loaded.bytes);
    }
    let times = Latencies::new(times);
    let assets = load(viewer, "/ui/style.css").await?.bytes + load(viewer, "/ui/live.js").await?.bytes;
    show("fleet_page_p50_ms", ms(times.p50()));
    show("fleet_page_p99_ms", ms(times.p99()));
    show("fleet_page_kib", format_args!("{:.1}", (page + assets) as f64 / 1024.0));
    Ok(())
}

/// An open fleet's page: reads what changes, and forgets it until somebody asks.
struct Open {
    reading: AbortOnDropHandle<Result<Body>>,
    stop: CancellationToken,
}

impl Open {
    async fn new(viewer: &Viewer) -> Result<Self> {
        let mut body = viewer.open(Method::GET, "/ui/live", true).await?.into_body();
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let reading = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = asked.cancelled() => return Ok(body),
                    frame = body.frame() => drop(frame.context("the page's events ended")??),
                }
            }
        });
        Ok(Self { reading: AbortOnDropHandle::new(reading), stop })
    }

    async fn body(self) -> Result<Body> {
        self.stop.cancel();
        self.reading.await?
    }
}

/// From an agent's word to the event that replaces the LA's row.
async fn state_changes(reporting: &Reporting, open: Open) -> Result<()> {
    say(format_args!("an LA wakes, {CHANGES} times ..."));
    let (mut body, mut times) = (open.body().await?, Vec::with_capacity(CHANGES));
    for number in 0..CHANGES {
        let cause = format!("check-{number}.");
        let pause = BETWEEN.mul_f64(fastrand::f64());
        let _: Result<_, _> = timeout(pause, until(&mut body, "\0")).await; // reads on
        let began = Instant::now();
        reporting.wake(1, &cause).await?;
        let text = format!("awake for {cause}");
        timeout(SHOWN_WITHIN, until(&mut body, &text)).await.context("a change is not shown")??;
        times.push(began.elapsed());
    }
    let times = Latencies::new(times);
    show("state_change_p50_ms", ms(times.p50()));
    show("state_change_slowest_ms", ms(times.at(1.0)));
    Ok(())
}

/// Read until the page is told this.
async fn until(body: &mut Body, text: &str) -> Result<()> {
    let mut read = Vec::new();
    loop {
        let frame = body.frame().await.context("the page's events ended")??;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(());
        }
    }
}

/// The real hubctl of the operator.
struct Hubctl {
    home: PathBuf,
}

impl Hubctl {
    async fn join(estate: &Estate) -> Result<Self> {
        let this = Self { home: estate.folder().join("hubctl") };
        let token = estate.operator_token.clone().into();
        this.run(&["login".into(), token, "--signing-key".into(), estate.operator_key_file().into()]).await?;
        Ok(this)
    }

    /// From its start to its end.
    async fn run(&self, words: &[OsString]) -> Result<(Duration, Vec<u8>)> {
        let mut command = Command::new(hub::beside("hubctl")?);
        command.arg("--home").arg(&self.home).args(words);
        let ran = move || {
            let began = Instant::now();
            command.output().map(|output| (began.elapsed(), output))
        };
        let (time, output) = tokio::task::spawn_blocking(ran).await??;
        ensure!(output.status.success(), "hubctl: {}", String::from_utf8_lossy(&output.stderr));
        Ok((time, output.stdout))
    }

    async fn agents_list(&self, agents: usize) -> Result<()> {
        say(format_args!("hubctl agents list, {LISTS} times ..."));
        let mut times = Vec::with_capacity(LISTS);
        for _ in 0..LISTS {
            let (time, out) = self.run(&["agents".into(), "list".into()]).await?;
            let lines = String::from_utf8_lossy(&out).lines().count();
            ensure!(lines > agents, "hubctl lists {lines} lines");
            times.push(time);
        }
        let times = Latencies::new(times);
        show("agents_list_ms", ms(times.p50()));
        show("agents_list_slowest_ms", ms(times.at(1.0)));
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
