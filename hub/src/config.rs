//! The hub's one TOML file. deploy/config/hub.toml shows every key.
//!
//! Parsing refuses keys that are not known; [`Config::check`] finds what can't work, all of it at once, so that
//! an operator corrects the file once.

mod dispatch;
mod enrol;
mod problem;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use sfdata_common::{
    config::{self, Source},
    ids::AgentId,
    limits,
    policy::{Policy, Side},
    prices::{self, Prices},
    telemetry::{self, Log, traces::Telemetry},
};

pub use self::{
    dispatch::Dispatch,
    enrol::{Aws, Enrol},
    problem::Problem,
};
use crate::{alerts, backups, health};

/// The policy that applies when the configuration names none.
pub const DEFAULT_POLICY: &str = include_str!("../../deploy/config/hub.cedar");

/// Why the hub can't start with its configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] config::Error),
    /// What it says.
    #[error("the configuration {path} has to be corrected:{}", problem::List(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of store and keys.
    pub data_dir: PathBuf,
    /// First part of every identity.
    pub trust_domain: String,
    /// This hub's own name.
    pub hub_id: String,
    /// A Cedar policy in place of [`DEFAULT_POLICY`].
    pub policy: Option<PathBuf>,
    /// Where to listen.
    pub listen: Listen,
    /// What others dial.
    pub public: Public,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// Traces.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Lifetimes.
    #[serde(default)]
    pub certificates: Certificates,
    /// Who is told of what.
    #[serde(default)]
    pub alerts: alerts::rules::Settings,
    /// When an LA counts as degraded.
    #[serde(default)]
    pub health: health::Rules,
    /// What things cost.
    #[serde(default)]
    pub costs: Costs,
    /// How agents join beside tokens.
    #[serde(default)]
    pub enrol: Enrol,
    /// Where the dispatch key is.
    #[serde(default)]
    pub dispatch: Dispatch,
    /// Backups that the hub takes by itself.
    pub backup: Option<backups::Settings>,
}

/// The `[listen]` section. Port 0 takes any free one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Agents and operators, with client certificates.
    pub address: SocketAddr,
    /// Enrolment, without.
    pub enrol: SocketAddr,
    /// Health and metrics, on loopback.
    #[serde(default = "default_ops")]
    pub ops: SocketAddr,
}

fn default_ops() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 9464).into()
}

/// The `[public]` section: `host:port`, as put into join tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Of the authenticated listener.
    pub address: String,
    /// Of the enrolment listener.
    pub enrol_address: String,
}

/// The `[costs]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Costs {
    /// What an agent's platform may cost a month, in the currency of its price list.
    pub budget: Option<f64>,
    /// The same for single agents.
    pub budgets: BTreeMap<AgentId, f64>,
    /// One list a region.
    pub prices: Vec<Prices>,
}

impl Default for Costs {
    fn default() -> Self {
        Self { budget: None, budgets: BTreeMap::new(), prices: prices::built_in() }
    }
}

impl Costs {
    /// Of all price lists, which have one in common; none without any.
    pub fn currency(&self) -> Option<String> {
        self.prices.first().map(|list| list.currency.clone())
    }

    /// Of this agent, for a month.
    pub fn budget(&self, agent: &AgentId) -> Option<f64> {
        self.budgets.get(agent).copied().or(self.budget)
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        for list in &self.prices {
            let region = &list.region;
            problems.extend(list.odd().into_iter().map(|(key, value)| Problem::Price {
                key,
                region: region.clone(),
                value,
            }));
        }
        let regions = self.prices.iter().map(|list| &list.region);
        let twice = |(at, region): &(usize, &String)| self.prices[..*at].iter().any(|list| list.region == **region);
        problems.extend(
            regions.enumerate().filter(twice).map(|(_, region)| Problem::PricesTwice { region: region.clone() }),
        );
        if let [first, rest @ ..] = &self.prices[..]
            && let Some(odd) = rest.iter().find(|list| list.currency != first.currency)
        {
            problems.push(Problem::Currencies { one: first.currency.clone(), other: odd.currency.clone() });
        }
        let own = self.budgets.iter().map(|(agent, budget)| (format!("costs.budgets.{agent}"), *budget));
        let budgets = self.budget.iter().map(|budget| ("costs.budget".to_owned(), *budget)).chain(own);
        let odd = budgets.filter(|(_, budget)| !(0.0..=1e6).contains(budget));
        problems.extend(odd.map(|(key, value)| Problem::Budget { key, value }));
    }
}

/// The `[certificates]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// Of agents.
    #[serde(with = "humantime_serde")]
    pub agent_lifetime: Duration,
    /// Of operators.
    #[serde(with = "humantime_serde")]
    pub operator_lifetime: Duration,
    /// Of the hub itself.
    #[serde(with = "humantime_serde")]
    pub hub_lifetime: Duration,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            agent_lifetime: limits::AGENT_CERTIFICATE,
            operator_lifetime: limits::OPERATOR_CERTIFICATE,
            hub_lifetime: limits::HUB_CERTIFICATE,
        }
    }
}

