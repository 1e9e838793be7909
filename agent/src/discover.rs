//! Finding the platform in an account that somebody else's templates made, before there is a configuration that names it.
//!
//! `services::survey` gathers an [`Account`]; all that is concluded from it is pure: [`classify`] says what one ECS
//! service is, [`propose`] what to write under `[platform]`, and `sfdata_common::discovery` shows that.
//! Invariants: nothing follows from a name alone, a name only confirms or raises a doubt; what cannot be told is
//! left to a person, with the candidates; of commands and variables nothing is told but what was recognised in
//! them, since they may hold secrets.

mod buckets;
mod classify;
pub(crate) mod command;
mod propose;

use std::collections::BTreeMap;

use sfdata_common::discovery::Proposal;

pub use self::{
    classify::{Certainty, Kind, Verdict, classify},
    propose::propose,
};
use crate::config::Platform;

/// What an account has that may be part of a platform.
#[derive(Default)]
pub struct Account {
    /// 12 digits.
    pub id: String,
    /// Such as `eu-west-2`.
    pub region: String,
    /// ECS clusters, or the one that was asked for.
    pub clusters: Vec<Cluster>,
    /// What RDS calls DB clusters.
    pub databases: Vec<Database>,
    /// Buckets of the region.
    pub buckets: Vec<Bucket>,
    /// CloudFormation's stacks.
    pub stacks: Vec<Stack>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// An ECS cluster.
#[derive(Default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its services.
    pub services: Vec<Service>,
}

/// An ECS service with what its tasks are made of.
#[derive(Default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// How many tasks are wanted.
    pub desired: i32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`; empty counts as ECS.
    pub controller: String,
    /// Its containers; empty when the task definition could not be read.
    pub containers: Vec<Container>,
}

/// A container of a task definition. Its variables may hold secrets: it is never printed whole.
#[derive(Clone, Default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Replaces the image's own, if not empty.
    pub entry_point: Vec<String>,
    /// Replaces the image's own, if not empty.
    pub command: Vec<String>,
    /// What its health check runs, if it has one.
    pub health_check: Vec<String>,
    /// Container ports.
    pub ports: Vec<u16>,
    /// Variables with values of their own.
    pub environment: BTreeMap<String, String>,
    /// Variables, and where their values are kept.
    pub secrets: BTreeMap<String, String>,
}

/// A DB cluster of RDS.
#[derive(Default)]
pub struct Database {
    /// Its identifier.
    pub name: String,
    /// Such as `aurora-postgresql`.
    pub engine: String,
    /// Host names under which it is reached.
    pub endpoints: Vec<String>,
    /// ARN of the secret with its password, where RDS keeps it.
    pub secret: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A bucket.
#[derive(Default)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A stack of CloudFormation.
#[derive(Default)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// Id of the outermost stack that it is nested in; its own if it is not nested.
    pub root: String,
    /// Outputs: key and value.
    pub outputs: Vec<(String, String)>,
    /// Resources: logical and physical id.
    pub resources: Vec<(String, String)>,
}

impl Account {
    /// The stack that made a thing, by its name or ARN, and what it calls it.
    fn made_by(&self, name: &str, arn: &str) -> Option<(&Stack, &str)> {
        let all = self.stacks.iter().flat_map(|stack| stack.resources.iter().map(move |of| (stack, of)));
        let mut made = all.filter(|(_, (_, physical))| !physical.is_empty() && (physical == name || physical == arn));
        made.next().map(|(stack, (logical, _))| (stack, logical.as_str()))
    }
}

/// Say beside each line what this configuration has there.
pub fn beside(mut proposal: Proposal, platform: &Platform) -> Proposal {
    let (one, buckets) = (|name: &str| vec![name.to_owned()], &platform.buckets);
    let some = |name: &Option<String>| name.iter().cloned().collect();
    for line in &mut proposal.lines {
        line.configured = match line.key.as_str() {
            "platform.cluster" => one(&platform.cluster),
            "platform.webserver" => one(&platform.webserver),
            "platform.daemon" => one(&platform.daemon),
            "platform.code_servers" => platform.code_servers.clone(),
            "platform.other_services" => platform.other_services.clone(),
            "platform.aurora_cluster" => some(&platform.aurora_cluster),
            "platform.buckets.data_store" => some(&buckets.data_store),
            "platform.buckets.workspace" => some(&buckets.workspace),
            "platform.buckets.shared" => some(&buckets.shared),
            "platform.buckets.backup" => some(&buckets.backup),
            _ => Vec::new(),
        };
    }
    proposal
}

/// The words of an identifier: `rawDataStore_bucket-2` is raw, data, store, bucket and 2.
fn words(identifier: &str) -> Vec<String> {
    let (mut words, mut word, mut was_lower) = (Vec::new(), String::new(), false);
    for letter in identifier.chars() {
        if !letter.is_ascii_alphanumeric() || (was_lower && letter.is_ascii_uppercase()) {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_ascii_alphanumeric() {
            word.push(letter.to_ascii_lowercase());
        }
        was_lower = letter.is_ascii_lowercase();
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn identifiers_fall_into_words() {
        assert_eq!(words("rawDataStore_bucket-2"), ["raw", "data", "store", "bucket", "2"]);
        assert_eq!(words("INPUT_LOCATION"), ["input", "location"]);
        assert_eq!(words("LADataStore"), ["ladata", "store"], "capitals in a row stay together");
        assert!(words("--").is_empty());
    }
}
