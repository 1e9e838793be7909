//! The LA's own say at a running agent: its policy, its freezes and its approval hold against a hub and an operator in the
//! wrong hands, and nothing of the policy leaves the account but the names of rules.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{path::PathBuf, time::Duration};

use prost::Message as _;
use sfdata_agent::{
    approvals::{self, Approvals},
    audit,
    policy::{Brake, Freeze},
};
use sfdata_common::{
    Timestamp,
    command::{Action, LogSource, Logs, LogsUntil, Power},
    ids::CommandId,
    keys::SigningKey,
    outcome::{Outcome, RefusalReason},
    policy::local,
    sealed::Opener,
    trust::Role,
};
use sfdata_proto::v1::{CommandState, connect_request::Message as FromAgent, connect_response::Message as FromHub};
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    process::{Run, outcome as run},
    settings::write_agent,
};

use crate::door::{Taken, fleet_with, harmless, member, seal};

const MINUTE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);
/// Words that stand in the policy alone.
const SECRET: &str = "zanzibar";

/// Reads are free, cancelling waits for the LA, the rest is forbidden in words that nobody shall see.
fn on_approval() -> String {
    format!(
        "@id(\"looking\") permit (principal, action in Action::\"read\", resource);\n\
         @id(\"asked\") @approval(\"la\") @description(\"{SECRET} 1\")\n\
         permit (principal, action in [Action::\"operate\", Action::\"data\"], resource)\n\
         unless {{ context.reason like \"*{SECRET}*\" }};\n\
         // {SECRET} 2\n\
         @id(\"closed\") forbid (principal, action, resource) when {{ context.reason == \"{SECRET} 3\" }};\n\
         @id(\"no changes in a freeze\") forbid (principal, action in Action::\"change\", resource)\n\
         when {{ !context.freezes.isEmpty() }};\n\
         permit (principal, action in Action::\"change\", resource);\n"
    )
}

fn freeze_now() -> Freeze {
    let today = local(Timestamp::now()).date();
    Freeze { name: "SSDA903 return".into(), from: today.yesterday().unwrap(), to: today.tomorrow().unwrap() }
}

fn change() -> Action {
    Action::Power(Power::SetMode { manual: true })
}

fn approvals(fleet: &Fleet) -> Approvals {
    Approvals::new(&fleet.agents[0].config.data_dir)
}

fn record(fleet: &Fleet, id: CommandId) -> Vec<String> {
    let entries = audit::read(&fleet.agents[0].config.data_dir).unwrap().map(|entry| entry.unwrap().0);
    entries.filter(|entry| entry.command_id == id.to_string()).map(|entry| entry.outcome).collect()
}

/// Wait until a command waits for the LA's word.
async fn waits(fleet: &Fleet, id: CommandId) -> approvals::Waiting {
    eventually("it waits for the LA", SOON, async || {
        let list = approvals(fleet).list().ok()?;
        list.into_iter().map(|(waiting, _)| waiting).find(|waiting| waiting.id == id)
    })
    .await
}

/// A fleet of one whose LA has to approve.
async fn asking() -> Fleet {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.with_policy(0, &on_approval()).await;
    fleet
}

/// The one agent as a real process that can be killed.
struct Real {
    config: PathBuf,
    run: Run,
}

impl Real {
    async fn of(fleet: &mut Fleet) -> Self {
        fleet.stop_agent(0).await;
        let folder = fleet.folder.path();
        let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap();
        let run = Self::start(&config, fleet);
        fleet.connected(0).await;
        Self { config, run }
    }

    fn start(config: &std::path::Path, fleet: &Fleet) -> Run {
        Run::start("sfdata-agent", &["--config", &config.display().to_string(), "run"], fleet.folder.path())
    }

    async fn kill_and_restart(&mut self, fleet: &Fleet) {
        self.run.process.kill();
        self.run = Self::start(&self.config, fleet);
        fleet.connected(0).await;
    }

