//! Messages: what operators, hubs and agents sign, and what they tell without a signature.
//!
//! The promises: nothing is let in that was not signed as it is; what is let in is encoded again to the same bytes; and what
//! passes a gate once passes it again as it is.

use std::time::Duration;

use anyhow::Result;
use prost::Message;
use sfdata_agent::{
    policy::Rules,
    verify::{Facts, Judgement, verify},
};
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Command, Ecs, Mode},
    dispatch::{PAYLOAD_TYPE, RECEIPT_PAYLOAD_TYPE},
    envelope,
    ids::{AgentId, CommandId, Position},
    keys::{SigningKey, sha256},
    limits,
    outcome::refusal_name,
    report,
    trust::{Bundle, OperatorKey, Role},
    usage,
};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent, connect_response::Message as FromHub};

use super::{
    engine::Made,
    targets::{named, of_bytes, promise, roughly},
};

const OPERATORS: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// An agent at its door, and everybody's keys.
pub(crate) struct Scene {
    hub: SigningKey,
    alice: SigningKey,
    bundle: Bundle,
    agent: AgentId,
    rules: Rules,
    now: Timestamp,
}

impl Scene {
    /// A bundle of ten operators, and the policy that an agent has when its LA gave it none.
    pub(crate) fn new() -> Result<Self> {
        let (root, hub, alice) = (SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?);
        // As it stands in a command: to the millisecond.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond())?;
        let mut operators = Vec::with_capacity(OPERATORS);
        for number in 0..OPERATORS {
            // Who signs stands last: the search for a key takes its longest.
            let last = number + 1 == OPERATORS;
            let name = if last { "alice".to_owned() } else { format!("operator-{number}") };
            let key = if last { alice.public() } else { SigningKey::generate()?.public() };
            let roles = vec![Role::Operator];
            operators.push(OperatorKey { name: name.parse()?, key, roles, expires: now + 60 * MINUTE });
        }
        let bundle = Bundle {
            version: 1,
            trust_domain: "sfdata.example".into(),
            issued: now,
            root_keys: vec![root.public()],
            threshold: 1,
            operators,
            dispatch_keys: vec![hub.public()],
            ca_certificates: vec![vec![0x30; 20]],
        };
        Ok(Self { hub, alice, bundle, agent: "northshire".parse()?, rules: Rules::load(None, &[])?, now })
    }

    /// An order to this agent.
    pub(crate) fn command(&self, action: Action) -> Result<Command> {
        Ok(Command {
            id: CommandId::generate(),
            action,
            targets: vec![self.agent.clone(), "southby".parse()?],
            not_before: self.now,
            expires: self.now + MINUTE,
            operator: "alice".parse()?,
            reason: "because".into(),
            trust_version: 1,
            mode: Mode::Act,
            reply_key: None,
        })
    }

    pub(crate) fn restart(&self) -> Result<Command> {
        self.command(Action::Ecs(Ecs::Restart { service: "webserver".into(), deadline: MINUTE }))
    }

    /// Any bytes, signed by alice and dispatched by the hub as this command.
    pub(crate) fn delivery(&self, payload: Vec<u8>, id: CommandId) -> wire::Delivery {
        let dispatch = wire::Dispatch {
            agent_id: self.agent.to_string(),
            epoch: 1,
            sequence: 8,
            command_id: id.to_string(),
            command_digest: sha256(&payload).to_vec().into(),
            dispatched_unix_ms: self.now.as_millisecond(),
            ..Default::default()
        };
        wire::Delivery {
            dispatch: Some(envelope::seal(PAYLOAD_TYPE, dispatch.encode_to_vec(), &self.hub)),
            command: Some(envelope::seal(Command::PAYLOAD_TYPE, payload, &self.alice)),
            traceparent: String::new(),
        }
    }

    /// What the door goes by.
    pub(crate) fn facts(&self) -> Facts<'_> {
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
}

