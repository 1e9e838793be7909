//! Handing on with a Dagster that answers, refuses, loses its answers and is away, and an agent that dies in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;

use super::*;
use crate::{
    arrivals::event::Arrival,
    config::arrivals::{Arrivals as Settings, Unmatched},
};

fn rules() -> Settings {
    let rule = |prefix: &str, job: Option<&str>| Rule {
        prefix: prefix.into(),
        job: job.map(str::to_owned),
        ..Rule::default()
    };
    let tags = [("dataset".to_owned(), "one".to_owned())].into();
    let rules = vec![
        Rule { tags, key_tag: Some("file".into()), ..rule("one/", Some("ingest_one")) },
        Rule { batch: true, location: Some("code".into()), ..rule("many/", Some("ingest_many")) },
        rule("wake/", None),
    ];
    Settings { rules, unmatched: Unmatched::Wake, queue: Some("there is one".into()), ..Settings::default() }
}

fn open(folder: &Path) -> Handle {
    Handle::with(folder, rules(), "data".into(), "eu-west-2".into()).unwrap()
}

fn arrival(key: &str) -> (ArrivalId, Waits) {
    let arrival = Arrival { key: key.into(), mark: "version 1".into(), size: 1, at: 5 };
    (arrival.id("data"), Waits::new(arrival, Timestamp::UNIX_EPOCH))
}

async fn take_in(handle: &Handle, keys: &[String]) {
    let arrivals = keys.iter().map(|key| arrival(key)).collect();
    handle.inner.as_ref().unwrap().book.take_in(arrivals, vec![]).await.unwrap();
}

/// What a Dagster does with the next launch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Launches,
    /// It launches and does not say so: the agent may have died as well.
    SaysNothing,
    IsAway,
    /// It launches two passes later, when nobody waits for its answer any more.
    LandsLater,
    /// `PythonError`, with each launch of this job until it is told otherwise.
    Fails,
    Refuses,
}

/// Between two passes: a launch that lands two later lands after 80 s.
const PASS: Duration = Duration::from_secs(40);

/// Runs that were launched, with the answers to come; after these it launches.
struct Dagster {
    runs: Mutex<Vec<Launch>>,
    landing: Mutex<Vec<(usize, Launch)>>,
    answers: Mutex<Vec<Answer>>,
    /// What it says of a job each time.
    of: Mutex<BTreeMap<String, Answer>>,
    launches: AtomicUsize,
    now: Mutex<Timestamp>,
}

impl Default for Dagster {
    fn default() -> Self {
        Self {
            runs: Mutex::default(),
            landing: Mutex::default(),
            answers: Mutex::default(),
            of: Mutex::default(),
            launches: AtomicUsize::new(0),
            now: Mutex::new(Timestamp::now()),
        }
    }
}

impl Dagster {
    /// One pass, so long after the one before.
    async fn hand_on(&self, handle: &Handle, loaded: bool) -> HandedOn {
        let now = {
            let mut now = self.now.lock().unwrap();
            *now += PASS;
            *now
        };
        for (left, _) in self.landing.lock().unwrap().iter_mut() {
            *left -= 1;
        }
        self.runs
            .lock()
            .unwrap()
            .extend(self.landing.lock().unwrap().extract_if(.., |(left, _)| *left == 0).map(|one| one.1));
        let find = |tag: String| {
            let found = self.runs.lock().unwrap().iter().any(|run| run.tags[ARRIVAL_TAG] == tag);
            async move { Ok(found) }
        };
        let launch = |order: Launch| {
            let always = self.of.lock().unwrap().get(&order.job).copied();
            let answer = always.or_else(|| self.answers.lock().unwrap().pop()).unwrap_or(Answer::Launches);
            self.launches.fetch_add(1, Ordering::Relaxed);
            match answer {
                Answer::Launches | Answer::SaysNothing => self.runs.lock().unwrap().push(order),
                Answer::LandsLater => self.landing.lock().unwrap().push((2, order)),
                Answer::IsAway | Answer::Fails | Answer::Refuses => {}
            }
            async move {
                match answer {
                    Answer::Launches => Ok(()),
                    Answer::SaysNothing | Answer::IsAway | Answer::LandsLater | Answer::Fails => {
                        Err(Error::failed(FailureCode::Unavailable, "away"))
                    }
                    Answer::Refuses => Err(Error::failed(FailureCode::NotFound, "there is no such job")),
                }
            }
        };
        handle.hand_on_at(now, ENDS, async |_| Ok(loaded), find, launch).await.unwrap()
    }

