//! What an LA's account costs a month, asleep, typical and always on: from what its parameters make, the prices of the hub's
//! built-in list and those of `deploy/config/prices.toml`, and how much is used, which is written down here with where it comes
//! from. An estimate, and no bill.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use sfdata_common::prices::{self, MONTH_HOURS, Prices};

use super::{
    estate::{Estate, Made},
    parameters::Parameters,
};

/// LAs that share the core's endpoints, where nothing else is said; a region has 10 to 40.
pub(crate) const LAS: u32 = 20;
/// Looks of a month: once a day it is looked (`power.longest_sleep`).
const LOOKS: f64 = MONTH_HOURS / 24.0;
/// A wake of 2 min, a look, quiet of 30 s, and putting to sleep again.
const LOOK_HOURS: f64 = 0.1;

/// Nothing that costs depends on the account.
pub(crate) const ANY_ACCOUNT: &str = "222222222222";

/// The instance that `instance_hour` of the prices is of.
const PRICED_CLASS: &str = "db.t4g.micro";

/// How much of what grows with use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    pub(crate) name: &'static str,
    /// Hours awake: `tests/load/README.md`, "What a platform costs".
    awake: f64,
    /// How often the database falls asleep: each time it is paid for until it does.
    naps: f64,
    /// Hours of tasks with 1 vCPU and 4 GiB: 148 runs of a quarter of an hour, as in the simulation's months.
    runs: f64,
    stored_gib: f64,
    requests: f64,
    logged_gib: f64,
    /// Through endpoints; layers of images and the LA's files go by S3's own, which costs nothing.
    passed_gib: f64,
}

/// In the order in which they are shown.
pub(crate) const USES: [Use; 3] = [
    Use {
        name: "asleep",
        awake: LOOKS * LOOK_HOURS,
        naps: LOOKS,
        runs: 0.0,
        stored_gib: 10.0,
        requests: 20_000.0,
        logged_gib: 0.2,
        passed_gib: 1.0,
    },
    Use {
        name: "typical",
        awake: 51.2,
        naps: 120.0,
        runs: 37.0,
        stored_gib: 10.0,
        requests: 100_000.0,
        logged_gib: 1.5,
        passed_gib: 5.0,
    },
    Use {
        name: "always on",
        awake: MONTH_HOURS,
        naps: 0.0,
        runs: 37.0,
        stored_gib: 10.0,
        requests: 100_000.0,
        logged_gib: 4.0,
        passed_gib: 15.0,
    },
];

/// Prices that the hub does not need, beside whose list they stand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct More {
    region: String,
    currency: String,
    dated: jiff::civil::Date,
    source: String,
    arm_vcpu_hour: f64,
    arm_gib_hour: f64,
    endpoint_hour: f64,
    endpoint_gib: f64,
    kms_key_month: f64,
    kms_requests_10000: f64,
    secret_month: f64,
    alarm_month: f64,
    log_stored_gib_month: f64,
    efs_gib_month: f64,
    aurora_stored_gib_month: f64,
    aurora_requests_million: f64,
    instance_hour: f64,
    instance_stored_gib_month: f64,
    sqs_requests_million: f64,
    metrics_read_1000: f64,
    balancer_hour: f64,
}

/// Both lists.
#[derive(Debug)]
pub(crate) struct PriceList {
    hub: Prices,
    more: More,
}

impl PriceList {
    /// Those that are built in.
    pub(crate) fn built_in() -> anyhow::Result<Self> {
        let more: More = toml::from_str(include_str!("../../../../deploy/config/prices.toml"))
            .context("deploy/config/prices.toml does not hold the prices that it should")?;
        let mut lists = prices::built_in().into_iter();
        let hub = lists.find(|list| list.region == more.region && list.currency == more.currency);
        let hub = hub.with_context(|| format!("the hub has no prices of {} in {}", more.region, more.currency))?;
        Ok(Self { hub, more })
    }

