//! AWS that throttles, refuses, errs, hangs, loses answers and goes away: what the operator is told, and what was done.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Agent, Ecs, S3},
    ids::CommandId,
    limits,
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{eventually, fleet::Fleet};

const MINUTE: Duration = Duration::from_secs(60);

fn scale(service: &str, desired: u32) -> Action {
    Action::Ecs(Ecs::Scale { service: service.into(), desired, deadline: MINUTE })
}

fn restart(service: &str, deadline: Duration) -> Action {
    Action::Ecs(Ecs::Restart { service: service.into(), deadline })
}

/// Break one kind of call that no health report makes; for good, unless `times` says how often.
async fn fault(fleet: &Fleet, number: usize, call: (&str, &str), kind: &str, times: Option<u32>) {
    let ((service, action), account) = (call, &fleet.agents[number].account.id);
    let fault = json!({"service": service, "action": action, "kind": kind, "times": times, "account": account});
    fleet.aws().fault(fault).await.unwrap();
}

const CHANGE: (&str, &str) = ("ecs", "UpdateService");
const LIST: (&str, &str) = ("s3", "ListObjectsV2");

async fn run(fleet: &Fleet, number: usize, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[number].id).await.expect("the command ends")
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

async fn changes(fleet: &Fleet, number: usize) -> usize {
    let (service, action) = CHANGE;
    fleet.aws().calls(&fleet.agents[number].account.id, service, action).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_throttles_thrice_is_asked_until_it_answers() {
    let fleet = Fleet::start(2).await;
    fault(&fleet, 0, CHANGE, "throttle", Some(3)).await;
    fault(&fleet, 1, LIST, "throttle", Some(3)).await;
    let (scaled, counted) =
        tokio::join!(run(&fleet, 0, scale("webserver", 1)), run(&fleet, 1, Action::S3(S3::Usage { by_prefix: false })));
    assert!(matches!(scaled, Outcome::Succeeded(_)), "{scaled:?}");
    assert!(matches!(counted, Outcome::Succeeded(_)), "{counted:?}");
    assert_eq!(changes(&fleet, 0).await, 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_throttles_for_good_fails_the_command_as_throttled() {
    let fleet = Fleet::start(2).await;
    fault(&fleet, 0, CHANGE, "throttle", None).await;
    fault(&fleet, 1, CHANGE, "throttle", None).await;
    let restarted = run(&fleet, 1, restart("daemon", MINUTE));
    for outcome in <[Outcome; 2]>::from(tokio::join!(run(&fleet, 0, scale("webserver", 1)), restarted)) {
        let (code, message) = failure(outcome);
        assert_eq!(code, FailureCode::Throttled);
        assert!(message.contains("kept throttling") && message.contains("try again in a few minutes"), "{message}");
    }
    assert_eq!(changes(&fleet, 0).await, 0);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_of_aws_says_which_permission_is_missing() {
    let fleet = Fleet::start(1).await;
    fault(&fleet, 0, CHANGE, "access_denied", None).await;
    for (action, permission) in
        [(scale("webserver", 1), "ecs:UpdateService"), (restart("daemon", MINUTE), "ecs:UpdateService")]
    {
        let began = Instant::now();
        let (code, message) = failure(run(&fleet, 0, action).await);
        assert_eq!(code, FailureCode::AccessDenied);
        assert!(message.contains(permission) && message.contains("deploy/iam"), "{message}");
        assert!(began.elapsed() < Duration::from_secs(5), "a refusal is not tried again");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_errs_for_good_fails_the_command_as_unavailable_and_nothing_was_done() {
    let fleet = Fleet::start(2).await;
    fault(&fleet, 0, CHANGE, "error500", None).await;
    fault(&fleet, 1, CHANGE, "html500", None).await;
    let both = tokio::join!(run(&fleet, 0, scale("webserver", 1)), run(&fleet, 1, scale("webserver", 1)));
    for (number, outcome) in <[Outcome; 2]>::from(both).into_iter().enumerate() {
        let (code, message) = failure(outcome);
        assert_eq!(code, FailureCode::Unavailable);
        assert!(message.contains("HTTP 500") && message.contains("try again"), "{message}");
        assert!(!message.contains('<'), "no page of HTML: {message}");
        assert_eq!(changes(&fleet, number).await, 0);
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_hangs_is_waited_for_no_longer_than_one_call_may_take() {
    let fleet = Fleet::start(1).await;
    fault(&fleet, 0, CHANGE, "hang", None).await;
    let la = &fleet.agents[0].id;
    let began = Instant::now();
    let id = fleet.alice.submit(scale("webserver", 1), &[la]).await.unwrap();
    let cancel = Action::Agent(Agent::Cancel(CommandId::generate()));
    assert!(matches!(run(&fleet, 0, cancel).await, Outcome::Succeeded(_)), "others go on");
    let outcome = eventually("the command ends", limits::AWS_CALL + MINUTE, async || {
        fleet.alice.outcome(id, la).await.ok() // waits for a minute at most
    })
    .await;
    let (code, message) = failure(outcome);
    assert_eq!(code, FailureCode::Unavailable);
    assert!(message.contains("did not answer") && message.contains("try again"), "{message}");
    let took = began.elapsed();
    assert!(took < limits::AWS_CALL + Duration::from_secs(15), "took {took:?}");
    fleet.aws().heal().await.unwrap();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_is_gone_leaves_the_agent_connected_and_its_health_says_why() {
    let mut fleet = Fleet::start(1).await;
    fleet.standin.as_mut().unwrap().kill();
    let (code, message) = failure(run(&fleet, 0, scale("webserver", 1)).await);
    assert_eq!(code, FailureCode::Unavailable);
    assert!(message.contains("did not get through") && message.contains("try again"), "{message}");

    let Outcome::Succeeded(_) = run(&fleet, 0, Action::Agent(Agent::Refresh)).await else { panic!("no refresh") };
    let agent = eventually("the list says that AWS is gone", Duration::from_secs(20), async || {
        let agent = fleet.alice.agent(&fleet.agents[0].id).await.ok()?;
        let health = agent.health.clone()?;
        (!health.ecs?.error.is_empty() && !health.aurora?.error.is_empty()).then_some(agent)
    })
    .await;
    assert_eq!(agent.state(), wire::AgentState::Connected);
    let health = agent.health.unwrap();
    for error in [health.ecs.unwrap().error, health.aurora.unwrap().error] {
        assert_eq!(error, "unavailable");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_whose_answer_was_lost_is_found_and_not_repeated() {
    let fleet = Fleet::start(1).await;
    fault(&fleet, 0, CHANGE, "lost_reply", Some(1)).await;
    let outcome = run(&fleet, 0, restart("code-server", MINUTE)).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    let (service, action) = CHANGE;
    let calls: Vec<Value> = fleet.aws().calls(&fleet.agents[0].account.id, service, action).await.unwrap();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((&calls[0]["fault"], &calls[0]["params"]["forceNewDeployment"]), (&json!("lost_reply"), &json!(true)));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_become_stable_fails_at_its_deadline_and_says_where_it_stands() {
    let fleet = Fleet::start(1).await;
    let deadline = Duration::from_secs(3);
    for (service, behaviour, told) in
        [("code-server", "never-starts", "0 of 1 new tasks run"), ("daemon", "crashes", "last stopped task: ")]
    {
        fleet.aws().tasks(&fleet.agents[0].account, service, behaviour).await.unwrap();
        let (code, message) = failure(run(&fleet, 0, restart(service, deadline)).await);
        assert_eq!(code, FailureCode::Deadline);
        for words in ["was told to restart", "the deadline came first", told, "ECS keeps trying"] {
            assert!(message.contains(words), "{behaviour}: {words}: {message}");
        }
        if behaviour == "crashes" {
            assert!(
                message.contains("Essential container in task exited") && message.contains("exit code 1"),
                "{message}"
            );
        }
    }
    fleet.stop().await;
}
