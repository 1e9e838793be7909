//! The agent, in the order in which a command passes through it: it is configured, which `discover`
//! helps with, and knows who it is and whom to trust, holds the link, lets a verified command in by one door, asks
//! the LA's policy, journals, executes against its own account, and reports. Beside all that it takes in what arrives.

pub mod config;
pub mod discover;
pub mod identity;
pub mod trust;

pub mod connect;
pub mod verify;
pub mod policy;
pub mod approvals;
pub mod door;
pub mod journal;
mod database;
pub mod execute;
pub mod services;
pub mod power;

pub mod arrivals;
pub mod runs;
pub mod usage;
pub mod report;
pub mod audit;
pub mod metrics;
pub mod agent;
