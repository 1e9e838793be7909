//! Trust bundles and epochs that a compromised hub offers: an agent takes only what root keys, or an admin, signed.

use std::time::Duration;

use prost::Message as _;
use sfdata_common::{
    Timestamp, envelope,
    keys::SigningKey,
    outcome::RefusalReason,
    trust::{Bundle, EPOCH_PAYLOAD_TYPE, Role},
};
use sfdata_proto::v1::{self as wire, connect_response::Message as FromHub, outcome::Kind};
use sfdata_tests::fleet::{Fleet, TRUST_DOMAIN};

use crate::door::{Taken, fleet_with, harmless, member, seal};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_keeps_its_trust_bundle_against_rolled_back_skipped_and_self_made_ones() {
    let mut fleet = Fleet::without_aws(1).await;
    let first = fleet.bundle.clone();
    fleet.operator("bob", Role::Operator).await;
    let agent = fleet.agents[0].id.clone();
    fleet.alice.run(harmless(), &agent).await.unwrap(); // it comes after the bundle
    let held = fleet.bundle.clone();
    let mut taken = Taken::over(fleet).await;

    let mallory = SigningKey::generate().unwrap();
    let made = |version: u64, change: fn(&mut Bundle)| {
        let mut bundle = held.clone();
        bundle.version = version;
        bundle.operators.push(member("mallory", &mallory, Role::Admin, Timestamp::now() + 60 * MINUTE));
        change(&mut bundle);
        bundle
    };
    let sign = |bundle: &Bundle, keys: &[&SigningKey]| {
        let mut envelope = bundle.unsigned();
        keys.iter().for_each(|key| envelope::add_signature(&mut envelope, key));
        envelope
    };
    let next = held.version + 1;
    let root = &taken.fleet.root;
    let mut own_roots = made(next, |_| {});
    own_roots.root_keys = vec![mallory.public()];
    let mut tampered = sign(&held, &[root]);
    tampered.payload = made(next, |_| {}).encode().into();
    let offers = [
        ("rolled back", sign(&first, &[root])),
        ("the same version with other content", sign(&made(held.version, |_| {}), &[root])),
        ("skipped", sign(&made(next + 1, |_| {}), &[root])),
        ("signed by the hub only", sign(&made(next, |_| {}), &[taken.rogue.key()])),
        ("signed by an admin only", sign(&made(next, |_| {}), &[&taken.fleet.alice.key])),
        ("unsigned", sign(&made(next, |_| {}), &[])),
        ("with root keys of its own", sign(&own_roots, &[&mallory])),
        ("under the signature of another", tampered),
        ("of another organisation", sign(&made(next, |bundle| bundle.trust_domain = "other.example".into()), &[root])),
        ("garbage", envelope::seal(Bundle::PAYLOAD_TYPE, vec![0xff], root)),
    ];
    for (name, offer) in offers {
        taken.held.send(FromHub::TrustBundle(offer)).await;
        taken.used += 1;
        let mut command = taken.ordered(harmless());
        command.operator = "mallory".parse().unwrap();
        let delivery = taken.delivery(taken.used, &seal(&command, &mallory));
        assert_eq!(taken.refused(delivery).await, (RefusalReason::OperatorUnknown, true), "{name}");
    }
    taken.still_works().await;
    taken.again(1).await;
    assert_eq!(taken.held.hello.trust_version, held.version);
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admins_word_moves_an_agent_to_another_epoch() {
    let [maintainer, expired] = std::array::from_fn(|_| SigningKey::generate().unwrap());
    let now = Timestamp::now();
    let operators = vec![
        member("mary", &maintainer, Role::Maintainer, now + 60 * MINUTE),
        member("bob", &expired, Role::Admin, now - MINUTE),
    ];
    let mut taken = Taken::over(fleet_with(operators, false).await).await;
    taken.still_works().await;
    let statement = |epoch: u64, operator: &str, domain: &str, key: &SigningKey| {
        let statement = wire::EpochStatement {
            trust_domain: domain.into(),
            epoch,
            operator: operator.into(),
            reason: "a test".into(),
            issued_unix_ms: now.as_millisecond(),
        };
        envelope::seal(EPOCH_PAYLOAD_TYPE, statement.encode_to_vec(), key)
    };
    let domain = TRUST_DOMAIN;
    let alice = &taken.fleet.alice.key;
    let mut unsigned = statement(2, "alice", domain, alice);
    unsigned.signatures.clear();
    let offers = [
        ("by the hub", statement(2, "alice", domain, taken.rogue.key())),
        ("by a maintainer", statement(2, "mary", domain, &maintainer)),
        ("by a maintainer in alice's name", statement(2, "alice", domain, &maintainer)),
        ("by an admin whose key expired", statement(2, "bob", domain, &expired)),
        ("for another organisation", statement(2, "alice", "other.example", alice)),
        ("unsigned", unsigned),
        ("for the epoch that is", statement(1, "alice", domain, alice)),
    ];
    let accepted = statement(2, "alice", domain, alice);
    let command = taken.fleet.alice.sign(&taken.ordered(harmless()));
    let mut dispatch = taken.dispatch(1, &command);
    dispatch.epoch = 2;
    let in_two = taken.rogue.deliver(&dispatch, &command);
    for (name, offer) in offers {
        taken.held.send(FromHub::EpochStatement(offer)).await;
        assert_eq!(taken.refused(in_two.clone()).await, (RefusalReason::WrongEpoch, false), "{name}");
    }
    taken.still_works().await; // in epoch 1

    taken.held.send(FromHub::EpochStatement(accepted.clone())).await;
    assert!(matches!(taken.executed(in_two.clone()).await, Kind::Succeeded(_)));
    // Neither back, nor to the beginning of the same one.
    taken.held.send(FromHub::EpochStatement(accepted)).await;
    assert_eq!(taken.refused(in_two).await, (RefusalReason::Replayed, false));
    let back = taken.delivery(taken.used + 1, &command);
    assert_eq!(taken.refused(back).await, (RefusalReason::WrongEpoch, false));
    taken.stop().await;
}
