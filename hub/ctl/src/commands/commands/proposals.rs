//! `hubctl commands propose|approve|reject`: what two operators have to sign.
//!
//! The first signs what the agents now say that it would change, and hands it in. The second is shown the order and asks the
//! agents again; only where their plan is still the one that was signed does the second signature go over the same bytes.

use std::{ffi::OsString, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    command::{Command, Mode},
    envelope,
    ids::CommandId,
    limits,
    signers::Signers,
};
use sfdata_proto::v1::{ApproveRequest, Envelope, GetProposalRequest, ListProposalsRequest, Proposal, RejectRequest};

use crate::{
    cli::{Cli, Context},
    client::Hub,
    exit::Exit,
    follow::{self, Board},
    order::{About, Ready},
    output, pinned,
    table::{Table, row},
    wait::Wait,
    words,
};

/// Hand in a command for a second operator to approve
#[derive(Debug, Args)]
#[command(after_help = "\
What would be changed is asked of the agents first; both operators sign exactly that, and nothing is done should it
have changed by then. What can't be taken back always needs two operators; an LA's policy, or the hub's, may ask for
two for more.

Example:
  hubctl commands propose -- aurora delete-snapshot before-upgrade --agent camden --reason \"no longer needed\"")]
pub(crate) struct Propose {
    /// How long it may wait for approval and then for its agents, as in 4h
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lives)]
    lives: Duration,
    /// The command, as it would stand behind `hubctl`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn lives(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let most = limits::COMMAND_VALIDITY_MAX;
    if (Duration::from_secs(60)..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("must be 1m to {}", humantime::format_duration(most)))
    }
}

impl Propose {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        Cli::propose(context, self.command, self.lives).await
    }
}

/// Sign a command that another operator proposed, and wait for it
#[derive(Debug, Args)]
#[command(after_help = "\
Shown are the order, who signed it, and what the agents say that it would change now. Exits with 1 and signs nothing
when that is not what was proposed.")]
pub(crate) struct Approve {
    /// Command's id
    id: CommandId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Approve {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let held = pinned::refresh(&hub).await?.held.context("there is no trust bundle to check the proposal by")?;
        let request = GetProposalRequest { command_id: self.id.to_string() };
        let answer = hub.ask(format_args!("read proposal {}", self.id), hub.proposals().get_proposal(request)).await?;
        let mut envelope = answer.proposal.and_then(|proposal| proposal.command).context("the hub sent no command")?;
        let signers = Signers::of(&envelope, &held.bundle, Timestamp::now())
            .map_err(|wrong| anyhow::anyhow!("the hub shows a proposal that can't be trusted: {wrong}"))?;
        let command = Command::parse(&envelope.payload)?;
        if command.id != self.id || signers.named(&command.operator).is_none() {
            bail!("the hub shows another command than {} of {}'s; tell who runs the hub", self.id, command.operator);
        }
        if command.operator == hub.profile.settings.operator {
            bail!("you proposed it yourself; another operator has to approve it");
        }
        // The agents are asked by this operator: the hub's word on what would change is not taken.
        let about = About { wait: self.wait.clone(), reason: format!("to approve {}", self.id) };
        let ready = Ready::new(hub, command.targets.clone(), Mode::Act, about);
        let mut tables = vec![card(&command)];
        if let Mode::ActIfPlan(signed) = command.mode {
            let plan = ready.plan(command.action.clone()).await.context("nothing was approved")?;
            if plan.digest != signed {
                bail!(
                    "nothing was approved: what it would change is not what {} signed any more; reject it, and have \
                     it proposed anew: hubctl commands reject {}",
                    command.operator,
                    self.id
                );
            }
            tables.push(plan.table);
        }
        tables.iter().for_each(|table| output::note(table.render(false).trim_end()));
        if !self.yes && !output::confirm("Sign this, too?")? {
            output::note("nothing was approved; without a terminal, say --yes");
            return Ok(Exit::NotDone);
        }
        envelope::add_signature(&mut envelope, ready.hub.signing_key().await?.as_ref());
        let request = ApproveRequest { command_id: self.id.to_string(), signature: envelope.signatures.pop() };
        let hub = &ready.hub;
        hub.ask(format_args!("approve {}", self.id), hub.proposals().approve(request)).await?;
        if !self.wait.waits() {
            context.output.text(&json!({ "command_id": self.id.to_string() }), self.id)?;
            return Ok(Exit::Done);
        }
        let mut board = Board::new(self.id, command.action.name(), &command.targets);
        follow::to_the_end(context, &ready.hub, &mut board, None, Some(self.wait.patience())).await
    }
}

