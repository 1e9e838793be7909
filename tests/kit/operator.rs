//! An operator over the wire: signs, submits, and waits for what comes of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use prost::Message as _;
use sfdata_common::{
    Timestamp,
    channel::{self, SharedTls},
    command::{Action, Command, Mode},
    envelope,
    ids::{AgentId, CommandId, OperatorName},
    join,
    keys::SigningKey,
    outcome::Outcome,
    sealed::{Opener, Place},
    tls::{self, Identity, Knows, TlsKey},
};
use sfdata_proto::v1::{
    self as wire, action_result, enrol_service_client::EnrolServiceClient,
    operator_service_client::OperatorServiceClient, proposal_service_client::ProposalServiceClient, submit_response,
};
use tonic::{Status, Streaming, transport::Channel};

/// An operator with a certificate and a signing key.
pub struct Operator {
    /// Who.
    pub name: OperatorName,
    /// Signs commands.
    pub key: SigningKey,
    /// The operators' service.
    pub client: OperatorServiceClient<Channel>,
    /// For connections of one's own.
    pub tls: SharedTls,
    /// Of the authenticated listener.
    pub address: String,
}

impl Operator {
    /// Join with a token, with this signing key.
    pub async fn join(name: &str, key: SigningKey, token: &str) -> Result<Self> {
        let token = join::decode(token)?;
        let knows = Knows::Pin { ca: &token.ca_pin, trust_domain: &token.trust_domain };
        let tls: SharedTls = Arc::new(ArcSwap::new(tls::client(None, knows)?));
        let tls_key = TlsKey::generate()?;
        let request = wire::EnrolRequest {
            secret: token.secret.clone(),
            csr_der: tls_key.request()?.into(),
            subject: Some(wire::enrol_request::Subject::Operator(wire::EnrollingOperator {})),
        };
        let answer =
            EnrolServiceClient::new(channel::open(&token.enrol_address, tls)).enrol(request).await?.into_inner();
        let chain: Vec<Vec<u8>> = answer.certificates.iter().map(|der| der.to_vec()).collect();
        let ca = vec![chain[1].clone()];
        let identity = Identity::new(chain, &tls_key)?;
        let knows = Knows::Cas { certificates: &ca, trust_domain: &token.trust_domain };
        let tls: SharedTls = Arc::new(ArcSwap::new(tls::client(Some(&identity), knows)?));
        let client = OperatorServiceClient::new(channel::open(&token.address, Arc::clone(&tls)));
        Ok(Self { name: name.parse()?, key, client, tls, address: token.address })
    }

    /// A command of this operator, valid for five minutes.
    pub fn command(&self, action: Action, targets: &[&AgentId]) -> Command {
        let now = Timestamp::now();
        let mut targets: Vec<AgentId> = targets.iter().map(|agent| (*agent).clone()).collect();
        targets.sort();
        let opener = Opener::generate().ok().filter(|_| action.reveals_data());
        Command {
            id: CommandId::generate(),
            action,
            targets,
            not_before: now,
            expires: now + Duration::from_secs(300),
            operator: self.name.clone(),
            reason: "a test".into(),
            trust_version: 1,
            mode: Mode::Act,
            reply_key: opener.map(|opener| opener.reply_key()),
        }
    }

    /// Sign a command.
    pub fn sign(&self, command: &Command) -> wire::Envelope {
        envelope::seal(Command::PAYLOAD_TYPE, command.encode(), &self.key)
    }

    /// Hand in a signed command; gives its id once it is durable. Nobody follows it.
    pub async fn hand_in(&self, command: wire::Envelope) -> Result<CommandId, Status> {
        let mut stream = self.client.clone().submit(wire::SubmitRequest { command: Some(command) }).await?.into_inner();
        match stream.message().await?.and_then(|answer| answer.message) {
            Some(submit_response::Message::Accepted(accepted)) => {
                accepted.command_id.parse().map_err(|_| Status::internal("no command id"))
            }
            _ => Err(Status::internal("the first answer is not Accepted")),
        }
    }

    /// Sign and hand in an action.
    pub async fn submit(&self, action: Action, targets: &[&AgentId]) -> Result<CommandId, Status> {
        self.hand_in(self.sign(&self.command(action, targets))).await
    }

    /// Submit to one agent and wait for the outcome.
    pub async fn run(&self, action: Action, agent: &AgentId) -> Result<Outcome> {
        let id = self.submit(action, &[agent]).await?;
        self.outcome(id, agent).await
    }

    /// [`Operator::run`], of what a second operator signs as well.
    pub async fn run_with(&self, second: &Self, action: Action, agent: &AgentId) -> Result<Outcome> {
        let mut signed = self.sign(&self.command(action, &[agent]));
        envelope::add_signature(&mut signed, &second.key);
        self.outcome(self.hand_in(signed).await?, agent).await
    }

    /// The service for commands that wait for a second operator.
    pub fn proposals(&self) -> ProposalServiceClient<Channel> {
        ProposalServiceClient::new(channel::open(&self.address, Arc::clone(&self.tls)))
    }

    /// What one agent answered to an action that reveals data, opened.
    pub async fn revealed(&self, action: Action, agent: &AgentId) -> Result<action_result::Kind> {
        let opener = Opener::generate()?;
        let command = Command { reply_key: Some(opener.reply_key()), ..self.command(action, &[agent]) };
        let outcome = self.outcome(self.hand_in(self.sign(&command)).await?, agent).await?;
        let Outcome::Succeeded(result) = &outcome else { bail!("nothing was revealed: {outcome:?}") };
        let Some(action_result::Kind::Sealed(sealed)) = &result.kind else { bail!("in the clear: {result:?}") };
        let opened = opener.open(Place { command: command.id, agent, part: None }, sealed)?;
        let opened: wire::ActionResult = prost::Message::decode(&opened[..])?;
        opened.kind.context("nothing was sealed")
    }

