//! From a policy's text to rules that can be asked: parsed, held against the schema, each rule with its line.

use std::{collections::BTreeSet, fmt, str::FromStr as _};

use cedar_policy::{Effect, PolicyId, PolicySet, Schema, ValidationError, ValidationMode, Validator};
use miette::Diagnostic;

use super::Side;

const COMMON: &str = include_str!("../../../deploy/config/policy.cedarschema");
const HUB: &str = include_str!("../../../deploy/config/hub.cedarschema");
const AGENT: &str = include_str!("../../../deploy/config/agent.cedarschema");

/// Names a rule in messages.
const ID: &str = "id";
/// What a rule is for, in whoever's words wrote it.
const DESCRIPTION: &str = "description";
/// A permit that holds only once the LA has approved the command.
const APPROVAL: &str = "approval";
/// The one who approves.
const LA: &str = "la";

/// The text is no policy, or speaks of what there is not.
#[derive(Debug, thiserror::Error)]
#[error("the policy has to be corrected:{}", List(problems))]
pub struct Invalid {
    /// Everything that is wrong with it.
    pub problems: Vec<Remark>,
}

struct List<'a>(&'a [Remark]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|remark| write!(f, "\n  - {remark}"))
    }
}

/// What there is to say of one place in a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl Remark {
    fn of(text: &str, diagnostic: &dyn Diagnostic) -> Self {
        let help = diagnostic.help().map(|help| help.to_string());
        Self::with_help(text, diagnostic, help)
    }

    /// Cedar's own suggestion is of little use: it would have `ecs.restrat` be `data`.
    fn of_action(text: &str, diagnostic: &dyn Diagnostic, schema: &Schema) -> Self {
        let said = diagnostic.to_string();
        let named = said.split('"').nth(1).unwrap_or_default();
        let known = schema.actions().map(|action| action.id().unescaped());
        let nearest = known.min_by_key(|known| (distance(named, known), *known));
        let help = nearest.map(|nearest| format!("did you mean `Action::{nearest:?}`?"));
        Self::with_help(text, diagnostic, help)
    }

    fn with_help(text: &str, diagnostic: &dyn Diagnostic, help: Option<String>) -> Self {
        let offset = diagnostic.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
        let said = diagnostic.to_string();
        // Cedar's own name for the rule; the line tells which it is.
        let rest = said.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")).map(|(_, rest)| rest);
        let mut remark = rest.unwrap_or(&said).to_owned();
        if let Some(help) = help {
            remark = format!("{remark}; {help}");
        }
        Self { line: line_of(text, offset), text: remark }
    }
}

/// Levenshtein's: how many characters have to be put in, taken out or replaced.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (place, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it begins, from 1.
    pub line: usize,
    /// Its `@id`.
    pub id: Option<String>,
    /// Its `@description`.
    pub description: Option<String>,
    /// Whether it permits; else it forbids.
    pub permits: bool,
    /// Whether what it permits waits for the LA's approval: `@approval("la")`.
    pub approval: bool,
}

impl fmt::Display for Rule {
    /// What may be told to anybody: no word of the rule itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "rule {id:?}"),
            None => write!(f, "the rule in line {}", self.line),
        }
    }
}

/// A policy that holds against the schema.
pub(super) struct Checked {
    pub(super) policies: PolicySet,
    /// By Cedar's name for each.
    pub(super) rules: Vec<(PolicyId, Rule)>,
    /// What is legal and can hardly be meant.
    pub(super) warnings: Vec<Remark>,
}

/// The actions that a policy of that side can name, with the classes that each is of, classes themselves left out.
pub fn actions(side: Side) -> Vec<(String, BTreeSet<String>)> {
    let Ok(schema) = schema(side) else { return Vec::new() };
    let Ok(entities) = schema.action_entities() else { return Vec::new() };
    let name = |uid: &cedar_policy::EntityUid| uid.id().unescaped().to_owned();
    let groups: BTreeSet<String> = schema.action_groups().map(name).chain(["administer".to_owned()]).collect();
    let each = schema.actions().filter_map(|action| {
        let classes: BTreeSet<String> = entities.ancestors(action)?.map(name).collect();
        (!groups.contains(&name(action))).then(|| (name(action), classes))
    });
    let mut actions: Vec<_> = each.collect();
    actions.sort();
    actions
}

