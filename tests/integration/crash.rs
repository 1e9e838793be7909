//! `kill -9` of hub and agents at 200 seeded random instants under load: every command ends once and takes effect once,
//! counted at AWS and not in our own books.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use sfdata_common::{
    command::{Action, Agent, Ecs},
    ids::{AgentId, CommandId},
    keys::sha256,
    outcome::Outcome,
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    operator::Operator,
    process::Process,
    settings::{write_agent, write_hub},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

const KILLS: usize = 200;
/// Between two kills, in milliseconds: from an instant in the middle of starting to some work done.
const PAUSE: std::ops::Range<u64> = 50..600;
/// From the last start of everything until everything has ended.
const REST: Duration = Duration::from_secs(60);

/// splitmix64: the instants can be repeated, what the machine makes of them can't.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test has no configuration file")]
        let given = std::env::var("SFDATA_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_micros() as u64));
        eprintln!("SFDATA_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A real binary that is killed and started again.
struct Victim {
    binary: &'static str,
    config: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Victim {
    fn start(binary: &'static str, config: PathBuf, folder: &Path) -> Self {
        let log = folder.join(config.with_extension("log").file_name().unwrap_or_default());
        let process = Self::spawn(binary, &config, &log);
        Self { binary, config, log, process }
    }

    fn spawn(binary: &str, config: &Path, log: &Path) -> Process {
        Process::start(binary, &["--config", &config.display().to_string(), "run"], log).expect("the binary starts")
    }

    fn kill(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("{} ended by itself with {status}; see {}", self.binary, self.log.display());
        }
        self.process.kill();
    }

    fn restart(&mut self) {
        self.process = Self::spawn(self.binary, &self.config, &self.log);
    }
}

/// What was ordered, noted before it is submitted.
struct Ordered {
    id: CommandId,
    action: Action,
    targets: Vec<AgentId>,
}

/// Submits one kind of command after the other until told to stop; two at a time, so that some wait.
struct Submitter<'a> {
    alice: &'a Operator,
    targets: Vec<&'a AgentId>,
    actions: Vec<Action>,
    ledger: &'a Mutex<Vec<Ordered>>,
    stop: &'a CancellationToken,
}

impl Submitter<'_> {
    async fn run(self) {
        let mut next = self.actions.iter().cycle();
        while !self.stop.is_cancelled() {
            let mut ids = Vec::new();
            for action in next.by_ref().take(2) {
                ids.push(self.submit(action).await);
            }
            for id in ids {
                for target in &self.targets {
                    // It waits for a minute at most, and there is no hurry.
                    while let Err(late) = self.alice.outcome(id, target).await {
                        assert!(!self.stop.is_cancelled(), "{late:#}");
                    }
                }
            }
        }
    }

    /// The same signed command until the hub says that it has it.
    async fn submit(&self, action: &Action) -> CommandId {
        let command = self.alice.command(action.clone(), &self.targets);
        let (id, signed) = (command.id, self.alice.sign(&command));
        let ordered = Ordered { id, action: command.action, targets: command.targets };
        self.ledger.lock().expect("nobody panicked").push(ordered);
        eventually("the hub takes a command", Duration::from_secs(60), async || {
            match tokio::time::timeout(Duration::from_secs(5), self.alice.hand_in(signed.clone())).await {
                Ok(Ok(taken)) => {
                    assert_eq!(taken, id);
                    Some(())
                }
                Ok(Err(status)) => {
                    let gone =
                        matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
                    assert!(gone, "the hub does not take {}: {status}", command_name(action));
                    None
                }
                Err(_) => None,
            }
        })
        .await;
        id
    }
}

fn command_name(action: &Action) -> String {
    format!("{} {}", action.name(), service_of(action).unwrap_or_default())
}

fn service_of(action: &Action) -> Option<&str> {
    match action {
        Action::Ecs(Ecs::Restart { service, .. } | Ecs::Scale { service, .. }) => Some(service),
        _ => None,
    }
}

