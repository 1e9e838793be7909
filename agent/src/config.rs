//! The agent's one file of settings: where its state lies, which AWS account and region it stands in, and which
//! services, database and buckets are this LA's platform.
//!
//! Read once, before anything else. It holds no secret: credentials come from the task's role, and the hub is
//! known by the join token or by pins. What is not named here, the agent does not touch.

pub mod arrivals;
mod images;
mod join;

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;
use sfdata_common::{
    command::Bucket,
    error::chain,
    telemetry::{
        self, Log,
        traces::{InvalidEndpoint, Telemetry},
    },
};
pub use sfdata_power::Role;

pub use self::{images::Images, join::Join};
use crate::{policy::Freeze, power};

/// The whole file; `deploy/config/agent.toml` is a commented example.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// State that outlives the process: identity, keys, journal. On a durable volume.
    pub data_dir: PathBuf,
    /// The LA's own veto, in Cedar; without it the policy that ships.
    pub policy: Option<PathBuf>,
    /// Days in which the policy lets less through.
    #[serde(default)]
    pub freeze: Vec<Freeze>,
    /// Where the hub is, if not where the join token said.
    #[serde(default)]
    pub hub: Hub,
    /// Where to join by AWS identity, without a token.
    pub join: Option<Join>,
    /// The AWS account that the agent stands in.
    pub aws: Aws,
    /// What belongs to this LA's platform.
    pub platform: Platform,
    /// Files that arrive, and what they start.
    pub arrivals: Option<arrivals::Arrivals>,
    /// Where Dagster itself is asked.
    #[serde(default)]
    pub dagster: Dagster,
    /// What is told of what the account costs.
    #[serde(default)]
    pub usage: Usage,
    /// Images in the account's own registry that operators may see and give tags to.
    #[serde(default)]
    pub images: Images,
    /// How the platform is put to sleep and woken; without it the agent leaves its power alone.
    pub power: Option<power::settings::Settings>,
    /// Lines on stderr.
    #[serde(default)]
    pub log: Log,
    /// Traces, where the LA wants them.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Health and metrics, for those who run the agent.
    #[serde(default)]
    pub ops: Ops,
    /// Where ECS tells the task that the agent runs in what it is; in no file, because ECS says it itself.
    #[serde(skip)]
    pub task_metadata: Option<String>,
    /// Where this was read from, to be looked at again for its freezes; `None` never is.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// The `[ops]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ops {
    /// Where `/healthz`, `/readyz` and `/metrics` are served, on loopback, as in `127.0.0.1:9465`; without it nowhere.
    pub address: Option<SocketAddr>,
}

/// The `[dagster]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dagster {
    /// URL of its webserver, with the path prefix if it has one; without it the webserver's running task is asked.
    pub url: Option<String>,
}

/// The `[usage]` section.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Whether AWS's bill of the account is read and told to the hub.
    pub bill: bool,
}

/// The `[hub]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hub {
    /// `host:port` to dial instead of the one in the join token: for a hub that has moved, without a new enrolment.
    pub address: Option<String>,
}

/// The `[aws]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// Such as `eu-west-2`.
    pub region: String,
    /// Speak to this URL instead of AWS; for a stand-in.
    pub endpoint_url: Option<String>,
    /// A credentials file of the AWS tools, `[default]` profile, instead of the task's role; outside AWS only.
    pub credentials_file: Option<PathBuf>,
}

/// What `discover` needs of a configuration that may not have its `[platform]` yet: other sections are not looked at.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Draft {
    /// The AWS account that the agent stands in.
    pub aws: Option<Aws>,
}

