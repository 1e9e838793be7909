//! The task behind [`Handle`](super::Handle): long polls of the queue, or listings of the bucket, into the book.
//!
//! It never judges by memory what may be deleted: a message's arrivals are in the book before it is held, and it is deleted
//! when none of them waits there any more. Stopping leaves nothing behind: what was received comes back by itself.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{command::ArrivalId, limits, outcome::FailureCode, retry::Reconnect};
use sfdata_proto::v1::ParkReason;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Handle, Inner,
    book::{Each, Listed, Parks, Room, State, Taken, Waits},
    event::{self, Arrival, Place, Record},
    written,
};
use crate::{
    config::{Aws, arrivals::Queue, arrivals::Unmatched},
    services::{
        Error, Services,
        sqs::{BATCH, LONG_POLL, Message},
    },
};

/// A message that is not in the book yet comes back so soon, should the agent die, or its long poll be cut off by a restart.
const RECEIVED: Duration = Duration::from_secs(15);
/// One whose arrivals wait is hidden for so long at a time; SQS allows 12 hours in all, after which it comes anew.
const HIDDEN: Duration = Duration::from_secs(15 * 60);
/// So long before it would come back, it is hidden again.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// The first poll after a start waits a second, so that it is known soon how it stands.
const FIRST_POLL: Duration = Duration::from_secs(1);
/// What could not be deleted or hidden is tried again after so long; what is due, is looked for as often.
const KEEP: Duration = Duration::from_secs(10);
/// There is no room: whether there is again, is looked for as often.
const FULL: Duration = Duration::from_secs(5);

/// S3 user guide, "Multipart upload": an object is as old as the beginning of its upload, which may be that long ago, until
/// incomplete uploads are ended. What is that old is looked at in each listing.
pub(super) fn overlap(listed: Listed) -> i64 {
    const DAY: i64 = 24 * 3600 * 1000;
    (listed.reached - (limits::INCOMPLETE_UPLOAD_DAYS as i64 + 1) * DAY).max(listed.floor)
}

/// Takes in what arrives.
#[derive(Debug)]
pub struct Source {
    handle: Handle,
    services: Services,
    queue: Option<Queue>,
}

/// Ids of messages, each with what it is deleted and hidden by.
type Receipts = Vec<(String, String)>;

/// Messages that were received and are not deleted, by their ids.
#[derive(Default)]
struct Held(Mutex<HashMap<String, Hold>>);

struct Hold {
    receipt: String,
    arrivals: Vec<ArrivalId>,
    /// Whether all of it is in the book; what is not, is kept hidden until there is room, so that it is not received, and
    /// counted by a dead-letter queue, time and again.
    taken: Taken,
    until: Instant,
}

/// What is to be done with the messages that are held.
#[derive(Default)]
struct Due {
    /// To be deleted.
    done: Receipts,
    /// To be hidden again.
    hide: Receipts,
    /// There is room for them now.
    show: Receipts,
    /// For so many there is none.
    outside: usize,
}

impl Source {
    /// What takes in for this handle.
    pub fn new(handle: &Handle, services: Services, aws: &Aws) -> Self {
        let settings = handle.inner.as_ref().map(|inner| &inner.settings);
        let queue = settings.and_then(|settings| settings.queue(aws));
        Self { handle: handle.clone(), services, queue }
    }

    /// Take in until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Some(inner) = self.handle.inner.as_deref() else { return };
        let work = async {
            match &self.queue {
                Some(queue) => {
                    let place = self.place(inner, queue).await;
                    let held = Held::default();
                    tokio::join!(self.poll(inner, queue, &place, &held), self.keep(inner, queue, &held));
                }
                None if inner.settings.queue.is_some() => {
                    inner.unreadable("rejected: arrivals.queue names no queue; correct it".into());
                }
                None if inner.settings.list_every.is_zero() => {}
                None => self.list_for_ever(inner).await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = Box::pin(work) => {}
        }
    }

    /// Where files arrive, once it is known that the queue is of this account.
    async fn place(&self, inner: &Inner, queue: &Queue) -> Place {
        let mut pause = Reconnect::default();
        loop {
            match self.services.account().await {
                Ok(account) if account == queue.account => {
                    return Place { bucket: inner.bucket.clone(), region: inner.region.clone(), account };
                }
                Ok(account) => inner.unreadable(format!(
                    "rejected: arrivals.queue is of account {}, and the agent of {account}; name a queue of its own",
                    queue.account
                )),
                Err(error) => inner.unreadable(error.health()),
            }
            sleep(pause.next_delay()).await;
        }
    }

