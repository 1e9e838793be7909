//! Handing on: what waits becomes runs of Dagster, or has woken it.
//!
//! It may end at any instant and be repeated: what a run is made of is bound durably before it is launched, and a run that
//! was launched and not noted is found by its tag. Who calls it brings the ways to Dagster.

use std::{collections::BTreeMap, future::Future};

use jiff::Timestamp;
use sfdata_common::{command::ArrivalId, outcome::FailureCode};

use super::{Handle, Inner, book::Waits, written};
use crate::{config::arrivals::Rule, services::Error};

/// Tag of a run: the id of the arrival, or of all that one run is for.
pub const ARRIVAL_TAG: &str = "sfdata/arrival";
/// Tag of a run that is for several arrivals: how many.
pub const COUNT_TAG: &str = "sfdata/arrivals";

/// A run to be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Of the rule.
    pub job: String,
    /// Its code location, where the rule names one.
    pub location: Option<String>,
    /// Its repository, where the rule names one.
    pub repository: Option<String>,
    /// The rule's, and [`ARRIVAL_TAG`].
    pub tags: BTreeMap<String, String>,
}

/// What came of handing on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HandedOn {
    /// Runs that were launched now, or found to have been.
    pub runs: usize,
    /// Arrivals that were handed on.
    pub arrivals: usize,
    /// Arrivals that were parked: Dagster refused them.
    pub parked: usize,
    /// Why some wait on; of several the last.
    pub failure: Option<Error>,
}

/// Arrivals that become one run.
struct Unit<'a> {
    id: ArrivalId,
    rule: &'a Rule,
    job: &'a str,
    arrivals: Vec<(ArrivalId, &'a Waits)>,
}

impl Handle {
    /// Hand on all that waits. To be called while Dagster is awake: what only wakes it counts as handed on then. `find` tells
    /// whether there is a run whose [`ARRIVAL_TAG`] has this value; `launch` launches one. `loaded`: all code locations are,
    /// so that a job which is not there will not come. An error is that the book can't be written.
    pub async fn hand_on<F, L, R>(
        &self,
        loaded: bool,
        find: impl Fn(String) -> F,
        launch: impl Fn(Launch) -> L,
    ) -> Result<HandedOn, Error>
    where
        F: Future<Output = Result<bool, Error>>,
        L: Future<Output = Result<R, Error>>,
    {
        let mut done = HandedOn::default();
        let Some(inner) = &self.inner else { return Ok(done) };
        let _one = inner.handing_on.lock().await;
        inner.bind().await?;
        let waiting = inner.book.look(|state| state.waiting.clone());
        let (units, woken) = inner.units(&waiting);
        if !woken.is_empty() {
            done.arrivals += woken.len();
            inner.handed_on(woken).await?;
        }
        for unit in units {
            let ids: Vec<ArrivalId> = unit.arrivals.iter().map(|(id, _)| *id).collect();
            let launched = match find(unit.id.to_string()).await {
                Ok(true) => Ok(()),
                Ok(false) => launch(unit.launch()).await.map(|_| ()),
                Err(error) => Err(error),
            };
            match launched {
                Ok(()) => {
                    (done.runs, done.arrivals) = (done.runs + 1, done.arrivals + ids.len());
                    inner.handed_on(ids).await?;
                }
                Err(error) if loaded && is_final(&error) => {
                    let (detail, count) = (error.to_string(), ids.len());
                    if written(inner.book.refused(ids, detail, Timestamp::now()).await)? {
                        done.parked += count;
                        inner.settled.notify_one();
                    } else {
                        done.failure = Some(error);
                    }
                }
                Err(error) => {
                    let passing = error.is_passing();
                    done.failure = Some(error);
                    if passing {
                        break; // Dagster does not answer: it would not answer for the others either
                    }
                }
            }
        }
        Ok(done)
    }
}

/// What Dagster would not do another time either.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Failed { code: FailureCode::NotFound | FailureCode::Rejected, .. })
}

impl Inner {
    /// What waits for a rule with `batch` becomes one run: which it is made of is durable before it is launched, so that what
    /// comes meanwhile is another one.
    async fn bind(&self) -> Result<(), Error> {
        let mut batches: BTreeMap<(&str, &str), Vec<ArrivalId>> = BTreeMap::new();
        self.book.look(|state| {
            for (id, waits) in state.waiting.iter().filter(|(_, waits)| waits.batch.is_empty()) {
                if let Some(rule) = self.settings.rule(&waits.key).filter(|rule| rule.batch) {
                    batches.entry((&rule.prefix, &rule.suffix)).or_default().push(*id);
                }
            }
        });
        for ids in batches.into_values() {
            let parts: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
            let batch = ArrivalId::of(&parts);
            written(self.book.bind(ids, batch).await)?;
        }
        Ok(())
    }

    async fn handed_on(&self, ids: Vec<ArrivalId>) -> Result<(), Error> {
        written(self.book.handed_on(ids, Timestamp::now()).await)?;
        self.settled.notify_one();
        Ok(())
    }

    /// The runs that what waits becomes, the oldest first; and what only wakes.
    fn units<'a>(&'a self, waiting: &'a BTreeMap<ArrivalId, Waits>) -> (Vec<Unit<'a>>, Vec<ArrivalId>) {
        let mut oldest: Vec<_> = waiting.iter().map(|(id, waits)| (*id, waits)).collect();
        oldest.sort_by_key(|(id, waits)| (waits.since, waits.at, *id));
        let (mut units, mut woken) = (Vec::<Unit<'_>>::new(), Vec::new());
        let mut places: BTreeMap<ArrivalId, usize> = BTreeMap::new();
        for (id, waits) in oldest {
            let Some((rule, job)) = self.job(&waits.key) else {
                woken.push(id);
                continue;
            };
            let run = ArrivalId::from_bytes(&waits.batch).unwrap_or(id);
            let place = *places.entry(run).or_insert(units.len());
            match units.get_mut(place) {
                Some(unit) => unit.arrivals.push((id, waits)),
                None => units.push(Unit { id: run, rule, job, arrivals: vec![(id, waits)] }),
            }
        }
        (units, woken)
    }

    pub(super) fn job(&self, key: &str) -> Option<(&Rule, &str)> {
        let rule = self.settings.rule(key)?;
        Some((rule, rule.job.as_deref()?))
    }
}

impl Unit<'_> {
    fn launch(&self) -> Launch {
        let Self { id, rule, job, arrivals } = self;
        let mut tags = rule.tags.clone();
        tags.insert(ARRIVAL_TAG.into(), id.to_string());
        if arrivals.iter().any(|(_, waits)| !waits.batch.is_empty()) {
            tags.insert(COUNT_TAG.into(), arrivals.len().to_string());
        }
        if let (Some(tag), [(_, only)]) = (&rule.key_tag, &arrivals[..]) {
            tags.insert(tag.clone(), only.key.clone());
        }
        let (location, repository) = (rule.location.clone(), rule.repository.clone());
        Launch { job: (*job).to_owned(), location, repository, tags }
    }
}

#[cfg(test)]
mod tests;
