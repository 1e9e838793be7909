//! The `[alerts]` section: which rules are on, how long they wait, and who is told.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use http::Uri;
use serde::Deserialize;

/// How long something has to be over before it counts as over.
const CLEAR: Duration = Duration::from_secs(5 * 60);
/// What comes up within so long is told together.
const GROUP: Duration = Duration::from_secs(30);

/// Every rule: its name, whether it is on, and for how many seconds it has to hold before it fires.
const RULES: [(&str, bool, u64); 27] = [
    // Of the hub itself.
    ("audit-broken", true, 0),
    ("disk-low", true, 60),
    ("hub-certificate-expires", true, 0),
    ("signer-away", true, 60),
    ("backup-failing", true, 300),
    // Of who may talk to it.
    ("operator-unused", true, 0),
    ("operator-key-expires", true, 0),
    // Of an LA, by the reasons of its health.
    ("away", true, 300),
    ("never-joined", false, 0),
    ("locked", true, 0),
    ("clone-suspected", true, 0),
    ("diverged", true, 60),
    ("held", true, 0),
    ("unreadable", true, 600),
    ("service-down", true, 600),
    ("waking-stuck", true, 0),
    ("power-fault", true, 300),
    ("run-failed", true, 0),
    ("no-delivery", true, 0),
    ("arrivals-parked", true, 0),
    ("arrivals-waiting", true, 0),
    ("clock-skew", true, 300),
    ("certificate-expires", true, 0),
    ("database-never-pauses", true, 3600),
    ("version-differs", false, 0),
    ("image-differs", false, 0),
    ("over-budget", true, 0),
];

/// The section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What differs from the defaults, by rule.
    pub rules: BTreeMap<String, Override>,
    /// What comes up within so long is told together.
    #[serde(with = "humantime_serde")]
    pub group: Duration,
    /// How long something has to be over before it counts as over.
    #[serde(with = "humantime_serde")]
    pub clear: Duration,
    /// A URL that is told.
    pub webhook: Option<Webhook>,
    /// People who are told.
    pub email: Option<Email>,
    /// A topic of AWS that is told.
    pub sns: Option<Sns>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rules: BTreeMap::new(), group: GROUP, clear: CLEAR, webhook: None, email: None, sns: None }
    }
}

/// What differs from a rule's default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Whether it is on.
    pub on: Option<bool>,
    /// For how long it has to hold before it fires.
    #[serde(with = "humantime_serde")]
    pub after: Option<Duration>,
}

/// `[alerts.webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where a notice is POSTed.
    pub url: String,
    /// A file with the secret that signs it.
    pub secret_file: PathBuf,
}

/// `[alerts.email]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// `smtps://USER@HOST:465`, or `smtp://USER@HOST:587` with STARTTLS.
    pub server: String,
    /// A file with the user's password.
    pub password_file: Option<PathBuf>,
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

/// `[alerts.sns]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sns {
    /// The topic's ARN.
    pub topic: String,
    /// Speak to this URL instead of AWS; for a stand-in.
    pub endpoint_url: Option<String>,
    /// A credentials file of the AWS tools, `[default]` profile, instead of the task's role; outside AWS only.
    pub credentials_file: Option<PathBuf>,
}

/// One rule as it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is on.
    pub on: bool,
    /// For how long it has to hold before it fires.
    pub after: Duration,
}

/// Why the section can't be meant.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such rule.
    #[error("alerts.rules.{name}: there is no such rule; there are {}", RULES.map(|(name, ..)| name).join(", "))]
    Rule {
        /// What was given.
        name: String,
    },
    /// Not to be sent in the clear.
    #[error("{key} is {url:?}; write an https: URL (smtps: or smtp: for e-mail), or one of this machine alone")]
    Url {
        /// Which key.
        key: &'static str,
        /// What was given.
        url: String,
    },
    /// An ARN.
    #[error("alerts.sns.topic is {topic:?}; write the ARN of a topic, arn:aws:sns:REGION:ACCOUNT:NAME")]
    Topic {
        /// What was given.
        topic: String,
    },
    /// An address.
    #[error("alerts.email.{key} has {address:?}, which is no e-mail address")]
    Address {
        /// Which key.
        key: &'static str,
        /// What was given.
        address: String,
    },
}

impl Settings {
    /// A rule; one that nobody knows is off.
    pub fn rule(&self, name: &str) -> Rule {
        let usual = RULES.iter().find(|(known, ..)| *known == name);
        let (on, after) = usual.map_or((false, 0), |(_, on, after)| (*on, *after));
        let own = self.rules.get(name).copied().unwrap_or_default();
        Rule { on: own.on.unwrap_or(on), after: own.after.unwrap_or(Duration::from_secs(after)) }
    }

