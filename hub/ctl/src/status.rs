//! What a gRPC status means to an operator: what was tried, on which hub, what to do about it.
//! The only place that maps the wire's codes to words.

use std::{error::Error as StdError, fmt::Display, time::Duration};

use tonic::{Code, Status};

/// An answer that is a problem.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `PermissionDenied`, `Unauthenticated`.
    #[error("cannot {tried}: the hub at {address} denies it: {reason}")]
    Denied { tried: String, address: String, reason: String },
    /// The hub ended the handshake.
    #[error(
        "cannot {tried}: the hub at {address} does not accept this profile's certificate ({alert}); \
         ask an admin for `hubctl operators invite NAME`, then run `hubctl login TOKEN`"
    )]
    Certificate { tried: String, address: String, alert: String },
    /// Nobody there, or not whom the profile knows.
    #[error("cannot {tried}: no connection to the hub at {address}; check the address and that the hub runs: {why}")]
    Unreachable { tried: String, address: String, why: String },
    /// Somebody was there, and hung up.
    #[error(
        "cannot {tried}: the hub at {address} ended the connection; it is restarting, or has locked this operator \
         out, which an admin sees in `hubctl operators list`: {why}"
    )]
    Dropped { tried: String, address: String, why: String },
    /// No answer in time.
    #[error("cannot {tried}: the hub at {address} did not answer within {} s; try again", waited.as_secs())]
    Late { tried: String, address: String, waited: Duration },
    /// The hub can't now.
    #[error("cannot {tried}: the hub at {address} is busy or stopping; try again in a moment: {reason}")]
    Busy { tried: String, address: String, reason: String },
    /// The request itself is at fault, or does not fit what is there.
    #[error("cannot {tried}: {reason}")]
    Refused { tried: String, reason: String },
    /// A call that this hub does not have.
    #[error(
        "cannot {tried}: the hub at {address} does not know this call; it is older than this hubctl ({})",
        env!("CARGO_PKG_VERSION")
    )]
    Unknown { tried: String, address: String },
    /// A fault of the hub.
    #[error("cannot {tried}: the hub at {address} has a fault, its log tells more: {reason}")]
    Fault { tried: String, address: String, reason: String },
}

impl Error {
    /// The words for `status`, got when trying to `tried` at `address`.
    pub(crate) fn from_status(tried: impl Display, address: &str, status: &Status) -> Self {
        let (tried, address, reason) = (tried.to_string(), address.to_owned(), status.message().to_owned());
        if is_lost(status) {
            let why = innermost(status);
            return match why.split_once("received fatal alert: ") {
                Some((_, alert)) => Self::Certificate { tried, address, alert: alert.to_owned() },
                // As `sfdata_common::channel` says it when there was no connection at all.
                None if why.starts_with("cannot reach") || why.starts_with("no TLS") => {
                    Self::Unreachable { tried, address, why }
                }
                None => Self::Dropped { tried, address, why },
            };
        }
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied { tried, address, reason },
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Busy { tried, address, reason }
            }
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange => Self::Refused { tried, reason },
            Code::Unimplemented => Self::Unknown { tried, address },
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Fault { tried, address, reason },
        }
    }

    /// Whether the hub said no to this operator.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Certificate { .. })
    }
}

/// Whether a status was made on this side because the connection failed: tonic links such a cause.
fn is_lost(status: &Status) -> bool {
    status.source().is_some() || status.code() == Code::Unknown
}

/// Whether trying again, on a new connection, may help.
pub(crate) fn is_passing(status: &Status) -> bool {
    is_lost(status)
        || matches!(
            status.code(),
            Code::Unavailable | Code::ResourceExhausted | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded
        )
}

/// The last cause, which names the fact; those before it say "transport error".
fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn words(status: &Status) -> String {
        Error::from_status("list the agents", "hub:7100", status).to_string()
    }

    #[test]
    fn each_code_says_what_was_tried_where_and_what_to_do() {
        let lost = Status::from_error(Box::new(io::Error::other("cannot reach hub:7100: Connection refused")));
        let dropped = Status::from_error(Box::new(io::Error::other("connection reset")));
        let alert = Status::from_error(Box::new(io::Error::other("received fatal alert: CertificateExpired")));
        let all = [
            Status::permission_denied("alice may not do agents.list"),
            Status::not_found("there is no agent nowhere"),
            Status::resource_exhausted("100000 commands are unfinished"),
            Status::unimplemented(""),
            Status::internal("the store cannot be written"),
            lost,
            dropped,
            alert,
        ];
        let all: Vec<String> = all.iter().map(words).collect();
        insta::assert_snapshot!(all.join("\n"), @r#"
        cannot list the agents: the hub at hub:7100 denies it: alice may not do agents.list
        cannot list the agents: there is no agent nowhere
        cannot list the agents: the hub at hub:7100 is busy or stopping; try again in a moment: 100000 commands are unfinished
        cannot list the agents: the hub at hub:7100 does not know this call; it is older than this hubctl (0.1.0)
        cannot list the agents: the hub at hub:7100 has a fault, its log tells more: the store cannot be written
        cannot list the agents: no connection to the hub at hub:7100; check the address and that the hub runs: cannot reach hub:7100: Connection refused
        cannot list the agents: the hub at hub:7100 ended the connection; it is restarting, or has locked this operator out, which an admin sees in `hubctl operators list`: connection reset
        cannot list the agents: the hub at hub:7100 does not accept this profile's certificate (CertificateExpired); ask an admin for `hubctl operators invite NAME`, then run `hubctl login TOKEN`
        "#);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(is_passing(&Status::unavailable("draining")));
        assert!(!is_passing(&Status::permission_denied("locked")));
        assert!(!is_passing(&Status::not_found("no such command")));
    }
}
