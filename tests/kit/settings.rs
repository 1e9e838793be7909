//! Configurations of the fixture as the TOML files that the real binaries read.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use sfdata_agent::config as agent;
use sfdata_common::telemetry::traces::Telemetry;
use sfdata_hub::config as hub;

/// Write a hub's configuration to `path`.
pub fn write_hub(config: &hub::Config, path: &Path) -> Result<PathBuf> {
    let hub::Listen { address, enrol, ops } = config.listen;
    let hub::Public { address: public, enrol_address } = &config.public;
    let text = format!(
        "data_dir = {:?}\ntrust_domain = {:?}\nhub_id = {:?}\n\n\
         [listen]\naddress = \"{address}\"\nenrol = \"{enrol}\"\nops = \"{ops}\"\n\n\
         [public]\naddress = {public:?}\nenrol_address = {enrol_address:?}\n\n\
         [enrol.aws]\n{}\n\n[log]\nlevel = {:?}\n{}",
        config.data_dir,
        config.trust_domain,
        config.hub_id,
        config.enrol.aws.endpoint_url.as_ref().map(|url| format!("endpoint_url = {url:?}")).unwrap_or_default(),
        config.log.level,
        telemetry(&config.telemetry)
    );
    std::fs::write(path, text)?;
    Ok(path.into())
}

fn telemetry(telemetry: &Telemetry) -> String {
    let endpoint = telemetry.otlp_endpoint.as_ref();
    endpoint.map(|endpoint| format!("\n[telemetry]\notlp_endpoint = {endpoint:?}\n")).unwrap_or_default()
}

/// Write an agent's configuration to `path`.
pub fn write_agent(config: &agent::Config, path: &Path) -> Result<PathBuf> {
    let policy = config.policy.as_ref().map(|path| format!("policy = {path:?}\n")).unwrap_or_default();
    let mut text = format!("data_dir = {:?}\n{policy}\n[aws]\nregion = {:?}\n", config.data_dir, config.aws.region);
    let mut key = |key: &str, value: Option<String>| -> std::fmt::Result {
        value.map_or(Ok(()), |value| writeln!(text, "{key} = {value:?}"))
    };
    key("endpoint_url", config.aws.endpoint_url.clone())?;
    key("credentials_file", config.aws.credentials_file.as_ref().map(|path| path.display().to_string()))?;
    if let Some(address) = &config.hub.address {
        write!(text, "\n[hub]\naddress = {address:?}\n")?;
    }
    let platform = &config.platform;
    write!(
        text,
        "\n[platform]\ncluster = {:?}\nwebserver = {:?}\ndaemon = {:?}\ncode_servers = {:?}\n",
        platform.cluster, platform.webserver, platform.daemon, platform.code_servers
    )?;
    if let Some(service) = &platform.agent_service {
        writeln!(text, "agent_service = {service:?}")?;
    }
    if let Some(cluster) = &platform.aurora_cluster {
        writeln!(text, "aurora_cluster = {cluster:?}")?;
    }
    if let Some(instance) = &platform.database_instance {
        writeln!(text, "database_instance = {instance:?}")?;
    }
    writeln!(text, "\n[platform.buckets]")?;
    for (role, name) in platform.buckets.named() {
        writeln!(text, "{} = {name:?}", role.replace('-', "_"))?;
    }
    if let Some(logs) = &platform.buckets.access_logs {
        writeln!(text, "access_logs = {logs:?}")?;
    }
    writeln!(text, "\n[platform.storage]")?;
    let agent::Storage { core_reader, replication_role, kms_key } = &platform.storage;
    for (key, value) in [("core_reader", core_reader), ("replication_role", replication_role), ("kms_key", kms_key)] {
        value.as_ref().map_or(Ok(()), |value| writeln!(text, "{key} = {value:?}"))?;
    }
    if let Some(url) = &config.dagster.url {
        writeln!(text, "\n[dagster]\nurl = {url:?}")?;
    }
    let agent::Images { repositories } = &config.images;
    writeln!(text, "\n[images]\nrepositories = {repositories:?}")?;
    let agent::Usage { bill } = config.usage;
    writeln!(text, "\n[usage]\nbill = {bill}")?;
    if let Some(power) = &config.power {
        writeln!(text, "\n[power]")?;
        let spans = [("quiet", power.quiet), ("person", power.person), ("margin", power.margin), ("wake", power.wake)];
        for (key, span) in spans {
            writeln!(text, "{key} = \"{}ms\"", span.as_millis())?;
        }
    }
    if let Some(arrivals) = &config.arrivals {
        writeln!(text, "\n[arrivals]\nlist_every = \"{}s\"", arrivals.list_every.as_secs())?;
        arrivals.queue.as_ref().map_or(Ok(()), |queue| writeln!(text, "queue = {queue:?}"))?;
        assert!(arrivals.rules.is_empty(), "rules are not written");
    }
    for freeze in &config.freeze {
        writeln!(text, "\n[[freeze]]\nname = {:?}\nfrom = \"{}\"\nto = \"{}\"", freeze.name, freeze.from, freeze.to)?;
    }
    if let Some(address) = config.ops.address {
        writeln!(text, "\n[ops]\naddress = \"{address}\"")?;
    }
    write!(text, "\n[log]\nlevel = {:?}\n{}", config.log.level, telemetry(&config.telemetry))?;
    std::fs::write(path, text)?;
    Ok(path.into())
}
