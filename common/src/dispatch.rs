//! Media types of what hub and agent sign for each other, beside the operator's command.

/// A signed dispatch: hub to one agent.
pub const PAYLOAD_TYPE: &str = "application/vnd.sfdata.dispatch.v1+protobuf";
/// A signed receipt: agent to hub, and to anybody who audits.
pub const RECEIPT_PAYLOAD_TYPE: &str = "application/vnd.sfdata.receipt.v1+protobuf";
/// A signed change of the key that signs receipts: agent to hub, by the old key and by the new one.
pub const RECEIPT_KEY_PAYLOAD_TYPE: &str = "application/vnd.sfdata.receipt-key.v1+protobuf";
/// A signed count of joins: hub to one agent, which hands it over when it joins again.
pub const JOINED_PAYLOAD_TYPE: &str = "application/vnd.sfdata.joined.v1+protobuf";
