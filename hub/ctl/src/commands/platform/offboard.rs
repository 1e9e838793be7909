//! `hubctl platform offboard`: an LA's way out. What is under way ends, what the core account could read or order is taken
//! away, everything in the LA's account stays, and a record that its operator signed tells what was done.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    audit::Chain,
    command::{Action, Mode, Power, S3},
    envelope,
    ids::AgentId,
    keys::PublicKey,
};
use sfdata_proto::v1::{
    AgentState, AgentSummary, AuditEntry, ListAgentsRequest, LockAgentRequest, RemoveAgentRequest,
    UnregisterAgentRequest,
};
use tokio::time::{Instant, sleep};

use super::onboard::{look, without_entry};
use crate::{
    cli::Context,
    client::Hub,
    commands::{agents, audit},
    dsse::Dsse,
    exit::{Exit, Usage},
    order::{About, Ready},
    output,
    platform::{parameters::Parameters, templates::Place},
    profile::Profile,
    table::{Table, row},
    words,
};

/// What the record is signed as.
const PAYLOAD_TYPE: &str = "application/vnd.sfdata.offboarding.v1+json";
const FORMAT: &str = "sfdata-offboarding-v1";
/// Between two looks whether its commands have ended.
const LOOK: Duration = Duration::from_secs(2);

/// Let an LA out: end what is under way, take away all trust, and write a signed record
///
/// Waits until the agent's commands have ended, takes back what the core account may read of the shared bucket, leaves the
/// platform asleep or awake as --leave says, with its agent in manual mode, locks the agent out, and forgets it. Its account goes off the list in the core
/// account's parameters. Data, platform and the agent's own journal are the LA's and stay as they are; the hub keeps its
/// audit record. Where the agent cannot do its part, as one that is away, nothing is taken away without --force.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl platform offboard camden --leave awake --reason 'left the region'
  hubctl platform record camden.offboarded.json")]
pub(crate) struct Offboard {
    /// Agent's id
    id: AgentId,
    /// How its platform is left: nobody puts it to sleep or wakes it afterwards
    #[arg(long, value_enum)]
    leave: Leave,
    /// File with the core account's parameters
    #[arg(long, value_name = "FILE", default_value = "core.params")]
    core: PathBuf,
    /// Where the record is written [default: ID.offboarded.json]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Let it out although its agent could not do everything first; the record says what is left
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Leave {
    // The page and the daemon run, and are paid for.
    Awake,
    // What runs ends first.
    Asleep,
    // As it is now.
    AsItIs,
}

/// One thing that was done, or why it was not.
struct Step {
    what: &'static str,
    came: Result<String, String>,
}

impl Step {
    fn done(what: &'static str, came: impl Into<String>) -> Self {
        Self { what, came: Ok(came.into()) }
    }

    fn said(&self) -> String {
        match &self.came {
            Ok(came) => came.clone(),
            Err(why) => format!("not done: {why}"),
        }
    }
}

impl Offboard {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if !self.about.waits() {
            return Err(Usage("each step needs the one before: not with --no-wait".into()).into());
        }
        Parameters::read(&self.core, Place::Core)?;
        let path = self.record.clone().unwrap_or_else(|| format!("{}.offboarded.json", self.id).into());
        if path.exists() {
            bail!("{} is there already, and is left as it is; name another with --record", path.display());
        }
        let hub = Hub::connect(context).await?;
        let agent = look(&hub, &self.id).await?;
        let agent = agent.with_context(|| format!("there is no agent {}; see: hubctl agents list", self.id))?;
        if !self.yes && !output::confirm(format_args!("Let {} out, and forget its agent for good?", self.id))? {
            bail!("{} is left as it is; answer y, or give --yes", self.id);
        }
        // Key and record are needed in the end; they shall not fail there.
        let key = hub.signing_key().await?;
        let part = path.with_extension("part");
        let failed = || format!("the record {} cannot be written", part.display());
        fs::File::create(&part).with_context(failed)?;
        let operator = hub.profile.settings.operator.clone();
        let reason = self.about.reason.clone();
        let (hub, mut steps) = self.drain(hub, &agent).await?;
        let open: Vec<_> = steps.iter().filter(|step| step.came.is_err()).map(|step| step.what).collect();
        if !open.is_empty() && !self.force {
            fs::remove_file(&part).with_context(failed)?;
            bail!(
                "{} keeps its agent: {} could not be done, as told above; give the command again when it can, or --force to let it \
                 out as it is",
                self.id,
                open.join(", ")
            );
        }
        let before = look(&hub, &self.id).await?.unwrap_or(agent);
        let id = self.id.to_string();

