//! What Prometheus reads of a process: a page in its text format, and the cheap handles by which modules count.
//!
//! prometheus-client writes OpenMetrics, whose counters are declared without `_total`; the older text format, which
//! every scraper and promtool reads, declares them with it. [`Total`] is a counter that is registered under its full
//! name, so that the page is valid text format. Labels come from fixed sets: their number is bounded.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{EncodeMetric, MetricEncoder, text},
    metrics::{MetricType, TypedMetric, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

/// `Content-Type` of [`Page::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that only grows while the process lives.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<AtomicU64>);

impl Total {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Some more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    // The counter's own encoding would add a second `_total`.
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.value())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A label's value.
pub type Kind = Cow<'static, str>;

type Labels<const N: usize> = [(&'static str, Kind); N];

/// Counters of one name, told apart by their labels.
#[derive(Debug, Clone)]
pub struct Totals<const N: usize = 1> {
    labels: [&'static str; N],
    family: Family<Labels<N>, Total>,
}

impl<const N: usize> Totals<N> {
    /// With these labels; nothing is counted yet.
    pub fn by(labels: [&'static str; N]) -> Self {
        Self { labels, family: Family::default() }
    }

    /// One more of these kinds, in the order of the labels.
    pub fn count(&self, kinds: [Kind; N]) {
        self.family.get_or_create(&self.labelled(kinds)).inc();
    }

    fn labelled(&self, kinds: [Kind; N]) -> Labels<N> {
        let mut labels = self.labels.iter();
        kinds.map(|kind| (labels.next().copied().unwrap_or_default(), kind))
    }
}

impl Totals {
    /// One more of this kind.
    pub fn inc(&self, kind: impl Into<Kind>) {
        self.count([kind.into()]);
    }

    /// So far of this kind.
    pub fn value(&self, kind: &'static str) -> u64 {
        self.family.get(&self.labelled([kind.into()])).map_or(0, |total| total.value())
    }

    /// Shows these kinds as 0 from the start, so that a first event is seen as a rise.
    pub fn starting_with(self, kinds: impl IntoIterator<Item = impl Into<Kind>>) -> Self {
        for kind in kinds {
            let _ = self.family.get_or_create(&self.labelled([kind.into()]));
        }
        self
    }
}

/// Gives metrics their names.
#[derive(Debug)]
pub struct Builder(Registry);

impl Builder {
    /// Of a program whose metrics' names begin with `prefix`, and which is of this version.
    pub fn new(prefix: &str, version: &'static str) -> Self {
        let mut new = Self(Registry::with_prefix(prefix));
        let build =
            new.add("build_info", "Always 1; the label tells the version", Family::<Labels<1>, Gauge>::default());
        build.get_or_create(&[("version", version.into())]).set(1);
        new
    }

    /// A metric of any type.
    pub fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// A counter; its name ends in `_total`.
    pub fn total(&mut self, name: &str, help: &str) -> Total {
        self.add(name, help, Total::default())
    }

    /// Counters of one name, which ends in `_total`, by one label.
    pub fn totals(&mut self, name: &str, help: &str, label: &'static str) -> Totals {
        self.counted(name, help, Totals::by([label]))
    }

    /// Counters that were made by whoever counts.
    pub fn counted<const N: usize>(&mut self, name: &str, help: &str, totals: Totals<N>) -> Totals<N> {
        self.0.register(name, help, totals.family.clone());
        totals
    }

    /// What is looked up anew for each page.
    pub fn collector<C: Collector + Clone>(&mut self, collector: C) -> C {
        self.0.register_collector(Box::new(collector.clone()));
        collector
    }

    /// All of them.
    pub fn page(self) -> Page {
        Page(Arc::new(self.0))
    }
}

/// What Prometheus reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Page(Arc<Registry>);

impl Page {
    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut page = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut page, &self.0);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_declared_under_their_whole_name_and_kinds_keep_their_labels() {
        let mut new = Builder::new("sfdata_test", "1.2.3");
        new.total("looks_total", "Looks taken").add(3);
        let ends = new.totals("ends_total", "Ends", "reason").starting_with(["told", "lost"]);
        ends.inc("told");
        let calls = new.counted("calls_total", "Calls", Totals::by(["service", "result"]));
        calls.count(["ECS".into(), "ok".into()]);
        let page = new.page().text();
        for line in [
            "# HELP sfdata_test_looks_total Looks taken.",
            "# TYPE sfdata_test_looks_total counter",
            "sfdata_test_looks_total 3",
            "sfdata_test_ends_total{reason=\"told\"} 1",
            "sfdata_test_ends_total{reason=\"lost\"} 0",
            "sfdata_test_calls_total{service=\"ECS\",result=\"ok\"} 1",
            "sfdata_test_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(page.lines().any(|one| one == line), "no {line}\n{page}");
        }
        assert_eq!((ends.value("told"), ends.value("lost"), ends.value("other")), (1, 0, 0));
    }
}
