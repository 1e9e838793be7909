//! `hubctl platform check`: before stacks are loaded, whether they can be; afterwards, whether each part is there, reachable,
//! private, encrypted, and may do no more than it should.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::{
    cli::Context,
    exit::Exit,
    output,
    platform::{
        aws,
        installed::{self, Finding, Verdict},
        parameters::Parameters,
        ready,
    },
    table::{Cell, Table, Tone},
};

/// Check an account before its stacks are loaded, and what they made afterwards
///
/// Asks AWS by its command line, with the credentials of the account at hand; it only reads. Of stacks that are not there yet:
/// names, quotas, images, the way to the hub. Of those that are: their state, and whether what they made is reachable,
/// private, encrypted and bounded in its permissions. Exits with 3 if something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl platform check core.params
  hubctl platform check camden.params -o json")]
pub(crate) struct Check {
    /// File with the account's parameters
    parameters: PathBuf,
}

impl Check {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let parameters = Parameters::read_any(&self.parameters)?;
        let account = aws::account().await?;
        output::note(format_args!("account {account}, parameters of {}", self.parameters.display()));
        let mut findings = Vec::new();
        let (there, missing) = installed::stacks(&parameters, &account, &mut findings).await;
        findings.extend(ready::look(&parameters, &account, &missing).await?);
        findings.extend(installed::look(&there).await);
        let json = json!({
            "account": account,
            "findings": findings.iter().map(|finding| json!({
                "area": finding.area,
                "subject": finding.subject,
                "verdict": finding.verdict.word(),
                "found": finding.found,
            })).collect::<Vec<_>>(),
        });
        context.output.data(&json, &[table(&findings)])?;
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (wrong, unknown) = (count(Verdict::Wrong), count(Verdict::Unknown));
        if unknown > 0 {
            output::warn(format_args!("{unknown} could not be told"));
        }
        if wrong > 0 {
            output::error(format_args!("{wrong} of {} are wrong", findings.len()));
            return Ok(Exit::NotSucceeded);
        }
        Ok(Exit::Done)
    }
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["CHECK", "WHAT", "STATE", "FOUND"]);
    for finding in findings {
        let tone = match finding.verdict {
            Verdict::Right => Tone::Good,
            Verdict::Wrong => Tone::Bad,
            Verdict::Unknown | Verdict::NotYet => Tone::Pending,
        };
        let [area, subject, found] = [finding.area, &finding.subject, &finding.found].map(Cell::from);
        table.push(vec![area, subject, Cell::new(finding.verdict.word(), tone), found]);
    }
    table
}
