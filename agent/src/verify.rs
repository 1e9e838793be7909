//! Stop 9 on a command's path: the one door by which a command enters, and the only maker of [`Verified`].
//!
//! A pure function over the delivered bytes, what the journal has seen, the trust bundle, the LA's own say and the time.
//! Signatures are verified before what they cover is parsed. The checks run in the order of [`verify`]'s body; each
//! refusal has its own name. Up to the sequence number a delivery is merely rejected, as if it had never
//! come; after it the number is used up and the refusal is journalled and signed.

use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    command::{Class, Command, ParseError},
    dispatch::PAYLOAD_TYPE,
    envelope,
    ids::{AgentId, CommandId, Position},
    keys::sha256,
    limits,
    outcome::RefusalReason,
    policy::{AgentFacts, Question, Resource},
    signers::{self, Signers, Wrong},
    trust::{Bundle, OperatorKey},
};
use sfdata_proto::v1::{self as wire, Hold};

use crate::policy::{Rules, Ruling};

/// What the door goes by.
pub struct Facts<'a> {
    /// This agent.
    pub agent: &'a AgentId,
    /// Who may sign.
    pub bundle: &'a Bundle,
    /// Last position accepted.
    pub last: Position,
    /// Whether a command of this id was let in or refused before.
    pub seen: bool,
    /// Why the journal can't take anything but reads; `None` when it can.
    pub journal: Option<&'static str>,
    /// The LA's hold.
    pub hold: Option<&'a Hold>,
    /// The LA's policy and freezes.
    pub rules: &'a Rules,
    /// Commands that wait for the LA's approval.
    pub waiting: usize,
    /// Now.
    pub now: Timestamp,
}

/// A command that passed every check of [`verify`].
#[derive(Debug, Clone)]
pub struct Verified {
    command: Command,
    envelope: wire::Envelope,
    position: Position,
    digest: [u8; 32],
    on_approval: bool,
}

impl Verified {
    /// What to do.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The operator's signed bytes.
    pub fn envelope(&self) -> &wire::Envelope {
        &self.envelope
    }

    /// Its place in this agent's order.
    pub fn position(&self) -> Position {
        self.position
    }

    /// SHA-256 over the signed payload.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether it is not begun before the LA has approved it.
    pub fn on_approval(&self) -> bool {
        self.on_approval
    }

    /// A command that this door let in before a restart, as the journal kept it.
    pub(crate) fn journalled(
        envelope: wire::Envelope,
        position: Position,
        on_approval: bool,
    ) -> Result<Self, ParseError> {
        let command = Command::parse(&envelope.payload)?;
        Ok(Self { command, digest: sha256(&envelope.payload), envelope, position, on_approval })
    }
}

/// What the door makes of a delivery.
#[derive(Debug)]
pub enum Judgement {
    /// Let in.
    Verified(Box<Verified>),
    /// The number is used up, without a command.
    Void(Position),
    /// The number is used up; the command is not let in.
    Refused(Box<Refused>),
    /// As if it had never come; the ids are claims.
    Rejected(wire::Rejected),
}

/// A command that is not let in.
#[derive(Debug)]
pub struct Refused {
    /// Its place.
    pub position: Position,
    /// Its id, as the hub's signature says.
    pub id: CommandId,
    /// Digest in the hub's signature.
    pub digest: Vec<u8>,
    /// Which check.
    pub reason: RefusalReason,
    /// Its facts.
    pub detail: String,
    /// What it says that it is, and from whom; only claims, and empty when it can't be read.
    pub action: &'static str,
    /// See `action`.
    pub operator: String,
    /// No command of this id can be valid after that.
    pub until: Timestamp,
}

/// The id in a delivery, which decides whether it was seen before; a claim until the door has verified it.
pub fn claimed_id(delivery: &wire::Delivery) -> Option<CommandId> {
    claimed(delivery)?.command_id.parse().ok()
}

fn claimed(delivery: &wire::Delivery) -> Option<wire::Dispatch> {
    wire::Dispatch::decode(&delivery.dispatch.as_ref()?.payload[..]).ok()
}

