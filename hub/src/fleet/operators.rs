//! Operators in the registry: when each was last seen and last ordered something, and what is to be said about that.
//!
//! Being seen is written now and then and not at each call: it is to find out who has left, and costs next to nothing.

use jiff::Timestamp;
use sfdata_common::{ids::OperatorName, limits, trust::Bundle};
use sfdata_proto::v1::{OperatorFlag, OperatorState, OperatorSummary};

use super::{Fleet, Registry};
use crate::store::{Batch, keys, records};

impl Fleet {
    /// An operator calls.
    pub fn operator_seen(&self, name: &OperatorName, now: Timestamp) {
        self.note(name, now, |operator| operator.last_seen = now.as_millisecond());
    }

    /// An operator ordered something, signed.
    pub fn operator_signed(&self, name: &OperatorName, now: Timestamp) {
        self.note(name, now, |operator| operator.last_signed = now.as_millisecond());
    }

    /// Change it in memory, and write it if that was not done for long. Nobody waits for it.
    fn note(&self, name: &OperatorName, now: Timestamp, change: impl FnOnce(&mut records::Operator)) {
        let mut registry = self.write();
        let Registry { operators, noted, .. } = &mut *registry;
        let Some(operator) = operators.get_mut(name) else { return };
        let first = operator.last_signed;
        change(operator);
        // The first order of all is written at once: it is what tells a key that is used from one that never was.
        let first = first == 0 && operator.last_signed != 0;
        let last = noted.get(name).copied().unwrap_or_default();
        if first || now.duration_since(last).unsigned_abs() >= limits::OPERATOR_SEEN {
            noted.insert(name.clone(), now);
            let mut batch = Batch::default();
            batch.put(keys::operator(name), operator);
            drop(self.store.submit(batch));
        }
    }

    /// Every operator, by name, as the registry knows them and as `bundle` lists them.
    pub fn operators(&self, bundle: Option<&Bundle>, now: Timestamp) -> Vec<OperatorSummary> {
        let registry = self.read();
        let mut operators: Vec<_> =
            registry.operators.iter().map(|(name, operator)| summary(name, operator, bundle, now)).collect();
        operators.sort_by(|a, b| a.name.cmp(&b.name));
        operators
    }
}

fn summary(
    name: &OperatorName,
    operator: &records::Operator,
    bundle: Option<&Bundle>,
    now: Timestamp,
) -> OperatorSummary {
    let state = match (operator.joined, &operator.locked) {
        (_, Some(_)) => OperatorState::Locked,
        (true, None) => OperatorState::Active,
        (false, None) => OperatorState::Invited,
    };
    // While a key takes another's place there are two: the one that lasts longer counts.
    let keys = bundle.into_iter().flat_map(|bundle| bundle.operator_keys(name));
    let key = keys.max_by_key(|key| key.expires);
    let mut summary = OperatorSummary {
        name: name.to_string(),
        state: state.into(),
        last_seen_unix_ms: operator.last_seen,
        last_signed_unix_ms: operator.last_signed,
        joined_unix_ms: operator.since,
        note: operator.locked.clone().unwrap_or_default(),
        roles: key.map(|key| key.roles.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        key_expires_unix_ms: key.map_or(0, |key| key.expires.as_millisecond()),
        ..Default::default()
    };
    let idle = now.as_millisecond() - operator.last_seen.max(operator.since);
    if state == OperatorState::Active && idle >= limits::OPERATOR_UNUSED.as_millis() as i64 {
        summary.push_flags(OperatorFlag::Unused);
    }
    if state == OperatorState::Active
        && key.is_some_and(|key| now < key.expires && key.expires <= now + limits::KEY_EXPIRES_SOON)
    {
        summary.push_flags(OperatorFlag::KeyExpires);
    }
    summary
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sfdata_common::{
        keys::SigningKey,
        trust::{OperatorKey, Role},
    };

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn flags(record: &records::Operator, expires: Timestamp, now: Timestamp) -> Vec<OperatorFlag> {
        let name: OperatorName = "alice".parse().unwrap();
        let key = SigningKey::generate().unwrap().public();
        let bundle = Bundle {
            version: 1,
            trust_domain: "sfdata.example".into(),
            issued: now,
            root_keys: vec![key],
            threshold: 1,
            operators: vec![OperatorKey { name: name.clone(), key, roles: vec![Role::Operator], expires }],
            dispatch_keys: vec![],
            ca_certificates: vec![],
        };
        summary(&name, record, Some(&bundle), now).flags().collect()
    }

    #[test]
    fn who_was_not_seen_for_long_is_flagged_and_so_is_a_key_that_ends() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ago = |days: u32| (now - DAY * days).as_millisecond();
        let record = |last_seen: i64, since: i64| records::Operator {
            joined: true,
            last_seen,
            since,
            ..records::Operator::default()
        };
        let far = now + DAY * 300;
        assert_eq!(flags(&record(ago(89), ago(400)), far, now), []);
        assert_eq!(flags(&record(ago(90), ago(400)), far, now), [OperatorFlag::Unused]);
        assert_eq!(flags(&record(0, ago(90)), far, now), [OperatorFlag::Unused], "joined, and never came back");
        assert_eq!(flags(&record(0, ago(3)), far, now), [], "joined lately");
        let locked = records::Operator { locked: Some("left".into()), ..record(ago(90), 0) };
        assert_eq!(flags(&locked, now + DAY, now), [], "locked out already");
        assert_eq!(flags(&record(ago(1), 0), now + DAY * 30, now), [OperatorFlag::KeyExpires]);
        assert_eq!(flags(&record(ago(1), 0), now + DAY * 31, now), []);
        assert_eq!(flags(&record(ago(1), 0), now - DAY, now), [], "ended: it is shown as that");
    }
}
