//! `hubctl agents upgrade`: another image for the agents themselves, ring by ring. A ring begins when all of the one before
//! run it and are connected; the first that does not succeed is the last.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    command::{Action, Agent},
    error::chain,
    ids::{AgentId, GroupName},
    image,
};
use sfdata_proto::v1::{AgentState, ListAgentsRequest};
use tokio::time::{Instant, sleep};

use crate::{
    cli::Context,
    client::Hub,
    commands::ecs,
    exit::{self, Exit, Usage},
    follow::{self, Board, Stop},
    order::{self, About, Plan, Ready},
    output, results,
    targets::Targets,
};

/// An agent that has ended the command is connected, or comes back from a short cut of its line.
const COMES_BACK: Duration = Duration::from_secs(60);
/// Between two looks at who is connected.
const LOOK: Duration = Duration::from_secs(1);

/// Have agents run another image, ring by ring, each by its own ECS service
///
/// The new task definition is the one that the agent runs by with its image changed. ECS stops the old agent and starts the
/// new one, which takes up the same journal and ends the command once it is connected and its deployment is complete. Where
/// it does not come to that in two thirds of --timeout, or its task fails, the service goes back to the old task definition
/// by itself, and the command ends as failed: rolled-back. A ring begins when all agents of the one before have succeeded
/// and are connected; after one that did not, nothing more is begun.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl agents upgrade --tag 1.4.0 --rings canary,pilot,rest --reason 'release 1.4.0'
  hubctl agents upgrade --tag 1.4.0 --agent northshire --plan
  hubctl agents upgrade --image 111111111111.dkr.ecr.eu-west-2.amazonaws.com/sfdata/agent@sha256:2f1c... --group canary")]
pub(crate) struct Upgrade {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    plan: Plan,
}

/// The image, by digest in the end.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Image by digest, in ECR
    #[arg(long, value_name = "REPOSITORY@DIGEST")]
    image: Option<image::Image>,
    /// Image that this tag means now, in the repository that the agents' image is from; those of the first ring are asked
    #[arg(long, value_parser = |text: &str| image::tag(text.to_owned()))]
    tag: Option<String>,
}

/// Rings in their order, or one.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
#[command(next_help_heading = "Targets (at least one; several add up)")]
struct Whom {
    /// Groups, one ring after the other; an agent of several is in the first
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', conflicts_with_all = ["agents", "groups", "all"])]
    rings: Vec<GroupName>,
    /// Agent to upgrade; repeatable
    #[arg(long = "agent", value_name = "ID")]
    agents: Vec<AgentId>,
    /// Group of agents to upgrade, without those that are locked or never joined; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// Every agent, without those that are locked or never joined
    #[arg(long)]
    all: bool,
}

/// Agents that are upgraded at the same time.
#[derive(Debug, PartialEq, Eq)]
struct Ring {
    name: String,
    agents: Vec<AgentId>,
}

impl Whom {
    async fn rings(self, hub: &Hub) -> anyhow::Result<Vec<Ring>> {
        if self.rings.is_empty() {
            let name = if self.all { "all" } else { "chosen" }.into();
            let agents = Targets::new(self.agents, self.groups, self.all).resolve(hub).await?;
            return Ok(vec![Ring { name, agents }]);
        }
        let mut rings = Vec::with_capacity(self.rings.len());
        for group in self.rings {
            let name = group.to_string();
            rings.push(Ring { agents: Targets::new(vec![], vec![group], false).resolve(hub).await?, name });
        }
        Ok(apart(rings))
    }
}

/// Each agent in the first of its rings; a ring that has none left is none.
fn apart(rings: Vec<Ring>) -> Vec<Ring> {
    let mut seen = BTreeSet::new();
    let mut apart = Vec::with_capacity(rings.len());
    for Ring { name, agents } in rings {
        let agents: Vec<_> = agents.into_iter().filter(|agent| seen.insert(agent.clone())).collect();
        match agents.is_empty() {
            true => output::note(format_args!("ring {name} has only agents of the rings before it")),
            false => apart.push(Ring { name, agents }),
        }
    }
    apart
}

