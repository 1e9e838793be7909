//! Reading the one TOML of a process, from a file or, where a container is given no files, from a variable of its environment.
//! A key that is not known is an error with its line, so that a misspelt setting never passes for a default.

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

/// Where a configuration stands.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, or what messages call the text.
    name: PathBuf,
    text: Option<String>,
}

impl Source {
    /// In the environment's variable `variable`, if that is set, whose value is the whole TOML; in `file` otherwise.
    pub fn new(variable: &str, text: Option<String>, file: PathBuf) -> Self {
        Self { name: if text.is_some() { variable.into() } else { file }, text }
    }

    /// Read and parse it.
    pub fn load<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match &self.text {
            Some(text) => parse(text, &self.name),
            None => load(&self.name),
        }
    }

    /// The file, or the variable's name.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The file, if it is one: it can be read again.
    pub fn file(&self) -> Option<&Path> {
        self.text.is_none().then_some(&self.name)
    }
}

impl From<&Path> for Source {
    fn from(file: &Path) -> Self {
        Self { name: file.into(), text: None }
    }
}

/// Read and parse `path`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    parse(&text, path)
}

fn parse<T: DeserializeOwned>(text: &str, name: &Path) -> Result<T, Error> {
    toml::from_str(text).map_err(|source| Error::Parse { path: name.into(), source: Box::new(source) })
}
