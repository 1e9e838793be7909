//! A command's proof, verified from a file without a hub: by hubctl, and by a program that knows the written format alone.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sfdata_common::{
    envelope,
    keys::SigningKey,
    trust::{Bundle, Role},
};
use sfdata_tests::{eventually, fleet::Fleet, process::outcome, standin};

use crate::{door::harmless, traces::Hubctl};

const VERIFIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proof/verify.py");

struct Verifiers {
    hubctl: Hubctl,
    folder: PathBuf,
    pin: String,
}

impl Verifiers {
    /// What hubctl and the foreign verifier say of a proof: whether it holds, and their words.
    async fn judge(&self, id: &str, proof: &Value) -> [(bool, String); 2] {
        let file = self.folder.join("judged.json");
        std::fs::write(&file, proof.to_string()).unwrap();
        let file = file.display().to_string();
        let (ours, shown, said) = self.hubctl.run(&["commands", "show", id, "--proof", "--from", &file], "").await;
        let python = standin::python().unwrap().display().to_string();
        let (theirs, found, wrong) = outcome(&python, &[VERIFIER, &file, "--root-pin", &self.pin]).await;
        assert!(matches!(ours, Some(0 | 1)) && matches!(theirs, Some(0 | 1)), "{ours:?} {said} {theirs:?} {wrong}");
        [(ours == Some(0), shown + &said), (theirs == Some(0), found + &wrong)]
    }
}

