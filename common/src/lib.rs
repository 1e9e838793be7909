//! What hub, agent and hubctl share, in the order in which a command passes through it:
//! who and what is named, what is ordered, how it is signed, who is trusted, how peers know
//! each other on the wire; then the bounds and the plumbing that every process needs.

pub mod ids;
pub mod image;
pub mod fargate;
pub mod command;
pub mod dispatch;
pub mod outcome;
pub mod health;
pub mod report;
pub mod discovery;
pub mod words;
pub mod csv;
pub mod usage;
pub mod prices;
pub mod history;

pub mod keys;
pub mod envelope;
pub mod sealed;
pub mod trust;
pub mod signers;
pub mod policy;
pub mod audit;
pub mod join;
pub mod sts;

pub mod peer;
pub mod tls;
pub mod channel;
pub mod connection;

pub mod limits;
pub mod retry;
pub mod config;
pub mod keyfile;
pub mod telemetry;
pub mod metrics;
pub mod ops;
pub mod shutdown;
pub mod error;

pub use jiff::Timestamp;
