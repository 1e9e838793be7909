//! What was found in an account that may be a platform, as a proposed `[platform]` section: as an agent tells its hub, as the
//! text that a configuration takes, and as JSON for programs.
//!
//! Invariant: whatever AWS says stands in a comment without line ends or in a quoted text, so that no name or tag
//! can become a setting.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use sfdata_proto::v1::{self as wire, discovered_line::Value};

/// Without these there is no platform.
const NEEDED: [&str; 3] = ["platform.cluster", "platform.webserver", "platform.daemon"];

/// A proposed `[platform]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// 12 digits.
    pub account: String,
    /// Such as `eu-west-2`.
    pub region: String,
    /// In the order of the file.
    pub lines: Vec<Line>,
    /// Doubts that belong to no line.
    pub unsure: Vec<String>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Such as `platform.daemon`.
    pub key: String,
    /// What to write.
    pub value: Choice,
    /// Why.
    pub because: Vec<String>,
    /// What a person should look at.
    pub unsure: Vec<String>,
    /// Between what a person has to choose.
    pub candidates: Vec<Candidate>,
    /// What stands there now, where an agent with a configuration looked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configured: Vec<String>,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Choice {
    /// A person has to.
    Left,
    /// This.
    One(String),
    /// These.
    Several(Vec<String>),
}

/// What could stand in a line that is left to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// What speaks for it.
    pub why: String,
}

impl Choice {
    /// The names to write.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Left => &[],
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

impl Line {
    /// Without reasons or doubts so far.
    pub fn new(key: &str, value: Choice) -> Self {
        let (because, unsure, candidates, configured) = Default::default();
        Self { key: key.to_owned(), value, because, unsure, candidates, configured }
    }

    /// For a person to choose.
    pub fn left(key: &str, unsure: impl Into<String>, candidates: Vec<Candidate>) -> Self {
        Self { unsure: vec![unsure.into()], candidates, ..Self::new(key, Choice::Left) }
    }

    /// Whether what stands there now is another thing than what was found, in whatever order.
    pub fn differs(&self) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        self.value != Choice::Left && sorted(self.value.names()) != sorted(&self.configured)
    }
}

impl Proposal {
    /// Settings that a configuration needs and that a person has to choose.
    pub fn left(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.value == Choice::Left && NEEDED.contains(&line.key.as_str()))
    }
}

impl From<Proposal> for wire::AgentDiscoverResult {
    fn from(Proposal { account, region, lines, unsure }: Proposal) -> Self {
        let lines = lines.into_iter().map(|Line { key, value, because, unsure, candidates, configured }| {
            let value = match value {
                Choice::Left => None,
                Choice::One(name) => Some(Value::One(name)),
                Choice::Several(names) => Some(Value::Several(wire::DiscoveredNames { names })),
            };
            let candidate = |Candidate { name, why }| wire::DiscoveredCandidate { name, why };
            let candidates = candidates.into_iter().map(candidate).collect();
            wire::DiscoveredLine { key, value, because, unsure, candidates, configured }
        });
        Self { account, region, lines: lines.collect(), unsure }
    }
}

impl From<wire::AgentDiscoverResult> for Proposal {
    fn from(wire::AgentDiscoverResult { account, region, lines, unsure }: wire::AgentDiscoverResult) -> Self {
        let lines = lines.into_iter().map(|line| {
            let wire::DiscoveredLine { key, value, because, unsure, candidates, configured } = line;
            let value = match value {
                None => Choice::Left,
                Some(Value::One(name)) => Choice::One(name),
                Some(Value::Several(wire::DiscoveredNames { names })) => Choice::Several(names),
            };
            let candidate = |wire::DiscoveredCandidate { name, why }| Candidate { name, why };
            Line {
                key,
                value,
                because,
                unsure,
                candidates: candidates.into_iter().map(candidate).collect(),
                configured,
            }
        });
        Self { account, region, lines: lines.collect(), unsure }
    }
}

/// Comments are broken before this column.
const WIDTH: usize = 118;
const BUCKETS: &str = "platform.buckets.";

/// As TOML, with a comment before each line that says why.
pub fn toml(proposal: &Proposal, now: Timestamp) -> String {
    let Proposal { account, region, lines, unsure } = proposal;
    let mut text = String::new();
    let date = now.strftime("%Y-%m-%d");
    comment(&mut text, "", &format!("Proposed for account {account} in {region} on {date}, from what it holds."));
    comment(
        &mut text,
        "",
        "Read it before you use it. Lines that begin with \"#: \" could not be told: choose, and take the mark away.",
    );
    for doubt in unsure {
        comment(&mut text, "Unsure: ", doubt);
    }
    text.push_str("\n[platform]\n");
    let (buckets, settings): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.key.starts_with(BUCKETS));
    settings.iter().for_each(|line| setting(&mut text, line));
    if !buckets.is_empty() {
        text.push_str("\n[platform.buckets]\n");
        buckets.iter().for_each(|line| setting(&mut text, line));
    }
    text
}

