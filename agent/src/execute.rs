//! placeholder

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sfdata_common::ids::CommandId;
use tokio_util::sync::CancellationToken;

/// What a running action may use of the agent: its command's id, a way to tell how far it is, the
/// operator's wish to stop, and a durable note that a resumed action finds again.
#[derive(Clone)]
pub struct Job {
    command: CommandId,
    cancelled: CancellationToken,
    tools: Arc<dyn Tools>,
}

/// What stands behind a [`Job`].
pub trait Tools: Send + Sync {
    /// Tell watchers how far the action is.
    fn progress(&self, command: CommandId, step: String, percent: Option<u32>);
    /// The note that was kept before a crash, if any.
    fn checkpoint(&self, command: CommandId) -> Option<Bytes>;
    /// Keep a note, durable when this returns.
    fn keep(&self, command: CommandId, note: Bytes) -> BoxFuture<'_, Result<(), crate::services::Error>>;
}

impl Job {
    /// A job of this command.
    pub fn new(command: CommandId, cancelled: CancellationToken, tools: Arc<dyn Tools>) -> Self {
        Self { command, cancelled, tools }
    }
    /// Id of the command that is being executed; tokens for AWS are derived from it.
    pub fn command(&self) -> CommandId {
        self.command
    }
    /// Cancelled when an operator takes the command back.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
    /// Tell watchers how far the action is.
    pub fn progress(&self, step: impl Into<String>, percent: Option<u32>) {
        self.tools.progress(self.command, step.into(), percent);
    }
    /// The note that was kept before a crash, if any.
    pub fn checkpoint(&self) -> Option<Bytes> {
        self.tools.checkpoint(self.command)
    }
    /// Keep a note that a resumed action finds again; durable when this returns.
    pub async fn keep(&self, note: Bytes) -> Result<(), crate::services::Error> {
        self.tools.keep(self.command, note).await
    }
}
