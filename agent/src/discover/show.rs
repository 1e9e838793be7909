//! A proposal as text: the `[platform]` section that a configuration takes, or JSON for programs.
//!
//! Invariant: whatever AWS says stands in a comment without line ends or in a quoted text, so that no name or tag
//! can become a setting.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Choice, Line, Proposal};

/// Comments are broken before this column.
const WIDTH: usize = 118;
const BUCKETS: &str = "platform.buckets.";

/// As TOML, with a comment before each line that says why.
pub fn toml(proposal: &Proposal, now: Timestamp) -> String {
    let Proposal { account, region, lines, unsure } = proposal;
    let mut text = String::new();
    let date = now.strftime("%Y-%m-%d");
    comment(&mut text, "", &format!("Proposed by sfdata-agent discover for account {account} in {region} on {date}."));
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
    use crate::discover::propose::Candidate;

    fn line(key: &'static str, value: Choice) -> Line {
        Line { key, value, because: vec!["it is".into()], unsure: Vec::new(), candidates: Vec::new() }
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
}
