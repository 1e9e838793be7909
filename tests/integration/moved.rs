//! What outlives its machine: an agent's folder, mounted by the next task on another path, and a hub's store, made anew from a
//! backup on a bare machine. Real programs, killed without a word.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sfdata_common::{
    command::{Action, Agent, Ecs},
    ids::CommandId,
    outcome::{Outcome, RefusalReason},
};
use sfdata_proto::v1::CommandState;
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    process::{Process, outcome, ready},
    rogue::RogueHub,
    settings::{write_agent, write_hub},
};

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(40);

fn restart(service: &str) -> Action {
    Action::Ecs(Ecs::Restart { service: service.into(), deadline: MINUTE })
}

fn nothing() -> Action {
    Action::Agent(Agent::Cancel(CommandId::generate()))
}

async fn tasks(fleet: &Fleet, service: &str, behaviour: &str) {
    fleet.aws().tasks(&fleet.agents[0].account, service, behaviour).await.unwrap();
}

async fn restarts(fleet: &Fleet) -> usize {
    fleet.aws().restarts(&fleet.agents[0].account.id).await.unwrap()
}

/// A restart that runs, has had its effect, and does not end by itself.
async fn restart_without_end(fleet: &Fleet, service: &str) -> CommandId {
    let (la, before) = (&fleet.agents[0].id, restarts(fleet).await);
    tasks(fleet, service, "crashes").await;
    let id = fleet.alice.submit(restart(service), &[la]).await.unwrap();
    eventually("it runs, and ECS was told", SOON, async || {
        let running = fleet.alice.state(id, la).await.ok()? == CommandState::Running;
        (running && restarts(fleet).await > before).then_some(())
    })
    .await;
    id
}

async fn succeeds(fleet: &Fleet, id: CommandId) {
    let outcome = fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
}

async fn sequence(fleet: &Fleet, id: CommandId) -> u64 {
    fleet.alice.show(id).await.unwrap().targets[0].sequence
}

