//! Alerts: what is wrong with the fleet or the hub is looked at, told once, kept silent when somebody asks for it, and told
//! again when it is over.
//!
//! What fires and what is to be told are durable together, so that a restart neither tells twice nor forgets. A notice is
//! tried until each channel has taken it; its id lets receivers know one that comes again because an answer was lost.

pub mod channels;
mod engine;
mod notice;
mod own;
pub mod rules;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use sfdata_common::{
    health::{self, sentence},
    ids::{AgentId, CommandId, OperatorName},
    limits,
    retry::jittered,
};
use sfdata_proto::v1::{self as wire, AgentState, AlertState, HealthReasonKind, UsageGroup};
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::{
    channels::Channel,
    engine::{Alert, Engine, Key, World},
    rules::Settings,
};
use crate::{
    audit,
    config::Costs,
    disk,
    metrics::{Cost, Metrics, Seen},
    sessions::CLONED,
    store::{self, Batch, Store, keys, records},
    usage::{Usage, estimate},
};

/// What nobody took for so long is given up.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);
/// Notices that wait; with more, the oldest is given up.
const WAITING: usize = 1_000;
/// Before the second try; twice as long before each further one.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MOST: Duration = Duration::from_secs(15 * 60);
/// Silences at a time.
const SILENCES: usize = 1_000;
/// The issuing CA is followed by another one by then: people have to sign for it.
const CA_LEFT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Costs change slowly.
const COSTS: Duration = Duration::from_secs(600);
/// Entries of the audit record that one look verifies: some milliseconds of work.
const VERIFIED: usize = 2_000;
/// What was verified is verified again so much later.
const VERIFY: Duration = Duration::from_secs(3600);

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many.
    #[error("{SILENCES} silences hold already; end one first, see hubctl alerts list")]
    Full,
    /// Not there.
    #[error("there is no silence {0}; see hubctl alerts list")]
    Unknown(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What alerts look at.
pub struct Parts {
    /// Where they are kept.
    pub store: Store,
    /// Room on the disk.
    pub disk: disk::Gauge,
    /// When certificates end, and counters.
    pub metrics: Metrics,
    /// The section of the configuration.
    pub settings: Settings,
    /// The hub renews its own certificate at half of this life.
    pub lifetime: Duration,
    /// What was used.
    pub usage: Arc<Usage>,
    /// Prices and budgets.
    pub costs: Costs,
    /// Who is told.
    pub channels: Vec<Channel>,
}

/// The alerts; share them by `Arc`.
pub struct Alerts {
    parts: Parts,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    engine: Engine,
    silences: BTreeMap<String, records::Silence>,
    notices: BTreeMap<String, records::Notice>,
    /// Since when something fires that is not told.
    untold: Option<Timestamp>,
    pace: BTreeMap<&'static str, Pace>,
    /// This month's costs by LA, and when they are looked at again.
    costs: Vec<wire::UsageRow>,
    costs_again: Option<Instant>,
    audit: Audited,
}

/// How a channel does.
#[derive(Default)]
struct Pace {
    tries: u32,
    next: Timestamp,
    error: String,
}

/// How far the audit record was verified.
#[derive(Default)]
struct Audited {
    next: u64,
    hash: Vec<u8>,
    broken: Option<u64>,
    /// When it begins again.
    again: Option<Instant>,
}

impl Alerts {
    /// With what was there before the hub's last end.
    pub fn load(parts: Parts) -> Result<Self, store::Error> {
        let mut inner = Inner::default();
        let text = |key: Vec<u8>| String::from_utf8_lossy(&key).into_owned();
        let alerts = parts.store.scan(keys::ALERTS).map(|item| item.map(|(_, record)| record));
        inner.engine = Engine::load(alerts.collect::<Result<Vec<records::Alert>, _>>()?);
        for item in parts.store.scan(keys::SILENCES) {
            let (key, record) = item?;
            inner.silences.insert(text(key), record);
        }
        for item in parts.store.scan(keys::NOTICES) {
            let (key, record) = item?;
            inner.notices.insert(text(key), record);
        }
        Ok(Self { parts, began: Instant::now(), inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Look at everything once, these LAs and operators among it, and note what is to be told. May run at any time.
    pub async fn pass(
        &self,
        agents: &[wire::AgentSummary],
        operators: &[wire::OperatorSummary],
        now: Timestamp,
    ) -> Result<(), store::Error> {
        self.look_at_costs(now).await?;
        let (batch, told) = {
            let mut inner = self.inner();
            let mut world = self.world(&mut inner.audit, (agents, operators), now)?;
            for row in inner.costs.iter().filter(|row| 0 < row.budget_micros && row.budget_micros < row.forecast_micros)
            {
                let key = Key { agent: row.name.clone(), rule: "over-budget".into(), name: String::new() };
                let [forecast, budget] = [row.forecast_micros, row.budget_micros].map(|micros| micros / 1_000_000);
                let text = format!("will have cost {forecast} by the end of the month, and its budget is {budget}");
                world.holds.insert(key, text);
            }
            self.parts.metrics.fleet.saw(self.seen(&world, &inner.costs));
            self.note(&mut inner, &world, now)
        };
        if let Some(batch) = batch {
            self.parts.store.commit(batch).await?;
        }
        let mut inner = self.inner();
        inner.engine.told(&told.keys);
        if let Some((id, notice)) = told.notice {
            info!(firing = notice.firing.len(), over = notice.resolved.len(), "alerts are told");
            inner.notices.insert(id, notice);
        }
        self.parts
            .metrics
            .alerts_firing
            .set(inner.engine.alerts().values().filter(|alert| alert.firing).count() as i64);
        Ok(())
    }

    /// Now and then: what the month costs.
    async fn look_at_costs(&self, now: Timestamp) -> Result<(), store::Error> {
        let costs = &self.parts.costs;
        let due = self.inner().costs_again.is_none_or(|next| next <= Instant::now());
        if !due {
            return Ok(());
        }
        let (usage, costs) = (Arc::clone(&self.parts.usage), costs.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let (from, until) = estimate::month_of(now);
            let days = usage.days(&usage.agents()?, from, until)?;
            let budgets = |agent: &AgentId| costs.budget(agent);
            let group = UsageGroup::Agent;
            let (prices, bills) = (&costs.prices, &[]);
            let asked = estimate::Question { from, until, group, prices, budgets: &budgets, bills, now };
            Ok::<_, store::Error>(estimate::answer(&asked, &days).rows)
        });
        let Ok(rows) = looked.await else { return Ok(()) };
        let rows = rows?;
        let mut inner = self.inner();
        (inner.costs, inner.costs_again) = (rows, Some(Instant::now() + COSTS));
        Ok(())
    }

    /// What Prometheus is told.
    fn seen(&self, world: &World, costs: &[wire::UsageRow]) -> Seen {
        let mut conditions = BTreeMap::new();
        for key in world.holds.keys() {
            *conditions.entry((key.agent.clone(), key.rule.clone())).or_default() += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let whole = |micros: u64| micros as f64 / 1e6;
        let cost = |row: &wire::UsageRow| Cost {
            so_far: whole(row.cost_micros),
            forecast: whole(row.forecast_micros),
            budget: (row.budget_micros > 0).then(|| whole(row.budget_micros)),
        };
        Seen {
            words: world.agents.iter().map(|(agent, word)| (agent.clone(), health::word(*word))).collect(),
            conditions,
            currency: self.parts.costs.currency().unwrap_or_default(),
            costs: costs.iter().map(|row| (row.name.clone(), cost(row))).collect(),
        }
    }

    fn note(&self, inner: &mut Inner, world: &World, now: Timestamp) -> (Option<Batch>, Told) {
        let mut batch = Batch::default();
        let ended: Vec<String> = inner
            .silences
            .iter()
            .filter(|(_, silence)| silence.until <= now.as_millisecond())
            .map(|(id, _)| id.clone())
            .collect();
        let mut changed = !ended.is_empty();
        for id in ended {
            inner.silences.remove(&id);
            batch.delete(keys::silence(&id));
        }
        let step = inner.engine.step(world, &self.parts.settings, now);
        changed |= !step.fired.is_empty() || !step.over.is_empty();
        for key in &step.fired {
            let alert = &inner.engine.alerts()[key];
            warn!(agent = key.agent, rule = key.rule, name = key.name, summary = alert.summary, "an alert fires");
            batch.put(keys::alert(&key.digest()), &record(key, alert));
        }
        let mut told = Told::default();
        let mut resolved = Vec::new();
        for (key, alert) in &step.over {
            info!(agent = key.agent, rule = key.rule, name = key.name, "an alert is over");
            batch.delete(keys::alert(&key.digest()));
            if alert.told && !is_silent(&inner.silences, key) {
                resolved.push(record(key, alert));
            }
        }
        let alerts = inner.engine.alerts().iter();
        let untold = alerts.filter(|(key, alert)| alert.firing && !alert.told && !is_silent(&inner.silences, key));
        let untold: Vec<(&Key, &Alert)> = untold.collect();
        let since = match untold.is_empty() {
            true => None,
            false => Some(inner.untold.map_or(now, |since| since.min(now))),
        };
        let group = jiff::SignedDuration::try_from(self.parts.settings.group).unwrap_or_default();
        let due = since.is_some_and(|since| now.duration_since(since) >= group);
        if due || !resolved.is_empty() {
            let mut firing = Vec::new();
            for (key, alert) in untold {
                let alert = Alert { told: true, ..alert.clone() };
                batch.put(keys::alert(&key.digest()), &record(key, &alert));
                firing.push(record(key, &alert));
                told.keys.push(key.clone());
            }
            let left: Vec<String> = self.parts.channels.iter().map(|channel| channel.name().to_owned()).collect();
            if !left.is_empty() {
                let notice = records::Notice { at: now.as_millisecond(), firing, resolved, left };
                let id = CommandId::generate().to_string();
                batch.put(keys::notice(&id), &notice);
                told.notice = Some((id, notice));
            }
            (inner.untold, changed) = (None, true);
        } else {
            inner.untold = since;
        }
        (changed.then_some(batch), told)
    }

    /// What is so now.
    fn world(
        &self,
        audited: &mut Audited,
        (agents, operators): (&[wire::AgentSummary], &[wire::OperatorSummary]),
        now: Timestamp,
    ) -> Result<World, store::Error> {
        let mut world = World::default();
        let mut own = |rule: &str, name: &str, summary: String| {
            world.holds.insert(Key { agent: String::new(), rule: rule.into(), name: name.into() }, summary);
        };
        for (rule, name, summary) in own::conditions(&self.parts, operators, now) {
            own(rule, &name, summary);
        }
        self.verify(audited)?;
        if let Some(index) = audited.broken {
            let text = format!("has an audit record that does not hold from entry {index} on; see hubctl audit verify");
            own("audit-broken", "", text);
        }
        for agent in agents {
            // Of a hub that has just started nobody knows whether it will be heard of.
            let early = agent.state() == AgentState::Away && self.began.elapsed() < limits::AWAY_AFTER;
            let cloned = agent.state() == AgentState::Locked && agent.note == CLONED;
            for reason in agent.health_reasons.iter().filter(|_| !early) {
                let rule = match reason.kind() {
                    HealthReasonKind::Locked if cloned => "clone-suspected".to_owned(),
                    HealthReasonKind::PowerFault if reason.name == "stuck-waking" => "waking-stuck".to_owned(),
                    kind => health::kind(kind),
                };
                let key = Key { agent: agent.agent_id.clone(), rule, name: reason.name.clone() };
                world.holds.insert(key, sentence(reason, now));
            }
            if agent.state() != AgentState::Connected {
                world.unknown.insert(agent.agent_id.clone());
            }
            world.agents.insert(agent.agent_id.clone(), agent.health_word());
        }
        Ok(world)
    }

    /// Go on verifying the audit record, as far as it has come; from its beginning once an hour.
    fn verify(&self, audited: &mut Audited) -> Result<(), store::Error> {
        if audited.broken.is_some() {
            return Ok(());
        }
        if *audited.again.get_or_insert_with(|| Instant::now() + VERIFY) <= Instant::now() {
            *audited = Audited::default();
        }
        for entry in self.parts.store.audit(audited.next).take(VERIFIED) {
            let entry = entry?;
            let first = audited.next == 0;
            let follows = if first {
                entry.previous_hash.iter().all(|byte| *byte == 0)
            } else {
                entry.previous_hash == audited.hash
            };
            if entry.index != audited.next || !follows || !store::is_hashed(&entry) {
                error!(entry = audited.next, "the audit record does not hold");
                audited.broken = Some(audited.next);
                return Ok(());
            }
            (audited.next, audited.hash) = (entry.index + 1, entry.hash.to_vec());
        }
        Ok(())
    }

    /// Try each channel that has something to take and whose pause is over. May run at any time, one at a time.
    pub async fn deliver(&self, now: Timestamp) -> Result<(), store::Error> {
        self.give_up(now).await?;
        let due: Vec<(&Channel, String, records::Notice)> = {
            let inner = self.inner();
            let waits = |channel: &Channel| {
                let pace = inner.pace.get(channel.name());
                // A pause that a clock which was set back made long ends.
                pace.is_some_and(|pace| pace.next > now && pace.next < now + 2 * PAUSE_MOST)
            };
            let ready = self.parts.channels.iter().filter(|channel| !waits(channel));
            let first = |channel: &Channel| {
                let mut of =
                    inner.notices.iter().filter(|(_, notice)| notice.left.iter().any(|left| left == channel.name()));
                of.next().map(|(id, notice)| (id.clone(), notice.clone()))
            };
            ready.filter_map(|channel| first(channel).map(|(id, notice)| (channel, id, notice))).collect()
        };
        let tries = due.iter().map(async |(channel, id, notice)| channel.tell(id, notice).await);
        let results = join_all(tries).await;
        for ((channel, id, _), result) in due.iter().zip(results) {
            self.tried(channel.name(), id, result, now).await?;
        }
        Ok(())
    }

    async fn tried(
        &self,
        channel: &'static str,
        id: &str,
        result: Result<(), String>,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let mut batch = Batch::default();
        {
            let mut inner = self.inner();
            let pace = inner.pace.entry(channel).or_default();
            if let Err(error) = result {
                let pause = (PAUSE * 2_u32.pow(pace.tries.min(16))).min(PAUSE_MOST);
                *pace = Pace { tries: pace.tries + 1, next: now + jittered(pause, 0.2), error };
                warn!(channel, notice = id, error = pace.error, ?pause, "a notice was not taken; it is tried again");
                self.parts.metrics.notices.inc("failed");
                return Ok(());
            }
            *pace = Pace::default();
            self.parts.metrics.notices.inc("delivered");
            let Some(notice) = inner.notices.get_mut(id) else { return Ok(()) };
            notice.left.retain(|left| left != channel);
            match notice.left.is_empty() {
                true => batch.delete(keys::notice(id)),
                false => batch.put(keys::notice(id), notice),
            }
            if notice.left.is_empty() {
                inner.notices.remove(id);
            }
        }
        self.parts.store.commit(batch).await
    }

    /// What nobody takes, or is for channels that are no longer configured, makes place.
    async fn give_up(&self, now: Timestamp) -> Result<(), store::Error> {
        let mut batch = Batch::default();
        let mut given_up = 0;
        {
            let mut inner = self.inner();
            let oldest = (now - KEPT).as_millisecond();
            let surplus = inner.notices.len().saturating_sub(WAITING);
            let known = |left: &String| self.parts.channels.iter().any(|channel| channel.name() == left);
            let gone = inner.notices.iter().enumerate().filter(|(number, (_, notice))| {
                *number < surplus || notice.at < oldest || !notice.left.iter().any(known)
            });
            for id in gone.map(|(_, (id, _))| id.clone()).collect::<Vec<_>>() {
                error!(
                    notice = id,
                    "a notice is given up: no channel took it; see hubctl alerts list for what is wrong"
                );
                self.parts.metrics.notices.inc("given-up");
                inner.notices.remove(&id);
                batch.delete(keys::notice(&id));
                given_up += 1;
            }
        }
        if given_up > 0 { self.parts.store.commit(batch).await } else { Ok(()) }
    }

    /// All that is wrong, and what is kept silent.
    pub fn list(&self, now: Timestamp) -> wire::ListAlertsResponse {
        let inner = self.inner();
        let alerts = inner.engine.alerts().iter().map(|(key, alert)| wire::Alert {
            agent_id: key.agent.clone(),
            rule: key.rule.clone(),
            name: key.name.clone(),
            state: match (alert.firing, alert.gone) {
                (true, None) => AlertState::Firing,
                (true, Some(_)) => AlertState::Clearing,
                (false, _) => AlertState::Pending,
            }
            .into(),
            since_unix_ms: alert.since.as_millisecond(),
            summary: alert.summary.clone(),
            silenced: is_silent(&inner.silences, key),
        });
        let holds = inner.silences.iter().filter(|(_, silence)| silence.until > now.as_millisecond());
        let channels = self.parts.channels.iter().map(|channel| {
            let name = channel.name();
            let waits = inner.notices.values().filter(|notice| notice.left.iter().any(|left| left == name)).count();
            wire::AlertChannel {
                name: name.into(),
                waiting: waits.try_into().unwrap_or(u32::MAX),
                error: inner.pace.get(name).map(|pace| pace.error.clone()).unwrap_or_default(),
            }
        });
        wire::ListAlertsResponse {
            alerts: alerts.collect(),
            silences: holds.map(|(id, silence)| told(id, silence)).collect(),
            channels: channels.collect(),
        }
    }

    /// Keep something silent for a while.
    pub async fn silence(
        &self,
        by: &OperatorName,
        request: wire::SilenceAlertsRequest,
        now: Timestamp,
    ) -> Result<wire::Silence, Error> {
        let id = CommandId::generate().to_string();
        let until = now + Duration::from_secs(request.for_seconds.into());
        let silence = records::Silence {
            agent: request.agent_id,
            rule: request.rule,
            name: request.name,
            until: until.as_millisecond(),
            operator: by.to_string(),
            reason: request.reason,
        };
        let mut batch = Batch::default();
        batch.put(keys::silence(&id), &silence);
        let detail = format!(
            "agent {:?}, rule {:?}, name {:?} until {until}: {}",
            silence.agent, silence.rule, silence.name, silence.reason
        );
        batch.audit(audit::draft(now, "alerts.silenced", audit::operator(by), id.clone(), detail));
        if self.inner().silences.len() >= SILENCES {
            return Err(Error::Full);
        }
        self.parts.store.commit(batch).await?;
        let told = told(&id, &silence);
        self.inner().silences.insert(id, silence);
        Ok(told)
    }

    /// Keep it silent no longer.
    pub async fn end_silence(&self, by: &OperatorName, id: &str, now: Timestamp) -> Result<(), Error> {
        if !self.inner().silences.contains_key(id) {
            return Err(Error::Unknown(id.chars().filter(|c| !c.is_control()).take(limits::STEP_BYTES).collect()));
        }
        let mut batch = Batch::default();
        batch.delete(keys::silence(id));
        batch.audit(audit::draft(now, "alerts.unsilenced", audit::operator(by), id, ""));
        self.parts.store.commit(batch).await?;
        self.inner().silences.remove(id);
        Ok(())
    }

    /// Send a test notice to every channel, and tell what came of it.
    pub async fn test(&self, now: Timestamp) -> wire::TestAlertsResponse {
        let notice = records::Notice { at: now.as_millisecond(), ..Default::default() };
        let id = CommandId::generate().to_string();
        let tries = self.parts.channels.iter().map(async |channel| wire::AlertTest {
            channel: channel.name().into(),
            error: channel.tell(&id, &notice).await.err().unwrap_or_default(),
        });
        wire::TestAlertsResponse { tests: join_all(tries).await }
    }
}

/// What a look's batch tells of.
#[derive(Default)]
struct Told {
    keys: Vec<Key>,
    notice: Option<(String, records::Notice)>,
}

fn record(key: &Key, alert: &Alert) -> records::Alert {
    records::Alert {
        agent: key.agent.clone(),
        rule: key.rule.clone(),
        name: key.name.clone(),
        since: alert.since.as_millisecond(),
        summary: alert.summary.clone(),
        told: alert.told,
    }
}

fn is_silent(silences: &BTreeMap<String, records::Silence>, key: &Key) -> bool {
    let fits = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
    silences
        .values()
        .any(|one| fits(&one.agent, &key.agent) && fits(&one.rule, &key.rule) && fits(&one.name, &key.name))
}

fn told(id: &str, silence: &records::Silence) -> wire::Silence {
    wire::Silence {
        id: id.to_owned(),
        agent_id: silence.agent.clone(),
        rule: silence.rule.clone(),
        name: silence.name.clone(),
        until_unix_ms: silence.until,
        operator: silence.operator.clone(),
        reason: silence.reason.clone(),
    }
}

#[cfg(test)]
mod tests;
