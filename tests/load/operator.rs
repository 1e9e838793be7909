//! The operator: signs commands with their own key, submits them over mutual TLS, and sees what becomes of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use sfdata_common::{
    Timestamp, channel,
    command::{Action, Agent, Command, Mode},
    envelope,
    ids::{AgentId, CommandId, OperatorName},
    keys::SigningKey,
    peer::Subject,
    tls::{self, Knows},
};
use sfdata_proto::v1::{self as wire, operator_service_client::OperatorServiceClient, submit_response::Message};
use tonic::transport::Channel;

use crate::estate::Estate;

/// So long a reason that a delivery with one target has 1 KiB, as the bare stream's messages have.
const REASON_BYTES: usize = 480;
const VALID: Duration = Duration::from_secs(600);
/// Connections, as of so many hubctl at once: a single one is served by one task at each end.
const CONNECTIONS: usize = 4;

/// An operator with a few connections; share it by `Arc`.
pub(crate) struct Operator {
    clients: Vec<OperatorServiceClient<Channel>>,
    next: AtomicUsize,
    name: OperatorName,
    key: Arc<SigningKey>,
    trust_version: u64,
}

impl Operator {
    pub(crate) fn new(estate: &Estate) -> Result<Self> {
        let certificate = estate.certificate(&Subject::Operator(estate.operator.clone()))?;
        let cas = &estate.bundle.ca_certificates;
        let knows = Knows::Cas { certificates: cas, trust_domain: &estate.bundle.trust_domain };
        let tls = Arc::new(ArcSwap::new(tls::client(Some(&certificate), knows)?));
        let open = |_| OperatorServiceClient::new(channel::open(&estate.address.to_string(), Arc::clone(&tls)));
        Ok(Self {
            clients: (0..CONNECTIONS).map(open).collect(),
            next: AtomicUsize::new(0),
            name: estate.operator.clone(),
            key: Arc::clone(&estate.operator_key),
            trust_version: estate.bundle.version,
        })
    }

    /// The one action that touches nothing: the target says at once that it knows no such command.
    pub(crate) fn command(&self, targets: Vec<AgentId>) -> Command {
        let now = Timestamp::now();
        Command {
            id: CommandId::generate(),
            action: Action::Agent(Agent::Cancel(CommandId::generate())),
            targets,
            not_before: now,
            expires: now + VALID,
            operator: self.name.clone(),
            reason: "x".repeat(REASON_BYTES),
            trust_version: self.trust_version,
            mode: Mode::Act,
            reply_key: None,
        }
    }

    pub(crate) fn sign(&self, command: &Command) -> wire::Envelope {
        envelope::seal(Command::PAYLOAD_TYPE, command.encode(), &self.key)
    }

    /// Order it of `targets` (sorted) and wait until each has succeeded and the hub has it durable. Gives the time from
    /// before the signature to the last outcome.
    pub(crate) async fn order(&self, targets: Vec<AgentId>) -> Result<Duration> {
        let expected = targets.len();
        let began = Instant::now();
        let command = Some(self.sign(&self.command(targets)));
        let lane = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        let mut client = self.clients[lane].clone();
        let mut events =
            client.submit(wire::SubmitRequest { command }).await.context("the hub takes no command")?.into_inner();
        let mut succeeded = 0;
        while succeeded < expected {
            let answer = events.message().await.context("the answers broke off")?;
            let Message::Event(event) = answer.and_then(|answer| answer.message).context("the answers ended early")?
            else {
                continue;
            };
            if event.outcome.is_some() {
                ensure!(
                    event.state() == wire::CommandState::Succeeded,
                    "{} ended as {:?}",
                    event.agent_id,
                    event.outcome
                );
                succeeded += 1;
            }
        }
        Ok(began.elapsed())
    }

    /// What all LAs together used on these days.
    pub(crate) async fn usage(&self, from_day: u32, until_day: u32) -> Result<wire::UsageRow> {
        let group = wire::UsageGroup::Agent.into();
        let request = wire::GetUsageRequest { from_day, until_day, group, ..Default::default() };
        let client = self.clients.first().context("no connection")?;
        client.clone().get_usage(request).await?.into_inner().total.context("no total")
    }

    /// A join token for an agent.
    pub(crate) async fn invite(&self, agent: &str, account: &str) -> Result<String> {
        let request =
            wire::InviteAgentRequest { agent_id: agent.into(), account: account.into(), ..Default::default() };
        let client = self.clients.first().context("no connection")?;
        Ok(client.clone().invite_agent(request).await?.into_inner().token)
    }

    /// Lock an agent.
    pub(crate) async fn lock(&self, agent: &AgentId) -> Result<()> {
        let request = wire::LockAgentRequest { agent_id: agent.to_string(), reason: "attack bench".into() };
        let client = self.clients.first().context("no connection")?;
        client.clone().lock_agent(request).await?;
        Ok(())
    }
}
