//! Stop 4 on a command's path: may this operator order that of these agents?
//!
//! The hub's answer protects the fleet from mistakes and stale rights. It is not what protects an LA from the
//! hub: every agent checks the signature, the role and its own policy again.
//! Invariant: only [`Authorizer::authorize`] makes an [`Authorized`], and the queue takes nothing else.

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    command::{Class, Command, ParseError},
    envelope,
    ids::{AgentId, OperatorName},
    keys::sha256,
    limits,
    policy::{Policy, Question, Resource, Verdict},
    signers::{self, Signers, Wrong},
    trust::OperatorKey,
};
use sfdata_proto::v1 as wire;

use crate::{fleet::Fleet, trust::Trust};

/// Why an order or a request is denied.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Larger than any command.
    #[error("the command is {size} bytes long; at most {} are taken", limits::COMMAND_BYTES)]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Not a command.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// Signed by somebody else than who is connected.
    #[error("the command names {named} as its operator, and you are connected as {connected}")]
    SomebodyElse {
        /// In the command.
        named: OperatorName,
        /// In the certificate.
        connected: OperatorName,
    },
    /// Not in the trust bundle, or no longer.
    #[error("{0} has no valid key in the trust bundle; an admin adds one: hubctl trust add-operator {0} --key …")]
    NoKey(OperatorName),
    /// The signature does not hold.
    #[error("the signature is not that of {0}'s key in the trust bundle; is the right signing key in your profile?")]
    Signature(OperatorName),
    /// A signature beside theirs does not hold, or has expired.
    #[error("the command's signatures do not count: {0}")]
    Signers(#[from] Wrong),
    /// Nobody else signed it.
    #[error(
        "{action} can't be taken back, so that a second operator has to sign it: \
         hubctl commands propose -- …, and somebody else: hubctl commands approve"
    )]
    SecondOperator {
        /// What.
        action: String,
    },
    /// The role does not reach.
    #[error("the roles of {operator} ({roles}) do not allow {class} actions such as {action}")]
    Role {
        /// Who.
        operator: OperatorName,
        /// Theirs.
        roles: String,
        /// Class asked for.
        class: &'static str,
        /// Action asked for.
        action: String,
    },
    /// The hub's policy says no.
    #[error("the hub's policy does not let {operator} do {action} on {on}: {why}")]
    Policy {
        /// Who.
        operator: OperatorName,
        /// What.
        action: String,
        /// On what.
        on: String,
        /// Which rule.
        why: String,
    },
    /// A target that is not in the registry.
    #[error("there is no agent {0}; see hubctl agents list")]
    UnknownAgent(AgentId),
    /// A target that is locked.
    #[error("agent {agent} is locked ({reason}); unlock it first: hubctl agents unlock {agent}")]
    LockedAgent {
        /// Which.
        agent: AgentId,
        /// Why it is.
        reason: String,
    },
    /// Not in its time.
    #[error("the command is valid from {from} to {to} and the hub's clock says {now}; check both clocks")]
    NotNow {
        /// Start.
        from: Timestamp,
        /// End.
        to: Timestamp,
        /// The hub's clock.
        now: Timestamp,
    },
}

impl Denied {
    /// A stable word for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Malformed(_) => "malformed",
            Self::SomebodyElse { .. } => "somebody-else",
            Self::NoKey(_) => "no-key",
            Self::Signature(_) => "signature",
            Self::Signers(_) => "signers",
            Self::SecondOperator { .. } => "second-operator",
            Self::Role { .. } => "role",
            Self::Policy { .. } => "policy",
            Self::UnknownAgent(_) => "unknown-agent",
            Self::LockedAgent { .. } => "locked-agent",
            Self::NotNow { .. } => "not-now",
        }
    }
}

/// A command as the hub keeps it: parsed beside the exact bytes that were signed.
#[derive(Debug)]
pub struct Order {
    /// What it says.
    pub command: Command,
    /// What was signed.
    pub envelope: wire::Envelope,
    /// SHA-256 over the signed payload.
    pub digest: [u8; 32],
    /// When the hub took it.
    pub submitted: Timestamp,
}

impl Order {
    /// Read a stored order again; its signature was verified when it came in.
    pub fn stored(envelope: wire::Envelope, submitted: Timestamp) -> Result<Self, ParseError> {
        let command = Command::parse(&envelope.payload)?;
        Ok(Self { command, digest: sha256(&envelope.payload), envelope, submitted })
    }
}

/// An order that passed every check of [`Authorizer::authorize`].
#[derive(Debug)]
pub struct Authorized {
    order: Arc<Order>,
    approvers: Vec<OperatorName>,
}

impl Authorized {
    /// The order.
    pub fn order(&self) -> &Arc<Order> {
        &self.order
    }

    /// Who signed it beside the operator who ordered it.
    pub fn approvers(&self) -> &[OperatorName] {
        &self.approvers
    }
}

/// An order that lacks nothing but a second operator's signature: [`Authorizer::propose`].
#[derive(Debug)]
pub struct Proposed(Order);

impl Proposed {
    /// The order.
    pub fn order(&self) -> &Order {
        &self.0
    }
}

/// The classes that only the hub knows: what is done to the fleet itself.
pub const ADMINISTER: &str = "administer";
/// What is done to the hub's own records in daily work, such as silences.
pub const OPERATE: &str = Class::Operate.as_str();

/// The hub's policy over the trust bundle's roles.
pub struct Authorizer {
    policy: Policy,
    trust: Arc<Trust>,
    fleet: Arc<Fleet>,
}

impl Authorizer {
    /// Put together.
    pub fn new(policy: Policy, trust: Arc<Trust>, fleet: Arc<Fleet>) -> Self {
        Self { policy, trust, fleet }
    }

