//! What an account's stacks make where its parameters have given values: conditions decided, references followed from stack to
//! stack, without making anything. What is known only when it is made (an id, an address) is a name such as `network#Vpc`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::{parameters::Parameters, templates::Template};

const NO_VALUE: &str = "AWS::NoValue";
/// More zones or blocks of addresses than this no template takes.
const PARTS: usize = 8;

/// Stacks of one account, with its parameters.
#[derive(Debug)]
pub(crate) struct Estate<'a> {
    stacks: Vec<&'a Template>,
    parameters: &'a Parameters,
    account: &'a str,
    exports: BTreeMap<String, (&'a Template, &'a Value)>,
}

/// One resource that is made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) stack: &'static str,
    pub(crate) logical: String,
    pub(crate) properties: Value,
}

impl<'a> Estate<'a> {
    /// Of the stacks that the parameters ask for, in this account.
    pub(crate) fn new(parameters: &'a Parameters, account: &'a str) -> anyhow::Result<Self> {
        let asked = parameters.stacks();
        let all = parameters.place().templates().iter();
        let stacks: Vec<&Template> = all.filter(|template| asked.contains(&template.stack)).collect();
        let mut estate = Self { stacks, parameters, account, exports: BTreeMap::new() };
        for template in estate.stacks.clone() {
            for output in template.body["Outputs"].as_object().into_iter().flatten().map(|(_, output)| output) {
                let Some(name) = output.pointer("/Export/Name") else { continue };
                if estate.holds(template, output["Condition"].as_str())? {
                    let name = text(&estate.value(template, name)?);
                    estate.exports.insert(name, (template, &output["Value"]));
                }
            }
        }
        Ok(estate)
    }

    /// Every resource of this type that is made, with its properties.
    pub(crate) fn made(&self, kind: &str) -> anyhow::Result<Vec<Made>> {
        let mut made = Vec::new();
        for template in &self.stacks {
            for (logical, resource) in template.body["Resources"].as_object().into_iter().flatten() {
                if resource["Type"] == kind && self.holds(template, resource["Condition"].as_str())? {
                    let properties = self.value(template, &resource["Properties"])?;
                    made.push(Made { stack: template.stack, logical: logical.clone(), properties });
                }
            }
        }
        Ok(made)
    }

    fn holds(&self, template: &Template, condition: Option<&str>) -> anyhow::Result<bool> {
        match condition {
            Some(name) => self.decide(template, &template.body["Conditions"][name]),
            None => Ok(true),
        }
    }

    fn decide(&self, template: &Template, condition: &Value) -> anyhow::Result<bool> {
        let (function, inner) =
            only(condition).with_context(|| format!("{}: no condition: {condition}", template.stack))?;
        let parts = || inner.as_array().into_iter().flatten();
        let mut decided = parts().map(|part| self.decide(template, part));
        Ok(match function {
            "Condition" => self.holds(template, inner.as_str())?,
            "Fn::Equals" => text(&self.value(template, &inner[0])?) == text(&self.value(template, &inner[1])?),
            "Fn::Not" => !self.decide(template, &inner[0])?,
            "Fn::And" => decided.try_fold(true, |all, one| anyhow::Ok(all && one?))?,
            "Fn::Or" => decided.try_fold(false, |any, one| anyhow::Ok(any || one?))?,
            other => bail!("{}: the condition {other} is not understood", template.stack),
        })
    }

