//! The agent's book of usage, durably: the records that the hub may not have yet, and those of the last 35 days by which it
//! is known what has changed; what is reckoned from; how far the hub has it. And the bill, which is no part of it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    limits,
    usage::{Hour, Key, Meter, Record},
};
use sfdata_proto::v1 as wire;

use super::{bill::Bill, ledger::Ledger};
use crate::database::{Database, OpenError};

const FOLDER: &str = "usage";
const LEDGER: &[u8] = b"ledger";
const BOOK: &[u8] = b"book";
const KEPT: &[u8] = b"kept";
const BILL: &[u8] = b"bill";
/// Records by revision.
const RECORDS: &[u8] = b"r/";

/// Why it can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It can't be opened.
    #[error("the book of usage in {path} cannot be opened: {why}")]
    Open {
        /// Where.
        path: String,
        /// What the system said.
        why: String,
    },
    /// It can't be written.
    #[error("the book of usage cannot be written: {0}")]
    Write(String),
}

/// An open book.
#[derive(Debug)]
pub(super) struct Book {
    disk: Database,
    number: u64,
    revision: u64,
    kept: u64,
    /// The revision and the amount of each record.
    known: HashMap<(Hour, Key), (u64, u64)>,
    /// What the hub may not have, by revision.
    unsent: BTreeMap<u64, Record>,
    bill: Bill,
}

impl Book {
    /// The one in `data_dir`. One that is damaged is moved aside: usage is not worth an agent that does not start.
    pub(super) fn open(data_dir: &Path) -> Result<(Self, Ledger), Error> {
        let path = data_dir.join(FOLDER);
        let open = |why: String| Error::Open { path: path.display().to_string(), why };
        let disk = match Database::open(&path) {
            Ok(disk) => disk,
            Err(OpenError::Io(source)) => return Err(open(source.to_string())),
            Err(OpenError::Damaged) => {
                let aside = data_dir.join("usage.damaged");
                tracing::error!(path = %path.display(), "the book of usage is damaged; it is put aside as usage.damaged, and a new one is begun");
                let _ = std::fs::remove_dir_all(&aside);
                std::fs::rename(&path, &aside).map_err(|source| open(source.to_string()))?;
                Database::open(&path).map_err(|_| open("a new one can't be made either".into()))?
            }
        };
        let read = |key: &[u8]| disk.db.get(key).map_err(|source| open(source.to_string()));
        let number = |value: sled::IVec| value.as_ref().try_into().map(u64::from_be_bytes).unwrap_or_default();
        let book = read(BOOK)?.map(number);
        let kept = read(KEPT)?.map(number).unwrap_or_default();
        let ledger = read(LEDGER)?.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let bill = read(BILL)?.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let (known, unsent) = (HashMap::new(), BTreeMap::new());
        let mut this = Self { disk, number: 0, revision: kept, kept, known, unsent, bill };
        for item in this.disk.db.scan_prefix(RECORDS) {
            let (_, value) = item.map_err(|source| open(source.to_string()))?;
            let record = wire::UsageRecord::decode(value.as_ref()).ok();
            let Some(record) = record.and_then(|record| Record::of_sum(&record).ok()) else { continue };
            this.revision = this.revision.max(record.revision);
            this.known.insert((record.hour, record.key.clone()), (record.revision, record.amount));
            if record.revision > kept {
                this.unsent.insert(record.revision, record);
            }
        }
        this.number = match book {
            Some(book) => book,
            None => {
                let new: [u8; 8] =
                    sfdata_common::ids::CommandId::generate().as_bytes()[8..16].try_into().unwrap_or_default();
                let write = this.disk.db.insert(BOOK, &new).map_err(|source| source.to_string());
                write.and_then(|_| this.disk.sync().map_err(|source| source.to_string())).map_err(Error::Write)?;
                u64::from_be_bytes(new)
            }
        };
        Ok((this, ledger))
    }

