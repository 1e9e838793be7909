//! The CloudFormation templates of `deploy/cloudformation` as data, with their short forms made long.

use std::sync::LazyLock;

use regex::Regex;
use saphyr::{LoadableYamlNode as _, ScalarOwned, YamlOwned};
use serde_json::{Map, Value, json};

/// Which account a stack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Place {
    // Repositories, network, hub.
    Core,
    // One LA.
    Child,
}

/// One template.
#[derive(Debug)]
pub(crate) struct Template {
    /// As `deploy/load` calls it: `network`.
    pub(crate) stack: &'static str,
    /// With `Fn::` and `Ref` in place of short forms.
    pub(crate) body: Value,
    pub(crate) parameters: Vec<Parameter>,
}

/// What a template is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// CloudFormation's: `String`, `Number`, `CommaDelimitedList`.
    pub(crate) kind: String,
    pub(crate) default: Option<String>,
    pub(crate) description: String,
    /// Empty: any.
    pub(crate) allowed: Vec<String>,
    pub(crate) pattern: Option<String>,
    /// What the pattern means, in words.
    pub(crate) constraint: Option<String>,
    pub(crate) most: Option<usize>,
}

macro_rules! embedded {
    ($($stack:literal at $path:literal),* $(,)?) => {
        [$(($stack, include_str!(concat!("../../../../deploy/cloudformation/", $path)))),*]
    };
}

// In the order in which deploy/load loads them.
static CORE: LazyLock<Vec<Template>> = LazyLock::new(|| {
    read(embedded![
        "ecr" at "core/ecr.yaml",
        "network" at "core/network.yaml",
        "store" at "core/store.yaml",
        "hub" at "core/hub.yaml",
        "shared" at "core/shared.yaml",
        "stackset" at "stackset.yaml",
    ])
});

static CHILD: LazyLock<Vec<Template>> = LazyLock::new(|| {
    read(embedded![
        "network" at "child/network.yaml",
        "endpoints" at "child/endpoints.yaml",
        "storage" at "child/storage.yaml",
        "database" at "child/database.yaml",
        "balancer" at "child/balancer.yaml",
        "dagster-roles" at "child/dagster-roles.yaml",
        "dagster" at "child/dagster.yaml",
        "frontend" at "child/frontend.yaml",
        "role" at "child/role.yaml",
        "agent" at "child/agent.yaml",
    ])
});

fn read<const N: usize>(texts: [(&'static str, &'static str); N]) -> Vec<Template> {
    texts.into_iter().map(|(stack, text)| Template::read(stack, text)).collect()
}

impl Place {
    /// Its templates, in the order in which one needs the other.
    pub(crate) fn templates(self) -> &'static [Template] {
        match self {
            Self::Core => &CORE,
            Self::Child => &CHILD,
        }
    }

    /// As in `deploy/load core`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Child => "child",
        }
    }

    /// Every parameter, with what the first template that has it says of it.
    pub(crate) fn parameters(self) -> Vec<&'static Parameter> {
        let mut all: Vec<&Parameter> = Vec::new();
        for parameter in self.templates().iter().flat_map(|template| &template.parameters) {
            if !all.iter().any(|known| known.name == parameter.name) {
                all.push(parameter);
            }
        }
        all
    }
}

impl Template {
    /// A text that is built in, and is YAML: a test reads them all.
    pub(crate) fn read(stack: &'static str, text: &str) -> Self {
        let body = YamlOwned::load_from_str(text).ok().and_then(|mut documents| documents.pop()).map(long);
        let body = body.unwrap_or_default();
        let parameters = body["Parameters"].as_object().into_iter().flatten();
        let parameters = parameters.map(|(name, definition)| Parameter::read(name, definition)).collect();
        Self { stack, body, parameters }
    }

    /// What is told of it.
    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

impl Parameter {
    fn read(name: &str, definition: &Value) -> Self {
        let text = |key: &str| scalar(&definition[key]);
        let allowed = definition["AllowedValues"].as_array().into_iter().flatten().filter_map(scalar).collect();
        Self {
            name: name.to_owned(),
            kind: text("Type").unwrap_or_default(),
            default: text("Default"),
            description: text("Description").unwrap_or_default(),
            allowed,
            pattern: text("AllowedPattern"),
            constraint: text("ConstraintDescription"),
            most: definition["MaxLength"].as_u64().and_then(|most| most.try_into().ok()),
        }
    }

    /// Whether CloudFormation makes a list of its text.
    pub(crate) fn is_list(&self) -> bool {
        self.kind == "CommaDelimitedList" || self.kind.starts_with("List<")
    }

