//! What an operator may order about arrivals: to see them, sealed; to have one tried again, or dropped.

use std::future::Future;

use jiff::Timestamp;
use sfdata_common::{
    command::{ArrivalId, Arrivals},
    limits,
    outcome::FailureCode,
};
use sfdata_proto::v1::{self as wire, ArrivalState, action_result::Kind};

use super::{
    Handle, Inner,
    book::{Parks, Taken, Waits},
    event::{self, Place, Record},
    written,
};
use crate::{
    execute::Job,
    services::{Error, Plan},
};

/// Of a message that was not understood, so much is told.
const EXCERPT_BYTES: usize = 500;
/// Of what was wrong, so much is told: Dagster can make a page of it.
const DETAIL_BYTES: usize = 300;

impl Handle {
    /// Do what was ordered. `account` tells which account this is.
    pub async fn execute(
        &self,
        action: &Arrivals,
        account: impl Future<Output = Result<String, Error>>,
        job: &Job,
    ) -> Result<Kind, Error> {
        let Some(inner) = self.inner.as_deref() else {
            let text = "this agent does not look for arrivals; the LA sets [arrivals] in its configuration";
            return Err(Error::failed(FailureCode::NotFound, text));
        };
        match action {
            Arrivals::List => job.reveal(Kind::ArrivalsList(inner.list())),
            Arrivals::Retry(id) => inner.retry(*id, account, job).await,
            Arrivals::Drop(id) => inner.drop(*id, job).await,
        }
    }
}

/// How one stands.
enum Stands {
    Waits,
    Parked(Parks),
    Settled,
}

impl Inner {
    fn list(&self) -> wire::ArrivalsListResult {
        self.book.look(|state| {
            let mut waiting: Vec<_> = state.waiting.iter().collect();
            waiting.sort_by_key(|(id, waits)| (waits.since, **id));
            let mut parked: Vec<_> = state.parked.iter().collect();
            parked.sort_by_key(|(id, parks)| (parks.parked, **id));
            let count = |count: usize| count.try_into().unwrap_or(u32::MAX);
            wire::ArrivalsListResult {
                waiting_count: count(waiting.len()),
                parked_count: count(parked.len()),
                waiting: waiting.into_iter().take(limits::ARRIVALS_TOLD).map(|(id, one)| self.waits(id, one)).collect(),
                parked: parked.into_iter().take(limits::ARRIVALS_TOLD).map(|(id, one)| parked_one(id, one)).collect(),
            }
        })
    }

    fn waits(&self, id: &ArrivalId, waits: &Waits) -> wire::WaitingArrival {
        wire::WaitingArrival {
            id: id.to_string(),
            key: waits.key.clone(),
            size_bytes: waits.size,
            since_unix_ms: waits.since,
            job: self.job(&waits.key).map(|(_, job)| cut(job, DETAIL_BYTES)).unwrap_or_default(),
        }
    }

    fn stands(&self, id: ArrivalId) -> Result<Stands, Error> {
        let stands = self.book.look(|state| match state.parked.get(&id) {
            Some(parks) => Some(Stands::Parked(parks.clone())),
            None if state.waiting.contains_key(&id) => Some(Stands::Waits),
            None => state.has_settled(&id).then_some(Stands::Settled),
        });
        stands.ok_or_else(|| {
            let text = format!("no arrival {id} is parked or waits here; see hubctl arrivals list");
            Error::failed(FailureCode::NotFound, text)
        })
    }

    /// It waits again; one that is not parked any more, also by this command before a restart, stays as it is.
    async fn retry(
        &self,
        id: ArrivalId,
        account: impl Future<Output = Result<String, Error>>,
        job: &Job,
    ) -> Result<Kind, Error> {
        let now = Timestamp::now();
        let (stands, mut plan, mut found) = (self.stands(id)?, Plan::default(), (Vec::new(), Vec::new()));
        if let Stands::Parked(parks) = &stands {
            found = match &parks.arrival {
                Some(waits) => (vec![(id, Waits { since: now.as_millisecond(), ..waits.clone() })], Vec::new()),
                None => {
                    let place =
                        Place { bucket: self.bucket.clone(), region: self.region.clone(), account: account.await? };
                    self.sorted(understood(id, event::read(&parks.body, &place, now))?, now)
                }
            };
            plan = plan.change(format!("arrival {id}"), "state", "parked", "waiting");
        }
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        if let Stands::Parked(_) = stands {
            let (arrivals, odd) = found;
            match written(self.book.replace(id, arrivals, odd, now).await)? {
                Taken::All => self.settled.notify_one(),
                Taken::Full(_) | Taken::ParkFull(_) => {
                    let text =
                        format!("arrival {id} stays parked: as many wait as may; try again when Dagster has woken");
                    return Err(Error::failed(FailureCode::Conflict, text));
                }
            }
        }
        Ok(self.result(id))
    }

    /// It is known and not handed on. The file stays where it is.
    async fn drop(&self, id: ArrivalId, job: &Job) -> Result<Kind, Error> {
        let before = match self.stands(id)? {
            Stands::Waits => "waiting",
            Stands::Parked(_) => "parked",
            Stands::Settled => "settled",
        };
        let plan = Plan::default().change(format!("arrival {id}"), "state", before, "settled");
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        // Not while it is being launched: an operator who is told that it was dropped sees no run of it later.
        let _one = self.handing_on.lock().await;
        if self.book.look(|state| !state.has_settled(&id)) {
            written(self.book.drop(id, Timestamp::now()).await)?;
            self.settled.notify_one();
        }
        Ok(self.result(id))
    }

    fn result(&self, id: ArrivalId) -> Kind {
        let waits = self.book.look(|state| state.waiting.contains_key(&id));
        let state = if waits { ArrivalState::Waiting } else { ArrivalState::Settled };
        Kind::Arrival(wire::ArrivalResult { id: id.to_string(), state: state.into() })
    }
}

/// What was parked, if it is understood this time.
fn understood(id: ArrivalId, records: Vec<Record>) -> Result<Vec<Record>, Error> {
    let odd = records.iter().find_map(|record| match record {
        Record::Odd(_, why, _) => Some(why),
        Record::Arrival(_) => None,
    });
    match odd {
        None => Ok(records),
        Some(why) => {
            let text = format!(
                "arrival {id} stays parked: {why}; correct the agent's configuration or update the agent, or drop it"
            );
            Err(Error::failed(FailureCode::Rejected, text))
        }
    }
}

fn parked_one(id: &ArrivalId, parks: &Parks) -> wire::ParkedArrival {
    wire::ParkedArrival {
        id: id.to_string(),
        reason: parks.reason,
        detail: cut(&parks.detail, DETAIL_BYTES),
        parked_unix_ms: parks.parked,
        key: parks.arrival.as_ref().map(|arrival| arrival.key.clone()).unwrap_or_default(),
        excerpt: cut(&parks.body, EXCERPT_BYTES),
    }
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}
