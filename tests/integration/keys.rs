//! Operators' keys at the real hubctl: under a passphrase, shown by `whoami`, and when they were last used.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use serde_json::Value;
use sfdata_common::{Timestamp, keyfile};
use sfdata_tests::{eventually, fleet::Fleet, process::outcome, screen::Screen};

use crate::traces::Hubctl;

const SOON: Duration = Duration::from_secs(20);
const PASSPHRASE: &str = "correct horse battery";

fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    keyfile::create_secret(&path, text).unwrap();
    path.display().to_string()
}

async fn shows(screen: &Screen, word: &str) {
    eventually(&format!("{word} is shown"), SOON, async || screen.drawn().contains(word).then_some(())).await;
}

async fn ended(screen: &mut Screen) -> bool {
    eventually("it ends", SOON, async || screen.ended()).await.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_is_asked_for_at_the_terminal_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home").display().to_string();
    let key = folder.path().join("root-1.key");
    let file = key.display().to_string();
    let start = |args: &[&str]| Screen::start("hubctl", &[&["--home", &home], args].concat(), 300, 30).unwrap();

    let mut screen = start(&["key", "create", "--passphrase", "--out", &file]);
    shows(&screen, "New passphrase of").await;
    eventually("nothing is echoed", SOON, async || (!screen.is_for_lines().unwrap()).then_some(())).await;
    screen.press(&format!("{PASSPHRASE}\n")).unwrap();
    shows(&screen, "Once more").await;
    screen.press(&format!("{PASSPHRASE}\n")).unwrap();
    assert!(ended(&mut screen).await, "{}", screen.drawn());
    shows(&screen, "ed25519:").await;
    assert!(!screen.drawn().contains(PASSPHRASE), "{}", screen.drawn());
    assert!(screen.is_for_lines().unwrap());
    let text = fs::read_to_string(&key).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{text}");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    // Its public half is there for everybody who may read the file.
    let (code, shown, said) = outcome("hubctl", &["--home", &home, "key", "show", &file]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(screen.drawn().contains(shown.trim()), "{shown}");

    // Three tries to take it off; the third is right.
    let mut screen = start(&["key", "passphrase", "--remove", &file]);
    for wrong in 0..2 {
        eventually("it asks", SOON, async || (screen.drawn().matches("Passphrase of").count() > wrong).then_some(()))
            .await;
        screen.press("not this one\n").unwrap();
    }
    eventually("it asks once more", SOON, async || (screen.drawn().matches("Passphrase of").count() > 2).then_some(()))
        .await;
    assert!(screen.drawn().contains("does not open"), "{}", screen.drawn());
    assert!(fs::read_to_string(&key).unwrap() == text, "a wrong one changes nothing");
    screen.press(&format!("{PASSPHRASE}\n")).unwrap();
    assert!(ended(&mut screen).await, "{}", screen.drawn());
    assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_key_signs_with_its_passphrase_and_whoami_tells_what_is_kept() {
    let mut fleet = Fleet::without_aws(1).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let folder = fleet.folder.path().to_owned();
    let [good, bad] = [("good", PASSPHRASE), ("bad", "another one")].map(|(name, text)| secret(&folder, name, text));
    let whoami = async || {
        let (code, shown, said) = hubctl.run(&["whoami", "-o", "json"], "").await;
        (code, serde_json::from_str::<Value>(&shown).unwrap_or_else(|_| panic!("{shown}{said}")), said)
    };

    let (code, before, said) = whoami().await;
    assert_eq!(
        (code, &before["passphrase"], &before["key_listed"]),
        (Some(0), &Value::Bool(false), &Value::Bool(true)),
        "{said}"
    );
    assert_eq!((&before["operator"], &before["roles"][0]), (&"bob".into(), &"admin".into()));
    assert_eq!(before["last_signed"], Value::Null, "nothing was ordered yet");
    assert_eq!(before["trust_version"], before["hub_trust_version"]);

    let (code, _, said) = hubctl.run(&["key", "passphrase", "--new-passphrase-file", &good], "").await;
    assert_eq!(code, Some(0), "{said}");
    let refresh = ["agents", "refresh", "--agent", "la-0"];
    for (with, code, word) in [
        (vec![], Some(1), "SFDATA_PASSPHRASE_FILE"),
        (vec!["--passphrase-file", &bad], Some(1), "does not open"),
        (vec!["--passphrase-file", &good], Some(0), ""),
    ] {
        let (ended, _, said) = hubctl.run(&[&with[..], &refresh].concat(), "").await;
        assert_eq!(ended, code, "{with:?}: {said}");
        assert!(said.contains(word), "{with:?}: {said}");
    }
    let (code, after, said) = whoami().await;
    assert_eq!(
        (code, &after["passphrase"], &after["key_id"]),
        (Some(0), &Value::Bool(true), &before["key_id"]),
        "{said}"
    );
    assert_ne!(after["last_signed"], Value::Null, "it signed");

    // When an operator was last seen and last ordered outlives the hub.
    fleet.stop_hub().await;
    let (code, offline, said) = whoami().await;
    assert_eq!((code, &offline["key_id"], &offline["last_seen"]), (Some(1), &before["key_id"], &Value::Null), "{said}");
    assert!(said.contains("was not asked"), "{said}");
    fleet.start_hub().await;
    fleet.bundle.version += 1;
    fleet.bundle.operators.last_mut().unwrap().expires = Timestamp::now() + Duration::from_secs(3600);
    fleet.publish().await.unwrap();
    let (code, shown, said) = hubctl.run(&["operators", "list", "-o", "json"], "").await;
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let bob = shown["operators"].as_array().unwrap().iter().find(|operator| operator["name"] == "bob").unwrap();
    assert_ne!(bob["last_signed"], Value::Null, "{bob}");
    assert_eq!(bob["flags"], serde_json::json!(["key-expires"]), "it lives for an hour: {bob}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_certificate_is_renewed_on_use() {
    let mut fleet = Fleet::without_aws(0).await;
    fleet.stop_hub().await;
    fleet.hub_config.certificates.operator_lifetime = Duration::from_secs(30);
    fleet.start_hub().await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let expires = async || {
        let (code, shown, said) = hubctl.run(&["whoami", "-o", "json"], "").await;
        assert_eq!(code, Some(0), "{said}");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["certificate_expires"].as_str().unwrap().to_owned()
    };
    let first = expires().await;
    eventually("a younger one", SOON, async || (expires().await > first).then_some(())).await;
    fleet.stop().await;
}