    /// Judge a signed command that `by` ordered.
    pub fn authorize(&self, by: &OperatorName, envelope: wire::Envelope, now: Timestamp) -> Result<Authorized, Denied> {
        let (order, approvers) = self.judge(by, envelope, 1, now)?;
        Ok(Authorized { order: Arc::new(order), approvers })
    }

    /// Judge a signed command that `by` proposes, as if a second operator had approved it.
    pub fn propose(&self, by: &OperatorName, envelope: wire::Envelope, now: Timestamp) -> Result<Proposed, Denied> {
        Ok(Proposed(self.judge(by, envelope, signers::DESTROY, now)?.0))
    }

    /// What `by` ordered, and who approved it, judged as if at least so many operators had signed.
    fn judge(
        &self,
        by: &OperatorName,
        envelope: wire::Envelope,
        at_least: usize,
        now: Timestamp,
    ) -> Result<(Order, Vec<OperatorName>), Denied> {
        let size = envelope.encoded_len();
        if size > limits::COMMAND_BYTES {
            return Err(Denied::TooLarge { size });
        }
        self.trust.operator(by, now).ok_or_else(|| Denied::NoKey(by.clone()))?;
        let signer = self.trust.signer(by, &envelope, Command::PAYLOAD_TYPE, now);
        let key = signer.ok_or_else(|| Denied::Signature(by.clone()))?;
        let order = Order::stored(envelope, now)?;
        let command = &order.command;
        if command.operator != *by {
            return Err(Denied::SomebodyElse { named: command.operator.clone(), connected: by.clone() });
        }
        if command.expires <= now || command.not_before > now + limits::CLOCK_SKEW {
            return Err(Denied::NotNow { from: command.not_before, to: command.expires, now });
        }
        let class = command.class();
        role(&key, command)?;
        let signers = self.trust.with(|bundle| {
            let signers = Signers::of(&order.envelope, bundle, now)?;
            Ok::<_, Wrong>(signers.approvers(by, class).into_iter().cloned().collect::<Vec<OperatorName>>())
        });
        let approvers = signers.ok_or_else(|| Denied::NoKey(by.clone()))??;
        let signed_by = at_least.max(1 + approvers.len());
        if class == Class::Destroy && signed_by < signers::DESTROY {
            return Err(Denied::SecondOperator { action: command.action.name().to_owned() });
        }
        for agent in &command.targets {
            let facts = self.fleet.facts(agent).ok_or_else(|| Denied::UnknownAgent(agent.clone()))?;
            if let Some(reason) = facts.locked {
                return Err(Denied::LockedAgent { agent: agent.clone(), reason });
            }
            let verdict = self.policy.ask(&Question {
                operator: by,
                roles: &key.roles,
                action: command.action.name(),
                class: class.as_str(),
                resource: Resource::Agent(agent, &facts.policy),
                reason: &command.reason,
                now,
                signers: signed_by,
                freezes: &[],
            });
            if let Verdict::Denied(why) = verdict {
                let (operator, action) = (by.clone(), command.action.name().to_owned());
                return Err(Denied::Policy { operator, action, on: format!("agent {agent}"), why });
            }
        }
        Ok((order, approvers))
    }

    /// Whether a signature that was added to an envelope is that of `by`.
    pub fn signed(
        &self,
        by: &OperatorName,
        signature: &wire::Signature,
        envelope: &wire::Envelope,
        now: Timestamp,
    ) -> Result<(), Denied> {
        let key = self.trust.operator(by, now).ok_or_else(|| Denied::NoKey(by.clone()))?;
        let holds =
            signature.key_id == key.key.id() && envelope::is_signed_by(envelope, Command::PAYLOAD_TYPE, &key.key);
        if holds { Ok(()) } else { Err(Denied::Signature(by.clone())) }
    }

    /// Whether `by` may approve or reject what is of this class.
    pub fn may_decide(&self, by: &OperatorName, order: &Order, now: Timestamp) -> Result<(), Denied> {
        let key = self.trust.operator(by, now).ok_or_else(|| Denied::NoKey(by.clone()))?;
        role(&key, &order.command)
    }

    /// Judge what is asked of the fleet itself, such as `agents.lock`; reading is class `read`, all else `administer`.
    pub fn allow(&self, by: &OperatorName, action: &str, class: &'static str, now: Timestamp) -> Result<(), Denied> {
        let Some(key) = self.trust.operator(by, now) else {
            // Before there is a bundle, whoever holds the first invitation publishes one.
            let beginning = self.trust.version() == 0 && action.starts_with("trust.");
            return if beginning { Ok(()) } else { Err(Denied::NoKey(by.clone())) };
        };
        let verdict = self.policy.ask(&Question {
            operator: by,
            roles: &key.roles,
            action,
            class,
            resource: Resource::Fleet,
            reason: "",
            now,
            signers: 1,
            freezes: &[],
        });
        match verdict {
            Verdict::Allowed | Verdict::OnApproval => Ok(()),
            Verdict::Denied(why) => {
                Err(Denied::Policy { operator: by.clone(), action: action.to_owned(), on: "the fleet".into(), why })
            }
        }
    }

    /// The read class's word, for requests that only look.
    pub const READ: &'static str = Class::Read.as_str();
}

fn role(key: &OperatorKey, command: &Command) -> Result<(), Denied> {
    let class = command.class();
    if key.roles.iter().any(|role| role.grants(class)) {
        return Ok(());
    }
    Err(Denied::Role {
        operator: key.name.clone(),
        roles: key.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        class: class.as_str(),
        action: command.action.name().to_owned(),
    })
}
