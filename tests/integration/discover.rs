//! An account that somebody else's templates made is understood without a configuration, and a configuration that names what
//! is not there is told so.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use sfdata_agent::config::Config;
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    iam,
    process::{Run, outcome},
    settings::write_agent,
    standin::{Account, Standin},
};
use tempfile::TempDir;

const ACCOUNT: &str = "300000000001";

/// An account, and a configuration that only says where it is.
struct Ground {
    folder: TempDir,
    aws: Standin,
    account: Account,
    draft: PathBuf,
}

impl Ground {
    async fn foreign() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let aws = Standin::start(folder.path()).await.unwrap();
        let account = aws.seed_foreign(folder.path(), ACCOUNT).await.unwrap();
        let draft = folder.path().join("draft.toml");
        let text = format!(
            "data_dir = \"/var/lib/sfdata-agent\"\n[aws]\nregion = \"eu-west-2\"\nendpoint_url = {:?}\n\
             credentials_file = {:?}\n",
            aws.url(),
            account.credentials
        );
        fs::write(&draft, text).unwrap();
        Self { folder, aws, account, draft }
    }

    async fn discover(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let draft = self.draft.display().to_string();
        outcome("sfdata-agent", &[&["discover", "--config", &draft], args].concat()).await
    }

    /// The configuration with what was proposed pasted in.
    fn pasted(&self, proposed: &str) -> PathBuf {
        let whole = self.folder.path().join("agent.toml");
        fs::write(&whole, fs::read_to_string(&self.draft).unwrap() + proposed).unwrap();
        whole
    }

    async fn deny(&self, service: &str, action: &str) {
        let fault = json!({"service": service, "action": action, "kind": "access_denied", "times": null});
        self.aws.fault(fault).await.unwrap();
    }
}

fn read(path: &Path) -> Config {
    let config: Config = sfdata_common::config::load(path).unwrap();
    config.check().unwrap();
    config
}