impl Config {
    /// Read, parse and check it.
    pub fn open(from: impl Into<Source>) -> Result<Self, Error> {
        let from = from.into();
        let config: Self = from.load()?;
        let problems = config.check();
        if problems.is_empty() { Ok(config) } else { Err(Error::Invalid { path: from.name().into(), problems }) }
    }

    /// Everything that can't work; nothing when all is well.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            problems.push(Problem::NoFolder { key: "data_dir" });
        }
        if !is_trust_domain(&self.trust_domain) {
            problems.push(Problem::TrustDomain { value: self.trust_domain.clone() });
        }
        // The alphabet of agent ids: a hub's name stands beside theirs in certificates.
        if self.hub_id.parse::<sfdata_common::ids::AgentId>().is_err() {
            problems.push(Problem::HubId { value: self.hub_id.clone() });
        }
        self.check_addresses(&mut problems);
        let Certificates { agent_lifetime, operator_lifetime, hub_lifetime } = self.certificates;
        for (key, value, most) in [
            ("agent_lifetime", agent_lifetime, limits::AGENT_CERTIFICATE),
            ("operator_lifetime", operator_lifetime, limits::OPERATOR_CERTIFICATE),
            ("hub_lifetime", hub_lifetime, limits::HUB_CERTIFICATE),
        ] {
            if value < Duration::from_secs(1) || value > most {
                problems.push(Problem::Lifetime { key, value, most });
            }
        }
        problems.extend(self.alerts.check().into_iter().map(Problem::Alerts));
        self.costs.check(&mut problems);
        self.enrol.aws.check(&mut problems);
        self.dispatch.check(&mut problems);
        problems.extend(self.backup.iter().filter_map(|backup| backup.check().err()).map(Problem::Backup));
        problems.extend(telemetry::check(&self.log).err().map(Problem::Log));
        problems.extend(self.telemetry.check().err().map(Problem::Telemetry));
        problems.extend(self.policy().err());
        problems
    }

    fn check_addresses(&self, problems: &mut Vec<Problem>) {
        let Listen { address, enrol, ops } = self.listen;
        if !ops.ip().is_loopback() {
            problems.push(Problem::OpsNotLoopback { address: ops });
        }
        for (first, second, one, other) in
            [("address", "enrol", address, enrol), ("address", "ops", address, ops), ("enrol", "ops", enrol, ops)]
        {
            if one == other && one.port() != 0 {
                problems.push(Problem::SameAddress { first, second, address: one });
            }
        }
        let Public { address, enrol_address } = &self.public;
        for (key, value) in [("public.address", address), ("public.enrol_address", enrol_address)] {
            if !is_dialable(value) {
                problems.push(Problem::NotDialable { key, value: value.clone() });
            }
        }
    }

    /// The policy that the file names, or the built-in one.
    pub fn policy(&self) -> Result<Policy, Problem> {
        let invalid = |path: &Path, source| Problem::Policy { path: path.into(), source };
        match &self.policy {
            None => Policy::parse(DEFAULT_POLICY, Side::Hub).map_err(|source| invalid(Path::new("(built in)"), source)),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| Problem::PolicyFile { path: path.clone(), source })?;
                Policy::parse(&text, Side::Hub).map_err(|source| invalid(path, source))
            }
        }
    }
}

/// SPIFFE-ID, section 2.1.
fn is_trust_domain(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(legal)
}

