//! `hubctl platform onboard`: an LA's way in, from its registration to the plan for its buckets. Everything may be repeated:
//! what is done already stays, and the next step is taken up.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Agent, Mode, S3},
    discovery::{Line, Proposal},
    ids::{AccountId, AgentId, GroupName, RoleName},
    join::JoinToken,
};
use sfdata_proto::v1::{
    AgentState, AgentSummary, InviteAgentRequest, ListAgentsRequest, Plan, RegisterAgentRequest, action_result::Kind,
};
use tokio::time::{Instant, sleep};

use super::init::write_new;
use crate::{
    cli::Context,
    client::Hub,
    commands::agents::label,
    exit::{Exit, Usage},
    order::{About, Ready},
    output,
    platform::{aws, parameters::Parameters, templates::Place},
    results::discovered,
    table::{Table, row},
};

/// Between two looks whether the agent is in.
const LOOK: Duration = Duration::from_secs(2);
/// The keys of a configuration, and the parameters of the templates that say the same.
const SAME: [(&str, &str); 10] = [
    ("platform.cluster", "Cluster"),
    ("platform.webserver", "Webserver"),
    ("platform.daemon", "Daemon"),
    ("platform.code_servers", "CodeServers"),
    ("platform.other_services", "OtherServices"),
    ("platform.aurora_cluster", "AuroraCluster"),
    ("platform.buckets.data_store", "DataStore"),
    ("platform.buckets.workspace", "Workspace"),
    ("platform.buckets.shared", "Shared"),
    ("platform.buckets.backup", "Backup"),
];

/// Let an LA in: register it, write its parameters, wait for its agent, and propose what is left to do
///
/// Puts the LA's account on the list in the core account's parameters, registers its agent, and writes the LA's parameters. Then
/// it says which stacks to load, and waits until the agent is connected; asks it what its account holds, and proposes what to
/// correct in the parameters; and shows what hubctl s3 ensure would do. Nothing is changed in AWS. What is done already
/// stays, so that it may be run again at any time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl platform onboard camden --account 222222222222 --group pilot
  hubctl platform onboard camden --account 222222222222 --no-wait            Only register and write
  hubctl platform onboard camden --account 222222222222 --token              For an agent that no template made")]
pub(crate) struct Onboard {
    /// Agent's id, for ever: the LA's name
    id: AgentId,
    /// AWS account of the LA
    #[arg(long, value_name = "12 DIGITS")]
    account: AccountId,
    /// Name of the IAM role that the agent's task has
    #[arg(long, value_name = "NAME", default_value = "sfdata-agent")]
    role: RoleName,
    /// Free word about it, as in region=north; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Group that it belongs to; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// Print a token to join with, once, in place of writing parameters
    #[arg(long, conflicts_with_all = ["role", "network", "hub_service", "agent_tag"])]
    token: bool,
    /// File with the core account's parameters
    #[arg(long, value_name = "FILE", default_value = "core.params")]
    core: PathBuf,
    /// File with the LA's parameters, written where it is not there [default: ID.params]
    #[arg(long, value_name = "FILE")]
    parameters: Option<PathBuf>,
    /// Network that the LA's tasks run in: its own, or subnets that the core account shares
    #[arg(long, value_enum, default_value_t = Network::Own)]
    network: Network,
    /// Output HubService of the core's network [default: asked of CloudFormation, with credentials of the core account]
    #[arg(long, value_name = "NAME")]
    hub_service: Option<String>,
    /// Tag of the agent's image [default: the template's]
    #[arg(long, value_name = "TAG")]
    agent_tag: Option<String>,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    Own,
    Shared,
}

