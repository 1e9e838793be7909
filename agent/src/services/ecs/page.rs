//! Where Dagster's webserver answers: the address of its running task, and the port and path that its command names.

use aws_sdk_ecs::types::DesiredStatus;
use sfdata_common::outcome::FailureCode;

use super::{Ecs, definition::Definition, probe::address};
use crate::services::Error;

/// The webserver's own default (dagster-webserver --help).
const PORT: u16 = 3000;
/// What the program is called, also by its older name.
const PROGRAMS: [&str; 2] = ["dagster-webserver", "dagit"];

impl Ecs {
    /// The URL of Dagster's page, without a slash at its end. An error of [`FailureCode::Unavailable`] where no task of it runs.
    pub(in crate::services) async fn page(&self) -> Result<String, Error> {
        let name = &self.platform.webserver;
        let tasks = self.tasks(Some(name), DesiredStatus::Running).await?;
        let running = tasks.iter().filter(|task| task.last_status() == Some("RUNNING"));
        let newest = running.max_by_key(|task| task.started_at().map(|at| (at.secs(), at.subsec_nanos())));
        let Some(task) = newest else { return Err(asleep(name)) };
        let (Some(address), Some(definition)) = (address(task), task.task_definition_arn()) else {
            return Err(asleep(name));
        };
        let definition = self.definition(definition).await?;
        let Listens { port, prefix } = listens(&definition, name);
        Ok(format!("http://{address}:{port}{prefix}"))
    }
}

fn asleep(name: &str) -> Error {
    let text = format!(
        "Dagster's webserver {name} does not run, so that Dagster cannot be asked; wake it with hubctl power wake"
    );
    Error::failed(FailureCode::Unavailable, text)
}

/// What a webserver listens on.
#[derive(Debug, PartialEq, Eq)]
struct Listens {
    port: u16,
    /// Empty, or with a slash before it and none after.
    prefix: String,
}

/// By its command, else by the variables that stand for its options, else by its container's port.
fn listens(definition: &Definition, service: &str) -> Listens {
    let main = definition.main_name(service);
    let line = definition.lines().find(|(name, ..)| Some(*name) == main);
    let words: Vec<String> = line.map(|(_, entry_point, command)| [entry_point, command].concat()).unwrap_or_default();
    // A shell's text is one word.
    let words: Vec<&str> = words
        .iter()
        .flat_map(|word| word.split_whitespace())
        .map(|word| word.trim_matches(['"', '\'']))
        .skip_while(|word| !PROGRAMS.contains(&word.rsplit('/').next().unwrap_or_default()))
        .collect();
    let chosen = |long: &str, short: &str, variable: &str| {
        option(&words, long, short).or_else(|| {
            let of = |program: &str| definition.variable(service, &format!("{program}_{variable}"));
            of("DAGSTER_WEBSERVER").or_else(|| of("DAGIT"))
        })
    };
    let port = chosen("--port", "-p", "PORT").and_then(|port| port.parse().ok());
    let prefix = chosen("--path-prefix", "-l", "PATH_PREFIX").unwrap_or_default().trim_matches('/');
    Listens {
        port: port.or_else(|| definition.port(service)).unwrap_or(PORT),
        prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
    }
}

/// The value of an option, as `--name value`, `--name=value`, `-n value` or `-nvalue`.
fn option<'a>(words: &[&'a str], long: &str, short: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| {
        if *word == long || *word == short {
            return words.get(at + 1).copied();
        }
        let glued = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
        glued.or_else(|| word.strip_prefix(short).filter(|_| !word.starts_with("--")))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(command: Value, environment: Value) -> (u16, String) {
        let answer = json!({"taskDefinition": {
            "taskDefinitionArn": "arn", "family": "web", "containerDefinitions": [{
                "name": "web", "command": command, "environment": environment, "portMappings": [{"containerPort": 8080}],
            }],
        }});
        let Listens { port, prefix } = listens(&Definition::parse(answer.to_string().as_bytes()).unwrap(), "web");
        (port, prefix)
    }

    #[test]
    fn port_and_path_are_read_from_where_the_webserver_reads_them() {
        let none = || json!([]);
        assert_eq!(of(none(), none()), (8080, String::new()));
        let words = json!(["/usr/bin/dagster-webserver", "-h", "0.0.0.0", "-p", "3001", "--path-prefix=/la/"]);
        assert_eq!(of(words, none()), (3001, "/la".into()));
        let text = json!(["sh", "-c", "cd /x && exec dagit -p3002 -l '/la' -w workspace.yaml"]);
        assert_eq!(of(text, none()), (3002, "/la".into()));
        let before = json!(["wrap", "-p", "1", "--", "dagster-webserver", "--port", "3003"]);
        assert_eq!(of(before, none()).0, 3003);
        let variables = json!([{"name": "DAGSTER_WEBSERVER_PATH_PREFIX", "value": "/la"}]);
        assert_eq!(of(json!(["dagster-webserver"]), variables), (8080, "/la".into()));
    }
}
