//! The one way in which hubctl gets at a private key: by its file, and by the passphrase that it may be under.
//!
//! A passphrase comes from a person at a terminal, without being shown, or from a file that nobody else may read. It is
//! never an argument nor a variable, which others on the machine can see.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use console::Term;
use sfdata_common::{
    keyfile,
    keys::{self, KeyFile, SigningKey},
    limits,
};
use zeroize::Zeroizing;

use crate::output;

/// How often a person may try.
const TRIES: usize = 3;

/// Why a key can't be opened, or put under a passphrase.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The key, or another passphrase than the key's.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// The file of the passphrase.
    #[error("the file of the passphrase cannot be used")]
    File(#[from] keyfile::Error),
    /// Nobody to ask.
    #[error(
        "a passphrase is needed for {path}, and there is no terminal to ask at; put it into a file of mode 0600 and name \
         that: --passphrase-file FILE, or SFDATA_PASSPHRASE_FILE (hubctl key passphrase: --new-passphrase-file FILE)"
    )]
    NoTerminal { path: PathBuf },
    /// The terminal.
    #[error("the passphrase could not be read from the terminal")]
    Terminal(#[source] io::Error),
    /// Typed differently.
    #[error("the two passphrases differ; nothing was written")]
    Differ,
    /// Guessed in no time.
    #[error(
        "a passphrase has {} characters or more, and at most {} bytes; nothing was written",
        limits::PASSPHRASE_CHARACTERS,
        limits::PASSPHRASE_BYTES
    )]
    Length,
    /// The thread that waits for a person.
    #[error("reading the key was broken off")]
    Broken,
}

/// A key, and its file.
type Opened = (PathBuf, Arc<SigningKey>);

/// Opens keys; cheap to clone. What it has opened it keeps for as long as hubctl runs, so that nobody is asked twice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring {
    passphrase_file: Option<PathBuf>,
    opened: Arc<Mutex<Vec<Opened>>>,
}

impl Keyring {
    /// With passphrases from this file, where there is one.
    pub(crate) fn new(passphrase_file: Option<PathBuf>) -> Self {
        Self { passphrase_file, opened: Arc::default() }
    }

    /// Open a key file. A person who is asked holds up nothing else.
    pub(crate) async fn open(&self, path: &Path) -> Result<Arc<SigningKey>, Error> {
        let (keyring, path) = (self.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || keyring.open_now(&path)).await.map_err(|_| Error::Broken)?
    }

    fn open_now(&self, path: &Path) -> Result<Arc<SigningKey>, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = opened.iter().find(|(of, _)| of == path) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.unlock(path)?);
        opened.push((path.to_owned(), Arc::clone(&key)));
        Ok(key)
    }

    fn unlock(&self, path: &Path) -> Result<SigningKey, Error> {
        let key = match KeyFile::read(path)? {
            KeyFile::Open(key) => return Ok(key),
            KeyFile::Protected(key) => key,
        };
        if let Some(file) = &self.passphrase_file {
            return Ok(key.unlock(&from_file(file)?)?);
        }
        let mut left = TRIES;
        loop {
            left -= 1;
            match key.unlock(&ask(path, "Passphrase of")?) {
                Err(wrong @ keys::Error::Passphrase { .. }) if left > 0 => output::warn(wrong),
                result => return Ok(result?),
            }
        }
    }

    /// A passphrase for a key that is to be written: from the file, or typed twice.
    pub(crate) async fn choose(&self, path: &Path) -> Result<Zeroizing<String>, Error> {
        let (file, path) = (self.passphrase_file.clone(), path.to_owned());
        let chosen = tokio::task::spawn_blocking(move || match file {
            Some(file) => from_file(&file),
            None => {
                let first = ask(&path, "New passphrase of")?;
                let again = ask(&path, "Once more, the new passphrase of")?;
                if first == again { Ok(first) } else { Err(Error::Differ) }
            }
        });
        let chosen = chosen.await.map_err(|_| Error::Broken)??;
        if chosen.chars().count() < limits::PASSPHRASE_CHARACTERS || chosen.len() > limits::PASSPHRASE_BYTES {
            return Err(Error::Length);
        }
        Ok(chosen)
    }
}

/// The first line of a file.
fn from_file(path: &Path) -> Result<Zeroizing<String>, Error> {
    let text = keyfile::read_secret(path)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn ask(path: &Path, what: &str) -> Result<Zeroizing<String>, Error> {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Error::NoTerminal { path: path.into() });
    }
    terminal.write_str(&format!("{what} {}: ", path.display())).map_err(Error::Terminal)?;
    terminal.read_secure_line().map(Zeroizing::new).map_err(Error::Terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_passphrase_from_a_file_opens_the_key_and_a_wrong_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let [key, good, bad, short] = ["key", "good", "bad", "short"].map(|name| folder.path().join(name));
        keyfile::create_secret(&good, "correct horse battery\n").unwrap();
        keyfile::create_secret(&bad, "correct horse\n").unwrap();
        keyfile::create_secret(&short, "seven77").unwrap();
        let ring = |file: &Path| Keyring::new(Some(file.into()));
        let passphrase = ring(&good).choose(&key).await.unwrap();
        let made = SigningKey::create_under(&key, Some(&passphrase)).unwrap();
        assert_eq!(ring(&good).open(&key).await.unwrap().public(), made.public());
        assert!(matches!(ring(&bad).open(&key).await, Err(Error::Key(keys::Error::Passphrase { .. }))));
        assert!(matches!(ring(&short).choose(&key).await, Err(Error::Length)));
        assert!(matches!(ring(&folder.path().join("none")).open(&key).await, Err(Error::File(_))));
    }
}
