//! Handing on: what waits becomes runs of Dagster, or has woken it.
//!
//! It may end at any instant and be repeated: what a run is made of, and when it was asked for, is durable before it is
//! launched, and a run that was launched and not noted is found by its tag. While Dagster may still be at work on a launch it
//! is only looked for. What fails for one job does not hold up another. Who calls it brings the ways to Dagster.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{command::ArrivalId, limits, outcome::FailureCode};
use tokio::time::{Instant, timeout_at};

use super::{
    Handle, Inner,
    book::{State, Waits},
    written,
};
use crate::{config::arrivals::Rule, services::Error};

/// Tag of a run: the id of the arrival, or of all that one run is for.
pub const ARRIVAL_TAG: &str = "sfdata/arrival";
/// Tag of a run that is for several arrivals: how many.
pub const COUNT_TAG: &str = "sfdata/arrivals";

/// A launch that was heard shows by then, or never, as in `services/dagster/once.rs`.
const SETTLES: Duration = Duration::from_secs(90);
/// What could not be launched for so long is parked: until then it keeps the platform awake.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// What was not tried for so long, because the platform was asleep, has its whole time again.
const GAP: Duration = Duration::from_secs(10 * 60);
/// By then all of it has ended: the rest is for the disk. No further run is begun in the second half.
const ENDS: Duration = Duration::from_secs(limits::POWER_ACT.as_secs() - 10);

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

/// Where a run is to be launched: what fails there fails for each arrival.
type Target<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Runs that could not be launched, with when each was first tried: in memory, so that it begins anew with the agent.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<ArrivalId, Trouble>);

#[derive(Debug)]
struct Trouble {
    since: Timestamp,
    last: Timestamp,
    why: Error,
}

impl Troubles {
    /// It failed once more; since when it does.
    fn failed(&mut self, id: ArrivalId, now: Timestamp, why: &Error) -> Timestamp {
        let before = self.0.get(&id).filter(|before| before.last <= now && now < before.last + GAP);
        let since = before.map_or(now, |before| before.since);
        self.0.insert(id, Trouble { since, last: now, why: why.clone() });
        since
    }

    /// What has kept it for too long, up to now.
    fn lasting(&self, id: ArrivalId, now: Timestamp) -> Option<Error> {
        let trouble = self.0.get(&id).filter(|trouble| trouble.last <= now && now < trouble.last + GAP)?;
        (trouble.since + PATIENCE <= now).then(|| trouble.why.clone())
    }
}

impl Handle {
    /// Hand on all that waits, or as much as there is time for: it ends within [`limits::POWER_ACT`]. To be called while
    /// Dagster is awake: what only wakes it counts as handed on then. `find` tells whether there is a run whose
    /// [`ARRIVAL_TAG`] has this value; `launch` launches one; `loaded` tells whether this code location is, or all are, so
    /// that a job which is not there will not come. An error is that the book can't be written.
    pub async fn hand_on<C, F, L, R>(
        &self,
        loaded: impl Fn(Option<String>) -> C,
        find: impl Fn(String) -> F,
        launch: impl Fn(Launch) -> L,
    ) -> Result<HandedOn, Error>
    where
        C: Future<Output = Result<bool, Error>>,
        F: Future<Output = Result<bool, Error>>,
        L: Future<Output = Result<R, Error>>,
    {
        self.hand_on_at(Timestamp::now(), ENDS, loaded, find, launch).await
    }

