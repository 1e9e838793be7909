//! Asleep unless there is a reason: when the platform is put to sleep, and when it wakes.
//!
//! `observation` is what is seen of the world, `state` what is remembered of it, durably. `decide` looks at both and at the
//! time and says what to do; it has no I/O. `reasons` are why to be awake, `alarms` why to wake later.

pub mod alarms;
pub mod decide;
pub mod observation;
pub mod reasons;
pub mod settings;
pub mod state;
