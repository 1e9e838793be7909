//! Enrol, sign, dispatch, verify, act, answer.

use std::time::Duration;

use sfdata_common::{
    command::{Action, Agent, Aurora, Ecs, S3},
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use sfdata_tests::fleet::Fleet;

const MINUTE: Duration = Duration::from_secs(60);

fn result(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Succeeded(result) => result.kind.expect("a result"),
        other => panic!("not succeeded: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_does_its_work_at_aws_and_says_so() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0];
    let run = async |action: Action| fleet.alice.run(action, &la.id).await.unwrap();

    let Kind::EcsStatus(status) = result(run(Action::Ecs(Ecs::Status)).await) else { panic!("another result") };
    let daemon = status.services.iter().find(|service| service.role == "daemon").expect("a daemon");
    assert_eq!((daemon.desired, daemon.running), (1, 1));
    assert!(daemon.image_digest.starts_with("sha256:"), "{daemon:?}");

    let scale = Ecs::Scale { service: "webserver".into(), desired: 1, deadline: MINUTE };
    let Kind::EcsService(scaled) = result(run(Action::Ecs(scale)).await) else { panic!("another result") };
    assert_eq!(scaled.service.unwrap().running, 1);

    let restart = Ecs::Restart { service: "code-server".into(), deadline: MINUTE };
    result(run(Action::Ecs(restart)).await);
    assert_eq!(fleet.aws().restarts(&la.account.id).await.unwrap(), 1);

    let Kind::AuroraStatus(aurora) = result(run(Action::Aurora(Aurora::Status)).await) else {
        panic!("another result")
    };
    assert_eq!(aurora.aurora.unwrap().status, "available");

    let Kind::S3Usage(usage) = result(run(Action::S3(S3::Usage { by_prefix: false })).await) else {
        panic!("another result")
    };
    assert_eq!(usage.buckets.len(), 3);
    assert!(usage.buckets.iter().all(|bucket| bucket.objects > 0 && bucket.size_bytes > 0), "{usage:?}");

    let Kind::AgentRefresh(refresh) = result(run(Action::Agent(Agent::Refresh)).await) else {
        panic!("another result")
    };
    assert_eq!(refresh.health.unwrap().ecs.unwrap().services.len(), 3);

    let two_daemons = Ecs::Scale { service: "daemon".into(), desired: 2, deadline: MINUTE };
    let Outcome::Failed { code, .. } = run(Action::Ecs(two_daemons)).await else { panic!("two daemons") };
    assert_eq!(code, FailureCode::Rejected);
    let unknown = Ecs::Restart { service: "nonsense".into(), deadline: MINUTE };
    let Outcome::Failed { code, message } = run(Action::Ecs(unknown)).await else { panic!("restarted nonsense") };
    assert_eq!(code, FailureCode::NotFound);
    assert!(message.contains("code-server"), "it says what there is: {message}");

    let summary = fleet.alice.agent(&la.id).await.unwrap();
    assert_eq!(summary.state(), wire::AgentState::Connected);
    assert_eq!(summary.health.unwrap().aurora.unwrap().state.unwrap().status, "available");
    fleet.stop().await;
}