async fn saved(hubctl: &Hubctl, id: &str, file: &Path) -> Value {
    let file_text = file.display().to_string();
    let (code, shown, said) =
        hubctl.run(&["commands", "show", id, "--proof", "--save", &file_text, "-o", "json"], "").await;
    assert_eq!(code, Some(0), "{shown} {said}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["holds"], true, "{shown}");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Flip a bit of bytes in base64.
fn flip(text: &mut Value) {
    let mut bytes = BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    *text = BASE64_STANDARD.encode(bytes).into();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ordered_it_and_what_came_of_it_can_be_verified_without_the_hub() {
    let mut fleet = Fleet::without_aws(2).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let (first, second) = (fleet.agents[0].id.clone(), fleet.agents[1].id.clone());
    let id = fleet.alice.submit(harmless(), &[&first, &second]).await.unwrap();
    fleet.alice.outcome(id, &first).await.unwrap();
    fleet.alice.outcome(id, &second).await.unwrap();
    // A later bundle, and a restart of the hub, change nothing about it.
    fleet.operator("carol", Role::Viewer).await;
    fleet.stop_hub().await;
    fleet.start_hub().await;
    let id = id.to_string();
    let file = fleet.folder.path().join("proof.json");
    let proof = saved(&hubctl, &id, &file).await;
    let pin = hex::encode(fleet.bundle.root_pin());
    let verifiers = Verifiers { hubctl, folder: fleet.folder.path().into(), pin };

    // Offline: nothing answers any more.
    fleet.stop_hub().await;
    let [(ours, shown), (theirs, found)] = verifiers.judge(&id, &proof).await;
    assert!(ours && theirs, "{shown} {found}");
    for words in ["alice ordered", "receipt: la-0, succeeded", "receipt: la-1, succeeded", "everything holds"] {
        assert!(found.contains(words), "{words}: {found}");
    }
    assert!(shown.contains("alice ordered agent.cancel"), "{shown}");

    type Change = fn(&mut Value);
    let changes: [(&str, Change); 17] = [
        ("the command", |p| flip(&mut p["command"]["payload"])),
        ("its signature", |p| flip(&mut p["command"]["signatures"][0]["sig"])),
        ("its signer", |p| p["command"]["signatures"][0]["keyid"] = "0000000000000000".into()),
        ("its type", |p| p["command"]["payloadType"] = p["targets"][0]["receipt"]["payloadType"].clone()),
        ("no signature", |p| p["command"]["signatures"] = json!([])),
        ("a dispatch", |p| flip(&mut p["targets"][0]["dispatch"]["payload"])),
        ("its signature", |p| flip(&mut p["targets"][1]["dispatch"]["signatures"][0]["sig"])),
        ("another's dispatch", |p| p["targets"][0]["dispatch"] = p["targets"][1]["dispatch"].clone()),
        ("no dispatch", |p| p["targets"][0]["dispatch"] = Value::Null),
        ("a receipt", |p| flip(&mut p["targets"][0]["receipt"]["payload"])),
        ("another's receipt", |p| p["targets"][0]["receipt"] = p["targets"][1]["receipt"].clone()),
        ("another's key", |p| p["targets"][0]["receipt_key"] = p["targets"][1]["receipt_key"].clone()),
        ("an entry", |p| flip(&mut p["audit"][0])),
        ("no submission", |p| drop(p["audit"].as_array_mut().unwrap().remove(0))),
        ("no end", |p| drop(p["audit"].as_array_mut().unwrap().pop())),
        ("a bundle", |p| flip(&mut p["trust_bundles"][0]["payload"])),
        ("no bundle", |p| p["trust_bundles"] = json!([])),
    ];
    for (what, change) in changes {
        let mut changed = proof.clone();
        change(&mut changed);
        assert_ne!(changed, proof, "{what}");
        let [(ours, shown), (theirs, found)] = verifiers.judge(&id, &changed).await;
        assert!(!ours && !theirs, "{what}: hubctl {ours}, the other {theirs}: {shown} {found}");
    }
    let other = sfdata_common::ids::CommandId::generate().to_string();
    assert!(!verifiers.judge(&other, &proof).await[0].0, "another command's proof");
    fleet.start_hub().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_were_put_before_a_bundle_make_nobody_an_operator() {
    let mut fleet = Fleet::without_aws(1).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let la = fleet.agents[0].id.clone();
    let id = fleet.alice.submit(harmless(), &[&la]).await.unwrap();
    fleet.alice.outcome(id, &la).await.unwrap();
    let id = id.to_string();
    let mut proof = saved(&hubctl, &id, &fleet.folder.path().join("proof.json")).await;
    let pin = hex::encode(fleet.bundle.root_pin());
    let verifiers = Verifiers { hubctl, folder: fleet.folder.path().into(), pin };

    // A stranger's first bundle, with a signature of the stranger's under each real one: a chain by its form.
    let stranger = SigningKey::generate().unwrap();
    let dsse = |envelope: &sfdata_proto::v1::Envelope| {
        json!({
            "payloadType": envelope.payload_type,
            "payload": BASE64_STANDARD.encode(&envelope.payload),
            "signatures": envelope.signatures.iter().map(|s| json!({
                "keyid": s.key_id, "sig": BASE64_STANDARD.encode(&s.signature),
            })).collect::<Vec<_>>(),
        })
    };
    let real = BASE64_STANDARD.decode(proof["trust_bundles"][0]["payload"].as_str().unwrap()).unwrap();
    let mut forged = Bundle::parse(&real).unwrap();
    forged.version -= 1;
    forged.root_keys = vec![stranger.public()];
    forged.operators[0].key = stranger.public();
    let mut signed = forged.unsigned();
    envelope::add_signature(&mut signed, &stranger);
    proof["trust_bundles"].as_array_mut().unwrap().insert(0, dsse(&signed));
    let [(ours, shown), (theirs, found)] = verifiers.judge(&id, &proof).await;
    assert!(ours && theirs, "it is passed over: {shown} {found}");
    // By the stranger's own pin, the chain breaks at the first real bundle.
    let strangers = Verifiers { pin: hex::encode(forged.root_pin()), ..verifiers };
    assert!(!strangers.judge(&id, &proof).await[1].0);
    eventually("the agent still works", std::time::Duration::from_secs(20), async || {
        fleet.alice.run(harmless(), &la).await.ok().map(|_| ())
    })
    .await;
    fleet.stop().await;
}
