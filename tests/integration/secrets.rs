//! A plain value that becomes a secret: once, with a way back, and seen by nobody on its way.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Ecs, Rollout},
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{EcsSecretResult, action_result::Kind};
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    process::{Process, real_hub},
    settings::write_agent,
};

/// The variable of the stand-in's code servers that should be a secret, and its value.
const VARIABLE: &str = "DAGSTER_PG_PASSWORD";
const VALUE: &str = "correct-horse-battery";

fn move_it(secret: Option<String>) -> Action {
    let rollout = Rollout { deadline: Duration::from_secs(50), failed_tasks: 2, settle: Duration::from_secs(1) };
    Action::Ecs(Ecs::UseSecret { service: "code-server".into(), variable: VARIABLE.into(), secret, rollout })
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

fn reached(outcome: Outcome) -> EcsSecretResult {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::EcsSecret(result)) => result,
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

async fn calls(fleet: &Fleet, service: &str, action: &str) -> Vec<Value> {
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, service, action).await.unwrap();
    calls.into_iter().map(|mut call| call["params"].take()).collect()
}

/// The environment and secrets of each revision that was made.
async fn revisions(fleet: &Fleet) -> Vec<(Value, Value)> {
    let made = calls(fleet, "ecs", "RegisterTaskDefinition").await;
    made.iter()
        .map(|call| &call["containerDefinitions"][0])
        .map(|c| (c["environment"].clone(), c["secrets"].clone()))
        .collect()
}

/// Files below a folder in which these bytes are.
fn holding(folder: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            holding(&path, bytes, found);
        } else if std::fs::read(&path).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_value_goes_to_secrets_manager_and_is_in_nothing_that_hub_and_agent_keep_send_or_log() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    fleet.hub_config.log.level = "debug".into();
    fleet.agents[0].config.log.level = "debug".into();
    let hub = real_hub(&mut fleet).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let mut agent = Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    fleet.connected(0).await;

    let (mut told, la) = (String::new(), fleet.agents[0].id.clone());
    let status = run(&fleet, Action::Ecs(Ecs::Status)).await;
    told += &format!("{status:?}");
    assert!(told.contains("DAGSTER_PG_PASSWORD of container code-server looks like a secret"), "{told}");
    let plan = fleet.alice.plan(move_it(None), &la).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    let account = &fleet.agents[0].account;
    let arn = format!(
        "arn:aws:secretsmanager:eu-west-2:{}:secret:sfdata/{}/code-server/{VARIABLE}",
        account.id, account.cluster
    );
    assert_eq!(
        planned,
        [
            ["environment DAGSTER_PG_PASSWORD", "(plain value, not shown)", ""],
            ["secrets DAGSTER_PG_PASSWORD", "", arn.as_str()]
        ]
    );
    assert!(calls(&fleet, "secretsmanager", "CreateSecret").await.is_empty(), "a plan makes nothing");

    // The role may not read it: back, and the outcome says which role needs what.
    fleet.aws().tasks(account, "code-server", "no-secret").await.unwrap();
    let outcome = run(&fleet, move_it(None)).await;
    told += &format!("{plan:?} {outcome:?}");
    let (_, message) = failure(outcome);
    for words in ["role/AgentRole needs secretsmanager:GetSecretValue", arn.as_str()] {
        assert!(message.contains(words), "{words}: {message}");
    }
    fleet.aws().tasks(account, "code-server", "normal").await.unwrap();
    eventually("the old tasks run again", Duration::from_secs(30), async || {
        let tasks = fleet.aws().all_tasks(&account.id).await.unwrap();
        tasks.iter().any(|task| task["group"] == "service:code-server" && task["status"] == "RUNNING").then_some(())
    })
    .await;

    for _ in 0..2 {
        let outcome = run(&fleet, move_it(None)).await;
        told += &format!("{outcome:?}");
        let secret = reached(outcome).secret;
        assert!(secret.starts_with(&arn) && secret.len() == arn.len() + 7, "{secret}");
    }
    let made = revisions(&fleet).await;
    assert_eq!(made.len(), 2, "there is nothing to do a second time");
    for (environment, secrets) in &made {
        assert!(!environment.to_string().contains(VARIABLE), "{environment}");
        assert!(secrets[0]["valueFrom"].as_str().unwrap().starts_with(&arn), "{secrets}");
    }
    let created = calls(&fleet, "secretsmanager", "CreateSecret").await;
    assert_eq!(created[0]["SecretString"], VALUE);
    let rotated = calls(&fleet, "secretsmanager", "PutSecretValue").await;
    assert_eq!(rotated.len(), 1, "the second order found the secret of the first");

    agent.terminate().unwrap();
    eventually("the agent stops", Duration::from_secs(30), async || agent.ended()).await;
    drop(hub);
    assert!(!told.contains(VALUE));
    let (mut names, mut values) = (Vec::new(), Vec::new());
    holding(&folder, VARIABLE.as_bytes(), &mut names);
    holding(&folder, VALUE.as_bytes(), &mut values);
    assert!(names.iter().any(|file| file.contains("/hub/")), "it is looked for where it would be: {names:?}");
    assert!(values.is_empty(), "{values:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_referred_to_and_never_touched() {
    let fleet = Fleet::start(1).await;
    let account = &fleet.agents[0].account;
    let name = format!("sfdata/{}/code-server/{VARIABLE}", account.cluster);
    let theirs = json!({"Name": name, "SecretString": "theirs"});
    let made = fleet.aws().call(&account.id, "secretsmanager", "secretsmanager.CreateSecret", theirs).await.unwrap();
    let (code, message) = failure(run(&fleet, move_it(None)).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains(&name) && message.contains("did not make"), "{message}");
    assert!(revisions(&fleet).await.is_empty());

    let arn = made["ARN"].as_str().unwrap().to_owned();
    assert_eq!(reached(run(&fleet, move_it(Some(arn.clone()))).await).secret, arn);
    assert_eq!(calls(&fleet, "secretsmanager", "CreateSecret").await.len(), 1, "theirs");
    assert!(calls(&fleet, "secretsmanager", "PutSecretValue").await.is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_at_any_instant_makes_one_secret_and_one_revision() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let la = fleet.agents[0].id.clone();
    let id = fleet.alice.submit(move_it(None), &[&la]).await.unwrap();
    let account = &fleet.agents[0].account.id;
    for (service, action) in [("secretsmanager", "CreateSecret"), ("ecs", "RegisterTaskDefinition")] {
        let fault = json!({"service": service, "action": action, "kind": "lost_reply", "times": 1, "account": account});
        fleet.aws().fault(fault).await.unwrap();
    }
    let mut agent = start();
    eventually("a secret is made", Duration::from_secs(30), async || {
        (!calls(&fleet, "secretsmanager", "CreateSecret").await.is_empty()).then_some(())
    })
    .await;
    for pause in [0, 300, 400, 600, 800, 1000, 1300, 1600] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        agent.kill();
        agent = start();
    }
    let outcome =
        eventually("it ends", Duration::from_secs(90), async || fleet.alice.outcome(id, &la).await.ok()).await;
    reached(outcome);
    agent.kill();
    let tokens = calls(&fleet, "secretsmanager", "CreateSecret").await;
    assert!(tokens.iter().all(|call| call["ClientRequestToken"] == id.to_string()), "{tokens:?}");
    assert!(calls(&fleet, "secretsmanager", "PutSecretValue").await.is_empty());
    assert_eq!(revisions(&fleet).await.len(), 1);
    fleet.stop().await;
}
