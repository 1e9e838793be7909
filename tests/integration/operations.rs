//! Running the real binaries: what goes wrong on a machine is told with what to do about it, and nothing is overwritten.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Ecs},
    ids::CommandId,
    keys::sha256,
    limits,
    outcome::{Outcome, RefusalReason},
};
use sfdata_hub::{
    audit,
    config::Config,
    hub,
    metrics::Metrics,
    store::{Batch, Store, backup, records},
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{
    eventually,
    fleet::{Fleet, hub_config},
    process::{Run, get, ready, real_hub},
    settings::{write_agent, write_hub},
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// A hub's folder and configuration, without a fleet.
struct Ground {
    folder: TempDir,
    config: Config,
    file: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = hub_config(folder.path(), None).unwrap();
        let file = write_hub(&config, &folder.path().join("hub.toml")).unwrap();
        Self { folder, config, file }
    }

    async fn with_hub() -> Self {
        let ground = Self::new();
        hub::init(&ground.config, &"alice".parse().unwrap(), Timestamp::now()).await.unwrap();
        ground
    }

    fn hub(&self, args: &[&str]) -> Run {
        Run::start("sfdata-hub", &[&["--config", &self.file.display().to_string()], args].concat(), self.folder.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.data_dir.join(name)
    }
}

fn nothing() -> Action {
    Action::Agent(Agent::Cancel(CommandId::generate()))
}

/// Every file below a folder with its content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn check_config_tells_what_to_correct() {
    let ground = Ground::new();
    let (status, said) = ground.hub(&["check-config"]).ended().await;
    assert!(status.success() && said.contains("is valid"), "{said}");

    let right = fs::read_to_string(&ground.file).unwrap();
    fs::write(&ground.file, right.replace("hub_id", "hub_idd")).unwrap();
    ground.hub(&["check-config"]).refuses(&["hub.toml", "hub_idd", "line 3"]).await;
    ground.hub(&["run"]).refuses(&["hub_idd"]).await;
    let wrong = right.replace("sfdata.example", "SFDATA").replace("127.0.0.1", "0.0.0.0");
    fs::write(&ground.file, wrong + "\n[certificates]\nagent_lifetime = \"48h\"\n").unwrap();
    let words = [
        "trust_domain \"SFDATA\"",
        "use 1 to 255 lower-case",
        "listen.ops",
        "use 127.0.0.1",
        "agent_lifetime is 2days",
    ];
    ground.hub(&["check-config"]).refuses(&words).await;
    fs::remove_file(&ground.file).unwrap();
    ground.hub(&["run"]).refuses(&["cannot read the configuration", "name it with --config"]).await;
}

#[tokio::test]
async fn init_twice_keeps_everything_and_gives_another_token() {
    let ground = Ground::new();
    ground.hub(&["run"]).refuses(&["there is no hub", "run `sfdata-hub init` first"]).await;
    let mut tokens = BTreeSet::new();
    let mut kept = None;
    for _ in 0..2 {
        let (status, said) = ground.hub(&["init", "--operator", "alice"]).ended().await;
        assert!(status.success(), "{said}");
        tokens.extend(said.lines().filter(|line| line.starts_with("sfjoin_")).map(str::to_owned));
        let files =
            ["ca.key", "ca.crt", "dispatch.key", "hub-identity.pem"].map(|name| fs::read(ground.path(name)).unwrap());
        assert_eq!(*kept.get_or_insert_with(|| files.clone()), files);
    }
    assert_eq!(tokens.len(), 2);
    let mode = |name| fs::metadata(ground.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("dispatch.key")), (0o600, 0o600));
}

