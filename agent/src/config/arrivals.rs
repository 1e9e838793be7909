//! The `[arrivals]` section: where the agent learns of files that arrive, and what each of them starts.
//!
//! What is a rule's job stands here and never in a command, so that whoever has the hub can bring none of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use sfdata_common::limits;

use super::{Aws, Problem, is_account, is_region, only};

/// The `[arrivals]` section; without it nothing is looked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Arrivals {
    /// URL or ARN of the SQS queue that the data store's events go to; without it the bucket is listed.
    pub queue: Option<String>,
    /// How often the bucket is listed where there is no queue; zero is never.
    #[serde(with = "humantime_serde")]
    pub list_every: Duration,
    /// What becomes of a file that no rule is for.
    pub unmatched: Unmatched,
    /// What files start, by prefix.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

impl Default for Arrivals {
    fn default() -> Self {
        let list_every = Duration::from_secs(60);
        Self { queue: None, list_every, unmatched: Unmatched::default(), rules: Vec::new() }
    }
}

/// What becomes of a file that no rule is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// It wakes Dagster, whose sensors look for themselves.
    #[default]
    Wake,
    /// Nothing.
    Ignore,
}

/// What a file starts whose key begins, and ends, like this. The longest prefix wins.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// How the key begins.
    pub prefix: String,
    /// How it ends.
    pub suffix: String,
    /// The job to launch; without one Dagster is only woken.
    pub job: Option<String>,
    /// The job's code location, where several have one of that name.
    pub location: Option<String>,
    /// The job's repository, where the location has several.
    pub repository: Option<String>,
    /// Tags of the run.
    pub tags: BTreeMap<String, String>,
    /// One run for all that wait together, in place of one for each.
    pub batch: bool,
    /// Tag of the run that has the object's key as its value.
    pub key_tag: Option<String>,
}

/// A queue of SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its URL.
    pub url: String,
    /// The account that it belongs to.
    pub account: String,
    /// Its name.
    pub name: String,
}

impl Queue {
    /// From a URL or an ARN. SQS developer guide, "Queue and message identifiers". A FIFO queue is none: S3 sends to none,
    /// and what waits for Dagster would hold up what comes after it.
    fn parse(text: &str, aws: &Aws) -> Option<Self> {
        let (url, account, name) = if let Some(arn) = text.strip_prefix("arn:aws:sqs:") {
            let (region, rest) = arn.split_once(':')?;
            let (account, name) = rest.split_once(':')?;
            if region != aws.region {
                return None;
            }
            (format!("https://sqs.{region}.amazonaws.com/{account}/{name}"), account, name)
        } else {
            let (_, rest) = text.split_once("://")?;
            let mut parts = rest.split('/');
            let (host, account, name) = (parts.next()?, parts.next()?, parts.next()?);
            let of_aws = text.starts_with("https://")
                && host.strip_prefix("sqs.").and_then(|rest| rest.strip_suffix(".amazonaws.com"))
                    == Some(aws.region.as_str());
            let of_stand_in = aws.endpoint_url.as_ref().is_some_and(|url| url.contains(host));
            if parts.next().is_some() || !(of_aws || of_stand_in) || !is_region(&aws.region) {
                return None;
            }
            (text.to_owned(), account, name)
        };
        let legal = is_account(account) && only(name, b"-_", 80);
        legal.then(|| Self { url, account: account.to_owned(), name: name.to_owned() })
    }
}

impl Arrivals {
    /// The queue, where there is one.
    pub fn queue(&self, aws: &Aws) -> Option<Queue> {
        self.queue.as_deref().and_then(|queue| Queue::parse(queue, aws))
    }

    /// The rule for a key: the longest prefix wins, then the longest suffix.
    pub fn rule(&self, key: &str) -> Option<&Rule> {
        let fits = |rule: &&Rule| {
            let rest = key.strip_prefix(rule.prefix.as_str());
            rest.is_some_and(|rest| rest.ends_with(rule.suffix.as_str()))
        };
        self.rules.iter().filter(fits).max_by_key(|rule| (rule.prefix.len(), rule.suffix.len()))
    }

    pub(super) fn check(&self, aws: &Aws, data_store: Option<&str>, problems: &mut Vec<Problem>) {
        if let Some(value) = self.queue.clone().filter(|value| Queue::parse(value, aws).is_none()) {
            problems.push(Problem::Queue { value });
        }
        if data_store.is_none() {
            problems.push(Problem::NoDataStore);
        }
        if self.queue.is_none() && !self.list_every.is_zero() && self.list_every < Duration::from_secs(1) {
            problems.push(Problem::ListEvery);
        }
        if self.rules.len() > limits::ARRIVAL_RULES {
            problems.push(Problem::Rules { count: self.rules.len() });
        }
        let mut seen = BTreeSet::new();
        for rule in &self.rules {
            let why = if seen.insert((&rule.prefix, &rule.suffix)) { rule.fault() } else { Some("is there twice") };
            let at = format!("{}*{}", rule.prefix, rule.suffix);
            problems.extend(why.map(|why| Problem::Rule { at, why }));
        }
    }
}