    fn always(&self, job: &str, answer: Answer) {
        self.of.lock().unwrap().insert(job.into(), answer);
    }

    fn launches(&self) -> usize {
        self.launches.load(Ordering::Relaxed)
    }

    fn runs(&self) -> Vec<Launch> {
        self.runs.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn each_rule_launches_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    assert!(handle.waiting().unreadable.is_some(), "nobody has looked yet");
    assert_eq!(handle.last_handed_on(), None);
    let keys = ["one/a", "one/b", "many/a", "many/b", "wake/a", "other"].map(String::from);
    take_in(&handle, &keys).await;
    assert_eq!(handle.waiting().count, 6);
    let done = dagster.hand_on(&handle, true).await;
    assert_eq!(done, HandedOn { runs: 3, arrivals: 6, parked: 0, failure: None });
    assert_eq!(handle.waiting().count, 0);
    assert!(handle.last_handed_on().is_some());
    let runs = dagster.runs();
    let of = |job: &str| runs.iter().filter(|run| run.job == job).cloned().collect::<Vec<_>>();
    let files: BTreeSet<_> = of("ingest_one").iter().map(|run| run.tags["file"].clone()).collect();
    assert_eq!(files, ["one/a", "one/b"].map(String::from).into());
    assert_eq!(of("ingest_one")[0].tags["dataset"], "one");
    let [many] = &of("ingest_many")[..] else { panic!("not one run: {runs:?}") };
    assert_eq!((many.tags[COUNT_TAG].as_str(), many.location.as_deref()), ("2", Some("code")));
    assert!(!format!("{many:?}").contains("many/a"), "a batch names no file");

    // What comes again is known, also to the next agent on this disk.
    drop(handle);
    let handle = open(folder.path());
    take_in(&handle, &keys).await;
    assert_eq!(dagster.hand_on(&handle, true).await, HandedOn::default());
    assert!(handle.last_handed_on().is_some());
}

#[tokio::test]
async fn a_clock_that_was_ahead_leaves_no_time_to_come() {
    let folder = tempfile::tempdir().unwrap();
    let handle = open(folder.path());
    let (now, ahead) = (Timestamp::now(), Timestamp::now() + Duration::from_secs(365 * 24 * 3600));
    let book = &handle.inner.as_ref().unwrap().book;
    book.handed_on(vec![arrival("wake/a").0], ahead).await.unwrap();
    let told = handle.last_handed_on().unwrap();
    assert!(told <= Timestamp::now());
    let later = book.last(told + Duration::from_secs(3));
    assert_eq!(later, Some(told), "sensors have to see one instant, not a later one at each look");
    assert!(handle.health().last_unix_ms < ahead.as_millisecond());
    book.handed_on(vec![arrival("wake/b").0], now).await.unwrap();
    assert_eq!(handle.last_handed_on().unwrap().as_millisecond(), now.as_millisecond(), "set anew, not kept for good");
}

#[tokio::test]
async fn what_dagster_refuses_for_good_is_parked_and_nothing_else_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["one/a", "many/a"].map(String::from)).await;
    dagster.always("ingest_one", Answer::Refuses);
    let done = dagster.hand_on(&handle, false).await;
    assert_eq!((done.runs, done.parked, handle.waiting().count), (1, 0, 1), "a code location may still come");
    assert!(done.failure.is_some());
    let done = dagster.hand_on(&handle, true).await;
    assert_eq!((done.parked, handle.waiting().count, handle.health().parked), (1, 0, 1));
    assert_eq!(dagster.runs().len(), 1);
}

