//! The hub, in the order of a command's path: it is configured and serves, members enrol, operators ask,
//! an order is authorised, numbered and signed, queued, sent, and completed; the rest keeps it running.

pub mod config;
pub mod server;
pub mod enrol;

pub mod api;
pub mod page;
pub mod commands;
pub mod authorize;
pub mod dispatch;
pub mod signer;
pub mod lifecycle;
pub mod queue;
pub mod sessions;

pub mod fleet;
pub mod health;
pub mod alerts;
pub mod history;
pub mod usage;
pub mod trust;
pub mod audit;
pub mod store;

pub mod admin;
mod aws;
pub mod backups;
pub mod rotation;
pub mod disk;
pub mod metrics;
pub mod ops;
pub mod tasks;

pub mod hub;
