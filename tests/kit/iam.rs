//! The policies of `deploy/iam` beside what was really called.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

/// What these policies allow, by file name without its ending.
pub fn allowed(policies: &[&str]) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/iam");
    let mut allowed = BTreeSet::new();
    for policy in policies {
        let text = std::fs::read_to_string(folder.join(format!("{policy}.json"))).expect("a policy");
        let policy: Value = serde_json::from_str(&text).expect("JSON");
        for statement in policy["Statement"].as_array().expect("statements") {
            assert_eq!(statement["Effect"], "Allow");
            match &statement["Action"] {
                Value::Array(several) => allowed.extend(several.iter().filter_map(Value::as_str).map(str::to_owned)),
                one => allowed.extend(one.as_str().map(str::to_owned)),
            }
        }
    }
    allowed
}

/// What calls need, as the service authorization reference names it. Asking who one is needs nothing.
pub fn needed(calls: BTreeSet<String>) -> BTreeSet<String> {
    let permissions = |call: String| match call.as_str() {
        "sts:GetCallerIdentity" => vec![],
        "s3:ListBuckets" => vec!["s3:ListAllMyBuckets".to_owned()],
        "s3:ListObjectsV2" | "s3:HeadBucket" => vec!["s3:ListBucket".to_owned()],
        // Where objects are encrypted with a key of the LA's, S3 uses it in the name of who asks.
        "s3:HeadObject" => ["s3:GetObject", "kms:Decrypt"].map(str::to_owned).into(),
        "s3:PutObject" => vec![call, "kms:Decrypt".to_owned(), "kms:GenerateDataKey".to_owned()],
        "s3:GetBucketEncryption" => vec!["s3:GetEncryptionConfiguration".to_owned()],
        "s3:PutBucketEncryption" => vec!["s3:PutEncryptionConfiguration".to_owned()],
        "s3:GetPublicAccessBlock" => vec!["s3:GetBucketPublicAccessBlock".to_owned()],
        "s3:PutPublicAccessBlock" => vec!["s3:PutBucketPublicAccessBlock".to_owned()],
        "s3:GetBucketLifecycleConfiguration" => vec!["s3:GetLifecycleConfiguration".to_owned()],
        "s3:PutBucketLifecycleConfiguration" => vec!["s3:PutLifecycleConfiguration".to_owned()],
        "s3:GetBucketNotificationConfiguration" => vec!["s3:GetBucketNotification".to_owned()],
        "s3:PutBucketNotificationConfiguration" => vec!["s3:PutBucketNotification".to_owned()],
        "s3:ListBucketMetricsConfigurations" => vec!["s3:GetMetricsConfiguration".to_owned()],
        "s3:GetBucketReplication" => vec!["s3:GetReplicationConfiguration".to_owned()],
        // It names the role that S3 takes on.
        "s3:PutBucketReplication" => ["s3:PutReplicationConfiguration", "iam:PassRole"].map(str::to_owned).into(),
        // It comes with tags, and names the roles that the tasks take on.
        "ecs:RegisterTaskDefinition" => vec![call, "ecs:TagResource".to_owned(), "iam:PassRole".to_owned()],
        // Where the queue has a key of its own, SQS uses it in the name of who asks.
        "sqs:ReceiveMessage" => vec![call, "kms:Decrypt".to_owned()],
        "sqs:DeleteMessageBatch" => vec!["sqs:DeleteMessage".to_owned()],
        "sqs:ChangeMessageVisibilityBatch" => vec!["sqs:ChangeMessageVisibility".to_owned()],
        "ecs:RunTask" => vec![call, "ecs:TagResource".to_owned(), "iam:PassRole".to_owned()],
        "secretsmanager:CreateSecret" => vec![call, "secretsmanager:TagResource".to_owned()],
        "monitoring:GetMetricData" => vec!["cloudwatch:GetMetricData".to_owned()],
        "rds:CreateDBClusterSnapshot" | "rds:CreateDBSnapshot" => vec![call, "rds:AddTagsToResource".to_owned()],
        // It comes with tags, and names the key that RDS is to encrypt with.
        "rds:RestoreDBClusterFromSnapshot" | "rds:RestoreDBInstanceFromDBSnapshot" => {
            let more = ["rds:AddTagsToResource", "kms:CreateGrant", "kms:DescribeKey"];
            more.map(str::to_owned).into_iter().chain([call]).collect()
        }
        _ => vec![call],
    };
    calls.into_iter().flat_map(permissions).collect()
}
