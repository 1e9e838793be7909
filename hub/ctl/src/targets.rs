//! Which agents a command is for: named one by one, by group, or all of them.

use std::str::FromStr as _;

use clap::Args;
use sfdata_common::{
    ids::{self, AgentId, GroupName},
    limits,
};
use sfdata_proto::v1::{AgentState, AgentSummary, ListAgentsRequest};

use crate::{client::Hub, output, words};

/// At least one is needed; several add up.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
#[command(next_help_heading = "Targets (at least one; several add up)")]
pub(crate) struct Targets {
    /// Agent to send it to; repeatable
    #[arg(long = "agent", value_name = "ID")]
    agents: Vec<AgentId>,
    /// Group of agents to send it to, without those that are locked or never joined; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// Every agent, without those that are locked or never joined
    #[arg(long)]
    all: bool,
}

/// Why there is nobody to send to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A group without members, or misspelt.
    #[error("no agent is in group {group}; groups that exist: {}", list(known))]
    Group { group: GroupName, known: Vec<String> },
    /// Misspelt.
    #[error("there is no agent {agent}; agents that exist: {}", list(known))]
    Agent { agent: AgentId, known: Vec<String> },
    /// All of them are locked or never joined.
    #[error("nobody is left to send it to: {}", if left_out.is_empty() { "no agent was invited yet" } else { left_out })]
    Nobody { left_out: String },
    /// More than one command may have.
    #[error(
        "{count} targets are too many for one command, which has at most {}; use groups",
        limits::TARGETS_PER_COMMAND
    )]
    TooMany { count: usize },
    /// The hub's list is not valid.
    #[error("the hub lists an agent that hubctl cannot name")]
    Listed(#[from] ids::Error),
}

/// At most so many names in a message.
const LISTED: usize = 20;

fn list(known: &[String]) -> String {
    match known.len() {
        0 => "none".to_owned(),
        count @ 1..=LISTED => format!("{} ({count})", known.join(", ")),
        count => format!("{}, ... ({count})", known[..LISTED].join(", ")),
    }
}

/// Who was chosen, sorted, and who was not.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    targets: Vec<AgentId>,
    /// `ely (invited)`, ...
    left_out: Vec<String>,
}

impl Targets {
    /// Named in another way than by these options.
    pub(crate) fn new(agents: Vec<AgentId>, groups: Vec<GroupName>, all: bool) -> Self {
        Self { agents, groups, all }
    }

    /// The agents meant, sorted and unique. The hub is asked only where names alone do not say.
    pub(crate) async fn resolve(self, hub: &Hub) -> anyhow::Result<Vec<AgentId>> {
        if self.groups.is_empty() && !self.all {
            return Ok(sorted(self.agents));
        }
        let answer = hub.ask("list the agents", hub.fleet().list_agents(ListAgentsRequest {})).await?;
        let choice = self.choose(&answer.agents)?;
        if !choice.left_out.is_empty() {
            output::note(format_args!("left out: {}", choice.left_out.join(", ")));
        }
        Ok(choice.targets)
    }

    fn choose(self, agents: &[AgentSummary]) -> Result<Choice, Error> {
        if let Some(agent) = self.agents.iter().find(|id| !agents.iter().any(|agent| agent.agent_id == id.as_str())) {
            let known = agents.iter().map(|agent| agent.agent_id.clone()).collect();
            return Err(Error::Agent { agent: agent.clone(), known });
        }
        let is_in = |agent: &AgentSummary, group: &GroupName| agent.groups.iter().any(|name| name == group.as_str());
        if let Some(group) = self.groups.iter().find(|group| !agents.iter().any(|agent| is_in(agent, group))) {
            let mut known: Vec<String> = agents.iter().flat_map(|agent| agent.groups.clone()).collect();
            known.sort();
            known.dedup();
            return Err(Error::Group { group: group.clone(), known });
        }
        let (mut targets, mut left_out) = (self.agents, Vec::new());
        for agent in agents.iter().filter(|agent| self.all || self.groups.iter().any(|group| is_in(agent, group))) {
            let id = AgentId::from_str(&agent.agent_id)?;
            match agent.state() {
                _ if targets.contains(&id) => {}
                state @ (AgentState::Invited | AgentState::Locked) => {
                    left_out.push(format!("{id} ({})", words::agent_state(state)));
                }
                _ => targets.push(id),
            }
        }
        let targets = sorted(targets);
        match targets.len() {
            0 => Err(Error::Nobody { left_out: left_out.join(", ") }),
            count if count > limits::TARGETS_PER_COMMAND => Err(Error::TooMany { count }),
            _ => Ok(Choice { targets, left_out }),
        }
    }
}

fn sorted(mut targets: Vec<AgentId>) -> Vec<AgentId> {
    targets.sort();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(id: &str, state: AgentState, groups: &[&str]) -> AgentSummary {
        AgentSummary {
            agent_id: id.into(),
            state: state.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }
    }

    fn fleet() -> Vec<AgentSummary> {
        vec![
            agent("northshire", AgentState::Connected, &["pilot", "north"]),
            agent("ely", AgentState::Away, &["pilot"]),
            agent("bath", AgentState::Locked, &["pilot"]),
            agent("york", AgentState::Invited, &["north"]),
        ]
    }

    fn choose(agents: &[&str], groups: &[&str], all: bool) -> Result<(Vec<String>, String), Error> {
        let targets = Targets {
            agents: agents.iter().map(|id| id.parse().unwrap()).collect(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            all,
        };
        let choice = targets.choose(&fleet())?;
        Ok((choice.targets.iter().map(ToString::to_string).collect(), choice.left_out.join(", ")))
    }

    #[test]
    fn groups_and_names_add_up_sorted_and_unique() {
        let (targets, left_out) = choose(&["northshire"], &["pilot", "north"], false).unwrap();
        assert_eq!(targets, ["ely", "northshire"]);
        assert_eq!(left_out, "bath (locked), york (invited)");
        let (targets, left_out) = choose(&["bath"], &["pilot"], false).unwrap();
        assert_eq!(
            (targets, left_out.as_str()),
            (["bath", "ely", "northshire"].map(String::from).to_vec(), ""),
            "named"
        );
        assert_eq!(choose(&[], &[], true).unwrap().0, ["ely", "northshire"]);
    }

    #[test]
    fn a_slip_lists_what_exists() {
        assert_eq!(
            choose(&[], &["pilots"], false).unwrap_err().to_string(),
            "no agent is in group pilots; groups that exist: north, pilot (2)"
        );
        assert_eq!(
            choose(&["elly"], &["pilot"], false).unwrap_err().to_string(),
            "there is no agent elly; agents that exist: northshire, ely, bath, york (4)"
        );
        let nobody = Targets { agents: vec![], groups: vec!["north".parse().unwrap()], all: false };
        let error = nobody.choose(&fleet()[3..]).unwrap_err();
        assert_eq!(error.to_string(), "nobody is left to send it to: york (invited)");
    }
}
