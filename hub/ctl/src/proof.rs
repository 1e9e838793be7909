//! A command's proof: a file that whoever has it can verify without a hub, as `proto/FORMAT.md` tells.
//!
//! Nothing in it is believed for being in it. Trust bundles count from the one on whose root keys are those that the reader
//! pinned; the first operator's signature makes the command, the hub's key the dispatch, the agent's the receipt, and the audit
//! entries have to name exactly these bytes.

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use sfdata_common::{
    audit::Chain,
    command::{Class, Command},
    dispatch, envelope,
    keys::{PublicKey, sha256},
    outcome::Outcome,
    signers::{self, Signers},
    trust::Bundle,
};
use sfdata_proto::v1::{self as wire, AuditEntry, Dispatch, GetCommandResponse, Receipt};

use crate::dsse::Dsse;

const FORMAT: &str = "sfdata-proof-v1";

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    format: String,
    trust_bundles: Vec<Dsse>,
    command: Dsse,
    targets: Vec<TargetProof>,
    /// Encoded entries, in base64.
    audit: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetProof {
    agent_id: String,
    dispatch: Option<Dsse>,
    receipt: Option<Dsse>,
    receipt_key: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// `trust`, `operator`, `dispatch`, `receipt`, `audit`.
    pub(crate) what: &'static str,
    /// Of which agent; empty where it is of the command.
    pub(crate) agent: String,
    /// What it shows, or what is wrong with it.
    pub(crate) found: Result<String, String>,
}

impl Proof {
    /// As the hub gave it.
    pub(crate) fn of(answer: &GetCommandResponse) -> anyhow::Result<Self> {
        let proof = answer.proof.as_ref().context("the hub gave no proof; is it older than this hubctl?")?;
        let target = |target: &wire::TargetProof| TargetProof {
            agent_id: target.agent_id.clone(),
            dispatch: target.dispatch.as_ref().map(Dsse::of),
            receipt: target.receipt.as_ref().map(Dsse::of),
            receipt_key: PublicKey::from_bytes(&target.receipt_key).map(|key| key.to_string()),
        };
        Ok(Self {
            format: FORMAT.into(),
            trust_bundles: proof.trust_bundles.iter().map(Dsse::of).collect(),
            command: Dsse::of(answer.command.as_ref().context("the hub gave no command")?),
            targets: proof.targets.iter().map(target).collect(),
            audit: proof.audit.iter().map(|entry| BASE64_STANDARD.encode(entry.encode_to_vec())).collect(),
        })
    }

