//! The one way in which a command ends at an agent, with every failure and refusal by its name.
//!
//! `Outcome` is what the journal keeps, the receipt signs, the hub stores and hubctl prints.
//! Names printed here are stable: scripts match on them.

use sfdata_proto::v1::{self as wire, outcome::Kind};
pub use wire::{FailureCode, RefusalReason};

use crate::words::kebab;

/// How a command ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was done; what was found or reached.
    Succeeded(Box<wire::ActionResult>),
    /// It was begun, and did not reach its end.
    Failed {
        /// The kind of failure.
        code: FailureCode,
        /// What was tried, on what, and what to do.
        message: String,
    },
    /// The agent did not let it in.
    Refused {
        /// The check that it did not pass.
        reason: RefusalReason,
        /// The facts of that check.
        detail: String,
    },
    /// Nobody began it in time.
    Expired,
    /// An operator took it back.
    Cancelled {
        /// How far it had come.
        detail: String,
    },
}

impl Outcome {
    /// `succeeded`, `failed`, `refused`, `expired` or `cancelled`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Refused { .. } => "refused",
            Self::Expired => "expired",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// A success with this result.
    pub fn success(result: wire::action_result::Kind) -> Self {
        Self::Succeeded(Box::new(wire::ActionResult { kind: Some(result) }))
    }

    /// The message that carries it.
    pub fn to_wire(&self) -> wire::Outcome {
        let kind = match self.clone() {
            Self::Succeeded(result) => Kind::Succeeded(wire::Succeeded { result: Some(*result) }),
            Self::Failed { code, message } => Kind::Failed(wire::Failed { code: code.into(), message }),
            Self::Refused { reason, detail } => Kind::Refused(wire::Refused { reason: reason.into(), detail }),
            Self::Expired => Kind::Expired(wire::Expired {}),
            Self::Cancelled { detail } => Kind::Cancelled(wire::Cancelled { detail }),
        };
        wire::Outcome { kind: Some(kind) }
    }
}

/// The message carries no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message carries no outcome that this version knows")]
pub struct Missing;

impl TryFrom<wire::Outcome> for Outcome {
    type Error = Missing;

    fn try_from(message: wire::Outcome) -> Result<Self, Missing> {
        Ok(match message.kind.ok_or(Missing)? {
            Kind::Succeeded(succeeded) => Self::Succeeded(Box::new(succeeded.result.unwrap_or_default())),
            Kind::Failed(failed) => Self::Failed { code: failed.code(), message: failed.message },
            Kind::Refused(refused) => Self::Refused { reason: refused.reason(), detail: refused.detail },
            Kind::Expired(_) => Self::Expired,
            Kind::Cancelled(cancelled) => Self::Cancelled { detail: cancelled.detail },
        })
    }
}

/// Every [`Outcome::name`].
pub const NAMES: [&str; 5] = ["succeeded", "failed", "refused", "expired", "cancelled"];

/// Every [`failure_name`].
pub fn failure_names() -> impl Iterator<Item = String> {
    codes(FailureCode::try_from).map(failure_name)
}

/// Every [`refusal_name`].
pub fn refusal_names() -> impl Iterator<Item = String> {
    codes(RefusalReason::try_from).map(refusal_name)
}

/// All values of a wire enumeration, the unspecified one excepted.
fn codes<T, E>(parse: impl Fn(i32) -> Result<T, E>) -> impl Iterator<Item = T> {
    (1..100).filter_map(move |number| parse(number).ok())
}

/// `throttled`, `access-denied`, ... : the code in lower case, with hyphens.
pub fn failure_name(code: FailureCode) -> String {
    kebab(code.as_str_name(), "FAILURE_CODE_")
}

/// `dispatch-signature`, `replayed`, ... : the reason in lower case, with hyphens.
pub fn refusal_name(reason: RefusalReason) -> String {
    kebab(reason.as_str_name(), "REFUSAL_REASON_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_the_wire() {
        let refresh = wire::action_result::Kind::AgentRefresh(wire::AgentRefreshResult { health: None });
        for outcome in [
            Outcome::success(refresh),
            Outcome::Failed { code: FailureCode::Throttled, message: "m".into() },
            Outcome::Refused { reason: RefusalReason::Held, detail: "d".into() },
            Outcome::Expired,
            Outcome::Cancelled { detail: "c".into() },
        ] {
            assert!(NAMES.contains(&outcome.name()));
            assert_eq!(Outcome::try_from(outcome.to_wire()), Ok(outcome));
        }
        assert_eq!(Outcome::try_from(wire::Outcome { kind: None }), Err(Missing));
        assert_eq!(refusal_name(RefusalReason::DispatchSignature), "dispatch-signature");
    }
}
