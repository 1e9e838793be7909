//! What operators ask about commands that wait for a second operator.

use jiff::Timestamp;
use sfdata_common::{ids::CommandId, telemetry::traces::TraceContext};
use sfdata_proto::v1::{self as wire, proposal_service_server::ProposalService};
use tonic::{Request, Response, Status};

use super::{
    fail,
    operator::{Operators, reason},
    parse,
};
use crate::authorize::Authorizer;

#[tonic::async_trait]
impl ProposalService for Operators {
    async fn propose(&self, request: Request<wire::ProposeRequest>) -> Result<Response<wire::ProposeResponse>, Status> {
        let by = self.caller(&request)?;
        let envelope = request.into_inner().command.ok_or_else(|| Status::invalid_argument("no command"))?;
        self.commands.propose(&by, envelope, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::ProposeResponse {}))
    }

    async fn list_proposals(
        &self,
        request: Request<wire::ListProposalsRequest>,
    ) -> Result<Response<wire::ListProposalsResponse>, Status> {
        self.may(&request, "commands.list", Authorizer::READ).await?;
        let proposals = self.commands.proposals(Timestamp::now()).map_err(fail)?;
        Ok(Response::new(wire::ListProposalsResponse { proposals }))
    }

    async fn get_proposal(
        &self,
        request: Request<wire::GetProposalRequest>,
    ) -> Result<Response<wire::GetProposalResponse>, Status> {
        self.may(&request, "commands.show", Authorizer::READ).await?;
        let id: CommandId = parse(&request.into_inner().command_id)?;
        let proposal = self.commands.proposal(id, Timestamp::now()).map_err(fail)?;
        Ok(Response::new(wire::GetProposalResponse { proposal: Some(proposal) }))
    }

    async fn approve(&self, request: Request<wire::ApproveRequest>) -> Result<Response<wire::ApproveResponse>, Status> {
        let by = self.caller(&request)?;
        let trace = TraceContext::received(request.metadata());
        let request = request.into_inner();
        let id: CommandId = parse(&request.command_id)?;
        let signature = request.signature.ok_or_else(|| Status::invalid_argument("no signature"))?;
        self.commands.approve(&by, id, signature, trace, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::ApproveResponse {}))
    }

    async fn reject(&self, request: Request<wire::RejectRequest>) -> Result<Response<wire::RejectResponse>, Status> {
        let by = self.caller(&request)?;
        let request = request.into_inner();
        let (id, why) = (parse(&request.command_id)?, reason(request.reason)?);
        self.commands.reject(&by, id, &why, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::RejectResponse {}))
    }
}
