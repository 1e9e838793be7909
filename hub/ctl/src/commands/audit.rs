//! `hubctl audit`: the hub's record, and whether its chain holds. The chain is recomputed here; the hub's word on it is
//! not taken.

use std::collections::VecDeque;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use prost::Message as _;
use serde_json::{Value, json};
use sfdata_common::keys::sha256;
use sfdata_proto::v1::{AuditEntry, ListAuditRequest};

use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    health::none_if_empty,
    output,
    table::{Table, row},
    words,
};

/// Entries shown when nothing else is asked for.
const NEWEST: u64 = 50;

/// Read and verify the record of who did what
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    List(List),
    Verify(Verify),
}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Verify(verify) => verify.run(context).await,
        }
    }
}

/// List entries, oldest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl audit list                          The newest 50
  hubctl audit list --from 0 --limit 100     The first 100")]
pub(crate) struct List {
    /// First index to show; without it, the newest entries are shown
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// At most so many [default: 50, or all with --from]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl List {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let (request, keep) = self.request();
        let mut shown = VecDeque::new();
        read(&hub, request, |entry| {
            if keep.is_some_and(|keep| shown.len() as u64 == keep) {
                shown.pop_front();
            }
            shown.push_back(entry);
            true
        })
        .await?;
        let mut table = Table::new(&["INDEX", "TIME", "KIND", "ACTOR", "SUBJECT", "DETAIL"]);
        for entry in &shown {
            let time = words::second(entry.at_unix_ms);
            table.push(row![entry.index, time, entry.kind, entry.actor, entry.subject, entry.detail]);
        }
        let json = json!({ "entries": shown.iter().map(to_json).collect::<Vec<_>>() });
        context.output.data(&json, &[table])?;
        Ok(Exit::Done)
    }

    /// What to ask for, and how many of the answer's last entries to keep. The hub has no word for "the newest", so
    /// that its whole record passes by.
    fn request(&self) -> (ListAuditRequest, Option<u64>) {
        match self.from {
            Some(from) => (ListAuditRequest { from, limit: self.limit.unwrap_or(0) }, None),
            None => (ListAuditRequest::default(), Some(self.limit.unwrap_or(NEWEST))),
        }
    }
}

fn to_json(entry: &AuditEntry) -> Value {
    json!({
        "index": entry.index,
        "time": words::time(entry.at_unix_ms),
        "kind": entry.kind,
        "actor": entry.actor,
        "subject": entry.subject,
        "detail": entry.detail,
        "payload_digest": none_if_empty(&hex::encode(&entry.payload_digest)),
        "previous_hash": hex::encode(&entry.previous_hash),
        "hash": hex::encode(&entry.hash),
    })
}

/// Hand the entries over one by one, until `each` has seen enough.
async fn read(hub: &Hub, request: ListAuditRequest, mut each: impl FnMut(AuditEntry) -> bool) -> anyhow::Result<()> {
    const TRIED: &str = "read the audit record";
    let mut stream = hub.ask(TRIED, hub.operator().list_audit(request)).await?;
    while let Some(answer) = stream.message().await.map_err(|status| hub.words(TRIED, &status))? {
        if !each(answer.entry.context("the hub sent an empty audit entry")?) {
            break;
        }
    }
    Ok(())
}

/// Recompute the hash chain; print its length and head, or where it breaks
#[derive(Debug, Args)]
#[command(after_help = "\
Keep the head that it prints where the hub cannot write: a record that was only added to
since has that hash at that index. Exits with 1 when the chain is broken.")]
pub(crate) struct Verify {}

impl Verify {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let mut chain = Chain::default();
        read(&hub, ListAuditRequest::default(), |entry| chain.add(&entry)).await?;
        let json = json!({
            "holds": chain.broken.is_none(),
            "entries": chain.entries,
            "head": hex::encode(chain.head),
            "broken_at": chain.broken.as_ref().map(|broken| broken.index),
            "why": chain.broken.as_ref().map(|broken| broken.why),
        });
        let mut table = Table::card();
        table.push(row!["entries", chain.entries]);
        table.push(row!["head", hex::encode(chain.head)]);
        if let Some(broken) = &chain.broken {
            table.push(row!["broken at", broken.index]);
            table.push(row!["why", broken.why]);
        }
        context.output.data(&json, &[table])?;
        Ok(match chain.broken {
            None => {
                output::note("the chain holds");
                Exit::Done
            }
            Some(broken) => {
                output::error(format_args!("the chain is broken at entry {}: {}", broken.index, broken.why));
                Exit::NotDone
            }
        })
    }
}

/// A chain as far as it holds.
#[derive(Debug, Default)]
struct Chain {
    /// Entries that hold.
    entries: u64,
    /// Hash of the last of them; zeros before the first.
    head: [u8; 32],
    broken: Option<Broken>,
}

#[derive(Debug, PartialEq, Eq)]
struct Broken {
    index: u64,
    why: &'static str,
}

impl Chain {
    /// Check the next entry; whether the chain still holds.
    fn add(&mut self, entry: &AuditEntry) -> bool {
        let why = if entry.index != self.entries {
            Some("an index is missing or out of order")
        } else if entry.previous_hash != self.head.as_slice() {
            Some("it does not follow the entry before it")
        } else if entry.hash != hash(entry).as_slice() {
            Some("its content does not match its hash")
        } else {
            None
        };
        match why {
            Some(why) => self.broken = Some(Broken { index: self.entries, why }),
            None => {
                self.head = hash(entry);
                self.entries += 1;
            }
        }
        why.is_none()
    }
}

/// SHA-256 over the previous hash and the entry's encoding without its own hash.
fn hash(entry: &AuditEntry) -> [u8; 32] {
    let bare = AuditEntry { hash: Default::default(), ..entry.clone() };
    sha256(&[&entry.previous_hash[..], &bare.encode_to_vec()].concat())
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

    fn broken_at(record: &[AuditEntry]) -> Option<u64> {
        let mut chain = Chain::default();
        let _ = record.iter().all(|entry| chain.add(entry));
        chain.broken.map(|broken| broken.index)
    }

    #[test]
    fn a_whole_record_holds_and_every_change_breaks_it() {
        assert_eq!(broken_at(&record(5)), None);
        let changed = |change: fn(&mut Vec<AuditEntry>)| {
            let mut record = record(5);
            change(&mut record);
            broken_at(&record)
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
    fn without_a_start_the_newest_are_meant() {
        let request = |from, limit| List { from, limit }.request();
        assert_eq!(request(None, None), (ListAuditRequest::default(), Some(50)));
        assert_eq!(request(Some(3), None), (ListAuditRequest { from: 3, limit: 0 }, None));
        assert_eq!(request(Some(3), Some(9)), (ListAuditRequest { from: 3, limit: 9 }, None));
    }
}
