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
use sfdata_common::{error::chain, ids::AgentId, keys::sha256, trust::Bundle};
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
    enrol::{
        identity::{self, HubKeys, IDENTITY_FILE},
        serving::{self, Serving},
    },
    fleet::{Fleet, ca_id},
    store::{self, Batch, Store},
    trust::Trust,
};

const SOCKET: &str = "keys.sock";
/// Longest request, and how long one may take.
const REQUEST: u64 = 64;
const SOON: Duration = Duration::from_secs(10);
/// So many of those left behind are named.
const NAMED: usize = 20;

/// Which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Signs dispatches.
    Dispatch,
    /// Issues certificates.
    Ca,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Ca => "ca",
        }
    }

    /// As people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch key",
            Self::Ca => "CA",
        }
    }
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Say where it stands.
    Show,
    /// Have a next one.
    Stage,
    /// Use the next one from now on.
    Activate {
        /// Whoever is left behind.
        force: bool,
    },
}

impl Step {
    const ALL: [Self; 4] = [Self::Show, Self::Stage, Self::Activate { force: false }, Self::Activate { force: true }];

    fn as_str(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Stage => "stage",
            Self::Activate { force: false } => "activate",
            Self::Activate { force: true } => "activate force",
        }
    }
}

fn parse(request: &str) -> Option<(What, Step)> {
    let (what, step) = request.split_once(' ')?;
    let what = [What::Dispatch, What::Ca].into_iter().find(|one| one.as_str() == what)?;
    Some((what, Step::ALL.into_iter().find(|one| one.as_str() == step)?))
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
    /// The hub's own certificate.
    #[error(transparent)]
    Serving(#[from] serving::Error),
    /// Nothing to activate.
    #[error("there is no next {}; begin with: sfdata-hub rotate {} --stage", what.name(), what.as_str())]
    NotStaged {
        /// Of what.
        what: What,
    },
    /// The root keys have not signed it.
    #[error(
        "the trust bundle does not list the next {} {next} yet; with {identity}: hubctl trust update-hub, sign, publish",
        what.name()
    )]
    NotListed {
        /// Of what.
        what: What,
        /// The next one.
        next: String,
        /// The file that shows it.
        identity: PathBuf,
    },
    /// Some would refuse what it signs.
    #[error(
        "{} of {of} agents do not hold trust bundle version {version} yet, which lists the next one, and would refuse it until \
         they do: {}. Wait for them, lock or remove who does not come back (hubctl agents lock), or say --force",
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

    /// Do one step; what there is to say of it.
    pub async fn turn(&self, what: What, step: Step, serving: &Serving, now: Timestamp) -> Result<String, Error> {
        let mut keys = self.keys.lock().await;
        match step {
            Step::Show => {}
            Step::Stage => {
                let known = Stand::of(what, &keys).next.is_some();
                match what {
                    What::Dispatch => drop(keys.stage_dispatch()?),
                    What::Ca => drop(keys.stage_ca(now)?),
                }
                if !known {
                    self.record("key.staged", what, Stand::of(what, &keys).next, now).await?;
                }
            }
            Step::Activate { force } => {
                let next = Stand::of(what, &keys).next.ok_or(Error::NotStaged { what })?;
                let identity = || self.folder.join(IDENTITY_FILE);
                let version = self.listed_since(what, &keys)?;
                let version =
                    version.ok_or_else(|| Error::NotListed { what, next: next.clone(), identity: identity() })?;
                let (behind, of) = self.fleet.behind(version);
                if !behind.is_empty() && !force {
                    return Err(Error::Behind { behind, of, version });
                }
                self.record("key.activated", what, Some(next.clone()), now).await?;
                match what {
                    What::Dispatch => keys.activate_dispatch()?,
                    What::Ca => {
                        keys.activate_ca()?;
                        serving.renew(now)?;
                    }
                }
                info!(what = what.name(), next, "another one is used from now on");
            }
        }
        self.said(what, &keys, now)
    }

    async fn record(&self, kind: &str, what: What, next: Option<String>, now: Timestamp) -> Result<(), store::Error> {
        let mut batch = Batch::default();
        batch.audit(audit::draft(now, kind, audit::HUB, what.name(), next.unwrap_or_default()));
        self.store.commit(batch).await
    }

    /// The version from which on every bundle has listed the next one.
    fn listed_since(&self, what: What, keys: &HubKeys) -> Result<Option<u64>, store::Error> {
        match (what, &keys.next_dispatch, &keys.next_authority) {
            (What::Dispatch, Some(next), _) => self.trust.lists_dispatch_since(&next.public()),
            (What::Ca, _, Some(next)) => self.trust.lists_ca_since(&next.certificate()),
            _ => Ok(None),
        }
    }

    fn said(&self, what: What, keys: &HubKeys, now: Timestamp) -> Result<String, Error> {
        let Stand { current, next } = Stand::of(what, keys);
        let listed = self.trust.with(|bundle| Stand::listed(what, bundle)).unwrap_or_default();
        let gone: Vec<&(String, String)> =
            listed.iter().filter(|(one, _)| *one != current && Some(one) != next.as_ref()).collect();
        let mut text = format!("in use     {current} ({})\n", Stand::place(what, keys));
        if let Some(next) = next {
            text += &format!("next       {next}\n");
            text += &match self.listed_since(what, keys)? {
                None => "next step  hubctl trust update-hub, with hub-identity.pem; sign; publish\n".to_owned(),
                Some(version) => match self.fleet.behind(version) {
                    (behind, _) if behind.is_empty() => {
                        format!("next step  sfdata-hub rotate {} --activate\n", what.as_str())
                    }
                    (behind, of) => format!(
                        "next step  wait: {} of {of} agents do not hold bundle version {version}: {}\n",
                        behind.len(),
                        names(&behind)
                    ),
                },
            };
        }
        for (old, ca) in gone {
            text += &format!("no more    {old}, and still in the bundle: hubctl trust update-hub; sign; publish\n");
            let holding = if what == What::Ca { self.fleet.holding(std::slice::from_ref(ca), now) } else { Vec::new() };
            if let Some(first) = holding.first() {
                text +=
                    &format!("           not yet: {} members hold a certificate of it, {first} first\n", holding.len());
            }
        }
        Ok(text)
    }
}

