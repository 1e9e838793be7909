//! The buckets as `hubctl s3` shows them: how much is in them, and how they differ from what they should be.

use serde_json::{Value, json};
use sfdata_proto::v1::{
    BucketChange, BucketDrift, BucketEnsured, BucketQuarantine, BucketUsage, Hold, ObjectCount, PrefixUsage,
    S3ShareResult, S3ShareState, S3UrlResult, S3UsageResult,
};

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
        "oldest": words::time(bucket.oldest_unix_ms),
        "newest": words::time(bucket.newest_unix_ms),
        "week": count(bucket.week),
        "month": count(bucket.month),
        "prefixes": bucket.prefixes.iter().map(prefix).collect::<Vec<_>>(),
        "others": bucket.others.as_ref().map(prefix),
    })
}

fn prefix(prefix: &PrefixUsage) -> Value {
    json!({
        "prefix": prefix.prefix,
        "objects": prefix.objects,
        "size_bytes": prefix.size_bytes,
        "oldest": words::time(prefix.oldest_unix_ms),
        "newest": words::time(prefix.newest_unix_ms),
        "week": count(prefix.week),
        "month": count(prefix.month),
    })
}

fn count(count: Option<ObjectCount>) -> Value {
    let count = count.unwrap_or_default();
    json!({ "objects": count.objects, "size_bytes": count.size_bytes })
}

/// Columns of [`usage_rows`].
pub(crate) fn usage_columns(usage: &S3UsageResult) -> &'static [&'static str] {
    const PLAIN: [&str; 8] = ["ROLE", "BUCKET", "OBJECTS", "SIZE", "OLDEST", "NEWEST", "7 DAYS", "30 DAYS"];
    const BY_PREFIX: [&str; 9] =
        ["ROLE", "BUCKET", "PREFIX", "OBJECTS", "SIZE", "OLDEST", "NEWEST", "7 DAYS", "30 DAYS"];
    if usage.by_prefix { &BY_PREFIX } else { &PLAIN }
}

/// How much is in each bucket, on one line; by prefix on one for each, with what is not told by name at the end.
pub(crate) fn usage_rows(usage: &S3UsageResult) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for bucket in &usage.buckets {
        let whole = PrefixUsage {
            prefix: String::new(),
            objects: bucket.objects,
            size_bytes: bucket.size_bytes,
            oldest_unix_ms: bucket.oldest_unix_ms,
            newest_unix_ms: bucket.newest_unix_ms,
            week: bucket.week,
            month: bucket.month,
        };
        if !usage.by_prefix {
            rows.push([row![bucket.role, bucket.bucket], sum(&whole)].concat());
            continue;
        }
        rows.push([row![bucket.role, bucket.bucket, "all"], sum(&whole)].concat());
        for prefix in &bucket.prefixes {
            let name = if prefix.prefix.is_empty() { "without a folder" } else { &prefix.prefix };
            rows.push([row![bucket.role, bucket.bucket, name], sum(prefix)].concat());
        }
        if let Some(others) = &bucket.others {
            rows.push([row![bucket.role, bucket.bucket, "others"], sum(others)].concat());
        }
    }
    rows
}

fn sum(sum: &PrefixUsage) -> Vec<Cell> {
    let grown = |count: Option<ObjectCount>| {
        let ObjectCount { objects, size_bytes } = count.unwrap_or_default();
        format!("{objects}, {}", words::bytes(size_bytes))
    };
    let (oldest, newest) = (words::second(sum.oldest_unix_ms), words::second(sum.newest_unix_ms));
    row![sum.objects, words::bytes(sum.size_bytes), oldest, newest, grown(sum.week), grown(sum.month)]
}

