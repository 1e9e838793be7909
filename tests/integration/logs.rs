//! Reading an LA's logs: only where the LA allows it, only for who asks, and never more than was asked for.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::json;
use sfdata_agent::policy::Brake;
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, LogSource, Logs, LogsUntil},
    ids::CommandId,
    limits,
    outcome::{FailureCode, Outcome, RefusalReason},
    trust::Role,
};
use sfdata_proto::v1::{LogsEnd, LogsResult, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet};

const SOON: Duration = Duration::from_secs(30);
const ALL: &str = "permit(principal, action, resource);";

fn read(source: LogSource) -> Logs {
    Logs::Read {
        source,
        since: Timestamp::now() - Duration::from_secs(3600),
        until: LogsUntil::Now,
        grep: String::new(),
        limit: 100,
        deadline: Duration::from_secs(60),
    }
}

fn service(name: &str) -> Action {
    Action::Logs(read(LogSource::Service(name.into())))
}

fn with(action: &Action, change: impl FnOnce(&mut String, &mut u32, &mut LogsUntil)) -> Action {
    let mut action = action.clone();
    if let Action::Logs(Logs::Read { grep, limit, until, .. }) = &mut action {
        change(grep, limit, until);
    }
    action
}

async fn fleet() -> Fleet {
    let mut fleet = Fleet::start(1).await;
    fleet.with_policy(0, ALL).await;
    fleet
}

/// What came of it, and the messages that came on the way.
async fn messages(fleet: &Fleet, action: Action) -> (Outcome, Vec<String>) {
    let (outcome, lines) = fleet.alice.read(action, &fleet.agents[0].id).await.unwrap();
    (outcome, lines.into_iter().map(|line| line.message).collect())
}

fn result(outcome: Outcome) -> LogsResult {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::Logs(read)) => read,
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not succeeded: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

