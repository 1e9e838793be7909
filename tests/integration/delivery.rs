//! Nothing lost, nothing twice, always an answer: the queue, the link and the journal while parts come, go and forget.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{fs, path::Path, time::Duration};

use futures::{StreamExt as _, stream};
use prost::Message as _;
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Ecs},
    dispatch::RECEIPT_PAYLOAD_TYPE,
    envelope,
    ids::CommandId,
    keys::SigningKey,
    limits,
    outcome::Outcome,
    trust::EPOCH_PAYLOAD_TYPE,
};
use sfdata_hub::{admin, store::backup};
use sfdata_proto::v1::{
    self as wire, CancelDisposition, CommandState, action_result::Kind, connect_request::Message as FromAgent,
    connect_response::Message as FromHub,
};
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    process::get,
    rogue::{RogueAgent, RogueHub},
};
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than anything here takes that takes no waiting.
const SOON: Duration = Duration::from_secs(20);

/// Legal at any time, over at once, and needs no AWS.
fn nothing() -> Action {
    Action::Agent(Agent::Cancel(CommandId::generate()))
}

fn restart(service: &str) -> Action {
    Action::Ecs(Ecs::Restart { service: service.into(), deadline: MINUTE })
}

fn scale(service: &str, desired: u32) -> Action {
    Action::Ecs(Ecs::Scale { service: service.into(), desired, deadline: MINUTE })
}

async fn submit(fleet: &Fleet, number: usize, action: Action) -> CommandId {
    fleet.alice.submit(action, &[&fleet.agents[number].id]).await.expect("the hub takes the command")
}

async fn outcome(fleet: &Fleet, number: usize, id: CommandId) -> Outcome {
    fleet.alice.outcome(id, &fleet.agents[number].id).await.expect("the command ends")
}

async fn state(fleet: &Fleet, number: usize, id: CommandId) -> CommandState {
    fleet.alice.state(id, &fleet.agents[number].id).await.expect("the command is known")
}

async fn becomes(fleet: &Fleet, number: usize, id: CommandId, wanted: CommandState) {
    eventually(&format!("command {id} is {}", wanted.as_str_name()), SOON, async || {
        (state(fleet, number, id).await == wanted).then_some(())
    })
    .await;
}

/// The place in the agent's order, and whether the agent signed how it ended.
async fn place(fleet: &Fleet, id: CommandId) -> (u64, bool) {
    let target = fleet.alice.show(id).await.unwrap().targets.remove(0);
    (target.sequence, target.receipt.is_some())
}

async fn restarts(fleet: &Fleet, number: usize) -> usize {
    fleet.aws().restarts(&fleet.agents[number].account.id).await.unwrap()
}

/// Let a service's tasks crash until they are told to be normal, so that nothing that is waited for comes.
async fn tasks(fleet: &Fleet, number: usize, service: &str, behaviour: &str) {
    fleet.aws().tasks(&fleet.agents[number].account, service, behaviour).await.unwrap();
}

/// A restart that runs and does not come to its end by itself; its effect at AWS is there.
async fn restart_without_end(fleet: &Fleet, number: usize, service: &str) -> CommandId {
    let before = restarts(fleet, number).await;
    tasks(fleet, number, service, "crashes").await;
    let id = submit(fleet, number, restart(service)).await;
    becomes(fleet, number, id, CommandState::Running).await;
    eventually("ECS was told to restart", SOON, async || (restarts(fleet, number).await > before).then_some(())).await;
    id
}

fn succeeded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Succeeded(_))
}

