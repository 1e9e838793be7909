//! What a configuration file may say, and what is refused with which words.

use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/config/agent.toml");

fn load(text: &str) -> Result<Config, sfdata_common::config::Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    sfdata_common::config::load(file.path())
}

#[test]
fn the_example_is_whole_and_right() {
    let config = load(EXAMPLE).unwrap();
    config.check().unwrap();
    assert_eq!(config.platform.services().count(), 4);
    assert_eq!(config.platform.buckets.named().count(), 3);
    assert!(config.platform.storage.kms_key.is_none() && !config.usage.bill);
    // Lines that the example holds ready are right as well.
    let all: String = EXAMPLE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n").collect();
    let config = load(&all).unwrap();
    config.check().unwrap();
    assert!(
        config.policy.is_some()
            && config.freeze.len() == 1
            && config.hub.address.is_some()
            && config.aws.credentials_file.is_some()
    );
    let join = config.join.unwrap().place();
    assert_eq!((join.ca_pin.len(), join.root_pin.len(), join.secret.len()), (32, 32, 0));
    assert!(config.dagster.url.is_some() && config.telemetry.otlp_endpoint.is_some() && config.usage.bill);
    assert!(config.ops.address.is_some() && !config.images.repositories.is_empty());
    let Storage { core_reader, replication_role, kms_key } = &config.platform.storage;
    assert!(config.platform.buckets.access_logs.is_some() && config.platform.buckets.backup.is_some());
    let arrivals = config.arrivals.unwrap();
    assert!(arrivals.queue(&config.aws).is_some() && arrivals.rule("cin/a.xml").is_some_and(|rule| rule.batch));
    assert!(core_reader.is_some() && replication_role.is_some() && kms_key.is_some());
}

#[test]
fn a_misspelt_setting_is_an_error() {
    for (right, wrong) in [("region", "regoin"), ("daemon =", "deamon ="), ("shared =", "share =")] {
        assert!(load(&EXAMPLE.replacen(right, wrong, 1)).is_err(), "{wrong}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let text = r#"
        data_dir = "state"
        policy = "policy.cedar"
        hub.address = "https://hub"
        aws = { region = "London", endpoint_url = "localhost:5000", credentials_file = "keys" }
        dagster.url = "https://dagster"
        log.level = "=loud="
        telemetry.otlp_endpoint = "https://collector:4317"
        ops.address = "0.0.0.0:9465"
        arrivals = { queue = "la-arrivals", rule = [{ prefix = "a/", batch = true }] }
        images.repositories = ["sfdata/dagster", "sfdata/*", "sfdata/dagster"]
        [join]
        agent = "camden"
        account = "222222222222"
        address = "hub"
        enrol_address = "hub:7444"
        trust_domain = "sfdata.example"
        ca_pin = "sha256:00"
        root_pin = ""
        [platform]
        cluster = "arn:aws:ecs:eu-west-2:1:cluster/a"
        webserver = "daemon"
        daemon = "daemon"
        aurora_cluster = "1st"
        database_instance = "db"
        buckets = { data_store = "s3://bucket", shared = "s3://bucket", access_logs = "LOGS" }
        storage = { core_reader = "*", replication_role = "arn:aws:iam::222222222222:role/*", kms_key = "alias/la" }
    "#;
    let told = load(text).unwrap().check().unwrap_err().to_string();
    let keys: Vec<_> = told.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        [
            "data_dir",
            "policy",
            "hub.address",
            "join.address",
            "join.ca_pin",
            "join.root_pin",
            "aws.credentials_file",
            "aws.region",
            "aws.endpoint_url",
            "platform.cluster",
            "platform.aurora_cluster",
            "platform.database_instance",
            "platform.buckets.data-store",
            "platform.buckets.shared",
            "platform.buckets.access-logs",
            "platform.storage.core_reader",
            "platform.storage.replication_role",
            "platform.storage.kms_key",
            "platform.storage.replication_role",
            "platform.daemon",
            "shared",
            "arrivals.queue",
            "arrivals.rule",
            "dagster.url",
            "images.repositories:",
            "images.repositories",
            "log.level",
            "telemetry.otlp_endpoint",
            "ops.address",
        ]
    );
}

#[test]
fn a_draft_needs_a_region_from_somewhere_and_no_platform() {
    let draft = |text| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        sfdata_common::config::load::<Draft>(file.path()).unwrap()
    };
    let file = "data_dir = \"/x\"\n[aws]\nregion = \"eu-west-2\"\nendpoint_url = \"http://localhost:1\"";
    assert_eq!(draft(file).aws(None).unwrap().region, "eu-west-2");
    let elsewhere = draft(file).aws(Some("eu-west-1".into())).unwrap();
    assert_eq!((elsewhere.region.as_str(), elsewhere.endpoint_url.is_some()), ("eu-west-1", true));
    assert!(draft("").aws(Some("eu-west-1".into())).is_ok());
    assert!(draft("").aws(None).unwrap_err().to_string().contains("--region"));
    assert!(draft("").aws(Some("London".into())).is_err());
}

#[test]
fn a_service_is_found_by_its_name_or_by_a_role_that_only_it_has() {
    let mut platform = Platform {
        cluster: "c".into(),
        webserver: "la-dagit".into(),
        daemon: "la-daemon".into(),
        code_servers: vec!["la-code".into()],
        other_services: vec!["frontend".into()],
        agent_service: None,
        aurora_cluster: None,
        database_instance: None,
        buckets: Buckets::default(),
        storage: Storage::default(),
    };
    assert_eq!(platform.service("la-daemon"), Some(("la-daemon", Role::Daemon)));
    assert_eq!(platform.service("daemon"), Some(("la-daemon", Role::Daemon)));
    assert_eq!(platform.service("code-server"), Some(("la-code", Role::CodeServer)));
    assert_eq!(platform.service("frontend"), Some(("frontend", Role::Other)));
    assert_eq!(platform.service("other"), None);
    platform.code_servers.push("la-code-2".into());
    assert_eq!(platform.service("code-server"), None, "which of the two is meant?");
}

#[test]
fn addresses_are_host_and_port() {
    for right in ["hub:7443", "hub.example.org:1", "10.0.0.1:7443", "[::1]:7443"] {
        assert!(is_host_and_port(right), "{right}");
    }
    for wrong in ["hub", "hub:", ":7443", "hub:0", "hub:70000", "::1:7443", "http://hub:7443", "[x]:1"] {
        assert!(!is_host_and_port(wrong), "{wrong}");
    }
}
