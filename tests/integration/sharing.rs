//! What the core account may read: granted and revoked by operators, and taken back by the LA over everybody's head.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use sfdata_agent::policy::Sharing;
use sfdata_common::{
    Timestamp,
    command::{Action, Bucket, S3},
    outcome::{FailureCode, Outcome},
    trust::Role,
};
use sfdata_proto::v1::{S3ShareResult, S3ShareState, action_result::Kind, outcome::Kind as Ended};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

use crate::{
    buckets::{drifts, failure, fault, fleet_with, name, policy, result, run, s3},
    door::Taken,
};

const MINUTE: Duration = Duration::from_secs(60);
const READER: &str = "arn:aws:iam::111111111111:role/core-reader";
const SID: &str = "SfdataShare";

async fn fleet() -> Fleet {
    fleet_with(|platform| platform.storage.core_reader = Some(READER.into())).await
}

async fn share(fleet: &Fleet, action: S3) -> S3ShareResult {
    match result(run(fleet, Action::S3(action)).await) {
        Kind::S3Share(share) => share,
        other => panic!("another result: {other:?}"),
    }
}

/// Whether somebody may read by our statement, at S3.
async fn is_shared(fleet: &Fleet) -> bool {
    let account = &fleet.agents[0].account.id;
    let policy = fleet.aws().s3(account, "GET", &format!("{}?policy", name(fleet, "shared")), "").await;
    policy.is_ok_and(|policy| policy.contains(SID))
}

/// The LA at its own machine, with the configuration of its agent.
async fn la(fleet: &Fleet, args: &[&str]) -> (Option<i32>, String) {
    let config = config(fleet);
    let mut all = vec!["--config".to_owned(), config.display().to_string(), "share".to_owned()];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let binary = sfdata_tests::fleet::binary("sfdata-agent");
    let ended = tokio::task::spawn_blocking(move || std::process::Command::new(binary).args(all).output()).await;
    let ended = ended.unwrap().expect("the binary was built");
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (ended.status.code(), said.concat())
}