fn judged(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Verified(_) => "verified".into(),
        Judgement::Void(_) => "void".into(),
        Judgement::Refused(refused) => format!("refused {}", refusal_name(refused.reason)),
        Judgement::Rejected(rejected) => {
            let reason = rejected.refused.as_ref().map(wire::Refused::reason).unwrap_or_default();
            format!("rejected {}", refusal_name(reason))
        }
    }
}

/// The door. The first byte says who is in the wrong hands; the rest is what they send.
pub(super) fn delivery() -> Result<Made> {
    let scene = Scene::new()?;
    let command = scene.restart()?;
    let (payload, id) = (command.encode(), command.id);
    let good = scene.delivery(payload.clone(), id);
    let whole = good.encode_to_vec();
    let dispatch = good.dispatch.clone().unwrap_or_default().payload.to_vec();
    let seed = |who: u8, bytes: &[u8]| [&[who], bytes].concat();
    let seeds = vec![seed(0, &whole), seed(1, &[0, 9, 1]), seed(2, &dispatch), seed(3, &payload), seed(4, &payload)];
    Ok(of_bytes(seeds, move |input| {
        let (who, bytes) = input.split_first().unwrap_or((&0, &[]));
        let delivery = match who % 5 {
            // Nobody's keys: bytes as they come.
            0 => match wire::Delivery::decode(bytes) {
                Ok(delivery) => delivery,
                Err(error) => return Ok(error.to_string()),
            },
            // Nobody's keys: a good delivery with bits flipped. Each edit is a place in two bytes, and what is flipped.
            1 => {
                let mut changed = whole.clone();
                for edit in bytes.chunks_exact(3) {
                    let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % changed.len();
                    changed[at] ^= edit[2];
                }
                match wire::Delivery::decode(&changed[..]) {
                    Ok(delivery) => delivery,
                    Err(error) => return Ok(error.to_string()),
                }
            }
            // The hub's key: any dispatch of a command that alice did sign.
            2 => {
                let dispatch = envelope::seal(PAYLOAD_TYPE, bytes.to_vec(), &scene.hub);
                wire::Delivery { dispatch: Some(dispatch), ..good.clone() }
            }
            // The hub's key, and not alice's: any command under her old signature.
            3 => {
                let mut forged = scene.delivery(bytes.to_vec(), id);
                if let (Some(forged), Some(good)) = (&mut forged.command, &good.command) {
                    forged.signatures.clone_from(&good.signatures);
                }
                forged
            }
            // Everybody's keys: a command that is no command.
            _ => {
                let judgement = verify(&scene.delivery(bytes.to_vec(), id), &scene.facts());
                if let Judgement::Verified(verified) = &judgement {
                    promise(verified.command().encode() == bytes, "what is let in is encoded to other bytes")?;
                }
                return Ok(judged(&judgement));
            }
        };
        let judgement = verify(&delivery, &scene.facts());
        if let Judgement::Verified(verified) = &judgement {
            let same = verified.envelope().payload == payload && verified.command() == &command;
            promise(same, "something is let in that alice did not sign")?;
        }
        if let Judgement::Void(_) = &judgement {
            promise(who % 5 > 1, "a number is used up without the hub's signature")?;
        }
        Ok(judged(&judgement))
    }))
}

