//! Task definitions, whole: read and registered as the JSON that ECS sends, so that a new revision carries over also
//! those fields that this version, and its SDK, do not know.
//!
//! RegisterTaskDefinition takes no token. What it made is known by a tag with the command's id, and what it was made
//! from by another one: the way back, for as long as both exist.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ecs::{
    Config,
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::AfterDeserializationInterceptorContextRef,
        retry::RetryConfig,
    },
    error::BoxError,
    types::TaskDefinitionField,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sfdata_common::{
    command::{Environment, is_secret},
    fargate::Size,
    ids::CommandId,
    image::Image,
    outcome::FailureCode,
};

use super::{Ecs, resource};
use crate::services::{Error, Plan, aws::failure};

/// Says which command a revision was registered by.
pub(super) const COMMAND: &str = "sfdata:command";
/// Says which revision it was made from.
const PREVIOUS: &str = "sfdata:previous";
/// What ECS adds to what was registered (ECS API reference, TaskDefinition).
const ADDED: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];

/// In what a new revision differs from the one that it is made from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit<'a> {
    /// The main container runs this image.
    Image(&'a Image),
    /// The task has so much CPU and memory.
    Size(Size),
    /// The main container has these variables, and others not.
    Environment(&'a Environment),
    /// The main container gets a variable from a secret.
    Secret(FromSecret<'a>),
}

/// A variable that comes from Secrets Manager.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromSecret<'a> {
    pub(super) variable: &'a str,
    /// Of one that is to be made, without the six characters that Secrets Manager adds.
    pub(super) arn: &'a str,
    /// The name of one that is to be made of the plain value.
    pub(super) make: Option<&'a str>,
}

impl FromSecret<'_> {
    /// Whether the container gets the variable from there already.
    fn is_had(&self, container: &Value) -> bool {
        let from = container["secrets"].as_array().into_iter().flatten().find(|one| one["name"] == self.variable);
        let from = from.and_then(|one| one["valueFrom"].as_str());
        from.is_some_and(|from| from == self.arn || (self.make.is_some() && from.starts_with(self.arn)))
    }

    fn apply(&self, container: &mut Map<String, Value>) -> Option<()> {
        if let Some(variables) = container.get_mut("environment") {
            variables.as_array_mut()?.retain(|variable| variable["name"] != self.variable);
        }
        let secrets = container.entry("secrets").or_insert_with(|| json!([])).as_array_mut()?;
        match secrets.iter_mut().find(|secret| secret["name"] == self.variable) {
            Some(secret) => secret["valueFrom"] = self.arn.into(),
            None => secrets.push(json!({ "name": self.variable, "valueFrom": self.arn })),
        }
        Some(())
    }

    fn refused(&self, old: &Definition, service: &str) -> Option<String> {
        let (variable, main) = (self.variable, old.main(service)?);
        if old.text("executionRoleArn").is_empty() {
            return Some(format!(
                "the task definition of {service} has no execution role, which has to read the secret"
            ));
        }
        if self.make.is_none() || self.is_had(main) || old.variable(service, variable).is_some() {
            return None;
        }
        let names = |list: &str| -> Vec<&str> {
            main[list].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
        };
        if names("secrets").contains(&variable) {
            return Some(format!("{variable} of {service} is another secret already; name yours with --secret"));
        }
        Some(format!(
            "{service} has no variable {variable} with a plain value; it has {}",
            names("environment").join(", ")
        ))
    }
}

impl<'a> Edit<'a> {
    /// What would be changed of a service with this definition.
    pub(super) fn plan(self, plan: Plan, service: &str, old: &Definition) -> Plan {
        match self {
            Self::Image(image) => plan.change(resource(service), "image", old.image(service), image.to_string()),
            Self::Size(size) => plan.change(resource(service), "cpu", old.text("cpu"), size.cpu().to_string()).change(
                resource(service),
                "memory",
                old.text("memory"),
                size.memory().to_string(),
            ),
            Self::Secret(secret) => {
                let plain =
                    if old.variable(service, secret.variable).is_some() { "(plain value, not shown)" } else { "" };
                let main = old.main(service).cloned().unwrap_or_default();
                let from = main["secrets"].as_array().into_iter().flatten().find(|one| one["name"] == secret.variable);
                let from = from.and_then(|one| one["valueFrom"].as_str()).unwrap_or_default();
                let to = if secret.is_had(&main) { from } else { secret.arn };
                let plan = plan.change(resource(service), format!("environment {}", secret.variable), plain, "");
                plan.change(resource(service), format!("secrets {}", secret.variable), from, to)
            }
            // Nobody says that what is there is no secret.
            Self::Environment(environment) => {
                let there = |name: &str| old.variable(service, name);
                let gone = environment.unset().iter().filter(|name| there(name).is_some());
                let plan = gone.fold(plan, |plan, name| {
                    plan.change(resource(service), format!("environment {name}"), "(a value)", "")
                });
                let new = environment.set().iter().filter(|(name, value)| there(name) != Some(value));
                new.fold(plan, |plan, (name, value)| {
                    let before = if there(name).is_some() { "(another value)" } else { "" };
                    plan.change(resource(service), format!("environment {name}"), before, format!("{value:?}"))
                })
            }
        }
    }

