//! How agents and operators get their certificates, and the hub its own.

pub mod authority;
pub mod iam;
pub mod identity;
pub mod joins;
pub mod serving;
pub mod tokens;
