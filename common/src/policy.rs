//! Policies in Cedar: the hub's, by which roles become rights, and each LA's own veto.
//!
//! What they can speak of is in `deploy/config/*.cedarschema`; a policy that names anything else is refused when it is
//! read. Times are local: of Europe/London, for the estate as a whole.

mod text;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    str::FromStr as _,
};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    PolicySet, Request, RestrictedExpression,
};
use jiff::{Timestamp, Zoned, tz::TimeZone};

pub use self::text::{Invalid, Remark, Rule, actions};
use crate::{
    ids::{AgentId, GroupName, OperatorName},
    trust::Role,
};

/// Where the estate is. It is compiled in, so that it needs no files of the system's.
pub const ZONE: TimeZone = jiff::tz::get!("Europe/London");
/// Its name.
pub const ZONE_NAME: &str = "Europe/London";

/// The time there.
pub fn local(at: Timestamp) -> Zoned {
    at.to_zoned(ZONE)
}

/// Whose policy it is: each can speak of its own world alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The hub's: the fleet, with groups and labels.
    Hub,
    /// An LA's own: its agent, with freezes and approval.
    Agent,
}

/// A policy that was read and held against the schema.
pub struct Policy {
    side: Side,
    policies: PolicySet,
    rules: HashMap<PolicyId, Rule>,
    warnings: Vec<Remark>,
    authorizer: Authorizer,
    types: Types,
}

/// Names of the entity types: Cedar parses them like any text, so that is done once and not for each question.
struct Types {
    operator: EntityTypeName,
    role: EntityTypeName,
    action: EntityTypeName,
    agent: EntityTypeName,
    group: EntityTypeName,
    fleet: EntityTypeName,
}

impl Types {
    fn new() -> Result<Self, Invalid> {
        let name = |text| {
            EntityTypeName::from_str(text).map_err(|errors| Invalid {
                problems: errors.iter().map(|error| Remark { line: 1, text: error.to_string() }).collect(),
            })
        };
        Ok(Self {
            operator: name("Operator")?,
            role: name("Role")?,
            action: name("Action")?,
            agent: name("Agent")?,
            group: name("Group")?,
            fleet: name("Fleet")?,
        })
    }
}

/// What an agent is, to a policy.
#[derive(Debug, Clone, Default)]
pub struct AgentFacts {
    /// Sets that it belongs to.
    pub groups: Vec<GroupName>,
    /// Free words about it.
    pub labels: BTreeMap<String, String>,
}

/// What something is to be done to.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// One agent, which is one LA.
    Agent(&'a AgentId, &'a AgentFacts),
    /// The fleet as a whole: its registry, its trust, its record.
    Fleet,
}

/// May this operator do this to that?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub operator: &'a OperatorName,
    /// What the trust bundle makes of them.
    pub roles: &'a [Role],
    /// `ecs.restart`, `agents.lock`, ...
    pub action: &'a str,
    /// `read`, `operate`, `change`, `data`, `destroy` or, for the fleet itself, `administer`.
    pub class: &'a str,
    /// To what.
    pub resource: Resource<'a>,
    /// Why, in the operator's words.
    pub reason: &'a str,
    /// When.
    pub now: Timestamp,
    /// How many different operators signed.
    pub signers: usize,
    /// Names of the LA's freezes in force; the hub knows of none.
    pub freezes: &'a [&'a str],
}

/// The policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Once the LA has approved it: every rule that permits it says so.
    OnApproval,
    /// No, and which rules said so; none means that nothing permits it.
    Denied(String),
}

/// The policy's answer, with the rules that it rests on.
#[derive(Debug)]
pub struct Decided<'a> {
    /// The answer.
    pub verdict: Verdict,
    /// Those that decided, in the order of the text.
    pub rules: Vec<&'a Rule>,
}

impl Policy {
    /// Read a policy's text.
    pub fn parse(text: &str, side: Side) -> Result<Self, Invalid> {
        let text::Checked { policies, rules, warnings } = text::check(text, side)?;
        let (authorizer, types) = (Authorizer::new(), Types::new()?);
        Ok(Self { side, policies, rules: rules.into_iter().collect(), warnings, authorizer, types })
    }

    /// What is legal in it and can hardly be meant: rules that can never apply.
    pub fn warnings(&self) -> &[Remark] {
        &self.warnings
    }