/// The real agent on the folder that its configuration names, given as in a container: as text.
fn agent(fleet: &Fleet, log: &Path) -> Process {
    let file = write_agent(&fleet.agents[0].config, &fleet.folder.path().join("agent.toml")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    Process::start("sfdata-agent", &["--config-text", &text, "run"], log).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spot_interruption_loses_neither_seen_commands_nor_the_number_nor_begun_work_nor_unsent_outcomes() {
    let mut fleet = Fleet::start(1).await;
    let wire = fleet.wire(0).await;
    fleet.stop_agent(0).await;
    let (la, log) = (fleet.agents[0].id.clone(), fleet.folder.path().join("agent.log"));
    let mut task = agent(&fleet, &log);
    fleet.connected(0).await;

    let seen = fleet.alice.sign(&fleet.alice.command(nothing(), &[&la]));
    let seen_id = fleet.alice.hand_in(seen.clone()).await.unwrap();
    succeeds(&fleet, seen_id).await;
    let begun = restart_without_end(&fleet, "code-server").await;
    let unsent = restart_without_end(&fleet, "daemon").await;
    wire.stall();
    tasks(&fleet, "daemon", "normal").await;
    let record = fleet.agents[0].config.data_dir.clone();
    eventually("the agent has ended it", SOON, async || {
        let mut lines = sfdata_agent::audit::read(&record).ok()?.filter_map(Result::ok);
        lines.find(|(entry, _)| entry.command_id == unsent.to_string())
    })
    .await;
    assert_eq!(fleet.alice.state(unsent, &la).await.unwrap(), CommandState::Running, "the hub does not know");

    // The task is gone between two instructions; its volume is mounted by the next one, elsewhere.
    task.kill();
    let elsewhere = fleet.folder.path().join("mounted/by/the/next");
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::rename(&record, &elsewhere).unwrap();
    fleet.agents[0].config.data_dir = elsewhere;
    wire.cut();
    wire.mend();
    let mut task = agent(&fleet, &log);
    fleet.connected(0).await;
    succeeds(&fleet, unsent).await;
    tasks(&fleet, "code-server", "normal").await;
    succeeds(&fleet, begun).await;
    assert_eq!(restarts(&fleet).await, 2, "each once");
    let next = fleet.alice.submit(nothing(), &[&la]).await.unwrap();
    succeeds(&fleet, next).await;
    assert_eq!(sequence(&fleet, next).await, sequence(&fleet, unsent).await + 1);

    // What the first task had seen, the second one refuses, whoever numbers it anew.
    let used = sequence(&fleet, next).await;
    fleet.stop_hub().await;
    let rogue = RogueHub::in_place_of(&fleet).await.unwrap();
    let mut held = rogue.agent(1).await;
    let delivery = rogue.delivery(&la, 1, used + 1, &seen, &seen_id.to_string());
    assert_eq!(held.refusal(delivery).await, Some((RefusalReason::AlreadySeen, true)));
    drop(held);
    rogue.stop().await;
    task.kill();
    fleet.stop().await;
}

/// The configuration of a hub that takes backups by itself.
fn hub_file(fleet: &Fleet, backups: &Path) -> PathBuf {
    let file = write_hub(&fleet.hub_config, &fleet.folder.path().join("hub.toml")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[backup]\nfolder = {backups:?}\nevery = \"1h\"\n")).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_made_anew_on_a_bare_machine_from_its_own_backup_and_its_keys() {
    let mut fleet = Fleet::start(1).await;
    let la = fleet.agents[0].id.clone();
    fleet.stop_hub().await;
    let (folder, log) = (fleet.folder.path().to_owned(), fleet.folder.path().join("hub.log"));
    let (backups, lost) = (folder.join("backups"), fleet.hub_config.data_dir.clone());
    let file = hub_file(&fleet, &backups).display().to_string();
    let mut hub = Process::start("sfdata-hub", &["--config", &file, "run"], &log).unwrap();
    ready(fleet.hub_config.listen.ops).await;
    let (code, _, said) = outcome("sfdata-hub", &["--config", &file, "healthcheck"]).await;
    assert_eq!(code, Some(0), "{said}");
    let backup = eventually("a backup is taken", SOON, async || {
        let name = |entry: fs::DirEntry| entry.path();
        fs::read_dir(&backups)
            .ok()?
            .flatten()
            .map(name)
            .find(|path| path.extension().is_some_and(|end| end == "backup"))
    })
    .await;
    hub.kill();
    let (code, _, said) = outcome("sfdata-hub", &["--config", &file, "healthcheck"]).await;
    assert!(code == Some(1) && said.contains("no hub that lives answers"), "{said}");

    let (code, told, _) = outcome("sfdata-hub", &["--config", &file, "identity"]).await;
    assert!(code == Some(0) && told.into_bytes() == fs::read(lost.join("hub-identity.pem")).unwrap());

    // A bare machine: the configuration, the keys that were kept apart, and the newest backup.
    let began = Instant::now();
    fleet.hub_config.data_dir = folder.join("anew");
    let file = hub_file(&fleet, &backups).display().to_string();
    fs::create_dir(&fleet.hub_config.data_dir).unwrap();
    for key in ["ca.key", "ca.crt", "dispatch.key", "hub-identity.pem"] {
        fs::copy(lost.join(key), fleet.hub_config.data_dir.join(key)).unwrap();
    }
    let from = backup.display().to_string();
    let (code, _, said) = outcome("sfdata-hub", &["--config", &file, "restore", "--from", &from]).await;
    assert_eq!(code, Some(0), "{said}");
    let mut hub = Process::start("sfdata-hub", &["--config", &file, "run"], &log).unwrap();
    ready(fleet.hub_config.listen.ops).await;
    fleet.connected(0).await;
    let waits = fleet.alice.submit(nothing(), &[&la]).await.unwrap();
    assert_eq!(fleet.alice.state(waits, &la).await.unwrap(), CommandState::Waiting);
    crate::delivery::accept_restore(&fleet).await;
    succeeds(&fleet, waits).await;
    eprintln!("restored_s: {:.2}", began.elapsed().as_secs_f64());
    // In the place of a store that is there as well, but not of one that is in use.
    let again = ["--config", &file, "restore", "--from", &from];
    let (code, _, said) = outcome("sfdata-hub", &again).await;
    assert!(code == Some(1) && said.contains("already"), "{said}");
    let aside = [&again[..], &["--set-aside"]].concat();
    let (code, _, said) = outcome("sfdata-hub", &aside).await;
    assert!(code == Some(1) && said.contains("in use"), "{said}");
    hub.kill();
    let (code, _, said) = outcome("sfdata-hub", &aside).await;
    assert!(code == Some(0) && said.contains("store.aside-1"), "{said}");
    assert!(fleet.hub_config.data_dir.join("store.aside-1/db").exists());
    fleet.stop().await;
}
