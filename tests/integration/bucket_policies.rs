//! Policies of buckets beside those of others: quarantine, and what S3 does not take or does not show at once.

use serde_json::json;
use sfdata_common::{
    command::{Action, Bucket, S3},
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::action_result::Kind;
use sfdata_tests::fleet::Fleet;

use crate::buckets::{
    EVERYTHING, bucket_changes, drifts, ensure, ensured, failure, fault, fleet_with, name, policy, result, run, s3,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_s3_takes_no_more_is_told_before_anything_is_changed() {
    let fleet = fleet_with(|platform| {
        platform.storage.core_reader = Some("arn:aws:iam::111111111111:role/core-reader".into());
    })
    .await;
    let (account, shared) = (fleet.agents[0].account.id.clone(), name(&fleet, "shared"));
    let gone = json!({"Version": "2012-10-17", "Statement": [{"Sid": "Leaver", "Effect": "Allow",
        "Principal": {"AWS": "AIDAEXAMPLE"}, "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{shared}/*")}]});
    fleet.aws().keep_policy(&account, &shared, &gone).await.unwrap();
    let before = bucket_changes(&fleet).await;
    let seen = drifts(&fleet, Some(Bucket::Shared)).await;
    assert!(seen[0].obstacles[0].contains("because of Leaver"), "{seen:?}");
    let bar = Action::S3(S3::Quarantine { bucket: Bucket::Shared, prefix: "a/".into() });
    for action in [ensure(None), Action::S3(S3::ShareGrant), bar] {
        let (code, message) = failure(run(&fleet, action.clone()).await);
        assert_eq!(code, FailureCode::Rejected, "{action:?}");
        assert!(message.contains("Leaver") && message.contains("remove these at S3 first"), "{message}");
    }
    assert_eq!(bucket_changes(&fleet).await, before);

    // What lets in everybody can stay, until something is to be written beside it.
    let open = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{shared}/*")}]});
    s3(&fleet, "PUT", &format!("{shared}?policy"), &open.to_string()).await;
    let (code, message) = failure(run(&fleet, ensure(Some(Bucket::Shared))).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.starts_with("nothing was changed") && message.contains("statement 1"), "{message}");
    s3(&fleet, "DELETE", &format!("{shared}?policy"), "").await;
    ensured(&fleet, Some(Bucket::Shared)).await;
    fleet.aws().keep_policy(&account, &shared, &open).await.unwrap();
    let (code, message) = failure(run(&fleet, Action::S3(S3::ShareGrant)).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.contains("statement 1 lets in everybody"), "{message}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_shows_late_is_not_taken_for_somebody_else_s_doing() {
    let fleet = fleet_with(|platform| {
        platform.storage.core_reader = Some("arn:aws:iam::111111111111:role/core-reader".into());
        platform.buckets.backup = Some("la-0-backup".into());
    })
    .await;
    let bar = Action::S3(S3::Quarantine { bucket: Bucket::Shared, prefix: "a/".into() });
    for action in [Action::S3(S3::ShareGrant), bar, Action::S3(S3::ShareRevoke)] {
        // Twice it is read to write it, and then looked at.
        let stale = json!({"service": "s3", "action": "GetBucketPolicy", "kind": "stale", "skip": 2, "times": 2});
        fleet.aws().fault(stale).await.unwrap();
        result(run(&fleet, action).await);
        fleet.aws().heal().await.unwrap();
    }
    fault(&fleet, "PutBucketVersioning", "conflict", Some(2)).await;
    fault(&fleet, "PutPublicAccessBlock", "not_found", Some(2)).await;
    assert_eq!(ensured(&fleet, Some(Bucket::Backup)).await[0].property, "Bucket");
    fault(&fleet, "PutBucketVersioning", "not_found", Some(1)).await;
    let (code, _) = failure(run(&fleet, ensure(Some(Bucket::Shared))).await);
    assert_eq!(code, FailureCode::NotFound, "of a bucket that was there that is no passing state");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_bars_a_prefix_until_who_may_see_data_lifts_it() {
    let mut fleet = Fleet::start(1).await;
    let store = name(&fleet, "data-store");
    let bar = |prefix: &str| Action::S3(S3::Quarantine { bucket: Bucket::DataStore, prefix: prefix.into() });
    let lift = |prefix: &str| Action::S3(S3::LiftQuarantine { bucket: Bucket::DataStore, prefix: prefix.into() });
    let listed = async |fleet: &Fleet, action| match result(run(fleet, action).await) {
        Kind::S3Quarantines(found) => {
            found.quarantines.into_iter().map(|one| (one.role, one.prefix)).collect::<Vec<_>>()
        }
        other => panic!("another result: {other:?}"),
    };
    let barred = |prefix: &str| ("data-store".to_owned(), prefix.to_owned());
    ensured(&fleet, None).await;
    assert_eq!(listed(&fleet, Action::S3(S3::Quarantines)).await, []);
    assert_eq!(listed(&fleet, bar("ssda903/")).await, [barred("ssda903/")]);
    assert_eq!(listed(&fleet, bar("cin/2024")).await, [barred("ssda903/"), barred("cin/2024")]);
    let changes = bucket_changes(&fleet).await;
    listed(&fleet, bar("cin/2024")).await;
    assert_eq!(bucket_changes(&fleet).await, changes, "twice is once");

    let statement = policy(&fleet, &store).await["Statement"][1].clone();
    assert_eq!(statement["Resource"], format!("arn:aws:s3:::{store}/ssda903/*"));
    assert_eq!((&statement["Effect"], &statement["Principal"]), (&json!("Deny"), &json!("*")));
    assert!(ensured(&fleet, None).await.is_empty(), "it is no drift");

    // It can be planned by who may look, and done where the LA lets its data be seen.
    let plan = fleet.alice.plan(lift("ssda903/"), &fleet.agents[0].id).await.unwrap();
    assert_eq!(plan.changes.len(), 1);
    assert!(matches!(run(&fleet, lift("ssda903/")).await, Outcome::Refused { .. }));
    fleet.with_policy(0, EVERYTHING).await;
    assert_eq!(listed(&fleet, lift("ssda903/")).await, [barred("cin/2024")]);
    assert_eq!(policy(&fleet, &store).await["Statement"].as_array().unwrap().len(), 2);

    let filler = "x".repeat(sfdata_common::limits::BUCKET_POLICY_BYTES - 100);
    let full = json!({"Version": "2012-10-17", "Statement": [{"Sid": filler}]});
    s3(&fleet, "PUT", &format!("{store}?policy"), &full.to_string()).await;
    let (code, message) = failure(run(&fleet, bar("annex-a/")).await);
    assert!(code == FailureCode::Rejected && message.contains("20 KB"), "{message}");
    fleet.stop().await;
}
