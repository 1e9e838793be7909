//! How an LA is told to be: in one word with its reasons, and never with anything that people wrote.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use sfdata_agent::config::arrivals::Arrivals;
use sfdata_common::{
    Timestamp,
    health::{kind, word},
    limits,
};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent};
use sfdata_tests::{
    crowd::{self, Crowd},
    eventually,
    fleet::Fleet,
    rogue::RogueHub,
    web::Viewer,
};

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
    fleet.agents[0].config.usage.bill = true;
    // Names of filters and of what a bill is for are read with what is metered.
    let shared = format!("sfdata-{la}-shared");
    let filter = CHILD.join("-");
    fleet.aws().count_requests(&account, &shared, &filter, "").await.unwrap();
    let dimensions = [("BucketName", shared.as_str()), ("FilterId", filter.as_str())];
    let now = Timestamp::now() - Duration::from_secs(2);
    fleet.aws().measured(&account, ("AWS/S3", "AllRequests"), &dimensions, now, 7.0).await.unwrap();
    let month = now.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month().to_string();
    let cost = json!({"Amount": "41.5", "Unit": "USD"});
    let answer = json!({"ResultsByTime": [{"TimePeriod": {"Start": month, "End": "2999-01-01"}, "Estimated": true,
        "Total": {"UnblendedCost": cost, &child: cost}, "Groups": [{"Keys": [child], "Metrics": {"UnblendedCost": cost}}]}],
        "DimensionValueAttributes": [{"Value": child, "Attributes": {"description": child}}]});
    fleet.aws().bill(&account, answer).await.unwrap();
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
    let mut told = async |agent: &mut sfdata_tests::rogue::Held, mut open: Vec<fn(&FromAgent) -> bool>| {
        let ends = tokio::time::Instant::now() + MINUTE;
        while !open.is_empty() {
            assert!(tokio::time::Instant::now() < ends, "it is not told");
            let Some(message) = agent.anything().await else { continue };
            open.retain(|until| !until(&message));
            bytes.extend(wire::ConnectRequest { message: Some(message) }.encode_to_vec());
        }
    };
    let waits: fn(&FromAgent) -> bool = |message| {
        let FromAgent::Health(health) = message else { return false };
        health.arrivals.as_ref().is_some_and(|arrivals| arrivals.waiting == 1)
    };
    let counts: fn(&FromAgent) -> bool = |message| {
        let FromAgent::Usage(usage) = message else { return false };
        usage.records.iter().any(|record| record.meter() == wire::UsageMeter::S3Requests && record.amount == 7)
    };
    let bill: fn(&FromAgent) -> bool =
        |message| matches!(message, FromAgent::Bill(bill) if bill.months[0].amount_micros == 41_500_000);
    told(&mut agent, vec![waits, counts, bill]).await;
    for (service, action) in [("ecs", "DescribeServices"), ("rds", "DescribeDBClusters"), ("s3", "ListObjectsV2")] {
        let text = format!("of {child}.csv");
        let fault = json!({"service": service, "action": action, "kind": "access_denied", "times": null, "text": text});
        fleet.aws().fault(fault).await.unwrap();
    }
    let denied: fn(&FromAgent) -> bool = |message| {
        let FromAgent::Health(health) = message else { return false };
        let errors = [
            health.ecs.as_ref().map(|ecs| &ecs.error),
            health.aurora.as_ref().map(|aurora| &aurora.error),
            health.arrivals.as_ref().map(|arrivals| &arrivals.error),
        ];
        errors.iter().all(|error| error.is_some_and(|error| error == "access-denied"))
    };
    told(&mut agent, vec![denied]).await;
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