    /// Note what was reckoned, with what it was reckoned from: durable when this returns, both or neither. What is `whole` and
    /// not among its hour's amounts is none; what is later than `last` is void.
    pub(super) fn note(
        &mut self,
        ledger: &Ledger,
        amounts: &[(Hour, BTreeMap<Key, u64>)],
        whole: impl Fn(Hour, &Key) -> bool,
        last: Hour,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mut changed: Vec<(Hour, Key, u64)> = Vec::new();
        for (hour, of_hour) in amounts {
            for (key, amount) in of_hour {
                let known = self.known.get(&(*hour, key.clone())).map(|(_, known)| *known);
                if known.is_none_or(|known| known < *amount || known > *amount && !only_grows(key.meter)) {
                    changed.push((*hour, key.clone(), *amount));
                }
            }
        }
        let covered = |hour: &Hour| amounts.iter().find(|(one, _)| one == hour).map(|(_, of_hour)| of_hour);
        for ((hour, key), (_, amount)) in &self.known {
            let gone = covered(hour).is_some_and(|of_hour| whole(*hour, key) && !of_hour.contains_key(key));
            if *amount > 0 && (gone || *hour > last && whole(*hour, key)) {
                changed.push((*hour, key.clone(), 0));
            }
        }
        let mut batch = sled::Batch::default();
        batch.insert(LEDGER, serde_json::to_vec(ledger).map_err(|error| Error::Write(error.to_string()))?);
        let any = !changed.is_empty();
        let mut revision = self.revision;
        let mut records = Vec::new();
        changed.sort();
        for (hour, key, amount) in changed {
            revision += 1;
            let record = Record { revision, hour, key, amount };
            if let Some((before, _)) = self.known.get(&(hour, record.key.clone())) {
                batch.remove(place(*before));
            }
            batch.insert(place(revision), wire::UsageRecord::from(&record).encode_to_vec());
            records.push(record);
        }
        let oldest = Hour::of(now - limits::USAGE_KEPT);
        let old: Vec<(Hour, Key)> = self.known.keys().filter(|(hour, _)| *hour < oldest).cloned().collect();
        for key in &old {
            if let Some((revision, _)) = self.known.get(key) {
                batch.remove(place(*revision));
            }
        }
        self.write(batch)?;
        self.revision = revision;
        for record in records {
            let before = self.known.insert((record.hour, record.key.clone()), (record.revision, record.amount));
            if let Some((before, _)) = before {
                self.unsent.remove(&before);
            }
            self.unsent.insert(record.revision, record);
        }
        for key in old {
            if let Some((revision, _)) = self.known.remove(&key) {
                self.unsent.remove(&revision);
            }
        }
        Ok(any)
    }

    fn write(&self, batch: sled::Batch) -> Result<(), Error> {
        self.disk.db.apply_batch(batch).map_err(|source| Error::Write(source.to_string()))?;
        self.disk.sync().map_err(|source| Error::Write(source.to_string()))
    }

    /// Records that the hub may not have.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// What the hub may not have, the oldest first; `None` when it has all.
    pub(super) fn batch(&self, region: &str) -> Option<wire::UsageBatch> {
        let records: Vec<wire::UsageRecord> =
            self.unsent.values().take(limits::USAGE_BATCH).map(wire::UsageRecord::from).collect();
        (!records.is_empty()).then(|| wire::UsageBatch { book: self.number, region: region.to_owned(), records })
    }

    /// The hub has these.
    pub(super) fn kept(&mut self, kept: &wire::UsageKept) -> Result<(), Error> {
        if kept.book != self.number || kept.revision <= self.kept || kept.revision > self.revision {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        batch.insert(KEPT, &kept.revision.to_be_bytes());
        self.write(batch)?;
        self.kept = kept.revision;
        self.unsent = self.unsent.split_off(&(kept.revision + 1));
        Ok(())
    }

    /// What is known of the bill.
    pub(super) fn bill(&self) -> &Bill {
        &self.bill
    }

    /// What is known of it from now on: durable when this returns.
    pub(super) fn note_bill(&mut self, bill: Bill) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        batch.insert(BILL, serde_json::to_vec(&bill).map_err(|error| Error::Write(error.to_string()))?);
        self.write(batch)?;
        self.bill = bill;
        Ok(())
    }

    /// A reading of the bill that the hub may not have.
    pub(super) fn unsent_bill(&self) -> Option<wire::Bill> {
        self.bill.unsent(self.number)
    }

    /// The hub has it.
    pub(super) fn bill_kept(&mut self, kept: &wire::BillKept) -> Result<(), Error> {
        match self.bill.kept(kept.revision).filter(|_| kept.book == self.number) {
            Some(bill) => self.note_bill(bill),
            None => Ok(()),
        }
    }
}

/// CloudWatch counts them itself, and takes nothing back: a lower sum of an hour was told by fewer log groups or another filter
/// than the one before, and that one holds.
fn only_grows(meter: Meter) -> bool {
    matches!(meter, Meter::S3Requests | Meter::LogsIngested)
}