/// The `[platform]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Name of the ECS cluster.
    pub cluster: String,
    /// ECS service of Dagster's page.
    pub webserver: String,
    /// ECS service of Dagster's daemon, of which at most one task may ever run.
    pub daemon: String,
    /// ECS services of the code locations.
    #[serde(default)]
    pub code_servers: Vec<String>,
    /// Further ECS services that belong to the platform, such as an upload page.
    #[serde(default)]
    pub other_services: Vec<String>,
    /// ECS service that the agent itself runs as: for its own upgrade, and for nothing else.
    pub agent_service: Option<String>,
    /// Identifier of the Aurora cluster, where there is one.
    pub aurora_cluster: Option<String>,
    /// Identifier of a plain RDS instance in its place.
    pub database_instance: Option<String>,
    /// Names of the S3 buckets.
    #[serde(default)]
    pub buckets: Buckets,
    /// How the buckets are kept.
    #[serde(default)]
    pub storage: Storage,
}

/// The `[platform.buckets]` section: a bucket that is not named is not looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Buckets {
    /// Where the LA uploads.
    pub data_store: Option<String>,
    /// Between the steps of a pipeline.
    pub workspace: Option<String>,
    /// What the core account may read.
    pub shared: Option<String>,
    /// Where data store and shared are copied to.
    pub backup: Option<String>,
    /// Where S3 writes who asked for which object of the others. It is only named here, never changed.
    pub access_logs: Option<String>,
}

/// The `[platform.storage]` section. It stands here and never in a command, so that whoever has the hub can bring no
/// key and no role of their own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// ARN of the core account's role that may be let in to the shared bucket; without it nothing is ever shared.
    pub core_reader: Option<String>,
    /// ARN of the role that S3 takes on to copy to the backup; without it nothing is copied.
    pub replication_role: Option<String>,
    /// ARN of the KMS key that new objects are encrypted with; without it the bucket's own encryption stays.
    pub kms_key: Option<String>,
}

impl Platform {
    /// Every ECS service of the platform.
    pub fn services(&self) -> impl Iterator<Item = (&str, Role)> + Clone {
        [(self.webserver.as_str(), Role::Webserver), (self.daemon.as_str(), Role::Daemon)]
            .into_iter()
            .chain(self.code_servers.iter().map(|name| (name.as_str(), Role::CodeServer)))
            .chain(self.other_services.iter().map(|name| (name.as_str(), Role::Other)))
    }

    /// The service that an operator means: by its name in ECS or, so that one command serves LAs that name
    /// their services differently, by its role where just one service has it.
    pub fn service(&self, asked: &str) -> Option<(&str, Role)> {
        let mut of_role = self.services().filter(|(_, role)| *role != Role::Other && role.as_str() == asked);
        let only = of_role.next().filter(|_| of_role.next().is_none());
        self.services().find(|(name, _)| *name == asked).or(only)
    }
}

impl Buckets {
    /// What each named bucket is for, and its name. That of the access logs is not the platform's to look at.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        Bucket::ALL.into_iter().filter_map(|role| Some((role.as_str(), self.of(role)?)))
    }

    /// The name of the bucket for this.
    pub fn of(&self, role: Bucket) -> Option<&str> {
        let name = match role {
            Bucket::DataStore => &self.data_store,
            Bucket::Workspace => &self.workspace,
            Bucket::Shared => &self.shared,
            Bucket::Backup => &self.backup,
        };
        name.as_deref()
    }
}

