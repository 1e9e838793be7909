//! The one service that anybody can reach: a join token, or an AWS identity, for a certificate. Bounded in size, in time and per
//! address.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sfdata_common::{error::chain, limits, peer::Subject};
use sfdata_proto::v1::{self as wire, enrol_service_server::EnrolService};
use tonic::{Request, Response, Status};
use tracing::info;

use super::{fail, status::ToStatus};
use crate::{
    config::Certificates,
    enrol::{
        authority::{self, Authority},
        iam::Iam,
        joins::Admitted,
        tokens::Tokens,
    },
    fleet::Fleet,
    metrics::Metrics,
    server::ConnectedPeer,
    trust::Trust,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Serves [`EnrolService`].
pub struct Enrolment {
    /// Redeems.
    pub tokens: Arc<Tokens>,
    /// Has AWS say who asks.
    pub iam: Iam,
    /// Registry.
    pub fleet: Arc<Fleet>,
    /// Issues.
    pub authority: Arc<Authority>,
    /// Handed to whoever joins.
    pub trust: Arc<Trust>,
    /// Lifetimes.
    pub certificates: Certificates,
    /// Counters.
    pub metrics: Metrics,
    /// Tries of each address in its current minute.
    pub tries: Tries,
}

/// Counts tries per address and minute.
#[derive(Default)]
pub struct Tries(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Tries {
    fn allow(&self, address: IpAddr, now: Instant) -> bool {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= 10_000 {
            tries.retain(|_, (began, _)| now.duration_since(*began) < MINUTE);
        }
        let (began, count) = tries.entry(address).or_insert((now, 0));
        if now.duration_since(*began) >= MINUTE {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        *count <= limits::ENROLMENTS_PER_MINUTE
    }
}

impl Enrolment {
    /// Who asks may try; whence.
    fn tried<T>(&self, request: &Request<T>) -> Result<Option<SocketAddr>, Status> {
        let remote = ConnectedPeer::of(request).map(|peer| peer.remote);
        if let Some(remote) = remote
            && !self.tries.allow(remote.ip(), Instant::now())
        {
            self.metrics.load_shed.inc("enrolments");
            return Err(Status::resource_exhausted("too many tries from this address; wait a minute"));
        }
        Ok(remote)
    }

    fn issue(&self, csr_der: &[u8], subject: &Subject, now: Timestamp) -> Result<Vec<Vec<u8>>, authority::Error> {
        self.authority.issue(csr_der, subject, self.lifetime(subject), now)
    }

    fn lifetime(&self, subject: &Subject) -> Duration {
        match subject {
            Subject::Operator(_) => self.certificates.operator_lifetime,
            Subject::Agent(_) | Subject::Hub(_) => self.certificates.agent_lifetime,
        }
    }

    fn answer<E: ToStatus>(
        &self,
        admitted: Result<Admitted, E>,
        remote: Option<SocketAddr>,
    ) -> Result<wire::EnrolResponse, Status> {
        let Admitted { subject, certificates, joined } = admitted.map_err(|error| {
            self.metrics.enrolments.inc("refused");
            info!(?remote, error = %chain(&error), "an enrolment was refused");
            fail(error)
        })?;
        self.fleet.issued(&subject, &certificates, Timestamp::now() + self.lifetime(&subject));
        self.metrics.enrolments.inc("joined");
        info!(%subject, ?remote, "joined");
        Ok(wire::EnrolResponse {
            certificates: certificates.into_iter().map(Into::into).collect(),
            trust_bundle: self.trust.envelope(),
            epoch: self.trust.epoch(),
            joined,
        })
    }
}

#[tonic::async_trait]
impl EnrolService for Enrolment {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        let (remote, now) = (self.tried(&request)?, Timestamp::now());
        let request = request.into_inner();
        let issue = |subject: &Subject| self.issue(&request.csr_der, subject, now);
        self.answer(self.tokens.redeem(&request, now, issue).await, remote).map(Response::new)
    }

    async fn challenge(
        &self,
        request: Request<wire::ChallengeRequest>,
    ) -> Result<Response<wire::ChallengeResponse>, Status> {
        self.tried(&request)?;
        self.iam.challenge(&request.into_inner().agent_id, Timestamp::now()).map(Response::new).map_err(fail)
    }

    async fn enrol_aws(
        &self,
        request: Request<wire::EnrolAwsRequest>,
    ) -> Result<Response<wire::EnrolAwsResponse>, Status> {
        let (remote, now) = (self.tried(&request)?, Timestamp::now());
        let request = request.into_inner();
        let issue = |subject: &Subject| self.issue(&request.csr_der, subject, now);
        let enrolled = self.answer(self.iam.join(&request, now, issue).await, remote)?;
        Ok(Response::new(wire::EnrolAwsResponse { enrolled: Some(enrolled) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_tries_and_gets_them_back_after_a_minute() {
        let tries = Tries::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        assert!((0..limits::ENROLMENTS_PER_MINUTE).all(|_| tries.allow(one, now)));
        assert!(!tries.allow(one, now));
        assert!(tries.allow(other, now));
        assert!(tries.allow(one, now + MINUTE));
    }
}