    async fn said(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let config = self.config.display().to_string();
        run("sfdata-agent", &[&["--config", config.as_str()], args].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_the_wrong_hands_passes_neither_policy_nor_freeze_nor_approval() {
    let mallory = SigningKey::generate().unwrap();
    let hostile = vec![member("mallory", &mallory, Role::Admin, Timestamp::now() + 60 * MINUTE)];
    let mut fleet = fleet_with(hostile, false).await;
    fleet.agents[0].config.freeze = vec![freeze_now()];
    fleet.with_policy(0, &on_approval()).await;
    let mut taken = Taken::over(fleet).await;
    let by_mallory = |taken: &Taken, action: Action, reason: &str| {
        let mut command = taken.ordered(action);
        command.operator = "mallory".parse().unwrap();
        command.reason = reason.into();
        command
    };
    let logs = Action::Logs(Logs::Read {
        source: LogSource::Service("daemon".into()),
        since: Timestamp::now() - MINUTE,
        until: LogsUntil::Now,
        grep: String::new(),
        limit: 10,
        deadline: MINUTE,
    });
    // What only an LA's words could tell: everything that comes back is looked through for them.
    let mut heard = Vec::new();
    for (action, reason, why, told) in [
        (change(), "", RefusalReason::Frozen, "SSDA903 return"),
        (harmless(), "zanzibar 3", RefusalReason::LocalPolicy, "rule \"closed\""),
        (logs, "zanzibar", RefusalReason::LocalPolicy, "no rule permits it"),
    ] {
        taken.used += 1;
        let mut command = by_mallory(&taken, action, reason);
        command.reply_key =
            Opener::generate().ok().filter(|_| command.action.reveals_data()).map(|key| key.reply_key());
        let delivery = taken.delivery(taken.used, &seal(&command, &mallory));
        taken.held.send(FromHub::Delivery(delivery)).await;
        let refused = eventually("it is refused", SOON, async || {
            let said = taken.held.anything().await?;
            heard.push(format!("{said:?}"));
            let FromAgent::Receipt(receipt) = said else { return None };
            let receipt = sfdata_proto::v1::Receipt::decode(&receipt.payload[..]).unwrap();
            Outcome::try_from(receipt.outcome?).ok().filter(|_| receipt.command_id == command.id.to_string())
        })
        .await;
        heard.push(format!("{refused:?}"));
        let Outcome::Refused { reason, detail } = refused else { panic!("{refused:?}") };
        assert!(reason == why && detail.contains(told), "{reason:?} {detail}");
    }
    // What waits, waits, whatever the hub says; an approval can be delivered by no message.
    taken.used += 1;
    let command = by_mallory(&taken, harmless(), "please");
    taken.held.send(FromHub::Delivery(taken.delivery(taken.used, &seal(&command, &mallory)))).await;
    let waiting = waits(&taken.fleet, command.id).await;
    assert_eq!((waiting.operator.as_str(), waiting.reason.as_str()), ("mallory", "please"));
    eventually("the hub is told that it waits", SOON, async || {
        let said = taken.held.anything().await?;
        heard.push(format!("{said:?}"));
        matches!(said, FromAgent::Progress(progress) if progress.command_id == waiting.id.to_string()).then_some(())
    })
    .await;
    taken.again(1).await;
    assert!(taken.held.hello.waiting.contains(&command.id.to_string()));
    taken.used += 1;
    let second = taken.delivery(taken.used, &seal(&command, &mallory));
    taken.held.send(FromHub::Delivery(second)).await;
    let told = eventually("the repetition is refused", SOON, async || {
        let said = taken.held.anything().await?;
        heard.push(format!("{said:?}"));
        match said {
            FromAgent::Rejected(rejected) => Some(rejected.refused?.reason()),
            FromAgent::Receipt(receipt) => {
                let receipt = sfdata_proto::v1::Receipt::decode(&receipt.payload[..]).unwrap();
                assert_ne!(receipt.command_id, command.id.to_string(), "it ended");
                None
            }
            _ => None,
        }
    })
    .await;
    assert_eq!(told, RefusalReason::AlreadySeen);
    assert_eq!(record(&taken.fleet, command.id).len(), 1, "only the repetition is on record");
    let heard = heard.join("\n");
    assert!(heard.contains("SSDA903 return") && heard.contains("waits for the LA"), "it was looked through: {heard}");
    for secret in [SECRET, "context.", "principal", "looking", "asked"] {
        assert!(!heard.contains(secret), "{secret} has left the account: {heard}");
    }
    taken.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_in_nobodys_way_until_the_la_says_yes_or_no() {
    let fleet = asking().await;
    let (alice, la) = (&fleet.alice, &fleet.agents[0].id);
    let first = alice.submit(harmless(), &[la]).await.unwrap();
    let second = alice.submit(harmless(), &[la]).await.unwrap();
    let third = alice.submit(harmless(), &[la]).await.unwrap();
    let asked = waits(&fleet, first).await;
    assert_eq!(
        (asked.action.as_str(), asked.class.as_str(), asked.operator.as_str()),
        ("agent.cancel", "operate", "alice")
    );
    assert_eq!((asked.reason.as_str(), asked.targets.as_slice()), ("a test", &[la.to_string()][..]));
    waits(&fleet, second).await;
    waits(&fleet, third).await;

    // The operator sees what it waits for, also who looks later.
    let step = eventually("the operator sees it", SOON, async || {
        let shown = alice.show(first).await.ok()?;
        let target = &shown.targets[0];
        let progress = target.progress.clone()?;
        (target.state() == CommandState::Received).then_some(progress.step)
    })
    .await;
    assert_eq!(step, format!("waits for the LA: sfdata-agent approve {first}"));

    // Others go on: a read, and a change that needs no approval.
    let read = alice.run(Action::Agent(sfdata_common::command::Agent::Refresh), la).await.unwrap();
    assert!(matches!(read, Outcome::Succeeded(_)), "{read:?}");
    let other = alice.run(change(), la).await.unwrap();
    assert!(!matches!(other, Outcome::Refused { .. }), "{other:?}");

    // Yes to the second, no to the first: each is for itself.
    approvals(&fleet).give(second, true, "seen", Timestamp::now()).unwrap();
    assert!(matches!(alice.outcome(second, la).await.unwrap(), Outcome::Succeeded(_)));
    approvals(&fleet).give(first, false, "not this week", Timestamp::now()).unwrap();
    let refused = alice.outcome(first, la).await.unwrap();
    let Outcome::Refused { reason: RefusalReason::LaRefused, detail } = refused else { panic!("{refused:?}") };
    assert!(detail.contains("not this week"), "{detail}");
    assert_eq!(approvals(&fleet).list().unwrap().len(), 1, "the third waits still");
    let said = record(&fleet, second);
    assert!(said.len() == 2 && said[0].starts_with("approved by ") && said[1] == "succeeded", "{said:?}");
    let said = record(&fleet, first);
    assert!(said[0].starts_with("refused by ") && said[1].starts_with("refused: la-refused: "), "{said:?}");

    // What waits can be taken back by its operator.
    let cancel = Action::Agent(sfdata_common::command::Agent::CancelOwn(third));
    assert!(matches!(alice.run(cancel, la).await.unwrap(), Outcome::Succeeded(_)));
    assert!(matches!(alice.outcome(third, la).await.unwrap(), Outcome::Cancelled { .. }));
    assert!(approvals(&fleet).list().unwrap().is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_on_another_command_a_hold_and_the_expiry_keep_it_from_being_begun() {
    let fleet = asking().await;
    let (alice, la) = (&fleet.alice, &fleet.agents[0].id);
    let folder = fleet.agents[0].config.data_dir.clone();

    // A word of another digest under its id does not count, and the right one does afterwards.
    let id = alice.submit(harmless(), &[la]).await.unwrap();
    waits(&fleet, id).await;
    let word = folder.join("approvals").join(format!("{id}.word.json"));
    let forged = approvals::Word {
        digest: hex::encode([7; 32]),
        approved: true,
        reason: String::new(),
        by: "mallory".into(),
        at: Timestamp::now(),
    };
    std::fs::write(&word, serde_json::to_vec(&forged).unwrap()).unwrap();
    // Two more are approved meanwhile, one after the other: the agent has looked at each word that there is.
    for _ in 0..2 {
        let other = alice.submit(harmless(), &[la]).await.unwrap();
        waits(&fleet, other).await;
        approvals(&fleet).give(other, true, "", Timestamp::now()).unwrap();
        assert!(matches!(alice.outcome(other, la).await.unwrap(), Outcome::Succeeded(_)));
    }
    assert_eq!(alice.state(id, la).await.unwrap(), CommandState::Received);
    assert!(record(&fleet, id).is_empty());
    approvals(&fleet).give(id, true, "", Timestamp::now()).unwrap();
    assert!(matches!(alice.outcome(id, la).await.unwrap(), Outcome::Succeeded(_)));

    // A hold that came meanwhile stands over an approval.
    let id = alice.submit(harmless(), &[la]).await.unwrap();
    waits(&fleet, id).await;
    let brake = Brake::new(&folder);
    brake.hold("inspection", Timestamp::now()).unwrap();
    approvals(&fleet).give(id, true, "", Timestamp::now()).unwrap();
    let refused = alice.outcome(id, la).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { reason: RefusalReason::Held, .. }), "{refused:?}");
    brake.release().unwrap();

    // And it ends at the command's own expiry.
    let mut command = alice.command(harmless(), &[la]);
    command.expires = command.not_before + Duration::from_secs(6);
    let id = alice.hand_in(alice.sign(&command)).await.unwrap();
    waits(&fleet, id).await;
    let ended = alice.outcome(id, la).await.unwrap();
    let Outcome::Refused { reason: RefusalReason::Expired, detail } = ended else { panic!("{ended:?}") };
    assert!(detail.contains("waited for the LA"), "{detail}");
    assert!(approvals(&fleet).list().unwrap().is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_and_a_word_outlive_kill_9() {
    let mut fleet = asking().await;
    let mut real = Real::of(&mut fleet).await;
    let (alice, la) = (&fleet.alice, &fleet.agents[0].id);
    let id = alice.submit(harmless(), &[la]).await.unwrap();
    let other = alice.submit(harmless(), &[la]).await.unwrap();
    waits(&fleet, id).await;
    waits(&fleet, other).await;
    real.kill_and_restart(&fleet).await;
    eventually("the hub learns that it waits", SOON, async || {
        (alice.state(id, la).await.ok()? == CommandState::Received).then_some(())
    })
    .await;

    // Approved on the command line while nothing runs.
    real.run.process.kill();
    let (code, listed, _) = real.said(&["approvals"]).await;
    assert_eq!(code, Some(0));
    for word in [id.to_string(), other.to_string(), "agent.cancel".into(), "alice".into(), la.to_string()] {
        assert!(listed.contains(&word), "{word} is missing:\n{listed}");
    }
    let (code, _, said) = real.said(&["approve", &id.to_string()]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = real.said(&["refuse", &id.to_string(), "--reason", "late"]).await;
    assert!(code == Some(1) && said.contains("was approved already"), "{said}");
    let (code, _, said) = real.said(&["approve", &CommandId::generate().to_string()]).await;
    assert!(code == Some(1) && said.contains("see sfdata-agent approvals"), "{said}");
    real.run = Real::start(&real.config, &fleet);
    fleet.connected(0).await;
    assert!(matches!(alice.outcome(id, la).await.unwrap(), Outcome::Succeeded(_)));
    let list = approvals(&fleet).list().unwrap();
    assert_eq!(list.iter().map(|(waiting, _)| waiting.id).collect::<Vec<_>>(), [other]);
    let said = record(&fleet, id);
    assert!(said.len() == 2 && said[0].starts_with("approved by "), "{said:?}");
    real.run.process.kill();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_refuses_changes_and_nothing_else_and_tells_its_name_and_end() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let freeze = freeze_now();
    fleet.agents[0].config.freeze = vec![freeze.clone()];
    let file = fleet.folder.path().join("frozen.toml");
    write_agent(&fleet.agents[0].config, &file).unwrap();
    fleet.agents[0].config.file = Some(file.clone());
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let (alice, la) = (&fleet.alice, &fleet.agents[0].id);
    let refused = alice.run(change(), la).await.unwrap();
    let Outcome::Refused { reason: RefusalReason::Frozen, detail } = refused else { panic!("{refused:?}") };
    assert!(detail.contains(&format!("SSDA903 return (to {})", freeze.to)), "{detail}");
    let read = alice.run(Action::Agent(sfdata_common::command::Agent::Refresh), la).await.unwrap();
    let operated = alice.run(harmless(), la).await.unwrap();
    assert!(matches!((&read, &operated), (Outcome::Succeeded(_), Outcome::Succeeded(_))), "{read:?} {operated:?}");

    // It is taken out of the file: the running agent sees that with the next command.
    let mut config = fleet.agents[0].config.clone();
    config.freeze.clear();
    write_agent(&config, &file).unwrap();
    let outcome = alice.run(change(), la).await.unwrap();
    assert!(!matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_in_the_policy_is_refused_at_the_start_and_told_by_check() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path();
    let policy = folder.join("slip.cedar");
    std::fs::write(&policy, "// Ours.\nforbid (principal, action == Action::\"ecs.restrat\", resource);\n").unwrap();
    fleet.agents[0].config.policy = Some(policy.clone());
    fleet.agents[0].config.freeze = vec![freeze_now()];
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let with = |args: &[&'static str]| [&["--config", config.as_str()], args].concat();
    for args in [&["run"][..], &["check-config"], &["policy", "check"]] {
        let (code, _, said) = run("sfdata-agent", &with(args)).await;
        assert!(code == Some(1) && said.contains("line 2: ") && said.contains("ecs.restart"), "{args:?}: {said}");
    }

    let text =
        format!("{}\npermit (principal, action, resource) when {{ context.hour > 30 && false }};\n", on_approval());
    std::fs::write(&policy, text).unwrap();
    let (code, _, said) = run("sfdata-agent", &with(&["policy", "check"])).await;
    assert_eq!(code, Some(0), "{said}");
    for told in ["warning: line 11: ", "is valid", "freeze \"SSDA903 return\"", "in force"] {
        assert!(said.contains(told), "{told} is missing: {said}");
    }

    let explain = ["policy", "explain", "--operator", "alice", "--role", "admin", "--action"];
    let (code, said, _) = run("sfdata-agent", &with(&[&explain[..], &["ecs.deploy"]].concat())).await;
    assert!(code == Some(3) && said.starts_with("denied\n") && said.contains("no changes in a freeze"), "{said}");
    let (code, said, _) = run("sfdata-agent", &with(&[&explain[..], &["ecs.restart", "-o", "json"]].concat())).await;
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["verdict"], &json["rules"][0]["id"]), (Some(0), &"on approval".into(), &"asked".into()));
    assert_eq!((&json["rules"][0]["line"], &json["freezes"][0]["name"]), (&2.into(), &"SSDA903 return".into()));

    // A freeze that ends before it begins is told with all else that is wrong with the configuration.
    let freeze = freeze_now();
    fleet.agents[0].config.freeze = vec![Freeze { from: freeze.to, to: freeze.from, ..freeze }];
    write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap();
    let (code, _, said) = run("sfdata-agent", &with(&["check-config"])).await;
    assert!(code == Some(1) && said.contains("freeze \"SSDA903 return\" ends before it begins"), "{said}");
    fleet.stop().await;
}
