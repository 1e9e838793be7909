//! How an LA is told to be: in one word with its reasons, and never with anything that people wrote.

use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use sfdata_agent::config::arrivals::Arrivals;
use sfdata_common::health::{kind, word};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent};
use sfdata_tests::{eventually, fleet::Fleet, rogue::RogueHub};

const MINUTE: Duration = Duration::from_secs(60);
/// What people write into names of files, errors and logs.
const CHILD: [&str; 3] = ["Amelia", "Pondicherry", "2014-05-01"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_people_wrote_leaves_with_what_an_agent_tells_unasked() {
    let mut fleet = Fleet::start(1).await;
    let settings = Arrivals { list_every: Duration::from_secs(1), ..Arrivals::default() };
    fleet.with_arrivals(0, settings, false).await;
    let (account, la) = (fleet.agents[0].account.id.clone(), fleet.agents[0].id.clone());
    let child = CHILD.join(" ");
    fleet.stop_hub().await;
    let hub = RogueHub::in_place_of(&fleet).await.unwrap();
    fleet.start_agent(0).await;
    let mut agent = hub.agent(1).await;
    eventually("the bucket was listed", MINUTE, async || {
        fleet.arrivals(0).waiting().unreadable.is_none().then_some(())
    })
    .await;
    let key = format!("{0}/{0}.csv", CHILD.join("_"));
    fleet.aws().put(&account, &format!("sfdata-{la}-data-store"), &key, &child).await.unwrap();

    let mut bytes = Vec::new();
    let mut told = async |agent: &mut sfdata_tests::rogue::Held, until: fn(&wire::Health) -> bool| {
        let ends = tokio::time::Instant::now() + MINUTE;
        loop {
            assert!(tokio::time::Instant::now() < ends, "it is not told");
            let Some(message) = agent.anything().await else { continue };
            let done = matches!(&message, FromAgent::Health(health) if until(health));
            bytes.extend(wire::ConnectRequest { message: Some(message) }.encode_to_vec());
            if done {
                return;
            }
        }
    };
    told(&mut agent, |health| health.arrivals.as_ref().is_some_and(|arrivals| arrivals.waiting == 1)).await;
    for (service, action) in [("ecs", "DescribeServices"), ("rds", "DescribeDBClusters"), ("s3", "ListObjectsV2")] {
        let text = format!("of {child}.csv");
        let fault = json!({"service": service, "action": action, "kind": "access_denied", "times": null, "text": text});
        fleet.aws().fault(fault).await.unwrap();
    }
    told(&mut agent, |health| {
        let errors = [
            health.ecs.as_ref().map(|ecs| &ecs.error),
            health.aurora.as_ref().map(|aurora| &aurora.error),
            health.arrivals.as_ref().map(|arrivals| &arrivals.error),
        ];
        errors.iter().all(|error| error.is_some_and(|error| error == "access-denied"))
    })
    .await;
    assert!(bytes.len() > 200, "{} bytes were told", bytes.len());
    for part in CHILD {
        let found = bytes.windows(part.len()).any(|window| window == part.as_bytes());
        assert!(!found, "{part} left in {}", String::from_utf8_lossy(&bytes));
    }
    hub.stop().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_follows_what_happens_to_an_la() {
    let mut fleet = Fleet::start(1).await;
    let la = fleet.agents[0].id.clone();
    let is = async |fleet: &Fleet, wanted: &str, why: &[&str]| {
        eventually(&format!("{wanted} {why:?}"), 2 * MINUTE, async || {
            let agent = fleet.alice.agent(&la).await.ok()?;
            let mut reasons: Vec<String> = agent.health_reasons.iter().map(|reason| kind(reason.kind())).collect();
            reasons.retain(|kind| kind != "database-never-pauses"); // the stand-in's does not
            (word(agent.health_word()) == wanted && reasons == why).then_some(())
        })
        .await;
    };
    is(&fleet, "healthy", &[]).await;
    let account = &fleet.agents[0].account.id;
    let fault = json!({"service": "ecs", "action": "DescribeServices", "kind": "access_denied", "times": null, "account": account});
    fleet.aws().fault(fault).await.unwrap();
    is(&fleet, "failing", &["unreadable"]).await;
    fleet.aws().heal().await.unwrap();
    is(&fleet, "healthy", &[]).await;
    fleet.stop_agent(0).await;
    is(&fleet, "away", &["away"]).await;
    fleet.stop().await;
}
