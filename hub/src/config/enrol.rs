//! The `[enrol]` section: how agents join beside tokens. Who answers the hub's question to STS says who may join, so that it is
//! AWS's own over https, or a stand-in on this machine.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use sfdata_common::sts;

use super::Problem;

/// The `[enrol]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrol {
    /// By AWS identity.
    pub aws: Aws,
}

/// The `[enrol.aws]` section: whom the hub asks who signed a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// Region of the STS that is asked.
    pub region: String,
    /// A stand-in for AWS on this machine, in its place.
    pub endpoint_url: Option<String>,
    /// Only accounts of this organisation may join.
    pub organization: Option<String>,
    /// A credentials file of the AWS tools for asking about the organisation, instead of the task's role; outside AWS only.
    pub credentials_file: Option<PathBuf>,
}

impl Default for Aws {
    fn default() -> Self {
        Self { region: "eu-west-2".into(), endpoint_url: None, organization: None, credentials_file: None }
    }
}

impl Aws {
    /// The one host that signed requests may name, and that is asked.
    pub fn host(&self) -> String {
        let stand_in = self.endpoint_url.as_deref().and_then(sts::authority).map(str::to_owned);
        stand_in.or_else(|| sts::host(&self.region)).unwrap_or_default()
    }

    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        if sts::host(&self.region).is_none() {
            problems.push(Problem::StsRegion { value: self.region.clone() });
        }
        let is_local = |url: &String| {
            sts::authority(url).and_then(|host| host.parse::<SocketAddr>().ok()).is_some_and(|at| at.ip().is_loopback())
        };
        let odd = self.organization.iter().filter(|id| !is_organization(id));
        problems.extend(odd.map(|id| Problem::Organization { value: id.clone() }));
        problems.extend(
            self.endpoint_url.iter().filter(|url| !is_local(url)).map(|url| Problem::StsUrl { value: url.clone() }),
        );
    }
}

/// `o-` and 10 to 32 lower-case letters and digits (Organizations API reference, "Organization").
fn is_organization(id: &str) -> bool {
    let rest = id.strip_prefix("o-").unwrap_or_default();
    (10..=32).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_sts_are_for_one_host() {
        let of = |url: Option<&str>| Aws { endpoint_url: url.map(str::to_owned), ..Aws::default() };
        assert_eq!(of(None).host(), "sts.eu-west-2.amazonaws.com");
        assert_eq!(of(Some("http://127.0.0.1:5000")).host(), "127.0.0.1:5000");
        for url in
            ["http://10.0.0.1:5000", "http://localhost:5000", "http://a@127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1"]
        {
            let mut problems = Vec::new();
            of(Some(url)).check(&mut problems);
            assert_eq!(problems.len(), 1, "{url}");
        }
    }
}
