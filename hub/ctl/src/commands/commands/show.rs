//! `hubctl commands show`: one command, whole. The operator's signature is checked here, against the trust bundle that
//! this profile holds: the hub could show any command under any name.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    command::Command,
    envelope,
    ids::CommandId,
    keyfile,
    keys::{PublicKey, sha256},
};
use sfdata_proto::v1::{Envelope, GetCommandRequest, GetCommandResponse, TargetStatus};

use super::{ask, list::to_json};
use crate::{
    cli::{self, Context},
    client::Hub,
    exit::Exit,
    follow::Board,
    health::none_if_empty,
    profile::{Held, Profile},
    proof::{Check, Proof},
    results,
    table::{Cell, Table, row},
    words,
};

/// Show a command, who signed it and where it stands at each target
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Command's id
    id: CommandId,
    /// Verify who ordered it and what came of it: every signature, and its audit entries
    #[arg(long, help_heading = "Proof")]
    proof: bool,
    /// Keep the proof in this file, to be verified anywhere
    #[arg(long, value_name = "FILE", requires = "proof", help_heading = "Proof")]
    save: Option<PathBuf>,
    /// Verify the proof in this file, and ask no hub
    #[arg(long, value_name = "FILE", requires = "proof", conflicts_with = "save", help_heading = "Proof")]
    from: Option<PathBuf>,
    /// Trust the holders of these root keys, in place of those in this profile's trust bundle
    #[arg(long, value_name = "DIGEST", requires = "proof", value_parser = cli::digest, help_heading = "Proof")]
    root_pin: Option<[u8; 32]>,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if self.proof {
            return self.prove(context).await;
        }
        let hub = Hub::connect(context).await?;
        let answer = ask(&hub, self.id).await?;
        let summary = answer.summary.clone().unwrap_or_default();
        let signature = signature(&answer, &summary.operator, hub.profile.trust()?.as_ref());
        let mut json = to_json(&summary);
        json["signature"] = signature.word().into();
        json["targets"] = answer.targets.iter().map(target).collect();
        let mut facts = Table::card();
        facts.push(row!["command", summary.id]);
        facts.push(row!["action", summary.action]);
        facts.push(row!["operator", summary.operator]);
        facts.push(row!["signature", signature.text()]);
        facts.push(row!["reason", summary.reason]);
        facts.push(row!["submitted", words::second(summary.submitted_unix_ms)]);
        facts.push(row!["expires", words::second(summary.expires_unix_ms)]);
        let mut targets = Table::new(&["AGENT", "POSITION", "STATE", "CHANGED", "CODE", "DETAIL"]);
        for status in &answer.targets {
            let (code, detail) = results::reason(&status.into(), Timestamp::now());
            targets.push(vec![
                Cell::from(&status.agent_id),
                Cell::from(format!("{}.{}", status.epoch, status.sequence)),
                results::state(&status.into()),
                Cell::from(words::second(status.changed_unix_ms)),
                Cell::from(code),
                Cell::from(detail),
            ]);
        }
        let mut tables = vec![facts, targets];
        tables.extend(results::succeeded(&Board::of(&answer)));
        context.output.data(&json, &tables)?;
        Ok(Exit::Done)
    }
}