    pub(crate) fn currency(&self) -> &str {
        &self.hub.currency
    }

    pub(crate) fn region(&self) -> &str {
        &self.hub.region
    }

    /// The older of both.
    pub(crate) fn dated(&self) -> jiff::civil::Date {
        self.hub.dated.min(self.more.dated)
    }

    pub(crate) fn source(&self) -> &str {
        &self.more.source
    }

    fn task_hour(&self, size: &Size) -> f64 {
        match size.arm {
            true => size.vcpu * self.more.arm_vcpu_hour + size.gib * self.more.arm_gib_hour,
            false => size.vcpu * self.hub.vcpu_hour + size.gib * self.hub.gib_hour,
        }
    }
}

/// One line of a sheet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) amount: f64,
    pub(crate) unit: &'static str,
    pub(crate) price: f64,
}

impl Line {
    fn new(what: impl Into<String>, amount: f64, unit: &'static str, price: f64) -> Self {
        Self { what: what.into(), amount, unit, price }
    }

    pub(crate) fn sum(&self) -> f64 {
        self.amount * self.price
    }
}

/// What all lines cost.
pub(crate) fn sum(lines: &[Line]) -> f64 {
    lines.iter().map(Line::sum).sum()
}

/// The size of a task.
#[derive(Debug)]
struct Size {
    vcpu: f64,
    gib: f64,
    arm: bool,
}

/// The lines of a month. The core's `shared` endpoints are paid for by so many LAs.
pub(crate) fn sheet(
    parameters: &Parameters,
    with: Use,
    shared: f64,
    las: u32,
    p: &PriceList,
) -> anyhow::Result<Vec<Line>> {
    let estate = Estate::new(parameters, ANY_ACCOUNT)?;
    let mut lines = vec![agent(&estate, p)?];
    let is = |name: &str, value: &str| parameters.get(name) == Some(value);
    // Of an adopted platform nobody knows here what it has.
    if parameters.stacks().contains(&"dagster") {
        let mut awake = 0.0;
        for name in ["WebserverTask", "DaemonTask", "CodeServerTask"] {
            awake += p.task_hour(&size(&estate, "dagster", name)?);
        }
        lines.push(Line::new("page, daemon, code server while awake", with.awake, "h", awake));
        let run = match is("RunCapacity", "FARGATE_SPOT") {
            true => p.hub.spot_vcpu_hour + 4.0 * p.hub.spot_gib_hour,
            false => p.hub.vcpu_hour + 4.0 * p.hub.gib_hour,
        };
        lines.push(Line::new("runs of 1 vCPU and 4 GiB", with.runs, "h", run));
        lines.extend(database(&estate, with, p)?);
    }
    if parameters.stacks().contains(&"frontend") {
        let hour = p.task_hour(&size(&estate, "frontend", "Task")?);
        lines.push(Line::new("upload front end, which stays up", MONTH_HOURS, "h", hour));
    }
    let copies = if is("Copies", "yes") { 2.0 } else { 1.0 };
    let (hub, more) = (&p.hub, &p.more);
    lines.extend([
        Line::new("buckets", with.stored_gib * copies, "GiB", hub.stored_gib_month),
        Line::new("requests to buckets", with.requests / 1000.0, "1,000", hub.requests_1000),
        Line::new("key of the LA", number(&estate, "AWS::KMS::Key")?, "", more.kms_key_month),
        Line::new("requests to the key", 1.0, "10,000", more.kms_requests_10000),
        Line::new("secret of the database", number(&estate, "AWS::SecretsManager::Secret")?, "", more.secret_month),
        Line::new("alarms", number(&estate, "AWS::CloudWatch::Alarm")?, "", more.alarm_month),
        Line::new("journal on EFS", 0.1, "GiB", more.efs_gib_month),
        Line::new("lines logged", with.logged_gib, "GiB", hub.log_gib),
        Line::new("lines kept, three months", 3.0 * with.logged_gib, "GiB", more.log_stored_gib_month),
        Line::new("queue, asked every 20 s", MONTH_HOURS * 180.0 / 1e6, "million", more.sqs_requests_million),
        Line::new("load and sizes read, hourly", 8.0, "1,000", more.metrics_read_1000),
    ]);
    let own = endpoints(&estate)?;
    lines.push(match own {
        0.0 => {
            let what = format!("share of {shared} endpoints of {las} LAs");
            Line::new(what, shared / f64::from(las) * MONTH_HOURS, "h", more.endpoint_hour)
        }
        own => Line::new("endpoints of its own", own * MONTH_HOURS, "h", more.endpoint_hour),
    });
    lines.push(Line::new("through endpoints", with.passed_gib, "GiB", more.endpoint_gib));
    let balancers = number(&estate, "AWS::ElasticLoadBalancingV2::LoadBalancer")?;
    if balancers > 0.0 {
        lines.push(Line::new("load balancer", balancers * MONTH_HOURS, "h", more.balancer_hour));
    }
    Ok(lines)
}