        let request = LockAgentRequest { agent_id: id.clone(), reason: reason.clone() };
        hub.ask(format_args!("lock {id}"), hub.operator().lock_agent(request)).await?;
        steps.push(Step::done("locked out", "no command reaches it from here on"));
        if before.aws.is_some() {
            let request = UnregisterAgentRequest { agent_id: id.clone(), reason: reason.clone() };
            hub.ask(format_args!("unregister {id}"), hub.operator().unregister_agent(request)).await?;
        }
        let told = |steps: &[Step], audited: Value| {
            json!({
                "format": FORMAT,
                "agent": agents::to_json(&before),
                "trust_domain": hub.profile.settings.trust_domain,
                "operator": operator.as_str(),
                "reason": reason,
                "at": Timestamp::now(),
                "steps": steps.iter().map(|step| json!({ "what": step.what, "done": step.came.is_ok(), "came": step.said() })).collect::<Vec<_>>(),
                "left_to_the_la": [
                    "every bucket, key, database, service and log of its account, as the agent's report above names them",
                    "the agent's own journal and record, in its account",
                ],
                "audit": audited,
            })
        };
        let keep = |record: &Value| -> anyhow::Result<()> {
            let sealed = Dsse::of(&envelope::seal(PAYLOAD_TYPE, serde_json::to_vec(record)?, &key));
            let mut file = fs::File::create(&part).with_context(failed)?;
            serde_json::to_writer_pretty(&mut file, &sealed).with_context(failed)?;
            file.sync_all().with_context(failed)
        };
        let shared = others_in(&hub, &id, &before.account).await?;
        // Whoever is cut off after the next step has a record without its end, and the hub knows no such agent any more.
        keep(&told(&steps, Value::Null))?;
        let request = RemoveAgentRequest { agent_id: id.clone(), reason: reason.clone() };
        hub.ask(format_args!("remove {id}"), hub.operator().remove_agent(request)).await?;
        steps.push(Step::done("forgotten", "neither its AWS identity nor its certificate lets it in"));
        steps.push(Step {
            what: "network",
            came: match shared.as_slice() {
                [] => let_out(&self.core, &before.account).map_err(|error| format!("{error:#}")),
                others => Ok(format!("{} stays on the list: {} is in it as well", before.account, others.join(", "))),
            },
        });

        // What is done is done: a record that cannot be read is told of in this one.
        let audited = audited(&hub, &id).await.unwrap_or_else(|error| {
            output::error(format_args!("the hub's record: {error:#}"));
            json!({ "unread": format!("{error:#}") })
        });
        let record = told(&steps, audited);
        keep(&record)?;
        fs::rename(&part, &path).with_context(failed)?;

        let mut table = Table::card();
        steps.iter().for_each(|step| table.push(row![step.what, step.said()]));
        table.push(row!["record", path.display()]);
        let mut json = record;
        json["record"] = path.display().to_string().into();
        context.output.data(&json, &[table])?;
        output::note(format_args!(
            "give the LA the record; it reads it with: hubctl platform record {} --signed-by {}",
            path.display(),
            key.public()
        ));
        Ok(if steps.iter().all(|step| step.came.is_ok()) { Exit::Done } else { Exit::NotSucceeded })
    }

