//! Alerts over a store of their own: what no fleet in a test gets to show.

use std::path::Path;

use sfdata_common::usage::{Component, Hour, Key as Of, Meter, Record};

use super::*;

/// Noon of the 11th of November 2026.
const NOW: i64 = 1_794_398_400;

fn alerts(store: &Store, folder: &Path, costs: Costs) -> Alerts {
    let settings = Settings { group: Duration::ZERO, ..Settings::default() };
    let parts = Parts {
        store: store.clone(),
        disk: disk::Gauge::new(folder),
        metrics: Metrics::default(),
        settings,
        lifetime: Duration::from_secs(7 * 24 * 3600),
        usage: Arc::new(Usage::new(store.clone(), Metrics::default())),
        costs,
        channels: Vec::new(),
    };
    Alerts::load(parts).unwrap()
}

fn rules(alerts: &Alerts, now: Timestamp) -> Vec<String> {
    alerts
        .list(now)
        .alerts
        .into_iter()
        .map(|alert| format!("{} {}: {}", alert.agent_id, alert.rule, alert.summary))
        .collect()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

#[tokio::test]
async fn who_will_have_spent_more_than_their_budget_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path(), Metrics::default()).unwrap();
    let costs = Costs { budget: Some(20.0), ..Costs::default() };
    let alerts = alerts(&store, folder.path(), costs);
    let agent = "camden".parse().unwrap();
    let fleet = [wire::AgentSummary { agent_id: "camden".into(), ..Default::default() }];
    // An ACU for two hours of each day so far: 3 USD in ten days, 9 by the end of the month; then five for all of a day.
    let acus = |hour: u32, acus: u64| {
        let key = Of::new(Meter::AuroraCapacity, Component::Database);
        (&Record { revision: u64::from(hour), hour: Hour(hour), key, amount: acus * 1000 * 3600 }).into()
    };
    let told = |records| wire::UsageBatch { book: 1, region: "eu-west-2".into(), records };
    let today = Hour::of(now());
    let days = (0..10).flat_map(|day| [0, 1].map(|hour| acus((today.day() - 10 + day) * 24 + hour, 1)));
    alerts.parts.usage.take(&agent, told(days.collect()), now()).await.unwrap();
    alerts.pass(&fleet, &[], now()).await.unwrap();
    assert_eq!(rules(&alerts, now()), [""; 0]);
    let more = (0..12).map(|hour| acus(today.day() * 24 + hour, 5)).collect();
    alerts.parts.usage.take(&agent, told(more), now()).await.unwrap();
    alerts.pass(&fleet, &[], now()).await.unwrap();
    assert_eq!(rules(&alerts, now()), [""; 0], "it is not looked at all the time");
    alerts.inner().costs_again = None;
    alerts.pass(&fleet, &[], now()).await.unwrap();
    let [told] = &rules(&alerts, now())[..] else { panic!("{:?}", rules(&alerts, now())) };
    assert!(told.starts_with("camden over-budget: will have cost ") && told.ends_with("its budget is 20"), "{told}");
}

#[tokio::test]
async fn an_audit_record_that_was_altered_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path(), Metrics::default()).unwrap();
    for number in 0..3 {
        let mut batch = Batch::default();
        batch.audit(audit::draft(now(), "agent.locked", audit::HUB, format!("agent/{number}"), "why"));
        store.commit(batch).await.unwrap();
    }
    let well = alerts(&store, folder.path(), Costs::default());
    well.pass(&[], &[], now()).await.unwrap();
    assert_eq!(well.inner().audit.next, 3);
    well.inner().audit.again = Some(Instant::now());
    well.pass(&[], &[], now()).await.unwrap();
    assert_eq!(well.inner().audit.next, 3, "from its beginning again");
    assert_eq!(rules(&well, now()), [""; 0]);
    drop(well);
    store.close().await;
    drop(store);

    Store::alter(folder.path(), &[keys::AUDIT, &1_u64.to_be_bytes()].concat(), |value| {
        let at = value.windows(3).position(|window| window == b"why").unwrap();
        value[at..at + 3].copy_from_slice(b"how");
    });
    let store = Store::open(folder.path(), Metrics::default()).unwrap();
    let altered = alerts(&store, folder.path(), Costs::default());
    altered.pass(&[], &[], now()).await.unwrap();
    let [told] = &rules(&altered, now())[..] else { panic!("{:?}", rules(&altered, now())) };
    assert!(told.contains("audit-broken: has an audit record that does not hold from entry 1 on"), "{told}");
}