    /// Ask. What can't be evaluated is denied.
    pub fn ask(&self, question: &Question<'_>) -> Verdict {
        self.decide(question).verdict
    }

    /// Ask, and be told which rules decided.
    pub fn decide(&self, question: &Question<'_>) -> Decided<'_> {
        let Some((request, entities)) = self.translate(question) else {
            let verdict = Verdict::Denied("the question could not be put to the policy".into());
            return Decided { verdict, rules: Vec::new() };
        };
        let answer = self.authorizer.is_authorized(&request, &self.policies, &entities);
        let failed = answer.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(error)| error);
        let failed = self.named(failed.map(|error| error.policy_id()));
        if !failed.is_empty() {
            let verdict = Verdict::Denied(format!("it could not be evaluated: {}", list(&failed)));
            return Decided { verdict, rules: failed };
        }
        let rules = self.named(answer.diagnostics().reason());
        let verdict = if answer.decision() == Decision::Allow {
            if rules.iter().all(|rule| rule.approval) { Verdict::OnApproval } else { Verdict::Allowed }
        } else if rules.is_empty() {
            Verdict::Denied("no rule permits it".into())
        } else {
            Verdict::Denied(format!("forbidden by {}", list(&rules)))
        };
        Decided { verdict, rules }
    }

    fn named<'a>(&self, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<&Rule> {
        let mut rules: Vec<&Rule> = ids.filter_map(|id| self.rules.get(id)).collect();
        rules.sort_by_key(|rule| rule.line);
        rules
    }
}

