//! Every refusal of the door, each by the one fact that is wrong.

use std::time::Duration;

use bytes::Bytes;
use sfdata_common::{
    command::{Action, Agent, Aurora, Ecs, Mode},
    keys::SigningKey,
    policy::{Policy, Side},
    trust::{OperatorKey, Role},
};

use super::*;

struct Scene {
    hub: SigningKey,
    alice: SigningKey,
    bundle: Bundle,
    agent: AgentId,
    rules: Rules,
    now: Timestamp,
    command: Command,
    dispatch: wire::Dispatch,
}

impl Scene {
    fn new() -> Self {
        let [root, hub, alice] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let agent: AgentId = "northshire".parse().unwrap();
        let command = Command {
            id: CommandId::generate(),
            action: Action::Ecs(Ecs::Restart { service: "webserver".into(), deadline: Duration::from_secs(60) }),
            targets: vec![agent.clone(), "southby".parse().unwrap()],
            not_before: now,
            expires: now + Duration::from_secs(60),
            operator: "alice".parse().unwrap(),
            reason: String::new(),
            trust_version: 1,
            mode: Mode::Act,
            reply_key: None,
        };
        let key = OperatorKey {
            name: "alice".parse().unwrap(),
            key: alice.public(),
            roles: vec![Role::Operator],
            expires: now + Duration::from_secs(3600),
        };
        let bundle = Bundle {
            version: 1,
            trust_domain: "sfdata.example".into(),
            issued: now,
            root_keys: vec![root.public()],
            threshold: 1,
            operators: vec![key],
            dispatch_keys: vec![hub.public()],
            ca_certificates: vec![],
        };
        let dispatch = wire::Dispatch {
            agent_id: agent.to_string(),
            epoch: 1,
            sequence: 8,
            command_id: command.id.to_string(),
            dispatched_unix_ms: now.as_millisecond(),
            ..Default::default()
        };
        let rules = Rules::load(None, &[]).unwrap();
        Self { hub, alice, bundle, agent, rules, now, command, dispatch }
    }

    fn delivery(&self) -> wire::Delivery {
        self.delivery_of(self.command.encode())
    }

