//! Least privilege: the policies of `deploy/iam` allow what the actions call, and nothing more.

use std::time::Duration;

use sfdata_common::{
    command::{Action, Agent, Aurora, Ecs, S3},
    outcome::Outcome,
};
use sfdata_tests::{fleet::Fleet, iam};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_allow_what_the_actions_call_and_nothing_more() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0];
    let actions = [
        Action::Ecs(Ecs::Status),
        Action::Ecs(Ecs::Scale { service: "webserver".into(), desired: 1, deadline: MINUTE }),
        Action::Ecs(Ecs::Restart { service: "code-server".into(), deadline: MINUTE }),
        Action::Aurora(Aurora::Status),
        Action::S3(S3::Usage),
        Action::Agent(Agent::Refresh),
    ];
    for action in actions {
        let outcome = fleet.alice.run(action.clone(), &la.id).await.unwrap();
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{action:?}: {outcome:?}");
    }
    // A service that sleeps has its image read from its definition; one that never starts, the reason from its tasks.
    let called = fleet.aws().actions(&la.account.id).await.unwrap();
    assert_eq!(iam::needed(called), iam::allowed(&["ecs", "aurora", "s3"]));
    fleet.stop().await;
}
