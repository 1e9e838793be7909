//! The records: protobuf, so that a later release adds fields and still reads what is there.
//! Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;

use bytes::Bytes;
/// How an agent was in five minutes, an hour or a day: its key tells of which.
pub use sfdata_proto::v1::HistorySpan as History;
use sfdata_proto::v1::{BillMonth, Envelope, Health, Outcome, UsageRecord};

/// A command as it was submitted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// The operator's signed envelope.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
    /// When it became durable.
    #[prost(int64, tag = "2")]
    pub submitted: i64,
}

/// A command that waits for a second operator's signature.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Proposal {
    /// Signed by the operator who proposes it.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
    /// When it became durable.
    #[prost(int64, tag = "2")]
    pub proposed: i64,
}

/// A command at one target.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delivery {
    /// Epoch of the dispatch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Number in the epoch.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// It may have left for the agent: from then on only the agent can tell that it did not begin.
    #[prost(bool, tag = "3")]
    pub handed_over: bool,
    /// Set when it ended.
    #[prost(message, optional, tag = "4")]
    pub outcome: Option<Outcome>,
    /// The agent's signed receipt, where it gave one.
    #[prost(message, optional, tag = "5")]
    pub receipt: Option<Envelope>,
    /// Last durable change.
    #[prost(int64, tag = "6")]
    pub changed: i64,
    /// It may have left in an earlier epoch than this one, before the hub was restored.
    #[prost(bool, tag = "7")]
    pub earlier: bool,
}

/// An agent's place in its order.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Line {
    /// Epoch that `next` counts in.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Next number to give away.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Highest number that the agent is known to have accepted.
    #[prost(uint64, tag = "3")]
    pub accepted: u64,
}

/// An agent of the registry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Agent {
    /// 12 digits.
    #[prost(string, tag = "1")]
    pub account: String,
    /// Free words.
    #[prost(btree_map = "string, string", tag = "2")]
    pub labels: BTreeMap<String, String>,
    /// Sets that it belongs to.
    #[prost(string, repeated, tag = "3")]
    pub groups: Vec<String>,
    /// Public half of its receipt key; empty until it joined.
    #[prost(bytes = "bytes", tag = "4")]
    pub receipt_key: Bytes,
    /// Why it is locked; absent when it is not.
    #[prost(string, optional, tag = "5")]
    pub locked: Option<String>,
    /// When it was last heard of.
    #[prost(int64, tag = "6")]
    pub last_seen: i64,
    /// Version that it last told.
    #[prost(string, tag = "7")]
    pub version: String,
    /// What it last reported.
    #[prost(message, optional, tag = "8")]
    pub health: Option<Health>,
    /// When its state last changed.
    #[prost(int64, tag = "9")]
    pub since: i64,
    /// How often it has joined.
    #[prost(uint64, tag = "10")]
    pub joins: u64,
    /// The count that it handed over at the last join; 0 for none.
    #[prost(uint64, tag = "11")]
    pub joined_after: u64,
    /// Digest of the public key that it joined with last.
    #[prost(bytes = "bytes", tag = "12")]
    pub join_key: Bytes,
    /// Name of the IAM role that it may join as; empty when it needs a token.
    #[prost(string, tag = "13")]
    pub role: String,
    /// Unique id of the role that joined first; empty until then.
    #[prost(string, tag = "14")]
    pub role_id: String,
    /// Its next join by AWS identity is let in whatever its count, until then; Unix milliseconds, 0 for never.
    #[prost(int64, tag = "15")]
    pub join_anew_until: i64,
    /// Version of the trust bundle that it goes by.
    #[prost(uint64, tag = "16")]
    pub trust_version: u64,
    /// The certificate that it was given last.
    #[prost(message, optional, tag = "17")]
    pub leaf: Option<Leaf>,
    /// Keys that signed its receipts before, the oldest first.
    #[prost(message, repeated, tag = "18")]
    pub former_receipt_keys: Vec<FormerKey>,
}

/// A receipt key that another has taken the place of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FormerKey {
    /// The public half.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Receipts by it are taken until then.
    #[prost(int64, tag = "2")]
    pub until: i64,
}

/// A certificate that was given to a member.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Leaf {
    /// Who issued it: the first 8 bytes of SHA-256 over the CA's certificate, in hex.
    #[prost(string, tag = "1")]
    pub ca: String,
    /// When it ends.
    #[prost(int64, tag = "2")]
    pub ends: i64,
}