fn place(revision: u64) -> Vec<u8> {
    [RECORDS, &revision.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use sfdata_common::usage::{Component, bill::Month};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(495_012 * 3600 + 60).unwrap()
    }

    fn key() -> Key {
        Key::new(Meter::FargateCpu, Component::Daemon)
    }

    fn note(book: &mut Book, hour: u32, amount: u64) -> bool {
        let amounts = [(Hour(hour), BTreeMap::from([(key(), amount)]))];
        book.note(&Ledger::default(), &amounts, |_, _| true, Hour(495_012), now()).unwrap()
    }

    fn told(book: &Book) -> Vec<(u64, u32, u64)> {
        let batch = book.batch("eu-west-2").into_iter().flat_map(|batch| batch.records);
        batch.map(|record| (record.revision, record.hour, record.amount)).collect()
    }

    #[tokio::test]
    async fn what_changed_is_told_until_the_hub_has_it_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert!(note(&mut book, 495_011, 10) && note(&mut book, 495_012, 5));
        assert!(!note(&mut book, 495_012, 5), "nothing changed");
        assert!(note(&mut book, 495_012, 7));
        assert_eq!(told(&book), [(1, 495_011, 10), (3, 495_012, 7)]);
        let number = book.number;
        drop(book);
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert_eq!((book.number, told(&book)), (number, vec![(1, 495_011, 10), (3, 495_012, 7)]));
        book.kept(&wire::UsageKept { book: number + 1, revision: 3 }).unwrap();
        book.kept(&wire::UsageKept { book: number, revision: 9 }).unwrap();
        assert_eq!(told(&book).len(), 2, "another book's, or one that was never told");
        book.kept(&wire::UsageKept { book: number, revision: 1 }).unwrap();
        assert_eq!(told(&book), [(3, 495_012, 7)]);
        drop(book);
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert_eq!(told(&book), [(3, 495_012, 7)]);
        book.kept(&wire::UsageKept { book: number, revision: 3 }).unwrap();
        drop(book);
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert_eq!(told(&book), []);
        assert!(!note(&mut book, 495_012, 7), "it is known what the hub has");
        assert!(note(&mut book, 495_012, 8));
        assert_eq!(told(&book), [(4, 495_012, 8)]);
    }

    #[tokio::test]
    async fn an_hours_sum_of_cloudwatch_never_falls() {
        let folder = tempfile::tempdir().unwrap();
        let (mut book, _) = Book::open(folder.path()).unwrap();
        let mut read = |requests| {
            let key = Key::new(Meter::S3Requests, Component::Shared);
            let amounts = [(Hour(495_012), BTreeMap::from([(key, requests)]))];
            book.note(&Ledger::default(), &amounts, |_, _| false, Hour(495_012), now()).unwrap();
            told(&book).pop().unwrap().2
        };
        assert_eq!([5, 9, 4, 9, 10].map(&mut read), [5, 9, 9, 9, 10]);
    }

    #[tokio::test]
    async fn a_reading_of_the_bill_is_told_until_the_hub_has_it_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert!(book.bill().is_due(now()) && book.unsent_bill().is_none());
        let asked = book.bill().asked(now());
        book.note_bill(asked).unwrap();
        drop(book);
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert!(!book.bill().is_due(now()), "a restart does not ask again");
        let month = Month { first_day: 20_758, currency: "USD".parse().unwrap(), amount_micros: -5, estimated: true };
        let answered = book.bill().answered(now(), vec![month]);
        book.note_bill(answered).unwrap();
        note(&mut book, 495_012, 5);
        let (reading, number) = (book.unsent_bill().unwrap(), book.number);
        assert_eq!((reading.book, reading.revision, reading.months[0].amount_micros), (number, 1, -5));
        book.bill_kept(&wire::BillKept { book: number + 1, revision: 1 }).unwrap();
        drop(book);
        let (mut book, _) = Book::open(folder.path()).unwrap();
        assert_eq!(book.unsent_bill(), Some(reading));
        book.bill_kept(&wire::BillKept { book: number, revision: 1 }).unwrap();
        drop(book);
        let (book, _) = Book::open(folder.path()).unwrap();
        assert_eq!(book.unsent_bill(), None);
        assert_eq!(told(&book).len(), 1, "the hub's word on one is none on the other");
    }

    #[tokio::test]
    async fn what_turns_out_not_to_be_is_told_as_nothing_and_what_is_old_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (mut book, _) = Book::open(folder.path()).unwrap();
        note(&mut book, 495_010, 3);
        note(&mut book, 495_014, 10); // a clock that was ahead
        let amounts = [(Hour(495_010), BTreeMap::new())];
        book.note(&Ledger::default(), &amounts, |_, _| true, Hour(495_012), now()).unwrap();
        assert_eq!(told(&book), [(3, 495_010, 0), (4, 495_014, 0)]);
        let later = now() + 40 * jiff::SignedDuration::from_hours(24);
        book.note(&Ledger::default(), &[], |_, _| true, Hour(500_000), later).unwrap();
        assert_eq!((told(&book).len(), book.known.len()), (0, 0));
    }
}