async fn check_aws(config: &Path) -> (Option<i32>, String, String) {
    outcome("sfdata-agent", &["check-config", "--aws", "--config", &config.display().to_string()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estate_of_somebody_elses_templates_is_adopted_by_what_its_services_run() {
    let ground = Ground::foreign().await;
    let (code, proposed, said) = ground.discover(&[]).await;
    assert_eq!((code, said.as_str()), (Some(0), ""), "{proposed}");

    let whole = ground.pasted(&proposed);
    let platform = read(&whole).platform;
    assert_eq!(platform.cluster, ground.account.cluster);
    assert_eq!((platform.webserver.as_str(), platform.daemon.as_str()), ("Svc-A1B2", "Svc-C3D4"));
    assert_eq!(platform.code_servers, ["Svc-E5F6", "Svc-G7H8"]);
    assert_eq!(platform.other_services, ["upload-daemon"], "whatever it is called");
    assert_eq!(platform.aurora_cluster.as_ref(), Some(&ground.account.database));
    let buckets: Vec<_> = platform.buckets.named().map(|(role, name)| (role.to_owned(), name.to_owned())).collect();
    assert_eq!(
        buckets.iter().collect::<BTreeSet<_>>(),
        ground.account.buckets.iter().collect(),
        "by a variable, a logical id and an output"
    );
    for why in [
        "container app runs dagster-webserver",
        "switched off",
        "variable INPUT_LOCATION of service Svc-E5F6 names it",
        "calls it WorkspaceBucket",
        "output EgressBucketName",
        "its variable TARGET names bucket",
        "not intranet",
        "bi-prod-1d40",
    ] {
        assert!(proposed.contains(why), "not told: {why}\n{proposed}");
    }
    assert!(!proposed.contains("not-a-secret"), "{proposed}");
    let (code, _, said) = check_aws(&whole).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_calls_what_its_policy_allows_and_nothing_else() {
    let ground = Ground::foreign().await;
    let (code, ..) = ground.discover(&[]).await;
    assert_eq!(code, Some(0));
    let called = ground.aws.actions(ACCOUNT).await.unwrap();
    assert_eq!(iam::needed(called), iam::allowed(&["discover"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_becomes_a_comment() {
    let ground = Ground::foreign().await;
    ground.deny("cloudformation", "*").await;
    ground.deny("s3", "GetBucketTagging").await;
    let (code, proposed, said) = ground.discover(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    for told in ["cloudformation:DescribeStacks", "s3:GetBucketTagging", "the tags of 3 more buckets", "#: workspace"] {
        let flat = proposed.replace("\n#  ", "");
        assert!(flat.contains(told), "not told: {told}\n{proposed}");
    }
    let platform = read(&ground.pasted(&proposed)).platform;
    assert_eq!(platform.buckets.named().count(), 1, "what the containers name is known all the same");

    ground.deny("ecs", "DescribeTaskDefinition").await;
    let (code, proposed, said) = ground.discover(&["--cluster", &ground.account.cluster]).await;
    assert_eq!(code, Some(3), "nothing is told by names: {proposed}");
    assert!(said.contains("platform.webserver, platform.daemon"), "{said}");
    assert!(proposed.contains("4 more task definitions"), "{proposed}");
    assert_eq!(proposed.matches("#: daemon = \"").count(), 5, "any of them may be it: {proposed}");

    ground.deny("ecs", "ListClusters").await;
    let (code, proposed, said) = ground.discover(&[]).await;
    assert_eq!((code, proposed.as_str()), (Some(1), ""));
    assert!(said.contains("cannot list the ECS clusters") && said.contains("ecs:ListClusters"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_platforms_in_one_account_are_left_to_a_person() {
    let ground = Ground::foreign().await;
    let other = ground.aws.seed(ground.folder.path(), "northshire", ACCOUNT).await.unwrap();
    let (code, proposed, said) = ground.discover(&[]).await;
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("platform.cluster") && proposed.contains("--cluster"), "{said}\n{proposed}");
    for cluster in [&ground.account.cluster, &other.cluster] {
        assert!(proposed.contains(&format!("#: cluster = \"{cluster}\"")), "{proposed}");
    }

    let (code, proposed, _) = ground.discover(&["--cluster", &other.cluster, "-o", "json"]).await;
    let proposed: Value = serde_json::from_str(&proposed).unwrap();
    let value = |key: &str| {
        let lines = proposed["lines"].as_array().unwrap();
        lines.iter().find(|line| line["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(code, Some(0));
    assert_eq!((value("platform.cluster"), value("platform.daemon")), (json!(other.cluster), json!("daemon")));
    assert_eq!(value("platform.buckets.shared"), json!("bi-prod-9e2d"), "an output is all that tells");
    assert_eq!(value("platform.aurora_cluster"), Value::Null, "two, and nothing ties either");

    let (code, proposed, said) = ground.discover(&["--cluster", "nowhere"]).await;
    assert_eq!((code, proposed.as_str()), (Some(1), ""));
    assert!(said.contains("no ECS cluster nowhere") && said.contains(&other.cluster), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_enough_and_none_is_not() {
    let ground = Ground::foreign().await;
    let nowhere = ground.folder.path().join("nowhere.toml").display().to_string();
    let (code, _, said) = outcome("sfdata-agent", &["discover", "--config", &nowhere]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("nowhere.toml") && said.contains("--config"), "{said}");
    let draft = ground.draft.with_extension("empty");
    fs::write(&draft, "").unwrap();
    let (code, _, said) = outcome("sfdata-agent", &["discover", "--config", &draft.display().to_string()]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("aws.region is missing"), "{said}");
    let (code, proposed, said) = ground.discover(&["--region", "eu-west-1"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(proposed.contains("there is no ECS cluster in this account and region"), "{proposed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_names_what_is_not_there_is_told_what_is() {
    let ground = Ground::foreign().await;
    let (_, proposed, _) = ground.discover(&[]).await;
    let wrong = |pairs: &[(&str, &str)]| {
        let text = pairs.iter().fold(proposed.clone(), |text, (right, wrong)| text.replace(right, wrong));
        ground.pasted(&text)
    };
    let names = [("= \"Svc-C3D4\"", "= \"daemon\""), ("= \"bi-prod-store-x1\"", "= \"store\"")];
    let config = wrong(&[&names[..], &[("= \"bi-prod-9e2d\"", "= \"shared-bucket\"")]].concat());
    let (code, _, said) = check_aws(&config).await;
    assert_eq!(code, Some(1), "{said}");
    for told in [
        "platform.daemon \"daemon\" names no service of ECS cluster bi-prod-Cluster-9XQ2; there is Svc-A1B2, Svc-C3D4",
        "platform.aurora_cluster \"store\" names no Aurora cluster; there is bi-prod-store-x1",
        "platform.buckets.shared \"shared-bucket\" names no bucket of this account; there is bi-prod-0f3a",
    ] {
        assert!(said.contains(told), "not told: {told}\n{said}");
    }
    assert_eq!(said.matches("names no").count(), 3, "{said}");

    let config = wrong(&[("cluster = \"bi-prod-Cluster-9XQ2\"", "cluster = \"prod\"")]);
    ground.deny("rds", "*").await;
    let (code, _, said) = check_aws(&config).await;
    assert_eq!(code, Some(1), "{said}");
    for told in ["\"prod\" names no ECS cluster; there is bi-prod-Cluster-9XQ2, intranet", "rds:DescribeDBClusters"] {
        assert!(said.contains(told), "not told: {told}\n{said}");
    }

    // Permissions of an agent often cover no cluster but the right one.
    ground.deny("ecs", "DescribeServices").await;
    let (_, _, said) = check_aws(&config).await;
    assert!(said.contains("\"prod\" names no ECS cluster; there is bi-prod-Cluster-9XQ2, intranet"), "{said}");
    ground.aws.heal().await.unwrap();
    ground.deny("ecs", "ListClusters").await;
    let (_, _, said) = check_aws(&config).await;
    assert!(
        said.contains("names no ECS cluster; what there is cannot be told: cannot list the ECS clusters"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_runs_on_and_logs_what_is_not_there() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let mut config = fleet.agents[0].config.clone();
    config.platform.webserver = "dagit".into();
    let file = write_agent(&config, &fleet.folder.path().join("agent.toml")).unwrap();
    let agent = Run::start("sfdata-agent", &["--config", &file.display().to_string(), "run"], fleet.folder.path());
    fleet.connected(0).await;
    eventually("it says what there is", Duration::from_secs(20), async || {
        let told =
            "platform.webserver \"dagit\" names no service of ECS cluster sfdata-la-0; there is code-server, daemon";
        agent.said().contains(told).then_some(())
    })
    .await;
    drop(agent);
    fleet.stop().await;
}
