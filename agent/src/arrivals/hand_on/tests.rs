//! Handing on with a Dagster that answers, refuses, loses its answers and is away, and an agent that dies in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Mutex,
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
    Refuses,
}

/// Runs that were launched, with the answers to come; after these it launches.
#[derive(Default)]
struct Dagster {
    runs: Mutex<Vec<Launch>>,
    answers: Mutex<Vec<Answer>>,
}

impl Dagster {
    async fn hand_on(&self, handle: &Handle, loaded: bool) -> HandedOn {
        let find = |tag: String| {
            let found = self.runs.lock().unwrap().iter().any(|run| run.tags[ARRIVAL_TAG] == tag);
            async move { Ok(found) }
        };
        let launch = |order: Launch| {
            let answer = self.answers.lock().unwrap().pop().unwrap_or(Answer::Launches);
            if matches!(answer, Answer::Launches | Answer::SaysNothing) {
                self.runs.lock().unwrap().push(order);
            }
            async move {
                match answer {
                    Answer::Launches => Ok(()),
                    Answer::SaysNothing | Answer::IsAway => Err(Error::failed(FailureCode::Unavailable, "away")),
                    Answer::Refuses => Err(Error::failed(FailureCode::NotFound, "there is no such job")),
                }
            }
        };
        handle.hand_on(loaded, find, launch).await.unwrap()
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
async fn what_dagster_refuses_for_good_is_parked_and_nothing_else_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, dagster) = (open(folder.path()), Dagster::default());
    take_in(&handle, &["one/a", "one/b"].map(String::from)).await;
    dagster.answers.lock().unwrap().push(Answer::Refuses);
    let done = dagster.hand_on(&handle, false).await;
    assert_eq!((done.runs, done.parked, handle.waiting().count), (1, 0, 1), "a code location may still come");
    assert!(done.failure.is_some());
    dagster.answers.lock().unwrap().push(Answer::Refuses);
    let done = dagster.hand_on(&handle, true).await;
    assert_eq!((done.parked, handle.waiting().count, handle.health().parked), (1, 0, 1));
    assert_eq!(dagster.runs().len(), 1);
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
    assert_eq!(dagster.hand_on(&handle, true).await.runs, 2);
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
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
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
            dagster.hand_on(&handle, true).await;
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
