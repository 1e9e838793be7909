//! What a compromised hub can't do: whatever it sends with all of its keys, agents execute what an operator ordered of
//! them, once, and nothing else.

use std::time::Duration;

use prost::Message as _;
use sfdata_agent::{audit, policy::Brake};
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Command, Ecs},
    dispatch, envelope,
    ids::{AgentId, CommandId},
    keys::SigningKey,
    limits,
    outcome::RefusalReason,
    trust::{EPOCH_PAYLOAD_TYPE, OperatorKey, Role},
};
use sfdata_proto::v1::{
    self as wire, connect_request::Message as FromAgent, connect_response::Message as FromHub, outcome::Kind,
};
use sfdata_tests::{
    eventually,
    fleet::{Fleet, Options},
    rogue::{Held, RogueHub},
};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn restart() -> Action {
    Action::Ecs(Ecs::Restart { service: "webserver".into(), deadline: MINUTE })
}

/// Of class operate, done at once, and without effect: there is no such command.
pub(crate) fn harmless() -> Action {
    Action::Agent(Agent::Cancel(CommandId::generate()))
}

pub(crate) fn member(name: &str, key: &SigningKey, role: Role, expires: Timestamp) -> OperatorKey {
    OperatorKey { name: name.parse().expect("a name"), key: key.public(), roles: vec![role], expires }
}

pub(crate) fn seal(command: &Command, key: &SigningKey) -> wire::Envelope {
    envelope::seal(Command::PAYLOAD_TYPE, command.encode(), key)
}

pub(crate) fn flip(bytes: &[u8], bit: usize) -> bytes::Bytes {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
    flipped.into()
}

/// The hub's place taken over, with its one agent connected.
pub(crate) struct Taken {
    pub(crate) fleet: Fleet,
    pub(crate) rogue: RogueHub,
    pub(crate) held: Held,
    pub(crate) agent: AgentId,
    /// Last number that the agent used up.
    pub(crate) used: u64,
}

impl Taken {
    pub(crate) async fn over(mut fleet: Fleet) -> Self {
        fleet.stop_hub().await;
        let rogue = RogueHub::in_place_of(&fleet).await.expect("the address is free");
        let held = rogue.agent(1).await;
        assert_eq!(held.hello.trust_version, fleet.bundle.version);
        let (agent, used) = (fleet.agents[0].id.clone(), held.hello.last_sequence);
        Self { fleet, rogue, held, agent, used }
    }

    pub(crate) fn ordered(&self, action: Action) -> Command {
        self.fleet.alice.command(action, &[&self.agent])
    }

    pub(crate) fn dispatch(&self, sequence: u64, command: &wire::Envelope) -> wire::Dispatch {
        let id = wire::Command::decode(&command.payload[..]).map(|command| command.id).unwrap_or_default();
        let id = id.parse().unwrap_or_else(|_| CommandId::generate());
        let delivery = self.rogue.delivery(&self.agent, 1, sequence, command, &id.to_string());
        wire::Dispatch::decode(&delivery.dispatch.expect("it was made").payload[..]).expect("and is one")
    }

    pub(crate) fn delivery(&self, sequence: u64, command: &wire::Envelope) -> wire::Delivery {
        self.rogue.deliver(&self.dispatch(sequence, command), command)
    }

    /// Deliver what has to be refused: why it was, and whether its number was used up. Panics when the agent begins it.
    pub(crate) async fn refused(&mut self, delivery: wire::Delivery) -> (RefusalReason, bool) {
        let sequence = number(&delivery);
        self.held.send(FromHub::Delivery(delivery)).await;
        loop {
            match self.held.next().await.expect("the agent says something") {
                FromAgent::Resync(_) => {}
                FromAgent::Rejected(rejected) => return (rejected.refused.expect("a reason").reason(), false),
                said @ FromAgent::Receipt(_) if receipt(&said).sequence != sequence => {} // not yet confirmed
                said @ FromAgent::Receipt(_) => match outcome(&said) {
                    Kind::Refused(refused) => return (refused.reason(), true),
                    other => panic!("not refused: {other:?}"),
                },
                other => panic!("the agent began something: {other:?}"),
            }
        }
    }

