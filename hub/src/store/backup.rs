//! Backup and restore: every record, framed and closed by a digest, so that a cut or changed file is seen.
//!
//! Written by the writer between two commits, therefore consistent. Keys of the hub are not in it: they are files of
//! their own and are kept apart from the data.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message as _;

use super::{FOLDER, keys, log, records, writer};

const MAGIC: &[u8] = b"sfdata-hub backup 1\n";
/// Larger than any record: an outcome, its receipt and a message's overhead.
const MAX_FIELD: u32 = 4 * 1024 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Number of records.
    pub records: u64,
}

/// Why a backup or restore failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing the backup.
    #[error("cannot read or write the backup")]
    File(#[from] io::Error),
    /// It is not a backup, or not a whole one.
    #[error("this is not a whole backup of a hub: {0}; take another one")]
    NotWhole(&'static str),
    /// The store.
    #[error(transparent)]
    Store(#[from] super::Error),
}

struct Digesting<W> {
    out: W,
    context: Context,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

pub(super) fn write(db: &sled::Db, out: Box<dyn Write + Send>) -> Result<Summary, Error> {
    let mut out = Digesting { out: BufWriter::new(out), context: Context::new(&SHA256) };
    out.write_all(MAGIC)?;
    let mut records = 0;
    for item in db.iter() {
        let (key, value) = item.map_err(io::Error::other)?;
        out.write_all(&u32::try_from(key.len()).map_err(io::Error::other)?.to_be_bytes())?;
        out.write_all(&key)?;
        out.write_all(&u32::try_from(value.len()).map_err(io::Error::other)?.to_be_bytes())?;
        out.write_all(&value)?;
        records += 1;
    }
    out.write_all(&u32::MAX.to_be_bytes())?;
    let Digesting { mut out, context } = out;
    out.write_all(context.finish().as_ref())?;
    out.flush()?;
    Ok(Summary { records })
}

/// Read a whole backup and check its digest; `each` gets every record.
pub fn read(input: impl Read, mut each: impl FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>) -> Result<Summary, Error> {
    let mut input = BufReader::new(input);
    let mut context = Context::new(&SHA256);
    let mut take = |length: usize| -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes).map_err(|_| Error::NotWhole("it ends too early"))?;
        Ok(bytes)
    };
    let magic = take(MAGIC.len())?;
    if magic != MAGIC {
        return Err(Error::NotWhole("it does not begin as one"));
    }
    context.update(&magic);
    let mut records = 0;
    loop {
        let mut field = |may_end: bool| -> Result<Option<Vec<u8>>, Error> {
            let length = take(4)?;
            context.update(&length);
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            if may_end && length == u32::MAX {
                return Ok(None);
            }
            if length > MAX_FIELD {
                return Err(Error::NotWhole("a record is too large"));
            }
            let bytes = take(length as usize)?;
            context.update(&bytes);
            Ok(Some(bytes))
        };
        let Some(key) = field(true)? else { break };
        let value = field(false)?.unwrap_or_default();
        each(key, value)?;
        records += 1;
    }
    if take(32)? != context.finish().as_ref() {
        return Err(Error::NotWhole("its digest does not match"));
    }
    Ok(Summary { records })
}

/// Move the store of `data_dir` aside, whole or damaged, to a folder beside it that is told; nothing if there is none. One that a
/// hub has open stays.
pub fn set_aside(data_dir: &Path) -> Result<Option<PathBuf>, Error> {
    let path = data_dir.join(FOLDER);
    if !path.exists() {
        return Ok(None);
    }
    // The file that the database itself locks, opened for writing as NFS wants it of who locks. Without it nobody has a store open.
    match std::fs::File::options().read(true).write(true).open(path.join("db")) {
        Ok(file) => match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(super::Error::InUse { path }.into()),
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let aside = (1..).map(|number| data_dir.join(format!("{FOLDER}.aside-{number}"))).find(|path| !path.exists());
    let aside = aside.unwrap_or_default();
    std::fs::rename(&path, &aside)?;
    std::fs::File::open(data_dir)?.sync_all()?;
    Ok(Some(aside))
}

/// Make a new store in `data_dir` from a backup, in the epoch after the backup's: the agents may have seen
/// more sequence numbers than the backup knows. An existing store is left alone.
pub fn restore(data_dir: &Path, input: impl Read) -> Result<(Summary, u64), Error> {
    let path = data_dir.join(FOLDER);
    if path.exists() {
        return Err(super::Error::Present { path }.into());
    }
    // Filled beside its place and renamed when whole, so that a restore that was cut off is no store.
    let partial = data_dir.join("store.restoring");
    match std::fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let db = super::open_sled(&partial)?;
    let summary = read(input, |key, value| db.insert(key, value).map(|_| ()).map_err(io::Error::other))?;
    let schema = db.get(keys::SCHEMA).map_err(io::Error::other)?.ok_or(Error::NotWhole("it has no layout"))?;
    if schema.as_ref() != [super::SCHEMA] {
        let found = schema.first().copied().unwrap_or_default();
        return Err(super::Error::Schema { path: partial, found }.into());
    }
    let old = db.get(keys::EPOCH).map_err(io::Error::other)?;
    let old =
        old.and_then(|value| records::Epoch::decode(&value[..]).ok()).ok_or(Error::NotWhole("it has no epoch"))?;
    let epoch = records::Epoch { number: old.number + 1, statement: None };
    db.insert(keys::EPOCH, epoch.encode_to_vec()).map_err(io::Error::other)?;
    writer::sync(&db, &partial)?;
    log::Log::create(&partial, super::entries_of(&db)?)?;
    drop(db);
    std::fs::rename(&partial, &path)
        .and_then(|()| std::fs::File::open(data_dir)?.sync_all())
        .map_err(|source| super::Error::Write { path, source: Arc::new(source) })?;
    Ok((summary, epoch.number))
}