    async fn hand_on_at<C, F, L, R>(
        &self,
        now: Timestamp,
        within: Duration,
        loaded: impl Fn(Option<String>) -> C,
        find: impl Fn(String) -> F,
        launch: impl Fn(Launch) -> L,
    ) -> Result<HandedOn, Error>
    where
        C: Future<Output = Result<bool, Error>>,
        F: Future<Output = Result<bool, Error>>,
        L: Future<Output = Result<R, Error>>,
    {
        let began = Instant::now();
        let ends = began + within;
        let mut done = HandedOn::default();
        let Some(inner) = &self.inner else { return Ok(done) };
        let mut troubles = inner.handing_on.lock().await;
        inner.bind().await?;
        let waiting = inner.book.look(|state| state.waiting.clone());
        let (units, woken) = inner.units(&waiting);
        if !woken.is_empty() {
            done.arrivals += woken.len();
            inner.handed_on(woken).await?;
        }
        let runs: BTreeSet<ArrivalId> = units.iter().map(|unit| unit.id).collect();
        troubles.0.retain(|id, _| runs.contains(id));
        let mut broken: BTreeMap<Target<'_>, Error> = BTreeMap::new();
        for unit in units {
            if began.elapsed() >= within / 2 {
                break; // the next look goes on
            }
            let now = now + began.elapsed();
            let (asked, target) = (unit.asked(), unit.target());
            if asked.is_some() || !broken.contains_key(&target) {
                match in_time(ends, find(unit.id.to_string())).await {
                    Ok(true) => {
                        (done.runs, done.arrivals) = (done.runs + 1, done.arrivals + unit.arrivals.len());
                        inner.handed_on(unit.ids()).await?;
                        continue;
                    }
                    Ok(false) => {}
                    Err(error) => {
                        let passing = error.is_passing();
                        done.failure = Some(error);
                        if passing {
                            break; // Dagster does not answer: it would not answer for the others either
                        }
                        continue;
                    }
                }
            }
            match asked {
                Some(asked) if asked > now => {
                    inner.asked(&unit, Some(now)).await?; // the clock was set back
                    continue;
                }
                Some(asked) if now < asked + SETTLES => continue, // Dagster may still be at work on it
                _ => {}
            }
            let given_up = asked.and_then(|_| troubles.lasting(unit.id, now));
            let (error, refused) = match (given_up, broken.get(&target)) {
                (Some(error), _) => (error, true),
                (None, Some(error)) => (error.clone(), false),
                (None, None) => {
                    inner.asked(&unit, Some(now)).await?;
                    let mut said = in_time(ends, launch(unit.launch())).await;
                    let mut refused = false;
                    if let Some(code) = said.as_ref().err().and_then(final_code) {
                        // It may be only that its code server is being replaced: that is asked now, and not before.
                        refused = in_time(ends, loaded(unit.rule.location.clone())).await == Ok(true);
                        if refused && code == FailureCode::NotFound {
                            said = in_time(ends, launch(unit.launch())).await;
                            refused = said.as_ref().err().and_then(final_code).is_some();
                        }
                    }
                    match said {
                        Ok(_) => {
                            (done.runs, done.arrivals) = (done.runs + 1, done.arrivals + unit.arrivals.len());
                            inner.handed_on(unit.ids()).await?;
                            continue;
                        }
                        Err(error) => {
                            if !refused {
                                if !error.is_passing() {
                                    inner.asked(&unit, None).await?; // it was answered
                                }
                                broken.insert(target, error.clone());
                            }
                            (error, refused)
                        }
                    }
                }
            };
            let may_pass = error.is_passing() || final_code(&error).is_some();
            let lasts = may_pass && troubles.failed(unit.id, now, &error) + PATIENCE <= now;
            // What was asked for just now, and not answered, is looked for first.
            let park = refused || (lasts && !inner.book.look(|state| unit.is_asked(state, now)));
            if park && written(inner.book.refused(unit.ids(), error.to_string(), Timestamp::now()).await)? {
                done.parked += unit.arrivals.len();
                inner.settled.notify_one();
            } else {
                done.failure = Some(error);
            }
        }
        Ok(done)
    }
}

/// What takes longer may have been heard all the same.
async fn in_time<T>(ends: Instant, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late =
        || Error::failed(FailureCode::Unavailable, "Dagster did not answer in time; look at the webserver's logs");
    timeout_at(ends, asking).await.unwrap_or_else(|_| Err(late()))
}

/// What Dagster would not do another time either, where the code location is loaded.
fn final_code(error: &Error) -> Option<FailureCode> {
    match error {
        Error::Failed { code: code @ (FailureCode::NotFound | FailureCode::Rejected), .. } => Some(*code),
        _ => None,
    }
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
        // No more in one than can be parked.
        let batches = batches.into_values().flat_map(|ids| {
            let parts: Vec<_> = ids.chunks(limits::ARRIVALS_PARKED).map(<[ArrivalId]>::to_vec).collect();
            parts
        });
        for ids in batches {
            let parts: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
            let batch = ArrivalId::of(&parts);
            written(self.book.bind(ids, batch).await)?;
        }
        Ok(())
    }

    /// These are to be launched now; `None`: they were not, as Dagster said.
    async fn asked(&self, unit: &Unit<'_>, at: Option<Timestamp>) -> Result<(), Error> {
        written(self.book.asked(unit.ids(), at).await)
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

impl<'a> Unit<'a> {
    fn target(&self) -> Target<'a> {
        (self.job, self.rule.location.as_deref(), self.rule.repository.as_deref())
    }

    fn ids(&self) -> Vec<ArrivalId> {
        self.arrivals.iter().map(|(id, _)| *id).collect()
    }

    /// When it was last told to be launched, unless Dagster answered that it was not.
    fn asked(&self) -> Option<Timestamp> {
        let last = self.arrivals.iter().map(|(_, waits)| waits.asked).max().filter(|asked| *asked != 0)?;
        Timestamp::from_millisecond(last).ok()
    }

    /// Whether Dagster may still be at work on it.
    fn is_asked(&self, state: &State, now: Timestamp) -> bool {
        let after = (now - SETTLES).as_millisecond();
        let asked = |(id, _): &(ArrivalId, _)| state.waiting.get(id).is_some_and(|waits| waits.asked > after);
        self.arrivals.iter().any(asked)
    }

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