impl Upgrade {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let (hub, mode, deadline) = (Hub::connect(context).await?, self.plan.mode(), self.about.wait.deadline());
        let rings = self.whom.rings(&hub).await?;
        if rings.len() > 1 && !self.about.wait.waits() {
            let text =
                "one ring waits for the other: not with --no-wait; order it for each of them by itself, with --group";
            return Err(Usage(text.into()).into());
        }
        if rings.len() > 1 && context.proposing.is_some() {
            return Err(
                Usage("rings can't be proposed together; propose each of them by itself, with --group".into()).into()
            );
        }
        let first = rings.first().map(|ring| ring.agents.clone()).unwrap_or_default();
        let ready = Ready::new(hub, first, mode, self.about);
        let image = match (self.which.image, self.which.tag) {
            (Some(image), _) => image,
            (None, tag) => ecs::resolve(&ready, "agent", tag.unwrap_or_default()).await?,
        };
        let action = Action::Agent(Agent::Upgrade { image, deadline });
        if context.proposing.is_some() || !ready.about.wait.waits() {
            return ready.run(context, action).await;
        }
        let (mut exit, mut told) = (Exit::Done, Vec::new());
        for ring in &rings {
            output::note(format_args!("ring {}: {}", ring.name, names(&ring.agents)));
            let submitted = order::submit(&ready.hub, action.clone(), mode, ring.agents.clone(), &ready.about).await;
            let mut submitted = match submitted {
                Ok(submitted) => submitted,
                Err(error) if told.is_empty() => return Err(error),
                Err(error) => {
                    output::error(chain(error.as_ref()));
                    exit = exit::code_of(&error);
                    break;
                }
            };
            output::note(format_args!("command {}", submitted.command.id));
            let mut board = Board::new(submitted.command.id, submitted.command.action.name(), &ring.agents);
            let events = submitted.events.take();
            let stop = follow::follow(&ready.hub, &mut board, events, Some(ready.patience()), None).await;
            submitted.came_to(&board);
            let (mut json, tables) = results::report(&board, Timestamp::now());
            json["ring"] = Value::from(ring.name.as_str());
            if !context.output.is_json() {
                context.output.data(&json, &tables)?;
            }
            told.push(json);
            results::hints(&board).iter().for_each(output::note);
            exit = board.exit();
            match stop {
                Ok(Stop::Ended) => {}
                Ok(Stop::UnderWay(why)) => follow::warn_under_way(&board, &why),
                Err(error) => output::error(chain(&error)),
            }
            if exit == Exit::Done && !ready.plans() {
                exit = back(&ready.hub, ring).await.unwrap_or_else(|error| {
                    output::error(chain(error.as_ref()));
                    exit::code_of(&error)
                });
            }
            if exit != Exit::Done {
                break;
            }
        }
        let left: Vec<_> = rings.iter().skip(told.len()).map(|ring| ring.name.as_str()).collect();
        if context.output.is_json() {
            context.output.data(&json!({ "rings": told, "not_begun": left }), &[])?;
        }
        if !left.is_empty() {
            output::warn(format_args!("not begun: {}", left.join(", ")));
        }
        Ok(exit)
    }
}

fn names(agents: &[AgentId]) -> String {
    agents.iter().map(AgentId::as_str).collect::<Vec<_>>().join(", ")
}

/// Wait until all agents of a ring are connected.
async fn back(hub: &Hub, ring: &Ring) -> anyhow::Result<Exit> {
    let ends = Instant::now() + COMES_BACK;
    loop {
        let listed = hub.ask("list the agents", hub.fleet().list_agents(ListAgentsRequest {})).await?.agents;
        let is_back = |agent: &&AgentId| {
            let mut of = listed.iter().filter(|listed| listed.agent_id == agent.as_str());
            of.any(|listed| listed.state() == AgentState::Connected)
        };
        let away: Vec<_> = ring.agents.iter().filter(|agent| !is_back(agent)).cloned().collect();
        if away.is_empty() {
            return Ok(Exit::Done);
        }
        if Instant::now() > ends {
            output::error(format_args!(
                "not connected within {COMES_BACK:?} after their upgrade: {}; look at their services",
                names(&away)
            ));
            return Ok(Exit::NotSucceeded);
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_several_rings_is_in_the_first_and_an_empty_ring_is_none() {
        let ring = |name: &str, agents: &[&str]| Ring {
            name: name.into(),
            agents: agents.iter().map(|id| id.parse().unwrap()).collect(),
        };
        let rings =
            apart(vec![ring("canary", &["ely"]), ring("pilot", &["ely"]), ring("rest", &["bath", "ely", "york"])]);
        assert_eq!(rings, [ring("canary", &["ely"]), ring("rest", &["bath", "york"])]);
    }
}
