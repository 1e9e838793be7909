//! The agent, in the order in which a command passes through it: it is configured and knows who it is,
//! holds the link, lets a verified command in by one door, asks the LA's policy, journals, executes
//! against its own account, and reports.

pub mod config;
pub mod execute;
pub mod report;
pub mod services;