    /// The same, of a secret that was just made.
    pub(super) fn made_of(self, arn: Option<&'a str>) -> Self {
        match (self, arn) {
            (Self::Secret(secret), Some(arn)) => Self::Secret(FromSecret { arn, make: None, ..secret }),
            _ => self,
        }
    }

    fn apply(self, fields: &mut Map<String, Value>, service: &str) -> Option<()> {
        match self {
            Self::Image(image) => {
                let containers = fields.get_mut("containerDefinitions")?.as_array_mut()?;
                let main = main(containers, service)?;
                containers.get_mut(main)?["image"] = image.to_string().into();
            }
            Self::Size(size) => {
                fields.insert("cpu".into(), size.cpu().to_string().into());
                fields.insert("memory".into(), size.memory().to_string().into());
            }
            Self::Secret(secret) => {
                let containers = fields.get_mut("containerDefinitions")?.as_array_mut()?;
                let main = main(containers, service)?;
                let container = containers.get_mut(main)?;
                if !secret.is_had(container) || has_variable(container, secret.variable) {
                    secret.apply(container.as_object_mut()?)?;
                }
            }
            Self::Environment(environment) => {
                let containers = fields.get_mut("containerDefinitions")?.as_array_mut()?;
                let main = main(containers, service)?;
                let container = containers.get_mut(main)?.as_object_mut()?;
                let variables = container.entry("environment").or_insert_with(|| json!([]));
                change_variables(variables.as_array_mut()?, environment);
            }
        }
        Some(())
    }

    /// Why it can't be made of this definition.
    pub(super) fn refused(self, old: &Definition, service: &str) -> Option<String> {
        let environment = match self {
            Self::Environment(environment) => environment,
            Self::Secret(secret) => return secret.refused(old, service),
            Self::Image(_) | Self::Size(_) => return None,
        };
        let secrets = old.main(service)?.get("secrets")?.as_array()?;
        let secret = |name: &String| secrets.iter().any(|secret| secret["name"] == **name);
        let name = environment.set().iter().map(|(name, _)| name).find(|name| secret(name))?;
        Some(format!("{name} of {service} is a secret of its task definition, and is not replaced by a plain value"))
    }
}

/// Whether the container has this variable with a plain value.
fn has_variable(container: &Value, name: &str) -> bool {
    container["environment"].as_array().into_iter().flatten().any(|variable| variable["name"] == name)
}

/// Set some variables where they are, or at the end, and take others away.
fn change_variables(variables: &mut Vec<Value>, environment: &Environment) {
    variables.retain(|variable| !environment.unset().iter().any(|name| variable["name"] == **name));
    for (name, value) in environment.set() {
        match variables.iter_mut().find(|variable| variable["name"] == **name) {
            Some(variable) => variable["value"] = value.as_str().into(),
            None => variables.push(json!({ "name": name, "value": value })),
        }
    }
}

/// One revision: the answer of DescribeTaskDefinition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    fields: Map<String, Value>,
    tags: Vec<Value>,
}

impl Definition {
    pub(super) fn parse(answer: &[u8]) -> Option<Self> {
        let mut answer: Map<String, Value> = serde_json::from_slice(answer).ok()?;
        let Value::Object(fields) = answer.remove("taskDefinition")? else { return None };
        let containers = fields.get("containerDefinitions").and_then(Value::as_array);
        if containers.is_some_and(|containers| !containers.iter().all(Value::is_object)) {
            return None;
        }
        let tags = match answer.remove("tags") {
            Some(Value::Array(tags)) => tags,
            _ => Vec::new(),
        };
        Some(Self { fields, tags })
    }

    fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn cpu(&self) -> &str {
        self.text("cpu")
    }

    pub(super) fn memory(&self) -> &str {
        self.text("memory")
    }

