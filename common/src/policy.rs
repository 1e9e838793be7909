//! Policies in Cedar: the hub's, by which roles become rights, and each LA's own veto.
//!
//! Entities: `Operator::"alice"` in `Role::"admin"`; `Action::"ecs.restart"` in `Action::"operate"`;
//! `Agent::"camden"` in `Group::"pilot"`, with `labels`; `Fleet::"fleet"` for what concerns no single agent.
//! Context: `reason`, `hour_utc` (0 to 23), `weekday` (1 Monday to 7 Sunday).

use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr as _,
};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    ids::{AgentId, GroupName, OperatorName},
    trust::Role,
};

/// The text is no policy.
#[derive(Debug, thiserror::Error)]
#[error("the policy is not valid Cedar")]
pub struct Invalid(#[source] Box<cedar_policy::ParseErrors>);

/// A parsed policy.
pub struct Policy {
    policies: PolicySet,
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
        let name = |text| EntityTypeName::from_str(text).map_err(|errors| Invalid(Box::new(errors)));
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
}

/// The policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No, and which rules said so; none means that nothing permits it.
    Denied(String),
}

impl Policy {
    /// Parse a policy text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let policies = PolicySet::from_str(text).map_err(|errors| Invalid(Box::new(errors)))?;
        Ok(Self { policies, authorizer: Authorizer::new(), types: Types::new()? })
    }

    /// Ask. What can't be evaluated is denied.
    pub fn ask(&self, question: &Question<'_>) -> Verdict {
        let Some((request, entities)) = self.translate(question) else {
            return Verdict::Denied("the question could not be put to the policy".into());
        };
        let answer = self.authorizer.is_authorized(&request, &self.policies, &entities);
        let errors: Vec<String> = answer.diagnostics().errors().map(ToString::to_string).collect();
        if !errors.is_empty() {
            return Verdict::Denied(format!("the policy could not be evaluated: {}", errors.join("; ")));
        }
        if answer.decision() == Decision::Allow {
            return Verdict::Allowed;
        }
        let rules: Vec<String> = answer.diagnostics().reason().map(|id| self.rule_name(id)).collect();
        Verdict::Denied(if rules.is_empty() {
            "no rule permits it".into()
        } else {
            format!("forbidden by {}", rules.join(", "))
        })
    }

    /// A rule's `@id` annotation, or the name that Cedar gave it by its place in the text.
    fn rule_name(&self, id: &cedar_policy::PolicyId) -> String {
        self.policies.annotation(id, "id").map_or_else(|| id.to_string(), |name| format!("rule {name:?}"))
    }
}

fn uid(kind: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

impl Policy {
    fn translate(&self, question: &Question<'_>) -> Option<(Request, Entities)> {
        let types = &self.types;
        let mut entities = Vec::with_capacity(8);
        let roles: HashSet<_> = question.roles.iter().map(|role| uid(&types.role, role.as_str())).collect();
        let operator = uid(&types.operator, question.operator.as_str());
        entities.extend(roles.iter().cloned().map(|role| Entity::new_no_attrs(role, HashSet::new())));
        entities.push(Entity::new_no_attrs(operator.clone(), roles));

        let (action, class) = (uid(&types.action, question.action), uid(&types.action, question.class));
        entities.push(Entity::new_no_attrs(class.clone(), HashSet::new()));
        entities.push(Entity::new_no_attrs(action.clone(), HashSet::from([class])));

        let resource = match question.resource {
            Resource::Fleet => uid(&types.fleet, "fleet"),
            Resource::Agent(id, facts) => {
                let groups: HashSet<_> = facts.groups.iter().map(|group| uid(&types.group, group.as_str())).collect();
                let labels = facts
                    .labels
                    .iter()
                    .map(|(key, value)| (key.clone(), RestrictedExpression::new_string(value.clone())));
                let labels = RestrictedExpression::new_record(labels).ok()?;
                let agent = uid(&types.agent, id.as_str());
                entities.extend(groups.iter().cloned().map(|group| Entity::new_no_attrs(group, HashSet::new())));
                entities.push(Entity::new(agent.clone(), [("labels".to_owned(), labels)].into(), groups).ok()?);
                agent
            }
        };
        let time = question.now.to_zoned(TimeZone::UTC);
        let context = Context::from_pairs([
            ("reason".to_owned(), RestrictedExpression::new_string(question.reason.to_owned())),
            ("hour_utc".to_owned(), RestrictedExpression::new_long(time.hour().into())),
            ("weekday".to_owned(), RestrictedExpression::new_long(time.weekday().to_monday_one_offset().into())),
        ])
        .ok()?;
        let request = Request::new(operator, action, resource, context, None).ok()?;
        Some((request, Entities::from_entities(entities, None).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(policy: &str, role: Role, class: &str, hour: i64) -> Verdict {
        let facts = AgentFacts {
            groups: vec!["pilot".parse().unwrap()],
            labels: BTreeMap::from([("region".to_owned(), "north".to_owned())]),
        };
        Policy::parse(policy).unwrap().ask(&Question {
            operator: &"alice".parse().unwrap(),
            roles: &[role],
            action: "ecs.restart",
            class,
            resource: Resource::Agent(&"camden".parse().unwrap(), &facts),
            reason: "because",
            now: Timestamp::from_second(hour * 3600).unwrap(),
        })
    }

    #[test]
    fn roles_groups_labels_and_hours_can_be_spoken_of() {
        let policy = r#"
            permit(principal in Role::"operator", action in Action::"operate", resource in Group::"pilot")
                when { resource.labels.region == "north" };
            @id("not at night")
            forbid(principal, action, resource) when { context.hour_utc < 6 };
        "#;
        assert_eq!(ask(policy, Role::Operator, "operate", 12), Verdict::Allowed);
        assert_eq!(ask(policy, Role::Operator, "change", 12), Verdict::Denied("no rule permits it".into()));
        assert_eq!(ask(policy, Role::Viewer, "operate", 12), Verdict::Denied("no rule permits it".into()));
        let Verdict::Denied(why) = ask(policy, Role::Operator, "operate", 3) else { panic!("allowed at night") };
        assert!(why.contains("not at night"), "{why}");
    }

    #[test]
    fn what_can_not_be_evaluated_is_denied() {
        let policy = "permit(principal, action, resource) when { resource.labels.none == \"x\" };";
        assert!(matches!(ask(policy, Role::Admin, "read", 1), Verdict::Denied(why) if why.contains("evaluated")));
        assert!(Policy::parse("permit(everything)").is_err());
    }
}
