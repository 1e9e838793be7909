//! Usage over the whole way: real tasks and what CloudWatch has at the stand-in, metered by an agent, kept by a hub, through
//! restarts of both; and AWS's bill beside it.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use serde_json::json;
use sfdata_agent::{config::Platform, policy::Sharing, services::Services, usage::ledger::Span};
use sfdata_common::{
    Timestamp,
    command::{Action, Ecs},
    outcome::Outcome,
    usage::{
        Component, Hour,
        days::{day_number, month_from},
    },
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{eventually, fleet::Fleet};
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

async fn usage(fleet: &Fleet, group: wire::UsageGroup) -> wire::GetUsageResponse {
    let today = Hour::of(Timestamp::now()).day();
    asked(fleet, group, today - 1, today + 1).await
}

async fn asked(fleet: &Fleet, group: wire::UsageGroup, from_day: u32, until_day: u32) -> wire::GetUsageResponse {
    let request = wire::GetUsageRequest { from_day, until_day, group: group.into(), agent_ids: vec!["la-0".into()] };
    fleet.alice.client.clone().get_usage(request).await.unwrap().into_inner()
}

/// vCPU-seconds of the daemon, as the hub has them.
async fn kept(fleet: &Fleet) -> f64 {
    let rows = usage(fleet, wire::UsageGroup::Component).await.rows;
    rows.iter().find(|row| row.name == "daemon").map_or(0.0, |row| row.vcpu_hours * 3600.0)
}

/// The daemon's tasks, as ECS has them.
async fn spans(services: &Services) -> Vec<Span> {
    let all = services.ecs.spans(Timestamp::now().as_second()).await.unwrap();
    let of_daemon = |span: &Span| span.component == i32::from(Component::Daemon);
    all.into_iter().map(|(_, span)| span).filter(of_daemon).collect()
}

/// Start the agent, and wait until it meters: it asks CloudWatch first.
async fn metering(fleet: &mut Fleet) {
    let account = fleet.agents[0].account.id.clone();
    let asked = async |fleet: &Fleet| fleet.aws().tried(&account, "monitoring", "GetMetricData").await.unwrap();
    let before = asked(fleet).await;
    fleet.start_agent(0).await;
    eventually("it meters", MINUTE, async || (asked(fleet).await > before).then_some(())).await;
}

fn seconds(spans: &[Span], running: bool) -> f64 {
    let of = |span: &Span| match (span.until, running) {
        (Some(until), _) => (until - span.from).max(60),
        (None, true) => span.seen - span.from,
        (None, false) => 0,
    };
    spans.iter().map(|span| of(span) as f64 * span.cpu as f64 / 1024.0).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_second_of_a_task_counts_once_through_restarts_of_agent_and_hub() {
    let mut fleet = Fleet::start(1).await;
    let config = fleet.agents[0].config.clone();
    let platform: &Platform = &config.platform;
    let services = Services::new(&config.aws, platform, Sharing::new(&config.data_dir)).await;
    eventually("something is told", MINUTE, async || (kept(&fleet).await > 0.0).then_some(())).await;

    let deadline = Duration::from_secs(60);
    let restart = Action::Ecs(Ecs::Restart { service: "daemon".into(), deadline });
    let la = fleet.agents[0].id.clone();
    let restarted = fleet.alice.run(restart, &la).await.unwrap();
    assert!(matches!(restarted, Outcome::Succeeded(_)), "{restarted:?}");
    let stopped = eventually("a task has stopped", MINUTE, async || {
        let spans = spans(&services).await;
        spans.iter().any(|span| span.until.is_some()).then(|| seconds(&spans, false))
    })
    .await;
    assert!(stopped >= 15.0, "a minute at least of a quarter of a vCPU: {stopped}");
    fleet.stop_hub().await;
    for _ in 0..3 {
        fleet.stop_agent(0).await;
        metering(&mut fleet).await;
    }
    fleet.start_hub().await;
    fleet.connected(0).await;
    eventually("all of it is told", MINUTE, async || (kept(&fleet).await > stopped).then_some(())).await;
    for _ in 0..2 {
        fleet.stop_agent(0).await;
        metering(&mut fleet).await;
        fleet.connected(0).await;
        let (most, kept) = (seconds(&spans(&services).await, true), kept(&fleet).await);
        assert!(kept > stopped && kept <= most + 0.01, "{stopped} < {kept} <= {most}");
    }
    let all = usage(&fleet, wire::UsageGroup::Agent).await;
    let (row, total) = (&all.rows[0], all.total.unwrap());
    assert_eq!((row.name.as_str(), all.prices[0].region.as_str()), ("la-0", "eu-west-2"));
    assert!(row.cost_micros > 0 && row.cost_micros == total.cost_micros && row.awake_hours > 0.0, "{row:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_log_bytes_and_what_buckets_grew_by_are_metered_once_however_often_they_are_read() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let account = fleet.agents[0].account.clone();
    let bucket = |role: &str| account.buckets.iter().find(|(of, _)| of == role).unwrap().1.clone();
    let (shared, data_store) = (bucket("shared"), bucket("data-store"));
    let aws = fleet.aws();
    aws.count_requests(&account.id, &shared, "of-a-part", "a/").await.unwrap();
    aws.count_requests(&account.id, &shared, "of-all", "").await.unwrap();
    aws.count_requests(&account.id, &data_store, "of-a-part", "a/").await.unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    let (now, requests) = (Timestamp::now() - jiff::SignedDuration::from_secs(2), ("AWS/S3", "AllRequests"));
    for (bucket, filter, at, count) in [
        (&shared, "of-all", now - hour, 700.0),
        (&shared, "of-all", now, 50.0),
        (&shared, "of-a-part", now, 13.0),
        (&data_store, "of-a-part", now, 13.0),
        (&data_store, "of-all", now, 13.0),
    ] {
        let dimensions = [("BucketName", bucket.as_str()), ("FilterId", filter)];
        aws.measured(&account.id, requests, &dimensions, at, count).await.unwrap();
    }
    let group = format!("/{}", account.cluster);
    let write = async |fleet: &Fleet, group: &str, bytes: f64| {
        let dimensions = [("LogGroupName", group)];
        fleet.aws().measured(&account.id, ("AWS/Logs", "IncomingBytes"), &dimensions, now, bytes).await.unwrap();
    };
    write(&fleet, &group, 1024.0 * 1024.0 * 1024.0).await;
    write(&fleet, "/of-somebody-else", 7.0e12).await;
    let today = Hour::of(now).day();
    let dimensions = [("BucketName", shared.as_str()), ("StorageType", "StandardStorage")];
    for (days, bytes) in [(2, 5.0e9), (1, 2.0e9)] {
        let at = now - days * 24 * hour;
        aws.measured(&account.id, ("AWS/S3", "BucketSizeBytes"), &dimensions, at, bytes).await.unwrap();
    }

    let told = async |fleet: &Fleet| {
        let row = |rows: &[wire::UsageRow], name: &str| rows.iter().find(|row| row.name == name).cloned();
        let yesterday = asked(fleet, wire::UsageGroup::Component, today - 1, today).await.rows;
        let grown = row(&yesterday, "shared").and_then(|row| row.grown_gib);
        let rows = usage(fleet, wire::UsageGroup::Component).await.rows;
        let [logs, shared, data_store] =
            ["logs", "shared", "data-store"].map(|name| row(&rows, name).unwrap_or_default());
        (logs.log_gib, shared.s3_requests, data_store.s3_requests, grown)
    };
    metering(&mut fleet).await;
    fleet.connected(0).await;
    eventually("it is told", MINUTE, async || (told(&fleet).await.1 > 0).then_some(())).await;
    let (log_gib, of_shared, of_data_store, grown) = told(&fleet).await;
    assert_eq!((log_gib, of_shared, of_data_store), (1.0, 750, 0), "what is counted of the whole bucket alone");
    assert!(grown.is_some_and(|gib| (-2.80..-2.79).contains(&gib)), "3 GB less than the day before: {grown:?}");
    for more in 1..4 {
        fleet.stop_agent(0).await;
        write(&fleet, &group, 1024.0 * 1024.0 * 1024.0).await;
        metering(&mut fleet).await;
        fleet.connected(0).await;
        let whole = 1.0 + f64::from(more);
        eventually("the hour's sum is put right", MINUTE, async || (told(&fleet).await.0 >= whole).then_some(())).await;
        assert_eq!(told(&fleet).await, (whole, 750, 0, grown));
    }
    let total = usage(&fleet, wire::UsageGroup::Agent).await.total.unwrap();
    assert_eq!((total.s3_requests, total.log_gib, total.bill), (750, 4.0, None));
    let calls = fleet.aws().actions(&account.id).await.unwrap();
    assert!(!calls.contains("ce:GetCostAndUsage"), "the LA's file does not say so");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bill_is_asked_for_once_a_day_and_stands_beside_the_estimate() {
    let mut fleet = Fleet::start(1).await;
    let account = fleet.agents[0].account.id.clone();
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let (this, last) = (today.first_of_month(), today.first_of_month().yesterday().unwrap().first_of_month());
    let month = |begin: jiff::civil::Date, amount: &str, estimated: bool| {
        json!({"TimePeriod": {"Start": begin.to_string(), "End": "2999-01-01"}, "Estimated": estimated, "Groups": [],
            "Total": {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}})
    };
    let answer = json!({"ResultsByTime": [month(last, "30.25", false), month(this, "-4.1234567", true)]});
    fleet.aws().bill(&account, answer).await.unwrap();
    let questions = async |fleet: &Fleet| fleet.aws().calls(&account, "ce", "GetCostAndUsage").await.unwrap();
    // A refusal is no answer, and it is not asked again at once.
    let denied = json!({"service": "ce", "action": "GetCostAndUsage", "kind": "access_denied", "times": 1});
    fleet.aws().fault(denied).await.unwrap();
    fleet.stop_agent(0).await;
    fleet.agents[0].config.usage.bill = true;
    metering(&mut fleet).await;
    eventually("it is asked", MINUTE, async || {
        let tried = fleet.aws().tried(&account, "ce", "GetCostAndUsage").await.ok()?;
        (tried == 1).then_some(())
    })
    .await;
    fleet.stop_agent(0).await;
    metering(&mut fleet).await;
    fleet.connected(0).await;
    eventually("it meters", MINUTE, async || (kept(&fleet).await > 0.0).then_some(())).await;
    assert!(questions(&fleet).await.is_empty(), "not before some hours have gone");

    // An agent that lost its disk knows of no question.
    let book = fleet.agents[0].config.data_dir.join("usage");
    let lose = async |fleet: &mut Fleet| {
        fleet.stop_agent(0).await;
        std::fs::remove_dir_all(&book).unwrap();
        metering(fleet).await;
        fleet.connected(0).await;
    };
    lose(&mut fleet).await;
    let (from, until) = (day_number(last), month_from(day_number(this)).unwrap());
    let bill = async |fleet: &Fleet, from| {
        let told = asked(fleet, wire::UsageGroup::Agent, from, until).await;
        told.total.unwrap().bill.map(|bill| (bill.amount_micros, bill.estimated))
    };
    eventually("it is told", MINUTE, async || bill(&fleet, from).await).await;
    let both = Some((26_126_543, true));
    assert_eq!((bill(&fleet, from).await, bill(&fleet, day_number(this)).await), (both, Some((-4_123_457, true))));
    let said = &questions(&fleet).await[0]["params"];
    assert_eq!((&said["Granularity"], &said["Metrics"]), (&json!("MONTHLY"), &json!(["UnblendedCost"])));
    assert_eq!(said["TimePeriod"]["End"], json!(today.tomorrow().unwrap().to_string()));
    let by_month = asked(&fleet, wire::UsageGroup::Month, from, until).await.rows;
    let of_last = by_month.iter().find(|row| row.name == last.strftime("%Y-%m").to_string()).unwrap();
    assert_eq!((of_last.bill.as_ref().unwrap().amount_micros, of_last.bill.as_ref().unwrap().agents), (30_250_000, 1));
    assert_eq!(of_last.cost_micros, 0, "what AWS charges is in no estimate");

    fleet.stop_hub().await;
    fleet.stop_agent(0).await;
    fleet.start_hub().await;
    metering(&mut fleet).await;
    fleet.connected(0).await;
    assert_eq!((bill(&fleet, from).await, questions(&fleet).await.len()), (both, 1), "neither start asks anew");
    let read = async |fleet: &Fleet| {
        asked(fleet, wire::UsageGroup::Agent, from, until).await.total.unwrap().bill.unwrap().read_unix_ms
    };
    let before = read(&fleet).await;
    lose(&mut fleet).await;
    eventually("the new book's reading is told", MINUTE, async || (read(&fleet).await > before).then_some(())).await;
    assert_eq!(questions(&fleet).await.len(), 2);
    assert_eq!(bill(&fleet, from).await, both, "told twice, it is there once");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_by_name() {
    let fleet = Fleet::without_aws(1).await;
    let ask = async |from_day, until_day, agents: &[&str]| {
        let agent_ids = agents.iter().map(|id| (*id).to_owned()).collect();
        let request = wire::GetUsageRequest { from_day, until_day, group: 1, agent_ids };
        fleet.alice.client.clone().get_usage(request).await
    };
    for (from, until) in [(5, 5), (6, 5), (0, u32::MAX)] {
        assert_eq!(ask(from, until, &[]).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(ask(1, 2, &["No One"]).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(ask(1, 2, &["nobody"]).await.unwrap().into_inner().rows.is_empty());
    fleet.stop().await;
}
