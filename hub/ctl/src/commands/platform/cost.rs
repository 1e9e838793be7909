//! `hubctl platform cost`: what an LA's parameters will cost a month.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::{
    cli::Context,
    exit::{Exit, Usage},
    output,
    platform::{
        cost::{self, ANY_ACCOUNT, LAS, Line, PriceList, USES},
        estate::Estate,
        parameters::Parameters,
        templates::Place,
    },
    table::{Cell, Table, Tone},
};

/// Reckon what an LA's account will cost a month with these parameters: asleep, typical, always on
///
/// An estimate, from what the templates of this release make with them. Traffic between zones, what people upload beyond
/// 10 GiB, and what the core account pays for itself are not in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl platform cost                                       An LA by the defaults, with a network of its own
  hubctl platform cost --set Network=shared --las 30
  hubctl platform cost camden.params --at-most 12 -o json    Exits with 3 if asleep it costs more")]
pub(crate) struct Cost {
    /// File with the LA's parameters; without it all are the templates' defaults
    parameters: Option<PathBuf>,
    /// A parameter in place of the file's; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// LAs that share the core's endpoints
    #[arg(long, value_name = "N", default_value_t = LAS, value_parser = clap::value_parser!(u32).range(1..))]
    las: u32,
    /// Exit with 3 if an LA asleep costs more
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    at_most: Option<f64>,
}

impl Cost {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let mut parameters = match &self.parameters {
            Some(path) => Parameters::read_any(path)?,
            None => Parameters::parse(Path::new("the defaults"), Place::Child, String::new())?,
        };
        if parameters.place() == Place::Core {
            bail!("{} has the core account's parameters; name an LA's", parameters.path().display());
        }
        for one in &self.set {
            let Some((name, value)) = one.split_once('=') else {
                return Err(Usage(format!("--set {one}: write NAME=VALUE")).into());
            };
            parameters = parameters.with(name, value)?;
        }
        let (p, shared) = (PriceList::built_in()?, shared_endpoints()?);
        let months: Vec<(&str, Vec<Line>)> = USES
            .iter()
            .map(|with| Ok((with.name, cost::sheet(&parameters, *with, shared, self.las, &p)?)))
            .collect::<anyhow::Result<_>>()?;
        let (_, asleep) = &months[0];
        let costs = cost::sum(asleep);
        let json = json!({
            "region": p.region(),
            "currency": p.currency(),
            "dated": p.dated(),
            "source": p.source(),
            "las": self.las,
            "months": months.iter().map(|(name, lines)| json!({
                "use": name,
                "sum": cost::sum(lines),
                "lines": lines.iter().map(|line| json!({
                    "what": line.what, "amount": line.amount, "unit": line.unit, "price": line.price, "sum": line.sum(),
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        });
        context.output.data(&json, &[table(&months, p.currency())])?;
        output::note(format_args!("prices of {}, dated {}: {}", p.region(), p.dated(), p.source()));
        if parameters.get("Storage") == Some("adopted") {
            output::note("what the adopted platform itself costs is not in it: its tasks, runs and database");
        }
        if parameters.get("Sleep") == Some("no") {
            output::warn("with Sleep=no nobody puts it to sleep: it is as people leave it, and costs that");
        }
        if parameters.get("Network") == Some("own") {
            let other = parameters.with("Network", "shared")?;
            let other = cost::sum(&cost::sheet(&other, USES[0], shared, self.las, &p)?);
            output::note(format_args!(
                "in a network that {} LAs share (Network=shared) it would cost {other:.2} asleep: endpoints are paid by the hour",
                self.las
            ));
        } else if let Some(most) = self.at_most {
            match cost::enough(asleep, most, shared, self.las, &p) {
                Some(least) => output::note(format_args!("asleep at most {most:.2} from {least} LAs on")),
                None => output::note(format_args!("asleep more than {most:.2} with any number of LAs")),
            }
        }
        match self.at_most.filter(|most| costs > *most) {
            Some(most) => {
                output::error(format_args!(
                    "asleep it costs {costs:.2} {}, which is more than {most:.2}",
                    p.currency()
                ));
                Ok(Exit::NotSucceeded)
            }
            None => Ok(Exit::Done),
        }
    }
}

fn amount(text: &str) -> Result<f64, String> {
    let amount: Option<f64> = text.parse().ok();
    amount.filter(|amount| amount.is_finite() && *amount > 0.0).ok_or_else(|| "use an amount of money, as in 12".into())
}

/// Endpoints that the core account has for LAs alone.
fn shared_endpoints() -> anyhow::Result<f64> {
    let core = "SharedWith=arn:aws:organizations::111111111111:ou/o-a1b2c3d4e5/ou-ab12-cdefghij\n".to_owned();
    let with = Parameters::parse(Path::new("the defaults"), Place::Core, core)?;
    let without = Parameters::parse(Path::new("the defaults"), Place::Core, String::new())?;
    Ok(cost::endpoints(&Estate::new(&with, ANY_ACCOUNT)?)? - cost::endpoints(&Estate::new(&without, ANY_ACCOUNT)?)?)
}

fn table(months: &[(&str, Vec<Line>)], currency: &str) -> Table {
    let names = months.iter().map(|(name, _)| name.to_uppercase());
    let names: Vec<String> = ["WHAT".into(), "PRICE".into()].into_iter().chain(names).collect();
    let mut table = Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, first) = &months[0];
    for (row, line) in first.iter().enumerate() {
        let mut cells = vec![Cell::from(&line.what), Cell::from(&format!("{:.5}", line.price))];
        cells.extend(months.iter().map(|(_, lines)| {
            let line = &lines[row];
            Cell::from(&format!("{:.2} {} = {:.2}", line.amount, line.unit, line.sum()).replace("  ", " "))
        }));
        table.push(cells);
    }
    let mut sums = vec![Cell::from(&format!("sum, {currency}")), Cell::from(&"")];
    sums.extend(months.iter().map(|(_, lines)| Cell::new(format!("{:.2}", cost::sum(lines)), Tone::Good)));
    table.push(sums);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_la_asleep_in_the_shared_network_costs_what_is_promised() {
        let parameters = Parameters::parse(Path::new("one.params"), Place::Child, "Network=shared\n".into()).unwrap();
        let shared = shared_endpoints().unwrap();
        assert!(shared > 5.0, "{shared}");
        let asleep = cost::sheet(&parameters, USES[0], shared, LAS, &PriceList::built_in().unwrap()).unwrap();
        let sum = cost::sum(&asleep);
        assert!((8.0..=12.0).contains(&sum), "12 USD at most are promised: {sum} {asleep:#?}");
    }
}
