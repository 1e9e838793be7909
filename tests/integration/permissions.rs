//! Least privilege: the policies of `deploy/iam` allow what the actions call, and nothing more.

use std::time::Duration;

use serde_json::json;
use sfdata_agent::config::arrivals::Arrivals;
use sfdata_common::{
    Timestamp,
    command::{
        Action, Acu, Agent, Aurora, Bucket, Capacity, Ecs, Environment, FargateCapacity, Images, LogSource, Logs,
        LogsUntil, Object, Rollout, Run, S3,
    },
    fargate::Size,
    outcome::Outcome,
    trust::Role,
};
use sfdata_proto::v1::action_result::Kind;
use sfdata_tests::{eventually, fleet::Fleet, iam};

const MINUTE: Duration = Duration::from_secs(60);

fn read(source: LogSource) -> Action {
    let since = Timestamp::now() - MINUTE;
    Action::Logs(Logs::Read { source, since, until: LogsUntil::Now, grep: String::new(), limit: 9, deadline: MINUTE })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_allow_what_the_actions_call_and_nothing_more() {
    let mut fleet = Fleet::start(1).await;
    let platform = &mut fleet.agents[0].config.platform;
    platform.buckets.backup = Some("la-0-backup".into());
    platform.buckets.access_logs = Some("la-0-logs".into());
    platform.storage.core_reader = Some("arn:aws:iam::111111111111:role/core-reader".into());
    platform.storage.replication_role = Some("arn:aws:iam::200000000000:role/copy".into());
    let account = fleet.agents[0].account.id.clone();
    for bucket in ["la-0-backup", "la-0-logs"] {
        fleet.aws().make_log_bucket(&account, bucket).await.unwrap();
    }
    let queue = fleet.with_arrivals(0, Arrivals::default(), true).await;
    fleet.agents[0].config.usage.bill = true;
    fleet.agents[0].config.images.repositories = vec!["own".into()];
    fleet.with_policy(0, "permit(principal, action, resource);").await;
    let bob = fleet.operator("bob", Role::Admin).await;
    let la = &fleet.agents[0];
    let rollout = Rollout { deadline: MINUTE, failed_tasks: 2, settle: Duration::from_secs(1) };
    let image = la.account.images.values().last().expect("an image").clone();
    let size = Size::new(512, 2048).expect("a pair that Fargate has");
    let environment = Environment::new([("LEVEL".into(), "info".into())], vec![]).expect("a variable");
    let (service, variable) = ("daemon".into(), "SENSOR_MIN_INTERVAL".into());
    let secret = Ecs::UseSecret { service, variable, secret: None, rollout };
    let run = Run {
        service: "daemon".into(),
        command: vec!["true".into()],
        environment: None,
        size: None,
        spot: true,
        detach: false,
        deadline: MINUTE,
    };
    let tasks = fleet.aws().all_tasks(&la.account.id).await.unwrap();
    let daemon = tasks.iter().find(|task| task["group"] == "service:daemon").expect("a task of the daemon");
    let daemon = daemon["id"].as_str().expect("an id").to_owned();
    let capacity = Capacity { min: Acu::new(1.0).expect("one"), max: Acu::new(8.0).expect("eight"), pause_after: None };
    let task = fleet.aws().write(&la.account, "daemon", &["a line"]).await.unwrap();
    let ecr = async |action: &str, body| {
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{action}");
        fleet.aws().call(&account, "ecr", &target, body).await.unwrap()
    };
    ecr("CreateRepository", json!({"repositoryName": "own"})).await;
    let (repository, digest, tag) = ("own".into(), format!("sha256:{}", "0a".repeat(32)), "2".into());
    let manifest = json!({"repositoryName": "own", "imageManifest": "{\"mediaType\": \"a/b\"}", "imageDigest": digest});
    ecr("PutImage", manifest).await;
    let promote = Images::Promote { repository, digest, tag };
    let actions = [
        Action::Ecs(Ecs::Status),
        Action::Ecs(Ecs::StopTask { task: daemon, reason: "a test".into(), deadline: MINUTE }),
        Action::Ecs(Ecs::Scale { service: "webserver".into(), desired: 1, deadline: MINUTE }),
        Action::Ecs(Ecs::Restart { service: "code-server".into(), deadline: MINUTE }),
        Action::Ecs(Ecs::Image { service: "code-server".into(), tag: "2024.12.0".into() }),
        Action::Ecs(Ecs::Deploy { service: Some("code-server".into()), image: image.clone(), rollout }),
        Action::Ecs(Ecs::Rollback { service: Some("code-server".into()), rollout }),
        Action::Ecs(Ecs::Deploy { service: None, image, rollout }),
        Action::Ecs(Ecs::Rollback { service: None, rollout }),
        Action::Ecs(Ecs::SetResources { service: "code-server".into(), size, rollout }),
        Action::Ecs(Ecs::SetEnv { service: "code-server".into(), environment, rollout }),
        Action::Ecs(Ecs::SetCapacity {
            service: "code-server".into(),
            capacity: FargateCapacity::Spot { base: 0 },
            rollout,
        }),
        Action::Ecs(secret.clone()),
        Action::Ecs(Ecs::Rollback { service: Some("daemon".into()), rollout }),
        Action::Ecs(secret),
        Action::Ecs(Ecs::Run(run)),
        Action::Aurora(Aurora::Status),
        Action::Aurora(Aurora::Stop { deadline: MINUTE }),
        Action::Aurora(Aurora::Start { deadline: MINUTE }),
        Action::Aurora(Aurora::SetCapacity { capacity, deadline: MINUTE }),
        Action::Aurora(Aurora::Snapshot { name: Some("kept".into()), deadline: MINUTE }),
        Action::Aurora(Aurora::Snapshots),
        Action::Aurora(Aurora::Restore { snapshot: "kept".into(), new_cluster: "copy".into(), deadline: MINUTE }),
        Action::Aurora(Aurora::DeleteSnapshot { name: "kept".into(), deadline: MINUTE }),
        Action::S3(S3::ShareGrant),
        Action::S3(S3::ShareRevoke),
        Action::S3(S3::Quarantine { bucket: Bucket::Shared, prefix: "a/".into() }),
        Action::S3(S3::LiftQuarantine { bucket: Bucket::Shared, prefix: "a/".into() }),
        Action::S3(S3::Quarantines),
        Action::S3(S3::Ensure { bucket: None, deadline: MINUTE }),
        Action::S3(S3::Usage { by_prefix: false }),
        read(LogSource::Service("daemon".into())),
        read(LogSource::Task(task)),
        Action::Images(Images::List { repository: None }),
        Action::Images(promote),
        Action::Agent(Agent::Refresh),
    ];
    // What arrives is kept hidden, and deleted when Dagster was awake.
    fleet.aws().put(&account, &format!("sfdata-{}-data-store", la.id), "a.csv", "x").await.unwrap();
    let arrivals = fleet.arrivals(0);
    eventually("it is hidden", MINUTE, async || {
        let hidden = fleet.aws().calls(&account, "sqs", "ChangeMessageVisibilityBatch").await.ok()?;
        (!hidden.is_empty()).then_some(())
    })
    .await;
    let done = arrivals.hand_on(async |_| Ok(true), async |_| Ok(false), async |_| Ok(())).await.unwrap();
    assert_eq!((done.arrivals, done.runs), (1, 0));
    eventually("it is deleted", MINUTE, async || {
        (fleet.aws().messages(&account, &queue).await.ok()? == 0).then_some(())
    })
    .await;
    // Of a URL to upload by, what counts is that the upload may be done.
    let object = |key: &str| Object { bucket: Bucket::Shared, key: key.into(), expires: MINUTE };
    let url = fleet.alice.revealed(Action::S3(S3::UploadUrl(object("a/b"))), &la.id).await.unwrap();
    let Kind::S3Url(url) = url else { panic!("another result") };
    assert_eq!(fleet.aws().presigned("PUT", &url.url, "x").await.unwrap().0, "200");
    fleet.alice.revealed(Action::S3(S3::DownloadUrl(object("a/b"))), &la.id).await.unwrap();
    for action in actions {
        let outcome = fleet.alice.run_with(&bob, action.clone(), &la.id).await.unwrap();
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{action:?}: {outcome:?}");
    }
    eventually("what was used and the bill are read", MINUTE, async || {
        let called = fleet.aws().actions(&account).await.ok()?;
        let asked = ["s3:ListBucketMetricsConfigurations", "monitoring:GetMetricData", "ce:GetCostAndUsage"];
        asked.iter().all(|action| called.contains(*action)).then_some(())
    })
    .await;
    // A service that sleeps has its image read from its definition; one that never starts, the reason from its tasks.
    let mut called = fleet.aws().actions(&la.account.id).await.unwrap();
    called.retain(|call| !["sqs:GetQueueAttributes", "ecr:CreateRepository"].contains(&&**call)); // by this test
    let all = ["ecs", "ecr", "images", "secrets", "aurora", "s3", "s3-ensure", "s3-files", "logs", "arrivals", "bill"];
    assert_eq!(iam::needed(called), iam::allowed(&all));
    fleet.stop().await;
}