fn restart(service: &str) -> Action {
    Action::Ecs(Ecs::Restart { service: service.into(), deadline: Duration::from_secs(120) })
}

fn scale(desired: u32) -> Action {
    Action::Ecs(Ecs::Scale { service: "webserver".into(), desired, deadline: Duration::from_secs(120) })
}

/// Kill somebody, start them again, and so on; sometimes two at once.
async fn kill_at_random(victims: &mut [Victim], random: &mut Random) {
    let count = victims.len() as u64;
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(PAUSE.start + random.below(PAUSE.end - PAUSE.start))).await;
        let first = random.below(count) as usize;
        let second = (random.below(4) == 0).then(|| (first + 1) % victims.len());
        for dies in second.into_iter().chain([first]) {
            victims[dies].kill();
        }
        for dies in second.into_iter().chain([first]) {
            victims[dies].restart();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_every_command_ends_once_and_takes_effect_once() {
    let mut random = Random::seeded();
    let mut fleet = Fleet::start(2).await;
    fleet.folder.disable_cleanup(true); // for whoever reads the logs
    for member in &fleet.agents {
        let ready = fleet.alice.run(scale(1), &member.id).await.expect("the webserver is scaled");
        assert!(matches!(ready, Outcome::Succeeded(_)), "{ready:?}");
    }
    fleet.stop_agent(0).await;
    fleet.stop_agent(1).await;
    fleet.stop_hub().await;

    let folder = fleet.folder.path().to_owned();
    let mut victims =
        vec![Victim::start("sfdata-hub", write_hub(&fleet.hub_config, &folder.join("hub.toml")).unwrap(), &folder)];
    for member in &fleet.agents {
        let config = write_agent(&member.config, &folder.join(format!("{}.toml", member.id))).unwrap();
        victims.push(Victim::start("sfdata-agent", config, &folder));
    }
    fleet.connected(0).await;
    fleet.connected(1).await;

    let (ledger, stop) = (Mutex::default(), CancellationToken::new());
    let submitter = |targets: &[usize], actions: Vec<Action>| {
        let targets = targets.iter().map(|number| &fleet.agents[*number].id).collect();
        Submitter { alice: &fleet.alice, targets, actions, ledger: &ledger, stop: &stop }.run()
    };
    let refresh = || vec![Action::Agent(Agent::Refresh)];
    let mut submitters = vec![submitter(&[0, 1], vec![restart("webserver")]), submitter(&[0, 1], refresh())];
    for number in 0..2 {
        submitters.push(submitter(&[number], vec![restart("code-server")]));
        submitters.push(submitter(&[number], vec![restart("daemon"), restart("code-server")]));
        submitters.push(submitter(&[number], vec![scale(2), scale(3), scale(1)]));
        submitters.push(submitter(&[number], refresh()));
    }
    let killing = async {
        kill_at_random(&mut victims, &mut random).await;
        stop.cancel();
    };
    tokio::join!(killing, futures::future::join_all(submitters));

    let ledger = ledger.into_inner().expect("nobody panicked");
    check(&fleet, &ledger).await;
    for victim in &mut victims {
        victim.process.terminate().unwrap();
        let status = eventually("it stops in order", REST, async || victim.process.ended()).await;
        assert!(status.success(), "{}: {status}", victim.binary);
    }
    for member in &fleet.agents {
        check_record(&member.config.data_dir, &member.id, &ledger);
    }
    fleet.folder.disable_cleanup(false);
}

async fn check(fleet: &Fleet, ledger: &[Ordered]) {
    let unfinished = wire::ListCommandsRequest { unfinished: true, ..Default::default() };
    eventually("nothing is unfinished", REST, async || {
        let left = fleet.alice.client.clone().list_commands(unfinished.clone()).await.ok()?.into_inner().commands;
        left.is_empty().then_some(())
    })
    .await;

    let audit = fleet.alice.audit().await.unwrap();
    check_chain(&audit);
    let odd: Vec<_> = audit.iter().filter(|entry| ODD.contains(&entry.kind.as_str())).collect();
    assert!(odd.is_empty(), "what no crash explains: {odd:?}");
    let entries = |kinds: &[&str], id: CommandId, agent: &str| {
        let id = id.to_string();
        let fits = |entry: &&wire::AuditEntry| {
            kinds.contains(&entry.kind.as_str())
                && entry.subject == id
                && entry.detail.split(' ').any(|word| agent.is_empty() || word == agent)
        };
        audit.iter().filter(fits).count()
    };
    const ENDS: [&str; 5] =
        ["command.succeeded", "command.failed", "command.refused", "command.expired", "command.cancelled"];
    let mut restarts = BTreeMap::<(&AgentId, &str), usize>::new();
    for Ordered { id, action, targets } in ledger {
        let shown = fleet.alice.show(*id).await.expect("what was taken is known").targets;
        assert_eq!(shown.len(), targets.len());
        assert_eq!(entries(&["command.submitted"], *id, ""), 1, "{id}");
        for agent in targets {
            let target = shown.iter().find(|target| target.agent_id == agent.as_str()).expect("a target");
            let outcome = target.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok());
            assert!(
                matches!(outcome, Some(Outcome::Succeeded(_))),
                "{} {id} at {agent}: {outcome:?}",
                command_name(action)
            );
            assert!(target.receipt.is_some(), "{id} at {agent} has no receipt");
            assert_eq!(entries(&ENDS, *id, agent.as_str()), 1, "{id} at {agent} ended once");
            if let Action::Ecs(Ecs::Restart { service, .. }) = action {
                *restarts.entry((agent, service)).or_default() += 1;
            }
        }
    }

    let mut forced = BTreeMap::<(&AgentId, &str), usize>::new();
    let calls = async |number: usize| {
        fleet.aws().calls(&fleet.agents[number].account.id, "ecs", "UpdateService").await.unwrap()
    };
    let calls = [calls(0).await, calls(1).await];
    for (number, call) in
        calls.iter().enumerate().flat_map(|(number, calls)| calls.iter().map(move |call| (number, call)))
    {
        if call["params"]["forceNewDeployment"] == true {
            let service = call["params"]["service"].as_str().expect("a service");
            *forced.entry((&fleet.agents[number].id, service)).or_default() += 1;
        }
    }
    assert_eq!(forced, restarts, "what ECS was told, and what succeeded");
    eprintln!("{} commands, restarts {restarts:?}", ledger.len());
    assert!(ledger.len() > 100 && restarts.len() == 6, "there was load");
}

