//! What `hubctl platform` knows of an installation: the templates of this release with their parameters, the files in which an
//! account's parameters are kept, what the templates make of them, and what that costs.
//!
//! Invariant: the templates are the one source of names, defaults and patterns. Nothing here repeats what they say.

pub(crate) mod aws;
pub(crate) mod cost;
pub(crate) mod estate;
pub(crate) mod installed;
pub(crate) mod parameters;
pub(crate) mod ready;
pub(crate) mod templates;