/// The file can be read, and can't be meant.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has to be corrected:{}", List(problems))]
pub struct Invalid {
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

/// One setting that can't be meant, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A path that depends on where the agent was started.
    #[error("{key} {path:?} depends on where the agent is started; write the whole path, from /")]
    Relative {
        /// Where.
        key: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// An address of the hub.
    #[error("{key} {value:?} is no address; write host:port, as in hub.example.org:7443")]
    Address {
        /// Where.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// A pin.
    #[error(
        "join.{key} {value:?} is no pin; paste the section as hubctl agents register printed it: 64 hexadecimal digits"
    )]
    Pin {
        /// Which.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// The region.
    #[error("aws.region {value:?} is no AWS region; write one such as eu-west-2")]
    Region {
        /// What was given.
        value: String,
    },
    /// No region at all.
    #[error("aws.region is missing: name a configuration that has an [aws] section with --config, or give --region")]
    NoRegion,
    /// The stand-in's URL.
    #[error("aws.endpoint_url {value:?} is no URL; write http://host:port, or leave it out to speak to AWS")]
    Url {
        /// What was given.
        value: String,
    },
    /// Dagster's URL.
    #[error(
        "dagster.url {value:?} is no URL of a webserver; write http://host:port, with the path prefix if it has one, or \
         leave it out to ask the running task"
    )]
    DagsterUrl {
        /// What was given.
        value: String,
    },
    /// A cluster or service of ECS.
    #[error("{key} {value:?} is no ECS name; write the name, not the ARN: letters, digits, hyphens, underscores")]
    EcsName {
        /// Where.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// The database.
    #[error(
        "{key} {value:?} is no identifier of RDS; write it as RDS shows it: at most 63 letters, digits and hyphens"
    )]
    DatabaseName {
        /// Where.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// A cluster and an instance.
    #[error("platform.database_instance is there beside platform.aurora_cluster; name the one that Dagster uses")]
    TwoDatabases,
    /// A setting of power.
    #[error("power.{key} {value} cannot be meant; {remedy}")]
    Power {
        /// Which.
        key: &'static str,
        /// What was given.
        value: String,
        /// What to write.
        remedy: &'static str,
    },
    /// A bucket.
    #[error("platform.buckets.{key} {value:?} is no bucket name; write the name alone, without s3:// and path")]
    BucketName {
        /// What the bucket is for.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// A role of IAM.
    #[error("platform.storage.{key} {value:?} is no ARN of a role; write arn:aws:iam::ACCOUNT:role/NAME")]
    RoleArn {
        /// Where.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// A key of KMS.
    #[error("platform.storage.kms_key {value:?} is no ARN of a key; write arn:aws:kms:REGION:ACCOUNT:key/ID")]
    KeyArn {
        /// What was given.
        value: String,
    },
    /// A role that copies to nowhere.
    #[error("platform.storage.replication_role is there without platform.buckets.backup; name the bucket to copy to")]
    NoBackup,
    /// A queue of arrivals.
    #[error(
        "arrivals.queue {value:?} is no standard queue of SQS in aws.region; write \
         https://sqs.REGION.amazonaws.com/ACCOUNT/NAME or arn:aws:sqs:REGION:ACCOUNT:NAME"
    )]
    Queue {
        /// What was given.
        value: String,
    },
    /// Arrivals at nowhere.
    #[error("[arrivals] is there without platform.buckets.data_store; name the bucket that files arrive in")]
    NoDataStore,
    /// A listing that never ends.
    #[error("arrivals.list_every is under a second; write 60s, or 0s to list nothing")]
    ListEvery,
    /// Rules without end.
    #[error(
        "there are {count} rules for arrivals, and {} at most; a rule goes by prefix",
        sfdata_common::limits::ARRIVAL_RULES
    )]
    Rules {
        /// How many.
        count: usize,
    },
    /// A rule for arrivals.
    #[error("arrivals.rule {at:?} {why}")]
    Rule {
        /// Its prefix and suffix.
        at: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// One thing under two keys.
    #[error("{key} {value:?} is named twice; each service, bucket and repository has one purpose")]
    Twice {
        /// Where it stands a second time.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// Repositories of images.
    #[error("images.repositories: {0}")]
    Images(images::Odd),
    /// A freeze.
    #[error("freeze {name:?} {why}")]
    Freeze {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The log.
    #[error(transparent)]
    Log(telemetry::InvalidLevel),
    /// Where traces go.
    #[error("telemetry.otlp_endpoint {0}")]
    Telemetry(InvalidEndpoint),
    /// Metrics without TLS, open to the network.
    #[error(
        "ops.address {address} is not loopback; what it serves is unprotected, so use 127.0.0.1 or [::1], which all \
         containers of one task share"
    )]
    OpsNotLoopback {
        /// What was given.
        address: SocketAddr,
    },
}

