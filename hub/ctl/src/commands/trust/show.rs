//! `hubctl trust show`: what a bundle says and who signed it; also how the other verbs show their result.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp, envelope,
    keys::{PublicKey, sha256},
    trust::{Bundle, Role},
};
use sfdata_proto::v1::Envelope;

use super::draft;
use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    output, pinned,
    table::{Cell, Table, Tone, row},
};

/// Show a trust bundle: the hub's, checked against the one held here, or that of a file
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Bundle's file; without it the hub is asked
    file: Option<PathBuf>,
}

/// What only the hub knows.
pub(super) struct Epoch {
    number: u64,
    needs_statement: bool,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if let Some(path) = self.file {
            let (envelope, bundle) = draft::read(&path)?;
            print(context, &envelope, &bundle, None)?;
            return Ok(Exit::Done);
        }
        let hub = Hub::connect(context).await?;
        let trust = pinned::refresh(&hub).await?;
        let held = trust.held.context("the hub has no trust bundle yet; begin with hubctl trust init")?;
        let epoch = Epoch { number: trust.epoch, needs_statement: trust.epoch_needs_statement };
        print(context, &held.envelope, &held.bundle, Some(&epoch))?;
        if epoch.needs_statement {
            output::warn(pinned::NEEDS_STATEMENT);
        }
        Ok(Exit::Done)
    }
}

/// Print a bundle and who signed it.
pub(super) fn print(
    context: &Context,
    envelope: &Envelope,
    bundle: &Bundle,
    epoch: Option<&Epoch>,
) -> anyhow::Result<()> {
    context.output.data(&to_json(envelope, bundle, epoch), &tables(envelope, bundle, epoch, Timestamp::now()))?;
    Ok(())
}

fn signed_by(envelope: &Envelope, key: &PublicKey) -> bool {
    envelope::is_signed_by(envelope, Bundle::PAYLOAD_TYPE, key)
}

pub(super) fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha256(der)))
}

fn to_json(envelope: &Envelope, bundle: &Bundle, epoch: Option<&Epoch>) -> Value {
    json!({
        "version": bundle.version,
        "trust_domain": bundle.trust_domain,
        "issued": bundle.issued,
        "root_pin": hex::encode(bundle.root_pin()),
        "threshold": bundle.threshold,
        "complete": Bundle::verify_first(envelope, None).is_ok(),
        "root_keys": bundle.root_keys.iter().map(|key| json!({
            "key": key.to_string(),
            "key_id": key.id(),
            "signed": signed_by(envelope, key),
        })).collect::<Vec<_>>(),
        "operators": bundle.operators.iter().map(|operator| json!({
            "name": operator.name.as_str(),
            "key": operator.key.to_string(),
            "roles": operator.roles.iter().copied().map(Role::as_str).collect::<Vec<_>>(),
            "expires": operator.expires,
        })).collect::<Vec<_>>(),
        "dispatch_keys": bundle.dispatch_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ca_fingerprints": bundle.ca_certificates.iter().map(|der| fingerprint(der)).collect::<Vec<_>>(),
        "epoch": epoch.map(|epoch| epoch.number),
        "epoch_needs_statement": epoch.map(|epoch| epoch.needs_statement),
    })
}

fn tables(envelope: &Envelope, bundle: &Bundle, epoch: Option<&Epoch>, now: Timestamp) -> Vec<Table> {
    let have = envelope::count_signers(envelope, Bundle::PAYLOAD_TYPE, &bundle.root_keys);
    let tone = if have >= bundle.threshold { Tone::Good } else { Tone::Pending };
    let mut facts = Table::card();
    facts.push(row!["version", bundle.version]);
    facts.push(row!["trust domain", bundle.trust_domain]);
    facts.push(row!["issued", bundle.issued.strftime("%Y-%m-%dT%H:%M:%SZ")]);
    facts.push(vec![Cell::from("signatures"), Cell::new(format!("{have} of {}", bundle.threshold), tone)]);
    facts.push(row!["root pin", hex::encode(bundle.root_pin())]);
    bundle.dispatch_keys.iter().for_each(|key| facts.push(row!["dispatch key", key]));
    bundle.ca_certificates.iter().for_each(|der| facts.push(row!["CA", fingerprint(der)]));
    if let Some(epoch) = epoch {
        let state = if epoch.needs_statement { " (needs a statement)" } else { "" };
        facts.push(row!["epoch", format!("{}{state}", epoch.number)]);
    }

    let mut roots = Table::new(&["ROOT KEY", "ID", "SIGNED"]);
    for key in &bundle.root_keys {
        let signed = if signed_by(envelope, key) { "yes" } else { "no" };
        roots.push(row![key, key.id(), signed]);
    }
    let mut operators = Table::new(&["OPERATOR", "ROLES", "EXPIRES", "KEY"]);
    for operator in &bundle.operators {
        let roles: Vec<&str> = operator.roles.iter().copied().map(Role::as_str).collect();
        let tone = if operator.expires > now { Tone::Plain } else { Tone::Bad };
        let expires = Cell::new(operator.expires.strftime("%Y-%m-%d").to_string(), tone);
        operators.push(vec![
            Cell::from(&operator.name),
            Cell::from(roles.join(" ")),
            expires,
            Cell::from(operator.key),
        ]);
    }
    vec![facts, roots, operators]
}

#[cfg(test)]
mod tests {
    use sfdata_common::{keys::SigningKey, trust::OperatorKey};

    use super::*;

    #[test]
    fn a_bundle_shows_who_signed_it_and_who_may_sign_what() {
        let [root, other] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        let bundle = Bundle {
            version: 3,
            trust_domain: "sfdata.example".into(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: vec![root.public(), other.public()],
            threshold: 2,
            operators: vec![OperatorKey {
                name: "alice".parse().unwrap(),
                key: other.public(),
                roles: vec![Role::Operator, Role::DataSteward],
                expires: Timestamp::from_second(1_900_000_000).unwrap(),
            }],
            dispatch_keys: vec![other.public()],
            ca_certificates: vec![vec![1]],
        };
        let mut envelope = bundle.unsigned();
        envelope::add_signature(&mut envelope, &root);
        let tables = tables(&envelope, &bundle, None, Timestamp::UNIX_EPOCH);
        let text: Vec<String> = tables.iter().map(|table| table.render(false)).collect();
        insta::with_settings!({ filters => [
            (r"ed25519:\S{43}", "[key]"), (r"root pin  +\S{64}", "root pin      [pin]"), (r"\b[0-9a-f]{16}\b", "[key id]")
        ] }, {
            insta::assert_snapshot!(text.join("\n"), @r#"
            version       3
            trust domain  sfdata.example
            issued        1970-01-01T00:00:00Z
            signatures    1 of 2
            root pin      [pin]
            dispatch key  [key]
            CA            sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a

            ROOT KEY                                             ID                SIGNED
            [key]  [key id]  yes
            [key]  [key id]  no

            OPERATOR  ROLES                  EXPIRES     KEY
            alice     operator data-steward  2030-03-17  [key]
            "#);
        });
        let json = to_json(&envelope, &bundle, None);
        assert_eq!((&json["complete"], &json["root_keys"][0]["signed"]), (&json!(false), &json!(true)));
        assert_eq!(json["operators"][0]["roles"], json!(["operator", "data-steward"]));
    }
}
