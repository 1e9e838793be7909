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
    ids::{AgentId, OperatorName},
    keys::sha256,
    limits,
    policy::{Policy, Question, Resource, Verdict},
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
pub struct Authorized(Arc<Order>);

impl Authorized {
    /// The order.
    pub fn order(&self) -> &Arc<Order> {
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

    /// Judge a signed command that `by` handed in.
    pub fn authorize(&self, by: &OperatorName, envelope: wire::Envelope, now: Timestamp) -> Result<Authorized, Denied> {
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
        if !key.roles.iter().any(|role| role.grants(class)) {
            return Err(Denied::Role {
                operator: by.clone(),
                roles: key.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                class: class.as_str(),
                action: command.action.name().to_owned(),
            });
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
            });
            if let Verdict::Denied(why) = verdict {
                let (operator, action) = (by.clone(), command.action.name().to_owned());
                return Err(Denied::Policy { operator, action, on: format!("agent {agent}"), why });
            }
        }
        Ok(Authorized(Arc::new(order)))
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
        });
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(why) => {
                Err(Denied::Policy { operator: by.clone(), action: action.to_owned(), on: "the fleet".into(), why })
            }
        }
    }

    /// The read class's word, for requests that only look.
    pub const READ: &'static str = Class::Read.as_str();
}
