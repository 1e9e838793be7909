//! Keys take each other's place under load, by the commands of the README and the real programs: nothing is lost, refused or
//! done twice. And a dispatch key that lies in KMS, which may be away.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{path::PathBuf, time::Duration};

use prost::Message as _;
use sfdata_agent::identity::receipts;
use sfdata_common::{
    Timestamp,
    dispatch::RECEIPT_KEY_PAYLOAD_TYPE,
    envelope,
    ids::{AgentId, CommandId},
    keys::SigningKey,
    outcome::Outcome,
    trust::{Role, hub_identity_from_pem},
};
use sfdata_hub::{enrol::identity::IDENTITY_FILE, hub};
use sfdata_proto::v1::{
    self as wire, CommandState, connect_request::Message as FromAgent, connect_response::Message as FromHub,
};
use sfdata_tests::{
    eventually,
    fleet::{Fleet, Options, hub_config},
    kms::{ARN, Kms, Mood},
    operator::Operator,
    process::{get, outcome},
    rogue::RogueAgent,
    settings::write_hub,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{door::harmless, traces::Hubctl};

const SOON: Duration = Duration::from_secs(30);

/// Commands to all agents, one after the other, while keys change.
struct Load {
    stop: CancellationToken,
    task: JoinHandle<(Operator, Vec<CommandId>)>,
}

impl Load {
    async fn start(fleet: &mut Fleet) -> Self {
        let (carol, agents) = (fleet.operator("carol", Role::Operator).await, ids(fleet));
        let stop = CancellationToken::new();
        let seen = stop.clone();
        let task = tokio::spawn(async move {
            let mut handed_in = Vec::new();
            while !seen.is_cancelled() {
                let agents: Vec<&AgentId> = agents.iter().collect();
                handed_in.push(carol.submit(harmless(), &agents).await.expect("the hub takes it"));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (carol, handed_in)
        });
        Self { stop, task }
    }

    /// Every one has succeeded at each agent, and the agents let in as many as were handed in.
    async fn ends_well(self, fleet: &Fleet) {
        self.stop.cancel();
        let (carol, handed_in) = self.task.await.unwrap();
        assert!(handed_in.len() > 20, "{} commands are no load", handed_in.len());
        for id in &handed_in {
            for agent in ids(fleet) {
                let outcome = carol.outcome(*id, &agent).await.unwrap();
                assert!(matches!(outcome, Outcome::Succeeded(_)), "{id} at {agent}: {outcome:?}");
            }
        }
        let (_, page) = get(fleet.hub_config.listen.ops, "/metrics").await.unwrap();
        let refused = |line: &&str| line.starts_with("sfdata_hub_refusals_total{") && !line.ends_with(" 0");
        assert_eq!(page.lines().find(refused), None);
    }
}

fn ids(fleet: &Fleet) -> Vec<AgentId> {
    fleet.agents.iter().map(|member| member.id.clone()).collect()
}

/// Whoever keeps the root key, and carries bundles to and fro.
struct Keeper {
    hubctl: Hubctl,
    root: String,
    bundle: String,
    identity: String,
    config: String,
}

impl Keeper {
    async fn of(fleet: &mut Fleet) -> Self {
        let hubctl = Hubctl::join(fleet).await;
        let folder = fleet.folder.path();
        let path = |name: &str| folder.join(name).display().to_string();
        fleet.root.replace(&folder.join("root.key"), None).unwrap();
        let config = write_hub(&fleet.hub_config, &folder.join("hub.toml")).unwrap();
        let identity: PathBuf = fleet.hub_config.data_dir.join(IDENTITY_FILE);
        Self {
            hubctl,
            root: path("root.key"),
            bundle: path("bundle.pem"),
            identity: identity.display().to_string(),
            config: config.display().to_string(),
        }
    }

    async fn does(&self, args: &[&str]) -> String {
        let (code, shown, said) = self.hubctl.run(args, "").await;
        assert_eq!(code, Some(0), "hubctl {args:?}: {said}");
        shown
    }

    /// Make, sign and publish the bundle after the present one.
    async fn changes(&self, change: &[&str]) {
        let _ = std::fs::remove_file(&self.bundle);
        self.does(&["trust", "show"]).await; // the profile takes the newest
        self.does(&[change, &["--bundle", &self.bundle]].concat()).await;
        self.does(&["trust", "sign", "--root-key", &self.root, "--bundle", &self.bundle]).await;
        self.does(&["trust", "publish", "--bundle", &self.bundle]).await;
    }

    /// `sfdata-hub rotate dispatch`: how it ended, and all that it said.
    async fn rotate(&self, step: &[&str]) -> (Option<i32>, String) {
        self.turn("dispatch", step).await
    }

    async fn turn(&self, what: &str, step: &[&str]) -> (Option<i32>, String) {
        let args = [&["--config", &self.config, "rotate", what], step].concat();
        let (code, shown, said) = outcome("sfdata-hub", &args).await;
        (code, shown + &said)
    }

    fn shown(&self) -> (Vec<u8>, Vec<u8>) {
        let identity = hub_identity_from_pem(&std::fs::read(&self.identity).unwrap()).unwrap();
        (identity.dispatch_key.to_vec(), identity.next_dispatch_key.to_vec())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatch_key_is_rotated_under_load() {
    let mut fleet = Fleet::without_aws(3).await;
    let keeper = Keeper::of(&mut fleet).await;
    let load = Load::start(&mut fleet).await;
    let (before, none) = keeper.shown();
    assert!(none.is_empty());

    let (code, said) = keeper.rotate(&["--activate"]).await;
    assert!(code == Some(1) && said.contains("--stage"), "{said}");
    let (code, said) = keeper.rotate(&["--stage"]).await;
    assert!(code == Some(0) && said.contains("update-hub"), "{said}");
    let (same, next) = keeper.shown();
    assert_eq!(same, before);
    let (code, said) = keeper.rotate(&["--activate"]).await;
    assert!(code == Some(1) && said.contains("does not list"), "{said}");

    // One agent is away while the bundle is published, and would refuse what the next key signs.
    fleet.stop_agent(2).await;
    keeper.changes(&["trust", "update-hub", "--hub", &keeper.identity]).await;
    eventually("two of three have it", SOON, async || {
        let (code, said) = keeper.rotate(&["--activate"]).await;
        assert_eq!(code, Some(1), "one is behind: {said}");
        said.contains("1 of 3 agents").then_some(())
    })
    .await;
    let (_, said) = keeper.rotate(&[]).await;
    assert!(said.contains("la-2") && !said.contains("la-1"), "{said}");
    assert_eq!(keeper.shown().0, before);
    fleet.start_agent(2).await;
    fleet.connected(2).await;
    eventually("it is activated", SOON, async || (keeper.rotate(&["--activate"]).await.0 == Some(0)).then_some(()))
        .await;
    assert_eq!(keeper.shown(), (next, vec![]));
    fleet.alice.run(harmless(), &fleet.agents[0].id).await.unwrap();

    keeper.changes(&["trust", "update-hub", "--hub", &keeper.identity]).await;
    let (_, said) = keeper.rotate(&[]).await;
    assert!(!said.contains("no more"), "{said}");
    load.ends_well(&fleet).await;
    // It is the same key after the next start.
    fleet.stop_hub().await;
    fleet.start_hub().await;
    let outcome = fleet.alice.run(harmless(), &fleet.agents[1].id).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuing_ca_is_rotated_under_load() {
    let lives = Options {
        agent_lifetime: Some(Duration::from_secs(30)),
        // By a clock that may run behind they are at half of their life at once: each use of hubctl renews.
        operator_lifetime: Some(Duration::from_secs(280)),
        ..Options::default()
    };
    let mut fleet = Fleet::with(3, lives).await;
    let keeper = Keeper::of(&mut fleet).await;
    let load = Load::start(&mut fleet).await;
    let update = ["trust", "update-hub", "--hub", &keeper.identity];
    let before = fleet.bundle.ca_certificates.clone();

    let (code, said) = keeper.turn("ca", &["--stage"]).await;
    assert!(code == Some(0) && said.contains("update-hub"), "{said}");
    let (code, said) = keeper.turn("ca", &["--activate"]).await;
    assert!(code == Some(1) && said.contains("does not list"), "{said}");
    keeper.changes(&update).await;
    eventually("it is activated", SOON, async || (keeper.turn("ca", &["--activate"]).await.0 == Some(0)).then_some(()))
        .await;
    keeper.does(&["agents", "list"]).await; // by the new server certificate, and with a new one of its own

    // Whoever would be cut off is named, until they have renewed.
    let refused = async || {
        let _ = std::fs::remove_file(&keeper.bundle);
        keeper.does(&["trust", "show"]).await;
        keeper.does(&[&update[..], &["--bundle", &keeper.bundle]].concat()).await;
        keeper.does(&["trust", "sign", "--root-key", &keeper.root, "--bundle", &keeper.bundle]).await;
        keeper.hubctl.run(&["trust", "publish", "--bundle", &keeper.bundle], "").await
    };
    let (code, _, said) = refused().await;
    assert!(code == Some(1) && said.contains("drops a CA"), "{said}");
    eventually("only the kit's own operators, who renew nothing, are left", Duration::from_secs(60), async || {
        let (_, _, said) = refused().await;
        assert!(said.contains("operator alice") || said.contains("operator/alice"), "{said}");
        (!said.contains("la-") && !said.contains("bob")).then_some(())
    })
    .await;
    keeper.does(&["trust", "publish", "--bundle", &keeper.bundle, "--force"]).await;
    load.ends_well(&fleet).await;

    // Agents that are started anew, and an operator, come in by the new CA alone.
    fleet.stop_hub().await;
    fleet.start_hub().await;
    eventually("all come back", SOON, async || {
        let (code, shown, _) = keeper.hubctl.run(&["agents", "list", "-o", "json"], "").await;
        let shown: serde_json::Value = serde_json::from_str(&shown).ok().filter(|_| code == Some(0))?;
        let states = shown["agents"].as_array()?.iter().map(|agent| agent["state"].clone());
        states.eq(["connected", "connected", "connected"]).then_some(())
    })
    .await;
    let trust: serde_json::Value = serde_json::from_str(&keeper.does(&["trust", "show", "-o", "json"]).await).unwrap();
    let old = format!("sha256:{}", hex::encode(sfdata_common::keys::sha256(&before[0])));
    assert_ne!(trust["ca_fingerprints"], serde_json::json!([old]));
    assert_eq!(trust["ca_fingerprints"].as_array().unwrap().len(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_keys_are_rotated_under_load_and_only_with_the_old_ones() {
    let mut fleet = Fleet::without_aws(3).await;
    let keeper = Keeper::of(&mut fleet).await;
    let load = Load::start(&mut fleet).await;
    let folder = fleet.folder.path().to_owned();
    let [one, two] = ["root-1.key", "root-2.key"].map(|name| folder.join(name).display().to_string());
    for file in [&one, &two] {
        keeper.does(&["key", "create", "--out", file]).await;
    }
    keeper.does(&["trust", "show"]).await;
    let bundle = ["--bundle", &keeper.bundle];
    let set = ["trust", "set-root", "--root-key", &one, "--root-key", &two, "--threshold", "2"];
    keeper.does(&[&set[..], &bundle].concat()).await;
    keeper.does(&[&["trust", "sign", "--root-key", &one, "--root-key", &two], &bundle[..]].concat()).await;
    let (code, _, said) = keeper.hubctl.run(&[&["trust", "publish"], &bundle[..]].concat(), "").await;
    assert!(code == Some(1) && said.contains("previous version's root keys"), "{said}");
    keeper.does(&[&["trust", "sign", "--root-key", &keeper.root], &bundle[..]].concat()).await;
    keeper.does(&[&["trust", "publish"], &bundle[..]].concat()).await;

    // The old one signs nothing any more, and the new ones do.
    std::fs::remove_file(&keeper.bundle).unwrap();
    keeper.does(&[&["trust", "remove-operator", "alice"], &bundle[..]].concat()).await;
    let (code, _, said) =
        keeper.hubctl.run(&[&["trust", "sign", "--root-key", &keeper.root], &bundle[..]].concat(), "").await;
    assert!(code == Some(1) && said.contains("not a root key"), "{said}");
    keeper.does(&[&["trust", "sign", "--root-key", &one, "--root-key", &two], &bundle[..]].concat()).await;
    keeper.does(&[&["trust", "publish"], &bundle[..]].concat()).await;
    // What alice's key signs agents refuse by now, though the hub knew her before.
    keeper.does(&["agents", "refresh", "--all"]).await;
    assert!(fleet.alice.submit(harmless(), &[&fleet.agents[0].id]).await.is_err());
    load.ends_well(&fleet).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_is_rotated_and_what_the_old_one_signed_is_still_done() {
    let mut fleet = Fleet::without_aws(3).await;
    let keeper = Keeper::of(&mut fleet).await;
    let load = Load::start(&mut fleet).await;
    let refresh = ["agents", "refresh", "--agent", "la-1"];
    let made = keeper.does(&["key", "rotate"]).await;
    let (code, _, said) = keeper.hubctl.run(&["key", "rotate"], "").await;
    assert!(code == Some(1) && said.contains("does not list"), "{said}");
    keeper.does(&refresh).await;

    // Signed by the old key, and on its way for as long as all this takes.
    fleet.stop_agent(0).await;
    let id = keeper.does(&["agents", "refresh", "--agent", "la-0", "--no-wait"]).await;
    let add = ["trust", "add-operator", "bob", "--key", made.trim(), "--role", "admin"];
    keeper.changes(&[&add[..], &["--beside"]].concat()).await;
    keeper.does(&refresh).await;
    assert_eq!(keeper.does(&["key", "rotate"]).await, made);
    keeper.does(&refresh).await;
    fleet.start_agent(0).await;
    let outcome = fleet.alice.outcome(id.trim().parse().unwrap(), &fleet.agents[0].id).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");

    keeper.changes(&add).await;
    keeper.does(&refresh).await;
    let shown: serde_json::Value = serde_json::from_str(&keeper.does(&["whoami", "-o", "json"]).await).unwrap();
    assert_eq!((&shown["signing_key"], &shown["key_listed"]), (&made.trim().into(), &true.into()));
    load.ends_well(&fleet).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_key_in_kms_signs_and_what_it_does_not_sign_waits() {
    let folder = tempfile::tempdir().unwrap();
    let kms = Kms::start(folder.path(), "ECC_NIST_EDWARDS25519").await.unwrap();
    let fleet = Fleet::with(1, Options { dispatch: kms.settings(), ..Options::default() }).await;
    let la = fleet.agents[0].id.clone();
    assert_eq!(fleet.bundle.dispatch_keys, [kms.key.public()]);
    assert!(!fleet.hub_config.data_dir.join("dispatch.key").exists());
    let before = kms.asked();
    let outcome = fleet.alice.run(harmless(), &la).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)) && kms.asked() == before + 1, "{outcome:?}");

    for mood in [Mood::Wrong, Mood::Throttled, Mood::Denied, Mood::Hanging] {
        kms.mood(mood);
        let (asked, mut ids) = (kms.asked(), Vec::new());
        for _ in 0..3 {
            ids.push(fleet.alice.submit(harmless(), &[&la]).await.unwrap());
        }
        eventually("it was tried", SOON, async || (kms.asked() > asked).then_some(())).await;
        if mood != Mood::Hanging {
            let failing = "sfdata_hub_signer_failing 1";
            eventually("it is told", SOON, async || {
                let (_, page) = get(fleet.hub_config.listen.ops, "/metrics").await?;
                page.lines().any(|line| line == failing).then_some(())
            })
            .await;
        }
        for id in &ids {
            let state = fleet.alice.state(*id, &la).await.unwrap();
            assert!(matches!(state, CommandState::Sent | CommandState::Waiting), "{mood:?}: {state:?}");
        }
        fleet.connected(0).await;
        kms.mood(Mood::Well);
        for id in ids {
            let outcome = fleet.alice.outcome(id, &la).await.unwrap();
            assert!(matches!(outcome, Outcome::Succeeded(_)), "{mood:?}: {outcome:?}");
        }
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_kind_or_of_nobody_is_refused_at_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let kms = Kms::start(folder.path(), "ECC_NIST_P256").await.unwrap();
    let mut config = hub_config(folder.path(), None).unwrap();
    config.dispatch = kms.settings();
    let init = async |config: &_| {
        let made = Box::pin(hub::init(config, &"alice".parse().unwrap(), Timestamp::now())).await;
        sfdata_common::error::chain(&made.unwrap_err()).to_string()
    };
    let said = init(&config).await;
    assert!(said.contains("ECC_NIST_P256") && said.contains("--key-spec ECC_NIST_EDWARDS25519"), "{said}");
    drop(kms);
    let said = init(&config).await;
    assert!(said.contains(ARN) && said.contains("first start"), "{said}");
    assert!(!config.data_dir.join(IDENTITY_FILE).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatches_move_from_a_file_to_kms_and_stay_there_while_it_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let kms = Kms::start(folder.path(), "ECC_NIST_EDWARDS25519").await.unwrap();
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_hub().await;
    fleet.hub_config.dispatch = kms.settings();
    fleet.start_hub().await;
    fleet.connected(0).await;
    let la = fleet.agents[0].id.clone();
    fleet.alice.run(harmless(), &la).await.unwrap();
    assert_eq!(kms.asked(), 0, "the file's key signs until the other one is activated");

    let keeper = Keeper::of(&mut fleet).await;
    let (code, said) = keeper.rotate(&["--stage"]).await;
    assert!(code == Some(0) && said.contains(ARN), "{said}");
    keeper.changes(&["trust", "update-hub", "--hub", &keeper.identity]).await;
    eventually("it is activated", SOON, async || (keeper.rotate(&["--activate"]).await.0 == Some(0)).then_some(()))
        .await;
    fleet.alice.run(harmless(), &la).await.unwrap();
    assert!(kms.asked() > 0);
    keeper.changes(&["trust", "update-hub", "--hub", &keeper.identity]).await;

    // A hub that starts while KMS can't sign goes on as soon as it can.
    fleet.stop_hub().await;
    kms.mood(Mood::Hanging);
    fleet.start_hub().await;
    fleet.connected(0).await;
    let id = fleet.alice.submit(harmless(), &[&la]).await.unwrap();
    kms.mood(Mood::Well);
    let outcome = fleet.alice.outcome(id, &la).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_get_a_new_key_by_the_word_of_the_old_one_and_old_proofs_hold() {
    let mut fleet = Fleet::without_aws(2).await;
    let keeper = Keeper::of(&mut fleet).await;
    let load = Load::start(&mut fleet).await;
    let agent = fleet.agents[0].id.clone();
    let before = fleet.alice.submit(harmless(), &[&agent]).await.unwrap();
    fleet.alice.outcome(before, &agent).await.unwrap();
    let data_dir = fleet.agents[0].config.data_dir.clone();
    let (old, kept) = (receipts::present(&data_dir).unwrap(), std::fs::read(data_dir.join("receipt.key")).unwrap());

    // By who has the agent's certificate without its receipt key: nothing.
    let stranger = SigningKey::generate().unwrap();
    let word = |by: &[&SigningKey]| {
        let public_key = stranger.public().as_bytes().to_vec().into();
        let said = wire::ReceiptKey { agent_id: agent.to_string(), public_key, made_unix_ms: 0 };
        let mut signed = envelope::seal(RECEIPT_KEY_PAYLOAD_TYPE, said.encode_to_vec(), by[0]);
        by[1..].iter().for_each(|key| envelope::add_signature(&mut signed, key));
        signed
    };
    let hello = wire::Hello { version: "1".into(), boot_id: "x".into(), epoch: 1, ..Default::default() };
    fleet.stop_agent(0).await;
    let real = SigningKey::read(&data_dir.join("receipt.key")).unwrap();
    let mut rogue = RogueAgent::connect(&fleet, 0, hello).await.unwrap();
    assert!(matches!(rogue.next().await, Ok(Some(FromHub::Welcome(_)))));
    for signed in [word(&[&stranger]), word(&[&real])] {
        rogue.send(FromAgent::ReceiptKey(signed)).await;
    }
    while let Ok(Some(said)) = rogue.next().await {
        assert!(!matches!(said, FromHub::ReceiptKeyKept(_)), "it is taken");
    }
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let changed = async |fleet: &Fleet| {
        let entries = fleet.alice.audit().await.unwrap();
        entries
            .into_iter()
            .filter(|entry| entry.kind == "agent.receipt-key")
            .map(|entry| entry.detail)
            .collect::<Vec<_>>()
    };
    assert_eq!(changed(&fleet).await, Vec::<String>::new());

    // Staged while the agent runs; it tells the hub by itself.
    let next = receipts::stage(&data_dir).unwrap();
    assert_eq!(receipts::stage(&data_dir).unwrap(), next, "again is the same");
    eventually("the new key is in use", Duration::from_secs(60), async || {
        (receipts::present(&data_dir).ok()? == next).then_some(())
    })
    .await;
    assert_eq!(changed(&fleet).await, [next.to_string()]);
    let after = fleet.alice.submit(harmless(), &[&agent]).await.unwrap();
    fleet.alice.outcome(after, &agent).await.unwrap();
    // Each proof by the key of its time.
    for (id, key) in [(before, old), (after, next)] {
        let shown = keeper.does(&["commands", "show", &id.to_string(), "--proof", "-o", "json"]).await;
        assert!(shown.contains(&format!("succeeded, by {key}")), "{shown}");
    }
    // Killed after the hub had it and before the file was in place: told again, and nothing changes.
    fleet.stop_agent(0).await;
    std::fs::rename(data_dir.join("receipt.key"), data_dir.join("receipt-next.key")).unwrap();
    std::fs::write(data_dir.join("receipt.key"), kept).unwrap();
    std::fs::set_permissions(data_dir.join("receipt.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    eventually("the new key is in use again", SOON, async || {
        (receipts::present(&data_dir).ok()? == next).then_some(())
    })
    .await;
    assert_eq!(changed(&fleet).await, [next.to_string()]);
    load.ends_well(&fleet).await;
    fleet.stop().await;
}
