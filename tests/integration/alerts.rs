//! Alerts, over the whole way: an LA goes away, somebody is told once, and once more when it is back; whatever happens to the
//! hub and to who is told.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{collections::BTreeMap, fs, time::Duration};

use aws_lc_rs::hmac;
use serde_json::Value;
use sfdata_common::{Timestamp, trust::Role};
use sfdata_hub::alerts::rules::{Email, Override, Settings, Sns, Webhook};
use sfdata_proto::v1 as wire;
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    receiver::{HANG, Posted, Receiver},
};
use tonic::Code;

/// A hub that has just started tells of nobody that he is away.
const SOON: Duration = Duration::from_secs(120);

/// A fleet whose hub tells the receiver at once that an LA is away, and of nothing else.
async fn told(receiver: &Receiver) -> Fleet {
    let mut fleet = Fleet::without_aws(1).await;
    let secret_file = fleet.hub_config.data_dir.with_extension("secret");
    fs::write(&secret_file, "swordfish\n").unwrap();
    let at_once = Override { on: None, after: Some(Duration::ZERO) };
    let off = Override { on: Some(false), after: None };
    let rules = [("away", at_once), ("unreadable", off), ("power-fault", off), ("disk-low", off)];
    let url = format!("http://{}/hooks/T0", receiver.address);
    fleet.hub_config.alerts = Settings {
        rules: rules.map(|(rule, own)| (rule.to_owned(), own)).into(),
        group: Duration::from_secs(1),
        clear: Duration::from_secs(1),
        webhook: Some(Webhook { url, secret_file }),
        ..Settings::default()
    };
    again(&mut fleet).await;
    fleet
}

/// Stop the hub and start it.
async fn again(fleet: &mut Fleet) {
    fleet.stop_hub().await;
    fleet.start_hub().await;
    fleet.connected(0).await;
}

fn json(posted: &Posted) -> Value {
    serde_json::from_str(&posted.body).unwrap()
}

/// Who is told to be away, and who to be back.
fn names(posted: &Posted) -> (Vec<String>, Vec<String>) {
    let json = json(posted);
    let of = |key: &str| {
        let all = json[key].as_array().unwrap().iter();
        all.map(|alert| format!("{} {}", alert["agent"].as_str().unwrap(), alert["rule"].as_str().unwrap())).collect()
    };
    (of("firing"), of("resolved"))
}

async fn taken(receiver: &Receiver, count: usize) -> Vec<Posted> {
    eventually(&format!("{count} notices are taken"), SOON, async || {
        Some(receiver.taken()).filter(|taken| taken.len() >= count)
    })
    .await
}