/// Give a proposed command up: one's own, or one that one could approve
#[derive(Debug, Args)]
pub(crate) struct Reject {
    /// Command's id
    id: CommandId,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Reject {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = RejectRequest { command_id: self.id.to_string(), reason: self.reason };
        hub.ask(format_args!("reject {}", self.id), hub.proposals().reject(request)).await?;
        output::note(format_args!("command {} will not be carried out", self.id));
        Ok(Exit::Done)
    }
}

/// What is ordered, whole: it is what the second operator signs.
fn card(command: &Command) -> Table {
    let mut facts = Table::card();
    facts.push(row!["command", command.id]);
    facts.push(row!["action", command.action.name()]);
    facts.push(row!["order", format!("{:?}", command.action)]);
    facts.push(row!["class", command.class()]);
    facts.push(row!["proposed by", format!("{}, whose signature is valid", command.operator)]);
    facts.push(row!["reason", command.reason]);
    facts.push(row!["expires", words::second(command.expires.as_millisecond())]);
    let targets: Vec<&str> = command.targets.iter().map(|target| target.as_str()).collect();
    facts.push(row!["targets", targets.join(", ")]);
    facts
}

/// Show what waits. Signatures are checked by who approves.
pub(super) async fn list(context: &Context, hub: &Hub) -> anyhow::Result<Exit> {
    let request = ListProposalsRequest {};
    let proposals = hub.ask("list the proposals", hub.proposals().list_proposals(request)).await?.proposals;
    let now = Timestamp::now();
    let mut table = Table::new(&["COMMAND", "ACTION", "PROPOSED BY", "AGE", "EXPIRES", "TARGETS", "REASON"]);
    let mut json = Vec::new();
    for Proposal { command, proposed_unix_ms } in proposals {
        let Envelope { payload, .. } = command.unwrap_or_default();
        let Ok(command) = Command::parse(&payload) else {
            output::warn("one of them is not known to this version of hubctl");
            continue;
        };
        let targets: Vec<&str> = command.targets.iter().map(|target| target.as_str()).collect();
        json.push(to_json(&command, proposed_unix_ms, &targets));
        table.push(row![
            command.id,
            command.action.name(),
            command.operator,
            words::age(proposed_unix_ms, now),
            words::second(command.expires.as_millisecond()),
            targets.join(", "),
            command.reason,
        ]);
    }
    context.output.data(&json!({ "proposals": json }), &[table])?;
    Ok(Exit::Done)
}

fn to_json(command: &Command, proposed_unix_ms: i64, targets: &[&str]) -> Value {
    let plan = match command.mode {
        Mode::ActIfPlan(digest) => Some(hex::encode(digest)),
        Mode::Act | Mode::PlanOnly => None,
    };
    json!({
        "command_id": command.id.to_string(),
        "action": command.action.name(),
        "order": format!("{:?}", command.action),
        "class": command.class().as_str(),
        "operator": command.operator.to_string(),
        "reason": command.reason,
        "proposed": words::time(proposed_unix_ms),
        "expires": words::time(command.expires.as_millisecond()),
        "targets": targets,
        "plan_digest": plan,
    })
}
