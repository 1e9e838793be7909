//! The measures, each a story: who is connected, what is ordered, what is told. Whatever is compared with the bare signed
//! stream is measured in turns with it, three rounds, and the median of the rounds' ratios counts: the
//! machine's own speed varies more from minute to minute than either side does.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use sfdata_common::{Timestamp, ids::AgentId, limits};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    agent_path,
    bare::client::Server as BareServer,
    estate::Estate,
    fleet::Fleet,
    hub::{self, Hub},
    numbers::{Latencies, median, say, seconds, show},
    operator::Operator,
    process,
};

const ROUNDS: usize = 3;
/// Single commands in a round.
const SINGLES: usize = 1_000;
/// Unanswered commands at a time, under sustained load.
const IN_FLIGHT: usize = 256;
/// Targets of each of the commands to everybody: every target reads the whole list of them.
const TARGETS: usize = 250;
/// The most agents: two processes may have 20,000 files open each.
const MOST: usize = 10_000;
/// After many have connected, until memory is looked at: the first reports are through.
const SETTLE: Duration = Duration::from_secs(10);
/// How long rest is watched: two reports of each agent.
const REST: Duration = Duration::from_secs(60);
/// A fleet that is at rest.
const RESTING: usize = 40;

/// One run of the generator.
pub(crate) struct Run {
    estate: Estate,
    fleet: Fleet,
    /// Agents of the timed measures.
    agents: usize,
    /// Ten times as many.
    many: usize,
    time: Duration,
}

impl Run {
    pub(crate) async fn prepare(folder: &Path, agents: usize, time: Duration) -> Result<Self> {
        let agents = agents.clamp(1, limits::TARGETS_PER_COMMAND);
        let many = (10 * agents).min(MOST).max(agents);
        say(format_args!("making keys and certificates of {many} agents ..."));
        let estate = Estate::new(folder, many).await?;
        let fleet = Fleet::new(&estate).await?;
        Ok(Self { estate, fleet, agents, many, time })
    }

    async fn hub(&self) -> Result<(Hub, Arc<Operator>)> {
        Ok((Hub::start(&self.estate).await?, Arc::new(Operator::new(&self.estate)?)))
    }

    /// One command, a command to all, and as many commands as go through.
    pub(crate) async fn timings(&mut self, command: bool, fan_out: bool, sustained: bool) -> Result<()> {
        let (hub, operator) = self.hub().await?;
        let mut bare = BareServer::start(&self.estate).await?;
        self.fleet.connect(&self.estate, 0..self.agents).await?;
        bare.connect(self.agents).await?;
        show("connected_agents", self.agents);
        let ids = self.fleet.ids(0..self.agents);
        say(format_args!("warming up ..."));
        singles(&operator, &ids, SINGLES / 10).await?;
        operator.order(ids.clone()).await?;
        bare.one(SINGLES / 10).await?;

        if command {
            let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for round in 1..=ROUNDS {
                say(format_args!("single commands, round {round} of {ROUNDS} ..."));
                let (bare_p50, bare_p99) = bare.one(SINGLES).await?;
                let latencies = singles(&operator, &ids, SINGLES).await?;
                let (p50, p99) = (latencies.p50(), latencies.p99());
                ratios.push((p50.div_duration_f64(bare_p50), p99.div_duration_f64(bare_p50)));
                ours.push((p50, p99));
                theirs.push((bare_p50, bare_p99));
            }
            let of = |all: &[(Duration, Duration)]| {
                let both = (all.iter().map(|(p50, _)| millis(*p50)), all.iter().map(|(_, p99)| millis(*p99)));
                (median(both.0), median(both.1))
            };
            let ((p50, p99), (bare_p50, bare_p99)) = (of(&ours), of(&theirs));
            show("bare_p50_ms", format_args!("{bare_p50:.3}"));
            show("bare_p99_ms", format_args!("{bare_p99:.3}"));
            show("command_p50_ms", format_args!("{p50:.3}"));
            show("command_p99_ms", format_args!("{p99:.3}"));
            show("command_p50_ratio", format_args!("{:.2}", median(ratios.iter().map(|(p50, _)| *p50))));
            show("command_p99_ratio", format_args!("{:.2}", median(ratios.iter().map(|(_, p99)| *p99))));
        }
        if fan_out {
            let mut rounds = Vec::new();
            for round in 1..=ROUNDS {
                say(format_args!("fan-out to {}, round {round} of {ROUNDS} ...", ids.len()));
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                for _ in 0..5 {
                    theirs.push(millis(bare.fan_out().await?));
                    ours.push(millis(operator.order(ids.clone()).await?));
                }
                rounds.push((median(ours), median(theirs)));
            }
            show("bare_fanout_ms", format_args!("{:.1}", median(rounds.iter().map(|round| round.1))));
            show("fanout_ms", format_args!("{:.1}", median(rounds.iter().map(|round| round.0))));
            show("fanout_ratio", format_args!("{:.2}", median(rounds.iter().map(|(ours, bare)| ours / bare))));
        }
        if sustained {
            let time = self.time / ROUNDS as u32;
            let (mut rounds, mut cpu, mut bare_cpu) = (Vec::new(), Vec::new(), Vec::new());
            for round in 1..=ROUNDS {
                say(format_args!("sustained load, round {round} of {ROUNDS}, {time:?} each side ..."));
                let before = process::cpu(bare.pid())?;
                let theirs = bare.sustain(time, IN_FLIGHT).await?;
                bare_cpu.push(micros(process::cpu(bare.pid())? - before) / (theirs * time.as_secs_f64()));
                let before = process::cpu(hub.pid())?;
                let ours = sustain(&operator, &ids, time).await?;
                cpu.push(micros(process::cpu(hub.pid())? - before) / (ours * time.as_secs_f64()));
                rounds.push((ours, theirs));
            }
            show("bare_per_second", format_args!("{:.0}", median(rounds.iter().map(|round| round.1))));
            show("bare_cpu_per_message_us", format_args!("{:.0}", median(bare_cpu)));
            show("commands_per_second", format_args!("{:.0}", median(rounds.iter().map(|round| round.0))));
            show("hub_cpu_per_command_us", format_args!("{:.0}", median(cpu)));
            show("sustained_ratio", format_args!("{:.3}", median(rounds.iter().map(|(ours, bare)| ours / bare))));
        }
        self.fleet.check_accepted(0..self.agents, 1)?;
        self.fleet.disconnect(0..self.many).await
    }