impl Rule {
    fn fault(&self) -> Option<&'static str> {
        let own = |tag: &String| tag.is_empty() || tag.starts_with("sfdata/") || tag.starts_with("dagster/");
        let launches = self.location.is_some()
            || self.repository.is_some()
            || self.batch
            || self.key_tag.is_some()
            || !self.tags.is_empty();
        let names = [&self.job, &self.location, &self.repository];
        if self.prefix.len() + self.suffix.len() > limits::OBJECT_KEY_BYTES {
            Some("is longer than any key: at most 1024 bytes")
        } else if self.job.is_none() && launches {
            Some("has no job to go with its other settings; name one, or leave prefix and suffix alone")
        } else if names.into_iter().flatten().any(String::is_empty) {
            Some("has an empty name")
        } else if self.tags.keys().chain(&self.key_tag).any(own) {
            Some("sets a tag that is not its own: not empty, not sfdata/... or dagster/...")
        } else if self.batch && self.key_tag.is_some() {
            Some("is one run for many files, so that no tag can have the key; take batch or key_tag away")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(endpoint_url: Option<&str>) -> Aws {
        Aws { region: "eu-west-2".into(), endpoint_url: endpoint_url.map(str::to_owned), credentials_file: None }
    }

    #[test]
    fn a_queue_is_named_by_url_or_arn_of_this_region() {
        let url = "https://sqs.eu-west-2.amazonaws.com/222222222222/la-arrivals";
        let arn = "arn:aws:sqs:eu-west-2:222222222222:la-arrivals";
        let queue = Queue::parse(url, &aws(None)).unwrap();
        assert_eq!(Queue::parse(arn, &aws(None)), Some(queue.clone()));
        assert_eq!((queue.account.as_str(), queue.name.as_str()), ("222222222222", "la-arrivals"));
        let stand_in = "http://127.0.0.1:5000/222222222222/la-arrivals";
        assert!(Queue::parse(stand_in, &aws(Some("http://127.0.0.1:5000"))).is_some());
        for illegal in [
            stand_in,
            "",
            "la-arrivals",
            "https://sqs.us-east-1.amazonaws.com/222222222222/la-arrivals",
            "https://sqs.eu-west-2.amazonaws.com.example.org/222222222222/la-arrivals",
            "https://sqs.eu-west-2.amazonaws.com/2222/la-arrivals",
            "https://sqs.eu-west-2.amazonaws.com/222222222222/la-arrivals/x",
            "https://sqs.eu-west-2.amazonaws.com/222222222222/la-arrivals.fifo",
            "arn:aws:sqs:us-east-1:222222222222:la-arrivals",
            "arn:aws:sns:eu-west-2:222222222222:la-arrivals",
        ] {
            assert_eq!(Queue::parse(illegal, &aws(None)), None, "{illegal}");
        }
    }

    #[test]
    fn the_longest_prefix_wins_then_the_longest_suffix() {
        let rule =
            |prefix: &str, suffix: &str| Rule { prefix: prefix.into(), suffix: suffix.into(), ..Rule::default() };
        let rules = vec![rule("a/", ""), rule("a/b/", ".csv"), rule("a/b/", ""), rule("a/bc", "c")];
        let arrivals = Arrivals { rules, ..Arrivals::default() };
        let of = |key: &str| arrivals.rule(key).map(|rule| (rule.prefix.as_str(), rule.suffix.as_str()));
        assert_eq!(of("a/b/c.csv"), Some(("a/b/", ".csv")));
        assert_eq!(of("a/b/c.xml"), Some(("a/b/", "")));
        assert_eq!(of("a/c"), Some(("a/", "")));
        assert_eq!(of("a/bc"), Some(("a/", "")), "one letter is not both the prefix's and the suffix's");
        assert_eq!(of("b"), None);
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_told() {
        let fault = |text: &str| toml_rule(text).fault();
        assert_eq!(fault("job = 'a'\ntags = { dataset = 'b' }\nkey_tag = 'file'"), None);
        assert_eq!(fault("prefix = 'a/'"), None);
        for illegal in [
            "batch = true",
            "job = ''",
            "job = 'a'\ntags = { 'sfdata/arrival' = 'b' }",
            "job = 'a'\nkey_tag = 'dagster/x'",
        ] {
            assert!(fault(illegal).is_some(), "{illegal}");
        }
        assert!(fault("job = 'a'\nbatch = true\nkey_tag = 'file'").is_some());
    }

    fn toml_rule(text: &str) -> Rule {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        sfdata_common::config::load(file.path()).unwrap()
    }
}