    /// Let end what is under way, and have the agent take back what was granted, where it is connected.
    async fn drain(&self, hub: Hub, agent: &AgentSummary) -> anyhow::Result<(Hub, Vec<Step>)> {
        if agent.state() != AgentState::Connected {
            let why = format!("it is {}: nothing can be ended or taken back by it", words::agent_state(agent.state()));
            output::warn(format_args!("{}: {why}", self.id));
            return Ok((hub, vec![Step { what: "drained", came: Err(why) }]));
        }
        let ends = Instant::now() + self.about.wait.patience();
        while let Some(open) = look(&hub, &self.id).await?.map(|agent| agent.commands).filter(|open| *open > 0) {
            if Instant::now() > ends {
                bail!(
                    "{open} commands of {} have not ended: see hubctl commands list; nothing was taken away",
                    self.id
                );
            }
            output::note(format_args!("{open} commands of {} are under way", self.id));
            sleep(LOOK).await;
        }
        let mut steps = vec![Step::done("drained", "none of its commands is under way")];
        let has_power = agent.health.as_ref().is_some_and(|health| health.power.is_some());
        let ready = Ready::new(hub, vec![self.id.clone()], Mode::Act, self.about.clone());
        let deadline = ready.about.wait.deadline();
        let mut wanted = vec![("share", "the core account may read nothing", Action::S3(S3::ShareRevoke))];
        match self.leave {
            _ if !has_power => steps.push(Step::done("platform", "as it is: its agent never put it to sleep")),
            Leave::AsItIs => {}
            Leave::Asleep => wanted.push(("platform", "asleep", Action::Power(Power::Sleep { deadline }))),
            Leave::Awake => wanted.push(("platform", "awake", Action::Power(Power::Wake { deadline }))),
        }
        if has_power {
            // Its agent goes on without a hub, and neither sleeps nor wakes it from here on.
            wanted.push(("power", "manual", Action::Power(Power::SetMode { manual: true })));
        }
        for (what, came, action) in wanted {
            let asked = ready.ask_as(action, Mode::Act).await;
            let came = asked.map(|_| came.to_owned()).map_err(|error| format!("{error:#}"));
            if let Err(why) = &came {
                output::warn(format_args!("{what}: {why}"));
            }
            steps.push(Step { what, came });
        }
        Ok((ready.hub, steps))
    }
}

/// Other agents in the same account.
async fn others_in(hub: &Hub, id: &str, account: &str) -> anyhow::Result<Vec<String>> {
    let listed = hub.ask("list the agents", hub.fleet().list_agents(ListAgentsRequest {})).await?.agents;
    let others = listed.into_iter().filter(|other| other.account == account && other.agent_id != id);
    Ok(others.map(|other| other.agent_id).collect())
}

/// Take the account off the list in the core's parameters, as they are now.
fn let_out(core: &Path, account: &str) -> anyhow::Result<String> {
    let core = Parameters::read(core, Place::Core)?;
    let changed = without_entry(&core, "AllowedPrincipals", &format!("arn:aws:iam::{account}:root"))?;
    let file = core.path().display().to_string();
    if changed.given() == core.given() {
        return Ok(format!("{account} is not on the list in {file}"));
    }
    changed.write()?;
    output::note(format_args!("load the list, with credentials of the core account: deploy/load core {file} network"));
    Ok(format!("{account} is off the list in {file}, which has to be loaded"))
}

/// The head of the hub's chain, recomputed, and the entries about an agent.
async fn audited(hub: &Hub, id: &str) -> anyhow::Result<Value> {
    let (mut chain, mut about, mut broken) = (Chain::default(), Vec::new(), None);
    let subject = format!("agent/{id}");
    audit::read(hub, Default::default(), |entry: AuditEntry| {
        broken = chain.add(&entry).err();
        if entry.subject == subject {
            about.push(audit::to_json(&entry));
        }
        broken.is_none()
    })
    .await?;
    match broken {
        None => Ok(json!({ "entries": chain.next, "head": hex::encode(chain.head), "about_it": about })),
        Some(broken) => bail!("it is broken at entry {}: {broken}; see hubctl audit verify", chain.next),
    }
}