    /// Deliver something good, and tell how it ended.
    pub(crate) async fn executed(&mut self, delivery: wire::Delivery) -> Kind {
        let sequence = number(&delivery);
        self.held.send(FromHub::Delivery(delivery)).await;
        loop {
            match self.held.next().await.expect("the agent says something") {
                said @ FromAgent::Receipt(_) if receipt(&said).sequence == sequence => return outcome(&said),
                FromAgent::Rejected(rejected) => panic!("rejected: {rejected:?}"),
                _ => {}
            }
        }
    }

    /// The next good command is executed: nothing before it has confused the agent.
    pub(crate) async fn still_works(&mut self) {
        self.used += 1;
        let command = self.fleet.alice.sign(&self.ordered(harmless()));
        let ended = self.executed(self.delivery(self.used, &command)).await;
        assert!(matches!(ended, Kind::Succeeded(_)), "{ended:?}");
    }

    /// Send the agent away, and let it connect again.
    pub(crate) async fn again(&mut self, epoch: u64) {
        self.held.send(FromHub::Goodbye(wire::Goodbye::default())).await;
        self.held = self.rogue.agent(epoch).await;
    }

    /// What stands in the agent's own record, which has to be unbroken.
    pub(crate) fn record(&self) -> Vec<audit::Entry> {
        let entries = audit::read(&self.fleet.agents[0].config.data_dir).expect("a record");
        entries.map(|entry| entry.expect("an unbroken one").0).collect()
    }

    pub(crate) async fn stop(self) {
        let Self { fleet, rogue, held, .. } = self;
        drop(held);
        rogue.stop().await;
        fleet.stop().await;
    }
}

fn number(delivery: &wire::Delivery) -> u64 {
    let dispatch = delivery.dispatch.as_ref().and_then(|dispatch| wire::Dispatch::decode(&dispatch.payload[..]).ok());
    dispatch.map_or(0, |dispatch| dispatch.sequence)
}

fn receipt(said: &FromAgent) -> wire::Receipt {
    let FromAgent::Receipt(envelope) = said else { panic!("no receipt: {said:?}") };
    wire::Receipt::decode(&envelope.payload[..]).expect("a receipt")
}

fn outcome(said: &FromAgent) -> Kind {
    receipt(said).outcome.expect("an outcome").kind.expect("of a kind")
}

/// A fleet of one agent that knows these operators beside alice from the start.
pub(crate) async fn fleet_with(operators: Vec<OperatorKey>, aws: bool) -> Fleet {
    let mut fleet = Fleet::with(0, Options { aws, ..Options::default() }).await;
    fleet.bundle.version += 1;
    fleet.bundle.operators.extend(operators);
    fleet.publish().await.expect("a bundle");
    fleet.add("la-0", "200000000000").await.expect("an agent");
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    fleet
}

