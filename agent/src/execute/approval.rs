//! A command that was let in on the LA's approval: durable in the journal, in nobody's way, until the LA's word, its
//! expiry or an operator's wish ends the wait.

use std::{sync::PoisonError, time::Instant};

use jiff::Timestamp;
use sfdata_common::{
    error::chain,
    limits,
    outcome::{FailureCode, Outcome, RefusalReason},
};
use sfdata_proto::v1::{self as wire, connect_request::Message as ToHub};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Inner;
use crate::{
    approvals::{Waiting, Word},
    journal::Begun,
};

impl Inner {
    /// Wait for the LA; then take a place in the resource's order and run.
    pub(super) async fn on_approval(&self, begun: &Begun, cancelled: CancellationToken) {
        let id = begun.verified.command().id;
        let waited = self.waited(begun, &cancelled).await;
        self.approvals.over(id);
        match waited {
            Ok(()) => {
                let turn = {
                    let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
                    table.place(begun.verified.command())
                };
                self.in_turn(begun, turn, cancelled, false).await;
            }
            Err(outcome) => {
                self.finish(begun, outcome).await;
                self.table.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&id);
            }
        }
    }

    /// `Ok` is the LA's approval, durable; `Err` how it ended without one.
    async fn waited(&self, begun: &Begun, cancelled: &CancellationToken) -> Result<(), Outcome> {
        let failed = |error: &(dyn std::error::Error + 'static)| Outcome::Failed {
            code: FailureCode::Internal,
            message: format!("nothing was begun: {}", chain(error)),
        };
        let (verified, command) = (&begun.verified, begun.verified.command());
        self.approvals.ask(&Waiting::of(verified, begun.began)).map_err(|error| failed(&error))?;
        info!(command = %command.id, action = command.action.name(), operator = %command.operator, "waits for the LA's approval");
        let mut look = tokio::time::interval(limits::APPROVAL_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                () = cancelled.cancelled() => {
                    return Err(Outcome::Cancelled { detail: "while it waited for the LA: nothing was begun".into() });
                }
                _ = look.tick() => {}
            }
            let now = Timestamp::now();
            if let Some(word) = self.approvals.word(command.id, &verified.digest()) {
                self.note_word(begun, &word);
                if !word.approved {
                    let (reason, detail) = (RefusalReason::LaRefused, format!("the LA looked at it: {}", word.reason));
                    return Err(Outcome::Refused { reason, detail });
                }
                if let Err((reason, detail)) = self.door.again(verified, now) {
                    return Err(Outcome::Refused { reason, detail });
                }
                return self.journal.approved(command.id).await.map_err(|error| failed(&error));
            }
            if command.expires <= now {
                let detail = format!("expired at {}, while it waited for the LA's approval", command.expires);
                return Err(Outcome::Refused { reason: RefusalReason::Expired, detail });
            }
            if told.is_none_or(|told| told.elapsed() >= limits::APPROVAL_TOLD) {
                told = Some(Instant::now());
                let command_id = command.id.to_string();
                let step = format!("waits for the LA: sfdata-agent approve {command_id}");
                self.outbox.send(ToHub::Received(wire::Received { command_id: command_id.clone() }));
                let progress = wire::Progress { command_id, step, percent: None, sealed: None };
                self.outbox.send(ToHub::Progress(progress));
            }
        }
    }

    /// Put the LA's word on its own record. A crash right after it may repeat it.
    fn note_word(&self, begun: &Begun, word: &Word) {
        let (verified, command) = (&begun.verified, begun.verified.command());
        let mut said = format!("{} by {} at {}", word.name(), word.by, word.at);
        if !word.reason.is_empty() {
            said = format!("{said}: {}", word.reason);
        }
        info!(command = %command.id, said, "the LA's word");
        let (position, digest) = (verified.position(), verified.digest());
        let (action, operator) = (command.action.name(), command.operator.as_str());
        self.note(command.id, position, &digest, action, operator, said, Timestamp::now());
    }
}
