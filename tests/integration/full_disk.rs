//! A disk that is nearly full, and one that is full: nothing new is taken, what was taken is finished, and nothing that was
//! confirmed is lost.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sfdata_agent::config::arrivals::Arrivals;
use sfdata_common::{
    command::{Action, Agent},
    ids::CommandId,
    outcome::Outcome,
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{
    eventually,
    fleet::{Fleet, binary},
    process::{Run, get, ready, real_hub},
    settings::{write_agent, write_hub},
};
use tonic::Code;

const SOON: Duration = Duration::from_secs(20);

fn nothing() -> Action {
    Action::Agent(Agent::Cancel(CommandId::generate()))
}

/// A small file system of its own, where this process may mount one.
struct Small(PathBuf);

impl Small {
    async fn mount(path: &Path, mebibytes: u32, folder: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let (size, path_text) = (format!("size={mebibytes}m,mode=0700"), path.display().to_string());
        let run = Run::start("/bin/mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &path_text], folder);
        let (status, said) = run.ended().await;
        if status.success() {
            return Some(Self(path.into()));
        }
        eprintln!("skipped: a full disk needs the right to mount a tmpfs: {said}");
        None
    }

    /// Take so much, or all that is left.
    fn fill(&self, mebibytes: usize) {
        let _ = fs::write(self.0.join("filler"), vec![1; mebibytes * 1024 * 1024]);
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("/bin/umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_little_disk_takes_nothing_new_finishes_what_it_has_and_loses_nothing_when_it_is_full() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    fleet.stop_hub().await;
    let (old, new) = (fleet.hub_config.data_dir.clone(), fleet.folder.path().join("small"));
    let Some(small) = Small::mount(&new, 120, fleet.folder.path()).await else { return fleet.stop().await };
    let copy = Run::start(
        "/bin/cp",
        &["-a", &format!("{}/.", old.display()), &new.display().to_string()],
        fleet.folder.path(),
    );
    assert!(copy.ended().await.0.success());
    fleet.hub_config.data_dir = new;
    let hub = real_hub(&mut fleet).await;
    let la = fleet.agents[0].id.clone();
    let taken =
        eventually("the hub takes commands", SOON, async || fleet.alice.submit(nothing(), &[&la]).await.ok()).await;

    small.fill(70);
    let ops = fleet.hub_config.listen.ops;
    let refused =
        eventually("the hub takes no more", SOON, async || fleet.alice.submit(nothing(), &[&la]).await.err()).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("in reserve") && refused.message().contains("free some space"), "{refused}");
    eventually("it tells that it is not ready", SOON, async || {
        let (status, why) = get(ops, "/readyz").await?;
        (status == 503 && why.contains("disk low") && why.contains("free some space")).then_some(())
    })
    .await;
    fleet.start_agent(0).await;
    assert!(
        matches!(fleet.alice.outcome(taken, &la).await.unwrap(), Outcome::Succeeded(_)),
        "what was begun is finished"
    );
    small.free();
    let again =
        eventually("the hub takes commands again", SOON, async || fleet.alice.submit(nothing(), &[&la]).await.ok())
            .await;
    assert!(matches!(fleet.alice.outcome(again, &la).await.unwrap(), Outcome::Succeeded(_)));

    small.fill(200);
    let invited = write_until_it_fails(&fleet).await;
    let (status, said) = hub.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write the store") && said.contains("free space on that disk"), "{said}");
    small.free();
    let hub = real_hub(&mut fleet).await;
    everything_is_there(&fleet, &invited).await;
    assert!(matches!(fleet.alice.run(nothing(), &la).await.unwrap(), Outcome::Succeeded(_)));
    drop(hub);
    fleet.stop_agent(0).await;
    drop(small);
}

/// Invite agents, which is written without a look at the reserve, until the hub is gone; gives those that it confirmed.
async fn write_until_it_fails(fleet: &Fleet) -> Vec<String> {
    // Much is written with each.
    let labels: HashMap<_, _> = (0..32).map(|number| (format!("label-{number}"), "x".repeat(64))).collect();
    let mut confirmed = Vec::new();
    for hundred in 0..100 {
        let invitations = (0..100).map(|number| {
            let agent_id = format!("new-{}", 100 * hundred + number);
            let request = wire::InviteAgentRequest {
                agent_id: agent_id.clone(),
                account: "300000000000".into(),
                labels: labels.clone(),
                ..Default::default()
            };
            let mut client = fleet.alice.client.clone();
            async move { client.invite_agent(request).await.ok().map(|_| agent_id) }
        });
        let answers = futures::future::join_all(invitations).await;
        let failed = answers.iter().any(Option::is_none);
        confirmed.extend(answers.into_iter().flatten());
        if failed {
            return confirmed;
        }
    }
    panic!("the disk is never full");
}

async fn everything_is_there(fleet: &Fleet, confirmed: &[String]) {
    let mut client = fleet.alice.client.clone().max_decoding_message_size(64 * 1024 * 1024);
    let agents = client.list_agents(wire::ListAgentsRequest {}).await.unwrap().into_inner().agents;
    let states: HashMap<_, _> = agents.iter().map(|agent| (&agent.agent_id, agent.state())).collect();
    assert!(!confirmed.is_empty());
    for id in confirmed {
        assert_eq!(states.get(id), Some(&wire::AgentState::Invited), "{id}");
    }
    let audit = fleet.alice.audit().await.unwrap();
    let invited = audit.iter().filter(|entry| entry.kind == "agent.invited" && entry.subject.starts_with("agent/new-"));
    assert!(invited.count() >= confirmed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_stops_the_hub_and_loses_nothing_that_was_confirmed() {
    let mut fleet = Fleet::without_aws(0).await;
    fleet.stop_hub().await;
    let file = write_hub(&fleet.hub_config, &fleet.folder.path().join("hub.toml")).unwrap();
    // No file may be written beyond 8 MiB, which is before the end of the store's log: writes fail as on a full disk,
    // without one.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 16384; exec {} --config {} run",
        binary("sfdata-hub").display(),
        file.display()
    );
    let hub = Run::start("/bin/sh", &["-c", &limited], fleet.folder.path());
    ready(fleet.hub_config.listen.ops).await;
    let invited = write_until_it_fails(&fleet).await;
    let (status, said) = hub.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    for words in [
        "cannot write the store",
        "free space on that disk",
        "then start the hub again",
        "Nothing that was confirmed is lost",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    let hub = real_hub(&mut fleet).await;
    everything_is_there(&fleet, &invited).await;
    drop(hub);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_stops_the_agent_and_every_command_ends_once_all_the_same() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let file = write_agent(&fleet.agents[0].config, &fleet.folder.path().join("agent.toml")).unwrap();
    let run = format!("exec {} --config {} run", binary("sfdata-agent").display(), file.display());
    let limited = Run::start("/bin/sh", &["-c", &format!("trap '' XFSZ; ulimit -f 1040; {run}")], fleet.folder.path());
    fleet.connected(0).await;
    let la = fleet.agents[0].id.clone();
    let mut ids = Vec::new();
    loop {
        let summary = fleet.alice.agent(&la).await.unwrap();
        if summary.state() != wire::AgentState::Connected {
            break;
        }
        if summary.commands < 100 {
            let la = [&la];
            let batch = futures::future::join_all((0..50).map(|_| fleet.alice.submit(nothing(), &la))).await;
            ids.extend(batch.into_iter().map(|id| id.unwrap()));
        }
        assert!(ids.len() < 5_000, "the disk is never full");
    }
    let (status, said) = limited.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("the journal in") && said.contains("free space on that disk or mend it, then start"),
        "{said}"
    );
    fleet.start_agent(0).await;
    eprintln!("{} commands", ids.len());
    for id in ids {
        assert!(matches!(fleet.alice.outcome(id, &la).await.unwrap(), Outcome::Succeeded(_)));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_little_disk_nothing_is_received_and_a_book_that_cannot_be_written_ends_the_agent() {
    let mut fleet = Fleet::start(1).await;
    let queue = fleet.with_arrivals(0, Arrivals::default(), true).await;
    let account = fleet.agents[0].account.id.clone();
    let (old, new) = (fleet.agents[0].config.data_dir.clone(), fleet.folder.path().join("small"));
    let Some(small) = Small::mount(&new, 60, fleet.folder.path()).await else { return fleet.stop().await };
    let from = format!("{}/.", old.display());
    let copy = Run::start("/bin/cp", &["-a", &from, &new.display().to_string()], fleet.folder.path());
    assert!(copy.ended().await.0.success());
    fleet.agents[0].config.data_dir = new;
    small.fill(40);
    fleet.start_agent(0).await;
    let mut seen = fleet.arrivals(0).subscribe();
    let low = seen.wait_for(|waiting| waiting.unreadable.as_ref().is_some_and(|one| one.why.contains("free space")));
    tokio::time::timeout(SOON, low).await.unwrap().unwrap();
    fleet.aws().send(&account, &queue, "of no use").await.unwrap();
    assert!(fleet.aws().calls(&account, "sqs", "ReceiveMessage").await.unwrap().is_empty());
    small.free();
    eventually("it is taken in", SOON, async || {
        (fleet.arrivals(0).health().parked == 1 && fleet.arrivals(0).health().error.is_empty()).then_some(())
    })
    .await;
    fleet.stop_agent(0).await;

    let file = write_agent(&fleet.agents[0].config, &fleet.folder.path().join("agent.toml")).unwrap();
    let run = format!("exec {} --config {} run", binary("sfdata-agent").display(), file.display());
    let limited = Run::start("/bin/sh", &["-c", &format!("trap '' XFSZ; ulimit -f 1040; {run}")], fleet.folder.path());
    for number in 0..20 {
        let records: Vec<_> = (0..20).map(|record| format!("\"{number} {record} {}\"", "x".repeat(3_000))).collect();
        fleet.aws().send(&account, &queue, &format!("{{\"Records\": [{}]}}", records.join(","))).await.unwrap();
    }
    let (status, said) = limited.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the book of arrivals in") && said.contains("then start the agent again"), "{said}");
    let received = fleet.aws().calls(&account, "sqs", "ReceiveMessage").await.unwrap().len();
    assert!(fleet.aws().messages(&account, &queue).await.unwrap() > 0, "what was not written is in the queue");
    fleet.start_agent(0).await;
    eventually("all of it is taken in", Duration::from_secs(60), async || {
        (fleet.arrivals(0).health().parked == 401).then_some(())
    })
    .await;
    assert!(fleet.aws().calls(&account, "sqs", "ReceiveMessage").await.unwrap().len() > received);
    fleet.stop().await;
    drop(small);
}
