//! Estates of odd shapes, and what is proposed for them.

use jiff::Timestamp;
use sfdata_common::discovery;

use super::*;
use crate::{
    config::Config,
    discover::{Bucket, Container, Stack},
};

const WEBSERVER: &str = "dagster-webserver -p 3000";
const DAEMON: &str = "dagster-daemon run";
const CODE: &str = "dagster api grpc -p 4000";

fn service(name: &str, command: &str) -> Service {
    let command = if command.is_empty() { vec![] } else { vec!["sh".into(), "-c".into(), command.into()] };
    let container = Container { name: "app".into(), image: "reg/app:1".into(), command, ..Container::default() };
    Service {
        name: name.into(),
        arn: format!("arn:aws:ecs:r:1:service/c/{name}"),
        desired: 1,
        containers: vec![container],
        ..Service::default()
    }
}

fn cluster(name: &str, services: &[(&str, &str)]) -> Cluster {
    Cluster { name: name.into(), services: services.iter().map(|(name, command)| service(name, command)).collect() }
}

/// An account with one cluster.
fn account(services: &[(&str, &str)]) -> Account {
    Account { id: "1".into(), region: "eu-west-2".into(), clusters: vec![cluster("c", services)], ..Account::default() }
}

const USUAL: [(&str, &str); 3] = [("w", WEBSERVER), ("d", DAEMON), ("k", CODE)];

fn database(name: &str) -> Database {
    let endpoints = vec![format!("{name}.cluster-x.rds.amazonaws.com")];
    Database { name: name.into(), engine: "aurora-postgresql".into(), endpoints, ..Database::default() }
}

fn bucket(name: &str) -> Bucket {
    Bucket { name: name.into(), ..Bucket::default() }
}

fn variable(account: &mut Account, service: usize, name: &str, value: &str) {
    let container = &mut account.clusters[0].services[service].containers[0];
    container.environment.insert(name.into(), value.into());
}

fn line<'a>(proposal: &'a Proposal, key: &str) -> &'a Line {
    proposal.lines.iter().find(|line| line.key.ends_with(key)).unwrap()
}

fn one(proposal: &Proposal, key: &str) -> Option<String> {
    match &line(proposal, key).value {
        Choice::One(value) => Some(value.clone()),
        Choice::Several(values) => Some(values.join(",")),
        Choice::Left => None,
    }
}

/// What the configuration's own parser makes of it.
fn parsed(proposal: &Proposal) -> Result<Config, sfdata_common::config::Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rest = "data_dir = \"/x\"\n[aws]\nregion = \"eu-west-2\"\n";
    std::fs::write(file.path(), rest.to_owned() + &discovery::toml(proposal, Timestamp::UNIX_EPOCH)).unwrap();
    sfdata_common::config::load(file.path())
}

