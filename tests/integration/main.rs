//! The one integration binary: every test talks over the wire to real parts.

mod aurora;
mod aws;
mod bucket_policies;
mod buckets;
mod bundles;
mod capacity;
mod discover;
mod door;
mod frames;
mod logs;
mod join;
mod identity;
mod crash;
mod delivery;
mod deploy;
mod full_disk;
mod main_job;
mod operations;
mod permissions;
mod probe;
mod plans;
mod run;
mod secrets;
mod sharing;
mod status;
mod submit;
