//! Keys of the hub take each other's place while it runs: `sfdata-hub rotate`, over a socket in its folder that only its own
//! user can open.
//!
//! A key is staged, the root keys sign it into a trust bundle, every agent takes that bundle, and only then is it activated.
//! Invariant: nothing is signed by a key that an agent which is to believe it does not list, unless somebody forces it.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixStream as Blocking},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{error::chain, ids::AgentId, keys::PublicKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Mutex,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    audit,
    enrol::identity::{self, HubKeys, IDENTITY_FILE},
    fleet::Fleet,
    store::{self, Batch, Store},
    trust::Trust,
};

const SOCKET: &str = "keys.sock";
/// Longest request, and how long one may take.
const REQUEST: u64 = 64;
const SOON: Duration = Duration::from_secs(10);
/// So many of those left behind are named.
const NAMED: usize = 20;

/// What is to be done about the dispatch key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Say where it stands.
    Show,
    /// Have a next key.
    Stage,
    /// Sign with the next key from now on.
    Activate {
        /// Whoever is left behind.
        force: bool,
    },
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Stage => "stage",
            Self::Activate { force: false } => "activate",
            Self::Activate { force: true } => "activate force",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Show, Self::Stage, Self::Activate { force: false }, Self::Activate { force: true }]
            .into_iter()
            .find(|step| step.as_str() == text)
    }
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] identity::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Nothing to activate.
    #[error("there is no next dispatch key; begin with: sfdata-hub rotate dispatch --stage")]
    NotStaged,
    /// The root keys have not signed it.
    #[error(
        "the trust bundle does not list the next dispatch key {next} yet; with {identity}: hubctl trust update-hub, sign, publish"
    )]
    NotListed {
        /// The next key.
        next: PublicKey,
        /// The file that shows it.
        identity: PathBuf,
    },
    /// Some would refuse what it signs.
    #[error(
        "{} of {of} agents do not hold trust bundle version {version} yet, which lists the next key, and would refuse what it \
         signs until they do: {}. Wait for them, lock or remove who does not come back (hubctl agents lock), or say --force",
        behind.len(), names(behind)
    )]
    Behind {
        /// Who.
        behind: Vec<AgentId>,
        /// Agents in all.
        of: usize,
        /// The version.
        version: u64,
    },
}

fn names(agents: &[AgentId]) -> String {
    let mut names: Vec<&str> = agents.iter().take(NAMED).map(AgentId::as_str).collect();
    if agents.len() > NAMED {
        names.push("...");
    }
    names.join(", ")
}

/// Rotates the hub's keys; share it by `Arc`.
pub struct Rotation {
    keys: Mutex<HubKeys>,
    trust: Arc<Trust>,
    fleet: Arc<Fleet>,
    store: Store,
    folder: PathBuf,
}

impl Rotation {
    /// Of these keys, which lie in `folder`.
    pub fn new(keys: HubKeys, trust: Arc<Trust>, fleet: Arc<Fleet>, store: Store, folder: &Path) -> Self {
        Self { keys: Mutex::new(keys), trust, fleet, store, folder: folder.into() }
    }

    /// Do one step with the dispatch key; what there is to say of it.
    pub async fn dispatch(&self, step: Step, now: Timestamp) -> Result<String, Error> {
        let mut keys = self.keys.lock().await;
        match step {
            Step::Show => {}
            Step::Stage => {
                let known = keys.next_dispatch.is_some();
                let next = keys.stage_dispatch()?;
                if !known {
                    self.record("key.staged", next.public(), now).await?;
                }
            }
            Step::Activate { force } => {
                let next = keys.next_dispatch.as_ref().map(|next| next.public()).ok_or(Error::NotStaged)?;
                let identity = || self.folder.join(IDENTITY_FILE);
                let version = self.trust.lists_dispatch_since(&next)?;
                let version = version.ok_or_else(|| Error::NotListed { next, identity: identity() })?;
                let (behind, of) = self.fleet.behind(version);
                if !behind.is_empty() && !force {
                    return Err(Error::Behind { behind, of, version });
                }
                self.record("key.activated", next, now).await?;
                keys.activate_dispatch()?;
                info!(key = %next, "dispatches are signed by another key from now on");
            }
        }
        Ok(self.said(&keys)?)
    }

    async fn record(&self, kind: &str, key: PublicKey, now: Timestamp) -> Result<(), store::Error> {
        let mut batch = Batch::default();
        batch.audit(audit::draft(now, kind, audit::HUB, "dispatch key", key.to_string()));
        self.store.commit(batch).await
    }

    fn said(&self, keys: &HubKeys) -> Result<String, store::Error> {
        let current = keys.dispatch.load_full();
        let listed = self.trust.with(|bundle| bundle.dispatch_keys.clone()).unwrap_or_default();
        let mut text = format!("signs      {} in {}\n", current.public(), current.place());
        if let Some(next) = &keys.next_dispatch {
            text += &format!("next       {} in {}\n", next.public(), next.place());
            text += &match self.trust.lists_dispatch_since(&next.public())? {
                None => "next step  hubctl trust update-hub, with hub-identity.pem; sign; publish\n".to_owned(),
                Some(version) => match self.fleet.behind(version) {
                    (behind, _) if behind.is_empty() => "next step  sfdata-hub rotate dispatch --activate\n".to_owned(),
                    (behind, of) => format!(
                        "next step  wait: {} of {of} agents do not hold bundle version {version}: {}\n",
                        behind.len(),
                        names(&behind)
                    ),
                },
            };
        }
        for old in listed.iter().filter(|key| {
            **key != current.public() && keys.next_dispatch.as_ref().is_none_or(|next| next.public() != **key)
        }) {
            text += &format!("no more    {old}, and still in the bundle: hubctl trust update-hub; sign; publish\n");
        }
        Ok(text)
    }
}

/// Take requests until `stop`.
pub(crate) fn listen(rotation: Arc<Rotation>, tasks: &TaskTracker, stop: CancellationToken) -> io::Result<()> {
    let path = rotation.folder.join(SOCKET);
    // The store's lock is ours, so a socket that is there is left over.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    tasks.spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let answered = async { timeout(SOON, answer(stream?.0, &rotation)).await.unwrap_or(Ok(())) };
            if let Err(error) = answered.await {
                warn!(error = %chain(&error), "a request about keys was broken off");
            }
        }
        let _ = fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(stream: UnixStream, rotation: &Rotation) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut request = String::new();
    reader.take(REQUEST).read_to_string(&mut request).await?;
    let text = match Step::parse(&request) {
        None => "error\nthis hub does not know such a request".to_owned(),
        Some(step) => match rotation.dispatch(step, Timestamp::now()).await {
            Ok(said) => format!("ok\n{said}"),
            Err(error) => format!("error\n{}", chain(&error)),
        },
    };
    writer.write_all(text.as_bytes()).await
}

/// Ask the hub that runs in `data_dir`: what it says, or why it does not do it.
pub fn ask(data_dir: &Path, step: Step) -> io::Result<Result<String, String>> {
    let stream = Blocking::connect(data_dir.join(SOCKET))?;
    stream.set_read_timeout(Some(2 * SOON))?;
    io::Write::write_all(&mut &stream, step.as_str().as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let text = io::read_to_string(&stream)?;
    Ok(match text.split_once('\n') {
        Some(("ok", said)) => Ok(said.to_owned()),
        Some((_, why)) => Err(why.to_owned()),
        None => Err("the hub broke off; its log tells why".to_owned()),
    })
}