/// A second receipt of another content, a delivery that the agent's door did not take, an instance taken for a clone.
const ODD: [&str; 3] = ["receipt.stray", "delivery.refused", "agent.locked"];

/// Each entry follows from the one before: nothing was lost, changed or put in.
fn check_chain(audit: &[wire::AuditEntry]) {
    let mut previous: Vec<u8> = vec![0; 32];
    for (index, entry) in audit.iter().enumerate() {
        assert_eq!(entry.index, index as u64);
        assert_eq!(entry.previous_hash[..], previous[..], "entry {index}");
        let plain = wire::AuditEntry { hash: Vec::new().into(), ..entry.clone() };
        let hash = sha256(&[previous, plain.encode_to_vec()].concat());
        assert_eq!(entry.hash[..], hash[..], "entry {index}");
        previous = hash.to_vec();
    }
}

/// An agent's own record holds together, and holds all that it did.
fn check_record(data_dir: &Path, agent: &AgentId, ledger: &[Ordered]) {
    let entries: Vec<_> =
        sfdata_agent::audit::read(data_dir).unwrap().map(|entry| entry.expect("the record holds").0).collect();
    for Ordered { id, .. } in ledger.iter().filter(|ordered| ordered.targets.contains(agent)) {
        assert!(entries.iter().any(|entry| entry.command_id == id.to_string()), "{id} is not in the record of {agent}");
    }
}