async fn alerts(fleet: &Fleet) -> wire::ListAlertsResponse {
    fleet.alice.client.clone().list_alerts(wire::ListAlertsRequest {}).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_is_told_once_and_once_more_when_back_though_nobody_listens_and_the_hub_restarts() {
    let receiver = Receiver::http().await.unwrap();
    receiver.answer(503);
    let mut fleet = told(&receiver).await;
    fleet.stop_agent(0).await;
    eventually("it is tried", SOON, async || (receiver.posted().len() >= 2).then_some(())).await;
    let tried = receiver.posted();
    let id = |posted: &Posted| posted.headers["idempotency-key"].clone();
    assert_eq!(id(&tried[0]), id(&tried[1]), "it is the same notice");
    let error = alerts(&fleet).await.channels[0].error.clone();
    assert!(error.contains("it answered 503") && error.contains("said so") && !error.contains("hooks"), "{error}");

    fleet.stop_hub().await;
    receiver.answer(200);
    fleet.start_hub().await;
    let first = taken(&receiver, 1).await.remove(0);
    assert_eq!(id(&first), id(&tried[0]), "no other one was made");
    assert_eq!(names(&first), (vec!["la-0 away".to_owned()], vec![]));
    let (at, tag) = first.headers["sfdata-signature"].split_once(",v1=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"swordfish");
    let signed = format!("{}.{}", at.trim_start_matches("t="), first.body);
    hmac::verify(&key, signed.as_bytes(), &hex(tag)).expect("the signature holds");

    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let second = taken(&receiver, 2).await.remove(1);
    assert_eq!(names(&second), (vec![], vec!["la-0 away".to_owned()]));
    again(&mut fleet).await;
    let list = alerts(&fleet).await;
    assert!(list.alerts.is_empty() && list.channels[0].waiting == 0, "{list:?}");
    fleet.stop_agent(0).await;
    let third = taken(&receiver, 3).await.remove(2);
    assert_eq!(names(&third), (vec!["la-0 away".to_owned()], vec![]), "and nothing in between");
    fleet.stop().await;
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_silent_is_shown_and_not_told_until_the_silence_ends() {
    let receiver = Receiver::http().await.unwrap();
    let mut fleet = told(&receiver).await;
    let viewer = fleet.operator("victor", Role::Viewer).await;
    let silence = wire::SilenceAlertsRequest {
        agent_id: "la-0".into(),
        for_seconds: 3600,
        reason: "their network is moved".into(),
        ..Default::default()
    };
    let denied = viewer.client.clone().silence_alerts(silence.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    for odd in [
        wire::SilenceAlertsRequest { agent_id: String::new(), ..silence.clone() },
        wire::SilenceAlertsRequest { for_seconds: 0, ..silence.clone() },
        wire::SilenceAlertsRequest { for_seconds: u32::MAX, ..silence.clone() },
    ] {
        let refused = fleet.alice.client.clone().silence_alerts(odd).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let silence = fleet.alice.client.clone().silence_alerts(silence).await.unwrap().into_inner().silence.unwrap();
    again(&mut fleet).await;
    fleet.stop_agent(0).await;
    eventually("it fires in silence", SOON, async || {
        let list = alerts(&fleet).await;
        let fires = |alert: &wire::Alert| alert.state() == wire::AlertState::Firing && alert.silenced;
        (list.alerts.iter().any(fires) && list.silences.len() == 1).then_some(())
    })
    .await;
    let ended = Timestamp::now().as_second();
    let end = wire::EndSilenceRequest { id: silence.id.clone() };
    fleet.alice.client.clone().end_silence(end.clone()).await.unwrap();
    let unknown = fleet.alice.client.clone().end_silence(end).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let first = taken(&receiver, 1).await.remove(0);
    assert_eq!((names(&first).0, receiver.posted().len()), (vec!["la-0 away".to_owned()], 1));
    let made: Timestamp = json(&first)["at"].as_str().unwrap().parse().unwrap();
    assert!(made.as_second() >= ended, "{made} is before the silence ended");
    let audit = fleet.alice.audit().await.unwrap();
    let told = |kind: &str| audit.iter().any(|entry| entry.kind == kind && entry.subject == silence.id);
    assert!(told("alerts.silenced") && told("alerts.unsilenced"));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_channel_is_tested_and_one_that_hangs_holds_up_none() {
    let (webhook, mail) = (Receiver::http().await.unwrap(), Receiver::smtp().await.unwrap());
    webhook.answer(HANG);
    let mut fleet = Fleet::start(1).await;
    let secret_file = fleet.hub_config.data_dir.with_extension("secret");
    fs::write(&secret_file, "swordfish").unwrap();
    let account = fleet.agents[0].account.clone();
    let topic = format!("arn:aws:sns:eu-west-2:{}:alerts", account.id);
    fleet.aws().topic(&account.id, "alerts").await.unwrap();
    fleet.hub_config.alerts = Settings {
        webhook: Some(Webhook { url: format!("http://{}/", webhook.address), secret_file }),
        email: Some(Email {
            server: format!("smtp://{}", mail.address),
            password_file: None,
            from: "Hub <hub@region.example>".into(),
            to: vec!["team@region.example".into(), "director@region.example".into()],
        }),
        sns: Some(Sns {
            topic,
            endpoint_url: Some(fleet.aws().url()),
            credentials_file: Some(account.credentials.clone()),
        }),
        ..Settings::default()
    };
    again(&mut fleet).await;
    let tests = fleet.alice.client.clone().test_alerts(wire::TestAlertsRequest {}).await.unwrap().into_inner().tests;
    let errors: BTreeMap<&str, &str> = tests.iter().map(|test| (&*test.channel, &*test.error)).collect();
    assert_eq!(errors, BTreeMap::from([("email", ""), ("sns", ""), ("webhook", "no answer within 15 s")]));
    let text = mail.posted()[0].body.clone();
    assert!(text.contains("Subject: [sfdata core] a test") && text.contains("director@region.example"), "{text}");
    let calls = fleet.aws().calls(&account.id, "sns", "Publish").await.unwrap();
    assert_eq!(calls[0]["params"]["Subject"], "[sfdata core] a test");
    fleet.stop().await;
}
