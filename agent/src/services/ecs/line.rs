//! What a one-off task executes: the main container's entry point, given what was ordered in place of its own command, and
//! all other containers as they are defined.
//!
//! Pure. What an image adds of its own, where a definition has no entry point or command, cannot be seen here.

use sfdata_common::{command::is_secret, outcome::FailureCode};

use super::{definition::Definition, deploy::short};
use crate::{
    discover::command::{after_shell_flag, may_run_daemon, names_program},
    services::Error,
};

/// The command line of a task's main container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) entry_point: Vec<String>,
    pub(super) command: Vec<String>,
}

impl Line {
    /// Of a task of this definition whose main container executes `ordered`; an error where it must not, or could not.
    pub(super) fn of(definition: &Definition, main: &str, ordered: &[String]) -> Result<Self, Error> {
        let mut line = Self { entry_point: Vec::new(), command: ordered.to_vec() };
        for (name, entry_point, own) in definition.lines() {
            let command = if name == main { given(&entry_point, ordered, name)? } else { own };
            if may_run_daemon(&entry_point, &command) {
                return Err(rejected(format!(
                    "container {name} of {} would run Dagster's daemon, which must never run twice: two would launch \
                     every schedule twice; order another command, or one of another service",
                    short(definition.arn())
                )));
            }
            if name == main {
                line = Self { entry_point, command };
            }
        }
        Ok(line)
    }

    /// The entry point as plans show it; nothing where the image's own is left.
    pub(super) fn shown_entry_point(&self) -> String {
        let words: Vec<_> = self.entry_point.iter().map(|word| shown(word)).collect();
        if words.is_empty() { String::new() } else { format!("{words:?}") }
    }
}

/// What the container is given as its command, so that it executes these words.
fn given(entry_point: &[String], ordered: &[String], name: &str) -> Result<Vec<String>, Error> {
    let has = || {
        let words: Vec<_> = entry_point.iter().map(|word| shown(word)).collect();
        format!("container {name} has entry point {words:?}")
    };
    match after_shell_flag(entry_point) {
        Some([]) => Ok(vec![text(ordered)]),
        Some([text, rest @ ..]) if !passes_on(text, rest) => {
            Err(rejected(format!("{}, which does not execute what it is given: it takes no command", has())))
        }
        _ if ordered.first().is_some_and(|first| names_program(entry_point, first)) => {
            Err(rejected(format!("{}: order only what comes after it", has())))
        }
        _ => Ok(ordered.to_vec()),
    }
}

/// Whether a shell's text takes all words after it; the first of them is `$0`, which `$@` is without.
fn passes_on(text: &str, after: &[String]) -> bool {
    let all = ["$@", "${@", "$*", "${*"].iter().any(|all| text.contains(all));
    all && (!after.is_empty() || ["$0", "${0"].iter().any(|first| text.contains(first)))
}

/// A shell's text that executes these words, in the shell's own place.
fn text(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c));
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    format!("exec {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "))
}

/// A word of a definition, unless it may hold a secret.
fn shown(word: &str) -> &str {
    let (name, value) = word.split_once('=').unwrap_or(("", word));
    if is_secret(name.trim_start_matches('-'), value) { "(not shown)" } else { word }
}

fn rejected(text: String) -> Error {
    Error::failed(FailureCode::Rejected, text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn definition(containers: Value) -> Definition {
        let arn = "arn:aws:ecs:eu-west-2:1:task-definition/code:7";
        let answer = json!({"taskDefinition": {"taskDefinitionArn": arn, "containerDefinitions": containers}});
        Definition::parse(answer.to_string().as_bytes()).unwrap()
    }

    fn line(entry_point: &[&str], ordered: &[&str]) -> Result<Vec<String>, String> {
        let of = definition(json!([{"name": "code", "entryPoint": entry_point, "command": ["dagster-daemon", "run"]}]));
        Line::of(&of, "code", &words(ordered)).map(|line| line.command).map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_executed_as_they_are_whatever_the_entry_point() {
        let migrate = ["dagster", "instance", "migrate"];
        for as_they_are in [&[][..], &["tini", "--"], &["/entrypoint.sh"], &["sh", "-c", "cd /app; exec \"$@\"", "--"]]
        {
            assert_eq!(line(as_they_are, &migrate), Ok(words(&migrate)), "{as_they_are:?}");
        }
        for shell in
            [&["/bin/sh", "-c"][..], &["bash", "-lc"], &["bash", "-o", "pipefail", "-c"], &["tini", "--", "sh", "-ec"]]
        {
            assert_eq!(line(shell, &migrate), Ok(words(&["exec dagster instance migrate"])), "{shell:?}");
        }
        assert_eq!(
            line(&["sh", "-c"], &["A=b", "it's", "", "$HOME;"]),
            Ok(words(&[r"exec 'A=b' 'it'\''s' '' '$HOME;'"]))
        );
        assert_eq!(line(&["dagster"], &["instance", "migrate"]), Ok(words(&["instance", "migrate"])));
    }

    #[test]
    fn what_the_entry_point_would_make_something_else_of_is_refused() {
        let refused = |entry_point: &[&str]| line(entry_point, &["dagster", "instance", "migrate"]).unwrap_err();
        for repeated in
            [&["dagster"][..], &["/opt/venv/bin/dagster"], &["tini", "--", "dagster"], &["python", "-m", "dagster"]]
        {
            let message = refused(repeated);
            assert!(message.contains("order only what comes after it") && message.contains(repeated[0]), "{message}");
        }
        for own in ["dagster api grpc", "exec \"$@\""] {
            let own = refused(&["sh", "-c", own]);
            assert!(own.contains("takes no command"), "{own}");
        }
        assert!(line(&["sh", "-c", "exec \"$0\" \"$@\""], &["dagster"]).is_ok());
        assert!(!refused(&["dagster", "--url=postgres://d:hunter2@db/x"]).contains("hunter2"));
    }

    #[test]
    fn no_container_of_the_task_runs_a_daemon() {
        assert!(line(&[], &["true"]).is_ok(), "the definition's own command has no place in it");
        for daemon in [
            line(&[], &["dagster-daemon", "run"]),
            line(&["bash", "-lc"], &["dagster-daemon", "run"]),
            line(&["/entrypoint.sh"], &["dagster-daemon", "run"]),
            line(&["dagster-daemon", "run"], &["-w", "workspace.yaml"]),
            line(&["dagster-daemon"], &["run"]),
        ] {
            assert!(daemon.clone().is_err_and(|message| message.contains("every schedule twice")), "{daemon:?}");
        }
        let beside = definition(json!([
            {"name": "code", "command": ["dagster", "api", "grpc"]},
            {"name": "beside", "entryPoint": ["sh", "-c"], "command": ["exec dagster-daemon run"]},
        ]));
        let refused = Line::of(&beside, "code", &words(&["true"])).unwrap_err().to_string();
        assert!(refused.contains("container beside of code:7 would run Dagster's daemon"), "{refused}");
    }
}