#[tokio::test]
async fn a_job_that_comes_while_its_location_is_asked_for_is_launched_and_not_parked() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["one/a".to_owned()]).await;
    dagster.answers.lock().unwrap().push(Answer::Refuses);
    let done = dagster.hand_on(&handle, true).await;
    assert_eq!((done.runs, done.parked), (1, 0));
}

#[tokio::test]
async fn what_waits_for_a_location_that_stays_broken_is_parked_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["one/a", "one/b"].map(String::from)).await;
    dagster.always("ingest_one", Answer::Refuses);
    for _ in 0..44 {
        assert_eq!(dagster.hand_on(&handle, false).await.parked, 0, "a new code server may take its time");
    }
    *dagster.now.lock().unwrap() += GAP; // asleep
    for _ in 0..44 {
        assert_eq!(dagster.hand_on(&handle, false).await.parked, 0, "one that was asleep has only begun");
    }
    let mut parked = 0;
    for _ in 0..3 {
        parked += dagster.hand_on(&handle, false).await.parked; // the half hour ends about now
    }
    assert_eq!(parked, 2);
    assert!((88..=91).contains(&dagster.launches()), "one is tried for all of a job: {}", dagster.launches());
}

#[tokio::test]
async fn a_job_that_dagster_fails_at_holds_up_no_other_and_is_parked_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["one/a", "one/b", "many/a", "many/b"].map(String::from)).await;
    dagster.always("ingest_one", Answer::Fails);
    let done = dagster.hand_on(&handle, true).await;
    assert_eq!((done.runs, done.parked, handle.waiting().count), (1, 0, 2));
    assert!(done.failure.is_some());
    for _ in 0..60 {
        dagster.hand_on(&handle, true).await;
    }
    assert_eq!((handle.waiting().count, handle.health().parked, dagster.runs().len()), (0, 2, 1));
}

#[tokio::test]
async fn a_launch_that_may_still_be_in_work_is_only_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["one/a".to_owned()]).await;
    dagster.always("ingest_one", Answer::LandsLater);
    assert!(dagster.hand_on(&handle, true).await.failure.is_some());
    drop(handle);
    let handle = open(folder.path());
    assert_eq!(dagster.hand_on(&handle, true).await, HandedOn::default());
    assert_eq!(dagster.hand_on(&handle, true).await.runs, 1, "it has landed");
    assert_eq!((dagster.launches(), dagster.runs().len(), handle.waiting().count), (1, 1, 0));
}

#[tokio::test]
async fn it_ends_in_time_though_dagster_does_not_answer_and_knows_what_it_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let handle = open(folder.path());
    take_in(&handle, &["one/a", "many/a"].map(String::from)).await;
    let launched = Mutex::new(Vec::new());
    let find = async |_| Ok(false);
    let launch = async |order: Launch| {
        launched.lock().unwrap().push(order.job);
        std::future::pending::<Result<(), Error>>().await
    };
    let within = Duration::from_millis(200);
    for jobs in [1, 2, 2] {
        let pass = handle.hand_on_at(Timestamp::now(), within, async |_| Ok(true), find, launch);
        let done = tokio::time::timeout(Duration::from_secs(30), pass).await.unwrap().unwrap();
        assert_eq!((done.runs, launched.lock().unwrap().len()), (0, jobs), "one after the other, and none twice");
    }
}

#[tokio::test]
async fn a_batch_is_no_more_than_can_be_parked() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    let keys: Vec<String> = (0..=limits::ARRIVALS_PARKED).map(|number| format!("many/{number}")).collect();
    take_in(&handle, &keys).await;
    dagster.always("ingest_many", Answer::Refuses);
    let done = dagster.hand_on(&handle, true).await;
    assert!(done.parked > 0 && handle.waiting().count <= limits::ARRIVALS_PARKED, "{done:?}");
}

