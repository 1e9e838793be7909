//! An agent that is given another image by its own service: the old one begins the command and the new one ends it, or the old
//! one again where the new does not report in. Its deployments are counted at ECS.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Agent, Ecs, Mode},
    ids::CommandId,
    image::Image,
    outcome::{FailureCode, Outcome},
    trust::Role,
};
use sfdata_proto::v1::{AgentState, AgentUpgradeResult, EditAgentRequest, ListCommandsRequest, action_result::Kind};
use sfdata_tests::{
    eventually,
    fargate::{self, Host, Metadata, SERVICE},
    fleet::Fleet,
    process::outcome,
    web,
};

const OLD: &str = "2024.11.2";
const NEW: &str = "2024.12.0";

fn upgrade(image: &Image, seconds: u64) -> Action {
    Action::Agent(Agent::Upgrade { image: image.clone(), deadline: Duration::from_secs(seconds) })
}

fn image(fleet: &Fleet, tag: &str) -> Image {
    fleet.agents[0].account.images[tag].clone()
}

/// A fleet whose agent is a task of ECS, connected.
async fn hosted() -> (Fleet, Host) {
    let mut fleet = Fleet::start(1).await;
    let old = image(&fleet, OLD).to_string();
    fargate::make_service(fleet.aws(), &fleet.agents[0].account, &old).await.unwrap();
    let mut host = Host::of(&mut fleet).await.unwrap();
    eventually("the agent is connected and its deployment complete", Duration::from_secs(60), async || {
        host.tend(&fleet).await.unwrap();
        let connected = fleet.alice.agent(&fleet.agents[0].id).await.ok()?.state() == AgentState::Connected;
        (connected && service(&fleet).await["deployments"][0]["rolloutState"] == "COMPLETED").then_some(())
    })
    .await;
    (fleet, host)
}

/// The agent's service as ECS shows it.
async fn service(fleet: &Fleet) -> Value {
    let account = &fleet.agents[0].account;
    let asked = json!({"cluster": account.cluster, "services": [SERVICE]});
    let target = "AmazonEC2ContainerServiceV20141113.DescribeServices";
    fleet.aws().call(&account.id, "ecs", target, asked).await.unwrap()["services"][0].take()
}

/// Parameters of the calls that had an effect on the agent's service, or of its family.
async fn calls(fleet: &Fleet, action: &str) -> Vec<Value> {
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, "ecs", action).await.unwrap();
    calls.into_iter().map(|mut call| call["params"].take()).collect()
}

/// Run the tasks until the command has ended.
async fn ended(fleet: &Fleet, host: &mut Host, id: CommandId) -> Outcome {
    let la = &fleet.agents[0].id;
    let end = fleet.alice.outcome(id, la);
    tokio::pin!(end);
    eventually("the command ends", Duration::from_secs(120), async || {
        host.tend(fleet).await.unwrap();
        tokio::time::timeout(Duration::from_millis(50), &mut end).await.ok()
    })
    .await
    .expect("an outcome")
}

fn done(outcome: Outcome) -> AgentUpgradeResult {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::AgentUpgrade(done)) => done,
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not upgraded: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