fn agent(estate: &Estate, p: &PriceList) -> anyhow::Result<Line> {
    let services = estate.made("AWS::ECS::Service")?;
    let service = services.iter().find(|made| made.stack == "agent").context("the templates make no agent")?;
    let spot = service
        .properties
        .pointer("/CapacityProviderStrategy/0/CapacityProvider")
        .is_some_and(|on| on == "FARGATE_SPOT");
    let rate = if spot { p.hub.spot_vcpu_hour / p.hub.vcpu_hour } else { 1.0 };
    let what = format!("agent, {}, ARM", if spot { "Spot" } else { "on demand" });
    Ok(Line::new(what, MONTH_HOURS, "h", rate * p.task_hour(&size(estate, "agent", "Task")?)))
}

fn database(estate: &Estate, with: Use, p: &PriceList) -> anyhow::Result<Vec<Line>> {
    let more = &p.more;
    let clusters = estate.made("AWS::RDS::DBCluster")?;
    let Some(cluster) = clusters.first() else {
        let instances = estate.made("AWS::RDS::DBInstance")?;
        let instance = instances.first().context("the templates make no database")?;
        let class = instance.properties["DBInstanceClass"].as_str().unwrap_or_default();
        if class != PRICED_CLASS {
            bail!("there is a price of {PRICED_CLASS} alone (deploy/config/prices.toml), and none of {class}");
        }
        return Ok(vec![
            Line::new("database, a plain instance", MONTH_HOURS, "h", more.instance_hour),
            Line::new("its storage", figure(instance, "/AllocatedStorage")?, "GiB", more.instance_stored_gib_month),
        ]);
    };
    let least = figure(cluster, "/ServerlessV2ScalingConfiguration/MinCapacity")?;
    let pause = figure(cluster, "/ServerlessV2ScalingConfiguration/SecondsUntilAutoPause")?;
    // Awake it takes half an ACU, the least that it can; asleep its least, which is nothing where it pauses.
    let up = MONTH_HOURS.min(with.awake + with.naps * pause / 3600.0);
    let acus = up * least.max(0.5) + (MONTH_HOURS - up) * least;
    Ok(vec![
        Line::new("database, by capacity", acus, "ACU h", p.hub.acu_hour),
        Line::new("its storage, the least", 10.0, "GiB", more.aurora_stored_gib_month),
        Line::new("its requests", with.awake * 0.01, "million", more.aurora_requests_million),
    ])
}

/// Interface endpoints, each as often as it stands in a zone.
pub(crate) fn endpoints(estate: &Estate) -> anyhow::Result<f64> {
    let made = estate.made("AWS::EC2::VPCEndpoint")?;
    let of_interfaces = made.iter().filter(|made| made.properties["VpcEndpointType"] == "Interface");
    Ok(of_interfaces.map(|made| count(made.properties["SubnetIds"].as_array().map_or(0, Vec::len))).sum())
}