    /// A value without functions; null where it is none.
    fn value(&self, template: &Template, value: &Value) -> anyhow::Result<Value> {
        match value {
            Value::Array(parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.value(template, part)).collect();
                Ok(parts?.into_iter().filter(|part| !part.is_null()).collect())
            }
            Value::Object(entries) => {
                if let Some((function, inner)) =
                    only(value).filter(|(name, _)| *name == "Ref" || name.starts_with("Fn::"))
                {
                    return self.function(template, function, inner);
                }
                let mut resolved = Map::new();
                for (key, part) in entries {
                    let part = self.value(template, part)?;
                    if !part.is_null() {
                        resolved.insert(key.clone(), part);
                    }
                }
                Ok(resolved.into())
            }
            plain => Ok(plain.clone()),
        }
    }

    fn function(&self, template: &Template, function: &str, inner: &Value) -> anyhow::Result<Value> {
        let made = |name: &str| Value::from(format!("{}#{name}", template.stack));
        Ok(match function {
            "Ref" => match inner.as_str().unwrap_or_default() {
                NO_VALUE => Value::Null,
                "AWS::AccountId" => self.account.into(),
                // Nothing that is reckoned here depends on the other pseudo parameters.
                name => self.parameter(template, name).unwrap_or_else(|| made(name)),
            },
            "Fn::If" => {
                let branch = if self.holds(template, inner[0].as_str())? { &inner[1] } else { &inner[2] };
                self.value(template, branch)?
            }
            "Fn::GetAtt" => made(&format!("{}.{}", text(&inner[0]), text(&inner[1]))),
            "Fn::ImportValue" => {
                let name = text(&self.value(template, inner)?);
                match self.exports.get(&name) {
                    Some((from, value)) => self.value(from, value)?,
                    // Of a stack that other parameters ask for, such as the network of a shared estate.
                    None => name.into(),
                }
            }
            "Fn::Sub" => self.substituted(template, inner)?.into(),
            "Fn::Select" => {
                let index: usize = text(&inner[0]).parse().unwrap_or_default();
                self.value(template, &inner[1])?.get(index).cloned().unwrap_or_else(|| made("one of several"))
            }
            "Fn::Split" => {
                let whole = text(&self.value(template, &inner[1])?);
                whole.split(inner[0].as_str().unwrap_or(",")).collect()
            }
            "Fn::Join" => {
                let parts = self.value(template, &inner[1])?;
                let parts: Vec<_> = parts.as_array().into_iter().flatten().map(text).collect();
                parts.join(inner[0].as_str().unwrap_or_default()).into()
            }
            "Fn::GetAZs" | "Fn::Cidr" => (0..PARTS).map(|number| format!("{} {number}", &function[4..])).collect(),
            other => bail!("{}: {other} is not understood", template.stack),
        })
    }

    /// What the file or the template says; where neither does, its name: nothing that is reckoned here depends on it.
    fn parameter(&self, template: &Template, name: &str) -> Option<Value> {
        let parameter = template.parameter(name)?;
        let given = self.parameters.given().iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = given.or(parameter.default.as_deref()).unwrap_or(name);
        Some(match parameter.is_list() {
            true => value.split(',').filter(|part| !part.is_empty()).collect(),
            false => value.into(),
        })
    }

    fn substituted(&self, template: &Template, inner: &Value) -> anyhow::Result<String> {
        let (whole, variables) = match inner {
            Value::Array(parts) => (text(&parts[0]), &parts[1]),
            whole => (text(whole), &Value::Null),
        };
        let (mut filled, mut rest) = (String::new(), whole.as_str());
        while let Some((before, (name, after))) =
            rest.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            filled.push_str(before);
            rest = after;
            let value = match (name.strip_prefix('!'), variables.get(name), name.split_once('.')) {
                (Some(literal), ..) => format!("${{{literal}}}").into(),
                (None, Some(variable), _) => self.value(template, variable)?,
                (None, None, Some(_)) => format!("{}#{name}", template.stack).into(),
                (None, None, None) => self.function(template, "Ref", &name.into())?,
            };
            filled.push_str(&text(&value));
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// The only entry of an object that has one.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let entries = value.as_object().filter(|entries| entries.len() == 1)?;
    entries.iter().next().map(|(name, inner)| (name.as_str(), inner))
}

/// As it would stand in a text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::platform::templates::Place;

    const ACCOUNT: &str = "222222222222";

    fn parameters(place: Place, text: &str) -> Parameters {
        Parameters::parse(Path::new("one.params"), place, text.into()).unwrap()
    }

    #[test]
    fn every_resource_of_every_template_is_understood() {
        let all = "LoadBalancer=yes\nFrontend=yes\nClientCidr=10.20.0.0/16\nCopies=yes\nEndpointZones=two\n";
        for (place, text) in [
            (Place::Child, ""),
            (Place::Child, all),
            (Place::Child, "Network=shared\nDatabase=instance\n"),
            (
                Place::Core,
                "SharedWith=arn:aws:organizations::111111111111:ou/o-a/ou-b\nMaintenance=on\nAlarmEmail=a@example.org\n",
            ),
        ] {
            let parameters = parameters(place, text);
            let estate = Estate::new(&parameters, ACCOUNT).unwrap();
            let all = estate.stacks.iter().flat_map(|template| template.body["Resources"].as_object().unwrap());
            let kinds: BTreeSet<&str> = all.map(|(_, resource)| resource["Type"].as_str().unwrap()).collect();
            for Made { stack, logical, properties } in kinds.into_iter().flat_map(|kind| estate.made(kind).unwrap()) {
                assert!(!properties.to_string().contains("Fn::"), "{stack}#{logical}: {properties}");
            }
        }
    }

    #[test]
    fn conditions_and_references_are_followed_from_stack_to_stack() {
        let count = |text: &str, kind: &str| {
            let parameters = parameters(Place::Child, text);
            Estate::new(&parameters, ACCOUNT).unwrap().made(kind).unwrap()
        };
        let endpoints = count("EndpointZones=two\n", "AWS::EC2::VPCEndpoint");
        let ecs = endpoints.iter().find(|made| made.logical == "EcsEndpoint").unwrap();
        assert_eq!(ecs.properties["SubnetIds"].as_array().unwrap().len(), 2, "{ecs:?}");
        assert!(ecs.properties["ServiceName"].as_str().unwrap().ends_with(".ecs"), "{ecs:?}");
        let buckets = count("", "AWS::S3::Bucket");
        assert!(
            buckets.iter().any(|made| made.properties["BucketName"] == "sfdata-222222222222-data-store"),
            "{buckets:?}"
        );
        assert!(count("Network=shared\n", "AWS::EC2::VPCEndpoint").is_empty());
        assert_eq!(count("Database=instance\n", "AWS::RDS::DBCluster").len(), 0);
    }
}
