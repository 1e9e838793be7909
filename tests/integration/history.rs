//! How LAs were over time, over the whole way: reports of agents, the hub's looks, and what operators are told.

use std::time::Duration;

use sfdata_common::{Timestamp, history::watched, trust::Role};
use sfdata_proto::v1::{self as wire, HistoryStep, PowerPhase};
use sfdata_tests::{
    crowd::{self, Crowd},
    eventually,
    fleet::Fleet,
    process::{get, outcome},
    web::join,
};
use tonic::{Code, Status};

const SOON: Duration = Duration::from_secs(40);
const HOUR: Duration = Duration::from_secs(3600);

async fn ask(
    fleet: &Fleet,
    agent: &str,
    back: Duration,
    step: HistoryStep,
) -> Result<wire::GetHistoryResponse, Status> {
    let now = Timestamp::now();
    let [from_unix_ms, until_unix_ms] = [now - back, now + Duration::from_secs(1)].map(Timestamp::as_millisecond);
    let request = wire::GetHistoryRequest { agent_id: agent.into(), from_unix_ms, until_unix_ms, step: step.into() };
    Ok(fleet.alice.client.clone().get_history(request).await?.into_inner())
}

/// Seconds of power in this phase for this cause.
fn seconds(answer: &wire::GetHistoryResponse, phase: PowerPhase, cause: &str) -> u32 {
    let power = answer.total.iter().flat_map(|total| &total.power);
    power.filter(|time| time.phase() == phase && time.cause == cause).map(|time| time.seconds).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_la_was_like_is_kept_over_restarts_and_told_with_its_causes() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 3).await.unwrap();
    let id = crowd.id(2).clone();
    let told = async |fleet: &Fleet, step| ask(fleet, id.as_str(), HOUR, step).await.unwrap();
    eventually("it sleeps", SOON, async || {
        (seconds(&told(&fleet, HistoryStep::FiveMinutes).await, PowerPhase::Asleep, "") >= 5).then_some(())
    })
    .await;
    let mut health = crowd::health(0, Timestamp::now());
    let child = "Amelia Pondicherry";
    health.power.as_mut().unwrap().cause = child.into();
    crowd.tell(2, health.clone()).await;
    eventually("what is no name is among others", SOON, async || {
        (seconds(&told(&fleet, HistoryStep::Hour).await, PowerPhase::Awake, "others") >= 5).then_some(())
    })
    .await;
    health.power.as_mut().unwrap().cause = "arrivals".into();
    (health.taken_unix_ms, health.power.as_mut().unwrap().since_unix_ms) = (4_102_444_800_000, i64::MIN);
    crowd.tell(2, health).await;
    let before = eventually("it is awake, whatever time it tells", SOON, async || {
        let answer = told(&fleet, HistoryStep::Day).await;
        (seconds(&answer, PowerPhase::Awake, "arrivals") >= 5).then_some(answer)
    })
    .await;
    assert_eq!(before.total.as_ref().unwrap().wakes, 1);

    fleet.stop_hub().await;
    fleet.start_hub().await;
    for step in [HistoryStep::FiveMinutes, HistoryStep::Hour, HistoryStep::Day] {
        let after = told(&fleet, step).await;
        let total = after.total.as_ref().unwrap();
        assert!(watched(total) >= watched(before.total.as_ref().unwrap()), "{step:?}: {after:?}");
        assert!(watched(total) < 300 && total.wakes == 1 && total.tasks_most == 3, "{step:?}: {after:?}");
        assert!(!format!("{after:?}").contains("Amelia"));
    }
    let (_, page) = get(fleet.hub_config.listen.ops, "/metrics").await.unwrap();
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("sfdata_hub_store_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}:\n{page}")).parse().unwrap()
    };
    assert!(value("records{kind=\"history-slots\"}") >= 2.0 * 500.0, "the two with a past");
    assert!(value("records{kind=\"history-days\"}") >= 3.0 && value("records{kind=\"agents\"}") == 3.0);
    assert!(value("record_bytes{kind=\"history-hours\"}") > 1_000.0);
    eventually("the oldest are told", SOON, async || {
        let (_, page) = get(fleet.hub_config.listen.ops, "/metrics").await?;
        let oldest = page.lines().find_map(|line| {
            line.strip_prefix("sfdata_hub_store_oldest_record_timestamp_seconds{kind=\"history-slots\"} ")
        });
        let age = Timestamp::now().as_second() - oldest?.parse::<i64>().ok()?;
        (47 * 3600..=49 * 3600).contains(&age).then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hubctl_tells_it_to_people_to_programs_and_to_spreadsheets() {
    let mut fleet = Fleet::without_aws(0).await;
    let _crowd = Crowd::join(&mut fleet, 1).await.unwrap();
    let home = join(&mut fleet, "rita", Role::Viewer).await.unwrap();
    let hubctl = async |args: &[&str]| {
        let all = [&["--home", home.as_str(), "agents", "history"], args].concat();
        outcome("hubctl", &all).await
    };
    let (code, out, said) = hubctl(&["council-000"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!((49..=51).contains(&out.lines().count()), "an hour on each line: {out}");
    assert!(out.contains("awake for arrivals") && out.lines().last().unwrap().starts_with("TOTAL"), "{out}");
    let (_, out, _) = hubctl(&["council-000", "--since", "2h", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["by"], "5m");
    assert!((24..=26).contains(&json["spans"].as_array().unwrap().len()), "{json}");
    assert!(json["total"]["watched_seconds"].as_u64().unwrap() > 6_000, "{json}");
    let (_, out, said) = hubctl(&["council-000", "--since", "30d", "-o", "csv"]).await;
    let mut lines = out.lines();
    assert!(lines.next().unwrap().starts_with("FROM,HEALTHY,ASLEEP,DEGRADED,"), "{out}");
    assert!((2..=3).contains(&lines.count()) && said.contains("nothing is known from before"), "{out} {said}");
    let (code, _, said) = hubctl(&["nobody"]).await;
    assert!(code == Some(1) && said.contains("there is no agent nobody"), "{said}");
    let (code, _, said) = hubctl(&["council-000", "--since", "1h", "--until", "2h"]).await;
    assert!(code == Some(2) && said.contains("--until has to be after --since"), "{said}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_the_past_is_refused_by_name() {
    let mut fleet = Fleet::without_aws(0).await;
    let _crowd = Crowd::join(&mut fleet, 1).await.unwrap();
    let year = 365 * 24 * HOUR;
    let refused = async |agent: &str, back, step| ask(&fleet, agent, back, step).await.unwrap_err();
    let status = refused("council-000", year, HistoryStep::Hour).await;
    assert!(
        status.code() == Code::InvalidArgument && status.message().contains("1500 spans of 3600 seconds"),
        "{status}"
    );
    assert_eq!(refused("No One", HOUR, HistoryStep::Hour).await.code(), Code::InvalidArgument);
    assert_eq!(refused("nobody", HOUR, HistoryStep::Hour).await.code(), Code::NotFound);
    let odd = [(0, 0), (5_000, 4_000), (i64::MIN, i64::MAX), (0, i64::MAX)];
    for (from_unix_ms, until_unix_ms) in odd {
        let request = wire::GetHistoryRequest {
            agent_id: "council-000".into(),
            from_unix_ms,
            until_unix_ms,
            step: HistoryStep::Hour.into(),
        };
        let answer = fleet.alice.client.clone().get_history(request).await;
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument, "{from_unix_ms} {until_unix_ms}");
    }
    let days = ask(&fleet, "council-000", 3 * year, HistoryStep::Unspecified).await.unwrap();
    assert_eq!((days.step(), days.spans.is_empty()), (HistoryStep::Day, false));
    let fine = ask(&fleet, "council-000", HOUR, HistoryStep::Unspecified).await.unwrap();
    assert_eq!(fine.step(), HistoryStep::FiveMinutes);
    fleet.stop().await;
}
