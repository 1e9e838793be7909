//! Adding up objects: all of a bucket, and by the first level of its prefixes where that was asked for.
//!
//! Pure, and bounded however many prefixes there are. S3 lists in the order of the keys, so that what has one prefix comes
//! in one piece.

use sfdata_common::limits;
use sfdata_proto::v1 as wire;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A sum of objects.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sum {
    objects: u64,
    size_bytes: u64,
    oldest: Option<i64>,
    newest: Option<i64>,
    week: wire::ObjectCount,
    month: wire::ObjectCount,
}

impl Sum {
    fn add(&mut self, size: u64, written: i64, now: i64) {
        self.objects += 1;
        self.size_bytes += size;
        self.oldest = Some(self.oldest.map_or(written, |oldest| oldest.min(written)));
        self.newest = self.newest.max(Some(written));
        for (days, count) in [(7, &mut self.week), (30, &mut self.month)] {
            if now.saturating_sub(written) <= days * DAY_MS {
                count.objects += 1;
                count.size_bytes += size;
            }
        }
    }

    fn join(&mut self, other: &Self) {
        self.objects += other.objects;
        self.size_bytes += other.size_bytes;
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
        self.newest = self.newest.max(other.newest);
        for (count, other) in [(&mut self.week, other.week), (&mut self.month, other.month)] {
            count.objects += other.objects;
            count.size_bytes += other.size_bytes;
        }
    }

    fn of_prefix(self, prefix: String) -> wire::PrefixUsage {
        wire::PrefixUsage {
            prefix,
            objects: self.objects,
            size_bytes: self.size_bytes,
            oldest_unix_ms: self.oldest.unwrap_or_default(),
            newest_unix_ms: self.newest.unwrap_or_default(),
            week: Some(self.week),
            month: Some(self.month),
        }
    }
}

/// What a bucket's objects come to.
#[derive(Debug)]
pub(super) struct Tally {
    by_prefix: bool,
    now: i64,
    all: Sum,
    /// The prefix that the listing is in.
    open: Option<(String, Sum)>,
    largest: Vec<(String, Sum)>,
    /// What has no folder, wherever it stands in the listing.
    top: Sum,
    others: Sum,
}

impl Tally {
    /// Nothing yet; `now` and all times in milliseconds since 1970.
    pub(super) fn new(by_prefix: bool, now: i64) -> Self {
        let (all, top, others) = Default::default();
        Self { by_prefix, now, all, open: None, largest: Vec::new(), top, others }
    }

    /// How many there are so far.
    pub(super) fn objects(&self) -> u64 {
        self.all.objects
    }

    /// The next object of the listing.
    pub(super) fn add(&mut self, key: &str, size: u64, written: i64) {
        self.all.add(size, written, self.now);
        if !self.by_prefix {
            return;
        }
        let Some(end) = key.find('/') else { return self.top.add(size, written, self.now) };
        let prefix = &key[..=end];
        if self.open.as_ref().is_none_or(|(open, _)| open != prefix) {
            self.close();
        }
        let (_, sum) = self.open.get_or_insert_with(|| (prefix.to_owned(), Sum::default()));
        sum.add(size, written, self.now);
    }

    fn close(&mut self) {
        self.largest.extend(self.open.take());
        if self.largest.len() > limits::BUCKET_PREFIXES
            && let Some(smallest) = (0..self.largest.len()).min_by_key(|at| self.largest[*at].1.size_bytes)
        {
            let (_, sum) = self.largest.remove(smallest);
            self.others.join(&sum);
        }
    }

    /// All told.
    pub(super) fn end(mut self, role: String, bucket: String) -> wire::BucketUsage {
        self.close();
        let top = Some((String::new(), self.top)).filter(|(_, top)| top.objects > 0);
        let prefixes = top.into_iter().chain(self.largest).map(|(prefix, sum)| sum.of_prefix(cut(prefix))).collect();
        let others = Some(self.others).filter(|others| others.objects > 0);
        wire::BucketUsage {
            role,
            bucket,
            objects: self.all.objects,
            size_bytes: self.all.size_bytes,
            oldest_unix_ms: self.all.oldest.unwrap_or_default(),
            newest_unix_ms: self.all.newest.unwrap_or_default(),
            week: Some(self.all.week),
            month: Some(self.all.month),
            prefixes,
            others: others.map(|others| others.of_prefix(String::new())),
        }
    }
}

fn cut(mut prefix: String) -> String {
    if prefix.len() > limits::BUCKET_PREFIX_BYTES {
        prefix.truncate(prefix.floor_char_boundary(limits::BUCKET_PREFIX_BYTES));
        prefix.push('…');
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000 * DAY_MS;

    fn told(by_prefix: bool, objects: &[(&str, u64, i64)]) -> wire::BucketUsage {
        let mut tally = Tally::new(by_prefix, NOW);
        objects.iter().for_each(|(key, size, days)| tally.add(key, *size, NOW - days * DAY_MS));
        tally.end("shared".into(), "b".into())
    }

    #[test]
    fn what_was_written_lately_is_growth() {
        let usage = told(false, &[("a/1", 1, 0), ("a/2", 10, 7), ("b/3", 100, 8), ("c", 1000, 31)]);
        assert_eq!((usage.objects, usage.size_bytes), (4, 1111));
        assert_eq!((usage.oldest_unix_ms, usage.newest_unix_ms), (NOW - 31 * DAY_MS, NOW));
        assert_eq!(usage.week, Some(wire::ObjectCount { objects: 2, size_bytes: 11 }));
        assert_eq!(usage.month, Some(wire::ObjectCount { objects: 3, size_bytes: 111 }));
        assert!(usage.prefixes.is_empty() && usage.others.is_none(), "nobody asked for names");
    }

    #[test]
    fn prefixes_are_those_of_the_first_level() {
        let usage = told(true, &[("a/1", 1, 0), ("a/x/2", 10, 0), ("a.csv", 100, 0), ("b/3", 1000, 0)]);
        let prefixes: Vec<_> = usage.prefixes.iter().map(|p| (p.prefix.as_str(), p.objects, p.size_bytes)).collect();
        assert_eq!(prefixes, [("", 1, 100), ("a/", 2, 11), ("b/", 1, 1000)]);
        assert!(usage.others.is_none());
    }

    #[test]
    fn beyond_the_bound_the_smallest_are_told_as_one() {
        let keys: Vec<String> = (0..limits::BUCKET_PREFIXES + 5).map(|at| format!("{at:04}/x")).collect();
        let sized = |(at, key): (usize, &String)| (key.clone(), if at < 5 { 1 } else { 10 }, 0);
        let objects: Vec<_> = keys.iter().enumerate().map(sized).collect();
        let usage =
            told(true, &objects.iter().map(|(key, size, days)| (key.as_str(), *size, *days)).collect::<Vec<_>>());
        assert_eq!(usage.prefixes.len(), limits::BUCKET_PREFIXES);
        assert!(usage.prefixes.is_sorted_by_key(|prefix| prefix.prefix.clone()));
        let others = usage.others.unwrap();
        assert_eq!((others.objects, others.size_bytes), (5, 5));
        assert_eq!(cut("é".repeat(200)).len(), limits::BUCKET_PREFIX_BYTES + '…'.len_utf8());
    }
}
