//! All that proves who ordered a command and what came of it, for who does not take the hub's word: signed envelopes as they
//! came and went, the trust bundles that say whose signatures count, and the part of the audit record around them.

use std::{sync::Arc, time::Duration};

use sfdata_common::{ids::CommandId, limits};
use sfdata_proto::v1 as wire;

use super::Commands;
use crate::store::{self, keys, records};

/// Entries are drafted a little before they have their place, and clocks are set: the record is looked through from so much
/// before a command's first change to so much after its last.
const AROUND: Duration = Duration::from_secs(60);

impl Commands {
    /// The proof of a command that there is.
    pub fn proof(&self, id: CommandId) -> Result<wire::Proof, store::Error> {
        let bundles = self.store.scan::<wire::Envelope>(keys::BUNDLES).map(|item| item.map(|(_, envelope)| envelope));
        let targets = self.targets(id)?;
        let proofs = targets.iter().map(|target| {
            let Ok(agent) = target.agent_id.parse() else { return Ok(wire::TargetProof::default()) };
            // The one that signed it, be it another's turn by now.
            let keys = self.fleet.all_receipt_keys(&agent);
            let signed = target.receipt.as_ref().and_then(|receipt| receipt.signatures.first());
            let of_then = signed.and_then(|signed| keys.iter().find(|key| key.id() == signed.key_id));
            let key = of_then.or(keys.first());
            Ok(wire::TargetProof {
                agent_id: target.agent_id.clone(),
                dispatch: self.store.get(&keys::dispatch(id, &agent))?,
                receipt: target.receipt.clone(),
                receipt_key: key.map_or_else(Default::default, |key| key.as_bytes().to_vec().into()),
            })
        });
        let submitted = self.store.get::<records::Command>(&keys::command(id))?.map_or(0, |record| record.submitted);
        let changed = targets.iter().map(|target| target.changed_unix_ms).max().unwrap_or(submitted);
        Ok(wire::Proof {
            trust_bundles: bundles.collect::<Result<_, _>>()?,
            targets: proofs.collect::<Result<_, store::Error>>()?,
            audit: self.entries(id, submitted, changed)?,
        })
    }

    /// The record from the first entry about a command to its last.
    fn entries(&self, id: CommandId, from: i64, until: i64) -> Result<Vec<wire::AuditEntry>, store::Error> {
        let (id, around) = (id.to_string(), i64::try_from(AROUND.as_millis()).unwrap_or(i64::MAX));
        let about = |entry: &wire::AuditEntry| entry.subject == id;
        let (mut entries, mut end, mut whole) = (Vec::new(), 0, true);
        for entry in self.store.audit(self.first_entry(from - around)?) {
            let entry = entry?;
            if entry.at_unix_ms > until + around {
                break;
            }
            let own = about(&entry);
            if own || (whole && !entries.is_empty()) {
                entries.push(entry);
            }
            if whole && entries.len() > limits::PROOF_ENTRIES {
                whole = false;
                entries.retain(about);
                end = entries.len();
            } else if own {
                end = entries.len();
            }
        }
        entries.truncate(end);
        Ok(entries)
    }

    /// The first entry that is not before an instant: entries are in the order of time.
    fn first_entry(&self, unix_ms: i64) -> Result<u64, store::Error> {
        let (mut low, mut high) = (0, self.store.audit_next()?);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry: Option<wire::AuditEntry> = self.store.get(&keys::audit(middle))?;
            // What is before a restored record's beginning is not there.
            if entry.is_none_or(|entry| entry.at_unix_ms < unix_ms) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The proof of a command, looked up where nobody waits for it.
    pub async fn proof_of(self: Arc<Self>, id: CommandId) -> Result<wire::Proof, store::Error> {
        tokio::task::spawn_blocking(move || self.proof(id)).await.unwrap_or(Err(store::Error::Stopped))
    }
}
