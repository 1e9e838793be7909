//! Reading the one TOML file of a process. A key that is not known is an error with its line, so that
//! a misspelt setting never passes for a default.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the configuration {path}; name it with --config")]
    Read {
        /// File that was tried.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {path} is not valid")]
    Parse {
        /// File that was read.
        path: PathBuf,
        /// Line and reason.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// Read and parse `path`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    toml::from_str(&text).map_err(|source| Error::Parse { path: path.into(), source: Box::new(source) })
}