async fn note(fleet: &Fleet, number: usize) -> String {
    fleet.alice.agent(&fleet.agents[number].id).await.unwrap().note
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_an_agent_that_is_away_waits_and_is_delivered_when_it_comes() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let id = submit(&fleet, 0, nothing()).await;
    assert_eq!(state(&fleet, 0, id).await, CommandState::Waiting);
    fleet.start_agent(0).await;
    assert!(succeeded(&outcome(&fleet, 0, id).await));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_agent_keep_their_order() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let counts = [2, 1, 3, 0, 1];
    let mut ids = Vec::new();
    for desired in counts {
        ids.push(submit(&fleet, 0, scale("webserver", desired)).await);
    }
    fleet.start_agent(0).await;
    for (index, id) in ids.iter().enumerate() {
        assert!(succeeded(&outcome(&fleet, 0, *id).await));
        assert_eq!(place(&fleet, *id).await, (index as u64 + 1, true));
    }
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, "ecs", "UpdateService").await.unwrap();
    let ordered: Vec<u64> = calls.iter().filter_map(|call| call["params"]["desiredCount"].as_u64()).collect();
    assert_eq!(ordered, counts.map(u64::from), "as ordered at AWS");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_one_service_go_one_by_one_while_reads_and_other_services_do_not_wait() {
    let fleet = Fleet::start(1).await;
    let first = restart_without_end(&fleet, 0, "code-server").await;
    let second = submit(&fleet, 0, restart("code-server")).await;
    let third = submit(&fleet, 0, scale("code-server", 2)).await;
    becomes(&fleet, 0, second, CommandState::Received).await;

    let la = &fleet.agents[0].id;
    assert!(succeeded(&fleet.alice.run(Action::Ecs(Ecs::Status), la).await.unwrap()), "a read does not wait");
    assert!(succeeded(&fleet.alice.run(restart("daemon"), la).await.unwrap()), "another service does not wait");
    assert_eq!(state(&fleet, 0, first).await, CommandState::Running);
    assert_eq!(state(&fleet, 0, second).await, CommandState::Received);
    assert_eq!(state(&fleet, 0, third).await, CommandState::Received);
    assert_eq!(restarts(&fleet, 0).await, 2, "the first one's and the daemon's");
    let journal = async || fleet.alice.run(Action::Agent(Agent::Refresh), la).await;
    assert!(succeeded(&journal().await.unwrap()));

    tasks(&fleet, 0, "code-server", "normal").await;
    for id in [first, second, third] {
        assert!(succeeded(&outcome(&fleet, 0, id).await));
    }
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, "ecs", "UpdateService").await.unwrap();
    let mine: Vec<&serde_json::Value> =
        calls.iter().filter(|call| call["params"]["service"] == "code-server").collect();
    let forced: Vec<bool> = mine.iter().map(|call| call["params"]["forceNewDeployment"] == true).collect();
    assert_eq!(forced, [true, true, false], "in their order");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_command_that_is_cancelled_never_leaves_and_those_behind_it_do() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let first = submit(&fleet, 0, nothing()).await;
    let unwanted = submit(&fleet, 0, restart("daemon")).await;
    let behind = submit(&fleet, 0, nothing()).await;
    let cancel = submit(&fleet, 0, Action::Agent(Agent::Cancel(unwanted))).await;
    let Outcome::Cancelled { detail } = outcome(&fleet, 0, unwanted).await else { panic!("not cancelled") };
    assert!(detail.contains("alice") && detail.contains("before it was sent"), "{detail}");

    fleet.start_agent(0).await;
    for id in [first, behind] {
        assert!(succeeded(&outcome(&fleet, 0, id).await));
    }
    let Outcome::Succeeded(result) = outcome(&fleet, 0, cancel).await else { panic!("the cancel failed") };
    let Some(Kind::AgentCancel(result)) = result.kind else { panic!("another result") };
    assert_eq!(result.disposition(), CancelDisposition::NotBegun);
    // The agent's door takes no gap, so the second number came as a void.
    assert_eq!(place(&fleet, unwanted).await, (2, false));
    assert_eq!(place(&fleet, behind).await, (3, true));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_that_is_cancelled_says_how_far_it_came_and_an_ended_one_stays_ended() {
    let fleet = Fleet::start(1).await;
    let id = restart_without_end(&fleet, 0, "code-server").await;
    let disposition = async |of: CommandId| {
        let cancel = submit(&fleet, 0, Action::Agent(Agent::Cancel(of))).await;
        match outcome(&fleet, 0, cancel).await {
            Outcome::Succeeded(result) => match result.kind {
                Some(Kind::AgentCancel(result)) => result.disposition(),
                other => panic!("another result: {other:?}"),
            },
            other => panic!("the cancel did not succeed: {other:?}"),
        }
    };
    assert_eq!(disposition(id).await, CancelDisposition::Asked);
    let ended = outcome(&fleet, 0, id).await;
    let Outcome::Cancelled { detail } = &ended else { panic!("not cancelled: {ended:?}") };
    assert!(detail.contains("was told to restart") && detail.contains("only the waiting was stopped"), "{detail}");

    assert_eq!(disposition(id).await, CancelDisposition::AlreadyEnded);
    assert_eq!(outcome(&fleet, 0, id).await, ended);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_command_expires_and_those_behind_it_do_not() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let mut short = fleet.alice.command(restart("daemon"), &[&fleet.agents[0].id]);
    short.expires = Timestamp::now() + Duration::from_secs(1);
    let short = fleet.alice.hand_in(fleet.alice.sign(&short)).await.unwrap();
    let behind = submit(&fleet, 0, nothing()).await;
    assert_eq!(outcome(&fleet, 0, short).await, Outcome::Expired);
    assert_eq!(state(&fleet, 0, behind).await, CommandState::Waiting);
    fleet.start_agent(0).await;
    assert!(succeeded(&outcome(&fleet, 0, behind).await));
    assert_eq!(outcome(&fleet, 0, short).await, Outcome::Expired);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_network_swallowed_is_sent_again_and_takes_effect_once() {
    let mut fleet = Fleet::start(1).await;
    let wire = fleet.wire(0).await;
    wire.stall();
    let id = submit(&fleet, 0, restart("code-server")).await;
    becomes(&fleet, 0, id, CommandState::Sent).await;
    assert_eq!(restarts(&fleet, 0).await, 0);
    wire.cut();
    wire.mend();
    assert!(succeeded(&outcome(&fleet, 0, id).await));
    assert_eq!(restarts(&fleet, 0).await, 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_the_network_swallowed_is_told_again_and_the_effect_is_not_repeated() {
    let mut fleet = Fleet::start(1).await;
    let wire = fleet.wire(0).await;
    let id = restart_without_end(&fleet, 0, "code-server").await;
    wire.stall();
    tasks(&fleet, 0, "code-server", "normal").await;
    let record = fleet.agents[0].config.data_dir.clone();
    eventually("the agent has ended it", SOON, async || {
        let lines = sfdata_agent::audit::read(&record).ok()?.filter_map(Result::ok);
        lines.map(|(entry, _)| entry).find(|entry| entry.command_id == id.to_string())
    })
    .await;
    assert_eq!(state(&fleet, 0, id).await, CommandState::Running, "the hub does not know");
    wire.cut();
    wire.mend();
    assert!(succeeded(&outcome(&fleet, 0, id).await));
    assert_eq!(restarts(&fleet, 0).await, 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_restarts_in_order_loses_neither_what_waits_nor_what_runs() {
    let mut fleet = Fleet::start(2).await;
    fleet.stop_agent(1).await;
    let waits = submit(&fleet, 1, scale("webserver", 1)).await;
    let runs = restart_without_end(&fleet, 0, "code-server").await;
    fleet.stop_hub().await;
    fleet.start_hub().await;
    eventually("the hub answers", SOON, async || fleet.alice.show(runs).await.ok()).await;
    assert_eq!(state(&fleet, 1, waits).await, CommandState::Waiting);
    tasks(&fleet, 0, "code-server", "normal").await;
    assert!(succeeded(&outcome(&fleet, 0, runs).await));
    assert_eq!(restarts(&fleet, 0).await, 1);
    fleet.start_agent(1).await;
    assert!(succeeded(&outcome(&fleet, 1, waits).await));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_runs_while_its_agent_restarts_is_taken_up_again_and_not_repeated() {
    let mut fleet = Fleet::start(1).await;
    let id = restart_without_end(&fleet, 0, "code-server").await;
    let behind = submit(&fleet, 0, restart("code-server")).await;
    becomes(&fleet, 0, behind, CommandState::Received).await;
    fleet.stop_agent(0).await;
    assert_eq!(state(&fleet, 0, id).await, CommandState::Running);
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    assert_eq!(restarts(&fleet, 0).await, 1);
    tasks(&fleet, 0, "code-server", "normal").await;
    assert!(succeeded(&outcome(&fleet, 0, id).await));
    assert!(succeeded(&outcome(&fleet, 0, behind).await));
    assert_eq!(restarts(&fleet, 0).await, 2, "each its own");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_before_a_restart_of_the_agent_goes_on_in_the_order_of_the_hub() {
    let mut fleet = Fleet::start(1).await;
    let la = fleet.agents[0].id.clone();
    // Its id is older, and it comes later.
    let older = fleet.alice.command(restart("code-server"), &[&la]);
    let first = restart_without_end(&fleet, 0, "code-server").await;
    let last = fleet.alice.hand_in(fleet.alice.sign(&older)).await.unwrap();
    becomes(&fleet, 0, last, CommandState::Received).await;
    fleet.stop_agent(0).await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    tasks(&fleet, 0, "code-server", "normal").await;
    assert!(succeeded(&outcome(&fleet, 0, first).await));
    assert!(succeeded(&outcome(&fleet, 0, last).await));
    assert_eq!(restarts(&fleet, 0).await, 2);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_ends_the_older_one_and_gets_what_is_to_be_sent() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let hello = wire::Hello { boot_id: "one".into(), epoch: 1, trust_version: 1, ..Default::default() };
    let mut older = RogueAgent::connect(&fleet, 0, hello.clone()).await.unwrap();
    assert!(matches!(older.next().await, Ok(Some(FromHub::Welcome(_)))));
    let mut newer = RogueAgent::connect(&fleet, 0, hello).await.unwrap();
    assert!(matches!(newer.next().await, Ok(Some(FromHub::Welcome(_)))));
    let Ok(Some(FromHub::Goodbye(goodbye))) = older.next().await else { panic!("the older one goes on") };
    assert!(goodbye.reason.contains("newer session"), "{}", goodbye.reason);
    assert_eq!(older.next().await.unwrap_err().code(), Code::Aborted);

    let id = submit(&fleet, 0, nothing()).await;
    let Ok(Some(FromHub::Delivery(delivery))) = newer.next().await else { panic!("nothing is delivered") };
    let dispatch = wire::Dispatch::decode(&delivery.dispatch.unwrap().payload[..]).unwrap();
    assert_eq!((dispatch.command_id, dispatch.sequence), (id.to_string(), 1));
    fleet.connected(0).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_again_before_the_first_is_stored_is_no_stray() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let la = fleet.agents[0].id.clone();
    let key = SigningKey::read(&fleet.agents[0].config.data_dir.join("receipt.key")).unwrap();
    let hello = wire::Hello { boot_id: "one".into(), epoch: 1, trust_version: 1, ..Default::default() };
    let mut link = RogueAgent::connect(&fleet, 0, hello).await.unwrap();
    assert!(matches!(link.next().await, Ok(Some(FromHub::Welcome(_)))));
    for sequence in 1..=20 {
        let id = submit(&fleet, 0, nothing()).await;
        loop {
            match link.next().await {
                Ok(Some(FromHub::Delivery(_))) => break,
                Ok(Some(_)) => {}
                other => panic!("nothing is delivered: {other:?}"),
            }
        }
        let receipt = wire::Receipt {
            agent_id: la.to_string(),
            epoch: 1,
            sequence,
            command_id: id.to_string(),
            outcome: Some(Outcome::Cancelled { detail: "so it was".into() }.to_wire()),
            ..Default::default()
        };
        let receipt = envelope::seal(RECEIPT_PAYLOAD_TYPE, receipt.encode_to_vec(), &key);
        for _ in 0..2 {
            link.send(FromAgent::Receipt(receipt.clone())).await;
        }
        for _ in 0..2 {
            assert!(matches!(link.next().await, Ok(Some(FromHub::ReceiptsKept(_)))));
        }
    }
    let audit = fleet.alice.audit().await.unwrap();
    assert!(audit.iter().all(|entry| entry.kind != "receipt.stray"));
    let (_, page) = get(fleet.hub_config.listen.ops, "/metrics").await.unwrap();
    assert!(page.contains("illegal_transitions_total 0"), "{page}");
    fleet.stop().await;
}

/// Put the hub back to `backup`, as after the loss of its disk.
pub(crate) async fn restore(fleet: &mut Fleet, backup: &Path) {
    let data_dir = fleet.hub_config.data_dir.clone();
    fleet.stop_hub().await;
    fs::rename(data_dir.join("store"), data_dir.join("store.lost")).unwrap();
    let (_, epoch) = backup::restore(&data_dir, fs::File::open(backup).unwrap()).unwrap();
    assert_eq!(epoch, 2);
    fleet.start_hub().await;
}

pub(crate) async fn accept_restore(fleet: &Fleet) {
    let statement = wire::EpochStatement {
        trust_domain: fleet.bundle.trust_domain.clone(),
        epoch: 2,
        operator: "alice".into(),
        reason: "a test".into(),
        issued_unix_ms: Timestamp::now().as_millisecond(),
    };
    let statement = envelope::seal(EPOCH_PAYLOAD_TYPE, statement.encode_to_vec(), &fleet.alice.key);
    let request = wire::PublishEpochRequest { statement: Some(statement) };
    fleet.alice.client.clone().publish_epoch(request).await.expect("the hub takes the statement");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_a_restored_hub_take_nothing_until_an_admin_says_so_and_then_work() {
    let mut fleet = Fleet::start(1).await;
    assert!(succeeded(&fleet.alice.run(nothing(), &fleet.agents[0].id).await.unwrap()));
    let known = restart_without_end(&fleet, 0, "code-server").await;
    let backup = fleet.folder.path().join("backup");
    let file = fs::File::create(&backup).unwrap();
    admin::backup(&fleet.hub_config.data_dir, Box::new(file)).await.unwrap();
    let forgotten = restart_without_end(&fleet, 0, "daemon").await;

    restore(&mut fleet, &backup).await;
    eventually("the agent waits for the admin's word", SOON, async || {
        let agent = fleet.alice.agent(&fleet.agents[0].id).await.ok()?;
        agent.note.contains("hubctl trust accept-restore").then_some(())
    })
    .await;
    let gone = fleet.alice.show(forgotten).await.unwrap_err();
    assert_eq!(gone.downcast::<tonic::Status>().unwrap().code(), Code::NotFound);
    let waits = submit(&fleet, 0, nothing()).await;

    // What ran meanwhile ends: of what the hub knows the outcome counts, of what it forgot the receipt is on record.
    tasks(&fleet, 0, "code-server", "normal").await;
    tasks(&fleet, 0, "daemon", "normal").await;
    assert!(succeeded(&outcome(&fleet, 0, known).await));
    eventually("the receipt of what the hub forgot is on record", SOON, async || {
        let audit = fleet.alice.audit().await.ok()?;
        audit.into_iter().find(|entry| entry.kind == "receipt.stray" && entry.subject == forgotten.to_string())
    })
    .await;
    assert_eq!(state(&fleet, 0, waits).await, CommandState::Waiting);

    accept_restore(&fleet).await;
    assert!(succeeded(&outcome(&fleet, 0, waits).await));
    assert!(succeeded(&fleet.alice.run(nothing(), &fleet.agents[0].id).await.unwrap()));
    assert_eq!(note(&fleet, 0).await, "");
    assert_eq!(restarts(&fleet, 0).await, 2);
    assert!(succeeded(&outcome(&fleet, 0, known).await));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_while_the_hub_is_restored_and_accepted_keeps_its_one_outcome() {
    let mut fleet = Fleet::start(1).await;
    let known = restart_without_end(&fleet, 0, "code-server").await;
    let backup = fleet.folder.path().join("backup");
    admin::backup(&fleet.hub_config.data_dir, Box::new(fs::File::create(&backup).unwrap())).await.unwrap();
    restore(&mut fleet, &backup).await;
    let behind = eventually("the hub takes commands", SOON, async || {
        fleet.alice.submit(nothing(), &[&fleet.agents[0].id]).await.ok()
    })
    .await;
    accept_restore(&fleet).await;
    assert!(succeeded(&outcome(&fleet, 0, behind).await), "behind it in the new epoch");
    assert_eq!(state(&fleet, 0, known).await, CommandState::Running);

    // Places in the new epoch stay as they are when the hub starts once more.
    fleet.stop_hub().await;
    fleet.start_hub().await;
    fleet.connected(0).await;
    tasks(&fleet, 0, "code-server", "normal").await;
    assert!(succeeded(&outcome(&fleet, 0, known).await));
    assert!(succeeded(&fleet.alice.run(nothing(), &fleet.agents[0].id).await.unwrap()));
    assert_eq!(restarts(&fleet, 0).await, 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_journal_gets_nothing_and_the_list_says_why() {
    let mut fleet = Fleet::without_aws(2).await;
    // The first has had a command, the second has not: neither may start again from nothing.
    assert!(succeeded(&fleet.alice.run(nothing(), &fleet.agents[0].id).await.unwrap()));
    for number in 0..2 {
        fleet.stop_agent(number).await;
        fs::remove_dir_all(fleet.agents[number].config.data_dir.join("journal")).unwrap();
        fleet.start_agent(number).await;
        fleet.connected(number).await;
        let why = note(&fleet, number).await;
        assert!(why.contains("journal") && why.contains("invite it again"), "agent {number}: {why}");
        let id = submit(&fleet, number, restart("daemon")).await;
        let link = fleet.link(number);
        assert!(link.borrow().connected);
        assert_eq!(state(&fleet, number, id).await, CommandState::Waiting);
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_full_queue_takes_no_more_and_the_hub_says_what_to_do() {
    let mut fleet = Fleet::without_aws(2).await;
    fleet.stop_agent(0).await;
    let la = [&fleet.agents[0].id];
    let submits = stream::iter(0..limits::QUEUE_PER_AGENT).map(|_| fleet.alice.submit(nothing(), &la));
    let taken = submits.buffer_unordered(64).filter_map(async |taken| taken.ok()).count().await;
    assert_eq!(taken, limits::QUEUE_PER_AGENT);
    let refused = fleet.alice.submit(nothing(), &la).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("cancel some or wait"), "{}", refused.message());
    let other = &fleet.agents[1].id;
    assert!(succeeded(&fleet.alice.run(nothing(), other).await.unwrap()), "others are not affected");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_falls_silent_is_away_within_45_seconds_and_comes_back() {
    let mut fleet = Fleet::without_aws(1).await;
    let wire = fleet.wire(0).await;
    let silent = Timestamp::now().as_millisecond();
    wire.stall();
    let away = eventually("the agent is away", Duration::from_secs(45), async || {
        let agent = fleet.alice.agent(&fleet.agents[0].id).await.ok()?;
        (agent.state() == wire::AgentState::Away).then_some(agent)
    })
    .await;
    let now = Timestamp::now().as_millisecond();
    assert!((silent - 5_000..=now).contains(&away.since_unix_ms), "since {} in {silent}..{now}", away.since_unix_ms);
    assert!(away.last_seen_unix_ms <= silent + 5_000);
    wire.cut();
    wire.mend();
    fleet.connected(0).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_a_change_of_the_platform_within_seconds() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    let webserver = async || {
        let health = fleet.alice.agent(la).await.ok()?.health?;
        health.ecs?.services.into_iter().find(|service| service.role == "webserver")
    };
    let before = eventually("the list shows the webserver", SOON, webserver).await;
    assert_eq!((before.desired, before.running), (0, 0));
    assert!(succeeded(&fleet.alice.run(scale("webserver", 2), la).await.unwrap()));
    eventually("the list shows two webservers", Duration::from_secs(8), async || {
        webserver().await.filter(|service| (service.desired, service.running) == (2, 2))
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_tells_how_far_its_clock_is_off() {
    let mut fleet = Fleet::without_aws(1).await;
    let near =
        eventually("the list shows a skew", SOON, async || fleet.alice.agent(&fleet.agents[0].id).await.ok()?.health);
    assert!(near.await.clock_skew_ms.abs() < 2_000);
    fleet.stop_hub().await;
    let hub = RogueHub::in_place_of(&fleet).await.unwrap();
    let behind = Timestamp::now() - Duration::from_secs(90);
    let mut held = hub.agent_at(1, behind).await;
    let health = held.health().await.expect("the agent reports at once");
    assert!((85_000..=100_000).contains(&health.clock_skew_ms), "{}", health.clock_skew_ms);
    drop(held);
    fleet.stop_agent(0).await;
    hub.stop().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_nobody_waits_for_is_delivered_all_the_same() {
    let fleet = Fleet::without_aws(1).await;
    let la = &fleet.agents[0].id;
    let mut ids = Vec::new();
    for patience in 0..40_u64 {
        let command = fleet.alice.command(nothing(), &[la]);
        ids.push(command.id);
        let submit = fleet.alice.hand_in(fleet.alice.sign(&command));
        let _ = tokio::time::timeout(Duration::from_micros(patience * 250), submit).await;
    }
    let behind = submit(&fleet, 0, nothing()).await;
    assert!(succeeded(&outcome(&fleet, 0, behind).await), "nobody who left blocks the way");
    for id in ids {
        if fleet.alice.show(id).await.is_ok() {
            assert!(succeeded(&outcome(&fleet, 0, id).await));
        }
    }
    let unfinished = wire::ListCommandsRequest { unfinished: true, ..Default::default() };
    eventually("nothing is unfinished", SOON, async || {
        let commands = fleet.alice.client.clone().list_commands(unfinished.clone()).await.ok()?.into_inner().commands;
        commands.is_empty().then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_asked_twice_for_the_same_command_has_it_once() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    let command = fleet.alice.sign(&fleet.alice.command(restart("daemon"), &[la]));
    let ids = futures::future::join_all((0..5).map(|_| fleet.alice.hand_in(command.clone()))).await;
    let id = *ids[0].as_ref().unwrap();
    assert!(ids.iter().all(|other| other.as_ref().is_ok_and(|other| *other == id)), "{ids:?}");
    assert!(succeeded(&outcome(&fleet, 0, id).await));
    assert_eq!(fleet.alice.hand_in(command).await.unwrap(), id, "also when it has ended");
    assert_eq!(restarts(&fleet, 0).await, 1);
    fleet.stop().await;
}
