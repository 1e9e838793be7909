//! Bills of several months and accounts together. Where they are in different currencies there is no sum.

use std::collections::BTreeSet;

use sfdata_common::ids::AgentId;
use sfdata_proto::v1 as wire;

/// What AWS charges, together.
#[derive(Debug, Clone, Default)]
pub(super) struct Billed<'a> {
    agents: BTreeSet<&'a AgentId>,
    currencies: BTreeSet<&'a str>,
    amount_micros: i64,
    estimated: bool,
    read: i64,
}

impl<'a> Billed<'a> {
    /// One month of one account, and when it was read.
    pub(super) fn add(&mut self, agent: &'a AgentId, month: &'a wire::BillMonth, read: i64) {
        let one = Self {
            agents: [agent].into(),
            currencies: [month.currency.as_str()].into(),
            amount_micros: month.amount_micros,
            estimated: month.estimated,
            read,
        };
        *self = std::mem::take(self).with(&one);
    }

    /// Both together.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.read = match (self.agents.is_empty(), other.agents.is_empty()) {
            (true, _) => other.read,
            (_, true) => self.read,
            _ => self.read.min(other.read),
        };
        self.agents.extend(&other.agents);
        self.currencies.extend(&other.currencies);
        self.amount_micros = self.amount_micros.saturating_add(other.amount_micros);
        self.estimated |= other.estimated;
        self
    }

    /// The sum; `None` where nothing is known, or currencies differ.
    pub(super) fn told(&self) -> Option<wire::UsageBill> {
        let currency = self.currencies.first().filter(|_| self.currencies.len() == 1)?;
        Some(wire::UsageBill {
            currency: (*currency).to_owned(),
            amount_micros: self.amount_micros,
            estimated: self.estimated,
            agents: self.agents.len().try_into().unwrap_or(u32::MAX),
            read_unix_ms: self.read,
        })
    }
}