    pub(super) fn arn(&self) -> &str {
        self.text("taskDefinitionArn")
    }

    pub(super) fn family(&self) -> &str {
        self.text("family")
    }

    pub(super) fn is_active(&self) -> bool {
        self.text("status") == "ACTIVE"
    }

    /// The service's main container, where that can be told.
    fn main(&self, service: &str) -> Option<&Value> {
        let containers = self.fields.get("containerDefinitions")?.as_array()?;
        containers.get(main(containers, service)?)
    }

    /// Containers and variables that are likely secrets and have plain values. Never the values.
    pub(super) fn plain_secrets(&self) -> Vec<(&str, &str)> {
        let containers = self.fields.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
        containers.flat_map(plain_secrets).collect()
    }

    /// From where the main container gets a variable.
    pub(super) fn secret(&self, service: &str, variable: &str) -> Option<&str> {
        let secrets = self.main(service)?.get("secrets")?.as_array()?;
        secrets.iter().find(|secret| secret["name"] == variable)?["valueFrom"].as_str()
    }

    /// The role that ECS takes on to start a task.
    pub(super) fn execution_role(&self) -> &str {
        self.text("executionRoleArn")
    }

    /// Name, entry point and command of each container.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, Vec<String>, Vec<String>)> {
        let words = |words: &Value| -> Vec<String> {
            words.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
        };
        let containers = self.fields.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
        containers.map(move |one| {
            (one["name"].as_str().unwrap_or_default(), words(&one["entryPoint"]), words(&one["command"]))
        })
    }

    /// What the main container is called.
    pub(super) fn main_name(&self, service: &str) -> Option<&str> {
        self.main(service)?["name"].as_str()
    }

    /// The port that the main container listens on, if it says one.
    pub(super) fn port(&self, service: &str) -> Option<u16> {
        let mappings = self.main(service)?.get("portMappings")?.as_array()?;
        let tcp = mappings.iter().find(|mapping| mapping["protocol"] != "udp" && mapping["containerPort"].is_u64())?;
        tcp["containerPort"].as_u64()?.try_into().ok()
    }

    /// Whether the main container has a health check of its own.
    pub(super) fn has_health_check(&self, service: &str) -> bool {
        self.main(service).is_some_and(|main| main["healthCheck"].is_object())
    }

    /// What the main container runs.
    pub(super) fn image(&self, service: &str) -> &str {
        self.main(service).and_then(|main| main["image"].as_str()).unwrap_or_default()
    }

    pub(super) fn variable(&self, service: &str, name: &str) -> Option<&str> {
        let variables = self.main(service)?.get("environment")?.as_array()?;
        variables.iter().find(|variable| variable["name"] == name)?["value"].as_str()
    }

    fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag["key"] == key)?["value"].as_str()
    }

    /// The revision that this one was made from, where it was made here.
    pub(super) fn previous(&self) -> Option<&str> {
        self.tag(PREVIOUS)
    }

    /// Whether this command has registered it.
    pub(super) fn is_by(&self, command: CommandId) -> bool {
        self.tag(COMMAND) == Some(&command.to_string())
    }

    /// Whether it is already as this would make it.
    pub(super) fn is_already(&self, edit: Edit<'_>, service: &str) -> bool {
        let mut edited = self.fields.clone();
        edit.apply(&mut edited, service).is_some() && edited == self.fields
    }

    /// The request that registers the same with a difference; none if there is no container.
    pub(super) fn edited(&self, edit: Edit<'_>, service: &str, command: CommandId) -> Option<Value> {
        let mut fields = self.fields.clone();
        fields.retain(|name, _| !ADDED.contains(&name.as_str()));
        edit.apply(&mut fields, service)?;
        // AWS's own tags can't be given.
        let carried = |tag: &&Value| {
            let key = tag["key"].as_str().unwrap_or_default();
            !key.starts_with("aws:") && ![COMMAND, PREVIOUS].contains(&key)
        };
        let mut tags: Vec<Value> = self.tags.iter().filter(carried).cloned().collect();
        tags.push(json!({ "key": COMMAND, "value": command.to_string() }));
        tags.push(json!({ "key": PREVIOUS, "value": self.arn() }));
        fields.insert("tags".into(), tags.into());
        Some(Value::Object(fields))
    }
}

fn plain_secrets(container: &Value) -> Vec<(&str, &str)> {
    let variables = container["environment"].as_array().into_iter().flatten();
    let named = variables.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)));
    let secret = named.filter(|(name, value)| !value.is_empty() && is_secret(name, value));
    secret.map(|(name, _)| (container["name"].as_str().unwrap_or_default(), name)).collect()
}

