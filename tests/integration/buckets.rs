//! Buckets as they should be: what differs is told and set right, once, and nothing that is somebody else's is touched.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use sfdata_agent::config::Platform;
use sfdata_common::{
    command::{Action, Bucket, Object, S3},
    outcome::{FailureCode, Outcome, RefusalReason},
    trust::Role,
};
use sfdata_proto::v1::{BucketChange, BucketDrift, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const EVERYTHING: &str = "permit(principal, action, resource);";
const COPIER: &str = "arn:aws:iam::200000000000:role/copy";

pub(crate) fn ensure(bucket: Option<Bucket>) -> Action {
    Action::S3(S3::Ensure { bucket, deadline: MINUTE })
}

fn drift(bucket: Option<Bucket>) -> Action {
    Action::S3(S3::Drift { bucket })
}

pub(crate) async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

pub(crate) fn result(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Succeeded(result) => result.kind.expect("a result"),
        other => panic!("not succeeded: {other:?}"),
    }
}

pub(crate) fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

pub(crate) async fn drifts(fleet: &Fleet, bucket: Option<Bucket>) -> Vec<BucketDrift> {
    match result(run(fleet, drift(bucket)).await) {
        Kind::S3Drift(drift) => drift.buckets,
        other => panic!("another result: {other:?}"),
    }
}

pub(crate) async fn ensured(fleet: &Fleet, bucket: Option<Bucket>) -> Vec<BucketChange> {
    match result(run(fleet, ensure(bucket)).await) {
        Kind::S3Ensure(done) => done.buckets.into_iter().flat_map(|bucket| bucket.changes).collect(),
        other => panic!("another result: {other:?}"),
    }
}

pub(crate) fn name(fleet: &Fleet, role: &str) -> String {
    let buckets = &fleet.agents[0].account.buckets;
    buckets.iter().find(|(of, _)| of == role).expect("a bucket of that role").1.clone()
}

pub(crate) async fn s3(fleet: &Fleet, method: &str, path: &str, body: &str) -> String {
    fleet.aws().s3(&fleet.agents[0].account.id, method, path, body).await.expect("S3 does it")
}

pub(crate) async fn policy(fleet: &Fleet, bucket: &str) -> Value {
    serde_json::from_str(&s3(fleet, "GET", &format!("{bucket}?policy"), "").await).expect("a policy")
}

pub(crate) async fn bucket_changes(fleet: &Fleet) -> u64 {
    fleet.aws().bucket_changes(&fleet.agents[0].account.id).await.unwrap()
}

/// Break a call of the first LA to S3; for good, unless `times` says how often.
pub(crate) async fn fault(fleet: &Fleet, action: &str, kind: &str, times: Option<u32>) {
    let account = &fleet.agents[0].account.id;
    let fault = json!({"service": "s3", "action": action, "kind": kind, "times": times, "account": account});
    fleet.aws().fault(fault).await.unwrap();
}