/// As one JSON document; a setting that is left to a person is null.
pub fn json(proposal: &Proposal) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(proposal)? + "\n")
}

fn setting(text: &mut String, line: &Line) {
    let key = line.key.rsplit('.').next().unwrap_or_default();
    line.because.iter().for_each(|why| comment(text, "", why));
    line.unsure.iter().for_each(|doubt| comment(text, "Unsure: ", doubt));
    match &line.value {
        Choice::One(value) => assign(text, "", key, &quoted(value)),
        Choice::Several(values) => {
            let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
            assign(text, "", key, &format!("[{}]", values.join(", ")));
        }
        Choice::Left if line.candidates.is_empty() => assign(text, "#: ", key, "\"\""),
        Choice::Left => {
            for candidate in &line.candidates {
                comment(text, "", &format!("{}: {}", candidate.name, candidate.why));
                assign(text, "#: ", key, &quoted(&candidate.name));
            }
        }
    }
}

fn assign(text: &mut String, mark: &str, key: &str, value: &str) {
    let _ = writeln!(text, "{mark}{key} = {value}"); // writing to a String does not fail
}

/// A TOML string: JSON's escapes are TOML's as well.
fn quoted(value: &str) -> String {
    serde_json::Value::from(clean(value)).to_string()
}

fn comment(text: &mut String, lead: &str, said: &str) {
    let mut line = format!("# {lead}").trim_end().to_owned();
    for word in clean(said).split_whitespace() {
        if line.chars().count() + word.chars().count() >= WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "#  ".into();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// Without control characters: a line end would begin a setting, an escape sequence would speak to the terminal.
fn clean(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str, value: Choice) -> Line {
        Line { because: vec!["it is".into()], ..Line::new(key, value) }
    }

    fn shown(lines: Vec<Line>, unsure: &str) -> String {
        let unsure = vec![unsure.to_owned()];
        let proposal = Proposal { account: "1".into(), region: "eu-west-2".into(), lines, unsure };
        toml(&proposal, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_line_that_is_left_is_a_comment_with_its_candidates() {
        let candidates = ["a", "b"].map(|name| Candidate { name: name.into(), why: "port 3000".into() }).into();
        let left = Line { candidates, unsure: vec!["two".into()], ..line("platform.webserver", Choice::Left) };
        let text = shown(vec![left], "x");
        let wanted =
            "# it is\n# Unsure: two\n# a: port 3000\n#: webserver = \"a\"\n# b: port 3000\n#: webserver = \"b\"\n";
        assert!(text.ends_with(wanted), "{text}");
    }

    #[test]
    fn nothing_that_aws_says_becomes_a_setting() {
        let evil = "x\n[hub]\naddress = \"evil:1\"\u{1b}[2J";
        let mut one = line("platform.cluster", Choice::One(evil.into()));
        one.because = vec![evil.into()];
        one.unsure = vec![evil.repeat(20)];
        let several = line("platform.code_servers", Choice::Several(vec![evil.into()]));
        let text = shown(vec![one, several], evil);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let ours = ["#", "[platform]", "cluster = ", "code_servers = "];
            assert!(ours.iter().any(|start| line.starts_with(start)), "{line}");
            assert!(line.chars().count() <= 120 || !line.starts_with('#'), "{line}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn what_an_agent_tells_is_what_arrives() {
        let candidates = vec![Candidate { name: "a".into(), why: "port 3000".into() }];
        let lines = vec![
            line("platform.cluster", Choice::One("c".into())),
            Line { configured: vec!["x".into()], ..line("platform.code_servers", Choice::Several(vec![])) },
            Line::left("platform.webserver", "two", candidates),
        ];
        let proposal = Proposal { account: "1".into(), region: "r".into(), lines, unsure: vec!["x".into()] };
        assert_eq!(Proposal::from(wire::AgentDiscoverResult::from(proposal.clone())), proposal);
    }

    #[test]
    fn a_line_differs_where_another_thing_was_found_than_stands_there() {
        let with = |value, configured: &[&str]| {
            let configured = configured.iter().map(ToString::to_string).collect();
            Line { configured, ..Line::new("platform.code_servers", value) }.differs()
        };
        let several = |names: &[&str]| Choice::Several(names.iter().map(ToString::to_string).collect());
        assert!(!with(several(&["a", "b"]), &["b", "a"]));
        assert!(with(several(&["a", "b"]), &["a"]));
        assert!(with(Choice::One("a".into()), &[]));
        assert!(!with(Choice::Left, &["a"]), "a person has chosen");
    }
}