/// An operator of the registry: whom the hub lets connect. What they may sign stands in the trust bundle.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Operator {
    /// Has a certificate.
    #[prost(bool, tag = "1")]
    pub joined: bool,
    /// Why they are locked; absent when they are not.
    #[prost(string, optional, tag = "2")]
    pub locked: Option<String>,
    /// When they last called, up to some minutes.
    #[prost(int64, tag = "3")]
    pub last_seen: i64,
    /// When they last ordered something that they signed, up to some minutes.
    #[prost(int64, tag = "4")]
    pub last_signed: i64,
    /// When they joined last.
    #[prost(int64, tag = "5")]
    pub since: i64,
    /// The certificate that they were given last.
    #[prost(message, optional, tag = "6")]
    pub leaf: Option<Leaf>,
}

/// A join token; its key is the digest of its secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Token {
    /// Set when it is for an agent.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// The agent's account.
    #[prost(string, tag = "2")]
    pub account: String,
    /// Set when it is for an operator.
    #[prost(string, tag = "3")]
    pub operator: String,
    /// Not valid from then on.
    #[prost(int64, tag = "4")]
    pub expires: i64,
    /// When it was used; 0 while it was not.
    #[prost(int64, tag = "5")]
    pub used: i64,
}

/// The epoch of sequence numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Epoch {
    /// From 1; one higher after each restore.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The operator's word that lets agents accept an epoch above 1.
    #[prost(message, optional, tag = "2")]
    pub statement: Option<Envelope>,
}

/// An alert that fires, or has fired and is not yet known to be over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Alert {
    /// Empty: the hub itself.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// Its rule.
    #[prost(string, tag = "2")]
    pub rule: String,
    /// Of a job, a dataset, a service.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Since when it is so.
    #[prost(int64, tag = "4")]
    pub since: i64,
    /// One sentence.
    #[prost(string, tag = "5")]
    pub summary: String,
    /// A notice tells of it.
    #[prost(bool, tag = "6")]
    pub told: bool,
}

/// What is kept silent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Silence {
    /// Empty: any.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// Empty: any.
    #[prost(string, tag = "2")]
    pub rule: String,
    /// Empty: any.
    #[prost(string, tag = "3")]
    pub name: String,
    /// End.
    #[prost(int64, tag = "4")]
    pub until: i64,
    /// Who asked for it.
    #[prost(string, tag = "5")]
    pub operator: String,
    /// Why.
    #[prost(string, tag = "6")]
    pub reason: String,
}

/// What is to be told, together.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Notice {
    /// When it was made.
    #[prost(int64, tag = "1")]
    pub at: i64,
    /// What fires.
    #[prost(message, repeated, tag = "2")]
    pub firing: Vec<Alert>,
    /// What is over.
    #[prost(message, repeated, tag = "3")]
    pub resolved: Vec<Alert>,
    /// Channels that have not taken it.
    #[prost(string, repeated, tag = "4")]
    pub left: Vec<String>,
}

/// What an agent used in one hour.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsageHour {
    /// One for each key.
    #[prost(message, repeated, tag = "1")]
    pub amounts: Vec<UsageAmount>,
    /// Of AWS.
    #[prost(string, tag = "2")]
    pub region: String,
}

/// What an agent used on one day, in UTC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsageDay {
    /// One for each key, in order; without book and revision.
    #[prost(message, repeated, tag = "1")]
    pub amounts: Vec<UsageAmount>,
    /// Of AWS.
    #[prost(string, tag = "2")]
    pub region: String,
    /// First hour that anything is known of, since the Unix epoch.
    #[prost(uint32, tag = "3")]
    pub first_hour: u32,
    /// Last hour that anything is known of.
    #[prost(uint32, tag = "4")]
    pub last_hour: u32,
}

/// How much of one thing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsageAmount {
    /// As the agent told it.
    #[prost(message, optional, tag = "1")]
    pub record: Option<UsageRecord>,
    /// The agent's book that it is from.
    #[prost(fixed64, tag = "2")]
    pub book: u64,
}

/// What AWS charges an agent's account for a month.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsageBill {
    /// As the agent told it.
    #[prost(message, optional, tag = "1")]
    pub month: Option<BillMonth>,
    /// The agent's book that it is from.
    #[prost(fixed64, tag = "2")]
    pub book: u64,
    /// Which of its readings.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// When it was read; never later than it was told.
    #[prost(int64, tag = "4")]
    pub read: i64,
}