fn config(fleet: &Fleet) -> PathBuf {
    write_agent(&fleet.agents[0].config, &fleet.folder.path().join("la-0.toml")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_role_is_let_in_and_out_again_and_nothing_else_is_touched() {
    let mut fleet = fleet().await;
    let olga = fleet.operator("olga", Role::Operator).await;
    let la = fleet.agents[0].id.clone();
    let bucket = name(&fleet, "shared");
    let theirs = json!({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"}, "Action": "s3:Get*",
        "Resource": format!("arn:aws:s3:::{bucket}/old/*")});
    let before = json!({"Version": "2012-10-17", "Statement": [theirs]});
    s3(&fleet, "PUT", &format!("{bucket}?policy"), &before.to_string()).await;

    let plan = fleet.alice.plan(Action::S3(S3::ShareGrant), &la).await.unwrap();
    assert_eq!((plan.changes.len(), plan.changes[0].property.as_str()), (1, "Policy SfdataShare"));
    assert!(!is_shared(&fleet).await);
    let granted = share(&fleet, S3::ShareGrant).await;
    assert_eq!((granted.state(), granted.core_reader.as_str()), (S3ShareState::Granted, READER));
    assert_eq!(granted.other_grants, ["statement 1"], "what somebody else shares is told");
    let after = policy(&fleet, &bucket).await;
    assert_eq!(after["Statement"][0], theirs);
    let ours = &after["Statement"][1];
    assert_eq!(
        (&ours["Principal"], &ours["Action"]),
        (&json!({"AWS": READER}), &json!(["s3:GetObject", "s3:ListBucket"]))
    );
    assert!(fleet.alice.plan(Action::S3(S3::ShareGrant), &la).await.unwrap().changes.is_empty());
    let shared = drifts(&fleet, Some(Bucket::Shared)).await;
    assert!(!shared[0].changes.iter().any(|change| change.property.contains(SID)), "what was granted is no drift");

    assert!(olga.run(Action::S3(S3::ShareGrant), &la).await.is_err(), "who operates may not share");
    let revoked = olga.run(Action::S3(S3::ShareRevoke), &la).await.unwrap();
    assert!(matches!(revoked, Outcome::Succeeded(_)), "and may take it back: {revoked:?}");
    assert_eq!(policy(&fleet, &bucket).await, before);
    assert_eq!(share(&fleet, S3::ShareShow).await.state(), S3ShareState::NotGranted);
    assert_eq!(share(&fleet, S3::ShareRevoke).await.state(), S3ShareState::NotGranted, "twice is harmless");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_la_s_revocation_holds_until_the_la_takes_it_back() {
    let mut fleet = fleet().await;
    share(&fleet, S3::ShareGrant).await;
    let (code, said) = la(&fleet, &["revoke", "--reason", "no agreement any more"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!is_shared(&fleet).await, "at once");

    let (code, message) = failure(run(&fleet, Action::S3(S3::ShareGrant)).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("no agreement any more") && message.contains("sfdata-agent share allow"), "{message}");
    let shown = share(&fleet, S3::ShareShow).await;
    let revoked = shown.revoked.clone().expect("who looks sees it");
    assert_eq!(revoked.reason, "no agreement any more");
    assert!(revoked.since_unix_ms > 0);

    // It comes back by no ensure, and where somebody puts it back by hand it is drift, which ensure takes out.
    let bucket = name(&fleet, "shared");
    let back = json!({"Version": "2012-10-17", "Statement": [{"Sid": SID, "Effect": "Allow", "Principal": {"AWS": READER},
        "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": [format!("arn:aws:s3:::{bucket}"),
        format!("arn:aws:s3:::{bucket}/*")]}]});
    s3(&fleet, "PUT", &format!("{bucket}?policy"), &back.to_string()).await;
    let [shared] = &drifts(&fleet, Some(Bucket::Shared)).await[..] else { panic!("one bucket") };
    let change = shared.changes.iter().find(|change| change.property.contains(SID)).expect("it is drift");
    assert!(change.before.contains(READER) && change.after.is_empty(), "{change:?}");
    result(run(&fleet, Action::S3(S3::Ensure { bucket: Some(Bucket::Shared), deadline: MINUTE })).await);
    assert!(!is_shared(&fleet).await);

    let (code, said) = la(&fleet, &["show"]).await;
    assert!(code == Some(0) && said.contains("no agreement any more") && said.contains("not granted"), "{said}");
    let (code, said) = la(&fleet, &["allow"]).await;
    assert_eq!(code, Some(0), "{said}");
    let shared = fleet.agents[0].config.platform.buckets.shared.take();
    let (code, said) = la(&fleet, &["revoke", "--reason", "before there is any"]).await;
    assert!(code == Some(0) && said.contains("no shared bucket so far"), "{said}");
    fleet.agents[0].config.platform.buckets.shared = shared;
    assert_eq!(la(&fleet, &["allow"]).await.0, Some(0));
    assert!(!is_shared(&fleet).await, "by itself nothing is shared");
    assert_eq!(share(&fleet, S3::ShareGrant).await.state(), S3ShareState::Granted);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_does_not_reach_aws_is_carried_out_by_the_agent() {
    let mut fleet = fleet().await;
    share(&fleet, S3::ShareGrant).await;
    fault(&fleet, "DeleteBucketPolicy", "access_denied", None).await;
    let (code, said) = la(&fleet, &["revoke", "--reason", "inspection"]).await;
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("Revoked") && said.contains("not known") && said.contains("s3:DeleteBucketPolicy"), "{said}");
    assert!(is_shared(&fleet).await);
    failure(run(&fleet, Action::S3(S3::ShareGrant)).await);

    fleet.aws().heal().await.unwrap();
    fleet.stop_agent(0).await;
    fleet.start_agent(0).await; // it looks at once, and each minute
    eventually("it is taken out", MINUTE, async || (!is_shared(&fleet).await).then_some(())).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_crosses_the_la_s_revocation_takes_itself_back() {
    let fleet = fleet().await;
    fault(&fleet, "PutBucketPolicy", "hang", Some(1)).await;
    let crossing = async {
        let account = &fleet.agents[0].account.id;
        eventually("the grant has read that nothing is revoked", MINUTE, async || {
            let read = fleet.aws().calls(account, "s3", "GetBucketPolicy").await.ok()?.len();
            (read >= 2).then_some(())
        })
        .await;
        assert_eq!(la(&fleet, &["revoke", "--reason", "now"]).await.0, Some(0));
        fleet.aws().heal().await.unwrap(); // the request that hung is sent again, and has its effect
    };
    let (outcome, ()) = tokio::join!(run(&fleet, Action::S3(S3::ShareGrant)), crossing);
    let (code, message) = failure(outcome);
    assert!(code == FailureCode::Rejected && message.contains("revoked"), "{message}");
    assert!(!is_shared(&fleet).await);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_every_key_cannot_share_what_the_la_has_revoked() {
    let fleet = fleet().await;
    share(&fleet, S3::ShareGrant).await;
    assert_eq!(la(&fleet, &["revoke", "--reason", "the hub is not ours any more"]).await.0, Some(0));
    let mut taken = Taken::over(fleet).await;
    let mut next = taken.used;
    // Even with an operator's key in hand, every order that writes the policy.
    for action in [S3::ShareGrant, S3::Ensure { bucket: None, deadline: MINUTE }, S3::ShareGrant] {
        let granting = action == S3::ShareGrant;
        let signed = taken.fleet.alice.sign(&taken.ordered(Action::S3(action)));
        next += 1;
        match taken.executed(taken.delivery(next, &signed)).await {
            Ended::Failed(failed) => assert!(granting && failed.message.contains("not ours any more"), "{failed:?}"),
            other => assert!(!granting && matches!(other, Ended::Succeeded(_)), "{other:?}"),
        }
        assert!(!is_shared(&taken.fleet).await);
    }
    taken.rogue.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_killed_ends_as_the_la_wants_it() {
    for revoked in [false, true] {
        let mut fleet = fleet().await;
        fleet.stop_agent(0).await;
        let (config, log) = (config(&fleet).display().to_string(), fleet.folder.path().join("la-0.log"));
        let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &log).unwrap();
        let mut agent = start();
        fleet.connected(0).await;
        // Its effect is there, and the agent never hears of it.
        fault(&fleet, "PutBucketPolicy", "lost_reply", None).await;
        let id = fleet.alice.submit(Action::S3(S3::ShareGrant), &[&fleet.agents[0].id]).await.unwrap();
        eventually("it has its effect", MINUTE, async || is_shared(&fleet).await.then_some(())).await;
        agent.kill();
        fleet.aws().heal().await.unwrap();
        if revoked {
            Sharing::new(&fleet.agents[0].config.data_dir).revoke("meanwhile", Timestamp::now()).unwrap();
        }
        agent = start();
        let outcome = fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Succeeded(_)), !revoked, "{outcome:?}");
        assert_eq!(is_shared(&fleet).await, !revoked);
        if !revoked {
            let statements: Value = policy(&fleet, &name(&fleet, "shared")).await["Statement"].take();
            assert_eq!(statements.as_array().unwrap().len(), 1);
        }
        agent.kill();
        fleet.stop().await;
    }
}
