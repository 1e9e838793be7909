//! What operators may know of each other, and of themselves.

use jiff::Timestamp;
use sfdata_proto::v1 as wire;
use tonic::{Request, Status};

use super::{calling_operator, operator::Operators};

impl Operators {
    /// Every operator, by name.
    pub(super) fn people(&self, now: Timestamp) -> Vec<wire::OperatorSummary> {
        let (fleet, bundle) = (&self.fleet, self.trust.bundle());
        fleet.operators(bundle.as_deref(), now)
    }

    /// Who calls, whatever they may: nobody needs a role to look at themselves.
    pub(super) fn who_calls<T>(&self, request: &Request<T>) -> Result<wire::WhoAmIResponse, Status> {
        let (by, now) = (calling_operator(request, &self.fleet)?, Timestamp::now());
        // As it was before this call, which would else be all that is ever seen here.
        let operator = self.people(now).into_iter().find(|operator| operator.name == by.as_str());
        self.fleet.operator_seen(&by, now);
        Ok(wire::WhoAmIResponse { operator, trust_version: self.trust.version() })
    }
}