    /// What is wrong with a value, if anything is.
    pub(crate) fn objection(&self, value: &str) -> Option<String> {
        let legal =
            |pattern: &str, part: &str| Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|rule| rule.is_match(part));
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed == value) {
            return Some(format!("it is one of {}", self.allowed.join(", ")));
        }
        if self.kind == "Number" && value.parse::<f64>().is_err() {
            return Some("it is a number".into());
        }
        if self.most.is_some_and(|most| value.chars().count() > most) {
            return Some(format!("it has at most {} characters", self.most.unwrap_or_default()));
        }
        let pattern = self.pattern.as_deref()?;
        let parts: Vec<&str> = if self.is_list() { value.split(',').collect() } else { vec![value] };
        (!parts.into_iter().all(|part| legal(pattern, part)))
            .then(|| self.constraint.clone().unwrap_or_else(|| format!("it has to match {pattern}")))
    }
}

/// A scalar as CloudFormation takes it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

/// `!Sub x` as `{"Fn::Sub": "x"}`, and so on.
fn long(node: YamlOwned) -> Value {
    match node {
        YamlOwned::Value(ScalarOwned::Boolean(is)) => is.into(),
        YamlOwned::Value(ScalarOwned::Integer(number)) => number.into(),
        YamlOwned::Value(ScalarOwned::FloatingPoint(number)) => number.into_inner().into(),
        YamlOwned::Value(ScalarOwned::String(text)) => text.into(),
        YamlOwned::Representation(text, _, None) => text.into(),
        YamlOwned::Representation(text, _, Some(tag)) => function(&tag.suffix, text.into()),
        YamlOwned::Tagged(tag, inner) => function(&tag.suffix, long(*inner)),
        YamlOwned::Sequence(parts) => parts.into_iter().map(long).collect(),
        YamlOwned::Mapping(entries) => {
            let entries = entries.into_iter().filter_map(|(key, value)| Some((scalar(&long(key))?, long(value))));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        YamlOwned::Value(ScalarOwned::Null) | YamlOwned::Alias(_) | YamlOwned::BadValue => Value::Null,
    }
}

fn function(name: &str, inner: Value) -> Value {
    match (name, inner) {
        ("Ref" | "Condition", inner) => json!({ name: inner }),
        ("GetAtt", Value::String(text)) => {
            let (resource, attribute) = text.split_once('.').unwrap_or((&text, ""));
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (name, inner) => json!({ format!("Fn::{name}"): inner }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_read_and_stands_where_deploy_load_loads_it() {
        let script = include_str!("../../../../deploy/load");
        for place in [Place::Core, Place::Child] {
            let stacks: Vec<_> = place.templates().iter().map(|template| template.stack).collect();
            assert!(script.contains(&format!("\n{}=({})\n", place.name(), stacks.join(" "))), "{stacks:?}");
            for template in place.templates() {
                assert!(template.body["Resources"].as_object().is_some_and(|made| !made.is_empty()), "{template:?}");
                assert!(!template.parameters.is_empty(), "{}", template.stack);
                for parameter in &template.parameters {
                    assert!(!parameter.description.is_empty(), "{}: {}", template.stack, parameter.name);
                    let default = parameter.default.as_deref();
                    let objection = default.and_then(|default| parameter.objection(default));
                    assert_eq!(objection, None, "{}: {}", template.stack, parameter.name);
                }
            }
        }
    }

    #[test]
    fn short_forms_are_made_long() {
        let text =
            "Resources:\n  A: !If [Own, !GetAtt B.Arn, !Sub ['${x}-1', { x: !Ref Name }]]\n  C: !Condition Own\n";
        let body = Template::read("one", text).body;
        let long =
            json!({"Fn::If": ["Own", {"Fn::GetAtt": ["B", "Arn"]}, {"Fn::Sub": ["${x}-1", {"x": {"Ref": "Name"}}]}]});
        assert_eq!(body["Resources"], json!({ "A": long, "C": { "Condition": "Own" } }));
    }

    #[test]
    fn a_value_that_cloudformation_would_refuse_is_objected_to() {
        let all = Place::Child.parameters();
        let objection = |name: &str, value: &str| {
            all.iter().find(|parameter| parameter.name == name).expect("a parameter").objection(value)
        };
        assert_eq!(objection("LaName", "camden"), None);
        assert!(objection("LaName", "Camden").is_some_and(|text| text.contains("30 lower-case letters")));
        assert!(objection("LaName", &"a".repeat(31)).is_some_and(|text| text.contains("30")));
        assert_eq!(objection("Network", "both"), Some("it is one of own, shared".into()));
        assert_eq!(objection("HubPort", "https"), Some("it is a number".into()));
        assert_eq!(objection("CodeServers", "a,b"), None);
    }
}
