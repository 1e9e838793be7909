//! How agents and operators get their certificates, and the hub its own.

pub mod authority;
pub mod identity;
pub mod serving;
pub mod tokens;
