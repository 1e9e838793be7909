//! Asleep unless there is a reason: the platform is put to sleep, and woken, as `sfdata_power` decides.
//!
//! The `controller` looks by `sources`, lets `decide` say what to do, remembers by `store` and does what was decided; `command`
//! hands it operators' wishes.

mod command;
pub mod controller;
mod sources;
mod store;
mod tell;

pub use sfdata_power::{alarms, asking, decide, observation, reasons, settings, state};

pub use self::controller::{Claim, Handle};