/// How one bucket differs.
pub(crate) fn drift(bucket: &BucketDrift) -> Value {
    json!({
        "role": bucket.role,
        "bucket": bucket.bucket,
        "changes": bucket.changes.iter().map(change).collect::<Vec<_>>(),
        "unread": bucket.unread,
        "obstacles": bucket.obstacles,
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
    for obstacle in &bucket.obstacles {
        let mut row = row![bucket.role, bucket.bucket];
        row.extend([Cell::new("unwritable", Tone::Bad), Cell::from(obstacle), Cell::from("")]);
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

/// What is shared of the shared bucket.
pub(crate) fn share(share: &S3ShareResult) -> Value {
    json!({
        "bucket": share.bucket,
        "core_reader": none_if_empty(&share.core_reader),
        "state": words::share_state(share.state()),
        "revoked": share.revoked.as_ref().map(|revoked| json!({
            "by": "the LA",
            "reason": revoked.reason,
            "since": words::time(revoked.since_unix_ms),
        })),
        "other_grants": share.other_grants,
    })
}

/// Columns of [`share_row`].
pub(crate) const SHARE_COLUMNS: [&str; 5] = ["BUCKET", "READER", "SHARED", "REVOKED BY THE LA", "LET IN AS WELL BY"];

/// What is shared of the shared bucket, on one line.
pub(crate) fn share_row(share: &S3ShareResult) -> Vec<Cell> {
    let tone = if share.state() == S3ShareState::Altered { Tone::Bad } else { Tone::Plain };
    let revoked = |revoked: &Hold| format!("{}: {}", words::second(revoked.since_unix_ms), revoked.reason);
    vec![
        Cell::from(&share.bucket),
        Cell::from(&share.core_reader),
        Cell::new(words::share_state(share.state()), tone),
        Cell::from(share.revoked.as_ref().map(revoked).unwrap_or_default()),
        Cell::new(share.other_grants.join(", "), Tone::Pending),
    ]
}

/// One prefix in quarantine.
pub(crate) fn quarantine(quarantine: &BucketQuarantine) -> Value {
    json!({
        "role": quarantine.role,
        "bucket": quarantine.bucket,
        "prefix": quarantine.prefix,
        "command_id": none_if_empty(&quarantine.command_id),
    })
}

/// Columns of [`quarantine_rows`].
pub(crate) const QUARANTINE_COLUMNS: [&str; 4] = ["ROLE", "BUCKET", "IN QUARANTINE", "BY COMMAND"];

/// The prefixes in quarantine, a line each; one line where there is none.
pub(crate) fn quarantine_rows(quarantines: &[BucketQuarantine]) -> Vec<Vec<Cell>> {
    if quarantines.is_empty() {
        return vec![row!["", "", "nothing", ""]];
    }
    quarantines.iter().map(|one| row![one.role, one.bucket, one.prefix, one.command_id]).collect()
}

/// A URL to one object.
pub(crate) fn url(url: &S3UrlResult) -> Value {
    json!({ "method": url.method, "url": url.url, "expires": words::time(url.expires_unix_ms) })
}

/// Columns of [`url_row`].
pub(crate) const URL_COLUMNS: [&str; 3] = ["METHOD", "EXPIRES", "URL"];

/// A URL to one object, on one line.
pub(crate) fn url_row(url: &S3UrlResult) -> Vec<Cell> {
    row![url.method, words::second(url.expires_unix_ms), url.url]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn usage_by_prefix_has_a_line_for_the_whole_and_one_for_the_rest() {
        let prefix = |prefix: &str| PrefixUsage { prefix: prefix.into(), objects: 1, ..Default::default() };
        let bucket = BucketUsage {
            role: "shared".into(),
            bucket: "out".into(),
            objects: 3,
            prefixes: vec![prefix(""), prefix("a/")],
            others: Some(prefix("")),
            ..Default::default()
        };
        let mut usage = S3UsageResult { buckets: vec![bucket], by_prefix: true };
        let mut table = Table::new(usage_columns(&usage));
        usage_rows(&usage).into_iter().for_each(|row| table.push(row));
        insta::assert_snapshot!(table.render(false), @r"
        ROLE    BUCKET  PREFIX            OBJECTS  SIZE  OLDEST  NEWEST  7 DAYS  30 DAYS
        shared  out     all               3        0 B   -       -       0, 0 B  0, 0 B
        shared  out     without a folder  1        0 B   -       -       0, 0 B  0, 0 B
        shared  out     a/                1        0 B   -       -       0, 0 B  0, 0 B
        shared  out     others            1        0 B   -       -       0, 0 B  0, 0 B
        ");
        usage.by_prefix = false;
        assert_eq!(usage_rows(&usage)[0].len(), usage_columns(&usage).len());
    }

    #[test]
    fn a_drift_says_what_differs_what_is_not_known_and_that_nothing_does() {
        let change = BucketChange { property: "ObjectOwnership".into(), before: "".into(), after: "Mine".into() };
        let mut bucket = BucketDrift { role: "shared".into(), bucket: "out".into(), ..Default::default() };
        let mut table = Table::new(&CHANGE_COLUMNS);
        drift_rows(&bucket).into_iter().for_each(|row| table.push(row));
        bucket.changes.push(change);
        bucket.unread.push("access-denied: cannot read the policy".into());
        bucket.obstacles.push("remove Theirs".into());
        drift_rows(&bucket).into_iter().for_each(|row| table.push(row));
        insta::assert_snapshot!(table.render(false), @r"
        ROLE    BUCKET  PROPERTY         BEFORE                                 AFTER
        shared  out     -                -                                      as it should be
        shared  out     ObjectOwnership  -                                      Mine
        shared  out     unreadable       access-denied: cannot read the policy  -
        shared  out     unwritable       remove Theirs                          -
        ");
        assert_eq!(drift(&bucket)["changes"][0]["before"], Value::Null);
    }
}
