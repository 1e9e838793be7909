//! Stop 5 on a command's path: the hub's word that this command goes to that agent in this place of its order.
//!
//! Numbers are given when a command becomes durable ([`crate::queue`]); the signature is made when it leaves, so that
//! a number whose command ended meanwhile goes out as a signed void, and a gap always means loss or foul play.
//! What can't be signed stays where it is, and so does all behind it.

use std::{pin::Pin, sync::Arc};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    dispatch::PAYLOAD_TYPE,
    ids::{AgentId, CommandId, Position},
    limits,
    telemetry::traces::{Span, SpanKind, TraceContext, Tracer},
};
use sfdata_proto::v1 as wire;

use crate::{
    authorize::Order,
    metrics::Metrics,
    queue::{Next, Outgoing},
    signer::{self, SharedSigner},
    store,
};

/// Signs what leaves.
#[derive(Debug)]
pub struct Dispatcher {
    key: SharedSigner,
    metrics: Metrics,
    tracer: Tracer,
}

/// A burst of dispatches that is being signed; may be dropped at any time.
pub type Signing = Pin<Box<dyn Future<Output = Burst> + Send>>;

/// What has come of it.
pub struct Burst {
    /// In order, up to the first that was not signed.
    pub signed: Vec<Signed>,
    /// Why there is no more.
    pub failed: Option<Failed>,
}

/// Why a burst is not whole.
pub enum Failed {
    /// That they may leave could not be written.
    Store(store::Error),
    /// One was not signed; it may be at the next try.
    Signer(signer::Error),
}

/// What may be sent.
pub struct Signed {
    /// Its number.
    pub sequence: u64,
    /// The command that it brings; none for a void.
    pub command: Option<CommandId>,
    /// With its signature.
    pub delivery: wire::Delivery,
    /// Ends when it was sent.
    pub span: Option<Span>,
}

impl Dispatcher {
    /// With this key.
    pub fn new(key: SharedSigner, metrics: Metrics, tracer: Tracer) -> Self {
        Self { key, metrics, tracer }
    }

    /// Sign what goes to `agent` next, several at a time, once it is durable that it may leave.
    pub fn burst(self: &Arc<Self>, agent: &AgentId, next: Next, now: Timestamp) -> Signing {
        let (dispatcher, agent) = (Arc::clone(self), agent.clone());
        Box::pin(async move {
            if let Some(first) = next.first
                && let Err(error) = first.await
            {
                return Burst { signed: Vec::new(), failed: Some(Failed::Store(error)) };
            }
            let (mut signed, mut failed) = (Vec::with_capacity(next.outgoing.len()), None);
            let one = |outgoing| dispatcher.one(&agent, outgoing, now);
            let mut signing = Box::pin(stream::iter(next.outgoing).map(one).buffered(limits::KMS_CALLS));
            while let Some(result) = signing.next().await {
                match result {
                    Ok(one) => signed.push(one),
                    Err(error) => {
                        failed = Some(Failed::Signer(error));
                        break;
                    }
                }
            }
            drop(signing);
            Burst { signed, failed }
        })
    }

    async fn one(&self, agent: &AgentId, mut outgoing: Outgoing, now: Timestamp) -> Result<Signed, signer::Error> {
        let span = outgoing.order.as_deref().map(|Order { command, .. }| {
            self.tracer.span("dispatch", SpanKind::Producer, outgoing.trace).command(command).agent(agent)
        });
        outgoing.trace = span.as_ref().and_then(Span::context);
        let delivery = self.sign(agent, &outgoing, now).await?;
        let command = outgoing.order.as_ref().map(|order| order.command.id);
        Ok(Signed { sequence: outgoing.position.sequence, command, delivery, span })
    }

    /// Sign what goes to `agent`.
    pub async fn sign(
        &self,
        agent: &AgentId,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<wire::Delivery, signer::Error> {
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
        let signer = self.key.load_full();
        Ok(wire::Delivery {
            dispatch: Some(signer.seal(PAYLOAD_TYPE, dispatch.encode_to_vec(), &self.metrics).await?),
            command: outgoing.order.as_ref().map(|order| order.envelope.clone()),
            traceparent: outgoing.trace.as_ref().map(TraceContext::to_string).unwrap_or_default(),
        })
    }
}
