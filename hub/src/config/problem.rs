//! What can be wrong with a configuration: each fact, and what to do about it.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use sfdata_common::{
    error::chain,
    policy, sts,
    telemetry::{self, traces::InvalidEndpoint},
};

use crate::{alerts, backups};

/// One thing that can't work, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A path that is empty.
    #[error("{key} is empty; name a folder that only the hub's user may read, as in /var/lib/sfdata-hub")]
    NoFolder {
        /// Where.
        key: &'static str,
    },
    /// The trust domain.
    #[error(
        "trust_domain {value:?} is no SPIFFE trust domain; use 1 to 255 lower-case letters, digits, dots, hyphens and \
         underscores, as in sfdata.example"
    )]
    TrustDomain {
        /// What was given.
        value: String,
    },
    /// The hub's name.
    #[error("hub_id {value:?} is no name; use 1 to 48 lower-case letters, digits and inner hyphens")]
    HubId {
        /// What was given.
        value: String,
    },
    /// Operations without TLS, open to the network.
    #[error("listen.ops {address} is not loopback; what it serves is unprotected, so use 127.0.0.1 or [::1]")]
    OpsNotLoopback {
        /// What was given.
        address: SocketAddr,
    },
    /// One port for two.
    #[error("listen.{first} and listen.{second} are both {address}; give each a port of its own")]
    SameAddress {
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What both say.
        address: SocketAddr,
    },
    /// Nothing that can be dialled.
    #[error("{key} {value:?} is not what others can dial; use host:port without a scheme, as in hub.example.org:7443")]
    NotDialable {
        /// Where.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// A certificate's lifetime.
    #[error(
        "certificates.{key} is {}; use 1s to {}: longer-lived certificates would outlive a lost key for too long",
        humantime_serde::re::humantime::format_duration(*value),
        humantime_serde::re::humantime::format_duration(*most)
    )]
    Lifetime {
        /// Where.
        key: &'static str,
        /// What was given.
        value: Duration,
        /// The bound.
        most: Duration,
    },
    /// Alerts.
    #[error(transparent)]
    Alerts(alerts::rules::Problem),
    /// A price.
    #[error("{key} of costs.prices {region:?} is {value}; write a price of 0 to 1000, in whole units of the currency")]
    Price {
        /// Which.
        key: &'static str,
        /// Of which list.
        region: String,
        /// What was given.
        value: f64,
    },
    /// Two lists for one region.
    #[error("costs.prices has two lists for {region:?}; keep one")]
    PricesTwice {
        /// Which.
        region: String,
    },
    /// Sums of two currencies mean nothing.
    #[error("costs.prices has lists in {one} and in {other}; give all in one currency, since they are added up")]
    Currencies {
        /// Of the first list.
        one: String,
        /// Of a later one.
        other: String,
    },
    /// A budget.
    #[error("{key} is {value}; write what a month may cost, from 0 to 1000000")]
    Budget {
        /// Where.
        key: String,
        /// What was given.
        value: f64,
    },
    /// An STS that is not asked.
    #[error("enrol.aws.region {value:?} is none whose STS is asked; use one of {}", sts::REGIONS.join(", "))]
    StsRegion {
        /// What was given.
        value: String,
    },
    /// A stand-in that could be anybody's.
    #[error(
        "enrol.aws.endpoint_url {value:?} is not on this machine; who answers there says who may join. Leave it out to ask \
         AWS, or for a sandbox use http://127.0.0.1:PORT"
    )]
    StsUrl {
        /// What was given.
        value: String,
    },
    /// No key of KMS.
    #[error("dispatch.kms_key is {value:?}; write the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID, and no alias")]
    KmsKey {
        /// What was given.
        value: String,
    },
    /// The log filter.
    #[error(transparent)]
    Log(telemetry::InvalidLevel),
    /// Where traces go.
    #[error("telemetry.otlp_endpoint {0}")]
    Telemetry(InvalidEndpoint),
    /// The policy file.
    #[error("cannot read policy {path}; correct the path, or leave the key out for the built-in policy")]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The policy text.
    #[error("policy {path} has to be corrected")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What Cedar says, with the place.
        #[source]
        source: policy::Invalid,
    },
    /// An organisation's id.
    #[error(
        "enrol.aws organization {value:?} is no organisation's id, as in o-a1b2c3d4e5; aws organizations \
         describe-organization prints it"
    )]
    Organization {
        /// What it is.
        value: String,
    },
    /// The `[backup]` section.
    #[error(transparent)]
    Backup(backups::Invalid),
}

/// Problems, one a line.
pub(super) struct List<'a>(pub(super) &'a [Problem]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {}", chain(problem)))
    }
}