/// Commands: what is parsed is encoded to the same bytes.
pub(super) fn command() -> Result<Made> {
    let scene = Scene::new()?;
    let actions = [
        Action::Agent(Agent::Cancel(CommandId::generate())),
        Action::Ecs(Ecs::Status),
        Action::Ecs(Ecs::Scale { service: "daemon".into(), desired: 2, deadline: MINUTE }),
        Action::Ecs(Ecs::Restart { service: "webserver".into(), deadline: MINUTE }),
        Action::Ecs(Ecs::Image { service: "webserver".into(), tag: "v1".into() }),
    ];
    let mut seeds: Vec<Vec<u8>> =
        actions.into_iter().map(|action| Ok(scene.command(action)?.encode())).collect::<Result<_>>()?;
    let planned = Command { mode: Mode::ActIfPlan([7; 32]), ..scene.restart()? };
    seeds.push(planned.encode());
    Ok(of_bytes(seeds, |input| match Command::parse(input) {
        Ok(command) => {
            promise(command.encode() == input, "a command is encoded to other bytes")?;
            promise(command.targets.len() <= limits::TARGETS_PER_COMMAND, "too many targets")?;
            Ok(format!("{} {:?}", command.action.name(), command.class()))
        }
        Err(error) => Ok(roughly(&error)),
    }))
}

/// Trust bundles: parsed the same again, and never accepted without the roots.
pub(super) fn bundle() -> Result<Made> {
    let scene = Scene::new()?;
    let seed = scene.bundle.encode();
    Ok(of_bytes(vec![seed], move |input| {
        let unsigned = wire::Envelope {
            payload_type: Bundle::PAYLOAD_TYPE.to_owned(),
            payload: input.to_vec().into(),
            signatures: Vec::new(),
        };
        let mut by_alice = unsigned.clone();
        envelope::add_signature(&mut by_alice, &scene.alice);
        promise(Bundle::verify_first(&unsigned, None).is_err(), "a bundle is accepted without a signature")?;
        promise(scene.bundle.verify_next(&by_alice).is_err(), "a bundle is accepted without the roots' signatures")?;
        let parsed = Bundle::parse(input);
        if let Ok(bundle) = &parsed {
            promise(Bundle::parse(&bundle.encode()).as_ref() == Ok(bundle), "a bundle is another one when read again")?;
        }
        Ok(named(parsed))
    }))
}

/// Receipts and other envelopes: nobody's signature is taken for somebody's.
pub(super) fn receipt() -> Result<Made> {
    let (agent, other) = (SigningKey::generate()?, SigningKey::generate()?);
    let receipt = wire::Receipt { command_id: CommandId::generate().to_string(), ..Default::default() };
    let kind = RECEIPT_PAYLOAD_TYPE;
    let signed = envelope::seal(kind, receipt.encode_to_vec(), &agent);
    Ok(of_bytes(vec![signed.encode_to_vec()], move |input| {
        let Ok(envelope) = wire::Envelope::decode(input) else { return Ok("no envelope".into()) };
        promise(!envelope::is_signed_by(&envelope, kind, &other.public()), "another key counts")?;
        let held = envelope::is_signed_by(&envelope, kind, &agent.public());
        promise(!held || envelope.payload == signed.payload, "other bytes count as signed")?;
        let read = wire::Receipt::decode(&envelope.payload[..]).is_ok();
        Ok(format!("signed {held} read {read} signatures {}", envelope.signatures.len().min(1)))
    }))
}

/// What agents and hubs say to each other: read, and told again as the same.
pub(super) fn link_messages() -> Result<Made> {
    let id = || CommandId::generate().to_string();
    let from_agent = [
        FromAgent::Hello(wire::Hello { boot_id: "x".into(), epoch: 1, ..Default::default() }),
        FromAgent::Received(wire::Received { command_id: id() }),
        FromAgent::Progress(wire::Progress { command_id: id(), step: "x".into(), percent: Some(1), sealed: None }),
        FromAgent::Health(Box::new(health())),
        FromAgent::Resync(wire::Resync { last_sequence: 7 }),
    ];
    let welcome = wire::Welcome { clock_unix_ms: 1, epoch: 1, health_interval_seconds: 30 };
    let mut seeds: Vec<Vec<u8>> =
        from_agent.into_iter().map(|message| wire::ConnectRequest { message: Some(message) }.encode_to_vec()).collect();
    seeds.push(wire::ConnectResponse { message: Some(FromHub::Welcome(welcome)) }.encode_to_vec());
    Ok(of_bytes(seeds, |input| {
        let request = again::<wire::ConnectRequest>(input)?;
        let response = again::<wire::ConnectResponse>(input)?;
        let kind = request.and_then(|request| request.message).map_or("none", |message| match message {
            FromAgent::Hello(_) => "hello",
            FromAgent::Received(_) => "received",
            FromAgent::Started(_) => "started",
            FromAgent::Progress(_) => "progress",
            FromAgent::Receipt(_) => "receipt",
            FromAgent::Rejected(_) => "rejected",
            FromAgent::Health(_) => "health",
            FromAgent::Resync(_) => "resync",
            _ => "other",
        });
        let answer = response.and_then(|response| response.message);
        Ok(format!(
            "{kind} {}",
            answer.map_or("none", |answer| match answer {
                FromHub::Welcome(_) => "welcome",
                FromHub::Delivery(_) => "delivery",
                _ => "other",
            })
        ))
    }))
}