impl Show {
    /// Exits with 1 where anything does not hold.
    async fn prove(self, context: &Context) -> anyhow::Result<Exit> {
        let proof = match &self.from {
            Some(file) => {
                let text = keyfile::read(file)?;
                Proof::parse(&text).with_context(|| format!("cannot use {}", file.display()))?
            }
            None => {
                let hub = Hub::connect(context).await?;
                let request = GetCommandRequest { command_id: self.id.to_string(), proof: true };
                let tried = format!("read the proof of command {}", self.id);
                Proof::of(&hub.ask(tried, hub.operator().get_command(request)).await?)?
            }
        };
        let about = proof.command()?.id;
        if about != self.id {
            bail!("it is the proof of another command: {about}");
        }
        let root_pin = match self.root_pin {
            Some(pin) => pin,
            None => {
                let held = Profile::open(&context.folder)?.trust()?;
                held.context("this profile holds no trust bundle; name the root keys by --root-pin")?.bundle.root_pin()
            }
        };
        let checks = proof.verify(&root_pin);
        let holds = checks.iter().all(|check| check.found.is_ok());
        let mut table = Table::new(&["CHECK", "AGENT", "HOLDS", "SHOWS"]);
        for Check { what, agent, found } in &checks {
            let (word, text) = match found {
                Ok(shows) => ("yes", shows),
                Err(wrong) => ("NO", wrong),
            };
            table.push(row![what, agent, word, text]);
        }
        let checks = checks.iter().map(|Check { what, agent, found }| {
            json!({
                "check": what,
                "agent_id": none_if_empty(agent),
                "holds": found.is_ok(),
                "shows": found.as_ref().ok(),
                "wrong": found.as_ref().err(),
            })
        });
        let json = json!({ "command_id": self.id.to_string(), "holds": holds, "checks": checks.collect::<Vec<_>>() });
        if let Some(file) = &self.save {
            keyfile::write(file, proof.to_text()?.as_bytes())?;
        }
        context.output.data(&json, &[table])?;
        Ok(if holds { Exit::Done } else { Exit::NotDone })
    }
}

fn target(status: &TargetStatus) -> Value {
    let mut json = results::target(&status.agent_id, &status.into());
    json["epoch"] = status.epoch.into();
    json["sequence"] = status.sequence.into();
    json["receipt_digest"] = status.receipt.as_ref().map(|receipt| hex::encode(sha256(&receipt.payload))).into();
    json
}

/// What the operator's signature under a stored command is worth.
#[derive(Debug, PartialEq, Eq)]
enum Signature {
    Valid,
    Invalid,
    /// The bundle that is held does not list the operator: removed since, or added later.
    Unknown,
}

impl Signature {
    fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Valid => "valid, by the key in the trust bundle",
            Self::Invalid => {
                "NOT VALID: no key that the trust bundle lists for this operator signed it; had it another key then, --proof tells"
            }
            Self::Unknown => "not checked: the trust bundle held here does not list the operator",
        }
    }
}

fn signature(answer: &GetCommandResponse, operator: &str, held: Option<&Held>) -> Signature {
    let name = operator.parse().ok();
    let listed = name.zip(held).map(|(name, held)| held.bundle.operator_keys(&name).map(|listed| listed.key).collect());
    let keys: Vec<PublicKey> = listed.unwrap_or_default();
    let signs = |signed: &Envelope| envelope::count_signers(signed, Command::PAYLOAD_TYPE, &keys) > 0;
    match &answer.command {
        _ if keys.is_empty() => Signature::Unknown,
        Some(signed) if signs(signed) => Signature::Valid,
        _ => Signature::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use sfdata_common::{
        keys::SigningKey,
        trust::{Bundle, OperatorKey, Role},
    };

    use super::*;

    #[test]
    fn a_command_that_the_hub_made_up_is_seen() {
        let (root, alice, hub) =
            (SigningKey::generate().unwrap(), SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let bundle = Bundle {
            version: 1,
            trust_domain: "sfdata.example".into(),
            issued: Timestamp::UNIX_EPOCH,
            root_keys: vec![root.public()],
            threshold: 1,
            operators: vec![OperatorKey {
                name: "alice".parse().unwrap(),
                key: alice.public(),
                roles: vec![Role::Operator],
                expires: Timestamp::MAX,
            }],
            dispatch_keys: vec![],
            ca_certificates: vec![],
        };
        let held = Held { envelope: bundle.unsigned(), bundle };
        let by = |key: &SigningKey, operator: &str| {
            let command = Some(envelope::seal(Command::PAYLOAD_TYPE, &b"payload"[..], key));
            signature(&GetCommandResponse { command, ..Default::default() }, operator, Some(&held))
        };
        assert_eq!(by(&alice, "alice"), Signature::Valid);
        assert_eq!(by(&hub, "alice"), Signature::Invalid);
        assert_eq!(by(&hub, "bob"), Signature::Unknown);
    }
}
