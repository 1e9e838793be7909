//! Commands that wait for a second operator: proposed, then approved, rejected, or forgotten when they expire.
//!
//! What is kept is the signed command itself. Who approves it signs the same bytes, and only then does it become a command:
//! the queue takes it, with the end of the proposal, in one durable batch. So neither half can be had without the other,
//! and the hub has no part in it that an agent would have to believe: agents count the signatures themselves.

use jiff::Timestamp;
use sfdata_common::{
    ids::{CommandId, OperatorName},
    keys::sha256,
    limits,
    telemetry::traces::TraceContext,
};
use sfdata_proto::v1 as wire;

use super::{Commands, SubmitError};
use crate::{
    audit::{self, About as _},
    authorize::{Denied, Order},
    disk,
    store::{self, Batch, keys, records},
};

/// Why a proposal is not made or decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not waiting.
    #[error("no command {0} waits for approval; it was approved, rejected or has expired: hubctl audit list")]
    Unknown(CommandId),
    /// The same id for other bytes, or a command of its own already.
    #[error("there is a command {0} already")]
    Taken(CommandId),
    /// One's own.
    #[error("{0} proposed it; somebody else has to approve it")]
    Own(OperatorName),
    /// The hub's bound.
    #[error("{} commands wait for approval; approve or reject some first", limits::PROPOSALS)]
    Full,
    /// Not ours to decide, or not permitted.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// With the second signature it is a command like others, and was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The disk is nearly full.
    #[error(transparent)]
    Disk(#[from] disk::Low),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Commands {
    /// Keep a signed command for a second operator. When this returns it is durable. The same one again changes nothing.
    pub async fn propose(&self, by: &OperatorName, envelope: wire::Envelope, now: Timestamp) -> Result<(), Error> {
        self.disk.check()?;
        let proposed = match self.authorizer.propose(by, envelope, now) {
            Ok(proposed) => proposed,
            Err(denied) => {
                self.record_denial(by, "command.propose", &denied, now).await?;
                return Err(denied.into());
            }
        };
        let Order { command, envelope, digest, .. } = proposed.order();
        let _one_at_a_time = self.deciding.lock().await;
        match self.proposed(command.id)? {
            Some(known) if sha256(&known.payload) == *digest => return Ok(()),
            Some(_) => return Err(Error::Taken(command.id)),
            None if self.show(command.id)?.is_some() => return Err(Error::Taken(command.id)),
            None => {}
        }
        if self.proposals(now)?.len() >= limits::PROPOSALS {
            return Err(Error::Full);
        }
        let record = records::Proposal { envelope: Some(envelope.clone()), proposed: now.as_millisecond() };
        let mut batch = Batch::default();
        batch.put(keys::proposal(command.id), &record);
        batch.audit(audit::ordered(now, "command.proposed", command).about(envelope));
        Ok(self.store.commit(batch).await?)
    }

    /// What waits, newest first.
    pub fn proposals(&self, now: Timestamp) -> Result<Vec<wire::Proposal>, store::Error> {
        let mut waiting = Vec::new();
        for item in self.store.scan::<records::Proposal>(keys::PROPOSALS).rev() {
            let (_, records::Proposal { envelope, proposed }) = item?;
            if envelope.clone().and_then(|envelope| live(envelope, now)).is_some() {
                waiting.push(wire::Proposal { command: envelope, proposed_unix_ms: proposed });
            }
        }
        Ok(waiting)
    }

    /// One that waits.
    pub fn proposal(&self, id: CommandId, now: Timestamp) -> Result<wire::Proposal, Error> {
        let record = self.store.get::<records::Proposal>(&keys::proposal(id))?.ok_or(Error::Unknown(id))?;
        let alive = record.envelope.clone().and_then(|envelope| live(envelope, now)).is_some();
        let proposal = wire::Proposal { command: record.envelope, proposed_unix_ms: record.proposed };
        if alive { Ok(proposal) } else { Err(Error::Unknown(id)) }
    }

    /// Add the signature of `by`, and submit the command. An approval whose answer was lost may be repeated.
    pub async fn approve(
        &self,
        by: &OperatorName,
        id: CommandId,
        signature: wire::Signature,
        trace: Option<TraceContext>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let _one_at_a_time = self.deciding.lock().await;
        let Some(mut envelope) = self.proposed(id)? else {
            let known = self.show(id)?.and_then(|shown| shown.command);
            let again = known.is_some_and(|command| command.signatures.contains(&signature));
            return if again { Ok(()) } else { Err(Error::Unknown(id)) };
        };
        let order = live(envelope.clone(), now).ok_or(Error::Unknown(id))?;
        let author = order.command.operator.clone();
        if *by == author {
            return Err(Error::Own(author));
        }
        envelope.signatures.push(signature.clone());
        let authorizer = &self.authorizer;
        let may =
            authorizer.may_decide(by, &order, now).and_then(|()| authorizer.signed(by, &signature, &envelope, now));
        if let Err(denied) = may {
            self.record_denial(by, "command.approve", &denied, now).await?;
            return Err(denied.into());
        }
        self.submit(&author, envelope, trace, now).await?;
        Ok(())
    }

    /// Give a proposal up, by its author or by who may approve it.
    pub async fn reject(&self, by: &OperatorName, id: CommandId, reason: &str, now: Timestamp) -> Result<(), Error> {
        let _one_at_a_time = self.deciding.lock().await;
        let envelope = self.proposed(id)?.ok_or(Error::Unknown(id))?;
        let order = live(envelope, now).ok_or(Error::Unknown(id))?;
        if *by != order.command.operator
            && let Err(denied) = self.authorizer.may_decide(by, &order, now)
        {
            self.record_denial(by, "command.reject", &denied, now).await?;
            return Err(denied.into());
        }
        let mut batch = Batch::default();
        batch.delete(keys::proposal(id));
        let entry = audit::draft(now, "command.rejected", audit::operator(by), id.to_string(), reason);
        batch.audit(entry.about(&order.envelope));
        Ok(self.store.commit(batch).await?)
    }

    /// Forget what nobody approved in time. Harmless to repeat.
    pub(super) async fn lapse(&self, now: Timestamp) -> Result<(), store::Error> {
        let _one_at_a_time = self.deciding.lock().await;
        let mut batch = Batch::default();
        let mut any = false;
        for item in self.store.scan::<records::Proposal>(keys::PROPOSALS) {
            let (key, record) = item?;
            let (Some(id), Some(envelope)) = (CommandId::from_bytes(&key), record.envelope) else { continue };
            if live(envelope.clone(), now).is_none() {
                batch.delete(keys::proposal(id));
                let entry =
                    audit::draft(now, "command.lapsed", audit::HUB, id.to_string(), "nobody approved it in time");
                batch.audit(entry.about(&envelope));
                any = true;
            }
        }
        if any { self.store.commit(batch).await } else { Ok(()) }
    }

    fn proposed(&self, id: CommandId) -> Result<Option<wire::Envelope>, store::Error> {
        Ok(self.store.get::<records::Proposal>(&keys::proposal(id))?.and_then(|record| record.envelope))
    }
}

/// The order in a proposal, while it may still be approved.
fn live(envelope: wire::Envelope, now: Timestamp) -> Option<Order> {
    Order::stored(envelope, now).ok().filter(|order| order.command.expires > now)
}