pub(super) fn schema(side: Side) -> Result<Schema, Invalid> {
    let own = match side {
        Side::Hub => HUB,
        Side::Agent => AGENT,
    };
    let text = format!("{COMMON}\n{own}");
    match Schema::from_cedarschema_str(&text) {
        Ok((schema, _)) => Ok(schema),
        Err(error) => Err(Invalid { problems: vec![Remark::of(&text, &error)] }),
    }
}

pub(super) fn check(text: &str, side: Side) -> Result<Checked, Invalid> {
    let parsed = PolicySet::from_str(text);
    let policies = parsed.map_err(|errors| invalid(errors.iter().map(|error| Remark::of(text, error)).collect()))?;
    let mut problems = Vec::new();
    if let Some(template) = policies.templates().next() {
        let what = format!("{} has a slot such as ?principal; write whom or what it is for", template.id());
        problems.push(Remark { line: 1, text: what });
    }
    // Cedar names rules by their place; ids of equal length sort as numbers.
    let mut ids: Vec<PolicyId> = policies.policies().map(|policy| policy.id().clone()).collect();
    ids.sort_by_key(|id| (id.to_string().len(), id.to_string()));
    let lines = beginnings(text).into_iter().map(|offset| line_of(text, offset)).chain(std::iter::repeat(1));
    let rules = ids.iter().zip(lines).map(|(id, line)| (id.clone(), rule(&policies, id, line, side, &mut problems)));
    let rules: Vec<_> = rules.collect();
    let schema = schema(side)?;
    let found = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    problems.extend(found.validation_errors().map(|error| match error {
        ValidationError::UnrecognizedActionId(_) => Remark::of_action(text, error, &schema),
        error => Remark::of(text, error),
    }));
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    let mut warnings: Vec<Remark> = found.validation_warnings().map(|warning| Remark::of(text, warning)).collect();
    warnings.sort();
    warnings.dedup();
    Ok(Checked { policies, rules, warnings })
}

fn invalid(mut problems: Vec<Remark>) -> Invalid {
    problems.sort();
    problems.dedup();
    Invalid { problems }
}

/// A rule as its annotations describe it. One that is not known is a slip that could let a command pass unapproved.
fn rule(policies: &PolicySet, id: &PolicyId, line: usize, side: Side, problems: &mut Vec<Remark>) -> Rule {
    let policy = policies.policy(id);
    let permits = policy.is_some_and(|policy| policy.effect() == Effect::Permit);
    let annotation = |key: &str| policies.annotation(id, key).map(str::to_owned);
    let rule = Rule {
        line,
        id: annotation(ID),
        description: annotation(DESCRIPTION),
        permits,
        approval: annotation(APPROVAL).is_some(),
    };
    let mut problem = |text: String| problems.push(Remark { line, text });
    for (key, value) in policy.iter().flat_map(|policy| policy.annotations()) {
        match (key, value) {
            (ID | DESCRIPTION, _) => {}
            (APPROVAL, _) if side == Side::Hub => {
                problem("@approval stands in an LA's own policy alone: nothing waits at the hub".into());
            }
            (APPROVAL, _) if !permits => {
                problem("@approval stands at a permit; what is forbidden waits for nobody".into())
            }
            (APPROVAL, LA) => {}
            (APPROVAL, other) => problem(format!("@approval({other:?}) names nobody; write @approval({LA:?})")),
            (other, _) => problem(format!(
                "there is no annotation @{other}; there are @{ID}, @{DESCRIPTION} and, at a permit of an LA, @{APPROVAL}({LA:?})"
            )),
        }
    }
    rule
}