fn holds(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holds(&path, text));
        } else if path.is_file()
            && std::fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_shows_no_log_until_its_la_allows_it() {
    let fleet = Fleet::start(1).await;
    let (outcome, lines) = messages(&fleet, service("daemon")).await;
    assert!(matches!(outcome, Outcome::Refused { reason: RefusalReason::LocalPolicy, .. }), "{outcome:?}");
    assert!(lines.is_empty());
    assert!(fleet.aws().calls(&fleet.agents[0].account.id, "logs", "FilterLogEvents").await.unwrap().is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_gets_the_lines_and_nobody_keeps_them() {
    let fleet = fleet().await;
    let account = &fleet.agents[0].account;
    let written = ["Jane Doe was moved", "ERROR no such file", "Error: again"];
    let task = fleet.aws().write(account, "daemon", &written).await.unwrap();

    let (outcome, lines) = messages(&fleet, service("daemon")).await;
    let told = result(outcome);
    assert_eq!(lines[lines.len() - 3..], written);
    assert_eq!((told.lines as usize, told.end()), (lines.len(), LogsEnd::All));

    let (outcome, lines) = messages(&fleet, with(&service("daemon"), |grep, _, _| *grep = "(?i)error".into())).await;
    assert_eq!((lines, result(outcome).lines), (vec![written[1].to_owned(), written[2].to_owned()], 2));

    let (outcome, lines) = messages(&fleet, with(&service("daemon"), |_, limit, _| *limit = 1)).await;
    assert_eq!((lines.len(), result(outcome).end()), (1, LogsEnd::Lines));

    let of_task = Action::Logs(read(LogSource::Task(task.clone())));
    let (outcome, lines) = messages(&fleet, of_task).await;
    assert_eq!((&lines[lines.len() - 3..], result(outcome).end()), (&written.map(str::to_owned)[..], LogsEnd::All));

    let folder = fleet.folder.path();
    assert!(!holds(folder, &task).is_empty(), "the search would find what is kept: the order names the task");
    assert_eq!(holds(folder, "Jane Doe"), Vec::<String>::new());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_later_is_followed_until_it_is_cancelled() {
    let mut fleet = fleet().await;
    let bob = fleet.operator("bob", Role::DataSteward).await;
    let la = &fleet.agents[0];
    let followed = with(&service("daemon"), |_, _, until| *until = LogsUntil::Followed);
    let mut reader = fleet.alice.reader(followed, &la.id).await.unwrap();
    for number in 0..3 {
        let line = format!("line {number}");
        fleet.aws().write(&la.account, "daemon", &[&line]).await.unwrap();
        eventually(&line, SOON, async || reader.lines().await.iter().any(|came| came.message == line).then_some(()))
            .await;
    }
    // Who ordered it may stop it, also while the LA holds its agent; nobody else may so.
    let brake = Brake::new(&la.config.data_dir);
    brake.hold("inspection", Timestamp::now()).unwrap();
    let own = Action::Agent(Agent::CancelOwn(reader.id));
    let (code, message) = failure(bob.run(own.clone(), &la.id).await.unwrap());
    assert!(code == FailureCode::AccessDenied && message.contains("alice"), "{message}");
    assert!(matches!(fleet.alice.run(own, &la.id).await.unwrap(), Outcome::Succeeded(_)));
    let unknown = Action::Agent(Agent::CancelOwn(CommandId::generate()));
    assert_eq!(failure(fleet.alice.run(unknown, &la.id).await.unwrap()).0, FailureCode::NotFound);
    brake.release().unwrap();
    let outcome = fleet.alice.outcome(reader.id, &la.id).await.unwrap();
    assert!(matches!(&outcome, Outcome::Cancelled { detail } if detail.contains("lines were told")), "{outcome:?}");
    let came: Vec<_> = reader.lines().await.iter().map(|line| line.message.clone()).collect();
    let once: BTreeSet<_> = came.iter().filter(|line| line.starts_with("line ")).collect();
    assert_eq!((once.len(), came.iter().filter(|line| line.starts_with("line ")).count()), (3, 3), "{came:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_command_streams_is_cut_and_says_so() {
    let fleet = fleet().await;
    let account = &fleet.agents[0].account;
    let line = "x".repeat(4_000);
    for _ in 0..4 {
        fleet.aws().write(account, "daemon", &vec![line.as_str(); 100]).await.unwrap();
    }
    let (outcome, lines) = messages(&fleet, with(&service("daemon"), |_, limit, _| *limit = limits::LOG_LINES)).await;
    let told = result(outcome);
    assert_eq!((told.end(), told.lines as usize), (LogsEnd::Bytes, lines.len()), "no part was lost");
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!((limits::LOG_BYTES * 9 / 10..=limits::LOG_BYTES).contains(&bytes), "{bytes}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_says_why() {
    let mut fleet = fleet().await;
    let (code, message) = failure(messages(&fleet, service("dagit")).await.0);
    assert!(code == FailureCode::NotFound && message.contains("daemon"), "{message}");
    let nobody = Action::Logs(read(LogSource::Task("0".repeat(32))));
    let (code, message) = failure(messages(&fleet, nobody).await.0);
    assert!(code == FailureCode::NotFound && message.contains("no log stream"), "{message}");
    let wrong = with(&service("daemon"), |grep, _, _| *grep = "(".into());
    assert_eq!(failure(messages(&fleet, wrong).await.0).0, FailureCode::Rejected);

    let account = fleet.agents[0].account.id.clone();
    let fault =
        |kind: &str, times| json!({"service": "logs", "action": "*", "kind": kind, "times": times, "account": account});
    fleet.aws().fault(fault("throttle", Some(3))).await.unwrap();
    assert_eq!(result(messages(&fleet, service("daemon")).await.0).end(), LogsEnd::All);
    fleet.aws().fault(fault("access_denied", None)).await.unwrap();
    let (code, message) = failure(messages(&fleet, service("daemon")).await.0);
    assert!(code == FailureCode::AccessDenied && message.contains("logs:FilterLogEvents"), "{message}");
    fleet.aws().heal().await.unwrap();

    // An agent that is started anew does not begin from the start.
    let followed = with(&service("daemon"), |_, _, until| *until = LogsUntil::Followed);
    let mut reader = fleet.alice.reader(followed, &fleet.agents[0].id).await.unwrap();
    eventually("a line", SOON, async || (!reader.lines().await.is_empty()).then_some(())).await;
    fleet.stop_agent(0).await;
    fleet.start_agent(0).await;
    let (code, message) = failure(fleet.alice.outcome(reader.id, &fleet.agents[0].id).await.unwrap());
    assert!(code == FailureCode::Unavailable && message.contains("ask again"), "{message}");
    fleet.stop().await;
}
