//! What answered before a change answers after it, or the change goes back; what did not is not judged.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sfdata_common::{
    command::{Action, Ecs, FargateCapacity, Rollout},
    image::Image,
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::action_result::Kind;
use sfdata_tests::fleet::Fleet;
use tokio::net::TcpListener;

/// Well after the time for which tasks are watched.
const LATE: Duration = Duration::from_secs(6);
/// The port of the stand-in's code servers.
const PORT: u16 = 4000;

fn rollout() -> Rollout {
    Rollout { deadline: Duration::from_secs(45), failed_tasks: 2, settle: Duration::from_secs(2) }
}

async fn deploy(fleet: &Fleet, image: &Image) -> Outcome {
    let (service, image, rollout) = (Some("code-server".into()), image.clone(), rollout());
    run(fleet, Action::Ecs(Ecs::Deploy { service, image, rollout })).await
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

/// Listen wherever a task of the code server runs whose image has this in its name, for as long as it is polled; those that
/// run `slow` open their port late.
async fn answer(fleet: &Fleet, image: &str, slow: &str) {
    let mut listening: HashMap<String, TcpListener> = HashMap::new();
    let mut seen: HashMap<String, Instant> = HashMap::new();
    loop {
        for task in fleet.aws().all_tasks(&fleet.agents[0].account.id).await.unwrap() {
            let address = task["address"].as_str().unwrap().to_owned();
            let runs = task["images"][0].as_str().unwrap();
            let ours = task["group"] == "service:code-server" && runs.contains(image);
            let since = seen.entry(address.clone()).or_insert_with(Instant::now).elapsed();
            let starts = !slow.is_empty() && runs.contains(slow) && since < LATE;
            if ours && !starts && task["status"] != "STOPPED" && !listening.contains_key(&address) {
                let listener = TcpListener::bind((address.as_str(), PORT)).await.unwrap();
                listening.insert(address, listener);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Do something while the tasks that run this image answer.
async fn while_answers<T>(fleet: &Fleet, image: &str, done: impl Future<Output = T>) -> T {
    while_some_are_late(fleet, image, "", done).await
}

async fn while_some_are_late<T>(fleet: &Fleet, image: &str, slow: &str, done: impl Future<Output = T>) -> T {
    tokio::pin!(done);
    let answers = answer(fleet, image, slow);
    tokio::pin!(answers);
    // The first answers are there before anybody asks.
    let _ = tokio::time::timeout(Duration::from_millis(500), &mut answers).await;
    tokio::select! {
        done = &mut done => done,
        () = &mut answers => panic!("it listens for ever"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answered_before_answers_after_or_goes_back() {
    let fleet = Fleet::start(1).await;
    let images = &fleet.agents[0].account.images;
    let (old, new) = (&images["2024.12.0"], &images["2024.12.1"]);

    // Nobody listened before, so that nobody has to.
    assert!(matches!(deploy(&fleet, old).await, Outcome::Succeeded(_)));

    let silent = while_answers(&fleet, &old.digest, deploy(&fleet, new)).await;
    let Outcome::Failed { code, message } = &silent else { panic!("{silent:?}") };
    assert_eq!(*code, FailureCode::RolledBack, "{message}");
    assert!(message.contains("does not answer at 127.64.") && message.contains(":4000"), "{message}");

    // Who opens its port only when all its code is there is not taken back for that.
    let late = while_some_are_late(&fleet, "dagster", &new.digest, deploy(&fleet, new)).await;
    assert!(matches!(late, Outcome::Succeeded(_)), "{late:?}");

    let spot = Action::Ecs(Ecs::SetCapacity {
        service: "code-server".into(),
        capacity: FargateCapacity::Spot { base: 0 },
        rollout: rollout(),
    });
    let moved = while_answers(&fleet, "dagster", run(&fleet, spot)).await;
    let Outcome::Succeeded(result) = &moved else { panic!("{moved:?}") };
    assert!(matches!(&result.kind, Some(Kind::EcsCapacity(_))), "{result:?}");
    fleet.stop().await;
}