/// Judge a delivery.
pub fn verify(delivery: &wire::Delivery, facts: &Facts<'_>) -> Judgement {
    let (dispatch, position) = match dispatched(delivery, facts) {
        Ok(dispatched) => dispatched,
        Err((reason, detail)) => {
            let claim = claimed(delivery).unwrap_or_default();
            return Judgement::Rejected(wire::Rejected {
                command_id: claim.command_id,
                epoch: claim.epoch,
                sequence: claim.sequence,
                refused: Some(wire::Refused { reason: reason.into(), detail }),
            });
        }
    };
    if dispatch.void {
        return Judgement::Void(position);
    }
    let Ok(id) = dispatch.command_id.parse() else { return Judgement::Void(position) };
    match ordered(delivery, &dispatch, id, facts) {
        Ok((command, envelope, on_approval)) => {
            let digest = sha256(&envelope.payload);
            Judgement::Verified(Box::new(Verified { command, envelope, position, digest, on_approval }))
        }
        Err((reason, detail)) => {
            let claim = delivery.command.as_ref().and_then(|envelope| Command::parse(&envelope.payload).ok());
            let latest = facts.now + limits::COMMAND_VALIDITY_MAX;
            Judgement::Refused(Box::new(Refused {
                position,
                id,
                digest: dispatch.command_digest.to_vec(),
                reason,
                detail,
                action: claim.as_ref().map_or("", |command| command.action.name()),
                operator: claim.as_ref().map_or_else(String::new, |command| command.operator.to_string()),
                // A claim can only move that to later.
                until: claim.map_or(latest, |command| command.expires.max(latest)),
            }))
        }
    }
}

/// Which check, and its facts.
pub type Refusal = (RefusalReason, String);

/// Judge a command anew that was let in and had to wait for the LA since: whether its operator may still order it, whether it
/// is still in time, and what the LA's hold, policy and freezes say by now.
pub fn again(verified: &Verified, facts: &Facts<'_>) -> Result<(), Refusal> {
    let command = &verified.command;
    let (operator, signed_by) = granted(command, &signers(&verified.envelope, facts)?)?;
    if command.expires <= facts.now {
        return refuse(RefusalReason::Expired, format!("expired at {}, while it waited for the LA", command.expires));
    }
    local(command, operator, signed_by, facts).map(|_| ())
}

fn refuse<T>(reason: RefusalReason, detail: impl Into<String>) -> Result<T, Refusal> {
    Err((reason, detail.into()))
}

/// The hub's part: is this from our hub, for us, and the next in order?
fn dispatched(delivery: &wire::Delivery, facts: &Facts<'_>) -> Result<(wire::Dispatch, Position), Refusal> {
    let size = delivery.encoded_len();
    if size > limits::COMMAND_BYTES {
        return refuse(RefusalReason::TooLarge, format!("{size} bytes; at most {} are taken", limits::COMMAND_BYTES));
    }
    let envelope = delivery.dispatch.as_ref();
    let signed =
        envelope.filter(|envelope| envelope::count_signers(envelope, PAYLOAD_TYPE, &facts.bundle.dispatch_keys) > 0);
    let Some(envelope) = signed else {
        return refuse(RefusalReason::DispatchSignature, "no dispatch key of the trust bundle signed it");
    };
    let Ok(dispatch) = wire::Dispatch::decode(&envelope.payload[..]) else {
        return refuse(RefusalReason::Malformed, "the signed bytes are no dispatch");
    };
    if dispatch.encode_to_vec() != envelope.payload {
        return refuse(RefusalReason::UnknownFields, "the dispatch has fields that this version does not know");
    }
    if dispatch.agent_id != facts.agent.as_str() {
        return refuse(RefusalReason::NotAddressed, format!("it is for agent {:?}", dispatch.agent_id));
    }
    let position = Position { epoch: dispatch.epoch, sequence: dispatch.sequence };
    if position.epoch != facts.last.epoch {
        return refuse(
            RefusalReason::WrongEpoch,
            format!(
                "it is of epoch {}, and this agent is in {}; see hubctl trust accept-restore",
                position.epoch, facts.last.epoch
            ),
        );
    }
    if position <= facts.last {
        return refuse(RefusalReason::Replayed, format!("{position} was used already; the last was {}", facts.last));
    }
    if position.sequence != facts.last.sequence + 1 {
        return refuse(RefusalReason::SequenceGap, format!("{position} does not follow {}", facts.last));
    }
    Ok((dispatch, position))
}

