//! The only map from the hub's errors to gRPC. What the peer can mend is told in full; what only the hub's
//! operator can mend is told as such and logged there.

use sfdata_common::error::chain;
use tonic::{Code, Status};
use tracing::error;

use crate::{
    alerts,
    authorize::Denied,
    commands::{ProposalError, SubmitError},
    disk,
    enrol::{authority, iam, joins, tokens},
    fleet, queue, store, trust,
};

/// An error that has a gRPC code.
pub(crate) trait ToStatus: std::error::Error + Sized {
    fn code(&self) -> Code;

    fn status(self) -> Status {
        let code = self.code();
        let text = chain(&self).to_string();
        if matches!(code, Code::Internal | Code::Unavailable) {
            error!(error = text, "a request failed");
        }
        Status::new(code, text)
    }
}

impl ToStatus for store::Error {
    fn code(&self) -> Code {
        match self {
            Self::Stopped | Self::Write { .. } => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}

impl ToStatus for Denied {
    fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } | Self::Malformed(_) | Self::NotNow { .. } => Code::InvalidArgument,
            Self::UnknownAgent(_) => Code::NotFound,
            Self::LockedAgent { .. } => Code::FailedPrecondition,
            Self::SomebodyElse { .. }
            | Self::NoKey(_)
            | Self::Signature(_)
            | Self::Signers(_)
            | Self::SecondOperator { .. }
            | Self::Role { .. }
            | Self::Policy { .. } => Code::PermissionDenied,
        }
    }
}

impl ToStatus for alerts::Error {
    fn code(&self) -> Code {
        match self {
            Self::Full => Code::ResourceExhausted,
            Self::Unknown(_) => Code::NotFound,
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for queue::Error {
    fn code(&self) -> Code {
        match self {
            Self::AgentFull { .. } | Self::Full => Code::ResourceExhausted,
            Self::Taken(_) => Code::AlreadyExists,
            Self::Unknown(..) => Code::NotFound,
            Self::Illegal(_) => Code::FailedPrecondition,
            Self::Stored(..) => Code::Internal,
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for disk::Low {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }
}

impl ToStatus for SubmitError {
    fn code(&self) -> Code {
        match self {
            Self::Denied(error) => error.code(),
            Self::Queue(error) => error.code(),
            Self::Disk(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for ProposalError {
    fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::NotFound,
            Self::Taken(_) => Code::AlreadyExists,
            Self::Own(_) => Code::PermissionDenied,
            Self::Full => Code::ResourceExhausted,
            Self::Denied(error) => error.code(),
            Self::Submit(error) => error.code(),
            Self::Disk(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for fleet::Error {
    fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::NotFound,
            Self::OtherAccount { .. } => Code::FailedPrecondition,
            Self::Full => Code::ResourceExhausted,
            Self::Join(error) => error.code(),
            Self::Invalid(_) => Code::Internal,
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for trust::Error {
    fn code(&self) -> Code {
        match self {
            Self::Bundle(_) | Self::NotOurs(_) | Self::Epoch { .. } | Self::None => Code::FailedPrecondition,
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for tokens::Error {
    fn code(&self) -> Code {
        match self {
            Self::Unknown | Self::Used | Self::Expired(_) | Self::OtherKind | tokens::Error::Account { .. } => {
                Code::PermissionDenied
            }
            Self::ReceiptKey | Self::Issue(authority::Error::Request(_)) => Code::InvalidArgument,
            Self::NoBundle => Code::FailedPrecondition,
            Self::Signer(_) => Code::Unavailable,
            Self::Random(_) | Self::Issue(_) => Code::Internal,
            Self::Fleet(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

impl ToStatus for joins::Refusal {
    fn code(&self) -> Code {
        Code::PermissionDenied
    }
}

impl ToStatus for iam::Error {
    fn code(&self) -> Code {
        use iam::{organization, sts};
        match self {
            Self::Challenge | Self::Request(_) | Self::Sts(sts::Error::Denied { .. }) => Code::PermissionDenied,
            Self::Name(_) | Self::ReceiptKey | Self::Issue(authority::Error::Request(_)) => Code::InvalidArgument,
            Self::Sts(sts::Error::Busy) => Code::ResourceExhausted,
            Self::Sts(sts::Error::Odd { odd: iam::reply::Odd::NotARole(_), .. }) => Code::PermissionDenied,
            Self::Organization(organization::Error::Foreign { .. } | organization::Error::Inactive { .. }) => {
                Code::PermissionDenied
            }
            Self::Sts(_) | Self::Organization(_) | Self::Signer(_) => Code::Unavailable,
            Self::Random(_) | Self::Issue(_) => Code::Internal,
            Self::Fleet(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}
