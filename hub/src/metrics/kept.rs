//! What the store keeps, as Prometheus reads it: counted where it is written, so that a scrape costs nothing. Labels are the
//! kinds of records.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use crate::store::keys::{self, KIND_COUNT, KINDS};

/// Amounts by kind; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    amounts: [Amount; KIND_COUNT],
    disk_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Amount {
    records: AtomicI64,
    /// Of keys and values.
    bytes: AtomicI64,
    /// Unix time of the oldest; 0 where there is none, or none is known.
    oldest: AtomicI64,
}

impl Kept {
    /// A record of this key has a value of so many bytes in place of one of so many; `None`: it is not there.
    pub fn changed(&self, key: &[u8], before: Option<usize>, after: Option<usize>) {
        let whole = |value: Option<usize>| value.map_or(0, |value| (key.len() + value).try_into().unwrap_or(i64::MAX));
        let amount = &self.0.amounts[keys::kind_of(key)];
        amount.records.fetch_add(i64::from(after.is_some()) - i64::from(before.is_some()), Ordering::Relaxed);
        amount.bytes.fetch_add(whole(after) - whole(before), Ordering::Relaxed);
    }

    /// The oldest record of the kind at this place is from then, in seconds; 0: there is none.
    pub fn oldest(&self, kind: usize, at: i64) {
        self.0.amounts[kind].oldest.store(at, Ordering::Relaxed);
    }

    /// The store's files have so many bytes.
    pub fn disk(&self, bytes: u64) {
        self.0.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Records of each kind, and their bytes.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<(i64, i64)> {
        let of = |amount: &Amount| (amount.records.load(Ordering::Relaxed), amount.bytes.load(Ordering::Relaxed));
        self.0.amounts.iter().map(of).collect()
    }
}

impl Collector for Kept {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, of: fn(&Amount) -> &AtomicI64, none: bool| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (kind, amount) in KINDS.iter().zip(&self.0.amounts) {
                let value = of(amount).load(Ordering::Relaxed);
                if none || value != 0 {
                    family.encode_family(&[("kind", kind.name)])?.encode_gauge(&value)?;
                }
            }
            Ok::<_, fmt::Error>(())
        };
        gauge("store_records", "Records kept", |amount| &amount.records, true)?;
        gauge("store_record_bytes", "Bytes of the records' keys and values", |amount| &amount.bytes, true)?;
        let help = "When the oldest record is from, of kinds that are kept for a time";
        gauge("store_oldest_record_timestamp_seconds", help, |amount| &amount.oldest, false)?;
        let help = "Bytes of the store's files, which have room for more than the records";
        let mut disk = encoder.encode_descriptor("store_disk_bytes", help, None, MetricType::Gauge)?;
        disk.encode_gauge(&i64::try_from(self.0.disk_bytes.load(Ordering::Relaxed)).unwrap_or(i64::MAX))
    }
}
