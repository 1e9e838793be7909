//! `ecs status`: what it tells beside the health report, and what that does not cost.

use std::time::Duration;

use sfdata_common::{
    command::{Action, Agent, Ecs},
    outcome::Outcome,
};
use sfdata_proto::v1::{EcsServiceDetail, EcsStatusResult, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet};

async fn status(fleet: &Fleet) -> EcsStatusResult {
    let outcome = fleet.alice.run(Action::Ecs(Ecs::Status), &fleet.agents[0].id).await.expect("the command ends");
    let Outcome::Succeeded(result) = outcome else { panic!("not succeeded: {outcome:?}") };
    let Some(Kind::EcsStatus(status)) = result.kind else { panic!("another result: {result:?}") };
    status
}

fn detail<'a>(status: &'a EcsStatusResult, service: &str) -> &'a EcsServiceDetail {
    status.details.iter().find(|detail| detail.service == service).expect("a detail")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_capacity_tags_and_the_last_tasks_that_stopped_and_the_health_report_does_not_pay_for_it() {
    let fleet = Fleet::start(1).await;
    let account = &fleet.agents[0].account;
    let before = status(&fleet).await;
    assert_eq!(before.services.len(), before.details.len());
    let daemon = detail(&before, "daemon");
    assert_eq!((daemon.launch_type.as_str(), daemon.running_on_demand, daemon.running_spot), ("FARGATE", 1, 0));
    assert_eq!(daemon.image_tags, ["2024.11.2"]);
    assert!(daemon.stopped_tasks.is_empty() && daemon.warnings.is_empty(), "{daemon:?}");
    assert_eq!(detail(&before, "webserver").running_on_demand, 0);

    fleet.aws().tasks(account, "code-server", "crashes").await.unwrap();
    let restart = Ecs::Restart { service: "code-server".into(), deadline: Duration::from_secs(3) };
    let failed = fleet.alice.run(Action::Ecs(restart), &fleet.agents[0].id).await.unwrap();
    assert!(matches!(failed, Outcome::Failed { .. }), "{failed:?}");
    let code = eventually("five tasks have crashed", Duration::from_secs(30), async || {
        let code = detail(&status(&fleet).await, "code-server").clone();
        (code.stopped_tasks.len() == 5).then_some(code)
    })
    .await;
    for task in &code.stopped_tasks {
        assert_eq!((task.stop_code.as_str(), task.exit_code), ("EssentialContainerExited", Some(1)));
        assert!(task.stopped_unix_ms > 0 && task.reason.starts_with("Essential container"), "{task:?}");
    }
    assert!(code.stopped_tasks.is_sorted_by(|a, b| a.stopped_unix_ms >= b.stopped_unix_ms), "the newest first");

    // A look of the health report: services, tasks, database; nothing of what only an operator asks for.
    let count = async |action: &str| fleet.aws().calls(&account.id, "ecs", action).await.unwrap().len();
    let calls = async || {
        let mut calls = 0;
        for action in ["DescribeServices", "ListTasks", "DescribeTasks", "DescribeTaskDefinition"] {
            calls += count(action).await;
        }
        calls + fleet.aws().calls(&account.id, "ecr", "DescribeImages").await.unwrap().len()
    };
    let refresh = Action::Agent(Agent::Refresh);
    fleet.alice.run(refresh.clone(), &fleet.agents[0].id).await.unwrap();
    let (mut least, mut seen) = (usize::MAX, calls().await);
    for _ in 0..5 {
        fleet.alice.run(refresh.clone(), &fleet.agents[0].id).await.unwrap();
        let now = calls().await;
        (least, seen) = (least.min(now - seen), now);
    }
    assert!(least <= 3, "{least} calls of ECS for one look");
    fleet.stop().await;
}
