//! What the door goes by, gathered where it lies: the pure checks are in `verify.rs`.

use std::sync::Arc;

use jiff::Timestamp;
use sfdata_common::ids::AgentId;
use sfdata_proto::v1::{self as wire, Hold};

use crate::{
    journal::Journal,
    policy::{Brake, Watched},
    trust::Trust,
    verify::{self, Facts, Judgement, Refusal, Verified},
};

/// The door of one agent; share it by `Arc`.
pub struct Door {
    /// Whose it is.
    pub agent: AgentId,
    /// Whom to trust.
    pub trust: Arc<Trust>,
    /// What was let in before.
    pub journal: Arc<Journal>,
    /// The LA's policy and freezes.
    pub rules: Watched,
    /// The LA's hold.
    pub brake: Brake,
}

impl Door {
    /// Judge a delivery.
    pub fn judge(&self, delivery: &wire::Delivery, now: Timestamp) -> Judgement {
        let seen = verify::claimed_id(delivery).is_some_and(|id| self.journal.has_seen(id));
        self.with_facts(seen, now, |facts| verify::verify(delivery, facts))
    }

    /// Judge anew what has waited for the LA.
    pub fn again(&self, verified: &Verified, now: Timestamp) -> Result<(), Refusal> {
        self.with_facts(true, now, |facts| verify::again(verified, facts))
    }

    /// The hold in force.
    pub fn held(&self) -> Option<Hold> {
        self.brake.held()
    }

    fn with_facts<T>(&self, seen: bool, now: Timestamp, judge: impl FnOnce(&Facts<'_>) -> T) -> T {
        let (bundle, rules, hold) = (self.trust.bundle(), self.rules.rules(), self.brake.held());
        judge(&Facts {
            agent: &self.agent,
            bundle: &bundle,
            last: self.journal.last(),
            seen,
            journal: self.journal.fault(),
            hold: hold.as_ref(),
            rules: &rules,
            waiting: self.journal.waiting().len(),
            now,
        })
    }
}
