//! What an action has in its hands while it runs, and the way to the hub that it shares with all others.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use sfdata_common::{
    command::Mode,
    error::chain,
    ids::{AgentId, CommandId},
    limits,
    outcome::FailureCode,
    sealed::{self, Place, ReplyKey},
};
use sfdata_proto::v1::{self as wire, action_result::Kind, connect_request::Message as ToHub};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    journal::Journal,
    services::{Error, Plan},
};

/// What a running action may use of the agent: its command's id, a way to tell how far it is, the
/// operator's wish to stop, and a durable note that a resumed action finds again.
#[derive(Clone)]
pub struct Job {
    pub(super) command: CommandId,
    pub(super) agent: AgentId,
    pub(super) mode: Mode,
    pub(super) reply_key: Option<ReplyKey>,
    pub(super) resumed: bool,
    pub(super) cancelled: CancellationToken,
    pub(super) journal: Arc<Journal>,
    pub(super) outbox: Arc<Outbox>,
}

/// The note that the plan was the one that the operator saw: from then on the world may look different, by our own doing.
const AGREED: &[u8] = b"agreed";

impl Job {
    /// Whether it only asks what would be done.
    pub fn only_plans(&self) -> bool {
        self.mode == Mode::PlanOnly
    }

    /// Every change goes through here before it begins, or through [`Job::agree_and_keep`]: hand over what is to be done.
    /// `Some` is the result of a command that only asks; `None` is the word to go on. An error is that the world has moved
    /// since the operator looked. For what leaves no note: after a restart it is not asked again, since the world may look
    /// different by our own doing.
    pub async fn agree(&self, plan: Plan) -> Result<Option<Kind>, Error> {
        let agreed = self.journal.note(self.command).is_some();
        let answer = self.compare(plan, agreed)?;
        if answer.is_none() && !agreed && matches!(self.mode, Mode::ActIfPlan(_)) {
            self.keep(Bytes::from_static(AGREED)).await?;
        }
        Ok(answer)
    }

    /// The same, with the note from which the action goes on after a restart. Until that is durable nothing was changed, so
    /// that a restart before asks again.
    pub async fn agree_and_keep(&self, plan: Plan, note: Bytes) -> Result<Option<Kind>, Error> {
        let answer = self.compare(plan, false)?;
        if answer.is_none() {
            self.keep(note).await?;
        }
        Ok(answer)
    }

    fn compare(&self, plan: Plan, agreed: bool) -> Result<Option<Kind>, Error> {
        let plan = plan.into_wire();
        match self.mode {
            Mode::PlanOnly => return Ok(Some(Kind::Plan(plan))),
            Mode::ActIfPlan(digest) if !agreed && plan.digest != digest[..] => {
                let text = format!(
                    "the plan is not the one that was agreed to: something has changed since, and nothing was done; its \
                     digest is now {}, look at it with --plan",
                    hex::encode(&plan.digest)
                );
                return Err(Error::failed(FailureCode::Conflict, text));
            }
            Mode::ActIfPlan(_) | Mode::Act => {}
        }
        if self.cancelled.is_cancelled() {
            return Err(Error::cancelled("nothing was changed"));
        }
        Ok(None)
    }

    /// Whether there is a link to the hub, which has taken this agent in.
    pub fn is_linked(&self) -> bool {
        self.outbox.is_linked()
    }

    /// Id of the command that is being executed; tokens for AWS are derived from it.
    pub fn command(&self) -> CommandId {
        self.command
    }

    /// Cancelled when an operator takes the command back.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Tell watchers how far the action is. `percent`: 0 to 100 where it is known.
    pub fn progress(&self, step: impl Into<String>, percent: Option<u32>) {
        let (command_id, step) = (self.command.to_string(), step.into());
        self.outbox.send(ToHub::Progress(wire::Progress { command_id, step, percent, sealed: None }));
    }

    /// Whether it was begun before this start of the agent: it may have ordered something that it does not remember.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// A result that holds the LA's data, for the operator who asked alone.
    pub fn reveal(&self, result: Kind) -> Result<Kind, Error> {
        let result = wire::ActionResult { kind: Some(result) };
        self.seal(None, &result.encode_to_vec()).map(Kind::Sealed)
    }

    /// Stream a part of an answer that holds the LA's data. Resolves when it is on its way; it waits while there is no
    /// link, and is kept nowhere.
    pub async fn stream(&self, number: u32, part: &impl prost::Message) -> Result<(), Error> {
        let sealed = Some(self.seal(Some(number), &part.encode_to_vec())?);
        let sealed = Some(wire::SealedPart { number, sealed });
        let progress = wire::Progress { command_id: self.command.to_string(), sealed, ..Default::default() };
        self.outbox.deliver(ToHub::Progress(progress)).await;
        Ok(())
    }

    fn seal(&self, part: Option<u32>, answer: &[u8]) -> Result<wire::Sealed, Error> {
        let key = self.reply_key.ok_or(sealed::Error::Seal); // the door lets no such command in without one
        let place = Place { command: self.command, agent: &self.agent, part };
        let sealed = key.and_then(|key| key.seal(place, answer));
        sealed.map_err(|error| Error::failed(FailureCode::Internal, chain(&error).to_string()))
    }

    /// The note that was kept before a crash, if any.
    pub fn checkpoint(&self) -> Option<Bytes> {
        self.journal.note(self.command).filter(|note| note != AGREED)
    }

    /// Keep a note that a resumed action finds again; durable when this returns.
    pub async fn keep(&self, note: Bytes) -> Result<(), Error> {
        let kept = self.journal.keep(self.command, note).await;
        kept.map_err(|error| Error::failed(FailureCode::Internal, chain(&error).to_string()))
    }
}

/// Where messages for the hub go: to the link that is up, or nowhere. Outcomes don't depend on it: they
/// wait in the journal, and `receipts` tells the link to look there.
#[derive(Default)]
pub struct Outbox {
    link: Mutex<Option<mpsc::Sender<wire::ConnectRequest>>>,
    pub(super) receipts: Notify,
}

impl Outbox {
    /// Send what the hub may miss.
    pub fn send(&self, message: ToHub) {
        if let Some(link) = self.link.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = link.try_send(wire::ConnectRequest { message: Some(message) });
        }
    }

    /// Send what the hub shall not miss, when there is a link and room in it. What the link had taken when it broke is lost.
    async fn deliver(&self, message: ToHub) {
        loop {
            let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(link) = link
                && let Ok(place) = link.reserve().await
            {
                return place.send(wire::ConnectRequest { message: Some(message) });
            }
            tokio::time::sleep(limits::RECONNECT_MIN).await;
        }
    }

    /// A link is up, or (`None`) down.
    pub(crate) fn attach(&self, link: Option<mpsc::Sender<wire::ConnectRequest>>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    fn is_linked(&self) -> bool {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Resolves when there is an outcome to send.
    pub(crate) async fn has_receipt(&self) {
        self.receipts.notified().await;
    }
}
