//! Trust bundles as operators publish them: what one would cut off is told before it does.

use jiff::Timestamp;
use sfdata_common::{ids::OperatorName, trust::Bundle};
use sfdata_proto::v1 as wire;
use tonic::Status;

use super::{fail, operator::Operators};
use crate::fleet::ca_id;

/// So many of those who would be cut off are named.
const NAMED: usize = 20;

impl Operators {
    /// Take a bundle, and send it to whoever is connected.
    pub(super) async fn publish(&self, by: &OperatorName, request: wire::PublishTrustRequest) -> Result<u64, Status> {
        let envelope = request.trust_bundle.ok_or_else(|| Status::invalid_argument("no trust bundle"))?;
        if !request.force {
            self.cuts_off_nobody(&envelope)?;
        }
        let version = self.trust.publish(by, envelope, Timestamp::now()).await.map_err(fail)?;
        self.sessions.nudge_all();
        Ok(version)
    }

    /// Whoever holds a certificate of a CA that is no longer listed could not connect any more.
    fn cuts_off_nobody(&self, envelope: &wire::Envelope) -> Result<(), Status> {
        // What is no bundle is refused further on, in its own words.
        let Ok(next) = Bundle::parse(&envelope.payload) else { return Ok(()) };
        let dropped = self.trust.with(|bundle| {
            let dropped = bundle.ca_certificates.iter().filter(|der| !next.ca_certificates.contains(der));
            dropped.map(|der| ca_id(der)).collect::<Vec<_>>()
        });
        let dropped = dropped.unwrap_or_default();
        if dropped.is_empty() {
            return Ok(());
        }
        let holding = self.fleet.holding(&dropped, Timestamp::now());
        if holding.is_empty() {
            return Ok(());
        }
        let mut names: Vec<String> = holding.iter().take(NAMED).map(ToString::to_string).collect();
        names.extend((holding.len() > NAMED).then(|| "...".to_owned()));
        Err(Status::failed_precondition(format!(
            "the bundle drops a CA whose certificates {} members still hold, who could not connect any more: {}. Agents renew \
             theirs within a day, operators by using hubctl; lock or remove who does not come back, or say --force",
            holding.len(),
            names.join(", ")
        )))
    }
}
