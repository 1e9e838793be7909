//! Agents' two services: the link, and renewal (which operators use as well).

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use jiff::Timestamp;
use sfdata_common::{limits, peer::Subject};
use sfdata_proto::v1::{self as wire, link_service_server::LinkService, renewal_service_server::RenewalService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::{caller, calling_agent};
use crate::{config::Certificates, enrol::authority::Authority, fleet::Fleet, metrics::Metrics, sessions::Link};

/// Serves [`LinkService`].
pub struct Links {
    /// What each session works with.
    pub link: Link,
    /// Awaits the sessions when the hub stops.
    pub tasks: TaskTracker,
}

#[tonic::async_trait]
impl LinkService for Links {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<wire::ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<wire::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let agent = calling_agent(&request, &self.link.fleet)?;
        if self.link.sessions.count() >= limits::AGENTS {
            self.link.metrics.load_shed.inc("sessions");
            return Err(Status::resource_exhausted("the hub holds as many links as it may; it retries by itself"));
        }
        let (out, messages) = mpsc::channel(limits::STREAM_BACKLOG);
        self.tasks.spawn(self.link.clone().run(agent, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// Serves [`RenewalService`].
pub struct Renewals {
    /// Who may.
    pub fleet: Arc<Fleet>,
    /// Issues.
    pub authority: Arc<Authority>,
    /// Lifetimes.
    pub certificates: Certificates,
    /// Counters.
    pub metrics: Metrics,
}

#[tonic::async_trait]
impl RenewalService for Renewals {
    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::RenewResponse>, Status> {
        let subject = caller(&request, &self.fleet)?;
        let lifetime = match &subject {
            Subject::Agent(_) => self.certificates.agent_lifetime,
            Subject::Operator(_) => self.certificates.operator_lifetime,
            Subject::Hub(_) => return Err(Status::permission_denied("a hub renews its own certificate")),
        };
        let now = Timestamp::now();
        let chain = self
            .authority
            .issue(&request.into_inner().csr_der, &subject, lifetime, now)
            .map_err(|error| Status::invalid_argument(sfdata_common::error::chain(&error).to_string()))?;
        self.fleet.issued(&subject, &chain, now + lifetime);
        self.metrics.enrolments.inc("renewed");
        Ok(Response::new(wire::RenewResponse { certificates: chain.into_iter().map(Into::into).collect() }))
    }
}
