//! What those who run hub and agents are served: whether they live, whether they can do their work, and their metrics.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use sfdata_agent::policy::Brake;
use sfdata_common::{
    Timestamp,
    command::{Action, Ecs},
    outcome::Outcome,
};
use sfdata_tests::{
    eventually,
    fleet::{Fleet, free_port},
    process::{Run, get},
    scrape::Page,
    settings::write_agent,
};

const SOON: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(60);

/// A fleet of one agent, and where that serves its health and metrics.
async fn observed() -> (Fleet, SocketAddr) {
    let mut fleet = Fleet::start(1).await;
    let address: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    fleet.stop_agent(0).await;
    fleet.agents[0].config.ops.address = Some(address);
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    (fleet, address)
}

async fn restart(fleet: &Fleet) -> Outcome {
    let restart = Action::Ecs(Ecs::Restart { service: "daemon".into(), deadline: DEADLINE });
    fleet.alice.run(restart, &fleet.agents[0].id).await.unwrap()
}

/// The page, once it has `sample` at this value.
async fn shown(address: SocketAddr, sample: &str, value: f64) -> Page {
    eventually(&format!("{sample} is {value}"), SOON, async || {
        Page::of(address).await.ok().filter(|page| page.value(sample) == Some(value))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_metrics_tell_what_it_does_and_nothing_that_it_sees() {
    let (mut fleet, address) = observed().await;
    let outcome = restart(&fleet).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    let page = shown(address, "sfdata_agent_outcomes_unacknowledged", 0.0).await;
    let has = |sample: &str, value: f64| assert_eq!(page.value(sample), Some(value), "{sample}\n{}", page.text);
    has("sfdata_agent_connected", 1.0);
    has("sfdata_agent_connects_total{result=\"welcomed\"}", 1.0);
    has("sfdata_agent_connects_total{result=\"refused\"}", 0.0);
    has("sfdata_agent_commands_total{action=\"ecs.restart\",outcome=\"succeeded\"}", 1.0);
    has("sfdata_agent_refusals_total{reason=\"held\"}", 0.0);
    has("sfdata_agent_commands_running", 0.0);
    has("sfdata_agent_journal_faulty", 0.0);
    has("sfdata_agent_held", 0.0);
    has("sfdata_agent_arrivals_waiting", 0.0);
    has(&format!("sfdata_agent_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0);
    assert!(page.value("sfdata_agent_certificate_expiry_timestamp_seconds").unwrap() > 1.7e9);
    assert!(page.value("sfdata_agent_health_look_duration_seconds_count").unwrap() >= 1.0);
    let updated = [("service", "ECS"), ("operation", "UpdateService"), ("result", "ok")];
    assert_eq!(page.sum("sfdata_agent_aws_requests_total", &updated), 1.0, "{}", page.text);
    assert_eq!(page.promtool().unwrap(), None, "{}", page.text);
    // Of what stands in the account, or was ordered, there is no name.
    let account = &fleet.agents[0].account;
    let names = [&account.id, &account.cluster, &account.database].into_iter().map(String::as_str);
    let buckets = account.buckets.iter().map(|(_, name)| name.as_str());
    for name in names.chain(buckets).chain(["webserver", "daemon", "alice", fleet.agents[0].id.as_str()]) {
        assert!(!page.text.contains(name), "{name} is told\n{}", page.text);
    }
    // The hub's own page is read as strictly.
    let hub = Page::of(fleet.hub_config.listen.ops).await.unwrap();
    assert_eq!(hub.value("sfdata_hub_outcomes_total{outcome=\"succeeded\"}"), Some(1.0));
    assert_eq!(hub.promtool().unwrap(), None, "{}", hub.text);

    // A hold is told, and what it keeps out is counted.
    Brake::new(&fleet.agents[0].config.data_dir).hold("inspection", Timestamp::now()).unwrap();
    let outcome = restart(&fleet).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    let page = shown(address, "sfdata_agent_held", 1.0).await;
    assert_eq!(page.value("sfdata_agent_refusals_total{reason=\"held\"}"), Some(1.0));
    assert_eq!(page.sum("sfdata_agent_commands_total", &[]), 1.0, "what was refused was not begun");
    fleet.stop_agent(0).await;
    assert!(get(address, "/healthz").await.is_none(), "an agent that has stopped serves nothing");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_aws_throttles_refuses_and_fails_are_counted_each_try_by_itself() {
    let (fleet, address) = observed().await;
    let fault = async |kind: &str, times: u32| {
        let account = &fleet.agents[0].account.id;
        let fault =
            json!({"service": "ecs", "action": "UpdateService", "kind": kind, "times": times, "account": account});
        fleet.aws().fault(fault).await.unwrap();
    };
    let requests = async |result: &str| {
        let labels = [("service", "ECS"), ("operation", "UpdateService"), ("result", result)];
        Page::of(address).await.unwrap().sum("sfdata_agent_aws_requests_total", &labels)
    };
    // The SDK tries again, and what it got in the end succeeds.
    fault("throttle", 2).await;
    fault("error500", 1).await;
    let outcome = restart(&fleet).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!((requests("throttled").await, requests("failed").await, requests("ok").await), (2.0, 1.0, 1.0));
    fault("access_denied", 1).await;
    let outcome = restart(&fleet).await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_eq!((requests("refused").await, requests("failed").await, requests("ok").await), (1.0, 1.0, 1.0));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_its_hub_lives_and_says_that_it_is_not_ready() {
    let (mut fleet, address) = observed().await;
    assert_eq!(get(address, "/readyz").await.unwrap(), (200, "ready\n".to_owned()));
    fleet.stop_hub().await;
    let page = shown(address, "sfdata_agent_connected", 0.0).await;
    assert_eq!(page.value("sfdata_agent_connects_total{result=\"welcomed\"}"), Some(1.0));
    let (status, why) = get(address, "/readyz").await.unwrap();
    assert!(status == 503 && why.contains("has not welcomed this agent"), "{status} {why}");
    assert_eq!(get(address, "/healthz").await.unwrap(), (200, "ok\n".to_owned()));
    eventually("tries are counted", SOON, async || {
        let page = Page::of(address).await.ok()?;
        (page.value("sfdata_agent_connects_total{result=\"failed\"}")? >= 1.0).then_some(())
    })
    .await;
    fleet.start_hub().await;
    fleet.connected(0).await;
    assert_eq!(get(address, "/readyz").await.unwrap().0, 200);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_and_one_that_is_open_to_others_is_refused() {
    let (mut fleet, address) = observed().await;
    fleet.add("la-1", "222222222222").await.unwrap();
    let file = fleet.folder.path().join("agent.toml");
    let run = |fleet: &Fleet, address: &str| {
        let mut config = fleet.agents[1].config.clone();
        config.ops.address = Some(address.parse().unwrap());
        write_agent(&config, &file).unwrap();
        Run::start("sfdata-agent", &["--config", &file.display().to_string(), "run"], fleet.folder.path())
    };
    run(&fleet, &address.to_string()).refuses(&["cannot listen on ops.address", &address.to_string()]).await;
    run(&fleet, "0.0.0.0:9465").refuses(&["ops.address 0.0.0.0:9465 is not loopback"]).await;
    fleet.stop().await;
}
