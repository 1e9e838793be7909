//! What a decision asks for, and what it tells people.

/// Something to do. Doing it twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Start the database.
    StartDatabase,
    /// Set how many tasks a service has.
    Scale {
        /// Which.
        service: String,
        /// How many.
        to: u32,
    },
    /// Let ECS try anew to bring up a service's tasks.
    Renew {
        /// Which.
        service: String,
    },
    /// Set a service's capacity provider strategy, in words as the observation has it.
    Capacity {
        /// Which.
        service: String,
        /// `FARGATE:1`.
        to: String,
    },
    /// Reload a code location.
    Reload {
        /// Which.
        location: String,
    },
    /// Hand on what has arrived.
    HandOn,
}

/// What somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its stable name, as in `stuck-waking`.
    pub kind: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

/// On-demand capacity alone.
pub const ON_DEMAND: &str = "FARGATE:1";
/// What a strategy that uses spare capacity has in its words.
pub(crate) const SPOT: &str = "FARGATE_SPOT";
