//! What two operators have to sign: proposed, looked at, approved or given up, by hubctl and by who goes around it.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use serde_json::Value;
use sfdata_common::{
    command::{Action, Aurora, Command, Mode},
    envelope,
    ids::CommandId,
    outcome::Outcome,
    trust::Role,
};
use sfdata_proto::v1::{self as wire, CommandState};
use sfdata_tests::{eventually, fleet::Fleet, operator::Operator};
use tonic::Code;

use crate::traces::Hubctl;

const MINUTE: Duration = Duration::from_secs(60);

fn delete(name: &str) -> Action {
    Action::Aurora(Aurora::DeleteSnapshot { name: name.into(), deadline: MINUTE })
}

async fn deleted(fleet: &Fleet) -> usize {
    fleet.aws().calls(&fleet.agents[0].account.id, "rds", "DeleteDBClusterSnapshot").await.unwrap().len()
}

/// A fleet whose LA allows everything, with the snapshot `kept`.
async fn with_snapshot() -> Fleet {
    let mut fleet = Fleet::start(1).await;
    fleet.with_policy(0, "permit(principal, action, resource);").await;
    let take = Aurora::Snapshot { name: Some("kept".into()), deadline: MINUTE };
    let taken = fleet.alice.run(Action::Aurora(take), &fleet.agents[0].id).await.unwrap();
    assert!(matches!(taken, Outcome::Succeeded(_)), "{taken:?}");
    fleet
}

/// Alice proposes to delete `kept`, as the agent plans it now.
async fn proposed(fleet: &Fleet) -> (CommandId, wire::Envelope) {
    let la = &fleet.agents[0].id;
    let plan = fleet.alice.plan(delete("kept"), la).await.unwrap();
    let mode = Mode::ActIfPlan(plan.digest[..].try_into().unwrap());
    let command = Command { mode, ..fleet.alice.command(delete("kept"), &[la]) };
    let signed = fleet.alice.sign(&command);
    let request = wire::ProposeRequest { command: Some(signed.clone()) };
    fleet.alice.proposals().propose(request).await.unwrap();
    (command.id, signed)
}

async fn approve(by: &Operator, id: CommandId, signed: &wire::Envelope) -> Result<(), Code> {
    let mut signed = signed.clone();
    envelope::add_signature(&mut signed, &by.key);
    let request = wire::ApproveRequest { command_id: id.to_string(), signature: signed.signatures.pop() };
    by.proposals().approve(request).await.map(|_| ()).map_err(|status| status.code())
}