fn is_dialable(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_legal = match bracketed {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    host_is_legal && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sfdata_common::{
        Timestamp,
        command::Class,
        error::chain,
        policy::{self, AgentFacts, Question, Resource, Verdict},
        trust::Role,
    };

    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/config/hub.toml");

    fn try_parse(text: &str) -> Result<Config, config::Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        config::load(file.path())
    }

    fn parse(text: &str) -> Config {
        try_parse(text).unwrap()
    }

    #[test]
    fn the_example_parses_and_its_comments_show_the_defaults() {
        let config = parse(EXAMPLE);
        assert!(config.check().is_empty(), "{:?}", config.check());
        let is_key = |text: &&str| text.contains(" = ") && !text.starts_with("policy");
        let with_comments: Vec<&str> =
            EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(is_key).unwrap_or(line)).collect();
        assert_eq!(format!("{:?}", parse(&with_comments.join("\n"))), format!("{config:?}"));
    }

    #[test]
    fn the_examples_of_optional_keys_parse() {
        let with_examples: Vec<&str> = EXAMPLE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect();
        let config = parse(&with_examples.join("\n"));
        assert!(config.check().is_empty(), "{:?}", config.check());
        assert!(config.telemetry.otlp_endpoint.is_some());
        assert!(config.alerts.sns.is_some() && config.costs.budget.is_some() && !config.health.datasets.is_empty());
    }

    #[test]
    fn prices_are_of_one_currency_and_one_list_a_region() {
        let mut config = parse(EXAMPLE);
        let pounds = Prices { currency: "GBP".into(), ..config.costs.prices[0].clone() };
        config.costs.prices.push(pounds);
        let text: Vec<String> = config.check().iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(text.iter().any(|problem| problem.contains("in USD and in GBP")), "{text:?}");
        assert!(text.iter().any(|problem| problem.contains("two lists for \"eu-west-2\"")), "{text:?}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut config = parse(EXAMPLE);
        config.data_dir = PathBuf::new();
        config.trust_domain = "SFDATA".into();
        config.hub_id = "-".into();
        config.listen.ops = "0.0.0.0:7443".parse().unwrap();
        config.public.address = "https://hub:7443".into();
        config.public.enrol_address = "hub:0".into();
        config.certificates.agent_lifetime = Duration::from_secs(25 * 3600);
        config.log.level = "sfdata=loud".into();
        config.telemetry.otlp_endpoint = Some("collector:4317".into());
        config.policy = Some("/nonexistent/hub.cedar".into());
        config.enrol.aws = Aws {
            region: "us-east-1".into(),
            endpoint_url: Some("https://sts.example".into()),
            organization: Some("O-1".into()),
            ..Aws::default()
        };
        config.backup = Some(backups::Settings { folder: PathBuf::new(), every: Duration::from_secs(3600), keep: 1 });
        let problems = config.check();
        let text: Vec<String> = problems.iter().map(|problem| chain(problem).to_string()).collect();
        for fact in [
            "data_dir is empty",
            "\"SFDATA\"",
            "hub_id \"-\"",
            "0.0.0.0:7443 is not loopback",
            "address and listen.ops are both",
            "https://hub:7443",
            "hub:0",
            "agent_lifetime is 1day 1h",
            "sfdata=loud",
            "telemetry.otlp_endpoint \"collector:4317\" is no endpoint",
            "/nonexistent/hub.cedar",
            "\"us-east-1\" is none whose STS is asked",
            "\"https://sts.example\" is not on this machine",
            "\"O-1\" is no organisation's id",
            "[backup] needs a folder",
        ] {
            assert!(text.iter().any(|problem| problem.contains(fact)), "{fact} is missing in {text:#?}");
        }
        assert_eq!(problems.len(), 15, "{text:#?}");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(try_parse(&EXAMPLE.replace("hub_id", "hubid")).is_err());
        assert!(try_parse(&EXAMPLE.replace("# level", "levle")).is_err());
    }

    /// What is asked of the policy and is not in its schema could be named by no policy.
    #[test]
    fn the_schema_has_every_action_on_the_fleet_in_its_class_and_no_other() {
        let source = include_str!("api/operator.rs");
        let asked = source.split("self.may(&request, \"").skip(1).filter_map(|rest| {
            let (action, rest) = rest.split_once("\", ")?;
            let class = match rest.split_once(')')?.0 {
                "Authorizer::READ" => "read",
                "OPERATE" => "operate",
                "ADMINISTER" => "administer",
                other => panic!("{action} is of class {other}"),
            };
            Some((action.to_owned(), [class.to_owned()].into()))
        });
        let asked: BTreeMap<_, _> = asked.collect();
        let agents: Vec<_> = policy::actions(Side::Agent).into_iter().map(|(action, _)| action).collect();
        let fleet = policy::actions(Side::Hub).into_iter().filter(|(action, _)| !agents.contains(action));
        assert_eq!(fleet.collect::<BTreeMap<_, _>>(), asked);
    }

    #[test]
    fn the_built_in_policy_gives_each_role_its_classes_and_no_more() {
        let policy = parse(EXAMPLE).policy().unwrap();
        let facts = AgentFacts { groups: vec![], labels: BTreeMap::new() };
        let agent = "camden".parse().unwrap();
        let ask = |roles: &[Role], class: &str, resource| {
            policy.ask(&Question {
                operator: &"alice".parse().unwrap(),
                roles,
                action: "some.action",
                class,
                resource,
                reason: "because",
                now: Timestamp::UNIX_EPOCH,
                signers: 1,
                freezes: &[],
            })
        };
        for role in Role::ALL {
            for class in [Class::Read, Class::Operate, Class::Change, Class::Data, Class::Destroy] {
                let allowed = ask(&[role], class.as_str(), Resource::Agent(&agent, &facts)) == Verdict::Allowed;
                assert_eq!(allowed, role.grants(class), "{role} {class}");
            }
            let administers = ask(&[role], "administer", Resource::Fleet) == Verdict::Allowed;
            assert_eq!(administers, role == Role::Admin, "{role} administer");
            assert_eq!(ask(&[role], "read", Resource::Fleet), Verdict::Allowed, "{role} reads the fleet");
        }
        assert!(matches!(ask(&[], "read", Resource::Fleet), Verdict::Denied(_)), "no role, no rights");
    }
}