#[tokio::test]
async fn a_batch_that_was_bound_stays_the_run_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["many/a", "many/b"].map(String::from)).await;
    dagster.answers.lock().unwrap().push(Answer::SaysNothing);
    assert!(dagster.hand_on(&handle, true).await.failure.is_some());
    drop(handle);
    let handle = open(folder.path());
    take_in(&handle, &["many/c".to_owned()]).await;
    assert_eq!(dagster.hand_on(&handle, true).await.runs, 2, "one is found, one is launched");
    let counts: Vec<_> = dagster.runs().iter().map(|run| run.tags[COUNT_TAG].clone()).collect();
    assert_eq!(counts, ["2", "1"]);
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// The queue delivers a message, once more or for the first time.
    Deliver(usize),
    /// Dagster is awake, and answers like this.
    HandOn(Vec<Answer>),
    /// The agent is killed and starts again.
    Die,
    /// What can be deleted is.
    Delete,
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop_oneof![
        3 => Just(Answer::Launches),
        2 => Just(Answer::SaysNothing),
        1 => Just(Answer::IsAway),
        2 => Just(Answer::LandsLater),
    ];
    let step = prop_oneof![
        4 => (0usize..6).prop_map(Step::Deliver),
        3 => proptest::collection::vec(answer, 0..3).prop_map(Step::HandOn),
        1 => Just(Step::Die),
        2 => Just(Step::Delete),
    ];
    proptest::collection::vec(step, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_arrival_is_in_one_run_and_none_is_lost(
        messages in proptest::collection::vec(proptest::collection::vec((0usize..3, 0u8..4), 1..4), 6),
        steps in any_steps(),
    ) {
        let messages: Vec<Vec<String>> = messages
            .iter()
            .map(|keys| keys.iter().map(|(kind, file)| format!("{}/{file}", ["one", "many", "wake"][*kind])).collect())
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut handle = open(folder.path());
            let dagster = Dagster::default();
            let mut queue: BTreeMap<usize, bool> = (0..messages.len()).map(|at| (at, false)).collect();
            let waits = |handle: &Handle, key: &String| {
                handle.inner.as_ref().unwrap().book.look(|state| state.waiting.contains_key(&arrival(key).0))
            };
            for step in steps {
                match step {
                    Step::Deliver(at) => {
                        if let Some(held) = queue.get_mut(&at) {
                            take_in(&handle, &messages[at]).await;
                            *held = true;
                        }
                    }
                    Step::HandOn(answers) => {
                        *dagster.answers.lock().unwrap() = answers;
                        dagster.hand_on(&handle, true).await;
                        dagster.answers.lock().unwrap().clear();
                    }
                    Step::Die => {
                        drop(handle);
                        handle = open(folder.path());
                        queue.values_mut().for_each(|held| *held = false);
                    }
                    Step::Delete => {
                        queue.retain(|at, held| !*held || messages[*at].iter().any(|key| waits(&handle, key)));
                    }
                }
            }
            for at in queue.keys() {
                take_in(&handle, &messages[*at]).await;
            }
            for _ in 0..8 {
                dagster.hand_on(&handle, true).await;
            }
            assert_eq!(handle.waiting().count, 0);
            let all: BTreeSet<&String> = messages.iter().flatten().collect();
            for key in &all {
                let known = handle.inner.as_ref().unwrap().book.look(|state| state.has_settled(&arrival(key).0));
                assert!(known, "{key} is lost");
            }
            let mut files: Vec<String> = dagster.runs().iter().filter_map(|run| run.tags.get("file").cloned()).collect();
            files.sort();
            let wanted: Vec<String> = all.iter().filter(|key| key.starts_with("one/")).map(|key| (*key).clone()).collect();
            assert_eq!(files, wanted);
            let batched: usize =
                dagster.runs().iter().filter_map(|run| run.tags.get(COUNT_TAG)).map(|count| count.parse::<usize>().unwrap()).sum();
            assert_eq!(batched, all.iter().filter(|key| key.starts_with("many/")).count());
        });
    }
}
