//! The keys that agents' receipts are verified by: the one on the register, and for a day the one that it took the place of.

use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{dispatch::RECEIPT_KEY_PAYLOAD_TYPE, envelope, ids::AgentId, keys::PublicKey, limits};
use sfdata_proto::v1 as wire;

use super::Fleet;
use crate::{
    audit::{self, About as _},
    store::{self, Batch, keys, records},
};

/// Why another receipt key is not put on the register.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not signed by both keys, or of another agent.
    #[error("it is not signed by the receipt key of {0} that is on the register, and by the new one")]
    Signature(AgentId),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Fleet {
    /// The keys by which receipts of an agent are taken now.
    pub fn receipt_keys(&self, agent: &AgentId, now: Timestamp) -> Vec<PublicKey> {
        self.known_receipt_keys(agent, |until| until > now.as_millisecond())
    }

    /// Every key that ever signed receipts of an agent and that the register has, the present one first.
    pub fn all_receipt_keys(&self, agent: &AgentId) -> Vec<PublicKey> {
        self.known_receipt_keys(agent, |_| true)
    }

    fn known_receipt_keys(&self, agent: &AgentId, counts: impl Fn(i64) -> bool) -> Vec<PublicKey> {
        let registry = self.read();
        let Some(agent) = registry.agents.get(agent) else { return Vec::new() };
        let former = agent.record.former_receipt_keys.iter().rev().filter(|former| counts(former.until));
        let keys = [&agent.record.receipt_key].into_iter().chain(former.map(|former| &former.key));
        keys.filter_map(|key| PublicKey::from_bytes(key)).collect()
    }

    /// Put an agent's next receipt key on the register, by its own word; gives the key. The same again changes nothing.
    pub async fn change_receipt_key(
        &self,
        id: &AgentId,
        envelope: &wire::Envelope,
        now: Timestamp,
    ) -> Result<PublicKey, Error> {
        let wrong = || Error::Signature(id.clone());
        // Which keys have to have signed it stands in it: nothing else of it is read before both have been verified.
        let said = wire::ReceiptKey::decode(&envelope.payload[..]).map_err(|_| wrong())?;
        let next =
            PublicKey::from_bytes(&said.public_key).filter(|_| said.agent_id == id.as_str()).ok_or_else(wrong)?;
        let signed = |key: &PublicKey| envelope::is_signed_by(envelope, RECEIPT_KEY_PAYLOAD_TYPE, key);
        let written = {
            let mut registry = self.write();
            let agent = registry.agents.get_mut(id).ok_or_else(wrong)?;
            let present = PublicKey::from_bytes(&agent.record.receipt_key).ok_or_else(wrong)?;
            if !signed(&present) || !signed(&next) {
                return Err(wrong());
            }
            let mut batch = Batch::default();
            if present != next {
                let until = (now + limits::RECEIPT_KEY_OVERLAP).as_millisecond();
                let former = records::FormerKey { key: agent.record.receipt_key.clone(), until };
                agent.record.former_receipt_keys.push(former);
                let surplus = agent.record.former_receipt_keys.len().saturating_sub(limits::FORMER_RECEIPT_KEYS);
                agent.record.former_receipt_keys.drain(..surplus);
                agent.record.receipt_key = said.public_key.clone();
                batch.put(keys::agent(id), &agent.record);
                let entry = audit::draft(now, "agent.receipt-key", audit::agent(id), id.to_string(), next.to_string());
                batch.audit(entry.about(envelope));
            }
            self.store.submit(batch)
        };
        written.await?;
        Ok(next)
    }
}