struct List<'a>(&'a [Problem]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {}", chain(problem)))
    }
}

impl Config {
    /// Look for everything that can't be meant, so that one start shows all of it.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut problems = Vec::new();
        problems.extend(relative("data_dir", Some(&self.data_dir)));
        problems.extend(relative("policy", self.policy.as_ref()));
        let odd = self.freeze.iter().filter_map(|freeze| Some((freeze.name.clone(), freeze.odd()?)));
        problems.extend(odd.map(|(name, why)| Problem::Freeze { name, why }));
        let address = wrong(self.hub.address.as_ref(), is_host_and_port);
        problems.extend(address.map(|value| Problem::Address { key: "hub.address", value }));
        self.join.iter().for_each(|join| join.check(&mut problems));
        self.aws.check(&mut problems);
        self.platform.check(&mut problems);
        if let Some(arrivals) = &self.arrivals {
            arrivals.check(&self.aws, self.platform.buckets.data_store.as_deref(), &mut problems);
        }
        problems.extend(wrong(self.dagster.url.as_ref(), is_plain_url).map(|value| Problem::DagsterUrl { value }));
        self.images.check(&mut problems);
        let odd = self.power.iter().flat_map(power::settings::Settings::odd);
        problems.extend(odd.map(|(key, value, remedy)| Problem::Power { key, value, remedy }));
        problems.extend(telemetry::check(&self.log).err().map(Problem::Log));
        problems.extend(self.telemetry.check().err().map(Problem::Telemetry));
        let open = self.ops.address.filter(|address| !address.ip().is_loopback());
        problems.extend(open.map(|address| Problem::OpsNotLoopback { address }));
        Invalid::unless_empty(problems)
    }
}

impl Draft {
    /// How to reach AWS: as the file says, but in `region` if that is given.
    pub fn aws(self, region: Option<String>) -> Result<Aws, Invalid> {
        let aws = match (self.aws, region) {
            (Some(aws), Some(region)) => Aws { region, ..aws },
            (Some(aws), None) => aws,
            (None, Some(region)) => Aws { region, endpoint_url: None, credentials_file: None },
            (None, None) => return Err(Invalid { problems: vec![Problem::NoRegion] }),
        };
        let mut problems = Vec::new();
        aws.check(&mut problems);
        Invalid::unless_empty(problems).map(|()| aws)
    }
}

