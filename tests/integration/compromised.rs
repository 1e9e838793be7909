//! A hub that is wholly in an attacker's hands: its keys, its store, every command that was ever signed. What it can do is
//! withhold, number what waits in another order, and read reports; here it tries the rest.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use prost::Message as _;
use sfdata_common::{
    Timestamp,
    command::{Action, Aurora, Command, Ecs},
    envelope,
    keys::SigningKey,
    outcome::{Outcome, RefusalReason as Why},
    trust::Role,
};
use sfdata_hub::{
    metrics::Metrics,
    store::{Store, keys, records},
};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent, connect_response::Message as FromHub};
use sfdata_tests::{eventually, fleet::Fleet};

use crate::door::{Taken, harmless, member};

const MINUTE: Duration = Duration::from_secs(60);

fn restart() -> Action {
    Action::Ecs(Ecs::Restart { service: "daemon".into(), deadline: MINUTE })
}

/// Everything that operators signed and the hub has, as a thief of its disk reads it.
fn stolen(fleet: &Fleet) -> (Vec<wire::Envelope>, Vec<wire::Envelope>) {
    let store = Store::open(&fleet.hub_config.data_dir, Metrics::default()).unwrap();
    let commands = store.scan::<records::Command>(keys::COMMANDS).filter_map(|item| item.unwrap().1.envelope);
    let proposals = store.scan::<records::Proposal>(keys::PROPOSALS).filter_map(|item| item.unwrap().1.envelope);
    (commands.collect(), proposals.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_keys_and_all_that_was_ever_signed_a_hub_repeats_revives_and_completes_nothing() {
    let mut fleet = Fleet::start(1).await;
    fleet.with_policy(0, "permit(principal, action, resource);").await;
    let la = fleet.agents[0].id.clone();
    for action in [restart(), harmless()] {
        let outcome = fleet.alice.run(action, &la).await.unwrap();
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    }
    // One that waits for its agent and is held back until its time has passed, and one that lacks a second signature.
    fleet.stop_agent(0).await;
    let soon = Command { expires: Timestamp::now() + Duration::from_secs(3), ..fleet.alice.command(restart(), &[&la]) };
    fleet.alice.hand_in(fleet.alice.sign(&soon)).await.unwrap();
    let delete = Action::Aurora(Aurora::DeleteSnapshot { name: "kept".into(), deadline: MINUTE });
    for _ in 0..2 {
        let half = fleet.alice.sign(&fleet.alice.command(delete.clone(), &[&la]));
        fleet.alice.proposals().propose(wire::ProposeRequest { command: Some(half) }).await.unwrap();
    }
    fleet.stop_hub().await;
    let (commands, proposals) = stolen(&fleet);
    assert_eq!((commands.len(), proposals.len()), (3, 2));
    fleet.start_hub().await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    // The honest hub would have ended it by now or sent it on; what counts is what was stolen before.
    eventually("its time has passed", MINUTE, async || (Timestamp::now() > soon.expires).then_some(())).await;
    let restarts = async |fleet: &Fleet| {
        fleet.aws().calls(&fleet.agents[0].account.id, "ecs", "UpdateService").await.unwrap().len()
    };
    let before = restarts(&fleet).await;
    let mut taken = Taken::over(fleet).await;

    for command in &commands {
        let id = wire::Command::decode(&command.payload[..]).unwrap().id;
        let why = if id == soon.id.to_string() { Why::Expired } else { Why::AlreadySeen };
        taken.used += 1;
        let delivery = taken.delivery(taken.used, command);
        let (refused, used) = taken.refused(delivery).await;
        // Sent by the honest hub in its last moment, it is known as well.
        assert!(used && (refused == why || refused == Why::AlreadySeen), "{id}: {refused:?}");
    }
    // The hub's own key is no second operator, nor are two signatures of the first.
    for (mut half, complete) in proposals.into_iter().zip([false, true]) {
        if complete {
            envelope::add_signature(&mut half, taken.rogue.key());
            half.signatures.push(half.signatures[0].clone());
        }
        taken.used += 1;
        let delivery = taken.delivery(taken.used, &half);
        assert_eq!(taken.refused(delivery).await, (Why::SecondOperator, true));
    }
    taken.still_works().await;
    assert_eq!(restarts(&taken.fleet).await, before);
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_makes_its_own_operators_is_believed_by_nobody() {
    let mut taken = Taken::over(Fleet::start(1).await).await;
    let mallory = SigningKey::generate().unwrap();
    let mut bundle = taken.fleet.bundle.clone();
    bundle.version += 1;
    bundle.operators.push(member("mallory", &mallory, Role::Admin, Timestamp::now() + 60 * MINUTE));
    // Signed by every key that the hub has.
    let mut forged = bundle.unsigned();
    envelope::add_signature(&mut forged, taken.rogue.key());
    envelope::add_signature(&mut forged, &mallory);
    taken.held.send(FromHub::TrustBundle(forged)).await;
    let mut command = taken.ordered(restart());
    command.operator = "mallory".parse().unwrap();
    let signed = envelope::seal(Command::PAYLOAD_TYPE, command.encode(), &mallory);
    taken.used += 1;
    let delivery = taken.delivery(taken.used, &signed);
    assert_eq!(taken.refused(delivery).await, (Why::OperatorUnknown, true));
    taken.still_works().await;
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_leaves_a_gap_that_the_agent_and_its_record_show() {
    let mut taken = Taken::over(Fleet::start(1).await).await;
    let (first, second) =
        (taken.fleet.alice.sign(&taken.ordered(restart())), taken.fleet.alice.sign(&taken.ordered(harmless())));
    // The second before the first: not taken, and the agent says from where on it wants to be told again.
    let ahead = taken.delivery(taken.used + 2, &second);
    taken.held.send(FromHub::Delivery(ahead)).await;
    let (mut resync, mut gap) = (None, false);
    while resync.is_none() || !gap {
        match taken.held.next().await.unwrap() {
            FromAgent::Resync(wire::Resync { last_sequence }) => resync = Some(last_sequence),
            FromAgent::Rejected(rejected) => gap = rejected.refused.unwrap().reason() == Why::SequenceGap,
            _ => {}
        }
    }
    assert_eq!(resync, Some(taken.used));
    let before = taken.record().len();
    for command in [&first, &second] {
        taken.used += 1;
        let delivery = taken.delivery(taken.used, command);
        taken.executed(delivery).await;
    }
    assert!(taken.record().len() > before, "the LA's own record has both");
    taken.stop().await;
}
