//! GraphQL documents of which a part may be left out, and what Dagster's answer to one is.
//!
//! Pure. A line that ends in `# ? what` may be left out whole: a Dagster that does not know a field, a value or a type on it
//! points at the line, and is asked again without it. What is then missing is told by that name; a line with `# ?` and no
//! name asks for what there cannot be where it is not known.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What marks a line that may be left out, before the name of what it asks for.
const OPTIONAL: &str = "# ?";

/// Of what Dagster says about its schema, so much is told.
const MESSAGE_CHARACTERS: usize = 300;

/// A document, with what was left out of it so far.
#[derive(Debug, Clone)]
pub(super) struct Document<'a> {
    text: &'a str,
    /// Lines, from 1.
    left_out: BTreeSet<usize>,
}

/// What an answer comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// All that was asked for.
    Whole(Map<String, Value>),
    /// This Dagster does not know something that can be left out: ask the document again.
    Again,
    /// It does not know something that is needed, by its own words about its schema.
    Unknown(String),
    /// There is no data, or a part of it is missing: what failed, by its place in the answer. What Dagster says of it may
    /// hold anything, and is not told.
    Failed(String),
    /// It is no answer of GraphQL's.
    Foreign,
}

#[derive(Debug, Deserialize)]
struct Reply {
    data: Option<Value>,
    #[serde(default)]
    errors: Option<Vec<Fault>>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
    locations: Option<Vec<Location>>,
    path: Option<Vec<Value>>,
}

impl Fault {
    /// What it says, without the values that it was given.
    fn of_schema(&self) -> String {
        let words = self.message.split(" got invalid value").next().unwrap_or_default();
        words.chars().take(MESSAGE_CHARACTERS).collect()
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Location {
    line: usize,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, left_out: BTreeSet::new() }
    }

    /// As it is sent: what is left out leaves an empty line, so that the others keep their numbers.
    pub(super) fn text(&self) -> String {
        let lines = self.text.lines().enumerate();
        let kept = lines.map(|(at, line)| if self.left_out.contains(&(at + 1)) { "" } else { line });
        kept.collect::<Vec<_>>().join("\n")
    }

    /// What was left out, by name.
    pub(super) fn degraded(&self) -> impl Iterator<Item = &'a str> {
        self.left_out.iter().filter_map(|line| self.optional(*line)).filter(|what| !what.is_empty())
    }

    fn optional(&self, line: usize) -> Option<&'a str> {
        let line = self.text.lines().nth(line.checked_sub(1)?)?;
        line.split_once(OPTIONAL).map(|(_, what)| what.trim())
    }

    /// Judge an answer to it.
    pub(super) fn judge(&mut self, body: &[u8]) -> Verdict {
        let Ok(Reply { data, errors }) = serde_json::from_slice(body) else { return Verdict::Foreign };
        let errors = errors.unwrap_or_default();
        match (data, &errors[..]) {
            (Some(Value::Object(data)), []) => Verdict::Whole(data),
            (_, []) => Verdict::Foreign,
            // Nothing was executed: the document itself is not understood.
            (None | Some(Value::Null), errors) if errors.iter().all(|error| error.path.is_none()) => {
                let mut unknown = false;
                for error in errors {
                    let lines = error.locations.iter().flatten().map(|location| location.line);
                    let lines: Vec<_> = lines.filter(|line| self.optional(*line).is_some()).collect();
                    if lines.is_empty() {
                        return Verdict::Unknown(error.of_schema());
                    }
                    unknown |= lines.into_iter().filter(|line| self.left_out.insert(*line)).count() > 0;
                }
                if unknown { Verdict::Again } else { Verdict::Unknown(errors[0].of_schema()) }
            }
            (_, errors) => {
                let place = errors.iter().find_map(|error| error.path.as_ref()).map(|path| {
                    let words = path.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
                    words.collect::<Vec<_>>().join(".")
                });
                Verdict::Failed(place.unwrap_or_else(|| "the whole answer".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str =
        "{\n  version # ? the version\n  runs {\n    id\n    made # ? creation times\n  }\n  newer # ?\n}";

    fn judge(answers: &[Value]) -> (Verdict, Vec<&'static str>, String) {
        let mut document = Document::new(TEXT);
        let mut verdict = Verdict::Foreign;
        for answer in answers {
            verdict = document.judge(answer.to_string().as_bytes());
        }
        (verdict, document.degraded().collect(), document.text())
    }

    fn unknown(line: u32) -> Value {
        json!({"message": format!("Cannot query field on {line}"), "locations": [{"line": line, "column": 3}]})
    }

    #[test]
    fn what_dagster_does_not_know_is_left_out_and_told_if_it_can_be() {
        let (verdict, degraded, text) = judge(&[json!({"data": null, "errors": [unknown(2), unknown(5), unknown(7)]})]);
        assert_eq!((verdict, degraded), (Verdict::Again, vec!["the version", "creation times"]));
        assert_eq!(text, "{\n\n  runs {\n    id\n\n  }\n\n}");
        let needed = judge(&[json!({"errors": [unknown(2), unknown(4)]})]).0;
        assert_eq!(needed, Verdict::Unknown("Cannot query field on 4".into()));
        let nowhere = judge(&[json!({"errors": [{"message": "m"}]})]).0;
        assert_eq!(nowhere, Verdict::Unknown("m".into()));
        let value = json!({"errors": [{"message": "Variable '$ep' got invalid value {'name': 'Mary'} at 'ep'"}]});
        assert_eq!(judge(&[value]).0, Verdict::Unknown("Variable '$ep'".into()));
        let again = json!({"errors": [unknown(2)]});
        assert!(matches!(judge(&[again.clone(), again]).0, Verdict::Unknown(_)), "it cannot go on for ever");
    }

    #[test]
    fn a_part_is_no_answer_and_what_failed_is_not_quoted() {
        let failed = json!({"message": "Mary Smith", "locations": [{"line": 2}], "path": ["runs", 0, "made"]});
        let partly = judge(&[json!({"data": {"runs": null}, "errors": [failed]})]).0;
        assert_eq!(partly, Verdict::Failed("runs.0.made".into()));
        let all = judge(&[json!({"data": null, "errors": [failed]})]).0;
        assert_eq!(all, Verdict::Failed("runs.0.made".into()));
        for foreign in [json!("x"), json!({}), json!({"data": null}), json!({"data": []}), json!({"errors": []})] {
            assert_eq!(judge(std::slice::from_ref(&foreign)).0, Verdict::Foreign, "{foreign}");
        }
        assert_eq!(Document::new(TEXT).judge(b"<html>"), Verdict::Foreign);
        assert!(matches!(judge(&[json!({"data": {"a": 1}, "errors": []})]).0, Verdict::Whole(_)));
    }
}
