//! The key that signs receipts, and how a new one takes its place without a break.
//!
//! The next key is a file beside the present one. While it is there, the agent tells its hub, signed by both keys; when the
//! hub has it on its register, the file takes the place of the present one. A crash at any point repeats the telling. Receipts
//! that the old key has signed and that are on their way are good for a day.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    dispatch::RECEIPT_KEY_PAYLOAD_TYPE,
    envelope,
    ids::AgentId,
    keyfile,
    keys::{self, PublicKey, SigningKey},
};
use sfdata_proto::v1 as wire;
use tracing::{info, warn};

use super::RECEIPT_FILE;

const NEXT_FILE: &str = "receipt-next.key";

/// Make the next key of the agent in `data_dir`, or find the one that waits; its public half.
pub fn stage(data_dir: &Path) -> Result<PublicKey, keys::Error> {
    let path = data_dir.join(NEXT_FILE);
    let key = if path.exists() { SigningKey::read(&path)? } else { SigningKey::create(&path)? };
    Ok(key.public())
}

/// The present key of the agent in `data_dir`.
pub fn present(data_dir: &Path) -> Result<PublicKey, keys::Error> {
    Ok(SigningKey::read(&data_dir.join(RECEIPT_FILE))?.public())
}

/// The key in use.
pub(super) struct Receipts {
    current: ArcSwap<SigningKey>,
    /// `None` keeps its key.
    data_dir: Option<PathBuf>,
}

impl Receipts {
    pub(super) fn new(key: Arc<SigningKey>, data_dir: Option<PathBuf>) -> Self {
        Self { current: ArcSwap::new(key), data_dir }
    }

    pub(super) fn key(&self) -> Arc<SigningKey> {
        self.current.load_full()
    }

    fn next(&self) -> Option<(PathBuf, SigningKey)> {
        let path = self.data_dir.as_ref()?.join(NEXT_FILE);
        if !path.exists() {
            return None;
        }
        match SigningKey::read(&path) {
            Ok(key) => Some((path, key)),
            Err(error) => {
                warn!(%error, "the next receipt key can't be used; the present one stays");
                None
            }
        }
    }

    /// What the hub is to be told, while there is a next key.
    pub(super) fn statement(&self, agent: &AgentId, now: Timestamp) -> Option<wire::Envelope> {
        let (_, next) = self.next()?;
        let statement = wire::ReceiptKey {
            agent_id: agent.to_string(),
            public_key: next.public().as_bytes().to_vec().into(),
            made_unix_ms: now.as_millisecond(),
        };
        let mut signed = envelope::seal(RECEIPT_KEY_PAYLOAD_TYPE, statement.encode_to_vec(), &self.current.load());
        envelope::add_signature(&mut signed, &next);
        Some(signed)
    }

    /// The hub has this key on its register: it is the present one from now on.
    pub(super) fn taken(&self, public: &[u8]) -> Result<(), keyfile::Error> {
        let Some((path, next)) = self.next().filter(|(_, next)| next.public().as_bytes() == public) else {
            return Ok(());
        };
        let present = path.with_file_name(RECEIPT_FILE);
        let moved = fs::rename(&path, &present).and_then(|()| sync_folder(&present));
        moved.map_err(|source| keyfile::Error::Write { path: present, source })?;
        info!(key = %next.public(), "receipts are signed by a new key from now on");
        self.current.store(Arc::new(next));
        Ok(())
    }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}
