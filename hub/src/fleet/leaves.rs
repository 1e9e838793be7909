//! Who issued the certificate that each member holds: what has to be known before an issuing CA leaves the trust bundle.

use jiff::Timestamp;
use sfdata_common::{keys::sha256, peer::Subject};

use super::Fleet;
use crate::store::{Batch, keys, records};

/// A CA in the registry: the first bytes of its certificate's digest.
pub fn ca_id(certificate: &[u8]) -> String {
    hex::encode(&sha256(certificate)[..8])
}

impl Fleet {
    /// A member was given a certificate with this chain, which ends then. Nobody waits for its being written.
    pub fn issued(&self, subject: &Subject, chain: &[Vec<u8>], ends: Timestamp) {
        let Some(issuer) = chain.get(1) else { return };
        let leaf = records::Leaf { ca: ca_id(issuer), ends: ends.as_millisecond() };
        let (mut registry, mut batch) = (self.write(), Batch::default());
        match subject {
            Subject::Agent(id) => {
                let Some(agent) = registry.agents.get_mut(id) else { return };
                agent.record.leaf = Some(leaf);
                batch.put(keys::agent(id), &agent.record);
            }
            Subject::Operator(name) => {
                let Some(operator) = registry.operators.get_mut(name) else { return };
                operator.leaf = Some(leaf);
                batch.put(keys::operator(name), operator);
            }
            Subject::Hub(_) => return,
        }
        drop(self.store.submit(batch));
    }

    /// The members who may come in, and whose certificate is of one of these CAs, or was given by an earlier release, of which
    /// nothing is noted.
    pub fn holding(&self, cas: &[String], now: Timestamp) -> Vec<Subject> {
        let held = |leaf: &Option<records::Leaf>| {
            leaf.as_ref().is_none_or(|leaf| cas.contains(&leaf.ca) && leaf.ends > now.as_millisecond())
        };
        let registry = self.read();
        let agents = registry.agents.iter().filter(|(_, agent)| {
            agent.record.locked.is_none() && !agent.record.receipt_key.is_empty() && held(&agent.record.leaf)
        });
        let operators = registry
            .operators
            .iter()
            .filter(|(_, operator)| operator.joined && operator.locked.is_none() && held(&operator.leaf));
        let mut members: Vec<Subject> = agents.map(|(id, _)| Subject::Agent(id.clone())).collect();
        members.extend(operators.map(|(name, _)| Subject::Operator(name.clone())));
        members.sort_by_key(ToString::to_string);
        members
    }
}
