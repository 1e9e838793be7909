//! Asleep unless there is a reason: when the platform is put to sleep, and when it wakes.
//!
//! `observation` is what is seen of the world, `state` what is remembered of it, durably. `decide` looks at both and at the
//! time and says what to do; it has no I/O. `reasons` are why to be awake, `alarms` why to wake later. The `controller` looks by
//! `sources`, remembers by `store` and does what was decided; `command` hands it operators' wishes.

pub mod alarms;
mod command;
pub mod controller;
pub mod decide;
pub mod observation;
pub mod reasons;
pub mod settings;
mod sources;
pub mod state;
mod store;
mod tell;

pub use self::controller::{Claim, Handle};
