//! Files that hold secrets or that must be whole: private keys are 0600 and refused when wider,
//! every write goes to a neighbour first and is renamed into place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others may read a private key.
    #[error("{path} holds a private key and has mode {mode:04o}; others may read it. Run: chmod 600 {path}")]
    TooOpen {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is something already.
    #[error("{path} exists already and is not overwritten; move it away first if a new one is wanted")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {path}; check that its folder exists, may be written and has room")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Read a private key's text; refused when group or others may read it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let read = |source| Error::Read { path: path.into(), source };
    let file = File::open(path).map_err(read)?;
    let mode = file.metadata().map_err(read)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::TooOpen { path: path.into(), mode });
    }
    io::read_to_string(file).map(Zeroizing::new).map_err(read)
}

/// Read a file that is no secret.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

/// Write a private key, mode 0600; an existing file is left alone and is an error.
pub fn create_secret(path: &Path, text: &str) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::Exists { path: path.into() });
    }
    replace(path, text.as_bytes(), 0o600)
}

/// Write a private key, mode 0600, in place of the one that is there.
pub fn replace_secret(path: &Path, text: &str) -> Result<(), Error> {
    replace(path, text.as_bytes(), 0o600)
}

/// Write a file that is no secret, whole or not at all.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), Error> {
    replace(path, contents, 0o644)
}

fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let attempt = || {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = folder.join(name);
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| Error::Write { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_wide_open_key_is_refused_and_says_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        create_secret(&path, "secret").unwrap();
        assert_eq!(read_secret(&path).unwrap().as_str(), "secret");
        assert!(matches!(create_secret(&path, "other"), Err(Error::Exists { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        assert!(!error.contains("secret"));
    }
}
