//! What differs of a bucket, by what it is for and what was found.

use aws_sdk_s3::types::LifecycleExpiration;

use super::*;

const ROLE: &str = "arn:aws:iam::222222222222:role/copy";
const KEY: &str = "arn:aws:kms:eu-west-2:222222222222:key/1";

fn buckets() -> Buckets {
    Buckets { data_store: Some("in".into()), backup: Some("kept".into()), ..Buckets::default() }
}

fn storage(kms_key: Option<&str>) -> Storage {
    Storage { core_reader: None, replication_role: Some(ROLE.into()), kms_key: kms_key.map(str::to_owned) }
}

fn steps(differences: &[Difference]) -> Vec<Step> {
    differences.iter().map(|difference| difference.step).collect()
}

/// A bucket as `ensure` leaves it.
fn right(desired: &Desired) -> Found {
    let mut policy = Document::empty();
    policy.put(document::tls_only(desired.bucket));
    let replication = desired.replica.as_ref().map(|replica| {
        let rule = desired.replication_rule(replica, &[]).unwrap();
        ReplicationConfiguration::builder().role(replica.role).rules(rule).build().unwrap()
    });
    Found {
        exists: true,
        public_access: Ok([true; 4]),
        encryption: Ok(Some(desired.encryption(None))),
        ownership: Ok(OWNERSHIP.into()),
        policy: Ok(policy),
        versioning: Ok("Enabled".into()),
        lifecycle: Ok(lifecycle_rules(false).unwrap().into()),
        logging: Ok(desired.access_logs.map(|bucket| Logging { bucket: bucket.into(), prefix: desired.log_prefix() })),
        events: Ok(desired.events),
        replication: Ok(replication),
    }
}

#[test]
fn a_bucket_that_is_not_there_is_made_closed_before_anything_else() {
    let (buckets, storage) = (Buckets { access_logs: Some("logs".into()), ..buckets() }, storage(None));
    let desired = Desired::new(Bucket::DataStore, "in", &buckets, &storage, false);
    let (differences, unread) = desired.differences("eu-west-2", &Found::nothing()).unwrap();
    assert!(unread.is_empty());
    let steps = steps(&differences);
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(steps[..3], [Step::Create, Step::PublicAccess, Step::Encryption]);
    assert_eq!(steps.len(), 12);
    assert!(differences.iter().all(|difference| difference.before.is_empty()), "{differences:?}");
}