impl Onboard {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let core_account = core_account(&Parameters::read(&self.core, Place::Core)?)?;
        let path = self.parameters.clone().unwrap_or_else(|| format!("{}.params", self.id).into());
        let is_for_new = self.hub_service.is_some() || self.agent_tag.is_some() || self.network == Network::Shared;
        if !self.token && is_for_new && path.exists() {
            let text = "is there already: change it there; --network, --hub-service and --agent-tag are for a new file";
            return Err(Usage(format!("{} {text}", path.display())).into());
        }
        let hub = Hub::connect(context).await?;
        let mut json = json!({ "agent_id": self.id.as_str(), "account": self.account.as_str() });
        if self.token {
            self.let_in()?;
            let token = self.invite(&hub).await?;
            json["token"] = token.clone().into();
            context.output.text(&json, &token)?;
            output::note(format_args!(
                "join in account {} with: sfdata-agent enrol --token TOKEN; then, for the rest, this command without --token",
                self.account
            ));
            return Ok(Exit::Done);
        }
        let place = self.register(&hub).await?;
        let core = self.let_in()?;
        let parameters = self.parameters(&core, &core_account, path, &place).await?;
        json["parameters"] = parameters.path().display().to_string().into();
        output::note(format_args!(
            "load its stacks, with credentials of account {}: hubctl platform check {file}, then deploy/load child {file}",
            self.account,
            file = parameters.path().display()
        ));
        let exit = match self.about.waits() {
            true => self.settle(context, hub, &mut json).await?,
            false => Exit::Done,
        };
        if context.output.is_json() {
            context.output.data(&json, &[])?;
        }
        Ok(exit)
    }

    /// Put the account on the list of those who may find the hub.
    fn let_in(&self) -> anyhow::Result<Parameters> {
        let core = Parameters::read(&self.core, Place::Core)?;
        let changed = with_entry(&core, "AllowedPrincipals", &format!("arn:aws:iam::{}:root", self.account))?;
        if changed.given() != core.given() {
            changed.write()?;
            let file = changed.path().display();
            output::note(format_args!(
                "account {} is on the list in {file}; load it, with credentials of the core account: deploy/load core {file} network",
                self.account
            ));
        }
        Ok(changed)
    }

    async fn register(&self, hub: &Hub) -> anyhow::Result<JoinToken> {
        let request = RegisterAgentRequest {
            agent_id: self.id.to_string(),
            account: self.account.to_string(),
            role: self.role.to_string(),
            labels: self.labels.iter().cloned().collect(),
            groups: self.groups.iter().map(ToString::to_string).collect(),
            again: false,
        };
        let answer = hub.ask(format_args!("register {}", self.id), hub.operator().register_agent(request)).await?;
        answer.join.context("the hub's answer does not say where to join; is it of an older version?")
    }

    async fn invite(&self, hub: &Hub) -> anyhow::Result<String> {
        let request = InviteAgentRequest {
            agent_id: self.id.to_string(),
            account: self.account.to_string(),
            labels: self.labels.iter().cloned().collect(),
            groups: self.groups.iter().map(ToString::to_string).collect(),
        };
        let answer = hub.ask(format_args!("invite {}", self.id), hub.operator().invite_agent(request)).await?;
        Ok(answer.token)
    }

    /// The LA's parameters: those that are there, if they agree with what the hub says, or new ones.
    async fn parameters(
        &self,
        core: &Parameters,
        core_account: &str,
        path: PathBuf,
        place: &JoinToken,
    ) -> anyhow::Result<Parameters> {
        let pin = [place.trust_domain.clone(), hex::encode(&place.ca_pin), hex::encode(&place.root_pin)].join("/");
        let mut told =
            vec![("LaName", self.id.to_string()), ("CoreAccount", core_account.to_owned()), ("TrustPin", pin)];
        if path.exists() {
            let there = Parameters::read(&path, Place::Child)?;
            for (name, value) in &told {
                if there.need(name)? != value {
                    bail!(
                        "{} has another {name} than {value}, which hub and core account say: correct it, or name another file with --parameters",
                        path.display()
                    );
                }
            }
            return Ok(there);
        }
        told.extend(self.agent_tag.clone().map(|tag| ("AgentTag", tag)));
        match self.network {
            Network::Own => {
                let service = match &self.hub_service {
                    Some(service) => service.clone(),
                    None => output_of(core, core_account, "network", "HubService").await?,
                };
                told.push(("HubService", service));
            }
            Network::Shared => {
                told.push(("Network", "shared".into()));
                for (stack, from, name) in [
                    ("network", "VpcId", "SharedVpcId"),
                    ("network", "HubAddress", "HubAddress"),
                    ("shared", "SharedSubnetIds", "SharedSubnetIds"),
                ] {
                    told.push((name, output_of(core, core_account, stack, from).await?));
                }
            }
        }
        let parameters = write_new(&path, Place::Child, &told)?;
        output::note(format_args!(
            "{} is written; compare its TrustPin on another way than this one: it decides whom the agent trusts",
            path.display()
        ));
        Ok(parameters)
    }

    /// Wait for the agent, and tell what is left to do.
    async fn settle(self, context: &Context, hub: Hub, json: &mut Value) -> anyhow::Result<Exit> {
        output::note(format_args!("waiting for {}; Ctrl-C and the same command once more do no harm", self.id));
        let ends = Instant::now() + self.about.wait.patience();
        while look(&hub, &self.id).await?.is_none_or(|agent| agent.state() != AgentState::Connected) {
            if Instant::now() > ends {
                output::warn(format_args!("{} is not in yet; give the same command once more when it is", self.id));
                return Ok(Exit::UnderWay);
            }
            sleep(LOOK).await;
        }
        output::note(format_args!("{} is connected", self.id));
        let ready = Ready::new(hub, vec![self.id.clone()], Mode::Act, self.about);
        let found = ready.ask_as(Action::Agent(Agent::Discover { cluster: None }), Mode::Act).await?;
        let [(_, Kind::AgentDiscover(found))] = &found[..] else {
            bail!("it answered with something else than a proposal")
        };
        let proposal = Proposal::from(found.clone());
        let ensure = S3::Ensure { bucket: None, deadline: ready.about.wait.deadline() };
        let planned = ready.ask_as(Action::S3(ensure), Mode::PlanOnly).await?;
        let [(_, Kind::Plan(plan))] = &planned[..] else { bail!("it answered with something else than a plan") };
        json["connected"] = true.into();
        json["proposal"] = serde_json::to_value(&proposal)?;
        json["lines"] = lines(&proposal).into();
        json["plan"] = json!({ "digest": hex::encode(&plan.digest), "changes": plan.changes.len() });
        if !context.output.is_json() {
            let mut table = Table::new(&["SETTING", "FOUND", "CONFIGURED", "NOTE"]);
            proposal.lines.iter().for_each(|line| table.push(discovered(line)));
            context.output.data(&Value::Null, &[table, changes(plan)])?;
        }
        for line in lines(&proposal) {
            output::note(format_args!("the account holds another thing than is configured; in its parameters: {line}"));
        }
        match plan.changes.is_empty() {
            true => output::note("its buckets are as they should be"),
            false => output::note(format_args!(
                "to have its buckets kept as they should be: hubctl s3 ensure --agent {} --if-plan {}",
                self.id,
                hex::encode(&plan.digest)
            )),
        }
        Ok(Exit::Done)
    }
}