/// A fleet whose first agent has another `[platform]`.
pub(crate) async fn fleet_with(change: impl FnOnce(&mut Platform)) -> Fleet {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    change(&mut fleet.agents[0].config.platform);
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_told_then_set_right_and_then_nothing_differs() {
    let mut fleet = fleet_with(|platform| {
        platform.buckets.backup = Some("la-0-backup".into());
        platform.buckets.access_logs = Some("la-0-logs".into());
        platform.storage.replication_role = Some(COPIER.into());
    })
    .await;
    let viewer = fleet.operator("vera", Role::Viewer).await;
    let la = fleet.agents[0].id.clone();
    fleet.aws().make_log_bucket(&fleet.agents[0].account.id, "la-0-logs").await.unwrap();
    let before = bucket_changes(&fleet).await;

    // What a reader is shown, what the plan says and what is done are one list.
    let seen = drifts(&fleet, None).await;
    assert_eq!(seen[0].role, "backup", "it is needed by the others");
    assert_eq!(seen[0].changes[0].property, "Bucket", "{seen:?}");
    assert!(seen.iter().all(|bucket| bucket.unread.is_empty()), "{seen:?}");
    let plan = viewer.plan(ensure(None), &la).await.unwrap();
    let listed: Vec<_> = seen
        .iter()
        .flat_map(|bucket| bucket.changes.iter().map(|change| (format!("s3-bucket {}", bucket.bucket), change)))
        .map(|(bucket, change)| (bucket, change.property.clone(), change.before.clone(), change.after.clone()))
        .collect();
    let planned: Vec<_> = plan
        .changes
        .iter()
        .map(|c| (c.resource.clone(), c.property.clone(), c.before.clone(), c.after.clone()))
        .collect();
    assert_eq!(planned, listed);
    assert_eq!(bucket_changes(&fleet).await, before, "so far it was only looked at");
    assert!(viewer.run(ensure(None), &la).await.is_err(), "who may look may not do it");

    let done = ensured(&fleet, None).await;
    assert_eq!(done, seen.into_iter().flat_map(|bucket| bucket.changes).collect::<Vec<_>>());
    let after = bucket_changes(&fleet).await;
    assert!(after > before);

    // Both at S3, not in our own words.
    let store = name(&fleet, "data-store");
    let statement = &policy(&fleet, &store).await["Statement"][0];
    assert_eq!((&statement["Effect"], &statement["Principal"]), (&json!("Deny"), &json!("*")));
    for (asked, told) in [
        ("publicAccessBlock", "<RestrictPublicBuckets>true</RestrictPublicBuckets>"),
        ("encryption", "<SSEAlgorithm>AES256</SSEAlgorithm>"),
        ("ownershipControls", "BucketOwnerEnforced"),
        ("versioning", "<Status>Enabled</Status>"),
        ("lifecycle", "<NoncurrentDays>90</NoncurrentDays>"),
        ("logging", "<TargetBucket>la-0-logs</TargetBucket>"),
        ("notification", "EventBridgeConfiguration"),
        ("replication", "arn:aws:s3:::la-0-backup"),
    ] {
        let found = s3(&fleet, "GET", &format!("{store}?{asked}"), "").await;
        assert!(found.contains(told), "{asked}: {found}");
    }
    assert!(!s3(&fleet, "GET", &format!("{}?notification", name(&fleet, "shared")), "").await.contains("EventBridge"));

    assert!(drifts(&fleet, None).await.iter().all(|bucket| bucket.changes.is_empty()));
    assert!(ensured(&fleet, None).await.is_empty());
    assert_eq!(bucket_changes(&fleet).await, after, "the second time nothing was changed");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_set_stays() {
    let fleet = fleet_with(|platform| {
        platform.buckets.backup = platform.buckets.workspace.take();
        platform.buckets.access_logs = Some("la-0-logs".into());
        platform.storage.replication_role = Some(COPIER.into());
    })
    .await;
    let store = name(&fleet, "data-store");
    let theirs = json!({"Sid": "Theirs", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::200000000000:root"},
        "Action": ["s3:GetObject"], "Resource": format!("arn:aws:s3:::{store}/public/*")});
    let before = json!({"Version": "2008-10-17", "Id": "of-a-template", "Statement": [theirs]});
    s3(&fleet, "PUT", &format!("{store}?policy"), &before.to_string()).await;
    let rule = "<Rule><ID>theirs</ID><Status>Enabled</Status><Filter><And><Prefix>tmp/</Prefix><Tag><Key>a</Key>\
                <Value>b</Value></Tag></And></Filter><Expiration><Days>3</Days></Expiration></Rule>";
    let lifecycle = format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>");
    s3(&fleet, "PUT", &format!("{store}?lifecycle"), &lifecycle).await;
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    for bucket in [&store, &name(&fleet, "workspace"), &name(&fleet, "shared")] {
        s3(&fleet, "PUT", &format!("{bucket}?versioning"), on).await;
    }
    let replication = format!(
        "<ReplicationConfiguration><Role>{COPIER}</Role><Rule><ID>theirs</ID><Priority>4</Priority>\
         <Status>Enabled</Status><Filter><Prefix>out/</Prefix></Filter><DeleteMarkerReplication><Status>Enabled\
         </Status></DeleteMarkerReplication><Destination><Bucket>arn:aws:s3:::{}</Bucket></Destination></Rule>\
         </ReplicationConfiguration>",
        name(&fleet, "shared")
    );
    s3(&fleet, "PUT", &format!("{store}?replication"), &replication).await;
    fleet.aws().make_log_bucket(&fleet.agents[0].account.id, "la-0-logs").await.unwrap();
    let logging = "<BucketLoggingStatus xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LoggingEnabled>\
                   <TargetBucket>la-0-logs</TargetBucket><TargetGrants><Grant><Grantee \
                   xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>auditor</ID>\
                   </Grantee><Permission>READ</Permission></Grant></TargetGrants><TargetPrefix>old/</TargetPrefix>\
                   </LoggingEnabled></BucketLoggingStatus>";
    s3(&fleet, "PUT", &format!("{store}?logging"), logging).await;

    ensured(&fleet, None).await;
    let logging = s3(&fleet, "GET", &format!("{store}?logging"), "").await;
    assert!(logging.contains("<ID>auditor</ID>") && !logging.contains("old/"), "{logging}");
    let after = policy(&fleet, &store).await;
    assert_eq!((&after["Id"], &after["Version"]), (&json!("of-a-template"), &json!("2008-10-17")));
    assert_eq!(after["Statement"][0], theirs);
    assert_eq!(after["Statement"].as_array().unwrap().len(), 2);
    let lifecycle = s3(&fleet, "GET", &format!("{store}?lifecycle"), "").await;
    for part in ["<ID>theirs</ID>", "<Prefix>tmp/</Prefix>", "<Days>3</Days>", "sfdata-expire-noncurrent-versions"] {
        assert!(lifecycle.contains(part), "{part}: {lifecycle}");
    }
    let replication = s3(&fleet, "GET", &format!("{store}?replication"), "").await;
    for part in ["<ID>theirs</ID>", "<Prefix>out/</Prefix>", "<Priority>4</Priority>", "<Priority>5</Priority>"] {
        assert!(replication.contains(part), "{part}: {replication}");
    }

    // All rules share one role: theirs is not replaced.
    let other = replication.replace(COPIER, "arn:aws:iam::200000000000:role/theirs");
    s3(&fleet, "PUT", &format!("{store}?replication"), &other).await;
    let (code, message) = failure(run(&fleet, ensure(None)).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.starts_with("nothing was changed") && message.contains("role/theirs"), "{message}");
    assert!(drifts(&fleet, Some(Bucket::DataStore)).await[0].obstacles[0].contains("role/theirs"));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_never_taken_for_unset() {
    let fleet = Fleet::start(1).await;
    fault(&fleet, "GetBucketPolicy", "access_denied", None).await;
    let before = bucket_changes(&fleet).await;
    let [shared] = &drifts(&fleet, Some(Bucket::Shared)).await[..] else { panic!("one bucket") };
    assert_eq!(shared.unread.len(), 1);
    assert!(shared.unread[0].starts_with("access-denied:") && shared.unread[0].contains("s3:GetBucketPolicy"));
    assert!(!shared.changes.iter().any(|change| change.property.starts_with("Policy")), "{shared:?}");
    let (code, message) = failure(run(&fleet, ensure(None)).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.starts_with("nothing was changed"), "{message}");
    assert_eq!(bucket_changes(&fleet).await, before);

    fleet.aws().heal().await.unwrap();
    fault(&fleet, "PutBucketVersioning", "throttle", Some(3)).await;
    assert!(!ensured(&fleet, Some(Bucket::Shared)).await.is_empty(), "an AWS that throttles is asked until it answers");
    let (code, message) = failure(run(&fleet, ensure(Some(Bucket::Backup))).await);
    assert_eq!(code, FailureCode::NotFound);
    assert!(message.contains("platform.buckets.backup"), "{message}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_account_is_told_and_left_alone() {
    let fleet = fleet_with(|platform| platform.buckets.backup = Some("sfdata-other-shared".into())).await;
    fleet.aws().seed(fleet.folder.path(), "other", "299999999999").await.unwrap();
    let (code, message) = failure(run(&fleet, ensure(None)).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.contains("sfdata-other-shared") && message.contains("another account"), "{message}");
    assert_eq!(bucket_changes(&fleet).await, 0);
    let seen = drifts(&fleet, None).await;
    assert!(seen[0].unread[0].contains("another account") && !seen[1].changes.is_empty(), "{seen:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_making_was_not_answered_is_ours() {
    let fleet = fleet_with(|platform| platform.buckets.backup = Some("la-0-backup".into())).await;
    fault(&fleet, "CreateBucket", "lost_reply", Some(1)).await;
    assert_eq!(ensured(&fleet, Some(Bucket::Backup)).await[0].property, "Bucket");
    let asked = fleet.aws().calls(&fleet.agents[0].account.id, "s3", "CreateBucket").await.unwrap();
    assert_eq!(asked.len(), 2, "the second time S3 says that it is ours already");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_an_ensure_goes_on_from_there() {
    let mut fleet = fleet_with(|platform| platform.buckets.backup = Some("la-0-backup".into())).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("la-0.toml")).unwrap();
    let args = ["--config", &config.display().to_string(), "run"].map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let start = || Process::start("sfdata-agent", &args, &folder.join("la-0.log")).unwrap();
    let mut agent = start();
    fleet.connected(0).await;
    let la = fleet.agents[0].id.clone();

    // Each time at another request: it had its effect, or had not, and the answer never came.
    let seen: usize = drifts(&fleet, None).await.iter().map(|bucket| bucket.changes.len()).sum();
    fault(&fleet, "PutBucketEncryption", "hang", None).await;
    let id = fleet.alice.submit(ensure(None), &[&la]).await.unwrap();
    for (reached, next) in [
        ("la-0-backup?publicAccessBlock", Some("PutBucketVersioning")),
        ("la-0-backup?policy", Some("PutBucketLifecycleConfiguration")),
        ("la-0-backup?versioning", None),
    ] {
        let account = &fleet.agents[0].account.id;
        eventually("it came so far", MINUTE, async || {
            let found = fleet.aws().s3(account, "GET", reached, "").await.ok()?;
            (!reached.ends_with("versioning") || found.contains("Enabled")).then_some(())
        })
        .await;
        agent.kill();
        fleet.aws().heal().await.unwrap();
        if let Some(next) = next {
            fault(&fleet, next, "hang", None).await;
        }
        agent = start();
    }
    result(fleet.alice.outcome(id, &la).await.unwrap());
    assert!(seen > 20, "{seen}");
    assert!(drifts(&fleet, None).await.iter().all(|bucket| bucket.changes.is_empty()));
    let creations = fleet.aws().calls(&fleet.agents[0].account.id, "s3", "CreateBucket").await.unwrap();
    assert_eq!(creations.len(), 1);
    agent.kill();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_the_same_at_the_same_time_is_not_overlooked() {
    let fleet = Fleet::start(1).await;
    let store = name(&fleet, "data-store");
    fault(&fleet, "PutBucketLifecycleConfiguration", "hang", Some(1)).await;
    let somebody = async {
        eventually("the policy is written", MINUTE, async || {
            fleet.aws().s3(&fleet.agents[0].account.id, "GET", &format!("{store}?policy"), "").await.ok().map(|_| ())
        })
        .await;
        s3(&fleet, "DELETE", &format!("{store}?policy"), "").await;
        fleet.aws().heal().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(run(&fleet, ensure(Some(Bucket::DataStore))), somebody);
    let (code, message) = failure(outcome);
    assert_eq!(code, FailureCode::Conflict);
    assert!(message.contains("Policy SfdataTlsOnly") && message.contains("somebody else"), "{message}");
    ensured(&fleet, Some(Bucket::DataStore)).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_folders_are_data_and_sums_are_not() {
    let mut fleet = Fleet::start(1).await;
    let usage = |by_prefix| Action::S3(S3::Usage { by_prefix });
    let Kind::S3Usage(plain) = result(run(&fleet, usage(false)).await) else { panic!("another result") };
    assert!(plain.buckets.iter().all(|bucket| bucket.prefixes.is_empty() && bucket.newest_unix_ms > 0), "{plain:?}");
    let refused = run(&fleet, usage(true)).await;
    assert!(matches!(&refused, Outcome::Refused { reason: RefusalReason::LocalPolicy, .. }), "{refused:?}");

    fleet.with_policy(0, EVERYTHING).await;
    let named = fleet.alice.revealed(usage(true), &fleet.agents[0].id).await.unwrap();
    let Kind::S3Usage(named) = named else { panic!("another result") };
    let store = &named.buckets[0];
    let prefixes: Vec<_> = store.prefixes.iter().map(|prefix| (prefix.prefix.as_str(), prefix.objects)).collect();
    assert_eq!(prefixes, [("cin/", 1), ("ssda903/", 2)]);
    assert_eq!(store.week.map(|week| week.objects), Some(store.objects), "all of it is new");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_opens_one_object_for_who_asked_and_the_hub_never_has_it() {
    let mut fleet = Fleet::start(1).await;
    let la = fleet.agents[0].id.clone();
    let object = |key: &str| Object { bucket: Bucket::DataStore, key: key.into(), expires: MINUTE };
    let (key, content) = ("ssda903/new é.csv", "CHILD,SEX\n1,1\n");
    let refused = run(&fleet, Action::S3(S3::UploadUrl(object(key)))).await;
    assert!(matches!(&refused, Outcome::Refused { reason: RefusalReason::LocalPolicy, .. }), "{refused:?}");

    fleet.with_policy(0, EVERYTHING).await;
    let (code, message) = failure(run(&fleet, Action::S3(S3::DownloadUrl(object(key)))).await);
    assert!(code == FailureCode::NotFound && !message.contains("new"), "no name in the clear: {message}");
    for (action, method, body, told) in
        [(S3::UploadUrl(object(key)), "PUT", content, ""), (S3::DownloadUrl(object(key)), "GET", "", content)]
    {
        let Kind::S3Url(url) = fleet.alice.revealed(Action::S3(action), &la).await.unwrap() else {
            panic!("another result")
        };
        assert_eq!(url.method, method);
        assert!(url.url.contains("X-Amz-Expires=60") && url.url.contains("X-Amz-SignedHeaders=host&"), "{}", url.url);
        let (status, body) = fleet.aws().presigned(method, &url.url, body).await.unwrap();
        assert_eq!((status.as_str(), body.as_str()), ("200", told));
    }
    let folders = [fleet.hub_config.data_dir.clone(), fleet.agents[0].config.data_dir.clone()];
    fleet.stop_agent(0).await;
    fleet.stop_hub().await;
    let mut signed = 0;
    for file in folders.iter().flat_map(|folder| files(folder)) {
        let bytes = std::fs::read(&file).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!holds(b"X-Amz-Signature"), "{}", file.display());
        signed += usize::from(holds(key.as_bytes()));
    }
    assert!(signed > 0, "the order itself is kept, so that what is kept was looked at");
    fleet.stop().await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