impl Invalid {
    fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl Aws {
    fn check(&self, problems: &mut Vec<Problem>) {
        problems.extend(relative("aws.credentials_file", self.credentials_file.as_ref()));
        problems.extend(wrong(Some(&self.region), is_region).map(|value| Problem::Region { value }));
        problems.extend(wrong(self.endpoint_url.as_ref(), is_url).map(|value| Problem::Url { value }));
    }
}

impl Platform {
    fn check(&self, problems: &mut Vec<Problem>) {
        let services = self.services().map(|(name, role)| (role.key(), name));
        let services = services.chain(self.agent_service.iter().map(|name| ("platform.agent_service", name.as_str())));
        let ecs = [("platform.cluster", self.cluster.as_str())].into_iter().chain(services.clone());
        let odd = ecs.filter(|(_, name)| !is_ecs_name(name));
        problems.extend(odd.map(|(key, value)| Problem::EcsName { key, value: value.into() }));
        let databases = [
            ("platform.aurora_cluster", &self.aurora_cluster),
            ("platform.database_instance", &self.database_instance),
        ];
        for (key, name) in databases {
            problems.extend(wrong(name.as_ref(), is_database_name).map(|value| Problem::DatabaseName { key, value }));
        }
        if self.aurora_cluster.is_some() && self.database_instance.is_some() {
            problems.push(Problem::TwoDatabases);
        }
        let logs = self.buckets.access_logs.as_deref().map(|name| ("access-logs", name));
        let buckets: Vec<_> = self.buckets.named().chain(logs).collect();
        let odd = buckets.iter().filter(|(_, name)| !is_bucket_name(name));
        problems.extend(odd.map(|(key, value)| Problem::BucketName { key, value: (*value).into() }));
        let Storage { core_reader, replication_role, kms_key } = &self.storage;
        for (key, role) in [("core_reader", core_reader), ("replication_role", replication_role)] {
            problems.extend(wrong(role.as_ref(), is_role_arn).map(|value| Problem::RoleArn { key, value }));
        }
        problems.extend(wrong(kms_key.as_ref(), is_key_arn).map(|value| Problem::KeyArn { value }));
        if replication_role.is_some() && self.buckets.backup.is_none() {
            problems.push(Problem::NoBackup);
        }
        for names in [services.collect::<Vec<_>>(), buckets] {
            for (at, (key, value)) in names.iter().enumerate() {
                if names.iter().take(at).any(|(_, earlier)| earlier == value) {
                    problems.push(Problem::Twice { key, value: (*value).into() });
                }
            }
        }
    }
}

fn relative(key: &'static str, path: Option<&PathBuf>) -> Option<Problem> {
    let relative = path.filter(|path| !path.is_absolute());
    relative.map(|path| Problem::Relative { key, path: path.clone() })
}

fn wrong(value: Option<&String>, is_right: fn(&str) -> bool) -> Option<String> {
    value.filter(|value| !is_right(value)).cloned()
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_legal = match bracketed {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => only(host, b"-.", 253),
    };
    host_is_legal && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    only(host, b"-.:[]", 300)
}

/// Dagster's webserver has no TLS of its own.
fn is_plain_url(url: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:[]".contains(&b);
    url.starts_with("http://") && is_url(url) && url.bytes().all(legal)
}

fn is_region(region: &str) -> bool {
    only(region, b"-", 32) && region.split('-').count() >= 3 && region.ends_with(|c: char| c.is_ascii_digit())
}

/// ECS API reference, CreateCluster and CreateService: up to 255 letters, digits, underscores, hyphens.
fn is_ecs_name(name: &str) -> bool {
    only(name, b"-_", 255)
}

/// RDS API reference, CreateDBCluster: 1 to 63 letters, digits or hyphens, a letter first.
fn is_database_name(name: &str) -> bool {
    only(name, b"-", 63) && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// S3 user guide, "General purpose bucket naming rules".
fn is_bucket_name(name: &str) -> bool {
    name.len() >= 3 && only(name, b"-.", 63) && !name.bytes().any(|b| b.is_ascii_uppercase())
}

/// IAM user guide, "IAM identifiers": a path and a name of letters, digits and `+=,.@_-`; nothing that a policy reads
/// as a pattern.
fn is_role_arn(arn: &str) -> bool {
    let parts = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":role/"));
    parts.is_some_and(|(account, name)| is_account(account) && only(name, b"+=,.@_-/", 575))
}

/// KMS developer guide, "Key ARN". An alias is none: whoever moves it would change what objects are encrypted with.
fn is_key_arn(arn: &str) -> bool {
    let parts = arn.strip_prefix("arn:aws:kms:").and_then(|rest| rest.split_once(":key/"));
    parts.is_some_and(|(place, id)| {
        let place = place.split_once(':');
        place.is_some_and(|(region, account)| is_region(region) && is_account(account)) && only(id, b"-", 64)
    })
}

fn is_account(account: &str) -> bool {
    account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
}

/// Not empty, not longer than `most`, of letters, digits and `others` alone.
fn only(text: &str, others: &[u8], most: usize) -> bool {
    !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
}

#[cfg(test)]
mod tests;