    async fn poll(&self, inner: &Inner, queue: &Queue, place: &Place, held: &Held) {
        let (mut pause, mut wait) = (Reconnect::default(), FIRST_POLL);
        let mut told = false;
        loop {
            let waiting = inner.book.seen().borrow().count;
            if waiting >= limits::ARRIVALS_WAITING || held.outside() >= limits::ARRIVALS_PARKED {
                sleep(FULL).await;
                continue;
            }
            if let Err(low) = written(inner.book.has_disk()) {
                if !std::mem::replace(&mut told, true) {
                    warn!(error = %low, "nothing is received");
                }
                inner.unreadable(low.health());
                sleep(FULL).await;
                continue;
            }
            let messages = match self.services.sqs.receive(&queue.url, wait, RECEIVED).await {
                Ok(messages) => messages,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, "it is not known what arrives");
                    }
                    inner.unreadable(error.health());
                    sleep(pause.next_delay()).await;
                    continue;
                }
            };
            let mut all = true;
            for message in messages {
                match self.take_in(inner, place, held, message).await {
                    Ok(taken) => all &= taken == Taken::All,
                    Err(error) => return inner.unreadable(error.health()), // of the book, with which the agent ends
                }
            }
            if std::mem::take(&mut told) {
                info!("it is known again what arrives");
            }
            (pause, wait) = (Reconnect::default(), LONG_POLL);
            inner.readable();
            if !all {
                sleep(FULL).await;
            }
        }
    }

    async fn take_in(&self, inner: &Inner, place: &Place, held: &Held, message: Message) -> Result<Taken, Error> {
        let until = Instant::now() + RECEIVED;
        let now = Timestamp::now();
        let (arrivals, odd) = inner.sorted(event::read(&message.body, place, now), now);
        let ids = arrivals.iter().map(|(id, _)| *id).collect();
        let taken = written(inner.book.take_in(arrivals, odd).await)?;
        held.add(message, ids, taken, until);
        inner.settled.notify_one();
        Ok(taken)
    }

    /// Delete what is handed on, and keep hidden what is not.
    async fn keep(&self, inner: &Inner, queue: &Queue, held: &Held) {
        loop {
            tokio::select! {
                () = inner.settled.notified() => {}
                () = sleep(KEEP) => {}
            }
            let due = inner.book.look(|state| held.due(Instant::now() + MARGIN, state));
            // One that fails keeps no other from being tried: what is not hidden comes back, and is counted.
            let (hidden, deleted, shown) = tokio::join!(
                self.hide(queue, held, &due.hide),
                self.delete(queue, held, &due.done),
                self.show(queue, held, &due.show),
            );
            let failed = hidden.or(deleted).or(shown);
            let full = (due.outside > 0).then(|| {
                let text = format!(
                    "full: of {} messages not all was taken in, and they stay in the queue; see hubctl arrivals list, \
                     then retry or drop what is parked",
                    due.outside
                );
                Error::failed(FailureCode::Unavailable, text)
            });
            let failed = failed.or(full);
            let mut kept_back = inner.kept_back();
            if let Some(error) = failed.as_ref().filter(|_| kept_back.is_none()) {
                warn!(%error, "messages of the queue stay in it, or will be received again");
            }
            *kept_back = failed.map(|error| error.health());
        }
    }

    async fn delete(&self, queue: &Queue, held: &Held, done: &[(String, String)]) -> Option<Error> {
        let mut failed = None;
        for batch in done.chunks(BATCH) {
            match self.services.sqs.delete(&queue.url, &receipts(batch)).await {
                // What SQS does not delete comes back, and is known then.
                Ok(()) => held.forget(batch.iter().map(|(id, _)| id)),
                // Each of them would wait as long, and hiding must come round in time.
                Err(error) if error.is_passing() => return Some(error),
                Err(error) => failed = Some(error),
            }
        }
        failed
    }

    async fn hide(&self, queue: &Queue, held: &Held, due: &[(String, String)]) -> Option<Error> {
        let mut failed = None;
        for batch in due.chunks(BATCH) {
            let until = Instant::now() + HIDDEN;
            match self.services.sqs.hide(&queue.url, &receipts(batch), HIDDEN).await {
                Ok(gone) => {
                    held.forget(gone.iter().filter_map(|at| batch.get(*at)).map(|(id, _)| id));
                    held.hidden(batch.iter().map(|(id, _)| id), until);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed
    }

    /// What there is room for now is received again, at once.
    async fn show(&self, queue: &Queue, held: &Held, room: &[(String, String)]) -> Option<Error> {
        let mut failed = None;
        for batch in room.chunks(BATCH) {
            // Forgotten first: it may be received, and held anew, before the answer is here. Otherwise it comes by itself.
            held.forget(batch.iter().map(|(id, _)| id));
            match self.services.sqs.hide(&queue.url, &receipts(batch), Duration::ZERO).await {
                Err(error) if error.is_passing() => return Some(error),
                shown => failed = shown.err().or(failed),
            }
        }
        failed
    }

    async fn list_for_ever(&self, inner: &Inner) {
        let mut told = false;
        loop {
            match self.list(inner).await {
                Ok(()) => {
                    told = false;
                    inner.readable();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, "it is not known what arrives");
                    }
                    inner.unreadable(error.health());
                }
            }
            sleep(inner.settings.list_every).await;
        }
    }

    /// One listing, page by page. What is there the first time is known and starts nothing.
    async fn list(&self, inner: &Inner) -> Result<(), Error> {
        written(inner.book.has_disk())?;
        let before = inner.book.look(|state| state.listed);
        let began = Timestamp::now();
        let mut reached = (began - limits::CLOCK_SKEW).as_millisecond();
        let from = overlap(before.unwrap_or(Listed { reached, floor: 0 }));
        let (mut after, mut known) = (None, 0);
        loop {
            let (objects, next) = self.services.s3.listed(&inner.bucket, after).await?;
            let mut found = Vec::new();
            for object in objects {
                reached = reached.max(object.modified);
                if object.modified <= from || (object.size == 0 && object.key.ends_with('/')) {
                    continue;
                }
                let mark = format!("{} {}", object.etag.trim_matches('"'), object.modified);
                found.push(Arrival { key: object.key, mark, size: object.size, at: object.modified });
            }
            known += found.len();
            if before.is_none() {
                let ids = found.iter().map(|arrival| (arrival.id(&inner.bucket), arrival.at)).collect();
                written(inner.book.know(ids, began).await)?;
            } else {
                let (arrivals, odd) = inner.sorted(found.into_iter().map(Record::Arrival).collect(), began);
                if let Taken::Full(_) = written(inner.book.take_in(arrivals, odd).await)? {
                    return Ok(()); // as many wait as may; the rest is listed again
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        // More than the book has room for at the first look: then it goes by time alone.
        if before.is_none() {
            info!(
                files = known,
                "the book of arrivals is new: all that is in the bucket counts as seen and starts nothing; what is still to \
                 be handed on has to be put there once more"
            );
        }
        let floor = if before.is_none() && known > limits::ARRIVALS_KNOWN_MOST / 2 { reached } else { 0 };
        written(inner.book.listed(reached, floor).await)
    }
}

impl Inner {
    /// Records as the book has them; what no rule is for may not matter.
    pub(super) fn sorted(&self, records: Vec<Record>, now: Timestamp) -> (Each<Waits>, Each<Parks>) {
        let (mut arrivals, mut odd) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Arrival(arrival) => {
                    if self.settings.unmatched == Unmatched::Wake || self.settings.rule(&arrival.key).is_some() {
                        arrivals.push((arrival.id(&self.bucket), Waits::new(arrival, now)));
                    }
                }
                Record::Odd(reason, why, body) => {
                    odd.push((ArrivalId::of(&[body.as_bytes()]), parks(reason, why, body, now)))
                }
            }
        }
        (arrivals, odd)
    }
}

fn receipts(batch: &[(String, String)]) -> Vec<String> {
    batch.iter().map(|(_, receipt)| receipt.clone()).collect()
}

fn parks(reason: ParkReason, why: &str, mut body: String, now: Timestamp) -> Parks {
    body.truncate(body.floor_char_boundary(limits::ARRIVAL_BYTES));
    Parks { reason: reason.into(), detail: why.into(), parked: now.as_millisecond(), arrival: None, body }
}

impl Held {
    fn each<R>(&self, with: impl FnOnce(&mut HashMap<String, Hold>) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, message: Message, arrivals: Vec<ArrivalId>, taken: Taken, until: Instant) {
        self.each(|held| held.insert(message.id, Hold { receipt: message.receipt, arrivals, taken, until }));
    }

    /// How many messages are not wholly in the book.
    fn outside(&self) -> usize {
        self.each(|held| held.values().filter(|hold| hold.taken != Taken::All).count())
    }

    /// What is to be done now; what would come back before `by` is to be hidden again.
    fn due(&self, by: Instant, state: &State) -> Due {
        let (mut due, mut room) = (Due::default(), Room::of(state));
        self.each(|held| {
            for (id, hold) in held.iter() {
                let one = || (id.clone(), hold.receipt.clone());
                let outside = hold.taken != Taken::All;
                if outside && room.take(hold.taken) {
                    due.show.push(one());
                    continue;
                }
                due.outside += usize::from(outside);
                if !outside && !hold.arrivals.iter().any(|id| state.waiting.contains_key(id)) {
                    due.done.push(one());
                } else if hold.until < by {
                    due.hide.push(one());
                }
            }
        });
        due
    }

    fn hidden<'a>(&self, ids: impl Iterator<Item = &'a String>, until: Instant) {
        self.each(|held| {
            for id in ids {
                if let Some(hold) = held.get_mut(id) {
                    hold.until = until;
                }
            }
        });
    }

    fn forget<'a>(&self, ids: impl Iterator<Item = &'a String>) {
        self.each(|held| ids.for_each(|id| drop(held.remove(id))));
    }
}