    fn delivery_of(&self, payload: Vec<u8>) -> wire::Delivery {
        let digest = sha256(&payload).to_vec().into();
        let dispatch = wire::Dispatch { command_digest: digest, ..self.dispatch.clone() };
        wire::Delivery {
            dispatch: Some(envelope::seal(PAYLOAD_TYPE, dispatch.encode_to_vec(), &self.hub)),
            command: Some(envelope::seal(Command::PAYLOAD_TYPE, payload, &self.alice)),
            traceparent: String::new(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            agent: &self.agent,
            bundle: &self.bundle,
            last: Position { epoch: 1, sequence: 7 },
            seen: false,
            journal: None,
            hold: None,
            rules: &self.rules,
            waiting: 0,
            now: self.now,
        }
    }

    fn reason(&self) -> RefusalReason {
        reason(verify(&self.delivery(), &self.facts()))
    }
}

fn reason(judgement: Judgement) -> RefusalReason {
    match judgement {
        Judgement::Refused(refused) => refused.reason,
        Judgement::Rejected(rejected) => rejected.refused.unwrap().reason(),
        other => panic!("not refused: {other:?}"),
    }
}

fn rejected(judgement: Judgement) -> RefusalReason {
    assert!(matches!(judgement, Judgement::Rejected(_)), "the number must not be used up: {judgement:?}");
    reason(judgement)
}

#[test]
fn a_good_command_is_let_in_and_a_void_uses_its_number() {
    let mut scene = Scene::new();
    let Judgement::Verified(verified) = verify(&scene.delivery(), &scene.facts()) else { panic!("refused") };
    assert_eq!(verified.command(), &scene.command);
    assert_eq!(verified.position(), Position { epoch: 1, sequence: 8 });
    scene.dispatch.void = true;
    let void = verify(&wire::Delivery { command: None, ..scene.delivery() }, &scene.facts());
    assert!(matches!(void, Judgement::Void(Position { epoch: 1, sequence: 8 })), "{void:?}");
}

#[test]
fn what_is_wrong_before_the_number_leaves_it_unused() {
    let scene = Scene::new();
    let check = |delivery: &wire::Delivery, expected| {
        assert_eq!(rejected(verify(delivery, &scene.facts())), expected);
    };
    let mut large = scene.delivery();
    large.command.as_mut().unwrap().payload = vec![0; limits::COMMAND_BYTES].into();
    check(&large, RefusalReason::TooLarge);

    let mut tampered = scene.delivery();
    let mut payload = tampered.dispatch.as_ref().unwrap().payload.to_vec();
    payload[3] ^= 1;
    tampered.dispatch.as_mut().unwrap().payload = payload.into();
    check(&tampered, RefusalReason::DispatchSignature);
    check(&wire::Delivery::default(), RefusalReason::DispatchSignature);

    let mut by_operator = scene.delivery();
    let payload = by_operator.dispatch.unwrap().payload;
    by_operator.dispatch = Some(envelope::seal(PAYLOAD_TYPE, payload, &scene.alice));
    check(&by_operator, RefusalReason::DispatchSignature);

    for (change, expected) in [
        ((|d| d.agent_id = "southby".into()) as fn(&mut wire::Dispatch), RefusalReason::NotAddressed),
        (|d| d.epoch = 2, RefusalReason::WrongEpoch),
        (|d| d.sequence = 7, RefusalReason::Replayed),
        (|d| d.sequence = 1, RefusalReason::Replayed),
        (|d| d.sequence = 9, RefusalReason::SequenceGap),
    ] {
        let mut scene = Scene::new();
        change(&mut scene.dispatch);
        assert_eq!(rejected(verify(&scene.delivery(), &scene.facts())), expected);
    }
}

#[test]
fn what_is_wrong_with_the_command_uses_its_number_up() {
    let mut other = Scene::new().delivery();
    let scene = Scene::new();
    let mut swapped = scene.delivery();
    swapped.command = other.command.take();
    assert_eq!(reason(verify(&swapped, &scene.facts())), RefusalReason::CommandDigest);

    let mut unsigned = scene.delivery();
    unsigned.command.as_mut().unwrap().signatures.clear();
    assert_eq!(reason(verify(&unsigned, &scene.facts())), RefusalReason::OperatorUnknown);

    let mut forged = scene.delivery();
    forged.command.as_mut().unwrap().signatures[0].signature = Bytes::from_static(&[7; 64]);
    assert_eq!(reason(verify(&forged, &scene.facts())), RefusalReason::OperatorSignature);

    let mut later_version = scene.command.encode();
    prost::encoding::uint32::encode(99, &1, &mut later_version);
    let judgement = verify(&scene.delivery_of(later_version), &scene.facts());
    assert_eq!(reason(judgement), RefusalReason::UnknownFields);
    assert_eq!(reason(verify(&scene.delivery_of(vec![1, 2, 3]), &scene.facts())), RefusalReason::Malformed);

    let hour = Duration::from_secs(3600);
    for (change, expected) in [
        ((|s| s.bundle.operators[0].key = s.hub.public()) as fn(&mut Scene), RefusalReason::OperatorUnknown),
        (|s| s.bundle.operators[0].expires = s.now, RefusalReason::OperatorExpired),
        (|s| s.bundle.operators[0].roles = vec![Role::Viewer], RefusalReason::ClassNotAllowed),
        (|s| s.bundle.operators[0].name = "bob".parse().unwrap(), RefusalReason::Malformed),
        (|s| s.command.targets.retain(|target| target.as_str() == "southby"), RefusalReason::NotATarget),
        (|s| s.now = s.command.expires, RefusalReason::Expired),
        (|s| s.rules.policy = Policy::parse("", Side::Agent).unwrap(), RefusalReason::LocalPolicy),
    ] {
        let mut scene = Scene::new();
        change(&mut scene);
        assert_eq!(scene.reason(), expected);
    }
    let mut scene = Scene::new();
    scene.command.not_before = scene.now + hour;
    scene.command.expires = scene.now + 2 * hour;
    assert_eq!(scene.reason(), RefusalReason::NotYetValid);
}

#[test]
fn reads_pass_a_hold_and_a_missing_journal_and_nothing_else_does() {
    let mut scene = Scene::new();
    let hold = Hold { reason: "inspection".into(), since_unix_ms: 0 };
    for (action, passes) in [(scene.command.action.clone(), false), (Action::Agent(Agent::Refresh), true)] {
        scene.command.action = action;
        let delivery = scene.delivery();
        let held = verify(&delivery, &Facts { hold: Some(&hold), ..scene.facts() });
        let lost = verify(&delivery, &Facts { journal: Some("missing"), ..scene.facts() });
        let seen = verify(&delivery, &Facts { seen: true, ..scene.facts() });
        assert_eq!(reason(seen), RefusalReason::AlreadySeen);
        if passes {
            assert!(matches!((held, lost), (Judgement::Verified(_), Judgement::Verified(_))));
        } else {
            assert_eq!((reason(held), reason(lost)), (RefusalReason::Held, RefusalReason::Journal));
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_door_panic_or_let_anything_in(
        dispatch in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        command in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        sign: bool,
    ) {
        let scene = Scene::new();
        let mut delivery = wire::Delivery {
            dispatch: Some(envelope::seal(PAYLOAD_TYPE, dispatch, &scene.hub)),
            command: Some(envelope::seal(Command::PAYLOAD_TYPE, command, &scene.alice)),
            traceparent: String::new(),
        };
        if !sign {
            delivery.dispatch.as_mut().unwrap().signatures.clear();
        }
        let judgement = verify(&delivery, &scene.facts());
        proptest::prop_assert!(!matches!(judgement, Judgement::Verified(_)));
    }
}

#[test]
fn what_cannot_be_taken_back_needs_two_operators_who_may_do_it() {
    let [bob, carol, again] = std::array::from_fn(|_| SigningKey::generate().unwrap());
    let mut scene = Scene::new();
    scene.rules.policy = Policy::parse("permit(principal, action, resource);", Side::Agent).unwrap();
    let member = |name: &str, key: &SigningKey, role| OperatorKey {
        name: name.parse().unwrap(),
        key: key.public(),
        roles: vec![role],
        expires: scene.now + Duration::from_secs(3600),
    };
    scene.bundle.operators = vec![
        member("alice", &scene.alice, Role::Admin),
        member("alice", &again, Role::Admin),
        member("bob", &bob, Role::Admin),
        member("carol", &carol, Role::Operator),
    ];
    let deadline = Duration::from_secs(60);
    scene.command.action = Action::Aurora(Aurora::DeleteSnapshot { name: "kept".into(), deadline });
    let signed_by = |also: &[&SigningKey]| {
        let mut delivery = scene.delivery();
        also.iter().for_each(|key| envelope::add_signature(delivery.command.as_mut().unwrap(), key));
        verify(&delivery, &scene.facts())
    };
    for also in [&[][..], &[&scene.alice], &[&again], &[&carol], &[&carol, &again], &[&scene.hub]] {
        assert_eq!(reason(signed_by(also)), RefusalReason::SecondOperator);
    }
    assert!(matches!(signed_by(&[&bob]), Judgement::Verified(_)));
    assert!(matches!(signed_by(&[&carol, &bob]), Judgement::Verified(_)));

    // A plan of it only looks; and a second signature under anything else has to hold as well.
    scene.command.mode = Mode::PlanOnly;
    assert!(matches!(verify(&scene.delivery(), &scene.facts()), Judgement::Verified(_)));
    let mut forged = scene.delivery();
    let signatures = &mut forged.command.as_mut().unwrap().signatures;
    signatures.push(wire::Signature { key_id: bob.id().to_owned(), ..signatures[0].clone() });
    assert_eq!(reason(verify(&forged, &scene.facts())), RefusalReason::OperatorSignature);
}
