//! The one integration binary: every test talks over the wire to real parts.

mod main_job;