/// What the hub knows of an agent.
pub(super) async fn look(hub: &Hub, id: &AgentId) -> anyhow::Result<Option<AgentSummary>> {
    let listed = hub.ask("list the agents", hub.fleet().list_agents(ListAgentsRequest {})).await?.agents;
    Ok(listed.into_iter().find(|agent| agent.agent_id == id.as_str()))
}

/// With one more entry in a list.
fn with_entry(parameters: &Parameters, name: &str, entry: &str) -> anyhow::Result<Parameters> {
    let mut entries: Vec<&str> = entries(parameters, name);
    if entries.contains(&entry) {
        return Ok(parameters.clone());
    }
    entries.push(entry);
    Ok(parameters.with(name, &entries.join(","))?)
}

/// Without an entry of a list.
pub(super) fn without_entry(parameters: &Parameters, name: &str, entry: &str) -> anyhow::Result<Parameters> {
    let there = entries(parameters, name);
    let left: Vec<&str> = there.iter().copied().filter(|other| *other != entry).collect();
    if left.len() == there.len() {
        return Ok(parameters.clone());
    }
    Ok(parameters.with(name, &left.join(","))?)
}

fn entries<'a>(parameters: &'a Parameters, name: &str) -> Vec<&'a str> {
    parameters.get(name).unwrap_or_default().split(',').filter(|entry| !entry.is_empty()).collect()
}

