//! The gRPC services: parse, call, convert. Who calls comes from the certificate of the connection.

pub mod agent;
mod bundles;
pub mod enrol;
pub mod operator;
mod people;
pub mod proposals;
mod status;

use std::str::FromStr;

use sfdata_common::{
    ids::{AgentId, OperatorName},
    peer::Subject,
};
use tonic::{Request, Status};

use self::status::ToStatus;
use crate::{fleet::Fleet, server::ConnectedPeer};

/// The subject of the connection, if the registry still admits it: asked at every call, since locks act at once.
fn caller<T>(request: &Request<T>, fleet: &Fleet) -> Result<Subject, Status> {
    let peer = ConnectedPeer::of(request).and_then(|connected| connected.peer.as_ref());
    let subject =
        peer.map(|peer| peer.subject.clone()).ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    if fleet.admits(&subject) {
        Ok(subject)
    } else {
        Err(Status::permission_denied(format!("{subject} is locked or no longer in the registry")))
    }
}

fn calling_operator<T>(request: &Request<T>, fleet: &Fleet) -> Result<OperatorName, Status> {
    match caller(request, fleet)? {
        Subject::Operator(name) => Ok(name),
        other => Err(Status::permission_denied(format!("{other} is not an operator"))),
    }
}

fn calling_agent<T>(request: &Request<T>, fleet: &Fleet) -> Result<AgentId, Status> {
    match caller(request, fleet)? {
        Subject::Agent(id) => Ok(id),
        other => Err(Status::permission_denied(format!("{other} is not an agent"))),
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| Status::invalid_argument(error.to_string()))
}

pub(crate) fn fail(error: impl ToStatus) -> Status {
    error.status()
}