async fn kinds(fleet: &Fleet, id: CommandId) -> Vec<String> {
    let about = |entry: &wire::AuditEntry| entry.subject == id.to_string();
    fleet.alice.audit().await.unwrap().into_iter().filter(about).map(|e| format!("{} {}", e.kind, e.actor)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_proposes_and_another_approves_what_both_have_seen() {
    let mut fleet = with_snapshot().await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let alone = fleet.alice.submit(delete("kept"), &[&fleet.agents[0].id]).await.unwrap_err();
    assert_eq!(alone.code(), Code::PermissionDenied);
    assert!(alone.message().contains("hubctl commands propose"), "{alone}");

    let (id, _) = proposed(&fleet).await;
    let id_text = id.to_string();
    let (code, listed, said) = hubctl.run(&["commands", "list", "--proposed", "-o", "json"], "").await;
    assert_eq!(code, Some(0), "{said}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["proposals"][0]["command_id"], id_text);
    assert_eq!(listed["proposals"][0]["operator"], "alice");
    // Nobody says yes without a terminal.
    let (code, _, said) = hubctl.run(&["commands", "approve", &id_text], "").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("db-cluster-snapshot kept") && said.contains("--yes"), "{said}");
    assert_eq!(deleted(&fleet).await, 0);
    // The hub may be started anew in between.
    fleet.stop_hub().await;
    fleet.start_hub().await;
    fleet.connected(0).await;
    let (code, shown, said) = hubctl.run(&["commands", "approve", &id_text, "--yes"], "").await;
    assert_eq!(code, Some(0), "{shown} {said}");
    assert_eq!(deleted(&fleet).await, 1);
    let (_, listed, _) = hubctl.run(&["commands", "list", "--proposed", "-o", "json"], "").await;
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["proposals"], serde_json::json!([]));
    let kinds = kinds(&fleet, id).await;
    let expected =
        ["command.proposed operator/alice", "command.submitted operator/alice", "command.approved operator/bob"];
    assert_eq!(kinds[..3], expected, "{kinds:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hubctl_proposes_what_stands_behind_it_and_the_author_cannot_approve() {
    let mut fleet = with_snapshot().await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let order = ["aurora", "delete-snapshot", "kept", "--agent", "la-0", "--reason", "old", "-o", "json"];
    let (code, shown, said) = hubctl.run(&[&["commands", "propose", "--"][..], &order].concat(), "").await;
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let id: CommandId = shown["command_id"].as_str().unwrap().parse().unwrap();
    let (code, _, said) = hubctl.run(&["commands", "approve", &id.to_string(), "--yes"], "").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("you proposed it yourself"), "{said}");
    assert_eq!(deleted(&fleet).await, 0);
    let request = wire::GetProposalRequest { command_id: id.to_string() };
    let proposal = fleet.alice.proposals().get_proposal(request).await.unwrap().into_inner().proposal.unwrap();
    approve(&fleet.alice, id, &proposal.command.unwrap()).await.unwrap();
    let outcome = fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(deleted(&fleet).await, 1);

    for (words, expected) in [
        (&["agents", "list"][..], "an answer"),
        (&["ecs", "status", "--agent", "la-0"], "needs no second operator"),
        (&["logs", "daemon", "--agent", "la-0"], "can't be proposed"),
        (&["nonsense"], "unrecognized subcommand"),
        (&["aurora", "delete-snapshot", "gone", "--agent", "la-0"], "nothing was ordered"),
    ] {
        let (code, shown, said) = hubctl.run(&[&["commands", "propose", "--"][..], words].concat(), "").await;
        let answered = expected == "an answer" && code == Some(0) && shown.contains("la-0");
        assert!(answered || (code != Some(0) && said.contains(expected)), "{words:?}: {code:?} {shown} {said}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_another_operator_who_may_do_it_approves_and_only_once() {
    let mut fleet = with_snapshot().await;
    let bob = fleet.operator("bob", Role::Admin).await;
    let viewer = fleet.operator("carol", Role::Maintainer).await;
    let (id, signed) = proposed(&fleet).await;
    assert_eq!(approve(&fleet.alice, id, &signed).await, Err(Code::PermissionDenied), "her own");
    assert_eq!(approve(&viewer, id, &signed).await, Err(Code::PermissionDenied), "not of her class");
    let mut other = signed.clone();
    other.payload = fleet.alice.command(delete("kept"), &[&fleet.agents[0].id]).encode().into();
    assert_eq!(approve(&bob, id, &other).await, Err(Code::PermissionDenied), "a signature over something else");
    assert_eq!(approve(&bob, CommandId::generate(), &signed).await, Err(Code::NotFound));
    assert_eq!(deleted(&fleet).await, 0);
    // The same proposal again is the same; other bytes under its id are not.
    let again = wire::ProposeRequest { command: Some(signed.clone()) };
    fleet.alice.proposals().propose(again).await.unwrap();
    let mut different = Command::parse(&signed.payload).unwrap();
    different.reason = "another".into();
    let different = wire::ProposeRequest { command: Some(fleet.alice.sign(&different)) };
    assert_eq!(fleet.alice.proposals().propose(different).await.unwrap_err().code(), Code::AlreadyExists);

    approve(&bob, id, &signed).await.unwrap();
    approve(&bob, id, &signed).await.unwrap();
    let outcome = fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(deleted(&fleet).await, 1);
    // What was approved is no proposal any more, and can be none again.
    let reject = wire::RejectRequest { command_id: id.to_string(), reason: String::new() };
    assert_eq!(bob.proposals().reject(reject).await.unwrap_err().code(), Code::NotFound);
    let again = wire::ProposeRequest { command: Some(signed) };
    assert_eq!(fleet.alice.proposals().propose(again).await.unwrap_err().code(), Code::AlreadyExists);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_expires_or_has_changed_is_not_done() {
    let mut fleet = with_snapshot().await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let bob = fleet.operator("dave", Role::Admin).await;
    let (id, signed) = proposed(&fleet).await;
    let (code, _, said) = hubctl.run(&["commands", "reject", &id.to_string(), "--reason", "keep it"], "").await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(approve(&bob, id, &signed).await, Err(Code::NotFound));
    assert!(kinds(&fleet, id).await.contains(&"command.rejected operator/bob".to_owned()));

    let la = &fleet.agents[0].id;
    let soon = Command {
        expires: sfdata_common::Timestamp::now() + Duration::from_secs(2),
        ..fleet.alice.command(delete("kept"), &[la])
    };
    let signed_soon = fleet.alice.sign(&soon);
    let request = wire::ProposeRequest { command: Some(signed_soon.clone()) };
    fleet.alice.proposals().propose(request).await.unwrap();
    eventually("it has expired", MINUTE, async || {
        let listed = bob.proposals().list_proposals(wire::ListProposalsRequest {}).await.ok()?.into_inner();
        listed.proposals.is_empty().then_some(())
    })
    .await;
    assert_eq!(approve(&bob, soon.id, &signed_soon).await, Err(Code::NotFound));

    // Meanwhile somebody else deleted it: what was signed is not what would be done.
    let (id, signed) = proposed(&fleet).await;
    let gone = fleet.alice.run_with(&bob, delete("kept"), la).await.unwrap();
    assert!(matches!(gone, Outcome::Succeeded(_)), "{gone:?}");
    let (code, _, said) = hubctl.run(&["commands", "approve", &id.to_string(), "--yes"], "").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing was approved"), "{said}");
    // Who approves it all the same, without looking, is stopped by the agent.
    approve(&bob, id, &signed).await.unwrap();
    assert!(!matches!(fleet.alice.outcome(id, la).await.unwrap(), Outcome::Succeeded(_)));
    assert_eq!(fleet.alice.state(id, la).await.unwrap(), CommandState::Failed);
    assert_eq!(deleted(&fleet).await, 1);
    fleet.stop().await;
}