/// The container that is named like the service, or else the only essential one.
fn main(containers: &[Value], service: &str) -> Option<usize> {
    let named = containers.iter().position(|container| container["name"] == service);
    let mut essential = (0..containers.len()).filter(|at| containers[*at]["essential"] != false);
    named.or_else(|| essential.next().filter(|_| essential.next().is_none()))
}

/// Keeps the body of an answer as it came.
#[derive(Debug, Clone, Default)]
struct Body(Arc<Mutex<Option<Bytes>>>);

impl Intercept for Body {
    fn name(&self) -> &'static str {
        "body"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().map(Bytes::copy_from_slice);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body;
        Ok(())
    }
}

impl Ecs {
    /// A revision by its ARN, or the newest active one of a family.
    pub(super) async fn definition(&self, name: &str) -> Result<Definition, Error> {
        let body = Body::default();
        let call = self.client.describe_task_definition().task_definition(name).include(TaskDefinitionField::Tags);
        let answered = call.customize().interceptor(body.clone()).send().await;
        answered.map_err(|e| failure(format_args!("read task definition {name}"), "ecs:DescribeTaskDefinition", e))?;
        let body = body.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let definition = Definition::parse(&body).filter(|definition| !definition.arn().is_empty());
        definition.ok_or_else(|| {
            let text = format!("ECS answered without task definition {name}; try again, or look at aws.endpoint_url");
            Error::failed(FailureCode::Unavailable, text)
        })
    }

