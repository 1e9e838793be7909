//! `--plan` and `--if-plan`: what would be done, and that nothing else is.

use std::time::Duration;

use sfdata_common::{
    command::{Action, Ecs, Mode},
    outcome::{FailureCode, Outcome},
    trust::Role,
};
use sfdata_tests::fleet::Fleet;

const MINUTE: Duration = Duration::from_secs(60);

fn scale(desired: u32) -> Action {
    Action::Ecs(Ecs::Scale { service: "webserver".into(), desired, deadline: MINUTE })
}

fn restart() -> Action {
    Action::Ecs(Ecs::Restart { service: "code-server".into(), deadline: MINUTE })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_would_be_done_and_does_nothing() {
    let mut fleet = Fleet::start(1).await;
    let viewer = fleet.operator("vera", Role::Viewer).await;
    let la = fleet.agents[0].id.clone();
    let account = fleet.agents[0].account.id.clone();
    let changes = |plan: &sfdata_proto::v1::Plan| -> Vec<[String; 3]> {
        plan.changes.iter().map(|c| [c.property.clone(), c.before.clone(), c.after.clone()]).collect()
    };

    // Who may only look may look at what would be done.
    let plan = viewer.plan(scale(1), &la).await.unwrap();
    assert_eq!(changes(&plan), [["desiredCount", "0", "1"].map(String::from)]);
    assert!(plan.changes[0].resource.contains("webserver"), "{plan:?}");
    assert!(viewer.plan(scale(0), &la).await.unwrap().changes.is_empty());
    let again = viewer.plan(restart(), &la).await.unwrap();
    assert_eq!(again.changes[0].property, "deployment");
    assert!(fleet.aws().calls(&account, "ecs", "UpdateService").await.unwrap().is_empty());
    assert!(viewer.run(scale(1), &la).await.is_err(), "and may not do it");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_agreed_to_is_carried_out_and_no_other() {
    let fleet = Fleet::start(1).await;
    let la = fleet.agents[0].id.clone();
    let account = fleet.agents[0].account.id.clone();
    let digest = async |action| {
        <[u8; 32]>::try_from(&fleet.alice.plan(action, &la).await.unwrap().digest[..]).expect("32 bytes")
    };
    let [up, again] = [digest(scale(1)).await, digest(restart()).await];
    let run = async |action, digest| fleet.alice.run_as(action, Mode::ActIfPlan(digest), &la).await.unwrap();
    assert!(matches!(run(scale(1), up).await, Outcome::Succeeded(_)));
    assert!(matches!(run(restart(), again).await, Outcome::Succeeded(_)));
    assert_eq!(fleet.aws().restarts(&account).await.unwrap(), 1);

    // The world has moved: by these very commands.
    for (action, digest) in [(scale(1), up), (restart(), again), (scale(0), up)] {
        let refused = run(action, digest).await;
        let Outcome::Failed { code: FailureCode::Conflict, message } = &refused else { panic!("{refused:?}") };
        assert!(message.contains("nothing was done") && message.contains("--plan"), "{message}");
    }
    assert_eq!(fleet.aws().restarts(&account).await.unwrap(), 1);
    fleet.stop().await;
}