/// Read a message, tell it and read it again.
pub(super) fn again<M: Message + Default>(input: &[u8]) -> Result<Option<M>, String> {
    let Ok(message) = M::decode(input) else { return Ok(None) };
    let bytes = message.encode_to_vec();
    let same = M::decode(&bytes[..]).is_ok_and(|second| second.encode_to_vec() == bytes);
    promise(same, "a message is another one when it is told again")?;
    Ok(Some(message))
}

fn health() -> wire::Health {
    let service = wire::EcsServiceState { name: "webserver".into(), desired: 1, running: 1, ..Default::default() };
    wire::Health {
        agent_version: "1.2.3".into(),
        ecs: Some(wire::EcsHealth { cluster: "main".into(), services: vec![service], error: String::new() }),
        aurora: Some(Default::default()),
        hold: Some(Default::default()),
        power: Some(Default::default()),
        arrivals: Some(Default::default()),
        runs: Some(wire::RunsHealth { jobs: vec![Default::default()], datasets: vec![Default::default()] }),
        ..Default::default()
    }
}

/// The gate of reports: no more passes than a platform has, and what passed passes again.
pub(super) fn report() -> Result<Made> {
    Ok(of_bytes(vec![health().encode_to_vec()], |input| {
        let Ok(health) = wire::Health::decode(input) else { return Ok("no report".into()) };
        let closed = report::closed(health);
        promise(closed.encoded_len() <= limits::MESSAGE_BYTES, "a report is larger than a message may be")?;
        promise(report::closed(closed.clone()) == closed, "what passed is changed when it passes again")?;
        let wire::Health { ecs, aurora, hold, power, arrivals, runs, .. } = &closed;
        let has =
            [ecs.is_some(), aurora.is_some(), hold.is_some(), power.is_some(), arrivals.is_some(), runs.is_some()];
        Ok(has.map(|has| if has { "y" } else { "n" }).concat())
    }))
}

/// Records of usage, and amounts of bills.
pub(super) fn usage() -> Result<Made> {
    let record = wire::UsageRecord { meter: 1, component: 1, hour: 490_000, amount: 5, ..Default::default() };
    let seeds = vec![record.encode_to_vec(), b"12.3456789012".to_vec(), b"-0.01".to_vec()];
    Ok(of_bytes(seeds, |input| {
        let text = String::from_utf8_lossy(input);
        let amount = if usage::bill::micros(&text).is_ok() { "an amount" } else { "none" };
        let Ok(record) = wire::UsageRecord::decode(input) else { return Ok(amount.into()) };
        let read = usage::Record::try_from(&record);
        if let Ok(read) = &read {
            let told = wire::UsageRecord::from(read);
            promise(usage::Record::try_from(&told).as_ref() == Ok(read), "a record is another one when told again")?;
        }
        let read = read.as_ref().err().map(|error| format!("{error:?}")).unwrap_or_default();
        Ok(format!("{amount} {}", read.split([' ', '(']).next().unwrap_or_default()))
    }))
}