/// From how many LAs on an LA that shares endpoints costs at most so much; `None` where no number is enough.
pub(crate) fn enough(lines: &[Line], most: f64, shared: f64, las: u32, p: &PriceList) -> Option<u32> {
    let all = shared * MONTH_HOURS * p.more.endpoint_hour;
    let rest = most - (sum(lines) - all / f64::from(las));
    (1..=1000).find(|las| all / f64::from(*las) <= rest)
}

fn number(estate: &Estate, kind: &str) -> anyhow::Result<f64> {
    Ok(count(estate.made(kind)?.len()))
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn size(estate: &Estate, stack: &str, logical: &str) -> anyhow::Result<Size> {
    let tasks = estate.made("AWS::ECS::TaskDefinition")?;
    let task = tasks.iter().find(|made| made.stack == stack && made.logical == logical);
    let task = task.with_context(|| format!("the templates make no {logical} in {stack}"))?;
    let arm = task.properties.pointer("/RuntimePlatform/CpuArchitecture").is_some_and(|of| of == "ARM64");
    Ok(Size { vcpu: figure(task, "/Cpu")? / 1024.0, gib: figure(task, "/Memory")? / 1024.0, arm })
}

fn figure(made: &Made, pointer: &str) -> anyhow::Result<f64> {
    let value = made
        .properties
        .pointer(pointer)
        .with_context(|| format!("{}#{} has no {pointer}", made.stack, made.logical))?;
    let figure = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    figure.with_context(|| format!("{}#{}: {pointer} is {value}, and no number", made.stack, made.logical))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::platform::templates::Place;

    const PROMISED: f64 = 12.0;
    const SHARED: f64 = 10.0;

    fn month(text: &str, with: usize, las: u32) -> f64 {
        let parameters = Parameters::parse(Path::new("one.params"), Place::Child, text.into()).unwrap();
        sum(&sheet(&parameters, USES[with], SHARED, las, &PriceList::built_in().unwrap()).unwrap())
    }

    #[test]
    fn more_of_a_thing_costs_more_and_of_nothing_else() {
        let (own, shared) = (month("", 0, LAS), month("Network=shared\n", 0, LAS));
        assert!(own - shared > 70.0, "{own} {shared}");
        let zones = month("EndpointZones=two\n", 0, LAS) - own;
        assert!((70.0..100.0).contains(&zones), "{zones}");
        assert!(month("Network=shared\nCapacity=FARGATE\n", 0, LAS) > shared + 3.0);
        let instance = |with| month("Network=shared\nDatabase=instance\n", with, LAS);
        assert!(instance(0) > shared && instance(2) < month("Network=shared\n", 2, LAS));
        assert!(month("Network=shared\nCopies=yes\n", 0, LAS) > shared);
        assert!(month("Network=shared\nRunCapacity=FARGATE_SPOT\n", 1, LAS) < month("Network=shared\n", 1, LAS));
        let adopted = "Network=shared\nStorage=adopted\nDataStore=a\nWorkspace=b\nShared=c\n";
        assert!(month(adopted, 2, LAS) < shared, "of its own platform nothing is known");
        assert!(month("Network=shared\nFrontend=yes\nClientCidr=10.0.0.0/8\n", 0, LAS) > shared + 20.0);
    }

    #[test]
    fn as_many_las_as_it_says_are_enough_and_one_less_is_not() {
        let p = PriceList::built_in().unwrap();
        let parameters = Parameters::parse(Path::new("one.params"), Place::Child, "Network=shared\n".into()).unwrap();
        let lines = sheet(&parameters, USES[0], SHARED, LAS, &p).unwrap();
        let least = enough(&lines, PROMISED, SHARED, LAS, &p).unwrap();
        assert!(month("Network=shared\n", 0, least) <= PROMISED);
        assert!(month("Network=shared\n", 0, least - 1) > PROMISED);
        assert_eq!(enough(&lines, 1.0, SHARED, LAS, &p), None);
    }
}
