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
                        info!(
                            freezes = rules.freezes.len(),
                            "the policy or the freezes were changed and hold from now on"
                        );
                        self.current.store(Arc::new(rules));
                        None
                    }
                    Err(fault) => {
                        let fault = chain(&fault).to_string();
                        error!(
                            fault,
                            "the policy or the freezes were changed and do not hold; commands are judged by the former"
                        );
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

#[cfg(test)]
mod tests {
    use sfdata_common::{
        policy::{AgentFacts, Resource},
        trust::Role,
    };

    use super::*;
    use crate::policy::explain::{Case, Explained};

    fn freeze(name: &str, from: &str, to: &str) -> Freeze {
        Freeze { name: name.into(), from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn judge(rules: &Rules, action: &str, class: &str, now: &str) -> Ruling {
        rules.judge(&Question {
            operator: &"alice".parse().unwrap(),
            roles: &[Role::Admin],
            action,
            class,
            resource: Resource::Agent(&"camden".parse().unwrap(), &AgentFacts::default()),
            reason: "",
            now: now.parse().unwrap(),
            signers: 1,
            freezes: &[],
        })
    }

    #[test]
    fn the_default_lets_everyday_work_through_and_no_change_in_a_freeze() {
        let rules = Rules::load(None, &[freeze("SSDA903 return", "2027-04-01", "2027-04-30")]).unwrap();
        assert!(rules.policy.warnings().is_empty(), "{:?}", rules.policy.warnings());
        let (before, within) = ("2027-03-31T12:00:00Z", "2027-04-15T12:00:00Z");
        for (action, class, at, allowed) in [
            ("ecs.status", "read", within, true),
            ("ecs.restart", "operate", within, true),
            ("ecs.deploy", "read", within, true), // its plan
            ("ecs.deploy", "change", before, true),
            ("logs.read", "data", before, false),
            ("aurora.delete-snapshot", "destroy", before, false),
        ] {
            assert_eq!(judge(&rules, action, class, at) == Ruling::Allowed, allowed, "{action} {class} {at}");
        }
        let Ruling::Frozen(why) = judge(&rules, "ecs.deploy", "change", within) else { panic!("not frozen") };
        assert!(why.contains("SSDA903 return (to 2027-04-30)") && why.contains("no changes in a freeze"), "{why}");
        // Data is closed with and without it: the freeze is not why.
        let Ruling::Denied(why) = judge(&rules, "logs.read", "data", within) else { panic!("not denied") };
        assert!(!why.contains("SSDA903"), "{why}");
    }

    #[test]
    fn freezes_may_overlap_and_all_are_told() {
        let rules =
            [freeze("CIN return", "2027-04-10", "2027-04-20"), freeze("SSDA903 return", "2027-04-01", "2027-04-15")];
        let rules = Rules::load(None, &rules).unwrap();
        let Ruling::Frozen(why) = judge(&rules, "ecs.deploy", "change", "2027-04-12T12:00:00Z") else {
            panic!("not frozen")
        };
        assert!(why.contains("CIN return (to 2027-04-20), SSDA903 return (to 2027-04-15)"), "{why}");
        assert_eq!(judge(&rules, "ecs.deploy", "change", "2027-04-20T23:00:00Z"), Ruling::Allowed);
    }

    /// The policy that ships, with its examples in force.
    fn with_examples() -> Rules {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: Vec<&str> = DEFAULT.lines().map(|line| line.strip_prefix("//: ").unwrap_or(line)).collect();
        fs::write(file.path(), text.join("\n")).unwrap();
        Rules::load(Some(file.path()), &[]).unwrap()
    }

    #[test]
    fn the_examples_of_the_policy_that_ships_do_what_they_say() {
        let rules = with_examples();
        for (action, class, at, expected) in [
            ("ecs.deploy", "change", "2027-05-04T09:00:00Z", true), // Tuesday 10:00 in summer
            ("ecs.deploy", "change", "2027-05-04T08:59:59Z", false),
            ("ecs.deploy", "change", "2027-05-06T14:59:59Z", true),
            ("ecs.deploy", "change", "2027-05-06T15:00:00Z", false),
            ("ecs.deploy", "change", "2027-05-07T12:00:00Z", false), // Friday
            ("ecs.deploy", "change", "2027-01-05T10:00:00Z", true),  // winter
            ("ecs.deploy", "change", "2027-01-05T09:59:59Z", false),
            ("ecs.restart", "operate", "2027-05-08T02:00:00Z", true),
            ("logs.read", "data", "2027-05-07T16:59:59Z", true),
            ("logs.read", "data", "2027-05-07T17:00:00Z", false),
        ] {
            assert_eq!(judge(&rules, action, class, at) == Ruling::Allowed, expected, "{action} at {at}");
        }
        let destroy = judge(&rules, "aurora.delete-snapshot", "destroy", "2027-05-08T02:00:00Z");
        assert_eq!(destroy, Ruling::OnApproval);
    }

    #[test]
    fn what_is_explained_is_what_the_door_does_and_why() {
        let rules = with_examples();
        let explain = |action: &str, class: Option<&str>, role: Role, at: &str| {
            let case = Case {
                operator: "alice".parse().unwrap(),
                roles: vec![role],
                action: action.into(),
                class: class.map(str::to_owned),
                at: Some(at.parse().unwrap()),
                reason: String::new(),
                signers: 1,
            };
            Explained::of(case, &rules, None, &"camden".parse().unwrap(), Timestamp::UNIX_EPOCH)
        };
        let denied = explain("ecs.deploy", None, Role::Admin, "2027-05-07T12:00").unwrap();
        assert!(!denied.is_allowed() && denied.class == "change" && denied.rules.len() == 1);
        let text = denied.to_string();
        let line = 1 + DEFAULT.lines().position(|line| line.contains("changes in the window")).unwrap();
        assert!(text.contains(&format!("line {line:<4} forbid: changes in the window")), "{text}");
        assert!(text.contains("Fri 7 May 2027 12:00 Europe/London"), "{text}");
        assert!(explain("ecs.deploy", Some("read"), Role::Viewer, "2027-05-07T12:00").unwrap().is_allowed(), "a plan");
        let waits = explain("aurora.delete-snapshot", None, Role::Admin, "2027-05-07T12:00").unwrap();
        assert!(waits.is_allowed() && waits.to_string().contains("sfdata-agent approve"), "{waits}");
        let role = explain("ecs.restart", None, Role::Viewer, "2027-05-07T12:00").unwrap();
        assert!(!role.is_allowed() && role.to_string().contains("no role of theirs"), "{role}");
        let unknown = explain("ecs.restrat", None, Role::Admin, "2027-05-07T12:00").unwrap_err().to_string();
        assert!(unknown.contains("ecs.restart"), "{unknown}");
        let class = explain("ecs.restart", Some("data"), Role::Admin, "2027-05-07T12:00").unwrap_err().to_string();
        assert!(class.contains("of operate or read"), "{class}");
    }

    #[test]
    fn a_changed_file_holds_from_the_next_question_on_and_a_bad_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let (policy, config) = (folder.path().join("agent.cedar"), folder.path().join("agent.toml"));
        let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
        let everything = "permit (principal, action, resource);";
        write(&policy, everything);
        write(&config, "data_dir = \"/x\"\n");
        let rules = Rules::load(Some(&policy), &[]).unwrap();
        let mut files = Files { policy: Some(policy.clone()), config: Some(config.clone()), read: vec![], fault: None };
        files.read = files.contents();
        let watched = Watched { current: ArcSwap::from_pointee(rules), files: Some(Mutex::new(files)) };
        let ask = || judge(&watched.rules(), "ecs.deploy", "change", "2027-04-12T12:00:00Z");
        assert_eq!(ask(), Ruling::Allowed);

        write(&policy, "forbid (principal, action == Action::\"ecs.depoly\", resource);");
        assert_eq!(ask(), Ruling::Allowed, "the former holds");
        assert!(watched.fault().unwrap().contains("ecs.deploy"), "{:?}", watched.fault());
        fs::remove_file(&policy).unwrap();
        assert_eq!(ask(), Ruling::Allowed);
        assert!(watched.fault().unwrap().contains("cannot read"), "{:?}", watched.fault());
        write(
            &policy,
            &format!("{everything}\nforbid (principal, action, resource) when {{ !context.freezes.isEmpty() }};"),
        );
        assert_eq!((ask(), watched.fault()), (Ruling::Allowed, None));

        let freeze = "[[freeze]]\nname = \"CIN return\"\nfrom = \"2027-04-01\"\nto = ";
        write(&config, &format!("{freeze}\"2027-04-30\"\n"));
        assert!(matches!(ask(), Ruling::Frozen(_)));
        write(&config, &format!("{freeze}\"2027-03-30\"\n"));
        assert!(matches!(ask(), Ruling::Frozen(_)), "the former holds");
        assert!(watched.fault().unwrap().contains("ends before"), "{:?}", watched.fault());
        write(&config, "");
        assert_eq!((ask(), watched.fault()), (Ruling::Allowed, None));
    }
}