    /// What can't be meant.
    pub fn check(&self) -> Vec<Problem> {
        let known = |name: &String| RULES.iter().any(|(rule, ..)| rule == name);
        let odd = self.rules.keys().filter(|name| !known(name));
        let mut problems: Vec<Problem> = odd.map(|name| Problem::Rule { name: name.clone() }).collect();
        if let Some(webhook) = &self.webhook
            && !is_private(&webhook.url, &["https"])
        {
            problems.push(Problem::Url { key: "alerts.webhook.url", url: webhook.url.clone() });
        }
        if let Some(email) = &self.email {
            // smtp: begins in the clear, and goes on with STARTTLS or not at all.
            if !is_private(&email.server, &["smtps", "smtp"]) {
                problems.push(Problem::Url { key: "alerts.email.server", url: email.server.clone() });
            }
            let given = std::iter::once(("from", &email.from)).chain(email.to.iter().map(|to| ("to", to)));
            let odd = given.filter(|(_, address)| address.parse::<lettre::message::Mailbox>().is_err());
            problems.extend(odd.map(|(key, address)| Problem::Address { key, address: address.clone() }));
            if email.to.is_empty() {
                problems.push(Problem::Address { key: "to", address: String::new() });
            }
        }
        if let Some(sns) = self.sns.as_ref().filter(|sns| topic_region(&sns.topic).is_none()) {
            problems.push(Problem::Topic { topic: sns.topic.clone() });
        }
        problems
    }
}

/// Whether nobody can listen: by one of these schemes, or on this machine.
fn is_private(url: &str, schemes: &[&str]) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
    schemes.contains(&scheme) || scheme == "http" && is_local(host)
}

/// Whether it is this machine.
pub(super) fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The region of a topic's ARN.
pub(super) fn topic_region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _, "sns", region, account, name] = parts[..] else { return None };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (is_account && !region.is_empty() && !name.is_empty()).then_some(region)
}

#[cfg(test)]
mod tests {
    use sfdata_common::words::span;

    use super::*;

    fn problems(settings: &Settings) -> Vec<String> {
        settings.check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cannot_be_meant_is_told_all_at_once() {
        let webhook = |url: &str| Webhook { url: url.into(), secret_file: "s".into() };
        let mut settings = Settings {
            rules: BTreeMap::from([("awya".to_owned(), Override::default())]),
            webhook: Some(webhook("http://hooks.example/a")),
            email: Some(Email {
                server: "mail.example".into(),
                password_file: None,
                from: "nobody".into(),
                to: vec![],
            }),
            sns: Some(Sns { topic: "alerts".into(), endpoint_url: None, credentials_file: None }),
            ..Settings::default()
        };
        let told = problems(&settings);
        assert_eq!(told.len(), 6, "{told:#?}");
        assert!(told[0].starts_with("alerts.rules.awya: there is no such rule; there are audit-broken, "), "{told:?}");
        settings = Settings {
            webhook: Some(webhook("https://hooks.example/a")),
            email: Some(Email {
                server: "smtps://hub@mail.example:465".into(),
                password_file: None,
                from: "Hub <hub@region.example>".into(),
                to: vec!["team@region.example".into()],
            }),
            sns: Some(Sns {
                topic: "arn:aws:sns:eu-west-2:111111111111:alerts".into(),
                endpoint_url: None,
                credentials_file: None,
            }),
            ..Settings::default()
        };
        assert_eq!(problems(&settings), [""; 0]);
        for local in ["http://127.0.0.1:80/a", "http://[::1]:80/a", "http://localhost/a"] {
            assert!(problems(&Settings { webhook: Some(webhook(local)), ..Settings::default() }).is_empty(), "{local}");
        }
    }

    #[test]
    fn prometheus_has_the_same_rules_with_the_same_delays() {
        let file = include_str!("../../../deploy/prometheus/rules.yml");
        let told: Vec<(String, String)> = file
            .split("- alert: ")
            .filter_map(|rule| {
                let name = rule.split_once("{rule=\"")?.1.split_once("\"} > 0")?.0;
                let after = rule.split_once("for: ")?.1.lines().next()?;
                assert!(rule.contains("keep_firing_for: 5m\n"), "{name}");
                Some((name.to_owned(), after.to_owned()))
            })
            .collect();
        let on = RULES.into_iter().filter(|(_, on, _)| *on);
        let own = on.map(|(name, _, after)| (name.to_owned(), span(Duration::from_secs(after))));
        assert_eq!(told, own.collect::<Vec<_>>());
        assert_eq!(CLEAR, Duration::from_secs(5 * 60));
    }

    #[test]
    fn a_rule_is_as_the_configuration_has_it_or_else_as_usual() {
        let own = Override { on: None, after: Some(Duration::from_secs(7)) };
        let settings = Settings { rules: BTreeMap::from([("away".to_owned(), own)]), ..Settings::default() };
        assert_eq!(settings.rule("away"), Rule { on: true, after: Duration::from_secs(7) });
        assert_eq!(settings.rule("run-failed"), Rule { on: true, after: Duration::ZERO });
        assert!(!settings.rule("version-differs").on && !settings.rule("of-a-later-release").on);
    }
}