    /// From a file's text.
    pub(crate) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let proof: Self = serde_json::from_slice(text).context("it is no proof of a command's")?;
        if proof.format != FORMAT {
            bail!("it is in the format {:?}; this hubctl reads {FORMAT}", proof.format);
        }
        Ok(proof)
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The command that it is about, if its signature is as it says: nobody's word is taken for that here.
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        Ok(Command::parse(&self.command.envelope()?.payload)?)
    }

    /// Look at everything, trusting the holders of the root keys with this digest alone.
    pub(crate) fn verify(&self, root_pin: &[u8; 32]) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut note = |what, agent: &str, found: anyhow::Result<String>| {
            let found = found.map_err(|error| format!("{error:#}"));
            let holds = found.is_ok();
            checks.push(Check { what, agent: agent.to_owned(), found });
            holds
        };
        let bundles = match self.bundles(root_pin) {
            Ok(bundles) => bundles,
            Err(error) => {
                note("trust", "", Err(error));
                return checks;
            }
        };
        let (first, last) = (bundles.first().map_or(0, |b| b.version), bundles.last().map_or(0, |b| b.version));
        note("trust", "", Ok(format!("bundles {first} to {last}, by the root keys that are pinned")));
        let (envelope, command) = match self.ordered(&bundles) {
            Ok((envelope, command, by)) => {
                note("operator", "", Ok(by));
                (envelope, command)
            }
            Err(error) => {
                note("operator", "", Err(error));
                return checks;
            }
        };
        let digest = sha256(&envelope.payload);
        let mut named = vec![("command.submitted", digest)];
        for target in &self.targets {
            let dispatch =
                target.dispatch.as_ref().map(|dispatch| dispatched(dispatch, target, &command, digest, &bundles));
            let sent = match dispatch {
                Some(Ok(dispatch)) => {
                    note("dispatch", &target.agent_id, Ok(format!("place {}.{}", dispatch.epoch, dispatch.sequence)));
                    Some(dispatch)
                }
                Some(Err(error)) => {
                    note("dispatch", &target.agent_id, Err(error));
                    None
                }
                None if target.receipt.is_none() => {
                    note("dispatch", &target.agent_id, Ok("it never left, and nothing came of it".into()));
                    continue;
                }
                None => {
                    note(
                        "dispatch",
                        &target.agent_id,
                        Err(anyhow::anyhow!("the hub has none, and there is a receipt")),
                    );
                    None
                }
            };
            match &target.receipt {
                None => _ = note("receipt", &target.agent_id, Ok("none: the agent has told nothing".into())),
                Some(receipt) => match received(receipt, target, &command, digest, sent.as_ref()) {
                    Ok((outcome, receipt)) => {
                        note("receipt", &target.agent_id, Ok(outcome));
                        named.push(("the receipt", receipt));
                    }
                    Err(error) => _ = note("receipt", &target.agent_id, Err(error)),
                },
            }
        }
        note("audit", "", self.recorded(&command, &named));
        checks
    }

    /// The bundles from the first whose root keys are pinned on, each signed as the one before it demands. What is before that
    /// one proves nothing: whoever has later signatures can put other roots before them.
    fn bundles(&self, root_pin: &[u8; 32]) -> anyhow::Result<Vec<Bundle>> {
        let mut bundles: Vec<Bundle> = Vec::new();
        for bundle in &self.trust_bundles {
            let envelope = bundle.envelope()?;
            let next = match bundles.last() {
                Some(last) => last.verify_next(&envelope)?,
                None => match Bundle::verify_first(&envelope, Some(root_pin)) {
                    Ok(first) => first,
                    Err(sfdata_common::trust::Error::Pin) => continue,
                    Err(error) => return Err(error.into()),
                },
            };
            bundles.push(next);
        }
        if bundles.is_empty() { bail!("no trust bundle in it has the root keys that are pinned") } else { Ok(bundles) }
    }

    fn ordered(&self, bundles: &[Bundle]) -> anyhow::Result<(wire::Envelope, Command, String)> {
        let envelope = self.command.envelope()?;
        // Which bundle counted stands in the command; that much of it is read before anything is believed.
        let claimed = Command::parse(&envelope.payload)?;
        let of_then = bundles.iter().find(|bundle| bundle.version >= claimed.trust_version);
        let bundle = of_then.or(bundles.last()).context("no trust bundle")?;
        let signers = Signers::of(&envelope, bundle, claimed.not_before)?;
        let command = claimed;
        let author =
            signers.named(&command.operator).with_context(|| format!("{} did not sign it", command.operator))?;
        let class = command.class();
        if !author.roles.iter().any(|role| role.grants(class)) {
            bail!("{}'s roles do not allow {class} actions", author.name);
        }
        let approvers = signers.approvers(&command.operator, class);
        if class == Class::Destroy && 1 + approvers.len() < signers::DESTROY {
            bail!("it can't be taken back, and nobody but {} signed it", author.name);
        }
        let mut by = format!("{} ordered {}", author.name, command.action.name());
        if !approvers.is_empty() {
            let names: Vec<&str> = approvers.iter().map(|name| name.as_str()).collect();
            by += &format!(", approved by {}", names.join(", "));
        }
        Ok((envelope, command, by))
    }

    /// The record: linked where it is whole, and with an entry for each of these digests.
    fn recorded(&self, command: &Command, named: &[(&str, [u8; 32])]) -> anyhow::Result<String> {
        let entries = self.audit.iter().map(|text| Ok(AuditEntry::decode(&BASE64_STANDARD.decode(text)?[..])?));
        let entries: Vec<AuditEntry> = entries.collect::<anyhow::Result<_>>()?;
        let first = entries.first().context("it has no audit entries")?;
        let linked = entries.windows(2).all(|two| two[1].index == two[0].index + 1);
        let mut chain = Chain::from(first);
        for entry in &entries {
            if !linked {
                chain = Chain::from(entry);
            }
            chain.add(entry).with_context(|| format!("audit entry {}", entry.index))?;
        }
        for (what, digest) in named {
            let about =
                |entry: &&AuditEntry| entry.subject == command.id.to_string() && entry.payload_digest == digest[..];
            if !entries.iter().any(|entry| about(&entry)) {
                bail!("no audit entry is about {what}");
            }
        }
        let (from, to) = (first.index, chain.next.saturating_sub(1));
        Ok(match linked {
            true => format!("entries {from} to {to}, linked; head {}", hex::encode(chain.head)),
            false => {
                format!("{} entries between {from} and {to}; too many lie between to show their links", entries.len())
            }
        })
    }
}

fn dispatched(
    dispatch: &Dsse,
    target: &TargetProof,
    command: &Command,
    digest: [u8; 32],
    bundles: &[Bundle],
) -> anyhow::Result<Dispatch> {
    let envelope = dispatch.envelope()?;
    let keys: Vec<PublicKey> = bundles.iter().flat_map(|bundle| bundle.dispatch_keys.clone()).collect();
    if envelope::count_signers(&envelope, dispatch::PAYLOAD_TYPE, &keys) == 0 {
        bail!("no dispatch key of the trust bundles signed it");
    }
    let said = Dispatch::decode(&envelope.payload[..])?;
    let agrees = said.agent_id == target.agent_id
        && said.command_id == command.id.to_string()
        && said.command_digest == digest[..]
        && !said.void;
    if !agrees {
        bail!("it is for another agent or another command");
    }
    if !command.targets.iter().any(|agent| agent.as_str() == target.agent_id) {
        bail!("the agent is not among the command's targets");
    }
    Ok(said)
}

/// How it ended, and the digest of the receipt.
fn received(
    receipt: &Dsse,
    target: &TargetProof,
    command: &Command,
    digest: [u8; 32],
    sent: Option<&Dispatch>,
) -> anyhow::Result<(String, [u8; 32])> {
    let envelope = receipt.envelope()?;
    let key: PublicKey = target.receipt_key.as_deref().context("there is no key to check it by")?.parse()?;
    if !envelope::is_signed_by(&envelope, dispatch::RECEIPT_PAYLOAD_TYPE, &key) {
        bail!("it is not signed by {key}");
    }
    let said = Receipt::decode(&envelope.payload[..])?;
    let place = sent.is_none_or(|sent| (said.epoch, said.sequence) == (sent.epoch, sent.sequence));
    let agrees = said.agent_id == target.agent_id
        && said.command_id == command.id.to_string()
        && said.command_digest == digest[..];
    if !agrees || !place {
        bail!("it is about another agent, command or place than the dispatch");
    }
    let outcome = Outcome::try_from(said.outcome.unwrap_or_default())?;
    Ok((format!("{}, by {key}", outcome.name()), sha256(&envelope.payload)))
}