/// A report in which every number and time is this.
fn absurd(number: u64, time: i64) -> wire::Health {
    let small = number.try_into().unwrap_or(u32::MAX);
    let mut health = crowd::health(0, Timestamp::now());
    (health.taken_unix_ms, health.uptime_seconds, health.clock_skew_ms) = (time, number, time);
    health.certificate_expires_unix_ms = time;
    for service in &mut health.ecs.as_mut().unwrap().services {
        (service.desired, service.running, service.pending) = (small, small / 2, small);
        let deployment = wire::EcsDeployment { failed_tasks: small, desired: small, ..Default::default() };
        service.deployments = vec![deployment; 3];
    }
    let database = health.aurora.as_mut().unwrap().state.as_mut().unwrap();
    (database.min_acu, database.max_acu, database.auto_pause_seconds) = (f64::NAN, f64::INFINITY, small);
    let power = health.power.as_mut().unwrap();
    (power.since_unix_ms, power.generation, power.wake_seconds) = (time, number, small);
    (power.awake_until_unix_ms, power.quiet_since_unix_ms) = (time, time);
    power.alarms = vec![wire::PowerAlarm { at_unix_ms: time, wakes_unix_ms: time, ..Default::default() }];
    power.reasons[0].until_unix_ms = time;
    (power.phase, power.mode) = (i32::MAX, i32::MIN);
    let runs = health.runs.as_mut().unwrap();
    for job in &mut runs.jobs {
        (job.succeeded, job.failed, job.failing) = (number, number, small);
        (job.last_success_unix_ms, job.last_failure_unix_ms) = (time, time);
    }
    runs.datasets[0].last_success_unix_ms = time;
    health.arrivals = Some(wire::ArrivalsHealth {
        waiting: small,
        parked: small,
        oldest_unix_ms: time,
        last_unix_ms: time,
        ..Default::default()
    });
    health.journal = Some(wire::JournalHealth { running: small, queued: small, unacknowledged: small });
    health.hold = Some(wire::Hold { reason: "inspection".into(), since_unix_ms: time });
    health
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absurd_report_breaks_nothing_and_a_million_names_are_no_more_than_a_platform_has() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 2).await.unwrap();
    let viewer = Viewer::new(&fleet.alice.address, fleet.alice.tls.clone());
    let id = crowd.id(0).clone();
    let in_2100 = "2100-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
    let mut operator = fleet.alice.client.clone();
    for (number, time) in [(0, 0), (u64::MAX, i64::MAX), (1, i64::MIN), (u64::MAX, in_2100), (7, -1)] {
        crowd.tell(0, absurd(number, time)).await;
        eventually(&format!("{number} and {time} are reported"), MINUTE, async || {
            fleet.alice.agent(&id).await.ok()?.health.filter(|health| health.taken_unix_ms == time)
        })
        .await;
        for page in ["/ui/", &format!("/ui/agents/{id}"), "/ui/alerts", "/ui/usage"] {
            assert_eq!(viewer.get(page).await.status, 200, "{page} with {number} and {time}");
        }
        operator.list_alerts(wire::ListAlertsRequest {}).await.unwrap();
    }

    let mut told = 0;
    while told < 1_000_000 {
        let mut health = crowd::health(0, Timestamp::now());
        let job = |number| wire::JobHealth { job: format!("job{number:07}"), failing: 1, ..Default::default() };
        health.runs.as_mut().unwrap().jobs = (told..told + 40_000).map(job).collect();
        told += 40_000;
        health.uptime_seconds = told;
        crowd.tell(0, health).await;
        eventually("they are reported", MINUTE, async || {
            fleet.alice.agent(&id).await.ok()?.health.filter(|health| health.uptime_seconds == told)
        })
        .await;
    }
    let agent = fleet.alice.agent(&id).await.unwrap();
    assert_eq!(agent.health.unwrap().runs.unwrap().jobs.len(), limits::REPORT_LIST);
    let mut failing = async || {
        let alerts = operator.list_alerts(wire::ListAlertsRequest {}).await.unwrap().into_inner().alerts;
        alerts.into_iter().filter(|alert| alert.rule == "run-failed" && id.as_str() == alert.agent_id).count()
    };
    eventually("as many alerts as a report may tell of", MINUTE, async || {
        let failing = failing().await;
        assert!(failing <= 2 * limits::REPORT_LIST, "{failing}: those of two looks in turn");
        (failing == limits::REPORT_LIST).then_some(())
    })
    .await;
    fleet.stop().await;
}