/// The account whose registry has the hub's image.
fn core_account(core: &Parameters) -> anyhow::Result<String> {
    let image = core.need("HubImage")?;
    let account = image.split('.').next().unwrap_or_default();
    let account: AccountId =
        account.parse().with_context(|| format!("HubImage {image} names no account's registry"))?;
    Ok(account.to_string())
}

async fn output_of(core: &Parameters, core_account: &str, stack: &str, output: &str) -> anyhow::Result<String> {
    let name = core.stack_name(stack, core_account);
    let instead = format!(
        "give credentials of the core account {core_account} to aws{}",
        match output {
            "HubService" => ", or --hub-service",
            _ => "",
        }
    );
    let account =
        aws::account().await.with_context(|| format!("output {output} of stack {name} is needed; {instead}"))?;
    if account != core_account {
        bail!("output {output} of stack {name} is needed, and these are credentials of {account}; {instead}");
    }
    let outputs = aws::outputs(&name).await?.with_context(|| {
        format!("there is no stack {name} in {account}: deploy/load core {} {stack}", core.path().display())
    })?;
    let found = outputs.into_iter().find(|(key, _)| key == output);
    Ok(found.with_context(|| format!("stack {name} has no output {output}; is it of another release?"))?.1)
}

/// Lines for the parameters, where another thing was found than is configured.
fn lines(proposal: &Proposal) -> Vec<String> {
    let differ = proposal.lines.iter().filter(|line| line.differs());
    differ
        .filter_map(|Line { key, value, .. }| {
            let (_, parameter) = SAME.iter().find(|(same, _)| same == key)?;
            Some(format!("{parameter}={}", value.names().join(",")))
        })
        .collect()
}

fn changes(plan: &Plan) -> Table {
    let mut table = Table::new(&["RESOURCE", "PROPERTY", "BEFORE", "AFTER"]);
    for change in &plan.changes {
        table.push(row![change.resource, change.property, change.before, change.after]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sfdata_common::discovery::Choice;

    use super::*;

    #[test]
    fn an_account_is_put_on_a_list_once_and_taken_off_it() {
        const LIST: &str = "AllowedPrincipals";
        let [one, two] = ["arn:aws:iam::222222222222:root", "arn:aws:iam::333333333333:root"];
        let none = Parameters::parse(Path::new("core.params"), Place::Core, String::new()).unwrap();
        let both = with_entry(&with_entry(&none, LIST, one).unwrap(), LIST, two).unwrap();
        let again = with_entry(&both, LIST, one).unwrap();
        assert_eq!(again.get(LIST), Some(&*format!("{one},{two}")));
        let left = without_entry(&again, LIST, one).unwrap();
        assert_eq!(left.get(LIST), Some(two));
        assert_eq!(without_entry(&left, LIST, one).unwrap().given(), left.given());
        assert_eq!(without_entry(&left, LIST, two).unwrap().get(LIST), Some(""));
    }

    #[test]
    fn every_setting_of_a_proposal_is_a_parameter_of_the_agent() {
        let all = Place::Child.parameters();
        assert!(SAME.iter().all(|(_, name)| all.iter().any(|parameter| parameter.name == *name)));
        let several = Choice::Several(vec!["a".into(), "b".into()]);
        let found = vec![Line::new("platform.code_servers", several), Line::new("platform.cluster", Choice::Left)];
        let proposal = Proposal { account: "1".into(), region: "r".into(), lines: found, unsure: vec![] };
        assert_eq!(lines(&proposal), ["CodeServers=a,b"]);
    }
}