fn list(rules: &[&Rule]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn uid(kind: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

impl Policy {
    /// Parents that have nothing of their own need not be there themselves.
    fn translate(&self, question: &Question<'_>) -> Option<(Request, Entities)> {
        let types = &self.types;
        let mut entities = Vec::with_capacity(3);
        let roles: HashSet<_> = question.roles.iter().map(|role| uid(&types.role, role.as_str())).collect();
        let operator = uid(&types.operator, question.operator.as_str());
        entities.push(Entity::new_no_attrs(operator.clone(), roles));

        let (action, class) = (uid(&types.action, question.action), uid(&types.action, question.class));
        entities.push(Entity::new_no_attrs(action.clone(), HashSet::from([class])));

        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let resource = match question.resource {
            Resource::Fleet => uid(&types.fleet, "fleet"),
            Resource::Agent(id, facts) => {
                let groups = facts.groups.iter().map(|group| uid(&types.group, group.as_str()));
                let labels = facts.labels.iter().map(|(key, value)| (key.clone(), text(value)));
                let agent = uid(&types.agent, id.as_str());
                entities.push(Entity::new_with_tags(agent.clone(), [], groups, labels).ok()?);
                agent
            }
        };
        let time = local(question.now);
        let date = i64::from(time.year()) * 10_000 + i64::from(time.month()) * 100 + i64::from(time.day());
        let long = RestrictedExpression::new_long;
        let mut context = vec![
            ("reason".to_owned(), text(question.reason)),
            ("hour".to_owned(), long(time.hour().into())),
            ("minute".to_owned(), long(time.minute().into())),
            ("weekday".to_owned(), long(time.weekday().to_monday_one_offset().into())),
            ("date".to_owned(), long(date)),
            ("signers".to_owned(), long(question.signers.try_into().unwrap_or(i64::MAX))),
        ];
        if self.side == Side::Agent {
            let freezes = question.freezes.iter().map(|name| text(name));
            context.push(("freezes".to_owned(), RestrictedExpression::new_set(freezes)));
        }
        let context = Context::from_pairs(context).ok()?;
        let request = Request::new(operator, action, resource, context, None).ok()?;
        Some((request, Entities::from_entities(entities, None).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> AgentFacts {
        AgentFacts {
            groups: vec!["pilot".parse().unwrap()],
            labels: BTreeMap::from([("region".to_owned(), "north".to_owned())]),
        }
    }

    fn ask_of(policy: &str, side: Side, change: impl Fn(&mut Question<'_>)) -> Verdict {
        let (alice, camden, facts) = ("alice".parse().unwrap(), "camden".parse().unwrap(), facts());
        let mut question = Question {
            operator: &alice,
            roles: &[Role::Operator],
            action: "ecs.restart",
            class: "operate",
            resource: Resource::Agent(&camden, &facts),
            reason: "because",
            now: "2027-01-05T12:00:00Z".parse().unwrap(),
            signers: 1,
            freezes: &[],
        };
        change(&mut question);
        Policy::parse(policy, side).unwrap().ask(&question)
    }

    fn denied() -> Verdict {
        Verdict::Denied("no rule permits it".into())
    }

    #[test]
    fn roles_groups_labels_and_hours_can_be_spoken_of() {
        let policy = r#"
            permit(principal in Role::"operator", action in Action::"operate", resource in Group::"pilot")
                when { resource.hasTag("region") && resource.getTag("region") == "north" };
            @id("not at night")
            forbid(principal, action, resource) when { context.hour < 6 };
        "#;
        assert_eq!(ask_of(policy, Side::Hub, |_| {}), Verdict::Allowed);
        assert_eq!(ask_of(policy, Side::Hub, |question| question.class = "change"), denied());
        assert_eq!(ask_of(policy, Side::Hub, |question| question.roles = &[Role::Viewer]), denied());
        let night = ask_of(policy, Side::Hub, |question| question.now = "2027-01-05T03:00:00Z".parse().unwrap());
        assert_eq!(night, Verdict::Denied("forbidden by rule \"not at night\"".into()));
    }

    #[test]
    fn what_can_not_be_evaluated_is_denied_and_tells_the_rule_alone() {
        let policy =
            "@id(\"late\") permit(principal, action, resource) when { context.date * 9223372036854775807 > 1 };";
        let verdict = ask_of(policy, Side::Agent, |_| {});
        assert_eq!(verdict, Verdict::Denied("it could not be evaluated: rule \"late\"".into()));
    }

    #[test]
    fn time_is_local_on_both_sides_of_both_changes_of_the_clock() {
        let at = |now: &str, condition: &str| {
            let policy = format!("permit(principal, action, resource) when {{ {condition} }};");
            let now: Timestamp = now.parse().unwrap();
            let [hub, agent] =
                [Side::Hub, Side::Agent].map(|side| ask_of(&policy, side, |question| question.now = now));
            assert_eq!(hub, agent);
            hub == Verdict::Allowed
        };
        for (now, date, weekday, hour, minute) in [
            ("2027-03-28T00:59:59Z", 20270328, 7, 0, 59),
            ("2027-03-28T01:00:00Z", 20270328, 7, 2, 0), // the hour from 1 to 2 is not there
            ("2027-10-31T00:30:00Z", 20271031, 7, 1, 30),
            ("2027-10-31T01:30:00Z", 20271031, 7, 1, 30), // it is there twice
            ("2027-06-30T23:15:00Z", 20270701, 4, 0, 15),
            ("2026-12-31T23:59:59Z", 20261231, 4, 23, 59),
            ("2027-01-01T00:00:00Z", 20270101, 5, 0, 0),
            ("2028-02-29T12:00:00Z", 20280229, 2, 12, 0),
            ("2060-07-01T12:00:00Z", 20600701, 4, 13, 0), // after the last change that is written down
        ] {
            let exactly = format!(
                "context.date == {date} && context.weekday == {weekday} && context.hour == {hour} && context.minute == {minute}"
            );
            assert!(at(now, &exactly), "{now}: {}", local(now.parse().unwrap()));
        }
    }

    #[test]
    fn a_command_waits_when_every_rule_that_permits_it_says_so() {
        let policy = r#"
            @approval("la") permit(principal, action in Action::"operate", resource);
            permit(principal, action, resource) when { context.signers >= 2 };
            forbid(principal, action, resource) when { context.freezes.contains("return") };
        "#;
        assert_eq!(ask_of(policy, Side::Agent, |_| {}), Verdict::OnApproval);
        assert_eq!(ask_of(policy, Side::Agent, |question| question.signers = 2), Verdict::Allowed);
        assert_eq!(ask_of(policy, Side::Agent, |question| question.class = "change"), denied());
        let frozen = ask_of(policy, Side::Agent, |question| question.freezes = &["other", "return"]);
        assert_eq!(frozen, Verdict::Denied("forbidden by the rule in line 4".into()));
    }
}
