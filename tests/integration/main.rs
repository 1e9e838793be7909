//! The one integration binary: every test talks over the wire to real parts.

mod door;
mod delivery;
mod main_job;
mod submit;
