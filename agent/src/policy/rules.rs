//! What the LA's files say, as it was read last, and read again when they change. A file that does not hold never takes
//! the place of one that did: commands are judged by the former until it is put right.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Deserialize;
use sfdata_common::{
    config,
    error::chain,
    keyfile,
    policy::{Decided, Policy, Question, Side, Verdict},
};
use tracing::{error, info};

use super::{DEFAULT, Error, Freeze};
use crate::config::Config;

/// The policy and the calendar.
pub struct Rules {
    /// What is permitted and forbidden.
    pub policy: Policy,
    /// When it is less.
    pub freezes: Vec<Freeze>,
}

/// The LA's answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Yes.
    Allowed,
    /// Once the LA has approved it.
    OnApproval,
    /// No, and which rule says so.
    Denied(String),
    /// No, and without the freezes it would be yes.
    Frozen(String),
}

impl Rules {
    /// Read what the configuration names: its policy, or the default that ships.
    pub fn load(policy: Option<&Path>, freezes: &[Freeze]) -> Result<Self, Error> {
        let (path, text) = match policy {
            Some(path) => (path, String::from_utf8_lossy(&keyfile::read(path)?).into_owned()),
            None => (Path::new("agent.cedar"), DEFAULT.to_owned()),
        };
        let parsed = Policy::parse(&text, Side::Agent);
        let policy = parsed.map_err(|source| Error::Policy { path: path.into(), source })?;
        Ok(Self { policy, freezes: freezes.to_vec() })
    }

    /// The freezes in force at that time.
    pub fn in_force(&self, at: Timestamp) -> Vec<&Freeze> {
        self.freezes.iter().filter(|freeze| freeze.holds(at)).collect()
    }

    /// Ask with the freezes that are in force at the question's time.
    pub fn decide(&self, question: &Question<'_>) -> Decided<'_> {
        let names: Vec<&str> = self.in_force(question.now).iter().map(|freeze| freeze.name.as_str()).collect();
        self.policy.decide(&Question { freezes: &names, ..*question })
    }

    /// Judge, and tell a freeze from other reasons.
    pub fn judge(&self, question: &Question<'_>) -> Ruling {
        let why = match self.decide(question).verdict {
            Verdict::Allowed => return Ruling::Allowed,
            Verdict::OnApproval => return Ruling::OnApproval,
            Verdict::Denied(why) => why,
        };
        let frozen = self.in_force(question.now);
        let thawed = || self.policy.ask(&Question { freezes: &[], ..*question });
        if frozen.is_empty() || matches!(thawed(), Verdict::Denied(_)) {
            return Ruling::Denied(why);
        }
        let each: Vec<String> = frozen.iter().map(|freeze| format!("{} (to {})", freeze.name, freeze.to)).collect();
        Ruling::Frozen(format!("frozen for {}: {why}", each.join(", ")))
    }
}

/// The rules in force; share it by `Arc`.
pub struct Watched {
    current: ArcSwap<Rules>,
    files: Option<Mutex<Files>>,
}

struct Files {
    policy: Option<PathBuf>,
    /// The configuration, for its freezes.
    config: Option<PathBuf>,
    /// What was read last, good or bad.
    read: Vec<Option<Vec<u8>>>,
    fault: Option<String>,
}

impl Files {
    fn contents(&self) -> Vec<Option<Vec<u8>>> {
        [&self.policy, &self.config].into_iter().flatten().map(|path| fs::read(path).ok()).collect()
    }

    fn load(&self, before: &Rules) -> Result<Rules, Error> {
        let freezes = match &self.config {
            Some(path) => config::load::<Calendar>(path)?.checked(path)?,
            None => before.freezes.clone(),
        };
        Rules::load(self.policy.as_deref(), &freezes)
    }
}

/// The part of the configuration that is read again.
#[derive(Deserialize)]
struct Calendar {
    #[serde(default)]
    freeze: Vec<Freeze>,
}

impl Calendar {
    fn checked(self, path: &Path) -> Result<Vec<Freeze>, Error> {
        match self.freeze.iter().find_map(|freeze| Some((freeze.name.clone(), freeze.odd()?))) {
            Some((name, why)) => Err(Error::Freeze { path: path.into(), name, why }),
            None => Ok(self.freeze),
        }
    }
}

impl Watched {
    /// Read what the configuration names. The file that it came from is looked at for its freezes.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let mut files =
            Files { policy: config.policy.clone(), config: config.file.clone(), read: Vec::new(), fault: None };
        files.read = files.contents();
        let rules = Rules::load(config.policy.as_deref(), &config.freeze)?;
        Ok(Self { current: ArcSwap::from_pointee(rules), files: Some(Mutex::new(files)) })
    }

    /// Rules that stay as they are.
    pub fn fixed(rules: Arc<Rules>) -> Self {
        Self { current: ArcSwap::new(rules), files: None }
    }

    /// The rules to go by now: read again if a file has changed.
    pub fn rules(&self) -> Arc<Rules> {
        if let Some(files) = &self.files {
            let files = &mut *files.lock().unwrap_or_else(PoisonError::into_inner);
            let read = files.contents();
            if read != files.read {
                files.read = read;
                files.fault = match files.load(&self.current.load()) {
                    Ok(rules) => {
                        info!(freezes = rules.freezes.len(), "the policy or the freezes were changed and hold from now on");
                        self.current.store(Arc::new(rules));
                        None
                    }
                    Err(fault) => {
                        let fault = chain(&fault).to_string();
                        error!(fault, "the policy or the freezes were changed and do not hold; commands are judged by the former");
                        Some(fault)
                    }
                };
            }
        }
        self.current.load_full()
    }

    /// Why the files as they are now are not what commands are judged by.
    pub fn fault(&self) -> Option<String> {
        let _ = self.rules();
        self.files.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }
}
