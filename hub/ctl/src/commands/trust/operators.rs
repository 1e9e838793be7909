//! `hubctl trust add-operator` and `remove-operator`: change who may sign commands, in the draft of a bundle.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use sfdata_common::{
    ids::OperatorName,
    keys::PublicKey,
    trust::{Bundle, OperatorKey, Role},
};

use super::{draft::BundleFile, show};
use crate::{
    cli::Context,
    exit::{Exit, Usage},
    output,
};

/// Let an operator sign commands, or change what one may sign
#[derive(Debug, Args)]
#[command(after_help = "\
The file is changed by one rule:
  a bundle with enough signatures counts: the next version is begun in its place
  anything else is a draft: it is changed and keeps its version
  no file: the next version of the bundle that the profile holds is begun

Example:
  hubctl trust add-operator alice --key ed25519:... --role operator --role data-steward --expires 180d")]
pub(crate) struct AddOperator {
    /// Operator's name, as in the invitation
    name: OperatorName,
    /// Public half of the operator's signing key, as `hubctl key show` prints it
    #[arg(long, value_name = "ed25519:...")]
    key: PublicKey,
    /// What the operator may sign; repeatable
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = role())]
    roles: Vec<Role>,
    /// When the key stops counting: a duration from now, or a date
    #[arg(long, value_name = "90d|DATE", default_value = "365d")]
    expires: Expiry,
    /// Keep the key that is listed beside this one, for the time of a rotation
    #[arg(long)]
    beside: bool,
    #[command(flatten)]
    file: BundleFile,
    /// Write the result here, instead of in place
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn role() -> impl clap::builder::TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str))
        .try_map(|text| Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or("not a role"))
}

impl AddOperator {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let now = Timestamp::now();
        let expires = self.expires.from(now);
        if expires <= now {
            return Err(Usage("--expires is in the past".into()).into());
        }
        let mut roles = self.roles;
        roles.sort();
        roles.dedup();
        let operator = OperatorKey { name: self.name, key: self.key, roles, expires };
        let bundle = self.file.change(context, self.out.as_deref(), |bundle| {
            let known = bundle.operator_keys(&operator.name).next().is_some();
            put(bundle, operator.clone(), self.beside);
            match (known, self.beside) {
                (true, true) => output::note(format_args!(
                    "{} may sign with both keys; once the new one is in use, say this again without --beside",
                    operator.name
                )),
                (true, false) => output::note(format_args!("{} was listed before and is replaced", operator.name)),
                (false, _) => {}
            }
            Ok(())
        })?;
        show::print(context, &bundle.unsigned(), &bundle, None)?;
        Ok(Exit::Done)
    }
}

/// List an operator's key, in place of those of the same name or beside them.
fn put(bundle: &mut Bundle, operator: OperatorKey, beside: bool) {
    let stays = |listed: &OperatorKey| listed.name != operator.name || beside && listed.key != operator.key;
    bundle.operators.retain(stays);
    bundle.operators.push(operator);
    bundle.operators.sort_by(|a, b| a.name.cmp(&b.name));
}

/// Let an operator sign nothing any more
#[derive(Debug, Args)]
pub(crate) struct RemoveOperator {
    /// Operator's name
    name: OperatorName,
    #[command(flatten)]
    file: BundleFile,
    /// Write the result here, instead of in place
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl RemoveOperator {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let bundle = self.file.change(context, self.out.as_deref(), |bundle| {
            let known: Vec<String> = bundle.operators.iter().map(|operator| operator.name.to_string()).collect();
            bundle.operators.retain(|operator| operator.name != self.name);
            if bundle.operators.len() == known.len() {
                anyhow::bail!("the bundle lists no operator {}; it lists: {}", self.name, known.join(", "));
            }
            Ok(())
        })?;
        show::print(context, &bundle.unsigned(), &bundle, None)?;
        Ok(Exit::Done)
    }
}

/// When something ends: after a duration, at midnight UTC of a date, or at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    After(Duration),
    At(Timestamp),
}

impl Expiry {
    fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::After(duration) => now.saturating_add(duration).unwrap_or(Timestamp::MAX),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Expiry {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::After(duration));
        }
        let at = text.parse::<Timestamp>().or_else(|_| text.parse::<Date>().and_then(midnight));
        at.map(Self::At).map_err(|_| "use a duration as in 90d, or a date as in 2027-03-31".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use sfdata_common::keys::SigningKey;

    use super::*;

    #[test]
    fn an_expiry_is_a_duration_or_a_date() {
        let day = Timestamp::from_second(86_400).unwrap();
        let end = |text: &str| text.parse::<Expiry>().map(|expiry| expiry.from(day).to_string());
        assert_eq!(end("90d"), Ok("1970-04-02T00:00:00Z".into()));
        assert_eq!(end("2027-03-31"), Ok("2027-03-31T00:00:00Z".into()));
        assert_eq!(end("2027-03-31T12:00:00Z"), Ok("2027-03-31T12:00:00Z".into()));
        assert!(end("soon").is_err());
        assert!(end("31.03.2027").is_err());
    }

    #[test]
    fn an_operator_is_listed_once() {
        let key = |roles: &[Role]| OperatorKey {
            name: "alice".parse().unwrap(),
            key: SigningKey::generate().unwrap().public(),
            roles: roles.to_vec(),
            expires: Timestamp::MAX,
        };
        let mut bundle = Bundle {
            version: 1,
            trust_domain: String::new(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: vec![],
            threshold: 1,
            operators: vec![],
            dispatch_keys: vec![],
            ca_certificates: vec![],
        };
        put(&mut bundle, key(&[Role::Viewer]), false);
        put(&mut bundle, key(&[Role::Admin]), false);
        assert_eq!(bundle.operators.len(), 1);
        assert_eq!(bundle.operators[0].roles, [Role::Admin]);
        // Two while one takes the other's place, and then one again.
        let (first, next) = (bundle.operators[0].clone(), key(&[Role::Operator]));
        put(&mut bundle, next.clone(), true);
        put(&mut bundle, next.clone(), true);
        assert_eq!(bundle.operators, [first, next.clone()]);
        put(&mut bundle, next.clone(), false);
        assert_eq!(bundle.operators, [next]);
    }
}