/// Where each rule begins: rules end at a semicolon that is neither in a string nor in a comment.
fn beginnings(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut inside) = (Vec::new(), 0, false);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'/' && bytes.get(at + 1) == Some(&b'/') {
            at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
            continue;
        }
        if !inside && !byte.is_ascii_whitespace() {
            found.push(at);
            inside = true;
        }
        match byte {
            b';' => inside = false,
            b'"' => {
                at += 1;
                while let Some(&byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    at += if byte == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, side: Side) -> String {
        match check(text, side) {
            Ok(_) => String::new(),
            Err(invalid) => invalid.to_string(),
        }
    }

    #[test]
    fn each_rule_knows_its_line_whatever_strings_and_comments_hold() {
        let text = "// permit (;\n\n@id(\"a;\\\"b // c\")\npermit (principal, action, resource);\n// x\nforbid (principal,\n\
                    action, resource) when { context.reason == \"// ;\" }; permit (principal, action, resource);\n";
        let checked = check(text, Side::Agent).unwrap();
        let lines: Vec<_> = checked.rules.iter().map(|(_, rule)| (rule.line, rule.permits)).collect();
        assert_eq!(lines, [(3, true), (6, false), (7, true)]);
        assert_eq!(checked.rules[0].1.to_string(), "rule \"a;\\\"b // c\"");
        assert_eq!(checked.rules[1].1.to_string(), "the rule in line 6");
        let many = "permit (principal, action, resource);\n".repeat(120);
        let checked = check(&many, Side::Agent).unwrap();
        assert!(
            checked.rules.iter().enumerate().all(|(at, (_, rule))| rule.line == at + 1),
            "in the order of the text"
        );
    }

    #[test]
    fn a_slip_is_told_with_its_line_and_what_is_possible() {
        let forbid = |scope: &str, when: &str| format!("// A comment.\nforbid ({scope})\nwhen {{ {when} }};\n");
        for (scope, when, expected) in [
            (
                "principal, action == Action::\"ecs.restrat\", resource",
                "true",
                ["line 2: ", "did you mean `Action::\"ecs.restart\"`?"],
            ),
            ("principal, action in Action::\"chnge\", resource", "true", ["line 2: ", "`Action::\"change\"`"]),
            ("principal in Role::\"operatr\", action, resource", "true", ["line 2: ", "\"operator\""]),
            ("principal == Operater::\"alice\", action, resource", "true", ["line 2: ", "did you mean `Operator`"]),
            ("principal, action, resource", "context.weekdy > 5", ["line 3: ", "weekday"]),
            ("principal, action, resource", "context.hour > \"10\"", ["line 3: ", "Long"]),
            ("principal, action, resource in Group::\"pilot\"", "true", ["line 2: ", "Group"]),
            ("principal, action, resource", "context.freezes == 3", ["line 3: ", "types"]),
        ] {
            let told = problems(&forbid(scope, when), Side::Agent);
            assert!(expected.iter().all(|word| told.contains(word)), "{scope} {when}: {told}");
        }
        let told = problems("permit (principal, action, resource)\nwhen { true }\n\npermit", Side::Agent);
        assert!(told.contains("line 4: "), "{told}");
    }

    #[test]
    fn an_annotation_that_does_nothing_is_an_error() {
        let rule = |annotation: &str, effect: &str| format!("{annotation}\n{effect} (principal, action, resource);");
        assert_eq!(problems(&rule("@approval(\"la\")", "permit"), Side::Agent), "");
        assert_eq!(problems(&rule("@id(\"x\") @description(\"y\")", "permit"), Side::Hub), "");
        for (text, side, expected) in [
            (rule("@aproval(\"la\")", "permit"), Side::Agent, "@aproval"),
            (rule("@approval(\"LA\")", "permit"), Side::Agent, "write @approval(\"la\")"),
            (rule("@approval(\"la\")", "forbid"), Side::Agent, "stands at a permit"),
            (rule("@approval(\"la\")", "permit"), Side::Hub, "waits at the hub"),
        ] {
            let told = problems(&text, side);
            assert!(told.contains("line 1: ") && told.contains(expected), "{told}");
        }
    }

    #[test]
    fn each_side_can_speak_of_its_own_world_alone() {
        let pilot = "permit (principal, action, resource in Group::\"pilot\");";
        let frozen = "forbid (principal, action, resource) when { !context.freezes.isEmpty() };";
        assert_eq!((problems(pilot, Side::Hub), problems(frozen, Side::Agent)), (String::new(), String::new()));
        assert!(!problems(pilot, Side::Agent).is_empty() && !problems(frozen, Side::Hub).is_empty());
    }

    #[test]
    fn a_rule_that_can_never_apply_is_warned_of() {
        let text =
            "permit (principal, action == Action::\"ecs.status\", resource)\nwhen { action in Action::\"change\" };";
        let warnings = check(text, Side::Agent).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].line == 1 && warnings[0].text.contains("impossible"), "{warnings:?}");
    }
}