    /// What an idle agent costs the hub, and an idle client the bare server.
    pub(crate) async fn memory(&mut self) -> Result<()> {
        let many = self.many;
        say(format_args!("memory: {many} clients of the bare server ..."));
        let bare = {
            let mut bare = BareServer::start(&self.estate).await?;
            let before = process::resident(bare.pid())?;
            bare.connect(many).await?;
            sleep(SETTLE).await;
            per_one(process::resident(bare.pid())? - before, many)
        };
        say(format_args!("memory: {many} agents ..."));
        let (hub, _operator) = self.hub().await?;
        let before = process::resident(hub.pid())?;
        self.fleet.connect(&self.estate, 0..many).await?;
        sleep(SETTLE).await;
        let ours = per_one(process::resident(hub.pid())? - before, many);
        self.fleet.disconnect(0..many).await?;
        show("hub_rss_before_mib", format_args!("{:.1}", before as f64 / 1_048_576.0));
        show("bare_rss_per_client_kib", format_args!("{bare:.1}"));
        show("rss_per_agent_kib", format_args!("{ours:.1}"));
        show("rss_per_agent_ratio", format_args!("{:.2}", ours / bare));
        Ok(())
    }

    /// Whether a command takes longer because many others are connected.
    pub(crate) async fn growth(&mut self) -> Result<()> {
        let (_hub, operator) = self.hub().await?;
        let (few, many) = (self.agents, self.many);
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            say(format_args!("growth, round {round} of {ROUNDS}: {few} and {many} agents ..."));
            self.fleet.connect(&self.estate, 0..few).await?;
            let with_few = singles(&operator, &self.fleet.ids(0..few), SINGLES).await?.p50();
            self.fleet.connect(&self.estate, few..many).await?;
            let with_many = singles(&operator, &self.fleet.ids(0..many), SINGLES).await?.p50();
            self.fleet.disconnect(few..many).await?;
            rounds.push((millis(with_few), millis(with_many)));
        }
        self.fleet.disconnect(0..few).await?;
        show(&format!("command_p50_of_{few}_ms"), format_args!("{:.3}", median(rounds.iter().map(|round| round.0))));
        show(&format!("command_p50_of_{many}_ms"), format_args!("{:.3}", median(rounds.iter().map(|round| round.1))));
        show("growth_ratio", format_args!("{:.2}", median(rounds.iter().map(|(few, many)| many / few))));
        Ok(())
    }

    /// The hub is killed and started again: until every agent is connected and has answered a command.
    pub(crate) async fn reconnect(&mut self) -> Result<()> {
        let many = self.many;
        let (mut hub, mut operator) = self.hub().await?;
        self.fleet.connect(&self.estate, 0..many).await?;
        let ids = self.fleet.ids(0..many);
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            say(format_args!("kill -9 under {many} agents, round {round} of {ROUNDS} ..."));
            let watched = self.fleet.watch(0..many);
            hub.kill()?;
            (hub, operator) = self.hub().await?;
            let ready = hub.began.elapsed();
            Fleet::reconnected(watched).await?;
            let (connected, tries) = (hub.began.elapsed(), self.fleet.most_tries(0..many));
            order_all(&operator, &ids).await?;
            rounds.push((hub.began.elapsed(), connected, ready, tries));
        }
        self.fleet.disconnect(0..many).await?;
        drop(operator);
        rounds.sort_unstable();
        let Some((answering, connected, ready, _)) = rounds.get(ROUNDS / 2) else { return Ok(()) };
        show("reconnect_agents", many);
        show("reconnect_hub_ready_s", seconds(*ready));
        show("reconnect_connected_s", seconds(*connected));
        show("reconnect_s", seconds(*answering));
        show("reconnect_most_tries", rounds.iter().map(|round| round.3).max().unwrap_or_default());
        Ok(())
    }

    /// A hub with the fleet that there is in England, doing nothing.
    pub(crate) async fn hub_at_rest(&mut self) -> Result<()> {
        let (hub, _operator) = self.hub().await?;
        let resting = RESTING.min(self.many);
        self.fleet.connect(&self.estate, 0..resting).await?;
        sleep(SETTLE).await;
        say(format_args!("watching a hub with {resting} agents at rest for {REST:?} ..."));
        let (before, began) = (process::cpu(hub.pid())?, Instant::now());
        sleep(REST).await;
        let used = (process::cpu(hub.pid())? - before).div_duration_f64(began.elapsed());
        show("hub_rest_cpu_percent", format_args!("{:.2}", 100.0 * used));
        show("hub_rest_rss_mib", format_args!("{:.1}", process::resident(hub.pid())? as f64 / 1_048_576.0));
        self.fleet.disconnect(0..resting).await
    }

    /// The real agent, enrolled by its own code, doing nothing.
    pub(crate) async fn agent_at_rest(&mut self) -> Result<()> {
        let (_hub, operator) = self.hub().await?;
        let (account, data_dir) = ("123456789012", self.estate.folder().join("agent"));
        let token = operator.invite("resting", account).await?;
        sfdata_agent::identity::enrol(&data_dir, &token, account, Timestamp::now()).await?;
        let agent = hub::Agent::start(&self.estate, &data_dir)?;
        say(format_args!("watching an agent at rest for {REST:?} ..."));
        sleep(REST).await;
        show("agent_rest_rss_mib", format_args!("{:.1}", process::resident(agent.pid())? as f64 / 1_048_576.0));
        let size = std::fs::metadata(hub::beside("sfdata-agent")?)?.len();
        show("agent_binary_mib", format_args!("{:.1}", size as f64 / 1_048_576.0));
        Ok(())
    }

    /// The agent's own path, on disk.
    pub(crate) async fn agent_path(&self) -> Result<()> {
        Box::pin(agent_path::measure(&self.estate)).await
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn per_one(bytes: u64, count: usize) -> f64 {
    bytes as f64 / 1024.0 / count as f64
}

/// One command at a time, to one agent after the other.
async fn singles(operator: &Operator, ids: &[AgentId], count: usize) -> Result<Latencies> {
    let mut latencies = Vec::with_capacity(count);
    // A stride that meets them all in another order than that of their names.
    for n in 0..count {
        let agent = ids.get(n * 7919 % ids.len()).context("no agents")?;
        latencies.push(operator.order(vec![agent.clone()]).await?);
    }
    Ok(Latencies::new(latencies))
}

/// Commands a second that end, with so many unanswered at a time.
async fn sustain(operator: &Arc<Operator>, ids: &[AgentId], time: Duration) -> Result<f64> {
    let (began, ended, next) = (Instant::now(), Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
    let ids: Arc<[AgentId]> = ids.into();
    let mut orders = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (operator, ids, ended, next) =
            (Arc::clone(operator), Arc::clone(&ids), Arc::clone(&ended), Arc::clone(&next));
        orders.spawn(async move {
            while began.elapsed() < time {
                let agent = &ids[next.fetch_add(1, Ordering::Relaxed) % ids.len()];
                operator.order(vec![agent.clone()]).await?;
                ended.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(order) = orders.join_next().await {
        order.map_err(|_| anyhow!("a task panicked"))??;
    }
    Ok(ended.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

/// A command to everybody, as commands to some at a time, all at once.
async fn order_all(operator: &Arc<Operator>, ids: &[AgentId]) -> Result<()> {
    let mut orders = JoinSet::new();
    for some in ids.chunks(TARGETS) {
        let (operator, some) = (Arc::clone(operator), some.to_vec());
        orders.spawn(async move { operator.order(some).await });
    }
    while let Some(order) = orders.join_next().await {
        order.map_err(|_| anyhow!("a task panicked"))??;
    }
    Ok(())
}