/// What is in use and what is next, in words.
struct Stand {
    current: String,
    next: Option<String>,
}

impl Stand {
    fn of(what: What, keys: &HubKeys) -> Self {
        match what {
            What::Dispatch => Self {
                current: keys.dispatch.load().public().to_string(),
                next: keys.next_dispatch.as_ref().map(|next| format!("{}", next.public())),
            },
            What::Ca => Self {
                current: fingerprint(&keys.authority.certificate()),
                next: keys.next_authority.as_ref().map(|next| fingerprint(&next.certificate())),
            },
        }
    }

    fn place(what: What, keys: &HubKeys) -> String {
        match (what, &keys.next_dispatch) {
            (What::Ca, _) => "a file".to_owned(),
            (What::Dispatch, None) => keys.dispatch.load().place(),
            (What::Dispatch, Some(next)) => format!("{}; the next: {}", keys.dispatch.load().place(), next.place()),
        }
    }

    /// All that a bundle lists, in words, and the id of a CA.
    fn listed(what: What, bundle: &Bundle) -> Vec<(String, String)> {
        match what {
            What::Dispatch => bundle.dispatch_keys.iter().map(|key| (key.to_string(), String::new())).collect(),
            What::Ca => bundle.ca_certificates.iter().map(|der| (fingerprint(der), ca_id(der))).collect(),
        }
    }
}

/// As `hubctl trust show` has it.
fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha256(der)))
}

/// Take requests until `stop`.
pub(crate) fn listen(
    rotation: Arc<Rotation>,
    serving: Arc<Serving>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> io::Result<()> {
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
            let answered = async { timeout(SOON, answer(stream?.0, &rotation, &serving)).await.unwrap_or(Ok(())) };
            if let Err(error) = answered.await {
                warn!(error = %chain(&error), "a request about keys was broken off");
            }
        }
        let _ = fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(stream: UnixStream, rotation: &Rotation, serving: &Serving) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut request = String::new();
    reader.take(REQUEST).read_to_string(&mut request).await?;
    let text = match parse(&request) {
        None => "error\nthis hub does not know such a request".to_owned(),
        Some((what, step)) => match rotation.turn(what, step, serving, Timestamp::now()).await {
            Ok(said) => format!("ok\n{said}"),
            Err(error) => format!("error\n{}", chain(&error)),
        },
    };
    writer.write_all(text.as_bytes()).await
}

/// Ask the hub that runs in `data_dir`: what it says, or why it does not do it.
pub fn ask(data_dir: &Path, what: What, step: Step) -> io::Result<Result<String, String>> {
    let stream = Blocking::connect(data_dir.join(SOCKET))?;
    stream.set_read_timeout(Some(2 * SOON))?;
    io::Write::write_all(&mut &stream, format!("{} {}", what.as_str(), step.as_str()).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let text = io::read_to_string(&stream)?;
    Ok(match text.split_once('\n') {
        Some(("ok", said)) => Ok(said.to_owned()),
        Some((_, why)) => Err(why.to_owned()),
        None => Err("the hub broke off; its log tells why".to_owned()),
    })
}
