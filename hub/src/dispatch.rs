//! Stop 5 on a command's path: the hub's word that this command goes to that agent in this place of its order.
//!
//! Numbers are given when a command becomes durable ([`crate::queue`]); the signature is made when it leaves, so that
//! a number whose command ended meanwhile goes out as a signed void, and a gap always means loss or foul play.

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    dispatch::PAYLOAD_TYPE,
    envelope,
    ids::{AgentId, Position},
    keys::SigningKey,
    telemetry::traces::TraceContext,
};
use sfdata_proto::v1 as wire;

use crate::queue::Outgoing;

/// Holds the hub's dispatch key.
#[derive(Debug)]
pub struct Dispatcher {
    key: Arc<SigningKey>,
}

impl Dispatcher {
    /// With this key.
    pub fn new(key: Arc<SigningKey>) -> Self {
        Self { key }
    }

    /// Sign what goes to `agent`.
    pub fn sign(&self, agent: &AgentId, outgoing: &Outgoing, now: Timestamp) -> wire::Delivery {
        let Position { epoch, sequence } = outgoing.position;
        let mut dispatch = wire::Dispatch {
            agent_id: agent.to_string(),
            epoch,
            sequence,
            dispatched_unix_ms: now.as_millisecond(),
            void: outgoing.order.is_none(),
            ..Default::default()
        };
        if let Some(order) = &outgoing.order {
            dispatch.command_id = order.command.id.to_string();
            dispatch.command_digest = order.digest.to_vec().into();
        }
        wire::Delivery {
            dispatch: Some(envelope::seal(PAYLOAD_TYPE, dispatch.encode_to_vec(), &self.key)),
            command: outgoing.order.as_ref().map(|order| order.envelope.clone()),
            traceparent: outgoing.trace.as_ref().map(TraceContext::to_string).unwrap_or_default(),
        }
    }
}
