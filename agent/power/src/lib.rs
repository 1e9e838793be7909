//! When a data platform is put to sleep, and when it wakes: the decision alone. It has a crate to itself so that it can't do
//! I/O, and so that `tests/sim` can put it through years in simulated time.
//!
//! `observation` is what is seen of the world, `state` what is remembered of it, durably. `decide` looks at both and at the
//! time and says what to do; `asking` is how much of Dagster is looked at meanwhile. `reasons` are why to be awake, `alarms` why to wake later.

mod act;
pub mod alarms;
pub mod asking;
pub mod decide;
pub mod observation;
pub mod reasons;
mod role;
pub mod settings;
pub mod state;

pub use self::role::Role;
