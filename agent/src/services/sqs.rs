//! The queue that S3's events come by: long polls, visibility and deletes, in batches of ten.
//!
//! Nothing here judges a message. A message that was received and is not deleted comes back by itself.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    config::{StalledStreamProtectionConfig, timeout::TimeoutConfig},
    error::BuildError,
    types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry},
};
use sfdata_common::{error::chain, limits, outcome::FailureCode};

use super::{
    Error,
    aws::{Aws, client, failure},
};

/// SQS API reference: messages of one call.
pub const BATCH: usize = 10;
/// SQS developer guide, "Short and long polling": the longest.
pub const LONG_POLL: Duration = Duration::from_secs(20);

/// A client for one queue.
#[derive(Debug, Clone)]
pub struct Sqs {
    client: Client,
}

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Message {
    /// The same each time that it is received.
    pub id: String,
    /// What it is deleted by; of the last time that it was received.
    pub receipt: String,
    /// What it says.
    pub body: String,
}

impl Sqs {
    pub(super) fn new(aws: &Aws) -> Self {
        // A long poll is silent for longer than a try of another call may take.
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(limits::AWS_CALL + LONG_POLL)
            .operation_attempt_timeout(limits::AWS_TRY + LONG_POLL)
            .build();
        let stalled = StalledStreamProtectionConfig::disabled();
        Self { client: client!(aws, aws_sdk_sqs, timeout_config(timeouts), stalled_stream_protection(stalled)) }
    }

    /// Up to ten messages, as soon as there is one. They are hidden from others for `hidden`.
    pub async fn receive(&self, url: &str, wait: Duration, hidden: Duration) -> Result<Vec<Message>, Error> {
        let call = self.client.receive_message().queue_url(url).max_number_of_messages(BATCH as i32);
        let call = call.wait_time_seconds(seconds(wait)).visibility_timeout(seconds(hidden));
        let answer = call.send().await;
        let answer = answer.map_err(|e| failure("receive from the queue of arrivals", "sqs:ReceiveMessage", e))?;
        let whole = |message: aws_sdk_sqs::types::Message| {
            Some(Message { id: message.message_id?, receipt: message.receipt_handle?, body: message.body? })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(whole).collect())
    }

    /// Delete up to ten messages, by their receipts. One that SQS does not delete comes back.
    pub async fn delete(&self, url: &str, receipts: &[String]) -> Result<(), Error> {
        let entry = |(at, receipt): (usize, &String)| {
            DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt).build()
        };
        let entries = built(receipts.iter().enumerate().map(entry).collect())?;
        let answer = self.client.delete_message_batch().queue_url(url).set_entries(Some(entries)).send().await;
        answer.map_err(|e| failure("delete what was handed on from the queue", "sqs:DeleteMessage", e))?;
        Ok(())
    }

    /// Hide up to ten messages for so long from now; which of them, by place, SQS did not hide.
    pub async fn hide(&self, url: &str, receipts: &[String], hidden: Duration) -> Result<Vec<usize>, Error> {
        let entry = |(at, receipt): (usize, &String)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt);
            entry.visibility_timeout(seconds(hidden)).build()
        };
        let entries = built(receipts.iter().enumerate().map(entry).collect())?;
        let call = self.client.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
        let answer = call.send().await;
        let answer =
            answer.map_err(|e| failure("keep messages of the queue hidden", "sqs:ChangeMessageVisibility", e))?;
        Ok(answer.failed.iter().filter_map(|failed| failed.id.parse().ok()).collect())
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn built<T>(part: Result<T, BuildError>) -> Result<T, Error> {
    part.map_err(|error| Error::failed(FailureCode::Internal, format!("a request to SQS: {}", chain(&error))))
}
