//! Changes of a container's environment variables. They are signed, kept and shown in the clear, so that no secret belongs
//! here: those are named in the task definition's `secrets`, and lie in Secrets Manager.

use sfdata_proto::v1 as wire;

use super::{ParseError, Rollout, malformed};
use crate::limits;

/// Words in the name of a variable that is likely a secret.
const SECRET: [&str; 5] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL"];

/// Whether a variable is likely a secret: by its name, or because its value is a URL with a password.
pub fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET.iter().any(|word| name.contains(word)) || has_password(value)
}

/// The name of a variable.
pub(super) fn variable(name: String) -> Result<String, ParseError> {
    check(&name).map(|()| name)
}

fn check(name: &str) -> Result<(), ParseError> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if name.is_empty() || name.len() > 255 || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(word) {
        return Err(malformed(format!("{name:?} is not the name of an environment variable")));
    }
    Ok(())
}

/// Whether there is a URL with a password in it: `postgres://user:password@host/`.
pub(super) fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let rest = &text[at + 3..];
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
    })
}

/// Variables that are set, and others that are taken away: sorted, unique, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    set: Vec<(String, String)>,
    unset: Vec<String>,
}

impl Environment {
    /// These, in any order.
    pub fn new(set: impl IntoIterator<Item = (String, String)>, mut unset: Vec<String>) -> Result<Self, ParseError> {
        let mut set: Vec<(String, String)> = set.into_iter().collect();
        set.sort();
        unset.sort();
        let mut names: Vec<&str> =
            set.iter().map(|(name, _)| name.as_str()).chain(unset.iter().map(String::as_str)).collect();
        names.sort_unstable();
        if names.is_empty() || names.len() > limits::ENVIRONMENT_VARIABLES {
            return Err(malformed(format!("1 to {} variables can be changed at once", limits::ENVIRONMENT_VARIABLES)));
        }
        names.iter().try_for_each(|name| check(name))?;
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(malformed(format!("variable {} is named twice", twice[0])));
        }
        for (name, value) in &set {
            if value.len() > limits::ENVIRONMENT_VALUE_BYTES {
                return Err(malformed(format!("{name} is longer than {} bytes", limits::ENVIRONMENT_VALUE_BYTES)));
            }
            if is_secret(name, value) {
                return Err(malformed(format!(
                    "{name} is likely a secret, and would be kept and shown in the clear; keep it in Secrets Manager: \
                     hubctl ecs use-secret"
                )));
            }
        }
        Ok(Self { set, unset })
    }

    /// Names and values.
    pub fn set(&self) -> &[(String, String)] {
        &self.set
    }

    /// Names.
    pub fn unset(&self) -> &[String] {
        &self.unset
    }

    /// What is set, as the wire carries it.
    pub(super) fn variables(&self) -> Vec<wire::EcsVariable> {
        let variable =
            |(name, value): &(String, String)| wire::EcsVariable { name: name.clone(), value: value.clone() };
        self.set.iter().map(variable).collect()
    }

    pub(super) fn to_wire(&self, service: String, rollout: Rollout) -> wire::EcsSetEnv {
        wire::EcsSetEnv { service, set: self.variables(), unset: self.unset.clone(), rollout: Some(rollout.to_wire()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_is_named_once_and_no_secret_is_among_them() {
        let new = |set: &[(&str, &str)], unset: &[&str]| {
            let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Environment::new(set, unset.iter().map(ToString::to_string).collect())
        };
        let sorted = new(&[("B", "2"), ("A", "1")], &["D", "C"]).unwrap();
        assert_eq!((sorted.set()[0].0.as_str(), sorted.unset()[0].as_str()), ("A", "C"));
        for (set, unset) in [
            (&[][..], &[][..]),
            (&[("A", "1"), ("A", "2")], &[]),
            (&[("A", "1")], &["A"]),
            (&[("1A", "1")], &[]),
            (&[("A B", "1")], &[]),
            (&[("PG_PASSWORD", "x")], &[]),
            (&[("api_token", "x")], &[]),
            (&[("DAGSTER_PG_URL", "postgresql://dagster:hunter2@db:5432/dagster")], &[]),
        ] {
            assert!(new(set, unset).is_err(), "{set:?} {unset:?}");
        }
        assert!(new(&[], &["PG_PASSWORD"]).is_ok(), "taken away");
        for value in ["https://example.org:8443/a@b", "postgres://dagster@db/dagster", "s3://bucket/key", "a:b@c"] {
            assert!(new(&[("URL", value)], &[]).is_ok(), "{value}");
        }
    }
}
