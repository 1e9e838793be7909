//! The buckets as `hubctl s3` shows them: how much is in them, and how they differ from what they should be.

use serde_json::{Value, json};
use sfdata_proto::v1::{BucketChange, BucketDrift, BucketEnsured, BucketUsage};

use crate::{
    health::none_if_empty,
    table::{Cell, Tone, row},
    words,
};

/// How much is in one bucket.
pub(crate) fn usage(bucket: &BucketUsage) -> Value {
    json!({
        "role": bucket.role,
        "bucket": bucket.bucket,
        "objects": bucket.objects,
        "size_bytes": bucket.size_bytes,
    })
}

/// Columns of [`usage_row`].
pub(crate) const USAGE_COLUMNS: [&str; 4] = ["ROLE", "BUCKET", "OBJECTS", "SIZE"];

/// How much is in one bucket, on one line.
pub(crate) fn usage_row(bucket: &BucketUsage) -> Vec<Cell> {
    row![bucket.role, bucket.bucket, bucket.objects, words::bytes(bucket.size_bytes)]
}

/// How one bucket differs.
pub(crate) fn drift(bucket: &BucketDrift) -> Value {
    json!({
        "role": bucket.role,
        "bucket": bucket.bucket,
        "changes": bucket.changes.iter().map(change).collect::<Vec<_>>(),
        "unread": bucket.unread,
    })
}

/// What was changed of one bucket.
pub(crate) fn ensured(bucket: &BucketEnsured) -> Value {
    json!({
        "role": bucket.role,
        "bucket": bucket.bucket,
        "changes": bucket.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

fn change(change: &BucketChange) -> Value {
    json!({
        "property": change.property,
        "before": none_if_empty(&change.before),
        "after": none_if_empty(&change.after),
    })
}

/// Columns of [`drift_rows`] and [`ensured_rows`].
pub(crate) const CHANGE_COLUMNS: [&str; 5] = ["ROLE", "BUCKET", "PROPERTY", "BEFORE", "AFTER"];

/// How one bucket differs, a line each; one line where it does not.
pub(crate) fn drift_rows(bucket: &BucketDrift) -> Vec<Vec<Cell>> {
    let mut rows = change_rows(&bucket.role, &bucket.bucket, &bucket.changes);
    for error in &bucket.unread {
        let mut row = row![bucket.role, bucket.bucket];
        row.extend([Cell::new("unreadable", Tone::Bad), Cell::from(error), Cell::from("")]);
        rows.push(row);
    }
    if rows.is_empty() {
        rows.push(as_it_should_be(&bucket.role, &bucket.bucket));
    }
    rows
}

/// What was changed of one bucket, a line each; one line where nothing was.
pub(crate) fn ensured_rows(bucket: &BucketEnsured) -> Vec<Vec<Cell>> {
    let rows = change_rows(&bucket.role, &bucket.bucket, &bucket.changes);
    if rows.is_empty() { vec![as_it_should_be(&bucket.role, &bucket.bucket)] } else { rows }
}

fn change_rows(role: &str, bucket: &str, changes: &[BucketChange]) -> Vec<Vec<Cell>> {
    changes.iter().map(|change| row![role, bucket, change.property, change.before, change.after]).collect()
}

fn as_it_should_be(role: &str, bucket: &str) -> Vec<Cell> {
    let mut row = row![role, bucket];
    row.extend([Cell::from(""), Cell::from(""), Cell::new("as it should be", Tone::Good)]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn a_drift_says_what_differs_what_is_not_known_and_that_nothing_does() {
        let change = BucketChange { property: "ObjectOwnership".into(), before: "".into(), after: "Mine".into() };
        let mut bucket = BucketDrift { role: "shared".into(), bucket: "out".into(), ..Default::default() };
        let mut table = Table::new(&CHANGE_COLUMNS);
        drift_rows(&bucket).into_iter().for_each(|row| table.push(row));
        bucket.changes.push(change);
        bucket.unread.push("access-denied: cannot read the policy".into());
        drift_rows(&bucket).into_iter().for_each(|row| table.push(row));
        insta::assert_snapshot!(table.render(false), @r"
        ROLE    BUCKET  PROPERTY         BEFORE                                 AFTER
        shared  out     -                -                                      as it should be
        shared  out     ObjectOwnership  -                                      Mine
        shared  out     unreadable       access-denied: cannot read the policy  -
        ");
        assert_eq!(drift(&bucket)["changes"][0]["before"], Value::Null);
    }
}