    /// What an action would change at one agent.
    pub async fn plan(&self, action: Action, agent: &AgentId) -> Result<wire::Plan> {
        let outcome = self.run_as(action, Mode::PlanOnly, agent).await?;
        let Outcome::Succeeded(result) = &outcome else { bail!("no plan: {outcome:?}") };
        let Some(action_result::Kind::Plan(plan)) = &result.kind else { bail!("another result: {result:?}") };
        Ok(plan.clone())
    }

    /// [`Operator::run`], with a word on the plan.
    pub async fn run_as(&self, action: Action, mode: Mode, agent: &AgentId) -> Result<Outcome> {
        let id = self.hand_in(self.sign(&Command { mode, ..self.command(action, &[agent]) })).await?;
        self.outcome(id, agent).await
    }

    /// Submit an action that streams log lines; the lines, and what came of it.
    pub async fn read(&self, action: Action, agent: &AgentId) -> Result<(Outcome, Vec<wire::LogLine>)> {
        let mut reader = self.reader(action, agent).await?;
        let outcome = self.outcome(reader.id, agent).await?;
        // Whatever came before the end has come by now.
        while reader.next().await? {}
        Ok((outcome, reader.lines))
    }

    /// Submit an action that streams log lines.
    pub async fn reader(&self, action: Action, agent: &AgentId) -> Result<Reader> {
        let opener = Opener::generate()?;
        let command = Command { reply_key: Some(opener.reply_key()), ..self.command(action, &[agent]) };
        let request = wire::SubmitRequest { command: Some(self.sign(&command)) };
        let events = self.client.clone().submit(request).await?.into_inner();
        Ok(Reader { id: command.id, agent: agent.clone(), opener, events, lines: Vec::new() })
    }

    /// Wait until a command has ended at an agent, reconnecting as often as it takes, for a minute.
    pub async fn outcome(&self, id: CommandId, agent: &AgentId) -> Result<Outcome> {
        let wait = async {
            loop {
                if let Ok(Some(outcome)) = self.watch_for(id, agent).await {
                    return outcome;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .with_context(|| format!("command {id} at {agent} has not ended"))
    }

    async fn watch_for(&self, id: CommandId, agent: &AgentId) -> Result<Option<Outcome>, Status> {
        let request = wire::WatchCommandRequest { command_id: id.to_string() };
        let mut events = self.client.clone().watch_command(request).await?.into_inner();
        while let Some(answer) = events.message().await? {
            let event = answer.event.unwrap_or_default();
            if event.agent_id == agent.as_str()
                && let Some(outcome) = event.outcome
            {
                return Ok(Outcome::try_from(outcome).ok());
            }
        }
        Ok(None)
    }

    /// Where a command stands at each target.
    pub async fn show(&self, id: CommandId) -> Result<wire::GetCommandResponse> {
        let request = wire::GetCommandRequest { command_id: id.to_string(), ..Default::default() };
        Ok(self.client.clone().get_command(request).await?.into_inner())
    }

    /// The state of a command at one agent.
    pub async fn state(&self, id: CommandId, agent: &AgentId) -> Result<wire::CommandState> {
        let shown = self.show(id).await?;
        match shown.targets.iter().find(|target| target.agent_id == agent.as_str()) {
            Some(target) => Ok(target.state()),
            None => bail!("{agent} is not a target of {id}"),
        }
    }

    /// One agent as the list shows it.
    pub async fn agent(&self, agent: &AgentId) -> Result<wire::AgentSummary> {
        let agents = self.client.clone().list_agents(wire::ListAgentsRequest {}).await?.into_inner().agents;
        agents.into_iter().find(|summary| summary.agent_id == agent.as_str()).context("the agent is not in the list")
    }

    /// The whole audit record.
    pub async fn audit(&self) -> Result<Vec<wire::AuditEntry>> {
        let mut answers = self.client.clone().list_audit(wire::ListAuditRequest::default()).await?.into_inner();
        let mut entries = Vec::new();
        while let Some(answer) = answers.message().await? {
            entries.push(answer.entry.context("an answer without an entry")?);
        }
        Ok(entries)
    }

    /// Lock an agent out.
    pub async fn lock(&self, agent: &AgentId) -> Result<(), Status> {
        let request = wire::LockAgentRequest { agent_id: agent.to_string(), reason: "a test".into() };
        self.client.clone().lock_agent(request).await.map(|_| ())
    }
}

/// The one who can open what an agent streams.
pub struct Reader {
    /// The command.
    pub id: CommandId,
    agent: AgentId,
    opener: Opener,
    events: Streaming<wire::SubmitResponse>,
    lines: Vec<wire::LogLine>,
}

impl Reader {
    /// All lines that have come until nothing came for a moment.
    pub async fn lines(&mut self) -> &[wire::LogLine] {
        while let Ok(Ok(true)) = tokio::time::timeout(Duration::from_millis(100), self.next()).await {}
        &self.lines
    }

    /// Take in one event; `false` after the last.
    async fn next(&mut self) -> Result<bool> {
        let Some(answer) = self.events.message().await? else { return Ok(false) };
        let Some(submit_response::Message::Event(event)) = answer.message else { return Ok(true) };
        let Some(part) = event.progress.and_then(|progress| progress.sealed) else { return Ok(true) };
        let place = Place { command: self.id, agent: &self.agent, part: Some(part.number) };
        let opened = self.opener.open(place, &part.sealed.unwrap_or_default())?;
        self.lines.extend(wire::LogLines::decode(&*opened)?.lines);
        Ok(true)
    }
}
