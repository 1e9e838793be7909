//! `hubctl platform init`: the core account's parameter file, from three answers.

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::{
    cli::Context,
    exit::{Exit, Usage},
    output,
    platform::{
        aws,
        parameters::Parameters,
        templates::{Parameter, Place},
    },
};

/// Descriptions are broken before this column.
const WIDTH: usize = 110;

/// Write the core account's parameters: what has to be told, and every other one with its default and what it means
///
/// Asks for what is not given. Nothing is made in AWS, and no file is written over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl platform init
  hubctl platform init --organization o-a1b2c3d4e5 --trust-domain sfdata.region.example --alarm-email team@region.example")]
pub(crate) struct Init {
    /// AWS organisation whose accounts may find the hub and pull images [default: that of the AWS credentials]
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Name for all that trusts the hub, for ever: a domain that is yours
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// Who is told by CloudWatch when the hub is gone; empty for nobody
    #[arg(long, value_name = "ADDRESS")]
    alarm_email: Option<String>,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "core.params")]
    file: PathBuf,
}

impl Init {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if self.file.exists() {
            bail!("{} is there already, and is left as it is; name another with --file", self.file.display());
        }
        let organization = match self.organization {
            Some(given) => given,
            None => {
                let known = aws::ask(&["organizations", "describe-organization"]).await;
                let known = known.ok().and_then(|said| Some(said.pointer("/Organization/Id")?.as_str()?.to_owned()));
                ask("Id of the AWS organisation", "--organization", known)?
            }
        };
        let trust_domain = answer(self.trust_domain, "Trust domain, a domain of yours", "--trust-domain")?;
        let alarm_email = answer(self.alarm_email, "Who is told when the hub is gone (e-mail)", "--alarm-email")?;
        let told = [("OrganizationId", organization), ("TrustDomain", trust_domain), ("AlarmEmail", alarm_email)];
        let parameters = write_new(&self.file, Place::Core, &told)?;
        context.output.text(
            &json!({ "file": self.file, "parameters": told.iter().map(|(name, value)| json!({
            "name": name, "value": value,
        })).collect::<Vec<_>>() }),
            self.file.display(),
        )?;
        output::note(format_args!(
            "next, with credentials of the core account: hubctl platform check {file}, then deploy/load core {file} ecr",
            file = parameters.path().display()
        ));
        Ok(Exit::Done)
    }
}

/// Write a file with these values and, as comments, with all that there is besides.
pub(super) fn write_new(path: &Path, place: Place, told: &[(&str, String)]) -> anyhow::Result<Parameters> {
    let parameters = Parameters::parse(path, place, text(place, told))?;
    // The check of its values comes first, and never is another file written over.
    fs::File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
    parameters.write()?;
    Ok(parameters)
}

fn text(place: Place, told: &[(&str, String)]) -> String {
    let is_told = |parameter: &&Parameter| told.iter().any(|(name, _)| *name == parameter.name);
    let (first, rest): (Vec<_>, Vec<_>) = place.parameters().into_iter().partition(is_told);
    let mut text = format!(
        "# Parameters of the {} for deploy/load {}, one NAME=VALUE a line.\n",
        match place {
            Place::Core => "core account",
            Place::Child => "LA's account",
        },
        place.name()
    );
    for parameter in first {
        let value = told.iter().find(|(name, _)| *name == parameter.name).map_or("", |(_, value)| value.as_str());
        comment(&mut text, &parameter.description);
        let _ = writeln!(text, "{}={value}", parameter.name); // writing to a String does not fail
    }
    text.push_str("\n# What follows is each template's default. Take the mark away where it shall be another.\n");
    for parameter in rest {
        comment(&mut text, &parameter.description);
        let _ = writeln!(text, "#{}={}", parameter.name, parameter.default.as_deref().unwrap_or_default());
    }
    text
}

fn comment(text: &mut String, said: &str) {
    text.push_str("\n#");
    let mut width = 1;
    for word in said.split_whitespace() {
        if width + word.chars().count() >= WIDTH {
            text.push_str("\n#");
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += 1 + word.chars().count();
    }
    text.push('\n');
}

fn answer(given: Option<String>, question: &str, option: &str) -> anyhow::Result<String> {
    given.map_or_else(|| ask(question, option, None), Ok)
}

/// Ask a person; where there is none, what is known, or how to give it.
fn ask(question: &str, option: &str, known: Option<String>) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        let missing = || Usage(format!("there is no terminal to ask at: give {option} ({question})")).into();
        return known.ok_or_else(missing);
    }
    let shown = known.as_ref().map(|known| format!(" [{known}]")).unwrap_or_default();
    write!(io::stderr().lock(), "{question}{shown}: ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(if answer.is_empty() { known.unwrap_or_default() } else { answer.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_says_what_there_is_and_is_read_as_what_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("core.params");
        let told = [("OrganizationId", "o-a1b2c3d4e5".into()), ("TrustDomain", "sfdata.example".to_owned())];
        let parameters = write_new(&path, Place::Core, &told).unwrap();
        assert_eq!(parameters.given().len(), 2);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nOrganizationId=o-a1b2c3d4e5\n") && text.contains("\n#Tasks=0\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(write_new(&path, Place::Core, &told).is_err(), "it is there already");
        let bad = [("OrganizationId", "ours".to_owned())];
        let other = folder.path().join("other.params");
        assert!(write_new(&other, Place::Core, &bad).is_err() && !other.exists());
    }
}