#[tokio::test]
async fn a_hub_that_cannot_run_says_what_to_do() {
    let ground = Ground::with_hub().await;
    let Config { listen, .. } = &ground.config;
    for address in [listen.address, listen.enrol, listen.ops] {
        let held = TcpListener::bind(address).unwrap();
        let port = format!("port {} is in use already", address.port());
        ground.hub(&["run"]).refuses(&[&port, "stop what holds it", "to another port"]).await;
        drop(held);
    }
    for key in ["ca.key", "dispatch.key"] {
        fs::set_permissions(ground.path(key), fs::Permissions::from_mode(0o644)).unwrap();
        ground.hub(&["run"]).refuses(&[key, "others may read it", "chmod 600"]).await;
        fs::set_permissions(ground.path(key), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let away = ground.folder.path().join("away");
    for (lost, words) in [
        ("store", ["there is no store", "`sfdata-hub restore`"]),
        ("dispatch.key", ["dispatch.key is missing", "restore it from the hub's backup"]),
        ("hub-identity.pem", ["hub-identity.pem is missing", "restore it from the hub's backup"]),
    ] {
        let kept = contents(&ground.config.data_dir);
        fs::rename(ground.path(lost), &away).unwrap();
        ground.hub(&["run"]).refuses(&words).await;
        if lost != "store" {
            ground.hub(&["init", "--operator", "alice"]).refuses(&words).await;
        }
        fs::rename(&away, ground.path(lost)).unwrap();
        assert_eq!(contents(&ground.config.data_dir), kept, "without {lost}");
    }

    let running = ground.hub(&["run"]);
    ready(listen.ops).await;
    let other = Ground { config: hub_config(ground.folder.path(), None).unwrap(), ..Ground::new() };
    write_hub(&other.config, &other.file).unwrap();
    other.hub(&["run"]).refuses(&["is in use by another process", "stop the other sfdata-hub first"]).await;
    ready(listen.ops).await;
    running.process.terminate().unwrap();
    let (status, said) = running.ended().await;
    assert!(status.success() && said.contains("the hub has stopped"), "{said}");
}

#[tokio::test]
async fn a_hub_whose_machine_has_lost_its_time_does_not_start() {
    let ground = Ground::new();
    let later = Timestamp::now() + Duration::from_secs(24 * 3600);
    hub::init(&ground.config, &"alice".parse().unwrap(), later).await.unwrap();
    ground.hub(&["run"]).refuses(&["this machine's clock says", "set the clock (timedatectl)"]).await;
}

/// A store that is large enough to be damaged in the middle.
async fn fill(ground: &Ground) {
    let store = Store::open(&ground.config.data_dir, Metrics::default()).unwrap();
    for number in 0..40 {
        let mut batch = Batch::default();
        for _ in 0..50 {
            let detail = "what an auditor wants to read a year later ".repeat(3);
            batch.audit(audit::draft(Timestamp::now(), "test.entry", audit::HUB, number.to_string(), detail));
        }
        store.commit(batch).await.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn a_damaged_store_is_told_at_the_start_wherever_it_is_damaged() {
    let ground = Ground::with_hub().await;
    fill(&ground).await;
    let db = ground.path("store/db");
    let good = contents(&ground.path("store"));
    let whole = fs::read(&db).unwrap();
    assert!(whole.len() > 512 * 1024, "{}", whole.len());
    let mut refused = 0;
    for part in 0..12 {
        let mut damaged = whole.clone();
        let at = damaged.len() / 12 * part;
        damaged[at..at + 4096].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::remove_dir_all(ground.path("store")).unwrap();
        for (path, content) in &good {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, if *path == db { &damaged } else { content }).unwrap();
        }
        let mut run = ground.hub(&["run"]);
        let ended = eventually("it is ready, or says why not", SOON, async || match run.process.ended() {
            Some(_) => Some(true),
            None => get(ground.config.listen.ops, "/readyz").await.filter(|(status, _)| *status == 200).map(|_| false),
        })
        .await;
        if ended {
            refused += 1;
            run.refuses(&["is damaged", "`sfdata-hub restore --from BACKUP --set-aside`"]).await;
        } else {
            // Nothing was there, so nothing may be missing.
            run.process.terminate().unwrap();
            run.ended().await;
            let store = Store::open(&ground.config.data_dir, Metrics::default()).unwrap();
            assert!(store.audit(0).filter_map(Result::ok).count() >= 2_002, "damaged at {at}");
            store.close().await;
        }
    }
    assert!(refused >= 3, "{refused} of 12");
    fs::write(&db, vec![0x5a; whole.len()]).unwrap();
    ground.hub(&["run"]).refuses(&["is damaged", "`sfdata-hub restore --from BACKUP --set-aside`"]).await;
}

/// A backup's records, and a backup of records.
fn read_backup(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    backup::read(bytes, |key, value| {
        records.push((key, value));
        Ok(())
    })
    .unwrap();
    records
}

fn to_backup(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"sfdata-hub backup 1\n".to_vec();
    for field in records.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend((field.len() as u32).to_be_bytes());
        bytes.extend(field);
    }
    bytes.extend(u32::MAX.to_be_bytes());
    let digest = sha256(&bytes);
    bytes.extend(digest);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_hub_is_whole_and_restores_to_what_it_was() {
    let mut fleet = Fleet::without_aws(1).await;
    let hub = real_hub(&mut fleet).await;
    fleet.connected(0).await;
    let id = fleet.alice.submit(nothing(), &[&fleet.agents[0].id]).await.unwrap();
    fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap();
    let folder = fleet.folder.path().to_owned();
    let (file, config) = (folder.join("backup"), folder.join("hub.toml").display().to_string());
    let ctl = |args: &[&str]| Run::start("sfdata-hub", &[&["--config", &config], args].concat(), &folder);
    let out = file.display().to_string();
    let (status, said) = ctl(&["backup", "--out", &out]).ended().await;
    assert!(status.success() && said.contains("records written to"), "{said}");
    ctl(&["backup", "--out", &out]).refuses(&["a file that is there is not overwritten"]).await;
    ctl(&["restore", "--from", &out]).refuses(&["there is a store in", "already; nothing was changed"]).await;

    hub.process.terminate().unwrap();
    assert!(hub.ended().await.0.success());
    let audit_before = {
        let store = Store::open(&fleet.hub_config.data_dir, Metrics::default()).unwrap();
        let entries: Vec<_> = store.audit(0).map(|entry| entry.unwrap().hash).collect();
        store.close().await;
        entries
    };
    let store = fleet.hub_config.data_dir.join("store");
    fs::rename(&store, folder.join("lost")).unwrap();
    let good = fs::read(&file).unwrap();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    let broken = folder.join("broken");
    for (what, bytes) in [("truncated", &good[..good.len() - 40]), ("empty", &[]), ("changed", &changed[..])] {
        fs::write(&broken, bytes).unwrap();
        ctl(&["restore", "--from", &broken.display().to_string()])
            .refuses(&["this is not a whole backup of a hub", "take another one"])
            .await;
        assert!(!store.exists(), "{what}");
    }
    let mut later = read_backup(&good);
    later.iter_mut().filter(|(key, _)| key == b"schema").for_each(|(_, value)| *value = vec![9]);
    fs::write(&broken, to_backup(&later)).unwrap();
    ctl(&["restore", "--from", &broken.display().to_string()])
        .refuses(&["has layout 9", "Run the release that wrote it, or a later one"])
        .await;
    assert!(!store.exists());

    let (status, said) = ctl(&["restore", "--from", &out]).ended().await;
    assert!(status.success() && said.contains("epoch 2") && said.contains("hubctl trust accept-restore"), "{said}");
    let hub = real_hub(&mut fleet).await;
    assert_eq!(fleet.alice.show(id).await.unwrap().targets[0].state(), wire::CommandState::Succeeded);
    let after: Vec<_> = fleet.alice.audit().await.unwrap().into_iter().map(|entry| entry.hash).collect();
    let common = after.iter().zip(&audit_before).take_while(|(after, before)| after == before).count();
    assert!(common >= read_backup(&good).iter().filter(|(key, _)| key.starts_with(b"x/")).count(), "{common}");
    drop(hub);
    fleet.stop().await;
}

#[tokio::test]
async fn a_store_of_a_later_release_is_refused() {
    let ground = Ground::with_hub().await;
    let store = Store::open(&ground.config.data_dir, Metrics::default()).unwrap();
    let mut batch = Batch::default();
    batch.put(b"schema".to_vec(), &records::Epoch { number: 2, statement: None }); // other bytes than this release's
    store.commit(batch).await.unwrap();
    store.close().await;
    drop(store);
    let later = "Run the release that wrote it, or a later one";
    ground.hub(&["run"]).refuses(&["has layout", later]).await;
    ground.hub(&["init", "--operator", "alice"]).refuses(&["has layout"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_asked_to_stop_drains_and_ends_in_order() {
    let mut fleet = Fleet::without_aws(1).await;
    let hub = real_hub(&mut fleet).await;
    fleet.connected(0).await;
    fleet.stop_agent(0).await;
    let id = fleet.alice.submit(nothing(), &[&fleet.agents[0].id]).await.unwrap();
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let mut list = fleet.alice.client.clone().watch_agents(wire::WatchAgentsRequest {}).await.unwrap().into_inner();
    list.message().await.unwrap().expect("a list");
    hub.process.terminate().unwrap();
    while let Ok(Some(_)) = list.message().await {}
    let (status, said) = hub.ended().await;
    assert!(status.success(), "{said}");
    for words in ["asked to stop by SIGTERM", "the hub has stopped"] {
        assert!(said.contains(words), "{said}");
    }
    let hub = real_hub(&mut fleet).await;
    let outcome = fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    drop(hub);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_tells_its_health_its_readiness_and_its_metrics() {
    let mut fleet = Fleet::without_aws(1).await;
    let hub = real_hub(&mut fleet).await;
    fleet.connected(0).await;
    assert!(matches!(fleet.alice.run(nothing(), &fleet.agents[0].id).await.unwrap(), Outcome::Succeeded(_)));
    let ops = fleet.hub_config.listen.ops;
    assert_eq!(get(ops, "/healthz").await.unwrap(), (200, "ok\n".to_owned()));
    assert_eq!(get(ops, "/readyz").await.unwrap(), (200, "ready\n".to_owned()));
    let (status, page) = get(ops, "/metrics").await.unwrap();
    assert_eq!(status, 200);
    let (mut typed, mut helped) = (BTreeSet::new(), BTreeSet::new());
    for line in page.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => {
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(typed.insert(name), "{name} twice");
            }
            ["#", "HELP", name, _] => assert!(helped.insert(name), "{name} twice"),
            _ => {
                let (name, value) = line.rsplit_once(' ').expect(line);
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let name = name.split('{').next().unwrap_or_default();
                let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(typed.contains(name) || family.is_some_and(|family| typed.contains(family)), "untyped: {line}");
            }
        }
    }
    assert_eq!(typed, helped);
    assert!(page.contains("sfdata_hub_agents_connected 1\n"), "{page}");
    let health = format!("sfdata_hub_agent_health{{agent=\"{}\",word=\"", fleet.agents[0].id);
    eventually("the LA's health is on the page", SOON, async || {
        get(ops, "/metrics").await.filter(|(_, page)| page.contains(&health))
    })
    .await;
    drop(hub);
    fleet.stop().await;
}

fn agent(fleet: &Fleet, args: &[&str]) -> Run {
    let folder = fleet.folder.path();
    let file = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap();
    Run::start("sfdata-agent", &[&["--config", &file.display().to_string()], args].concat(), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_run_says_what_to_do() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let home = fleet.agents[0].config.data_dir.clone();
    let (status, said) = agent(&fleet, &["check-config"]).ended().await;
    assert!(status.success() && said.contains("is valid"), "{said}");
    for key in ["identity.pem", "receipt.key"] {
        fs::set_permissions(home.join(key), fs::Permissions::from_mode(0o644)).unwrap();
        agent(&fleet, &["run"]).refuses(&[key, "others may read it", "chmod 600"]).await;
        fs::set_permissions(home.join(key), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let running = agent(&fleet, &["run"]);
    fleet.connected(0).await;
    agent(&fleet, &["run"]).refuses(&["the journal in", "is another agent running on it?"]).await;
    assert!(matches!(fleet.alice.run(nothing(), &fleet.agents[0].id).await.unwrap(), Outcome::Succeeded(_)));
    running.process.terminate().unwrap();
    let (status, said) = running.ended().await;
    assert!(status.success(), "{said}");

    let db = home.join("journal/db");
    let good = fs::read(&db).unwrap();
    fs::write(&db, vec![0x5a; good.len()]).unwrap();
    agent(&fleet, &["run"]).refuses(&["the journal in", "is damaged", "enrol this agent anew"]).await;

    let token = fleet.invite("la-0", "200000000000").await.unwrap();
    let again = sfdata_agent::identity::enrol(&home, &token, "200000000000", Timestamp::now()).await.unwrap_err();
    assert!(
        again.to_string().contains("holds an identity already") && again.to_string().contains("move that folder away")
    );
    fleet.agents[0].config.data_dir = home.with_file_name("elsewhere");
    agent(&fleet, &["run"]).refuses(&["holds no identity", "sfdata-agent enrol --token"]).await;
    fleet.agents[0].config.aws.region = "London".into();
    agent(&fleet, &["check-config"]).refuses(&["aws.region \"London\"", "write one such as eu-west-2"]).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_la_can_hold_its_agent_and_read_its_record() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let running = agent(&fleet, &["run"]);
    fleet.connected(0).await;
    let la = &fleet.agents[0].id;
    let (status, said) = agent(&fleet, &["hold", "--reason", "year end"]).ended().await;
    assert!(status.success() && said.contains("until sfdata-agent release"), "{said}");
    let refused = fleet.alice.run(nothing(), la).await.unwrap();
    let Outcome::Refused { reason: RefusalReason::Held, detail } = &refused else { panic!("not held: {refused:?}") };
    assert!(detail.contains("year end"), "{detail}");
    let read = fleet.alice.run(Action::Ecs(Ecs::Status), la).await.unwrap();
    assert!(matches!(read, Outcome::Failed { .. }), "there is no AWS here, and reads are let in: {read:?}");
    eventually("the hub sees the hold", limits::HEALTH_INTERVAL + SOON, async || {
        let hold = fleet.alice.agent(la).await.ok()?.health?.hold?;
        (hold.reason == "year end" && hold.since_unix_ms > 0).then_some(())
    })
    .await;
    let (status, said) = agent(&fleet, &["release"]).ended().await;
    assert!(status.success() && said.contains("Released"), "{said}");
    assert!(matches!(fleet.alice.run(nothing(), la).await.unwrap(), Outcome::Succeeded(_)));

    let (status, said) = agent(&fleet, &["audit"]).ended().await;
    assert!(status.success(), "{said}");
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = lines.iter().filter_map(|line| line["outcome"].as_str()).collect();
    assert_eq!(outcomes.len(), 3);
    assert!(
        outcomes[0].starts_with("refused: held") && outcomes[1].starts_with("failed: ") && outcomes[2] == "succeeded"
    );
    running.process.terminate().unwrap();
    assert!(running.ended().await.0.success());
    let record = fleet.agents[0].config.data_dir.join("audit.jsonl");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replacen("year end", "no reason", 1)).unwrap();
    agent(&fleet, &["audit"]).refuses(&["line 1 of", "does not follow from the line before"]).await;
    fleet.stop().await;
}
