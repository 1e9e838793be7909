//! What an action is about to change, said before it does: `--plan` shows it, `--if-plan` holds the agent to it.

use prost::Message as _;
use sfdata_common::keys::sha256;
use sfdata_proto::v1 as wire;

const DOMAIN: &[u8] = b"sfdata-plan-v1";

/// Changes in the order in which they will be made. What stays as it is, is not among them.
#[derive(Debug, Default)]
pub struct Plan(Vec<wire::PlannedChange>);

impl Plan {
    /// With this property of a resource (`ecs-service webserver`) going from one value to another; empty is none.
    pub fn change(
        mut self,
        resource: impl Into<String>,
        property: impl Into<String>,
        before: impl Into<String>,
        after: impl Into<String>,
    ) -> Self {
        let (before, after) = (before.into(), after.into());
        if before != after {
            let (resource, property) = (resource.into(), property.into());
            self.0.push(wire::PlannedChange { resource, property, before, after });
        }
        self
    }

    /// The message, with its digest.
    pub(crate) fn into_wire(self) -> wire::Plan {
        let mut plan = wire::Plan { changes: self.0, ..Default::default() };
        let digest = sha256(&[DOMAIN, &plan.encode_to_vec()].concat());
        plan.digest = digest.to_vec().into();
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_stands_for_what_is_changed_and_nothing_else() {
        let digest =
            |after: &str| Plan::default().change("ecs-service web", "desiredCount", "0", after).into_wire().digest;
        assert_eq!(digest("1"), digest("1"));
        assert_ne!(digest("1"), digest("2"));
        assert_eq!(digest("0"), Plan::default().into_wire().digest, "what stays is no change");
        // Where one value ends and the next begins is part of it.
        let split = |before: &str, after: &str| Plan::default().change("r", "p", before, after).into_wire().digest;
        assert_ne!(split("ab", "c"), split("a", "bc"));
    }
}