type Make<'a> = Box<dyn Fn(&Taken, u64) -> wire::Delivery + 'a>;
type Change = Box<dyn Fn(&Taken, &mut wire::Delivery)>;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_compromised_hub_makes_up_is_executed() {
    use RefusalReason as Why;
    let now = Timestamp::now();
    let [viewer, expired, stranger] = std::array::from_fn(|_| SigningKey::generate().unwrap());
    let operators = vec![
        member("victor", &viewer, Role::Viewer, now + 60 * MINUTE),
        member("bob", &expired, Role::Admin, now - MINUTE),
    ];
    let mut taken = Taken::over(fleet_with(operators, true).await).await;

    let by = |name: &'static str| {
        move |mut command: Command| {
            command.operator = name.parse().unwrap();
            command
        }
    };
    let good = |taken: &Taken| taken.fleet.alice.sign(&taken.ordered(restart()));
    // A command of alice's that was changed before she signed it.
    let signed = |change: Box<dyn Fn(&mut Command)>| -> Make<'_> {
        Box::new(move |taken, n| {
            let mut command = taken.ordered(restart());
            change(&mut command);
            taken.delivery(n, &taken.fleet.alice.sign(&command))
        })
    };
    // A command with this envelope.
    let sealed = |make: Box<dyn Fn(&Taken) -> wire::Envelope>| -> Make<'_> {
        Box::new(move |taken, n| taken.delivery(n, &make(taken)))
    };
    // A good command under a dispatch that was changed before the hub signed it.
    let dispatched = |change: fn(&mut wire::Dispatch)| -> Make<'_> {
        Box::new(move |taken, n| {
            let command = good(taken);
            let mut dispatch = taken.dispatch(n, &command);
            change(&mut dispatch);
            taken.rogue.deliver(&dispatch, &command)
        })
    };
    // A good delivery that was changed on its way.
    let changed = |change: Change| -> Make<'_> {
        Box::new(move |taken, n| {
            let mut delivery = taken.delivery(n, &good(taken));
            change(taken, &mut delivery);
            delivery
        })
    };
    let dispatch_of = |payload: Vec<u8>| {
        move |taken: &Taken, delivery: &mut wire::Delivery| {
            delivery.dispatch = Some(envelope::seal(dispatch::PAYLOAD_TYPE, payload.clone(), taken.rogue.key()));
        }
    };

    // The hub's part: such a delivery counts as if it had never come.
    let rejected: Vec<(&str, Why, Make<'_>)> = vec![
        (
            "oversized",
            Why::TooLarge,
            changed(Box::new(|_, delivery| {
                let bytes = vec![0; limits::COMMAND_BYTES].into();
                delivery
                    .command
                    .as_mut()
                    .unwrap()
                    .signatures
                    .push(wire::Signature { key_id: "x".into(), signature: bytes });
            })),
        ),
        (
            "a bit of the dispatch flipped",
            Why::DispatchSignature,
            changed(Box::new(|_, delivery| {
                let dispatch = delivery.dispatch.as_mut().unwrap();
                dispatch.payload = flip(&dispatch.payload, 77);
            })),
        ),
        (
            "a bit of its signature flipped",
            Why::DispatchSignature,
            changed(Box::new(|_, delivery| {
                let signature = &mut delivery.dispatch.as_mut().unwrap().signatures[0].signature;
                *signature = flip(signature, 101);
            })),
        ),
        (
            "dispatch unsigned",
            Why::DispatchSignature,
            changed(Box::new(|_, delivery| {
                delivery.dispatch.as_mut().unwrap().signatures.clear();
            })),
        ),
        ("no dispatch", Why::DispatchSignature, changed(Box::new(|_, delivery| delivery.dispatch = None))),
        (
            "dispatch signed by an operator",
            Why::DispatchSignature,
            changed(Box::new(|taken, delivery| {
                let payload = delivery.dispatch.take().unwrap().payload;
                delivery.dispatch = Some(envelope::seal(dispatch::PAYLOAD_TYPE, payload, &taken.fleet.alice.key));
            })),
        ),
        (
            "dispatch signed as something else",
            Why::DispatchSignature,
            changed(Box::new(|taken, delivery| {
                let payload = delivery.dispatch.take().unwrap().payload;
                delivery.dispatch = Some(envelope::seal(Command::PAYLOAD_TYPE, payload, taken.rogue.key()));
            })),
        ),
        ("no dispatch in the signed bytes", Why::Malformed, changed(Box::new(dispatch_of(vec![0xff])))),
        (
            "unknown fields in the dispatch",
            Why::UnknownFields,
            changed(Box::new(move |taken, delivery| {
                let mut payload = delivery.dispatch.take().unwrap().payload.to_vec();
                prost::encoding::uint32::encode(99, &7, &mut payload);
                dispatch_of(payload)(taken, delivery);
            })),
        ),
        ("misaddressed", Why::NotAddressed, dispatched(|dispatch| dispatch.agent_id = "la-1".into())),
        ("of an epoch to come", Why::WrongEpoch, dispatched(|dispatch| dispatch.epoch = 2)),
        ("of an epoch before", Why::WrongEpoch, dispatched(|dispatch| dispatch.epoch = 0)),
        ("a number left out", Why::SequenceGap, dispatched(|dispatch| dispatch.sequence += 1)),
        ("a number far off", Why::SequenceGap, dispatched(|dispatch| dispatch.sequence = u64::MAX)),
        ("an old number", Why::Replayed, dispatched(|dispatch| dispatch.sequence -= 1)),
        ("number zero", Why::Replayed, dispatched(|dispatch| dispatch.sequence = 0)),
    ];
    taken.still_works().await;
    for (name, why, make) in rejected {
        let delivery = make(&taken, taken.used + 1);
        assert_eq!(taken.refused(delivery).await, (why, false), "{name}");
    }

    // The operator's part: the number is used up, and the refusal is signed and on record.
    let refused: Vec<(&str, Why, Make<'_>)> = vec![
        (
            "a bit of the command flipped",
            Why::CommandDigest,
            changed(Box::new(|_, delivery| {
                let command = delivery.command.as_mut().unwrap();
                command.payload = flip(&command.payload, 203);
            })),
        ),
        (
            "another command than dispatched",
            Why::CommandDigest,
            changed(Box::new(move |taken, delivery| {
                delivery.command = Some(good(taken));
            })),
        ),
        ("no command", Why::CommandDigest, changed(Box::new(|_, delivery| delivery.command = None))),
        (
            "a bit flipped before the dispatch",
            Why::OperatorSignature,
            sealed(Box::new(move |taken| {
                let mut command = good(taken);
                command.payload = flip(&command.payload, 203);
                command
            })),
        ),
        (
            "unsigned",
            Why::OperatorUnknown,
            sealed(Box::new(move |taken| wire::Envelope { signatures: vec![], ..good(taken) })),
        ),
        (
            "signed by the hub",
            Why::OperatorUnknown,
            sealed(Box::new(|taken| seal(&taken.ordered(restart()), taken.rogue.key()))),
        ),
        (
            "signed by the hub in alice's name",
            Why::OperatorSignature,
            sealed(Box::new(|taken| {
                let mut command = seal(&taken.ordered(restart()), taken.rogue.key());
                command.signatures[0].key_id = taken.fleet.alice.key.id().to_owned();
                command
            })),
        ),
        (
            "signed by a key that is not in the bundle",
            Why::OperatorUnknown,
            sealed(Box::new(move |taken| seal(&taken.ordered(restart()), &stranger))),
        ),
        (
            "signed by an expired key",
            Why::OperatorExpired,
            sealed(Box::new(move |taken| seal(&by("bob")(taken.ordered(restart())), &expired))),
        ),
        (
            "signed as something else",
            Why::OperatorSignature,
            sealed(Box::new(|taken| {
                envelope::seal(EPOCH_PAYLOAD_TYPE, taken.ordered(restart()).encode(), &taken.fleet.alice.key)
            })),
        ),
        (
            "unknown fields",
            Why::UnknownFields,
            sealed(Box::new(|taken| {
                let mut payload = taken.ordered(restart()).encode();
                prost::encoding::uint32::encode(99, &7, &mut payload);
                envelope::seal(Command::PAYLOAD_TYPE, payload, &taken.fleet.alice.key)
            })),
        ),
        (
            "no command in the signed bytes",
            Why::Malformed,
            sealed(Box::new(|taken| envelope::seal(Command::PAYLOAD_TYPE, vec![0xff], &taken.fleet.alice.key))),
        ),
        (
            "of another operator than its signer",
            Why::Malformed,
            sealed(Box::new(move |taken| taken.fleet.alice.sign(&by("victor")(taken.ordered(restart()))))),
        ),
        (
            "under another id than dispatched",
            Why::Malformed,
            dispatched(|dispatch| {
                dispatch.command_id = CommandId::generate().to_string();
            }),
        ),
        (
            "a viewer's restart",
            Why::ClassNotAllowed,
            sealed(Box::new(move |taken| seal(&by("victor")(taken.ordered(restart())), &viewer))),
        ),
        (
            "for another agent",
            Why::NotATarget,
            signed(Box::new(|command| command.targets = vec!["la-1".parse().unwrap()])),
        ),
        (
            "future",
            Why::NotYetValid,
            signed(Box::new(move |command| {
                (command.not_before, command.expires) = (now + 10 * MINUTE, now + 20 * MINUTE);
            })),
        ),
        (
            "expired",
            Why::Expired,
            signed(Box::new(move |command| {
                (command.not_before, command.expires) = (now - 20 * MINUTE, now - MINUTE);
            })),
        ),
        (
            "valid for too long",
            Why::Malformed,
            signed(Box::new(move |command| {
                command.expires = now + limits::COMMAND_VALIDITY_MAX + MINUTE;
            })),
        ),
    ];
    let reasons: Vec<Why> = refused.iter().map(|(_, why, _)| *why).collect();
    for (name, why, make) in refused {
        taken.used += 1;
        let delivery = make(&taken, taken.used);
        assert_eq!(taken.refused(delivery).await, (why, true), "{name}");
    }
    taken.still_works().await;

    // What AWS saw, and the agent's own record.
    let account = &taken.fleet.agents[0].account.id;
    assert_eq!(taken.fleet.aws().restarts(account).await.unwrap(), 0);
    let record = taken.record();
    let outcomes: Vec<&str> = record.iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!((outcomes.first(), outcomes.last()), (Some(&"succeeded"), Some(&"succeeded")));
    assert_eq!(outcomes.len(), reasons.len() + 2, "{outcomes:?}");
    for (reason, said) in reasons.iter().zip(&outcomes[1..]) {
        let name = sfdata_common::outcome::refusal_name(*reason);
        assert!(said.starts_with(&format!("refused: {name}: ")), "{said}, not {name}");
    }
    // Who asked for what is on record as far as it can be read.
    let unreadable = [Why::Malformed, Why::UnknownFields, Why::CommandDigest, Why::OperatorSignature];
    for (reason, entry) in reasons.iter().zip(&record[1..]).filter(|(reason, _)| !unreadable.contains(reason)) {
        assert!(!entry.action.is_empty() && !entry.operator.is_empty(), "{reason:?}: {entry:?}");
    }
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_reordered_or_replayed_on_its_way_is_executed_once_and_in_order() {
    let mut taken = Taken::over(Fleet::without_aws(1).await).await;
    let commands: Vec<_> = (0..3).map(|_| taken.fleet.alice.sign(&taken.ordered(harmless()))).collect();
    let [first, second, third] = [1, 2, 3].map(|n| taken.delivery(n, &commands[n as usize - 1]));

    // The second comes before the first: not executed, and the agent asks for what it misses, once.
    assert_eq!(taken.refused(second.clone()).await, (RefusalReason::SequenceGap, false));
    let Some(FromAgent::Resync(asked)) = taken.held.next().await else { panic!("it does not ask") };
    assert_eq!(asked.last_sequence, 0);
    assert_eq!(taken.refused(third.clone()).await, (RefusalReason::SequenceGap, false));
    for delivery in [&first, &second, &third] {
        assert!(matches!(taken.executed(delivery.clone()).await, Kind::Succeeded(_)));
    }
    for delivery in [third, first, second] {
        assert_eq!(taken.refused(delivery).await, (RefusalReason::Replayed, false));
    }
    // Neither does a new connection make an old delivery good again.
    taken.again(1).await;
    assert_eq!(taken.held.hello.last_sequence, 3);
    for _ in 0..3 {
        let said = taken.held.next().await.unwrap();
        assert!(matches!(outcome(&said), Kind::Succeeded(_)), "an outcome that was not confirmed comes again");
    }
    let again = taken.delivery(3, &commands[2]);
    assert_eq!(taken.refused(again).await, (RefusalReason::Replayed, false));
    let ids: Vec<String> = taken.record().into_iter().map(|entry| entry.command_id).collect();
    let sent: Vec<String> = commands.iter().map(|c| wire::Command::decode(&c.payload[..]).unwrap().id).collect();
    assert_eq!(ids, sent);
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_let_in_or_refused_once_is_not_let_in_under_a_new_number() {
    let mut taken = Taken::over(Fleet::without_aws(1).await).await;
    let confirm = async |taken: &Taken, id: CommandId| {
        taken.held.send(FromHub::ReceiptsKept(wire::ReceiptsKept { command_ids: vec![id.to_string()] })).await;
    };
    let done = taken.ordered(harmless());
    let signed = taken.fleet.alice.sign(&done);
    assert!(matches!(taken.executed(taken.delivery(1, &signed)).await, Kind::Succeeded(_)));
    // Its outcome is on the way: a refusal must not take its place.
    assert_eq!(taken.refused(taken.delivery(2, &signed)).await, (RefusalReason::AlreadySeen, false));
    confirm(&taken, done.id).await;
    assert_eq!(taken.refused(taken.delivery(3, &signed)).await, (RefusalReason::AlreadySeen, true));

    // The LA held it, and the operator was told so. It stays refused when the LA lets go.
    let brake = Brake::new(&taken.fleet.agents[0].config.data_dir);
    brake.hold("inspection", Timestamp::now()).unwrap();
    let held = taken.ordered(harmless());
    let signed = taken.fleet.alice.sign(&held);
    assert_eq!(taken.refused(taken.delivery(4, &signed)).await, (RefusalReason::Held, true));
    brake.release().unwrap();
    confirm(&taken, held.id).await;
    assert_eq!(taken.refused(taken.delivery(5, &signed)).await, (RefusalReason::AlreadySeen, true));

    // Nor after a restart of the agent.
    confirm(&taken, held.id).await;
    taken.fleet.stop_agent(0).await;
    taken.fleet.start_agent(0).await;
    taken.again(1).await;
    assert_eq!(taken.refused(taken.delivery(6, &signed)).await.0, RefusalReason::AlreadySeen);

    // What an operator was told not to be begun, and to stay so, is not begun when its delivery was held back.
    let kept_back = taken.ordered(harmless());
    let cancel = taken.ordered(Action::Agent(Agent::Cancel(kept_back.id)));
    let Kind::Succeeded(told) = taken.executed(taken.delivery(7, &taken.fleet.alice.sign(&cancel))).await else {
        panic!("not cancelled")
    };
    let Some(wire::ActionResult { kind: Some(wire::action_result::Kind::AgentCancel(told)) }) = told.result else {
        panic!("another result")
    };
    assert_eq!(told.disposition(), wire::CancelDisposition::NotBegun);
    let late = taken.delivery(8, &taken.fleet.alice.sign(&kept_back));
    assert_eq!(taken.refused(late).await, (RefusalReason::AlreadySeen, true));
    taken.used = 8;
    taken.still_works().await;
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_keeps_its_own_outcome_when_it_is_delivered_again() {
    let mut taken = Taken::over(Fleet::start(1).await).await;
    let account = taken.fleet.agents[0].account.clone();
    taken.fleet.aws().tasks(&account, "code-server", "never-starts").await.unwrap();
    let restart = Ecs::Restart { service: "code-server".into(), deadline: MINUTE };
    let command = taken.ordered(Action::Ecs(restart));
    let signed = taken.fleet.alice.sign(&command);
    taken.held.send(FromHub::Delivery(taken.delivery(1, &signed))).await;
    let started = eventually("it begins", MINUTE, async || match taken.held.next().await? {
        FromAgent::Started(started) => Some(started),
        _ => None,
    })
    .await;
    assert_eq!(started.command_id, command.id.to_string());
    taken.held.send(FromHub::Delivery(taken.delivery(2, &signed))).await;
    let mut rejected = false;
    let ended = eventually("the restart ends", MINUTE, async || match taken.held.next().await? {
        said @ FromAgent::Receipt(_) => Some(receipt(&said)),
        FromAgent::Rejected(_) => {
            rejected = true;
            taken.fleet.aws().tasks(&account, "code-server", "normal").await.unwrap();
            None
        }
        _ => None,
    })
    .await;
    assert!(matches!(ended.outcome.unwrap().kind, Some(Kind::Succeeded(_))));
    assert_eq!((ended.sequence, rejected), (1, true));
    taken.used = 2;
    taken.still_works().await;
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_every_bound_ends_the_stream_and_is_not_executed() {
    let mut taken = Taken::over(Fleet::without_aws(1).await).await;
    let mut delivery = taken.delivery(1, &taken.fleet.alice.sign(&taken.ordered(harmless())));
    let bytes = vec![0; limits::MESSAGE_BYTES].into();
    delivery.command.as_mut().unwrap().signatures.push(wire::Signature { key_id: "x".into(), signature: bytes });
    taken.held.send(FromHub::Delivery(delivery)).await;
    taken.again(1).await;
    assert_eq!(taken.held.hello.last_sequence, 0);
    taken.still_works().await;
    taken.stop().await;
}