#[test]
fn a_bucket_that_is_as_it_should_be_has_no_differences() {
    for key in [None, Some(KEY)] {
        let (buckets, storage) = (buckets(), storage(key));
        for (role, copied) in [(Bucket::DataStore, true), (Bucket::Workspace, false), (Bucket::Backup, false)] {
            let desired = Desired::new(role, "in", &buckets, &storage, false);
            assert_eq!(desired.replica.is_some(), copied, "{role}");
            let (differences, unread) = desired.differences("eu-west-2", &right(&desired)).unwrap();
            assert!(differences.is_empty() && unread.is_empty(), "{role}: {differences:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_no_difference_and_is_told() {
    let (buckets, storage) = (buckets(), storage(None));
    let desired = Desired::new(Bucket::DataStore, "in", &buckets, &storage, false);
    let denied = Error::failed(FailureCode::AccessDenied, "cannot read it");
    let found = Found { policy: Err(denied.clone()), versioning: Ok("Suspended".into()), ..right(&desired) };
    let (differences, unread) = desired.differences("eu-west-2", &found).unwrap();
    assert_eq!(steps(&differences), [Step::Versioning]);
    assert_eq!((differences[0].before.as_str(), differences[0].after.as_str()), ("Suspended", "Enabled"));
    assert_eq!(unread, [denied]);
}

#[test]
fn an_encryption_of_the_bucket_s_own_is_kept_unless_a_key_is_named() {
    let own = Encryption { algorithm: "aws:kms".into(), key: Some("theirs".into()), bucket_key: false };
    let (buckets, storages) = (buckets(), [storage(None), storage(Some(KEY))]);
    let differs = storages.map(|storage| {
        let desired = Desired::new(Bucket::Workspace, "w", &buckets, &storage, false);
        let found = Found { encryption: Ok(Some(own.clone())), ..right(&desired) };
        steps(&desired.differences("eu-west-2", &found).unwrap().0)
    });
    assert_eq!(differs, [vec![], vec![Step::Encryption]]);
}

#[test]
fn a_rule_of_ours_that_somebody_altered_is_told_whatever_was_altered() {
    let (buckets, storage) = (buckets(), storage(None));
    let desired = Desired::new(Bucket::DataStore, "in", &buckets, &storage, false);
    let [abort, mut expire] = lifecycle_rules(true).unwrap();
    let found = Found { lifecycle: Ok(vec![abort.clone(), expire.clone()]), ..right(&desired) };
    assert!(desired.differences("eu-west-2", &found).unwrap().0.is_empty(), "both forms say the whole bucket");
    expire.expiration = Some(LifecycleExpiration::builder().days(1).build());
    let found = Found { lifecycle: Ok(vec![expire, abort]), ..right(&desired) };
    let (differences, _) = desired.differences("eu-west-2", &found).unwrap();
    assert_eq!(steps(&differences), [Step::Lifecycle]);
    assert!(differences[0].before.ends_with("altered"), "{differences:?}");
}

#[test]
fn our_replication_rule_has_a_priority_that_no_other_has() {
    let (buckets, storage) = (buckets(), storage(Some(KEY)));
    let desired = Desired::new(Bucket::Shared, "out", &buckets, &storage, false);
    let replica = desired.replica.clone().unwrap();
    let priority = |rules: &[ReplicationRule]| desired.replication_rule(&replica, rules).unwrap().priority();
    let rule = |id: &str, priority| {
        let to = Destination::builder().bucket("arn:aws:s3:::x").build().unwrap();
        let rule = ReplicationRule::builder().id(id).priority(priority).destination(to);
        rule.status(ReplicationRuleStatus::Enabled).build().unwrap()
    };
    assert_eq!(priority(&[]), Some(1));
    assert_eq!(priority(&[rule("theirs", 4)]), Some(5));
    assert_eq!(priority(&[rule("theirs", 4), rule(REPLICATE, 2)]), Some(2), "it keeps its own");
    assert_eq!(priority(&[rule("theirs", 4), rule(REPLICATE, 4)]), Some(5));
}

#[test]
fn what_is_shared_is_left_and_what_is_shared_with_others_is_not() {
    let reader = "arn:aws:iam::111111111111:role/core";
    let (buckets, storage) = (buckets(), Storage { core_reader: Some(reader.into()), ..Storage::default() });
    for (role, with, revoked, wanted) in [
        (Bucket::Shared, reader, false, None),
        (Bucket::Shared, "arn:aws:iam::111111111111:role/another", false, Some(true)),
        (Bucket::Shared, reader, true, Some(false)),
        (Bucket::Workspace, reader, false, Some(false)),
    ] {
        let desired = Desired::new(role, "out", &buckets, &storage, revoked);
        let mut found = right(&desired);
        let policy = found.policy.as_mut().unwrap();
        policy.put(document::share("out", with));
        let (differences, _) = desired.differences("eu-west-2", &found).unwrap();
        assert_eq!(differences.first().map(|first| !first.after.is_empty()), wanted, "{role} {with} {revoked}");
        let policy = found.policy.as_mut().unwrap();
        desired.amend(policy);
        assert!(desired.differences("eu-west-2", &found).unwrap().0.is_empty(), "and then it is right");
    }
    let desired = Desired::new(Bucket::Shared, "out", &buckets, &storage, false);
    assert!(desired.differences("eu-west-2", &right(&desired)).unwrap().0.is_empty(), "nothing is shared by itself");
}

#[test]
fn rules_of_others_keep_their_role_and_their_form() {
    let (buckets, storage) = (buckets(), storage(None));
    let desired = Desired::new(Bucket::DataStore, "in", &buckets, &storage, false);
    let ours = desired.replication_rule(desired.replica.as_ref().unwrap(), &[]).unwrap();
    let theirs = |filter| {
        let destination = Destination::builder().bucket("arn:aws:s3:::x").build().unwrap();
        let rule = ReplicationRule::builder().id("theirs").status(ReplicationRuleStatus::Enabled);
        rule.destination(destination).set_filter(filter).build().unwrap()
    };
    let filtered = theirs(Some(ReplicationRuleFilter::builder().prefix("a/").build()));
    for (role, rules, told) in [
        ("arn:aws:iam::1:role/theirs", vec![ours.clone()], None),
        (ROLE, vec![ours.clone(), filtered.clone()], None),
        ("arn:aws:iam::1:role/theirs", vec![filtered], Some("role/theirs")),
        (ROLE, vec![ours, theirs(None)], Some("with a Filter")),
    ] {
        let found = ReplicationConfiguration::builder().role(role).set_rules(Some(rules)).build().unwrap();
        let obstacle = desired.replication_obstacle(Some(&found)).map(|error| error.to_string());
        assert_eq!(obstacle.is_some(), told.is_some(), "{obstacle:?}");
        assert!(obstacle.unwrap_or_default().contains(told.unwrap_or_default()));
    }
}
