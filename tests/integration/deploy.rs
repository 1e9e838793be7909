//! Another image for a service: only one that can be had, the rest of the task definition untouched, once, and back again
//! where it does not hold. Counted at AWS.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Ecs, Environment, Rollout},
    fargate::Size,
    image::Image,
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{EcsServiceState, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

const NEW: &str = "2024.12.0";
const NEWER: &str = "2024.12.1";

fn rollout(seconds: u64) -> Rollout {
    Rollout { deadline: Duration::from_secs(seconds), failed_tasks: 2, settle: Duration::from_secs(1) }
}

fn deploy_within(service: &str, image: &Image, rollout: Rollout) -> Action {
    Action::Ecs(Ecs::Deploy { service: Some(service.into()), image: image.clone(), rollout })
}

fn deploy(service: &str, image: &Image) -> Action {
    deploy_within(service, image, rollout(60))
}

fn rollback(service: &str) -> Action {
    Action::Ecs(Ecs::Rollback { service: Some(service.into()), rollout: rollout(60) })
}

fn image(fleet: &Fleet, tag: &str) -> Image {
    fleet.agents[0].account.images[tag].clone()
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

fn reached(outcome: Outcome) -> EcsServiceState {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::EcsService(service)) => service.service.unwrap(),
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not succeeded: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

/// A service as ECS shows it now.
async fn state(fleet: &Fleet, service: &str) -> EcsServiceState {
    let Outcome::Succeeded(result) = run(fleet, Action::Ecs(Ecs::Status)).await else { panic!("no status") };
    let Some(Kind::EcsStatus(status)) = result.kind else { panic!("another result") };
    status.services.into_iter().find(|state| state.name == service).unwrap()
}

/// Parameters of the calls that had an effect.
async fn calls(fleet: &Fleet, action: &str) -> Vec<Value> {
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, "ecs", action).await.unwrap();
    calls.into_iter().map(|mut call| call["params"].take()).collect()
}

async fn revisions(fleet: &Fleet) -> Vec<Value> {
    calls(fleet, "RegisterTaskDefinition").await
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_get_another_size_and_lose_nothing_else() {
    let fleet = Fleet::start(1).await;
    let size = Size::new(1024, 4096).unwrap();
    let set = Action::Ecs(Ecs::SetResources { service: "daemon".into(), size, rollout: rollout(60) });
    let plan = fleet.alice.plan(set.clone(), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    assert_eq!(planned, [["cpu", "512", "1024"], ["memory", "2048", "4096"]]);
    let before = state(&fleet, "daemon").await;
    for _ in 0..2 {
        assert_eq!(reached(run(&fleet, set.clone()).await).image, before.image);
    }
    let [request] = revisions(&fleet).await.try_into().expect("one revision");
    assert_eq!((&request["cpu"], &request["memory"]), (&json!("1024"), &json!("4096")));
    assert_eq!(request["ofTomorrow"], json!({"kept": [1, 2.5]}));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_set_and_taken_away_and_what_they_were_is_not_told() {
    let fleet = Fleet::start(1).await;
    let environment = |set: &[(&str, &str)], unset: &[&str]| {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment::new(set, unset.iter().map(ToString::to_string).collect()).unwrap()
    };
    let environment = environment(&[("SENSOR_MIN_INTERVAL", "300"), ("NEW", "1")], &["ABSENT"]);
    let set = Action::Ecs(Ecs::SetEnv { service: "daemon".into(), environment, rollout: rollout(60) });
    let plan = fleet.alice.plan(set.clone(), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    let interval = ["environment SENSOR_MIN_INTERVAL", "(another value)", "\"300\""];
    assert_eq!(planned, [["environment NEW", "", "\"1\""], interval]);
    for _ in 0..2 {
        reached(run(&fleet, set.clone()).await);
    }
    let [request] = revisions(&fleet).await.try_into().expect("one revision");
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    assert_eq!(
        request["containerDefinitions"][0]["environment"],
        json!([variable("DAGSTER_HOME", "/opt/dagster"), variable("SENSOR_MIN_INTERVAL", "300"), variable("NEW", "1")])
    );
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_changes_the_image_and_nothing_else_and_can_be_taken_back() {
    let fleet = Fleet::start(1).await;
    let before = state(&fleet, "daemon").await;
    let new = image(&fleet, NEW);
    let plan = fleet.alice.plan(deploy("daemon", &new), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> =
        plan.changes.iter().map(|c| (c.property.as_str(), c.before.clone(), c.after.clone())).collect();
    assert_eq!(planned, [("image", before.image.clone(), new.to_string())]);
    assert!(calls(&fleet, "RegisterTaskDefinition").await.is_empty());

    let after = reached(run(&fleet, deploy("daemon", &new)).await);
    assert_eq!((after.image, after.image_digest, after.running), (new.to_string(), new.digest.clone(), 1));
    let [request] = calls(&fleet, "RegisterTaskDefinition").await.try_into().expect("one revision");
    // What no version of the SDK knows is carried over as well.
    assert_eq!(request["ofTomorrow"], json!({"kept": [1, 2.5]}));
    let container = &request["containerDefinitions"][0];
    assert_eq!((&container["image"], &container["ofTomorrow"]), (&json!(new.to_string()), &json!(true)));
    assert_eq!(container["logConfiguration"]["options"]["awslogs-stream-prefix"], "daemon");
    assert_eq!((&request["cpu"], &request["memory"]), (&json!("512"), &json!("2048")));
    for field in ["taskDefinitionArn", "revision", "status", "compatibilities"] {
        assert_eq!(request[field], Value::Null, "{field} is ECS's own");
    }

    // There is nothing to do a second time.
    reached(run(&fleet, deploy("daemon", &new)).await);
    assert_eq!(calls(&fleet, "RegisterTaskDefinition").await.len(), 1);
    assert_eq!(calls(&fleet, "UpdateService").await.len(), 1);

    reached(run(&fleet, deploy("daemon", &image(&fleet, NEWER))).await);
    for back in [new.to_string(), before.image.clone()] {
        assert_eq!(reached(run(&fleet, rollback("daemon")).await).image, back);
    }
    assert_eq!(state(&fleet, "daemon").await.task_definition, before.task_definition);
    assert_eq!(calls(&fleet, "RegisterTaskDefinition").await.len(), 2, "going back makes no revision");
    let (code, message) = failure(run(&fleet, rollback("daemon")).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("was not made by a deploy"), "{message}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_refused_before_anything_changes() {
    let fleet = Fleet::start(1).await;
    let known = image(&fleet, NEW);
    let unknown = Image { digest: format!("sha256:{}", "0".repeat(64)), ..known.clone() };
    let mut private = known;
    private.repository.name = "private".into();
    for (image, wanted, words) in
        [(unknown, FailureCode::NotFound, "has no image"), (private, FailureCode::AccessDenied, "ecr:BatchGetImage")]
    {
        let (code, message) = failure(run(&fleet, deploy("code-server", &image)).await);
        assert_eq!(code, wanted, "{message}");
        assert!(message.contains(words), "{message}");
    }
    for change in ["RegisterTaskDefinition", "UpdateService"] {
        assert!(calls(&fleet, change).await.is_empty(), "{change}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_told_as_the_digest_that_it_means_now() {
    let fleet = Fleet::start(1).await;
    let find = async |service: &str, tag: &str| {
        run(&fleet, Action::Ecs(Ecs::Image { service: service.into(), tag: tag.into() })).await
    };
    // By tag before a deploy, by digest after it: the repository is the same.
    for service in ["daemon", "code-server"] {
        let Outcome::Succeeded(result) = find(service, NEWER).await else { panic!("not found") };
        let Some(Kind::EcsImage(found)) = result.kind else { panic!("another result") };
        assert_eq!(found.image, image(&fleet, NEWER).to_string());
        reached(run(&fleet, deploy("code-server", &image(&fleet, NEW))).await);
    }
    let (code, message) = failure(find("daemon", "2025.1.0").await);
    assert_eq!(code, FailureCode::NotFound);
    assert!(message.contains("2025.1.0") && message.contains("ImageNotFound"), "{message}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_is_rolled_back_and_the_outcome_says_both() {
    let fleet = Fleet::start(1).await;
    let new = image(&fleet, NEW);
    for (service, behaviour, seconds, why) in [
        ("code-server", "never-starts", 9, "the deadline came first: 0 of 1 new tasks run"),
        ("daemon", "crashes", 60, "tasks of daemon ended that should run on; last stopped task: "),
    ] {
        let before = state(&fleet, service).await;
        fleet.aws().tasks_of(&fleet.agents[0].account, service, &new.digest, behaviour).await.unwrap();
        let (code, message) = failure(run(&fleet, deploy_within(service, &new, rollout(seconds))).await);
        assert_eq!(code, FailureCode::RolledBack, "{message}");
        assert!(message.contains(why) && message.contains("rolled back: "), "{message}");
        let after = state(&fleet, service).await;
        assert_eq!((after.task_definition, after.running), (before.task_definition, 1));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_and_tasks_that_die_while_they_are_watched_are_rolled_back_and_told() {
    let fleet = Fleet::start(1).await;
    let (account, new) = (&fleet.agents[0].account, image(&fleet, NEW));
    let watched = Rollout { settle: Duration::from_secs(8), ..rollout(60) };
    for (how, why) in [
        (json!({"behaviour": "cannot-pull"}), "CannotPullContainerError"),
        (json!({"behaviour": "crashes", "run_seconds": 2}), "exit code 1"),
    ] {
        let mut how = how;
        (how["service"], how["image"]) = (json!("code-server"), json!(new.digest));
        fleet.aws().behave(account, how).await.unwrap();
        let (code, message) = failure(run(&fleet, deploy_within("code-server", &new, watched)).await);
        assert_eq!(code, FailureCode::RolledBack, "{message}");
        assert!(message.contains(why), "{why}: {message}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_dagster_is_deployed_in_a_safe_order_and_goes_back_together() {
    let fleet = Fleet::start(1).await;
    let all = |image: &Image| Action::Ecs(Ecs::Deploy { service: None, image: image.clone(), rollout: rollout(60) });
    let (good, bad) = (image(&fleet, NEW), image(&fleet, NEWER));
    let Outcome::Succeeded(result) = run(&fleet, all(&good)).await else { panic!("not deployed") };
    let Some(Kind::EcsStatus(status)) = result.kind else { panic!("another result") };
    let order = ["code-server", "daemon", "webserver"];
    let reached: Vec<_> = status.services.iter().map(|s| (s.name.as_str(), s.image.clone())).collect();
    assert_eq!(reached, order.map(|name| (name, good.to_string())));
    let order_of = |calls: Vec<Value>| -> Vec<String> {
        calls.iter().map(|call| call["service"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(order_of(calls(&fleet, "UpdateService").await), order);

    fleet.aws().tasks_of(&fleet.agents[0].account, "daemon", &bad.digest, "crashes").await.unwrap();
    let (code, message) = failure(run(&fleet, all(&bad)).await);
    assert_eq!(code, FailureCode::RolledBack, "{message}");
    assert!(message.contains("tasks of daemon ended") && message.contains("rolled back: daemon to "), "{message}");
    assert_eq!(
        order_of(calls(&fleet, "UpdateService").await)[3..],
        ["code-server", "daemon", "daemon", "code-server"],
        "the webserver was never given it"
    );
    for name in order {
        assert_eq!(state(&fleet, name).await.image, good.to_string(), "{name}");
    }

    let before = calls(&fleet, "UpdateService").await.len();
    let back = Action::Ecs(Ecs::Rollback { service: None, rollout: rollout(60) });
    let Outcome::Succeeded(result) = run(&fleet, back.clone()).await else { panic!("not rolled back") };
    let Some(Kind::EcsStatus(status)) = result.kind else { panic!("another result") };
    assert!(status.services.iter().all(|service| service.image.ends_with(":2024.11.2")), "{status:?}");
    assert_eq!(order_of(calls(&fleet, "UpdateService").await)[before..], order);
    let (code, message) = failure(run(&fleet, back).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("was not made by a deploy"), "{message}");
    assert_eq!(calls(&fleet, "UpdateService").await.len(), before + 3, "where one can't go back, none does");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_go_back_also_where_aws_takes_no_calls_for_a_while() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0];
    let (before, bad) = (state(&fleet, "code-server").await.image, image(&fleet, NEWER));
    fleet.aws().tasks_of(&la.account, "daemon", &bad.digest, "crashes").await.unwrap();
    let all = Action::Ecs(Ecs::Deploy { service: None, image: bad, rollout: rollout(120) });
    let id = fleet.alice.submit(all, &[&la.id]).await.unwrap();
    let given = async || (calls(&fleet, "UpdateService").await.len() == 2).then_some(());
    eventually("the daemon was given it", Duration::from_secs(60), given).await;
    // More often than the SDK asks.
    let fault =
        json!({"service": "ecs", "action": "UpdateService", "kind": "throttle", "times": 7, "account": la.account.id});
    fleet.aws().fault(fault).await.unwrap();
    let (code, message) = failure(fleet.alice.outcome(id, &la.id).await.unwrap());
    assert_eq!(code, FailureCode::RolledBack, "{message}");
    assert!(message.contains("daemon to ") && message.contains("code-server to "), "{message}");
    assert_eq!(state(&fleet, "code-server").await.image, before);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_could_run_twice_is_deployed_alone() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    // What the stand-in lets overlap is the daemon now.
    let platform = &mut fleet.agents[0].config.platform;
    (platform.daemon, platform.code_servers) = ("code-server".into(), vec!["daemon".into()]);
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let new = image(&fleet, NEW);
    let plan = fleet.alice.plan(deploy("code-server", &new), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> =
        plan.changes.iter().map(|c| (c.property.as_str(), c.before.as_str(), c.after.as_str())).collect();
    assert_eq!(planned[1..], [("minimumHealthyPercent", "100", "0"), ("maximumPercent", "200", "100")]);
    reached(run(&fleet, deploy("code-server", &new)).await);
    let [update] = calls(&fleet, "UpdateService").await.try_into().expect("one call");
    let given = &update["deploymentConfiguration"];
    assert_eq!((&given["minimumHealthyPercent"], &given["maximumPercent"]), (&json!(0), &json!(100)));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_whose_answer_was_lost_is_found_and_not_made_again() {
    let fleet = Fleet::start(1).await;
    for action in ["RegisterTaskDefinition", "UpdateService"] {
        let account = &fleet.agents[0].account.id;
        let fault = json!({"service": "ecs", "action": action, "kind": "lost_reply", "times": 1, "account": account});
        fleet.aws().fault(fault).await.unwrap();
    }
    reached(run(&fleet, deploy("code-server", &image(&fleet, NEW))).await);
    assert_eq!(calls(&fleet, "RegisterTaskDefinition").await.len(), 1);
    assert_eq!(state(&fleet, "code-server").await.deployments.len(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_at_any_instant_of_a_deploy_makes_one_revision_and_ends_it() {
    let mut fleet = Fleet::start(1).await;
    let before = state(&fleet, "daemon").await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let (good, bad) = (image(&fleet, NEW), image(&fleet, NEWER));
    fleet.aws().tasks_of(&fleet.agents[0].account, "daemon", &bad.digest, "crashes").await.unwrap();

    let la = fleet.agents[0].id.clone();
    for (image, ends_as) in [(&good, None), (&bad, Some(FailureCode::RolledBack))] {
        let id = fleet.alice.submit(deploy("daemon", image), &[&la]).await.unwrap();
        // Killed when the revision was just made, and nobody was told.
        let made = revisions(&fleet).await.len();
        let account = &fleet.agents[0].account.id;
        let fault = json!({"service": "ecs", "action": "RegisterTaskDefinition", "kind": "lost_reply", "times": 1,
            "account": account});
        fleet.aws().fault(fault).await.unwrap();
        let mut agent = start();
        eventually("a revision is made", Duration::from_secs(30), async || {
            (revisions(&fleet).await.len() > made).then_some(())
        })
        .await;
        agent.kill();
        agent = start();
        for pause in [300, 350, 400, 500, 600, 700, 800, 1000, 1200, 1400] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            agent.kill();
            agent = start();
        }
        let outcome = eventually("the deploy ends", Duration::from_secs(90), async || {
            fleet.alice.outcome(id, &la).await.ok() // waits for a minute at most
        })
        .await;
        match ends_as {
            None => assert_eq!(reached(outcome).image_digest, good.digest),
            Some(code) => assert_eq!(failure(outcome).0, code),
        }
        agent.kill();
    }
    let revisions = revisions(&fleet).await;
    let images: Vec<_> = revisions.iter().map(|call| call["containerDefinitions"][0]["image"].clone()).collect();
    assert_eq!(images, [json!(good.to_string()), json!(bad.to_string())]);

    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let after = state(&fleet, "daemon").await;
    assert_eq!((after.image, after.running), (good.to_string(), 1));
    assert_ne!(after.task_definition, before.task_definition);
    fleet.stop().await;
}
