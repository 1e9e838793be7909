//! The registry: which agents and operators there are, who is locked, and how each agent was last heard of.
//!
//! Kept in memory for every check and in the store for the next start. A lock is durable before it is
//! answered, and holds from the moment it is in memory: each connection and each call asks here.

mod leaves;
mod operators;
pub mod receipts;

pub use self::leaves::ca_id;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{PoisonError, RwLock},
};

use jiff::Timestamp;
use sfdata_common::{
    ids::{AccountId, AgentId, OperatorName, RoleName},
    limits,
    peer::Subject,
    policy::AgentFacts,
    report::closed,
};
use sfdata_proto::v1::{self as wire, AgentState, Health};
use tokio::sync::watch;

use crate::{
    audit,
    enrol::joins::{self, Join, Right},
    health::Judge,
    store::{self, Batch, Store, Written, keys, records},
};

/// Why the registry does not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there.
    #[error("there is no {0}; see hubctl agents list and hubctl operators list")]
    Unknown(Subject),
    /// The account of an agent is for life.
    #[error("agent {agent} is registered for account {account}; remove it first if the account has changed")]
    OtherAccount {
        /// Which.
        agent: AgentId,
        /// Registered.
        account: String,
    },
    /// A join that is none.
    #[error(transparent)]
    Join(#[from] joins::Refusal),
    /// Full.
    #[error("the registry holds {} agents already", limits::AGENTS)]
    Full,
    /// A store record that this release can't read.
    #[error("the registry in the store names {0:?}, which is not valid")]
    Invalid(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What the authoriser needs of an agent.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// For policies.
    pub policy: AgentFacts,
    /// Why it is locked.
    pub locked: Option<String>,
}

/// What an operator says of an agent.
#[derive(Debug, Default)]
pub struct Words {
    /// Added to those that it has.
    pub labels: BTreeMap<String, String>,
    /// Added to those that it is in.
    pub groups: Vec<String>,
}

impl Words {
    fn add_to(self, record: &mut records::Agent, now: Timestamp) {
        record.labels.extend(self.labels);
        record.groups.extend(self.groups);
        record.groups.sort();
        record.groups.dedup();
        if record.since == 0 {
            record.since = now.as_millisecond();
        }
    }
}

#[derive(Default)]
struct Agent {
    record: records::Agent,
    facts: Facts,
    connected: bool,
    /// What is wrong with its link: shown, not stored.
    note: String,
}

impl Agent {
    fn of(record: records::Agent) -> Self {
        let facts = Facts {
            policy: AgentFacts {
                groups: record.groups.iter().filter_map(|group| group.parse().ok()).collect(),
                labels: record.labels.clone(),
            },
            locked: record.locked.clone(),
        };
        Self { record, facts, connected: false, note: String::new() }
    }

    fn state(&self, now: Timestamp) -> AgentState {
        if self.record.locked.is_some() {
            AgentState::Locked
        } else if self.record.receipt_key.is_empty() {
            AgentState::Invited
        } else if self.connected && !self.is_overdue(now) {
            AgentState::Connected
        } else {
            AgentState::Away
        }
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        now.as_millisecond() - self.record.last_seen > limits::AWAY_AFTER.as_millis() as i64
    }
}

#[derive(Default)]
struct Registry {
    agents: HashMap<AgentId, Agent>,
    operators: HashMap<OperatorName, records::Operator>,
    /// When each was last written for having been seen.
    noted: HashMap<OperatorName, Timestamp>,
}

/// The registry; share it by `Arc`.
pub struct Fleet {
    store: Store,
    judge: Judge,
    registry: RwLock<Registry>,
    changes: watch::Sender<u64>,
}

impl Fleet {
    /// Read what the store holds.
    pub fn load(store: Store, judge: Judge) -> Result<Self, Error> {
        fn name<T: std::str::FromStr>(key: &[u8]) -> Result<T, Error> {
            let text = String::from_utf8_lossy(key);
            text.parse().map_err(|_| Error::Invalid(text.into_owned()))
        }
        let mut registry = Registry::default();
        for item in store.scan(keys::AGENTS) {
            let (key, record) = item?;
            registry.agents.insert(name(&key)?, Agent::of(record));
        }
        for item in store.scan(keys::OPERATORS) {
            let (key, mut record): (_, records::Operator) = item?;
            if record.joined && record.since == 0 {
                // An earlier release did not note it: from now on it counts as unused.
                record.since = Timestamp::now().as_millisecond();
                let mut batch = Batch::default();
                batch.put([keys::OPERATORS, &key].concat(), &record);
                drop(store.submit(batch));
            }
            registry.operators.insert(name(&key)?, record);
        }
        Ok(Self { store, judge, registry: RwLock::new(registry), changes: watch::channel(0).0 })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Notified when anything that a list shows has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether that identity may connect and call.
    pub fn admits(&self, subject: &Subject) -> bool {
        let registry = self.read();
        match subject {
            Subject::Agent(id) => registry
                .agents
                .get(id)
                .is_some_and(|agent| agent.record.locked.is_none() && !agent.record.receipt_key.is_empty()),
            Subject::Operator(name) => {
                registry.operators.get(name).is_some_and(|operator| operator.joined && operator.locked.is_none())
            }
            Subject::Hub(_) => false,
        }
    }

    /// What the authoriser needs of an agent.
    pub fn facts(&self, agent: &AgentId) -> Option<Facts> {
        self.read().agents.get(agent).map(|agent| agent.facts.clone())
    }

    /// Change one agent: the new record and its audit entry in one batch, in the order of the calls.
    fn update_agent(
        &self,
        id: &AgentId,
        change: impl FnOnce(&mut records::Agent) -> Result<wire::AuditEntry, Error>,
    ) -> Result<Written, Error> {
        let mut registry = self.write();
        let agent = registry.agents.get_mut(id).ok_or_else(|| Error::Unknown(Subject::Agent(id.clone())))?;
        let mut record = agent.record.clone();
        let entry = change(&mut record)?;
        let mut batch = Batch::default();
        batch.put(keys::agent(id), &record);
        batch.audit(entry);
        let (connected, note) = (agent.connected, std::mem::take(&mut agent.note));
        *agent = Agent { connected, note, ..Agent::of(record) };
        let written = self.store.submit(batch);
        drop(registry);
        self.changed();
        Ok(written)
    }

    fn update_operator(
        &self,
        name: &OperatorName,
        change: impl FnOnce(&mut records::Operator) -> wire::AuditEntry,
    ) -> Result<Written, Error> {
        let mut registry = self.write();
        let record = registry.operators.get_mut(name).ok_or_else(|| Error::Unknown(Subject::Operator(name.clone())))?;
        let mut batch = Batch::default();
        batch.audit(change(record));
        batch.put(keys::operator(name), record);
        Ok(self.store.submit(batch))
    }

    /// Enter an agent, or find it entered for the same account.
    fn enter(&self, id: &AgentId, account: &AccountId) -> Result<(), Error> {
        let mut registry = self.write();
        match registry.agents.get(id) {
            Some(agent) if agent.record.account != account.as_str() => {
                Err(Error::OtherAccount { agent: id.clone(), account: agent.record.account.clone() })
            }
            Some(_) => Ok(()),
            None if registry.agents.len() >= limits::AGENTS => Err(Error::Full),
            None => {
                let record = records::Agent { account: account.to_string(), ..Default::default() };
                registry.agents.insert(id.clone(), Agent::of(record));
                Ok(())
            }
        }
    }

    /// Expect an agent of that account, so that a token can be made for it.
    pub async fn expect_agent(
        &self,
        by: &OperatorName,
        id: &AgentId,
        account: &AccountId,
        words: Words,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.enter(id, account)?;
        let written = self.update_agent(id, |record| {
            words.add_to(record, now);
            Ok(audit::draft(now, "agent.invited", audit::operator(by), audit::agent(id), format!("account {account}")))
        })?;
        Ok(written.await?)
    }

    /// Let an agent of that account join as that role, without a token. Another role than before is pinned anew; `again` has
    /// the same role be pinned anew as well, and the next join be let in whatever its count.
    pub async fn register_agent(
        &self,
        by: &OperatorName,
        id: &AgentId,
        (account, role): (&AccountId, &RoleName),
        words: Words,
        again: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.enter(id, account)?;
        let written = self.update_agent(id, |record| {
            words.add_to(record, now);
            if again || record.role != role.as_str() {
                record.role_id.clear();
            }
            record.role = role.to_string();
            if again {
                record.join_anew_until = (now + limits::JOIN_TOKEN).as_millisecond();
            }
            let detail = format!("account {account}, role {role}{}", if again { ", again" } else { "" });
            Ok(audit::draft(now, "agent.registered", audit::operator(by), audit::agent(id), detail))
        })?;
        Ok(written.await?)
    }

    /// Have an agent need a token to join. What it has by now stays.
    pub async fn unregister_agent(
        &self,
        by: &OperatorName,
        id: &AgentId,
        why: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let written = self.update_agent(id, |record| {
            record.role.clear();
            record.role_id.clear();
            record.join_anew_until = 0;
            Ok(audit::draft(now, "agent.unregistered", audit::operator(by), audit::agent(id), why))
        })?;
        Ok(written.await?)
    }

    /// Whether an agent may join by its AWS identity, as far as is known before AWS is asked.
    pub fn may_join_by_aws(&self, id: &AgentId) -> Result<(), joins::Refusal> {
        let registry = self.read();
        let record = registry.agents.get(id).map(|agent| &agent.record).filter(|record| !record.role.is_empty());
        let record = record.ok_or_else(|| joins::Refusal::NotRegistered(id.clone()))?;
        record.locked.as_ref().map_or(Ok(()), |_| Err(joins::Refusal::Locked(id.clone())))
    }

    /// An agent joins: the count of its joins, durable with all of `batch` when what is returned resolves.
    pub fn agent_joined(
        &self,
        id: &AgentId,
        join: &Join,
        now: Timestamp,
        mut batch: Batch,
    ) -> Result<(Written, u64), Error> {
        let mut registry = self.write();
        let agent = registry.agents.get_mut(id).ok_or_else(|| Error::Unknown(Subject::Agent(id.clone())))?;
        let record = joins::decide(id, &agent.record, join, now)?;
        let counter = record.joins;
        let right = match &join.right {
            Right::Token => "by token".to_owned(),
            Right::Aws { caller, .. } => format!("as role {} ({}) of {}", caller.role, caller.role_id, caller.session),
        };
        let (account, version) = (&record.account, join.version.escape_debug());
        let detail = format!("account {account}, {right}, version {version}, join {counter}");
        batch.audit(audit::draft(now, "agent.joined", audit::agent(id), audit::agent(id), detail));
        batch.put(keys::agent(id), &record);
        *agent = Agent { connected: agent.connected, ..Agent::of(record) };
        let written = self.store.submit(batch);
        drop(registry);
        self.changed();
        Ok((written, counter))
    }

    /// Add and remove labels and groups.
    pub async fn edit_agent(
        &self,
        by: &OperatorName,
        edit: wire::EditAgentRequest,
        id: &AgentId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let written = self.update_agent(id, |record| {
            record.labels.extend(edit.set_labels);
            record.labels.retain(|key, _| !edit.remove_labels.contains(key));
            record.groups.extend(edit.add_groups);
            record.groups.retain(|group| !edit.remove_groups.contains(group));
            record.groups.sort();
            record.groups.dedup();
            let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let detail = format!("labels {}; groups {}", labels.join(","), record.groups.join(","));
            Ok(audit::draft(now, "agent.edited", audit::operator(by), audit::agent(id), detail))
        })?;
        Ok(written.await?)
    }

    /// Lock an agent out (`Some` reason) or let it in again (`None`).
    pub async fn lock_agent(
        &self,
        actor: String,
        id: &AgentId,
        lock: Option<String>,
        why: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let written = self.update_agent(id, |record| {
            let kind = if lock.is_some() { "agent.locked" } else { "agent.unlocked" };
            record.locked = lock;
            record.since = now.as_millisecond();
            Ok(audit::draft(now, kind, actor, audit::agent(id), why))
        })?;
        Ok(written.await?)
    }

    /// Forget an agent.
    pub async fn remove_agent(&self, by: &OperatorName, id: &AgentId, why: &str, now: Timestamp) -> Result<(), Error> {
        let written = {
            let mut registry = self.write();
            registry.agents.remove(id).ok_or_else(|| Error::Unknown(Subject::Agent(id.clone())))?;
            let mut batch = Batch::default();
            batch.delete(keys::agent(id));
            batch.audit(audit::draft(now, "agent.removed", audit::operator(by), audit::agent(id), why));
            self.store.submit(batch)
        };
        self.changed();
        Ok(written.await?)
    }

    /// Register an operator, so that a token can be made for them. `by` is the inviting operator or the hub.
    pub async fn expect_operator(&self, by: String, name: &OperatorName, now: Timestamp) -> Result<(), Error> {
        self.write().operators.entry(name.clone()).or_default();
        let entry = audit::draft(now, "operator.invited", by, audit::operator(name), "");
        Ok(self.update_operator(name, |_| entry)?.await?)
    }

    /// An operator joined with a token. `batch` carries the token's use.
    pub fn operator_joined(&self, name: &OperatorName, now: Timestamp, mut batch: Batch) -> Result<Written, Error> {
        let mut registry = self.write();
        let record = registry.operators.get_mut(name).ok_or_else(|| Error::Unknown(Subject::Operator(name.clone())))?;
        (record.joined, record.since) = (true, now.as_millisecond());
        batch.put(keys::operator(name), record);
        Ok(self.store.submit(batch))
    }

    /// Lock an operator out (`Some` reason) or let them in again (`None`).
    pub async fn lock_operator(
        &self,
        by: &OperatorName,
        name: &OperatorName,
        lock: Option<String>,
        why: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let kind = if lock.is_some() { "operator.locked" } else { "operator.unlocked" };
        let entry = audit::draft(now, kind, audit::operator(by), audit::operator(name), why);
        let written = self.update_operator(name, |record| {
            record.locked = lock;
            entry
        })?;
        Ok(written.await?)
    }

    /// An agent's session began.
    pub fn connected(&self, id: &AgentId, version: &str, note: String, now: Timestamp) {
        if let Some(agent) = self.write().agents.get_mut(id) {
            if !agent.connected || agent.is_overdue(now) {
                agent.record.since = now.as_millisecond();
            }
            agent.connected = true;
            agent.record.last_seen = now.as_millisecond();
            agent.record.version = version.to_owned();
            agent.note = note;
            if !agent.record.join_key.is_empty() {
                agent.record.join_key.clear(); // it has the answer to its last join
                let mut batch = Batch::default();
                batch.put(keys::agent(id), &agent.record);
                drop(self.store.submit(batch));
            }
        }
        self.changed();
    }

    /// An agent's last session ended. What is known of it is kept for the next start; nobody waits for that.
    pub fn disconnected(&self, id: &AgentId, now: Timestamp) {
        if let Some(agent) = self.write().agents.get_mut(id) {
            agent.connected = false;
            agent.record.since = now.as_millisecond();
            let mut batch = Batch::default();
            batch.put(keys::agent(id), &agent.record);
            drop(self.store.submit(batch));
        }
        self.changed();
    }

    /// An agent goes by this version of the trust bundle.
    pub fn trusts(&self, id: &AgentId, version: u64) {
        if let Some(agent) = self.write().agents.get_mut(id) {
            agent.record.trust_version = version;
        }
    }

    /// The agents that may come and do not go by that version of the trust bundle or a later one; and how many there are.
    pub fn behind(&self, version: u64) -> (Vec<AgentId>, usize) {
        let registry = self.read();
        let may_come = |agent: &Agent| agent.record.locked.is_none() && !agent.record.receipt_key.is_empty();
        let coming = || registry.agents.iter().filter(|(_, agent)| may_come(agent));
        let behind = coming().filter(|(_, agent)| agent.record.trust_version < version).map(|(id, _)| id.clone());
        let mut behind: Vec<AgentId> = behind.collect();
        behind.sort();
        (behind, coming().count())
    }

    /// An agent said something.
    pub fn seen(&self, id: &AgentId, now: Timestamp) {
        if let Some(agent) = self.write().agents.get_mut(id) {
            agent.record.last_seen = now.as_millisecond();
        }
    }

    /// An agent reported.
    pub fn reported(&self, id: &AgentId, health: Health, now: Timestamp) {
        if let Some(agent) = self.write().agents.get_mut(id) {
            agent.record.last_seen = now.as_millisecond();
            agent.record.health = Some(closed(health));
        }
        self.changed();
    }

    /// Save what was last reported, for the next start, and let watchers see who has gone away.
    pub fn pass(&self) {
        let registry = self.read();
        let mut batch = Batch::default();
        for (id, agent) in registry.agents.iter().filter(|(_, agent)| agent.connected) {
            batch.put(keys::agent(id), &agent.record);
        }
        drop(self.store.submit(batch));
        drop(registry);
        self.changed();
    }

    /// Every agent, by name. `commands` tells how many have not ended at each.
    pub fn agents(&self, commands: impl Fn(&AgentId) -> usize, now: Timestamp) -> Vec<wire::AgentSummary> {
        let registry = self.read();
        let mut agents: Vec<_> =
            registry.agents.iter().map(|(id, agent)| summary(id, agent, commands(id), now)).collect();
        drop(registry);
        agents.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
        self.judge.fill(&mut agents, now);
        agents
    }

    /// One agent, judged beside the others.
    pub fn agent(&self, id: &AgentId, commands: usize, now: Timestamp) -> Result<wire::AgentSummary, Error> {
        let mut agents = self.agents(|one| if one == id { commands } else { 0 }, now);
        let found = agents.iter().position(|agent| agent.agent_id == id.as_str());
        found.map(|at| agents.swap_remove(at)).ok_or_else(|| Error::Unknown(Subject::Agent(id.clone())))
    }
}

fn summary(id: &AgentId, agent: &Agent, commands: usize, now: Timestamp) -> wire::AgentSummary {
    let record = &agent.record;
    let state = agent.state(now);
    // One that fell silent without a word is away since it was last heard of.
    let since = if state == AgentState::Away && agent.connected { record.last_seen } else { record.since };
    wire::AgentSummary {
        agent_id: id.to_string(),
        account: record.account.clone(),
        state: state.into(),
        last_seen_unix_ms: record.last_seen,
        since_unix_ms: since,
        version: record.version.clone(),
        labels: record.labels.clone().into_iter().collect(),
        groups: record.groups.clone(),
        health: record.health.clone(),
        commands: commands.try_into().unwrap_or(u32::MAX),
        note: record.locked.clone().unwrap_or_else(|| agent.note.clone()),
        aws: (!record.role.is_empty())
            .then(|| wire::AwsIdentity { role: record.role.clone(), role_id: record.role_id.clone() }),
        joins: record.joins,
        ..Default::default()
    }
}
