//! The audit record's chain: how an entry is hashed, and whether entries follow each other. Written in `proto/FORMAT.md`, so
//! that anybody can recompute it.

use prost::Message as _;
use sfdata_proto::v1::AuditEntry;

use crate::keys::sha256;

/// SHA-256 over the previous hash and the entry's encoding without its own hash, 32 bytes.
pub fn hash(entry: &AuditEntry) -> [u8; 32] {
    let bare = AuditEntry { hash: Default::default(), ..entry.clone() };
    sha256(&[&entry.previous_hash[..], &bare.encode_to_vec()].concat())
}

/// A chain as far as it holds.
#[derive(Debug, Default)]
pub struct Chain {
    /// Index that comes next.
    pub next: u64,
    /// Hash of the last entry that holds; zeros before the first.
    pub head: [u8; 32],
}

/// Why an entry does not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Its number.
    #[error("an index is missing or out of order")]
    Index,
    /// Its link.
    #[error("it does not follow the entry before it")]
    Link,
    /// Itself.
    #[error("its content does not match its hash")]
    Hash,
}

impl Chain {
    /// A part of the record, which begins with this entry.
    pub fn from(entry: &AuditEntry) -> Self {
        Self { next: entry.index, head: entry.previous_hash[..].try_into().unwrap_or_default() }
    }

    /// Check the next entry.
    pub fn add(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        if entry.index != self.next {
            Err(Broken::Index)
        } else if entry.previous_hash != self.head.as_slice() {
            Err(Broken::Link)
        } else if entry.hash != hash(entry).as_slice() {
            Err(Broken::Hash)
        } else {
            self.head = hash(entry);
            self.next += 1;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u64) -> Vec<AuditEntry> {
        let mut head = [0; 32];
        let mut record = Vec::new();
        for index in 0..length {
            let mut entry = AuditEntry {
                index,
                previous_hash: head.to_vec().into(),
                kind: "command.submitted".into(),
                actor: "operator/alice".into(),
                ..Default::default()
            };
            head = hash(&entry);
            entry.hash = head.to_vec().into();
            record.push(entry);
        }
        record
    }

    fn broken_at(mut chain: Chain, record: &[AuditEntry]) -> Option<u64> {
        record.iter().find_map(|entry| chain.add(entry).is_err().then_some(chain.next))
    }

    #[test]
    fn a_whole_record_holds_and_every_change_breaks_it() {
        assert_eq!(broken_at(Chain::default(), &record(5)), None);
        let changed = |change: fn(&mut Vec<AuditEntry>)| {
            let mut record = record(5);
            change(&mut record);
            broken_at(Chain::default(), &record)
        };
        assert_eq!(changed(|r| r[2].detail = "other".into()), Some(2));
        assert_eq!(changed(|r| drop(r.remove(3))), Some(3));
        assert_eq!(changed(|r| r.swap(1, 2)), Some(1));
        assert_eq!(changed(|r| drop(r.remove(0))), Some(0));
        // Rewritten with a hash that fits: the next one gives it away.
        let rewritten = changed(|r| {
            r[2].actor = "operator/mallory".into();
            r[2].hash = hash(&r[2]).to_vec().into();
        });
        assert_eq!(rewritten, Some(3));
    }

    #[test]
    fn a_part_holds_by_itself() {
        let part = &record(5)[2..];
        assert_eq!(broken_at(Chain::from(&part[0]), part), None);
        assert_eq!(broken_at(Chain::default(), part), Some(0));
    }
}
