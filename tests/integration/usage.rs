//! Usage over the whole way: real tasks at the stand-in, metered by an agent, kept by a hub, through restarts of both.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use sfdata_agent::{config::Platform, policy::Sharing, services::Services, usage::ledger::Span};
use sfdata_common::{
    Timestamp,
    command::{Action, Ecs},
    outcome::Outcome,
    usage::{Component, Hour},
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{eventually, fleet::Fleet};
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

async fn usage(fleet: &Fleet, group: wire::UsageGroup) -> wire::GetUsageResponse {
    let today = Hour::of(Timestamp::now()).day();
    let (from_day, until_day) = (today - 1, today + 1);
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
