//! What the hub does not even take from an operator, what it takes once only, and what the operator sees of an LA's no.

use std::time::Duration;

use sfdata_agent::{audit, policy::Brake};
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Command},
    envelope,
    keys::{SigningKey, sha256},
    limits,
    outcome::{Outcome, RefusalReason},
    trust::Role,
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{eventually, fleet::Fleet, operator::Operator};
use tonic::Code;

use crate::door::{flip, harmless, restart, seal};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_by_name_what_the_la_refuses() {
    let mut fleet = Fleet::without_aws(1).await;
    let la = fleet.agents[0].id.clone();
    let refusal = async |fleet: &Fleet, action: Action| {
        let id = fleet.alice.submit(action, &[&la]).await.unwrap();
        let Outcome::Refused { reason, detail } = fleet.alice.outcome(id, &la).await.unwrap() else { panic!("let in") };
        let shown = fleet.alice.show(id).await.unwrap();
        assert_eq!(shown.targets[0].state(), wire::CommandState::Refused);
        assert!(shown.targets[0].receipt.is_some(), "the agent signed its refusal");
        (reason, detail)
    };

    let brake = Brake::new(&fleet.agents[0].config.data_dir);
    brake.hold("inspection until noon", Timestamp::now()).unwrap();
    let (reason, detail) = refusal(&fleet, harmless()).await;
    assert_eq!(reason, RefusalReason::Held);
    assert!(detail.contains("inspection until noon"), "{detail}");
    let read = fleet.alice.run(Action::Agent(Agent::Refresh), &la).await.unwrap();
    assert!(matches!(read, Outcome::Succeeded(_)), "a held agent still tells how it is: {read:?}");
    eventually("the list shows the hold", MINUTE, async || {
        let hold = fleet.alice.agent(&la).await.unwrap().health?.hold?;
        (hold.reason == "inspection until noon").then_some(())
    })
    .await;
    brake.release().unwrap();

    let text = r#"permit (principal, action, resource);
        @id("no restarts here") forbid (principal, action == Action::"ecs.restart", resource);"#;
    fleet.with_policy(0, text).await;
    let (reason, detail) = refusal(&fleet, restart()).await;
    assert_eq!(reason, RefusalReason::LocalPolicy);
    assert!(detail.contains("no restarts here"), "{detail}");
    assert!(matches!(fleet.alice.run(harmless(), &la).await.unwrap(), Outcome::Succeeded(_)));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_takes_no_command_that_does_not_hold_and_puts_the_denial_on_record() {
    let mut fleet = Fleet::without_aws(2).await;
    let victor = fleet.operator("victor", Role::Viewer).await;
    let la = fleet.agents[0].id.clone();
    let locked = fleet.agents[1].id.clone();
    fleet.alice.lock(&locked).await.unwrap();
    let alice = &fleet.alice;
    let good = || alice.command(restart(), &[&la]);
    let with = |change: &dyn Fn(&mut Command)| {
        let mut command = good();
        change(&mut command);
        alice.sign(&command)
    };
    let stranger = SigningKey::generate().unwrap();
    let now = Timestamp::now();
    let mut tampered = alice.sign(&good());
    tampered.payload = flip(&tampered.payload, 203);
    let mut oversized = alice.sign(&good());
    let bytes = vec![0; limits::COMMAND_BYTES].into();
    oversized.signatures.push(wire::Signature { key_id: "x".into(), signature: bytes });
    let mut unknown_fields = good().encode();
    prost::encoding::uint32::encode(99, &7, &mut unknown_fields);
    let mut impostor = seal(&good(), &stranger);
    impostor.signatures[0].key_id = alice.key.id().to_owned();
    let denied: [(&str, &Operator, wire::Envelope, Code, &str); 15] = [
        (
            "unsigned",
            alice,
            wire::Envelope { signatures: vec![], ..alice.sign(&good()) },
            Code::PermissionDenied,
            "signature",
        ),
        ("wrongly signed", alice, seal(&good(), &stranger), Code::PermissionDenied, "signature"),
        ("in alice's name", alice, impostor, Code::PermissionDenied, "signature"),
        ("tampered", alice, tampered, Code::PermissionDenied, "signature"),
        ("somebody else's", &victor, alice.sign(&good()), Code::PermissionDenied, "signature"),
        ("in somebody else's name", &victor, victor.sign(&good()), Code::PermissionDenied, "connected as victor"),
        (
            "a viewer's restart",
            &victor,
            victor.sign(&victor.command(restart(), &[&la])),
            Code::PermissionDenied,
            "viewer",
        ),
        (
            "expired",
            alice,
            with(&|c| (c.not_before, c.expires) = (now - 2 * MINUTE, now - MINUTE)),
            Code::InvalidArgument,
            "clock",
        ),
        (
            "future",
            alice,
            with(&|c| (c.not_before, c.expires) = (now + 2 * MINUTE, now + 3 * MINUTE)),
            Code::InvalidArgument,
            "clock",
        ),
        (
            "valid for too long",
            alice,
            with(&|c| c.expires = now + 25 * 60 * MINUTE),
            Code::InvalidArgument,
            "valid for longer",
        ),
        (
            "for an unknown agent",
            alice,
            with(&|c| c.targets = vec!["nowhere".parse().unwrap()]),
            Code::NotFound,
            "nowhere",
        ),
        ("for a locked agent", alice, with(&|c| c.targets = vec![locked.clone()]), Code::FailedPrecondition, "locked"),
        ("too large", alice, oversized, Code::InvalidArgument, "bytes long"),
        (
            "with unknown fields",
            alice,
            envelope::seal(Command::PAYLOAD_TYPE, unknown_fields, &alice.key),
            Code::InvalidArgument,
            "fields",
        ),
        (
            "no command",
            alice,
            envelope::seal(Command::PAYLOAD_TYPE, vec![0xff], &alice.key),
            Code::InvalidArgument,
            "valid command",
        ),
    ];
    let count = denied.len();
    for (name, by, command, code, word) in denied {
        let status = by.hand_in(command).await.unwrap_err();
        assert_eq!(status.code(), code, "{name}: {status}");
        assert!(status.message().contains(word), "{name}: {status}");
    }
    // What is not of class command either: a viewer locks nobody.
    assert_eq!(victor.lock(&la).await.unwrap_err().code(), Code::PermissionDenied);

    let commands = alice.client.clone().list_commands(wire::ListCommandsRequest::default()).await.unwrap();
    assert_eq!(commands.into_inner().commands, []);
    let record = alice.audit().await.unwrap();
    let denials: Vec<_> = record.iter().filter(|entry| entry.kind == "operator.denied").collect();
    assert_eq!(denials.len(), count + 1, "{denials:?}");
    assert_eq!(denials.iter().filter(|entry| entry.actor == "operator/victor").count(), 4);
    assert_eq!(denials.last().unwrap().subject, "agents.lock");
    // A receipt of nothing: the agents were never asked.
    let nothing = audit::read(&fleet.agents[0].config.data_dir).unwrap();
    assert_eq!(nothing.count(), 0);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_handed_in_twice_is_found_and_its_id_is_not_lent_to_another() {
    let fleet = Fleet::without_aws(1).await;
    let la = &fleet.agents[0].id;
    let command = fleet.alice.command(harmless(), &[la]);
    let signed = fleet.alice.sign(&command);
    let id = fleet.alice.hand_in(signed.clone()).await.unwrap();
    let twice = futures::future::join_all((0..8).map(|_| fleet.alice.hand_in(signed.clone()))).await;
    assert!(twice.iter().all(|found| found.as_ref().is_ok_and(|found| *found == id)), "{twice:?}");
    assert!(matches!(fleet.alice.outcome(id, la).await.unwrap(), Outcome::Succeeded(_)));
    assert_eq!(fleet.alice.hand_in(signed).await.unwrap(), id);

    let other = Command { action: restart(), ..command.clone() };
    assert_eq!(fleet.alice.hand_in(fleet.alice.sign(&other)).await.unwrap_err().code(), Code::AlreadyExists);
    let record: Vec<_> = audit::read(&fleet.agents[0].config.data_dir).unwrap().map(|entry| entry.unwrap().0).collect();
    assert_eq!(record.len(), 1, "{record:?}");
    assert_eq!(record[0].digest, hex(&sha256(&command.encode())));
    let submitted =
        fleet.alice.audit().await.unwrap().into_iter().filter(|entry| entry.kind == "command.submitted").count();
    assert_eq!(submitted, 1);
    fleet.stop().await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