/// The operator's part: is this what they signed, may they, is it for us and for now, and does the LA allow it?
fn ordered(
    delivery: &wire::Delivery,
    dispatch: &wire::Dispatch,
    id: CommandId,
    facts: &Facts<'_>,
) -> Result<(Command, wire::Envelope, bool), Refusal> {
    let envelope = delivery.command.clone().unwrap_or_default();
    if sha256(&envelope.payload)[..] != dispatch.command_digest[..] {
        return refuse(RefusalReason::CommandDigest, "the command is not the one that the hub dispatched");
    }
    let signers = signers(&envelope, facts)?;
    // What is not wholly understood can't be judged, so this comes before what the command says.
    let command = Command::parse(&envelope.payload).map_err(|error| match error {
        ParseError::UnknownFields => (RefusalReason::UnknownFields, error.to_string()),
        ParseError::Malformed(_) => (RefusalReason::Malformed, error.to_string()),
    })?;
    if command.id != id {
        return refuse(RefusalReason::Malformed, "it has another id than the hub's dispatch");
    }
    let (operator, signed_by) = granted(&command, &signers)?;
    if command.targets.binary_search(facts.agent).is_err() {
        return refuse(RefusalReason::NotATarget, "this agent is not among its targets");
    }
    if command.not_before > facts.now + limits::CLOCK_SKEW {
        return refuse(
            RefusalReason::NotYetValid,
            format!("valid from {}; the clock here says {}", command.not_before, facts.now),
        );
    }
    if command.expires <= facts.now {
        return refuse(
            RefusalReason::Expired,
            format!("expired at {}; the clock here says {}", command.expires, facts.now),
        );
    }
    if facts.seen {
        return refuse(RefusalReason::AlreadySeen, "a command of this id was let in or refused before");
    }
    if let (Some(why), true) = (facts.journal, command.class() != Class::Read) {
        return refuse(RefusalReason::Journal, why);
    }
    let on_approval = local(&command, operator, signed_by, facts)?;
    if on_approval && facts.waiting >= limits::APPROVALS_WAITING {
        let text = format!("{} commands wait for the LA's approval already", facts.waiting);
        return refuse(RefusalReason::TooManyWait, text);
    }
    Ok((command, envelope, on_approval))
}

/// Whose signatures it has, if all of them hold.
fn signers<'a>(envelope: &wire::Envelope, facts: &Facts<'a>) -> Result<Signers<'a>, Refusal> {
    Signers::of(envelope, facts.bundle, facts.now).map_err(|wrong| {
        let reason = match wrong {
            Wrong::Nobody => RefusalReason::OperatorUnknown,
            Wrong::Signature(_) => RefusalReason::OperatorSignature,
            Wrong::Expired { .. } => RefusalReason::OperatorExpired,
        };
        (reason, wrong.to_string())
    })
}

/// Who orders it, and how many operators who may order it have signed it.
fn granted<'a>(command: &Command, signers: &Signers<'a>) -> Result<(&'a OperatorKey, usize), Refusal> {
    let Some(operator) = signers.named(&command.operator) else {
        return refuse(RefusalReason::Malformed, "it names another operator than its signatures");
    };
    let class = command.class();
    if !operator.roles.iter().any(|role| role.grants(class)) {
        let text = format!("{}'s roles do not allow {class} actions", operator.name);
        return refuse(RefusalReason::ClassNotAllowed, text);
    }
    let signed_by = 1 + signers.approvers(&operator.name, class).len();
    if class == Class::Destroy && signed_by < signers::DESTROY {
        let text = format!("{} can't be taken back, and nobody but {} signed it", command.action.name(), operator.name);
        return refuse(RefusalReason::SecondOperator, text);
    }
    Ok((operator, signed_by))
}

/// The LA's own say: whether it has to approve the command first.
fn local(command: &Command, operator: &OperatorKey, signed_by: usize, facts: &Facts<'_>) -> Result<bool, Refusal> {
    let class = command.class();
    if let (Some(hold), true) = (facts.hold, class != Class::Read) {
        return refuse(RefusalReason::Held, format!("the LA holds its agent: {}", hold.reason));
    }
    let ruling = facts.rules.judge(&Question {
        operator: &operator.name,
        roles: &operator.roles,
        action: command.action.name(),
        class: class.as_str(),
        resource: Resource::Agent(facts.agent, &AgentFacts::default()),
        reason: &command.reason,
        now: facts.now,
        signers: signed_by,
        freezes: &[],
    });
    match ruling {
        Ruling::Allowed => Ok(false),
        Ruling::OnApproval => Ok(true),
        Ruling::Denied(why) => refuse(RefusalReason::LocalPolicy, format!("the LA's policy: {why}")),
        Ruling::Frozen(why) => refuse(RefusalReason::Frozen, why),
    }
}

#[cfg(test)]
mod tests;