#[test]
fn estates_of_odd_shapes_are_adopted_or_left_to_a_person() {
    // What there is; then cluster, webserver, daemon, code servers and other services, `?` where it is left.
    type Estate<'a> = (&'a str, Vec<Cluster>, [&'a str; 5]);
    let c = |services: &[(&str, &str)]| vec![cluster("c", services)];
    let many = |also: &[(&'static str, &'static str)]| c(&[&USUAL[..], also].concat());
    let table: Vec<Estate> = vec![
        ("the usual", c(&USUAL), ["c", "w", "d", "k", ""]),
        ("nothing", vec![], ["?", "?", "?", "", ""]),
        ("an empty cluster", c(&[]), ["c", "?", "?", "", ""]),
        ("two empty clusters", vec![cluster("a", &[]), cluster("b", &[])], ["?", "?", "?", "", ""]),
        ("nothing of Dagster's", c(&[("daemon", "nginx")]), ["c", "?", "?", "", "daemon"]),
        ("an upload page", many(&[("up", "streamlit run app.py")]), ["c", "w", "d", "k", "up"]),
        ("two code servers", many(&[("k2", "dagster code-server start")]), ["c", "w", "d", "k,k2", ""]),
        ("no code server", c(&USUAL[..2]), ["c", "w", "d", "", ""]),
        ("two daemons", many(&[("d2", DAEMON)]), ["c", "w", "?", "k", ""]),
        ("two webservers", many(&[("w2", "dagit")]), ["c", "?", "d", "k", ""]),
        ("no daemon", c(&[USUAL[0], USUAL[2]]), ["c", "w", "?", "k", ""]),
        ("names that lie", c(&[("daemon", WEBSERVER), ("web", DAEMON)]), ["c", "daemon", "web", "", ""]),
        ("all in one", c(&[("all", "dagit & dagster-daemon run"), USUAL[2]]), ["c", "?", "?", "k", ""]),
        ("dev", c(&[("all", "dagster dev")]), ["c", "?", "?", "", ""]),
        ("an agent beside", many(&[("a", "sfdata-agent run")]), ["c", "w", "d", "k", ""]),
        ("a sure and a likely daemon", many(&[("d2", "/start.sh dagster-daemon run")]), ["c", "w", "d", "k", ""]),
        ("a likely daemon", c(&[USUAL[0], ("d", "/start.sh dagster-daemon run")]), ["c", "w", "d", "", ""]),
        ("a cluster beside", vec![cluster("a", &[("n", "nginx")]), cluster("c", &USUAL)], ["c", "w", "d", "k", ""]),
        ("two platforms", vec![cluster("a", &USUAL), cluster("c", &USUAL)], ["?", "?", "?", "", ""]),
        ("torn in two", vec![cluster("a", &USUAL[..1]), cluster("c", &USUAL[1..])], ["?", "?", "?", "", ""]),
        ("unknown ones", c(&[("x", ""), USUAL[1]]), ["c", "?", "d", "", "x"]),
    ];
    for (what, clusters, wanted) in table {
        let proposal = propose(&Account { clusters, ..Account::default() });
        let all = proposal.lines.iter().filter(|line| !line.key.contains("bucket") && !line.key.contains("aurora"));
        let mut said: Vec<_> = all.map(|line| one(&proposal, &line.key).unwrap_or("?".into())).collect();
        said.resize(5, String::new());
        assert_eq!(said, wanted, "{what}: {proposal:#?}");
        for line in &proposal.lines {
            assert!(
                !line.because.is_empty()
                    || !line.unsure.is_empty()
                    || matches!(&line.value, Choice::Several(none) if none.is_empty()),
                "{what}: {line:?}"
            );
        }
        let whole = proposal.left().next().is_none();
        assert_eq!(whole, !wanted[..3].contains(&"?"), "{what}");
        let config = parsed(&proposal);
        assert_eq!(config.is_ok(), whole, "{what}: {config:?}");
        if let Ok(config) = config {
            config.check().unwrap();
        }
    }
}

#[test]
fn a_daemon_is_left_with_its_candidates_and_what_speaks_for_each() {
    let daemon = propose(&account(&[("d1", DAEMON), ("d2", DAEMON), ("w", WEBSERVER)]));
    let left = line(&daemon, "daemon");
    assert_eq!(left.candidates.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["d1", "d2"]);
    assert!(left.candidates[0].why.contains("runs dagster-daemon run"), "{left:?}");
    assert_eq!(daemon.left().map(|line| line.key.as_str()).collect::<Vec<_>>(), ["platform.daemon"]);
}

#[test]
fn a_second_daemon_that_is_only_likely_and_a_service_at_zero_are_told() {
    let mut account = account(&[("w", WEBSERVER), ("d", DAEMON), ("d2", "/start.sh dagster-daemon run")]);
    account.clusters[0].services[0].desired = 0;
    let proposal = propose(&account);
    assert!(line(&proposal, "daemon").unsure.iter().any(|doubt| doubt.starts_with("d2 may be a daemon too")));
    assert!(line(&proposal, "webserver").because.iter().any(|why| why.contains("switched off")));
}

#[test]
fn a_database_is_chosen_by_what_ties_it() {
    let mut account = account(&USUAL);
    assert_eq!(one(&propose(&account), "aurora_cluster"), None);

    account.databases = vec![database("one"), Database { engine: "neptune".into(), ..database("graph") }];
    let only = propose(&account);
    assert_eq!(one(&only, "aurora_cluster").unwrap(), "one");
    assert_eq!(line(&only, "aurora_cluster").unsure.len(), 2, "nothing ties it; and there is a graph");

    account.databases = vec![database("one"), database("two")];
    let left = propose(&account);
    assert_eq!(line(&left, "aurora_cluster").candidates.len(), 2);
    assert!(left.left().next().is_none(), "a platform may have none");

    variable(&mut account, 1, "DATABASE_URL", "postgresql://u:hunter2@two.cluster-x.rds.amazonaws.com:5432/dagster");
    let tied = propose(&account);
    assert_eq!(one(&tied, "aurora_cluster").unwrap(), "two");
    let text = discovery::toml(&tied, Timestamp::UNIX_EPOCH) + &discovery::json(&tied).unwrap();
    assert!(text.contains("DATABASE_URL") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_database_is_tied_by_its_secret_or_its_stack() {
    let mut by_secret = account(&USUAL);
    let secret = "arn:aws:secretsmanager:r:1:secret:rds!cluster-1-AbCdEf";
    by_secret.databases = vec![database("one"), Database { secret: Some(secret.into()), ..database("two") }];
    let container = &mut by_secret.clusters[0].services[1].containers[0];
    container.secrets.insert("PGPASSWORD".into(), format!("{secret}:password::"));
    assert_eq!(one(&propose(&by_secret), "aurora_cluster").unwrap(), "two");

    let mut by_stack = account(&USUAL);
    by_stack.databases = vec![database("one"), database("two")];
    let arn = by_stack.clusters[0].services[1].arn.clone();
    let stack = |name: &str, root: &str, resource: (&str, &str)| Stack {
        name: name.into(),
        root: root.into(),
        resources: vec![(resource.0.into(), resource.1.into())],
        ..Stack::default()
    };
    by_stack.stacks = vec![
        stack("services", "root", ("Runner", &arn)),
        stack("data", "root", ("Store", "one")),
        stack("other", "other", ("Store", "two")),
    ];
    let proposal = propose(&by_stack);
    assert_eq!(one(&proposal, "aurora_cluster").unwrap(), "one");
    assert!(line(&proposal, "daemon").because.contains(&"stack services calls it Runner".to_owned()));
}

#[test]
fn buckets_that_nothing_tells_of_are_named_and_not_guessed() {
    let mut account = account(&USUAL);
    account.buckets = ["la-data-store", "in", "odd", "la-workspace"].map(bucket).into();
    variable(&mut account, 2, "INPUT_LOCATION", "s3://in/");
    variable(&mut account, 2, "PLACE", "odd");
    let proposal = propose(&account);
    assert_eq!(one(&proposal, "data_store").unwrap(), "in");
    assert_eq!((one(&proposal, "workspace"), one(&proposal, "shared")), (None, None));
    let so_called: Vec<_> = line(&proposal, "workspace").candidates.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(so_called, ["la-workspace"], "a name is shown, and decides nothing");
    let told = proposal.unsure.join("\n");
    assert!(told.contains("bucket odd is named by variable PLACE of service k"), "{told}");
    assert!(told.ends_with("nothing tells that they are the platform's: la-data-store"), "{told}");
    let config = parsed(&proposal).unwrap();
    assert_eq!(config.platform.buckets.data_store.as_deref(), Some("in"));
    assert_eq!(config.platform.buckets.workspace, None);
}

#[test]
fn another_service_is_tied_by_a_bucket_or_by_its_cluster_alone() {
    let mut account = account(&[&USUAL[..], &[("up", "streamlit run a"), ("x", "nginx")]].concat());
    account.buckets = vec![bucket("in")];
    variable(&mut account, 3, "TARGET", "in");
    let proposal = propose(&account);
    let others = line(&proposal, "other_services");
    assert_eq!(others.value, Choice::Several(vec!["up".into(), "x".into()]));
    assert!(others.because[0].contains("its variable TARGET names bucket in"), "{others:?}");
    assert_eq!(others.unsure.len(), 1);
    assert!(others.unsure[0].contains("ties x to the platform"), "{others:?}");
}

#[test]
fn what_could_not_be_read_is_told() {
    let mut account = account(&USUAL);
    account.unread = vec!["cannot list the stacks: AWS denies it".into()];
    let text = discovery::toml(&propose(&account), Timestamp::UNIX_EPOCH);
    assert!(text.contains("# Unsure: cannot list the stacks: AWS denies it\n"), "{text}");
}
