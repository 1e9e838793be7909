//! How hubctl ends, so that scripts need not read its words. The meanings stand in `hubctl --help`
//! and never change.

use std::process::ExitCode;

use crate::status;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; a command: every target succeeded.
    Done = 0,
    /// Nothing was done: an error before or at submission, or a record that does not hold.
    NotDone = 1,
    /// The arguments make no sense; clap's own code for it.
    Usage = 2,
    /// The command ended everywhere, and not every target succeeded.
    NotSucceeded = 3,
    /// The command is still under way.
    UnderWay = 4,
    /// The hub said no to this operator.
    Denied = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Arguments that clap took and that make no sense all the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The code for an error that ended hubctl.
pub(crate) fn code_of(error: &anyhow::Error) -> Exit {
    if error.chain().any(|cause| cause.is::<Usage>()) {
        Exit::Usage
    } else if error.chain().filter_map(|cause| cause.downcast_ref()).any(status::Error::is_denial) {
        Exit::Denied
    } else {
        Exit::NotDone
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use tonic::Status;

    use super::*;

    #[test]
    fn a_denial_keeps_its_code_under_any_context() {
        let refused = |status| {
            Err::<(), _>(status::Error::from_status("list the agents", "hub:7100", &status))
                .context("more")
                .unwrap_err()
        };
        assert_eq!(code_of(&refused(Status::permission_denied("locked"))), Exit::Denied);
        assert_eq!(code_of(&refused(Status::unauthenticated("who?"))), Exit::Denied);
        assert_eq!(code_of(&refused(Status::not_found("no such agent"))), Exit::NotDone);
        assert_eq!(code_of(&Usage("two of them".into()).into()), Exit::Usage);
        assert_eq!(code_of(&anyhow::anyhow!("anything else")), Exit::NotDone);
    }
}
