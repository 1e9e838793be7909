//! What the LA's rules would say to a command, and by which of them: `sfdata-agent policy explain`.

use std::fmt;

use jiff::{Timestamp, civil::DateTime};
use serde::Serialize;
use sfdata_common::{
    ids::{AgentId, OperatorName},
    policy::{AgentFacts, Question, Resource, Rule, Side, Verdict, ZONE, ZONE_NAME, actions, local},
    trust::Role,
};
use sfdata_proto::v1::Hold;

use super::Rules;

/// The classes from the lightest to the gravest.
const CLASSES: [(&str, sfdata_common::command::Class); 5] = {
    use sfdata_common::command::Class::{Change, Data, Destroy, Operate, Read};
    [("read", Read), ("operate", Operate), ("change", Change), ("data", Data), ("destroy", Destroy)]
};

/// A command that might come.
#[derive(Debug)]
pub struct Case {
    /// Who would order it.
    pub operator: OperatorName,
    /// What the trust bundle would make of them.
    pub roles: Vec<Role>,
    /// `ecs.restart`, ...
    pub action: String,
    /// Where the action may be of several; without it the gravest. A plan is of class read.
    pub class: Option<String>,
    /// When; without it now. Local time.
    pub at: Option<DateTime>,
    /// Why, in the operator's words.
    pub reason: String,
    /// How many different operators signed.
    pub signers: usize,
}

/// The case can't be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such action.
    #[error("there is no action {action:?}; there are {}", known.join(", "))]
    Action {
        /// What was given.
        action: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Not of that class.
    #[error("{action} is never of class {class:?}, but of {}", classes.join(" or "))]
    Class {
        /// Which.
        action: String,
        /// What was given.
        class: String,
        /// Its own.
        classes: Vec<String>,
    },
    /// A time that is no instant.
    #[error("{0} is no time that there is")]
    Time(DateTime),
}

/// The answer, with all that it rests on.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// `allowed`, `on approval` or `denied`.
    pub verdict: &'static str,
    /// Why it is denied, in a sentence.
    pub why: Option<String>,
    /// What would be ordered.
    pub action: String,
    /// Of this class.
    pub class: String,
    /// By whom.
    pub operator: String,
    /// With these roles.
    pub roles: Vec<String>,
    /// When.
    pub at: Timestamp,
    /// The same, as the rules see it.
    pub local: String,
    /// The rules that decided, in the order of the policy.
    pub rules: Vec<Deciding>,
    /// Freezes in force at that time.
    pub freezes: Vec<Frozen>,
    /// The hold in force now.
    pub hold: Option<String>,
}

/// One rule that decided.
#[derive(Debug, Serialize)]
pub struct Deciding {
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Its `@id`.
    pub id: Option<String>,
    /// Its `@description`.
    pub description: Option<String>,
    /// Where it begins in the policy.
    pub line: usize,
    /// Whether what it permits waits for the LA.
    pub approval: bool,
}

/// One freeze in force.
#[derive(Debug, Serialize)]
pub struct Frozen {
    /// Its name.
    pub name: String,
    /// Its last day.
    pub to: String,
}

impl From<&Rule> for Deciding {
    fn from(rule: &Rule) -> Self {
        Self {
            effect: if rule.permits { "permit" } else { "forbid" },
            id: rule.id.clone(),
            description: rule.description.clone(),
            line: rule.line,
            approval: rule.approval,
        }
    }
}

impl Explained {
    /// Ask the rules. The hold is the one in force now, whatever time the case names.
    pub fn of(case: Case, rules: &Rules, hold: Option<&Hold>, agent: &AgentId, now: Timestamp) -> Result<Self, Error> {
        let (class, kind) = class_of(&case)?;
        let now = match case.at {
            Some(at) => at.to_zoned(ZONE).map_err(|_| Error::Time(at))?.timestamp(),
            None => now,
        };
        let question = Question {
            operator: &case.operator,
            roles: &case.roles,
            action: &case.action,
            class,
            resource: Resource::Agent(agent, &AgentFacts::default()),
            reason: &case.reason,
            now,
            signers: case.signers,
            freezes: &[],
        };
        let decided = rules.decide(&question);
        let held = hold.filter(|_| class != "read");
        let granted = case.roles.iter().any(|role| role.grants(kind));
        let (verdict, why) = match (decided.verdict, held) {
            _ if !granted => {
                ("denied", Some(format!("no role of theirs grants {class} actions, whatever the policy says")))
            }
            (_, Some(hold)) => ("denied", Some(format!("the agent is held: {}", hold.reason))),
            (Verdict::Allowed, None) => ("allowed", None),
            (Verdict::OnApproval, None) => ("on approval", None),
            (Verdict::Denied(why), None) => ("denied", Some(why)),
        };
        let frozen = rules.in_force(now).into_iter();
        Ok(Self {
            verdict,
            why,
            class: class.to_owned(),
            operator: case.operator.to_string(),
            roles: case.roles.iter().map(ToString::to_string).collect(),
            at: now,
            local: local(now).strftime("%a %-d %b %Y %H:%M").to_string() + " " + ZONE_NAME,
            rules: decided.rules.into_iter().map(Deciding::from).collect(),
            freezes: frozen.map(|freeze| Frozen { name: freeze.name.clone(), to: freeze.to.to_string() }).collect(),
            hold: hold.map(|hold| hold.reason.clone()),
            action: case.action,
        })
    }

    /// Whether it is not denied.
    pub fn is_allowed(&self) -> bool {
        self.verdict != "denied"
    }
}

fn class_of(case: &Case) -> Result<(&'static str, sfdata_common::command::Class), Error> {
    let known = actions(Side::Agent);
    let Some((_, classes)) = known.iter().find(|(action, _)| *action == case.action) else {
        let known = known.into_iter().map(|(action, _)| action).collect();
        return Err(Error::Action { action: case.action.clone(), known });
    };
    let own = CLASSES.into_iter().rev().filter(|(class, _)| classes.contains(*class));
    let wanted = |class: &str| case.class.as_deref().is_none_or(|wanted| wanted == class);
    own.clone().find(|(class, _)| wanted(class)).ok_or_else(|| Error::Class {
        action: case.action.clone(),
        class: case.class.clone().unwrap_or_default(),
        classes: own.map(|(class, _)| class.to_owned()).collect(),
    })
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, action, class, operator, local, .. } = self;
        writeln!(f, "{verdict}\n  {action}, of class {class}, by {operator} ({}), {local}", self.roles.join(", "))?;
        if let Some(why) = &self.why {
            writeln!(f, "  {why}")?;
        }
        if *verdict == "on approval" {
            writeln!(f, "  it waits until you approve it: sfdata-agent approve ID")?;
        }
        for rule in &self.rules {
            let id = rule.id.as_deref().unwrap_or("(without @id)");
            let waits = if rule.approval { ", on approval" } else { "" };
            writeln!(f, "  line {:<4} {}{waits}: {id}", rule.line, rule.effect)?;
            if let Some(description) = &rule.description {
                writeln!(f, "            {description}")?;
            }
        }
        self.freezes.iter().try_for_each(|freeze| writeln!(f, "  freeze    {}, to {}", freeze.name, freeze.to))?;
        self.hold.iter().try_for_each(|hold| writeln!(f, "  hold      in force now: {hold}"))
    }
}