/// Check and show the record of an LA that was let out
///
/// The signature has to be that of the operator whom it names, by the trust bundle that this profile holds; or, without a
/// profile, of the key that is named. No hub is asked.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The record
    file: PathBuf,
    /// The operator's public key, told on another way than the record
    #[arg(long, value_name = "KEY")]
    signed_by: Option<PublicKey>,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let text =
            fs::read(&self.file).with_context(|| format!("the record {} cannot be read", self.file.display()))?;
        let record = match self.signed_by {
            Some(key) => opened(&text, &self.file, |_| Some(key))?,
            None => {
                let profile = Profile::open(&context.folder)?;
                let held = profile.trust()?.context("this profile holds no trust bundle yet: hubctl trust show")?;
                let known = |operator: &str| held.bundle.operators.iter().find(|known| known.name.as_str() == operator);
                let record = opened(&text, &self.file, |operator| known(operator).map(|known| known.key))?;
                if record["trust_domain"] != profile.settings.trust_domain.as_str() {
                    bail!("{} is of another trust domain: {}", self.file.display(), record["trust_domain"]);
                }
                record
            }
        };
        let mut table = Table::card();
        for (name, value) in [
            ("agent", &record["agent"]["agent_id"]),
            ("account", &record["agent"]["account"]),
            ("operator", &record["operator"]),
            ("reason", &record["reason"]),
            ("at", &record["at"]),
        ] {
            table.push(row![name, value.as_str().unwrap_or_default()]);
        }
        for step in record["steps"].as_array().into_iter().flatten() {
            let word = |key: &str| step[key].as_str().unwrap_or_default();
            table.push(row![word("what"), word("came")]);
        }
        context.output.data(&record, &[table])?;
        output::note(format_args!("signed by {}", record["operator"].as_str().unwrap_or_default()));
        Ok(Exit::Done)
    }
}

/// What a record says, if who it names has signed it.
fn opened(text: &[u8], file: &Path, key_of: impl Fn(&str) -> Option<PublicKey>) -> anyhow::Result<Value> {
    let file = file.display();
    let sealed: Dsse = serde_json::from_slice(text).with_context(|| format!("{file} is no signed record"))?;
    let sealed = sealed.envelope().with_context(|| format!("{file} is no signed record"))?;
    let record: Value = serde_json::from_slice(&sealed.payload).with_context(|| format!("{file} holds no record"))?;
    if record["format"] != FORMAT {
        bail!("{file} is in the format {}; this hubctl reads {FORMAT}", record["format"]);
    }
    let operator = record["operator"].as_str().unwrap_or_default();
    let key = key_of(operator).with_context(|| {
        format!("{file} names {operator:?}, who is no operator of the trust bundle that is held here")
    })?;
    if !envelope::is_signed_by(&sealed, PAYLOAD_TYPE, &key) {
        bail!("{file} is not signed by {operator}, whom it names: do not believe it");
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use sfdata_common::keys::SigningKey;

    use super::*;

    #[test]
    fn a_record_counts_by_the_signature_of_whom_it_names() {
        let (alice, mallory) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let known = |name: &str| (name == "alice").then(|| alice.public());
        let text = |key: &SigningKey, kind: &str, operator: &str| {
            let payload = json!({ "format": FORMAT, "operator": operator }).to_string().into_bytes();
            serde_json::to_vec(&Dsse::of(&envelope::seal(kind, payload, key))).unwrap()
        };
        let open = |text: Vec<u8>| opened(&text, Path::new("record.json"), known).map_err(|error| format!("{error:#}"));
        assert_eq!(open(text(&alice, PAYLOAD_TYPE, "alice")).unwrap()["operator"], "alice");
        assert!(open(text(&mallory, PAYLOAD_TYPE, "alice")).unwrap_err().contains("do not believe it"));
        assert!(open(text(&alice, "another", "alice")).unwrap_err().contains("do not believe it"));
        assert!(open(text(&mallory, PAYLOAD_TYPE, "mallory")).unwrap_err().contains("no operator"));
        assert!(open(b"{}".to_vec()).unwrap_err().contains("no signed record"));
    }
}