    /// One request with just these fields, never repeated by the SDK; the ARN of what it made.
    pub(super) async fn register(&self, request: &Value) -> Result<String, Error> {
        let family = request["family"].as_str().unwrap_or_default();
        let body = request.to_string();
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let answer = self
            .client
            .register_task_definition()
            .customize()
            .config_override(once)
            .mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = body.as_str().into();
            })
            .send()
            .await
            .map_err(|e| failure(format_args!("register a revision of {family}"), "ecs:RegisterTaskDefinition", e))?;
        let arn = answer.task_definition().and_then(|made| made.task_definition_arn());
        arn.map(Into::into).ok_or_else(|| {
            let text = format!("ECS accepted a revision of {family} and shows none; try again");
            Error::failed(FailureCode::Unavailable, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_are_no_objects_are_no_definition() {
        assert!(Definition::parse(br#"{"taskDefinition":{"containerDefinitions":[{"name":"a"},true]}}"#).is_none());
        assert!(Definition::parse(br#"{"taskDefinition":{"containerDefinitions":[{"name":"a"}]}}"#).is_some());
    }

    #[test]
    fn a_new_revision_is_the_old_one_with_another_image_also_where_it_is_not_understood() {
        let answer = json!({
            "taskDefinition": {
                "taskDefinitionArn": "arn:aws:ecs:eu-west-2:1:task-definition/code:7", "revision": 7, "status": "ACTIVE",
                "registeredAt": 1.5, "requiresAttributes": [], "compatibilities": ["FARGATE"],
                "family": "code", "cpu": "512", "ofTomorrow": {"a": [1, 2.5, null]},
                "containerDefinitions": [
                    {"name": "sidecar", "image": "side:1", "ofTomorrow": true},
                    {"name": "code", "image": "old:1", "secrets": [{"name": "PG", "valueFrom": "arn"}], "ofTomorrow": {}},
                ],
            },
            "tags": [
                {"key": "team", "value": "data"}, {"key": "aws:cloudformation:stack-name", "value": "x"},
                {"key": PREVIOUS, "value": "code:6"}, {"key": COMMAND, "value": "older"},
            ],
        });
        let old = Definition::parse(answer.to_string().as_bytes()).unwrap();
        assert_eq!((old.image("code"), old.image("other"), old.previous()), ("old:1", "", Some("code:6")));
        let image = format!("111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster@sha256:{}", "0".repeat(64));
        let command = CommandId::generate();
        let new = old.edited(Edit::Image(&image.parse().unwrap()), "code", command).unwrap();
        let wanted = json!({
            "family": "code", "cpu": "512", "ofTomorrow": {"a": [1, 2.5, null]},
            "containerDefinitions": [
                {"name": "sidecar", "image": "side:1", "ofTomorrow": true},
                {"name": "code", "image": image, "secrets": [{"name": "PG", "valueFrom": "arn"}], "ofTomorrow": {}},
            ],
            "tags": [
                {"key": "team", "value": "data"}, {"key": COMMAND, "value": command.to_string()},
                {"key": PREVIOUS, "value": old.arn()},
            ],
        });
        assert_eq!(new, wanted);

        let size = Edit::Size(Size::new(512, 1024).unwrap());
        assert!(!old.is_already(size, "code"));
        let request = old.edited(size, "code", command).unwrap();
        assert_eq!(
            (&request["cpu"], &request["memory"], &request["ofTomorrow"]["a"][0]),
            (&json!("512"), &json!("1024"), &json!(1))
        );
        let made = Definition::parse(json!({"taskDefinition": request}).to_string().as_bytes()).unwrap();
        assert!(made.is_already(size, "code"));

        let secret = |make| {
            Edit::Secret(FromSecret { variable: "PG", arn: "arn:aws:secretsmanager:eu-west-2:1:secret:s", make })
        };
        assert!(secret(Some("s")).refused(&old, "code").is_some(), "there is no execution role");

        let environment = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Environment::new(set, vec!["OLD".into()]).unwrap()
        };
        let (plain, secret) = (environment(&[("A", "1"), ("B", "2")]), environment(&[("PG", "x")]));
        let request = old.edited(Edit::Environment(&plain), "code", command).unwrap();
        let variables = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
        assert_eq!(request["containerDefinitions"][1]["environment"], variables);
        assert_eq!(Edit::Environment(&plain).refused(&old, "code"), None);
        assert!(Edit::Environment(&secret).refused(&old, "code").is_some());
    }

    #[test]
    fn an_answer_without_containers_or_of_html_gives_nothing_to_register() {
        assert_eq!(Definition::parse(b"<html>"), None);
        let empty = Definition::parse(br#"{"taskDefinition": {"family": "x"}}"#).unwrap();
        let image = format!("111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster@sha256:{}", "0".repeat(64));
        assert_eq!(empty.edited(Edit::Image(&image.parse().unwrap()), "x", CommandId::generate()), None);
    }

    #[test]
    fn a_variable_moves_to_a_secret_and_its_value_is_never_shown() {
        let answer = json!({"taskDefinition": {
            "taskDefinitionArn": "arn:aws:ecs:eu-west-2:1:task-definition/code:7", "status": "ACTIVE", "family": "code",
            "executionRoleArn": "arn:aws:iam::1:role/start",
            "containerDefinitions": [{"name": "code", "image": "old:1", "environment": [
                {"name": "PG_PASSWORD", "value": "hunter2"}, {"name": "LEVEL", "value": "info"},
                {"name": "PG_URL", "value": "postgres://dagster:hunter2@db/dagster"},
            ]}],
        }});
        let old = Definition::parse(answer.to_string().as_bytes()).unwrap();
        assert_eq!(old.plain_secrets(), [("code", "PG_PASSWORD"), ("code", "PG_URL")]);
        let arn = "arn:aws:secretsmanager:eu-west-2:1:secret:sfdata/c/code/PG_PASSWORD";
        let edit = |variable, make| Edit::Secret(FromSecret { variable, arn, make });
        let make = edit("PG_PASSWORD", Some("sfdata/c/code/PG_PASSWORD"));
        assert_eq!(make.refused(&old, "code"), None);
        let missing = edit("ABSENT", Some("s")).refused(&old, "code").unwrap();
        assert!(missing.contains("PG_PASSWORD, LEVEL, PG_URL") && !missing.contains("hunter2"), "{missing}");
        let plan = format!("{:?}", make.plan(Plan::default(), "code", &old));
        assert!(plan.contains("(plain value, not shown)") && plan.contains(arn) && !plan.contains("hunter2"), "{plan}");

        let request = old.edited(edit("PG_PASSWORD", None), "code", CommandId::generate()).unwrap();
        let container = &request["containerDefinitions"][0];
        assert_eq!(container["secrets"], json!([{"name": "PG_PASSWORD", "valueFrom": arn}]));
        assert_eq!(container["environment"][0]["name"], "LEVEL");
        let made = json!({"taskDefinition": {"taskDefinitionArn": "x", "containerDefinitions": [{"name": "code",
            "environment": [], "secrets": [{"name": "PG_PASSWORD", "valueFrom": format!("{arn}-a1B2c3")}]}]}});
        let made = Definition::parse(made.to_string().as_bytes()).unwrap();
        assert!(made.is_already(make, "code") && !made.is_already(edit("PG_PASSWORD", None), "code"));
    }
}