fn revision(host: &Host, at: usize) -> &str {
    host.started[at].rsplit('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_agent_ends_what_the_old_one_has_begun() {
    let (fleet, mut host) = hosted().await;
    let (la, new) = (&fleet.agents[0].id, image(&fleet, NEW));
    let plan = fleet.alice.plan(upgrade(&new, 60), la).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    assert_eq!(
        planned,
        [
            ["image", &*image(&fleet, OLD).to_string(), &*new.to_string()],
            ["minimumHealthyPercent", "100", "0"],
            ["maximumPercent", "200", "100"],
            ["deploymentCircuitBreaker", "", "on, with rollback"],
        ]
    );
    assert!(calls(&fleet, "UpdateService").await.is_empty(), "a plan changes nothing");

    let found =
        fleet.alice.run(Action::Ecs(Ecs::Image { service: "agent".into(), tag: NEW.into() }), la).await.unwrap();
    let Outcome::Succeeded(found) = found else { panic!("not found") };
    assert!(matches!(found.kind, Some(Kind::EcsImage(found)) if found.image == new.to_string()));

    let mode = Mode::ActIfPlan(plan.digest[..].try_into().unwrap());
    let signed = sfdata_common::command::Command { mode, ..fleet.alice.command(upgrade(&new, 60), &[la]) };
    let id = fleet.alice.hand_in(fleet.alice.sign(&signed)).await.unwrap();
    let result = done(ended(&fleet, &mut host, id).await);
    assert_eq!((result.task_definition.as_str(), result.previous.as_str()), (revision(&host, 1), revision(&host, 0)));
    assert_eq!((result.image, result.service), (new.to_string(), SERVICE.into()));
    let [update] = calls(&fleet, "UpdateService").await.try_into().expect("one call");
    let given = &update["deploymentConfiguration"];
    assert_eq!((&given["minimumHealthyPercent"], &given["maximumPercent"]), (&json!(0), &json!(100)));
    assert_eq!(given["deploymentCircuitBreaker"], json!({"enable": true, "rollback": true}));
    let kept = json!({"taskDefinition": host.started[0]});
    let account = &fleet.agents[0].account.id;
    let target = "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition";
    assert_eq!(fleet.aws().call(account, "ecs", target, kept).await.unwrap()["taskDefinition"]["status"], "ACTIVE");

    // There is nothing to do a second time.
    let again = done(fleet.alice.run(upgrade(&new, 60), la).await.unwrap());
    assert_eq!((again.task_definition, calls(&fleet, "UpdateService").await.len()), (result.task_definition, 1));
    drop(host);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_crashes_is_taken_back_by_ecs_and_the_old_one_tells() {
    let (fleet, mut host) = hosted().await;
    let (la, new) = (&fleet.agents[0].id, image(&fleet, NEW));
    fleet.aws().tasks_of(&fleet.agents[0].account, SERVICE, &new.digest, "cannot-pull").await.unwrap();
    let id = fleet.alice.submit(upgrade(&new, 100), &[la]).await.unwrap();
    let (code, message) = failure(ended(&fleet, &mut host, id).await);
    assert_eq!(code, FailureCode::RolledBack, "{message}");
    assert!(message.contains("ECS itself went back") && message.contains("CannotPullContainerError"), "{message}");
    assert_eq!(calls(&fleet, "UpdateService").await.len(), 1, "ECS did it");
    assert_eq!(host.started.last(), host.started.first());
    drop(host);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_finds_no_hub_goes_back_by_itself() {
    let (fleet, mut host) = hosted().await;
    let (la, new) = (&fleet.agents[0].id, image(&fleet, NEW));
    host.cut_off = Some("agent:2".into());
    let id = fleet.alice.submit(upgrade(&new, 15), &[la]).await.unwrap();
    let (code, message) = failure(ended(&fleet, &mut host, id).await);
    assert_eq!(code, FailureCode::RolledBack, "{message}");
    assert!(
        message.contains("the new agent had no link to the hub in time") && message.contains("agent:1"),
        "{message}"
    );
    let given: Vec<_> =
        calls(&fleet, "UpdateService").await.iter().map(|call| call["taskDefinition"].clone()).collect();
    assert_eq!(given, [json!(host.started[1]), json!(host.started[0])]);
    assert_eq!(host.started.last(), host.started.first());
    drop(host);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_at_any_instant_of_its_upgrade_makes_one_revision_and_ends_it() {
    for crashes in [false, true] {
        let (fleet, mut host) = hosted().await;
        let (account, la, new) = (&fleet.agents[0].account, &fleet.agents[0].id, image(&fleet, NEW));
        if crashes {
            fleet.aws().tasks_of(account, SERVICE, &new.digest, "crashes").await.unwrap();
        }
        let before = calls(&fleet, "RegisterTaskDefinition").await.len();
        let fault = json!({"service": "ecs", "action": "RegisterTaskDefinition", "kind": "lost_reply", "times": 1,
            "account": account.id});
        fleet.aws().fault(fault).await.unwrap();
        let id = fleet.alice.submit(upgrade(&new, 120), &[la]).await.unwrap();
        // Killed when the revision was just made, and nobody was told.
        eventually("a revision is made", Duration::from_secs(30), async || {
            (calls(&fleet, "RegisterTaskDefinition").await.len() > before).then_some(())
        })
        .await;
        host.kill(&fleet).await.unwrap();
        for pause in [300, 500, 700, 900, 1200, 1500] {
            let until = tokio::time::Instant::now() + Duration::from_millis(pause);
            while tokio::time::Instant::now() < until {
                host.tend(&fleet).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            host.kill(&fleet).await.unwrap();
        }
        match (ended(&fleet, &mut host, id).await, crashes) {
            (outcome, false) => assert_eq!(done(outcome).image, new.to_string()),
            (outcome, true) => assert_eq!(failure(outcome).0, FailureCode::RolledBack),
        }
        assert_eq!(calls(&fleet, "RegisterTaskDefinition").await.len(), before + 1);
        drop(host);
        fleet.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_upgraded_says_what_is_missing() {
    let mut fleet = Fleet::start(1).await;
    let new = image(&fleet, NEW);
    let (account, la) = (fleet.agents[0].account.clone(), fleet.agents[0].id.clone());
    let refused = async |fleet: &Fleet, image: &Image| failure(fleet.alice.run(upgrade(image, 60), &la).await.unwrap());
    let (code, message) = refused(&fleet, &new).await;
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("[platform] agent_service"), "{message}");
    let asked = Action::Ecs(Ecs::Image { service: "agent".into(), tag: NEW.into() });
    assert_eq!(failure(fleet.alice.run(asked, &la).await.unwrap()).0, FailureCode::Rejected);

    let restart = async |fleet: &mut Fleet, metadata: Option<String>| {
        fleet.stop_agent(0).await;
        fleet.agents[0].config.platform.agent_service = Some(SERVICE.into());
        fleet.agents[0].config.task_metadata = metadata;
        fleet.start_agent(0).await;
        fleet.connected(0).await;
    };
    restart(&mut fleet, None).await;
    let (code, message) = refused(&fleet, &new).await;
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("ECS_CONTAINER_METADATA_URI_V4"), "{message}");

    let metadata = Metadata::start().await.unwrap();
    restart(&mut fleet, Some(metadata.of(&account.cluster, "x/family:7"))).await;
    let (code, message) = refused(&fleet, &new).await;
    assert_eq!(code, FailureCode::NotFound, "{message}");
    fargate::make_service(fleet.aws(), &account, &image(&fleet, OLD).to_string()).await.unwrap();
    let (code, message) = refused(&fleet, &new).await;
    assert_eq!(code, FailureCode::Conflict, "{message}");
    assert!(message.contains("family:7") && message.contains("not its own service"), "{message}");
    let unknown = Image { digest: format!("sha256:{}", "0".repeat(64)), ..new };
    assert_eq!(refused(&fleet, &unknown).await.0, FailureCode::NotFound);

    // What it runs as is no service of the platform.
    let restart_it = Action::Ecs(Ecs::Restart { service: SERVICE.into(), deadline: Duration::from_secs(9) });
    assert_eq!(failure(fleet.alice.run(restart_it, &la).await.unwrap()).0, FailureCode::NotFound);
    assert!(calls(&fleet, "UpdateService").await.is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_is_not_given_the_agents_place() {
    let mut fleet = Fleet::start(1).await;
    let (account, la) = (fleet.agents[0].account.clone(), fleet.agents[0].id.clone());
    let mut home = image(&fleet, OLD);
    home.repository.name = "sfdata/agent".into();
    let family = fargate::make_service(fleet.aws(), &account, &home.to_string()).await.unwrap();
    let metadata = Metadata::start().await.unwrap();
    fleet.stop_agent(0).await;
    fleet.agents[0].config.platform.agent_service = Some(SERVICE.into());
    fleet.agents[0].config.task_metadata = Some(metadata.of(&account.cluster, &format!("x/{family}:1")));
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    // It is in ECR, and would have the agent's role, keys and journal.
    let (code, message) = failure(fleet.alice.run(upgrade(&image(&fleet, NEW), 60), &la).await.unwrap());
    assert_eq!(code, FailureCode::Rejected, "{message}");
    assert!(message.contains("sfdata/agent, and is given no other program"), "{message}");
    assert!(calls(&fleet, "UpdateService").await.is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_go_one_after_the_other_and_end_at_the_first_that_does_not_succeed() {
    let mut fleet = Fleet::start(3).await;
    let home = web::join(&mut fleet, "mary", Role::Maintainer).await.unwrap();
    let metadata = Metadata::start().await.unwrap();
    // The first two know their service, which runs the image already; the third does not.
    for (number, group) in [(0, "canary"), (1, "pilot"), (2, "rest")] {
        if number < 2 {
            let (account, old) = (fleet.agents[number].account.clone(), image(&fleet, OLD).to_string());
            let family = fargate::make_service(fleet.aws(), &account, &old).await.unwrap();
            fleet.stop_agent(number).await;
            let config = &mut fleet.agents[number].config;
            config.platform.agent_service = Some(SERVICE.into());
            config.task_metadata = Some(metadata.of(&account.cluster, &format!("x/{family}:1")));
            fleet.start_agent(number).await;
            fleet.connected(number).await;
        }
        let agent_id = fleet.agents[number].id.to_string();
        let request = EditAgentRequest { agent_id, add_groups: vec![group.into()], ..Default::default() };
        fleet.alice.client.clone().edit_agent(request).await.unwrap();
    }
    let image = image(&fleet, OLD).to_string();
    let run = async |words: &[&str]| {
        let (code, out, said) =
            outcome("hubctl", &[&["--home", &*home, "agents", "upgrade"][..], words].concat()).await;
        (code, out, said)
    };
    let (code, out, said) = run(&["--tag", OLD, "--rings", "canary,pilot", "-o", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let of = |told: &Value| -> Vec<_> {
        let rings = told["rings"].as_array().unwrap().iter();
        rings.map(|ring| (ring["ring"].clone(), ring["targets"][0]["outcome"]["kind"].clone())).collect()
    };
    assert_eq!(of(&told), [(json!("canary"), json!("succeeded")), (json!("pilot"), json!("succeeded"))]);
    assert_eq!(told["rings"][1]["targets"][0]["outcome"]["result"]["image"], image);

    let (code, out, said) = run(&["--image", &image, "--rings", "canary,rest,pilot", "-o", "json"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not begun: pilot"), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(of(&told), [(json!("canary"), json!("succeeded")), (json!("rest"), json!("failed"))]);
    assert_eq!(told["not_begun"], json!(["pilot"]));
    let count = fleet.alice.client.clone().list_commands(ListCommandsRequest::default()).await.unwrap().into_inner();
    let upgrades = count.commands.iter().filter(|command| command.action == "agent.upgrade").count();
    assert_eq!(upgrades, 4, "one a ring that was begun");

    let (code, out, said) = run(&["--image", &image, "--agent", "la-0", "--plan"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("nothing to do"), "{out}");
    for words in [&["--rings", "canary,pilot", "--no-wait"][..], &["--rings", "canary", "--all"], &[]] {
        let (code, _, said) = run(&[&["--image", &image], words].concat()).await;
        assert_eq!(code, Some(2), "{words:?}: {said}");
    }
    let (code, _, said) = run(&["--image", &image, "--rings", "canary,nobody"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no agent is in group nobody"), "{said}");
    fleet.stop().await;
}
