//! `hubctl audit`: the hub's record, and whether its chain holds. The chain is recomputed here; the hub's word on it is
//! not taken.

use std::collections::VecDeque;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sfdata_common::audit::Chain;
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

pub(super) fn to_json(entry: &AuditEntry) -> Value {
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
pub(super) async fn read(
    hub: &Hub,
    request: ListAuditRequest,
    mut each: impl FnMut(AuditEntry) -> bool,
) -> anyhow::Result<()> {
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
        let (mut chain, mut broken) = (Chain::default(), None);
        read(&hub, ListAuditRequest::default(), |entry| {
            broken = chain.add(&entry).err();
            broken.is_none()
        })
        .await?;
        let json = json!({
            "holds": broken.is_none(),
            "entries": chain.next,
            "head": hex::encode(chain.head),
            "broken_at": broken.map(|_| chain.next),
            "why": broken.map(|broken| broken.to_string()),
        });
        let mut table = Table::card();
        table.push(row!["entries", chain.next]);
        table.push(row!["head", hex::encode(chain.head)]);
        if let Some(broken) = broken {
            table.push(row!["broken at", chain.next]);
            table.push(row!["why", broken]);
        }
        context.output.data(&json, &[table])?;
        Ok(match broken {
            None => {
                output::note("the chain holds");
                Exit::Done
            }
            Some(broken) => {
                output::error(format_args!("the chain is broken at entry {}: {broken}", chain.next));
                Exit::NotDone
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_start_the_newest_are_meant() {
        let request = |from, limit| List { from, limit }.request();
        assert_eq!(request(None, None), (ListAuditRequest::default(), Some(50)));
        assert_eq!(request(Some(3), None), (ListAuditRequest { from: 3, limit: 0 }, None));
        assert_eq!(request(Some(3), Some(9)), (ListAuditRequest { from: 3, limit: 9 }, None));
    }
}
