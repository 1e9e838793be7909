//! The web page: who may see what, that no name steers it, and the door that hubctl opens to it.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{path::Path, time::Duration};

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Ecs},
    ids::CommandId,
    peer::Subject,
    trust::Role,
};
use sfdata_tests::{
    crowd::{self, Crowd},
    eventually,
    fleet::Fleet,
    process::Run,
    rogue::{client_tls, issued_tls},
    web::{Dashboard, Viewer},
};

const SOON: Duration = Duration::from_secs(20);
/// A browser on a slow machine, with a checker that looks at each of a thousand cells.
const LONG: Duration = Duration::from_secs(240);
const PAGES: [&str; 6] = ["/ui/", "/ui/commands", "/ui/usage", "/ui/usage?by=month", "/ui/alerts", "/ui/audit"];

fn alice(fleet: &Fleet) -> Viewer {
    Viewer::new(&fleet.alice.address, fleet.alice.tls.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_sees_every_page_and_nobody_else_any() {
    let mut fleet = Fleet::without_aws(0).await;
    let reader = fleet.operator("rita", Role::Viewer).await;
    for viewer in [alice(&fleet), Viewer::new(&reader.address, reader.tls.clone())] {
        for page in PAGES {
            let answer = viewer.get(page).await;
            assert_eq!(answer.status, StatusCode::OK, "{page}: {}", answer.text());
            assert!(answer.text().starts_with("<!DOCTYPE html>"), "{page}");
            let policy = answer.headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(answer.headers["cache-control"], "no-store");
        }
        assert_eq!(viewer.get("/ui/agents/nowhere").await.status, StatusCode::NOT_FOUND);
        assert_eq!(viewer.get("/ui/nowhere").await.status, StatusCode::NOT_FOUND);
        assert_eq!(viewer.get("/ui/commands/none").await.status, StatusCode::BAD_REQUEST);
        assert_eq!(viewer.get("/ui/usage?month=2999-01").await.status, StatusCode::BAD_REQUEST);
        assert_eq!(viewer.get("/ui/usage?by=name").await.status, StatusCode::BAD_REQUEST);
        let written = viewer.ask(Method::POST, "/ui/", false).await.unwrap();
        assert_eq!(written.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    // A certificate that is no operator's, an operator without a role, and none at all.
    let _crowd = Crowd::join(&mut fleet, 1).await.unwrap();
    let now = Timestamp::now();
    let agent = issued_tls(&fleet, &Subject::Agent("council-000".parse().unwrap()), SOON, now).unwrap();
    let stranger = issued_tls(&fleet, &Subject::Operator("mallory".parse().unwrap()), SOON, now).unwrap();
    let agent = Viewer::new(&fleet.alice.address, agent);
    for page in PAGES {
        let answer = agent.get(page).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page}: {}", answer.text());
        assert!(!answer.text().contains("council-000</a>"), "{page}");
    }
    for outside in [stranger, client_tls(&fleet, None).unwrap()] {
        let outside = Viewer::new(&fleet.alice.address, outside);
        assert!(outside.ask(Method::GET, "/ui/", false).await.is_err(), "the listener lets nobody in without");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_that_an_agent_sets_steers_the_page() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 1).await.unwrap();
    let viewer = alice(&fleet);
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{1b}[2J\u{202e}gnp.exe";
    let mut health = crowd::health(0, Timestamp::now());
    health.agent_version = evil.into();
    for service in &mut health.ecs.as_mut().unwrap().services {
        (service.name, service.role, service.image) = (evil.into(), evil.into(), evil.into());
    }
    let database = health.aurora.as_mut().unwrap().state.as_mut().unwrap();
    (database.cluster, database.status, database.engine) = (evil.into(), evil.into(), evil.into());
    let power = health.power.as_mut().unwrap();
    power.cause = evil.into();
    power.reasons[0].kind = evil.into();
    power.faults.push(sfdata_proto::v1::PowerFault { kind: evil.into(), detail: evil.into() });
    let runs = health.runs.as_mut().unwrap();
    runs.jobs[0].job = evil.into();
    runs.jobs[0].failing = 3;
    runs.datasets[0].dataset = evil.into();
    health.hold = Some(sfdata_proto::v1::Hold { reason: evil.into(), since_unix_ms: 1 });
    crowd.tell(0, health).await;
    eventually("the job that failed is told of, without its name", SOON, async || {
        viewer.get("/ui/alerts").await.text().contains("run-failed").then_some(())
    })
    .await;
    for page in ["/ui/", "/ui/agents/council-000", "/ui/alerts", "/ui/?q=%3Cscript%3Ealert(1)%3C/script%3E&sort=agent"]
    {
        let text = viewer.get(page).await.text();
        for bad in ["<script>alert", "<img", "\u{1b}", "\u{202e}"] {
            assert!(!text.contains(bad), "{page} has {bad:?}");
        }
        let shows = page.contains("script") || page.contains("agents"); // what was sought, and why the LA holds it
        assert_eq!(text.contains("&lt;script&gt;"), shows, "{page}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_of_320_fits_into_one_page_and_a_change_is_told_to_it() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 320).await.unwrap();
    let viewer = alice(&fleet);
    eventually("all have reported", 3 * SOON, async || {
        let text = viewer.get("/ui/").await.text();
        (text.matches("/1").count() + text.matches("/0").count() >= 3 * 320).then_some(())
    })
    .await;
    let page = viewer.ask(Method::GET, "/ui/", true).await.unwrap();
    assert_eq!(page.headers["content-encoding"], "gzip");
    assert!(page.body.len() < 150 * 1024, "the fleet's page has {} bytes on the wire", page.body.len());
    let whole = viewer.get("/ui/").await.text();
    assert_eq!(whole.matches("<tr id=\"la-").count(), 320);
    assert_eq!(viewer.get("/ui/?q=council-07").await.text().matches("<tr id=\"la-").count(), 10);

    let mut live = viewer.open(Method::GET, "/ui/live", false).await.unwrap().into_body();
    let mut told = String::new();
    let mut health = crowd::health(5, Timestamp::now());
    health.ecs.as_mut().unwrap().error = "access-denied".into();
    let mut changed = false;
    while !told.contains("cannot read its services") {
        let frame = tokio::time::timeout(SOON, live.frame()).await.expect("an event").unwrap().unwrap();
        told.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        if !changed && told.contains("la-council-319") {
            // The first event, with all of them, was there: from here on only what differs is told.
            (changed, told) = (true, String::new());
            crowd.tell(5, health.clone()).await;
        }
    }
    assert!(told.contains("id=\"la-council-005\"") && told.contains("failing"), "{told}");
    assert!(told.matches("<tr id=").count() < 100, "what did not change is not told again");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_commands_follows_what_becomes_of_them() {
    let mut fleet = Fleet::without_aws(1).await;
    let viewer = alice(&fleet);
    let page = viewer.get("/ui/commands").await.text();
    assert!(page.contains("There are none.") && page.contains("data-live=\"/ui/commands/live\""), "{page}");
    fleet.stop_agent(0).await;
    let id = fleet.agents[0].id.clone();
    let first = fleet.alice.submit(Action::Agent(Agent::Refresh), &[&id]).await.unwrap();
    let mut live = viewer.open(Method::GET, "/ui/commands/live", false).await.unwrap().into_body();
    let mut told = String::new();
    let mut hear = async |words: &[&str]| {
        while !words.iter().all(|word| told.contains(word)) {
            let frame = tokio::time::timeout(SOON, live.frame()).await.expect("an event").unwrap().unwrap();
            told.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        std::mem::take(&mut told)
    };
    hear(&[&format!("id=\"command-{first}\" data-into=\"commands\""), "1 waiting"]).await;
    let second = fleet.alice.submit(Action::Agent(Agent::Refresh), &[&id]).await.unwrap();
    let told = hear(&[&format!("id=\"command-{second}\""), "1 waiting"]).await;
    assert!(!told.contains(&first.to_string()), "what did not change is not told again: {told}");
    fleet.start_agent(0).await;
    // Both end, and once they have nothing more is told of them.
    let states = |told: &str, id: &CommandId| {
        let row = told.rsplit_once(&format!("id=\"command-{id}\"")).map(|(_, row)| row.to_owned());
        row.is_some_and(|row| row.split("</tr>").next().unwrap_or_default().contains("1 succeeded"))
    };
    let mut ends = String::new();
    while !(states(&ends, &first) && states(&ends, &second)) {
        ends.push_str(&hear(&["1 "]).await);
    }
    let third = fleet.alice.submit(Action::Agent(Agent::Refresh), &[&id]).await.unwrap();
    let told = hear(&[&format!("id=\"command-{third}\""), "1 succeeded"]).await;
    assert!(!told.contains(&first.to_string()) && !told.contains(&second.to_string()), "{told}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboards_link_works_once_and_only_with_its_cookie_and_address() {
    let mut fleet = Fleet::without_aws(0).await;
    let door = Dashboard::open(&mut fleet, "dora", Role::Viewer).await.unwrap();
    let host = door.host.clone();
    let own: &[(&str, &str)] = &[("Host", &host)];
    let once = door.link.split_once(&host).unwrap().1;
    assert_eq!(door.send("GET", "/ui/", own).await.0, 403, "not without a cookie");
    assert_eq!(door.send("GET", "/?once=00", own).await.0, 403, "not with a guessed link");
    assert_eq!(door.send("GET", once, &[("Host", "evil.example")]).await.0, 403, "not under another name");
    let (code, headers, _) = door.send("GET", once, own).await;
    assert_eq!((code, headers["location"].as_str()), (303, "/ui/"));
    let cookie = headers["set-cookie"].clone();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(door.send("GET", once, own).await.0, 403, "the link works once");
    let cookie = cookie.split(';').next().unwrap();
    let with: &[(&str, &str)] = &[("Host", &host), ("Cookie", cookie)];
    let (code, headers, body) = door.send("GET", "/ui/", with).await;
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("Signed in as dora") && headers.contains_key("content-security-policy"), "{body}");
    assert_eq!(door.send("GET", "/ui/style.css", with).await.0, 200);
    assert_eq!(door.send("GET", "/ui/nowhere", with).await.0, 404);
    assert_eq!(door.send("POST", "/ui/", with).await.0, 405);
    assert_eq!(door.send("GET", "/sfdata.v1.OperatorService/ListAgents", with).await.0, 404, "pages alone");
    assert_eq!(door.send("GET", "/ui/", &[("Host", "localhost.evil"), ("Cookie", cookie)]).await.0, 403);
    fleet.stop_hub().await;
    let (code, _, body) = door.send("GET", "/ui/", with).await;
    assert_eq!(code, 502, "{body}");
    assert!(body.contains("can't be reached"), "{body}");
    fleet.start_hub().await;
    eventually("it comes back by itself", SOON, async || (door.send("GET", "/ui/", with).await.0 == 200).then_some(()))
        .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_history_are_on_no_page_of_whom_the_policy_denies_them() {
    let mut fleet = Fleet::without_aws(0).await;
    let reader = fleet.operator("rita", Role::Viewer).await;
    let mut policy = include_str!("../../deploy/config/hub.cedar").to_owned();
    policy.push_str(
        "@id(\"no past\")\nforbid (principal == Operator::\"rita\", action, resource)\n\
         when { action == Action::\"usage.get\" || action == Action::\"agents.history\" };\n",
    );
    let file = fleet.folder.path().join("hub.cedar");
    std::fs::write(&file, policy).unwrap();
    fleet.hub_config.policy = Some(file);
    let _crowd = Crowd::join(&mut fleet, 1).await.unwrap();
    let (alice, rita) = (alice(&fleet), Viewer::new(&reader.address, reader.tls.clone()));
    eventually("usage is told", SOON, async || {
        alice.get("/ui/usage").await.text().contains("council-000").then_some(())
    })
    .await;
    assert_eq!(rita.get("/ui/usage").await.status, StatusCode::FORBIDDEN);
    assert_eq!(rita.get("/ui/usage.csv").await.status, StatusCode::FORBIDDEN);
    for page in ["/ui/", "/ui/agents/council-000"] {
        assert!(alice.get(page).await.text().contains("<svg"), "{page}");
        let answer = rita.get(page).await;
        assert_eq!(answer.status, StatusCode::OK, "{page}");
        assert!(answer.text().contains("council-000") && !answer.text().contains("<svg"), "{page}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_la_was_is_on_its_page_and_goes_on_there() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 1).await.unwrap();
    let viewer = alice(&fleet);
    let page = viewer.get("/ui/agents/council-000").await.text();
    for part in
        ["Power in the last 48 hours, by phase and cause, times in UTC", "awake for arrivals", "<td>failing</td>"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let lanes = page.matches("<figure").count();
    assert_eq!(lanes, 3, "health, power, and thirty days of being awake");
    let mut live = viewer.open(Method::GET, "/ui/agents/council-000/live", false).await.unwrap().into_body();
    let mut health = crowd::health(0, Timestamp::now());
    health.power.as_mut().unwrap().cause = "look".into();
    let mut told = String::new();
    // A change is told, and with it, once a look has seen it, a lane of its own.
    eventually("the lane is there", 2 * SOON, async || {
        crowd.tell(0, health.clone()).await;
        if let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_secs(1), live.frame()).await {
            told.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        let parts = ["awake for look</text>", "id=\"time-in-states\"", "id=\"hours\"", "id=\"present\""];
        parts.iter().all(|part| told.contains(part)).then_some(())
    })
    .await;
    assert!(told.contains("<div id=\"timeline\">"), "{told}");
    fleet.stop().await;
}

/// A real browser looks at every page of this region; what it prints, `metric: value` lines among it.
async fn browse(fleet: &mut Fleet, name: &str, crowd: Option<&Crowd>) -> String {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    assert!(
        web.join("node_modules/playwright-core").exists(),
        "run `npm ci` in tests/web and install chromium first, as tests/run does"
    );
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/web");
    std::fs::create_dir_all(&shots).unwrap();
    let door = Dashboard::open(fleet, "dora", Role::Viewer).await.unwrap();
    let [script, shots] = [web.join("page.mjs"), shots].map(|path| path.to_str().unwrap().to_owned());
    let mut args = vec![script.as_str(), &door.link, &shots, name];
    if crowd.is_some() {
        args.extend(["watch", "council-001"]);
    }
    let browser = Run::start("/usr/bin/env", &[&["node"], &args[..]].concat(), fleet.folder.path());
    if let Some(crowd) = crowd {
        eventually("the browser watches", LONG, async || {
            let said = browser.said();
            assert!(!said.contains("Error"), "{said}");
            said.contains("watching").then_some(())
        })
        .await;
        let mut health = crowd::health(1, Timestamp::now());
        health.ecs.as_mut().unwrap().error = "access-denied".into();
        crowd.tell(1, health).await;
        eventually("the browser waits for a command", LONG, async || {
            let said = browser.said();
            assert!(!said.contains("Error"), "{said}");
            said.contains("waiting for a command").then_some(())
        })
        .await;
        fleet.alice.submit(Action::Agent(Agent::Refresh), &[crowd.id(1)]).await.unwrap();
    }
    let mut process = browser;
    let status = eventually("the browser has seen all", LONG, async || process.process.ended()).await;
    let said = process.said();
    assert!(status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_finds_nothing_wrong_with_a_hub_that_is_empty() {
    let mut fleet = Fleet::without_aws(0).await;
    let said = browse(&mut fleet, "empty", None).await;
    assert!(said.contains("rows: 0\n"), "{said}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_finds_nothing_wrong_with_two_las_and_sees_one_of_them_fail() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 2).await.unwrap();
    let id = crowd.id(0).clone();
    let restart = Action::Ecs(Ecs::Restart { service: "daemon".into(), deadline: SOON });
    fleet.alice.submit(restart, &[&id]).await.unwrap();
    let said = browse(&mut fleet, "two", Some(&crowd)).await;
    assert!(said.contains("rows: 2\n"), "{said}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_finds_nothing_wrong_with_320_las_and_sees_one_of_them_fail() {
    let mut fleet = Fleet::without_aws(0).await;
    let crowd = Crowd::join(&mut fleet, 320).await.unwrap();
    let said = browse(&mut fleet, "region", Some(&crowd)).await;
    assert!(said.contains("rows: 320\n"), "{said}");
    fleet.stop().await;
}
