//! Stops 2 and 13 on a command's path: what operators ask. Each call: who is it, may they, do it, answer.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use sfdata_common::{
    error::chain,
    ids::{AgentId, CommandId, GroupName, OperatorName, RoleName},
    limits,
    peer::Subject,
    telemetry::traces::TraceContext,
};
use sfdata_proto::v1::{self as wire, operator_service_server::OperatorService};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{calling_operator, fail, parse};
use crate::{
    alerts::Alerts,
    audit,
    authorize::{ADMINISTER, Authorizer, OPERATE},
    commands::{Commands, Following, Newest},
    config::Costs,
    enrol::tokens::Tokens,
    fleet::{Fleet, Words},
    history::{History, level::Level, times::Times},
    queue::Queue,
    server::Connections,
    sessions::Sessions,
    store::{self, Store},
    trust::Trust,
    usage::{Usage, estimate},
};

/// Watchers of a list are told at most this often.
const LIST_INTERVAL: Duration = Duration::from_millis(500);
/// Longest silence.
const SILENCE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest label key or value.
const LABEL: usize = 64;
/// Most labels, and most groups, of one agent.
const LABELS: usize = 32;
/// Days that one question on usage may span.
const USAGE_DAYS: u32 = 3 * 366;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves [`OperatorService`].
#[derive(Clone)]
pub struct Operators {
    /// Use cases.
    pub commands: Arc<Commands>,
    /// Who may.
    pub authorizer: Arc<Authorizer>,
    /// Registry.
    pub fleet: Arc<Fleet>,
    /// What has not ended.
    pub queue: Arc<Queue>,
    /// Live links.
    pub sessions: Arc<Sessions>,
    /// Live connections.
    pub connections: Connections,
    /// Invitations.
    pub tokens: Arc<Tokens>,
    /// Bundles and epoch.
    pub trust: Arc<Trust>,
    /// What is wrong.
    pub alerts: Arc<Alerts>,
    /// What agents used.
    pub usage: Arc<Usage>,
    /// How agents were.
    pub history: Arc<History>,
    /// Prices and budgets.
    pub costs: Costs,
    /// For the audit record.
    pub store: Store,
    /// The hub stops.
    pub stop: CancellationToken,
}

impl Operators {
    /// Who calls with something that they signed, and that speaks for itself.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<OperatorName, Status> {
        let by = calling_operator(request, &self.fleet)?;
        self.fleet.operator_seen(&by, Timestamp::now());
        Ok(by)
    }

    /// Who calls, if they may do `action` of that class; a denial is put on record.
    pub(super) async fn may<T>(
        &self,
        request: &Request<T>,
        action: &str,
        class: &'static str,
    ) -> Result<OperatorName, Status> {
        let (by, now) = (self.caller(request)?, Timestamp::now());
        if let Err(denied) = self.authorizer.allow(&by, action, class, now) {
            self.commands.record_denial(&by, action, &denied, now).await.map_err(fail)?;
            return Err(fail(denied));
        }
        Ok(by)
    }

    /// Whether who calls may do this reading action; nothing is put on record, since nobody has asked for it by itself.
    pub(crate) fn would_show<T>(&self, request: &Request<T>, action: &str) -> bool {
        let by = calling_operator(request, &self.fleet);
        by.is_ok_and(|by| self.authorizer.allow(&by, action, Authorizer::READ, Timestamp::now()).is_ok())
    }

    /// Resolves when a stream of this operator has to end: the hub stops, or their key is no longer valid. (A lock
    /// ends their connections.)
    fn end_of(&self, by: OperatorName) -> impl Future<Output = ()> + Send + 'static {
        let (stop, trust) = (self.stop.clone(), Arc::clone(&self.trust));
        async move {
            let mut changes = trust.changes();
            while let Some(key) = trust.operator(&by, Timestamp::now()) {
                let left = Duration::try_from(key.expires.duration_since(Timestamp::now())).unwrap_or_default();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(left) => {}
                    changed = changes.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    fn events(
        &self,
        by: OperatorName,
        following: Following,
    ) -> impl Stream<Item = wire::CommandEvent> + Send + 'static {
        let later =
            following.later.map_or_else(|| stream::empty().boxed(), |watcher| ReceiverStream::new(watcher).boxed());
        stream::iter(following.now).chain(later).take_until(Box::pin(self.end_of(by)))
    }

    fn list(fleet: &Fleet, queue: &Queue) -> Vec<wire::AgentSummary> {
        fleet.agents(|agent| queue.depth(agent), Timestamp::now())
    }
}

#[tonic::async_trait]
impl OperatorService for Operators {
    type SubmitStream = Answers<wire::SubmitResponse>;
    type WatchCommandStream = Answers<wire::WatchCommandResponse>;
    type WatchCommandsStream = Answers<wire::WatchCommandsResponse>;
    type WatchAgentsStream = Answers<wire::WatchAgentsResponse>;
    type ListAuditStream = Answers<wire::ListAuditResponse>;

    async fn submit(&self, request: Request<wire::SubmitRequest>) -> Result<Response<Self::SubmitStream>, Status> {
        let (by, now) = (self.caller(&request)?, Timestamp::now());
        let trace = TraceContext::received(request.metadata());
        let envelope = request.into_inner().command.ok_or_else(|| Status::invalid_argument("no command"))?;
        let following = self.commands.submit(&by, envelope, trace, now).await.map_err(fail)?;
        use wire::submit_response::Message;
        let accepted = Message::Accepted(wire::Accepted { command_id: following.id.to_string() });
        let messages = stream::once(async { accepted }).chain(self.events(by, following).map(Message::Event));
        Ok(Response::new(Box::pin(messages.map(|message| Ok(wire::SubmitResponse { message: Some(message) })))))
    }

    async fn watch_command(
        &self,
        request: Request<wire::WatchCommandRequest>,
    ) -> Result<Response<Self::WatchCommandStream>, Status> {
        let by = self.may(&request, "commands.watch", Authorizer::READ).await?;
        let id: CommandId = parse(&request.into_inner().command_id)?;
        let following = self.commands.follow(id).map_err(fail)?.ok_or_else(|| no_command(id))?;
        let events = self.events(by, following).map(|event| Ok(wire::WatchCommandResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(events)))
    }

    async fn list_commands(
        &self,
        request: Request<wire::ListCommandsRequest>,
    ) -> Result<Response<wire::ListCommandsResponse>, Status> {
        self.may(&request, "commands.list", Authorizer::READ).await?;
        let commands = self.commands.list(request.get_ref()).map_err(fail)?;
        Ok(Response::new(wire::ListCommandsResponse { commands }))
    }

    async fn watch_commands(
        &self,
        request: Request<wire::WatchCommandsRequest>,
    ) -> Result<Response<Self::WatchCommandsStream>, Status> {
        let by = self.may(&request, "commands.list", Authorizer::READ).await?;
        let limit = request.get_ref().limit;
        let (commands, mut changes) = (Arc::clone(&self.commands), self.queue.changes());
        changes.mark_changed();
        let answers = stream::unfold((changes, Newest::default()), move |(mut changes, mut newest)| {
            let commands = Arc::clone(&commands);
            async move {
                changes.changed().await.ok()?;
                tokio::time::sleep(LIST_INTERVAL).await; // many changes, one answer
                changes.mark_unchanged();
                let changed = commands.changed(&mut newest, limit).map_err(fail);
                Some((changed.map(|commands| wire::WatchCommandsResponse { commands }), (changes, newest)))
            }
        });
        Ok(Response::new(Box::pin(answers.take_until(Box::pin(self.end_of(by))))))
    }

    async fn get_command(
        &self,
        request: Request<wire::GetCommandRequest>,
    ) -> Result<Response<wire::GetCommandResponse>, Status> {
        self.may(&request, "commands.show", Authorizer::READ).await?;
        let request = request.into_inner();
        let id: CommandId = parse(&request.command_id)?;
        let mut shown = self.commands.show(id).map_err(fail)?.ok_or_else(|| no_command(id))?;
        if request.proof {
            shown.proof = Some(Arc::clone(&self.commands).proof_of(id).await.map_err(fail)?);
        }
        Ok(Response::new(shown))
    }

    async fn invite_agent(
        &self,
        request: Request<wire::InviteAgentRequest>,
    ) -> Result<Response<wire::InviteAgentResponse>, Status> {
        let by = self.may(&request, "agents.invite", ADMINISTER).await?;
        let request = request.into_inner();
        let (agent, account) = (parse(&request.agent_id)?, parse(&request.account)?);
        check_labels(&request.labels, &request.groups)?;
        if self.trust.version() == 0 {
            return Err(fail(crate::enrol::tokens::Error::NoBundle));
        }
        let now = Timestamp::now();
        let words = Words { labels: request.labels.into_iter().collect(), groups: request.groups };
        self.fleet.expect_agent(&by, &agent, &account, words, now).await.map_err(fail)?;
        let (token, expires) = self.tokens.for_agent(&agent, &account, now).await.map_err(fail)?;
        Ok(Response::new(wire::InviteAgentResponse { token, expires_unix_ms: expires.as_millisecond() }))
    }

    async fn register_agent(
        &self,
        request: Request<wire::RegisterAgentRequest>,
    ) -> Result<Response<wire::RegisterAgentResponse>, Status> {
        let by = self.may(&request, "agents.register", ADMINISTER).await?;
        let request = request.into_inner();
        let (agent, account) = (parse(&request.agent_id)?, parse(&request.account)?);
        let role: RoleName = parse(&request.role)?;
        check_labels(&request.labels, &request.groups)?;
        let join = self.tokens.place(&agent, &account).map_err(fail)?;
        let words = Words { labels: request.labels.into_iter().collect(), groups: request.groups };
        let (who, now) = ((&account, &role), Timestamp::now());
        self.fleet.register_agent(&by, &agent, who, words, request.again, now).await.map_err(fail)?;
        Ok(Response::new(wire::RegisterAgentResponse { join: Some(join) }))
    }

    async fn unregister_agent(
        &self,
        request: Request<wire::UnregisterAgentRequest>,
    ) -> Result<Response<wire::UnregisterAgentResponse>, Status> {
        let by = self.may(&request, "agents.unregister", ADMINISTER).await?;
        let request = request.into_inner();
        let (id, why) = (parse(&request.agent_id)?, reason(request.reason)?);
        self.fleet.unregister_agent(&by, &id, &why, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::UnregisterAgentResponse {}))
    }

    async fn list_agents(
        &self,
        request: Request<wire::ListAgentsRequest>,
    ) -> Result<Response<wire::ListAgentsResponse>, Status> {
        self.may(&request, "agents.list", Authorizer::READ).await?;
        Ok(Response::new(wire::ListAgentsResponse { agents: Self::list(&self.fleet, &self.queue) }))
    }

    async fn watch_agents(
        &self,
        request: Request<wire::WatchAgentsRequest>,
    ) -> Result<Response<Self::WatchAgentsStream>, Status> {
        let by = self.may(&request, "agents.list", Authorizer::READ).await?;
        let (fleet, queue, mut changes) = (Arc::clone(&self.fleet), Arc::clone(&self.queue), self.fleet.changes());
        changes.mark_changed();
        let answers = stream::unfold(changes, move |mut changes| {
            let (fleet, queue) = (Arc::clone(&fleet), Arc::clone(&queue));
            async move {
                changes.changed().await.ok()?;
                tokio::time::sleep(LIST_INTERVAL).await; // many changes, one answer
                changes.mark_unchanged();
                Some((Ok(wire::WatchAgentsResponse { agents: Self::list(&fleet, &queue) }), changes))
            }
        });
        Ok(Response::new(Box::pin(answers.take_until(Box::pin(self.end_of(by))))))
    }

    async fn edit_agent(
        &self,
        request: Request<wire::EditAgentRequest>,
    ) -> Result<Response<wire::EditAgentResponse>, Status> {
        let by = self.may(&request, "agents.edit", ADMINISTER).await?;
        let request = request.into_inner();
        let id: AgentId = parse(&request.agent_id)?;
        check_labels(&request.set_labels, &request.add_groups)?;
        let now = Timestamp::now();
        self.fleet.edit_agent(&by, request, &id, now).await.map_err(fail)?;
        let agent = self.fleet.agent(&id, self.queue.depth(&id), now).map_err(fail)?;
        Ok(Response::new(wire::EditAgentResponse { agent: Some(agent) }))
    }

    async fn lock_agent(
        &self,
        request: Request<wire::LockAgentRequest>,
    ) -> Result<Response<wire::LockAgentResponse>, Status> {
        let by = self.may(&request, "agents.lock", ADMINISTER).await?;
        let request = request.into_inner();
        let id: AgentId = parse(&request.agent_id)?;
        let why = reason(request.reason)?;
        let locked = self.fleet.lock_agent(audit::operator(&by), &id, Some(why.clone()), &why, Timestamp::now());
        locked.await.map_err(fail)?;
        self.sessions.end(&id);
        self.connections.close(&Subject::Agent(id));
        Ok(Response::new(wire::LockAgentResponse {}))
    }

    async fn unlock_agent(
        &self,
        request: Request<wire::UnlockAgentRequest>,
    ) -> Result<Response<wire::UnlockAgentResponse>, Status> {
        let by = self.may(&request, "agents.unlock", ADMINISTER).await?;
        let request = request.into_inner();
        let id: AgentId = parse(&request.agent_id)?;
        let why = reason(request.reason)?;
        self.fleet.lock_agent(audit::operator(&by), &id, None, &why, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::UnlockAgentResponse {}))
    }

    async fn remove_agent(
        &self,
        request: Request<wire::RemoveAgentRequest>,
    ) -> Result<Response<wire::RemoveAgentResponse>, Status> {
        let by = self.may(&request, "agents.remove", ADMINISTER).await?;
        let request = request.into_inner();
        let id: AgentId = parse(&request.agent_id)?;
        let now = Timestamp::now();
        self.fleet.remove_agent(&by, &id, &reason(request.reason)?, now).await.map_err(fail)?;
        self.sessions.end(&id);
        self.connections.close(&Subject::Agent(id.clone()));
        self.queue.forget(&id, now).await.map_err(fail)?;
        Ok(Response::new(wire::RemoveAgentResponse {}))
    }

    async fn invite_operator(
        &self,
        request: Request<wire::InviteOperatorRequest>,
    ) -> Result<Response<wire::InviteOperatorResponse>, Status> {
        let by = self.may(&request, "operators.invite", ADMINISTER).await?;
        let name: OperatorName = parse(&request.into_inner().name)?;
        let now = Timestamp::now();
        self.fleet.expect_operator(audit::operator(&by), &name, now).await.map_err(fail)?;
        let (token, expires) = self.tokens.for_operator(&name, now).await.map_err(fail)?;
        Ok(Response::new(wire::InviteOperatorResponse { token, expires_unix_ms: expires.as_millisecond() }))
    }

    async fn list_operators(
        &self,
        request: Request<wire::ListOperatorsRequest>,
    ) -> Result<Response<wire::ListOperatorsResponse>, Status> {
        self.may(&request, "operators.list", Authorizer::READ).await?;
        Ok(Response::new(wire::ListOperatorsResponse { operators: self.people(Timestamp::now()) }))
    }

    async fn who_am_i(&self, request: Request<wire::WhoAmIRequest>) -> Result<Response<wire::WhoAmIResponse>, Status> {
        self.who_calls(&request).map(Response::new)
    }

    async fn lock_operator(
        &self,
        request: Request<wire::LockOperatorRequest>,
    ) -> Result<Response<wire::LockOperatorResponse>, Status> {
        let by = self.may(&request, "operators.lock", ADMINISTER).await?;
        let request = request.into_inner();
        let name: OperatorName = parse(&request.name)?;
        if name == by {
            return Err(Status::failed_precondition("you would lock yourself out; another admin has to do it"));
        }
        let why = reason(request.reason)?;
        self.fleet.lock_operator(&by, &name, Some(why.clone()), &why, Timestamp::now()).await.map_err(fail)?;
        self.connections.close(&Subject::Operator(name));
        Ok(Response::new(wire::LockOperatorResponse {}))
    }

    async fn unlock_operator(
        &self,
        request: Request<wire::UnlockOperatorRequest>,
    ) -> Result<Response<wire::UnlockOperatorResponse>, Status> {
        let by = self.may(&request, "operators.unlock", ADMINISTER).await?;
        let request = request.into_inner();
        let name: OperatorName = parse(&request.name)?;
        let why = reason(request.reason)?;
        self.fleet.lock_operator(&by, &name, None, &why, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::UnlockOperatorResponse {}))
    }

    async fn get_trust(
        &self,
        request: Request<wire::GetTrustRequest>,
    ) -> Result<Response<wire::GetTrustResponse>, Status> {
        self.may(&request, "trust.show", Authorizer::READ).await?;
        Ok(Response::new(wire::GetTrustResponse {
            trust_bundle: self.trust.envelope(),
            epoch: self.trust.epoch(),
            epoch_needs_statement: self.trust.needs_statement(),
        }))
    }

    async fn publish_trust(
        &self,
        request: Request<wire::PublishTrustRequest>,
    ) -> Result<Response<wire::PublishTrustResponse>, Status> {
        let by = self.may(&request, "trust.publish", ADMINISTER).await?;
        let version = self.publish(&by, request.into_inner()).await?;
        Ok(Response::new(wire::PublishTrustResponse { version }))
    }

    async fn publish_epoch(
        &self,
        request: Request<wire::PublishEpochRequest>,
    ) -> Result<Response<wire::PublishEpochResponse>, Status> {
        let by = self.may(&request, "trust.accept-restore", ADMINISTER).await?;
        let statement = request.into_inner().statement.ok_or_else(|| Status::invalid_argument("no statement"))?;
        self.trust.accept_epoch(&by, statement, Timestamp::now()).await.map_err(fail)?;
        self.sessions.end_all(); // each agent says hello again and is told
        Ok(Response::new(wire::PublishEpochResponse {}))
    }

    async fn list_alerts(
        &self,
        request: Request<wire::ListAlertsRequest>,
    ) -> Result<Response<wire::ListAlertsResponse>, Status> {
        self.may(&request, "alerts.list", Authorizer::READ).await?;
        Ok(Response::new(self.alerts.list(Timestamp::now())))
    }

    async fn silence_alerts(
        &self,
        request: Request<wire::SilenceAlertsRequest>,
    ) -> Result<Response<wire::SilenceAlertsResponse>, Status> {
        let by = self.may(&request, "alerts.silence", OPERATE).await?;
        let mut request = request.into_inner();
        let texts = [&request.agent_id, &request.rule, &request.name];
        if texts.iter().all(|text| text.is_empty()) {
            return Err(Status::invalid_argument("say which agent, rule or name is to be silent"));
        }
        if texts.iter().any(|text| text.len() > limits::REASON_BYTES) {
            return Err(Status::invalid_argument("no agent, rule or name is that long"));
        }
        let most = SILENCE.as_secs();
        if request.for_seconds == 0 || u64::from(request.for_seconds) > most {
            return Err(Status::invalid_argument(format!("a silence lasts 1 to {most} seconds")));
        }
        request.reason = reason(request.reason)?;
        let silence = self.alerts.silence(&by, request, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::SilenceAlertsResponse { silence: Some(silence) }))
    }

    async fn end_silence(
        &self,
        request: Request<wire::EndSilenceRequest>,
    ) -> Result<Response<wire::EndSilenceResponse>, Status> {
        let by = self.may(&request, "alerts.unsilence", OPERATE).await?;
        self.alerts.end_silence(&by, &request.into_inner().id, Timestamp::now()).await.map_err(fail)?;
        Ok(Response::new(wire::EndSilenceResponse {}))
    }

    async fn test_alerts(
        &self,
        request: Request<wire::TestAlertsRequest>,
    ) -> Result<Response<wire::TestAlertsResponse>, Status> {
        self.may(&request, "alerts.test", OPERATE).await?;
        Ok(Response::new(self.alerts.test(Timestamp::now()).await))
    }

    async fn get_usage(
        &self,
        request: Request<wire::GetUsageRequest>,
    ) -> Result<Response<wire::GetUsageResponse>, Status> {
        self.may(&request, "usage.get", Authorizer::READ).await?;
        let asked = request.into_inner();
        let agents: Vec<AgentId> = asked.agent_ids.iter().map(|id| parse(id)).collect::<Result<_, _>>()?;
        let (from, until, group) = (asked.from_day, asked.until_day, asked.group());
        let days = until.checked_sub(from).filter(|days| (1..=USAGE_DAYS).contains(days));
        if days.is_none() {
            return Err(Status::invalid_argument(format!(
                "ask for 1 to {USAGE_DAYS} days, the last not before the first"
            )));
        }
        let (usage, costs) = (Arc::clone(&self.usage), self.costs.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let agents = if agents.is_empty() { usage.agents()? } else { agents };
            let days = usage.days(&agents, from.saturating_sub(estimate::DAYS_BEFORE), until)?;
            let (bills, budgets) = (usage.bills(&agents, from, until)?, |agent: &AgentId| costs.budget(agent));
            let (prices, budgets, bills, now) = (&costs.prices, &budgets, &bills, Timestamp::now());
            let question = estimate::Question { from, until, group, prices, budgets, bills, now };
            Ok::<_, store::Error>(estimate::answer(&question, &days))
        });
        let answer =
            answer.await.map_err(|_| Status::internal("the usage could not be summed up; see the hub's log"))?;
        answer.map(Response::new).map_err(fail)
    }

    async fn get_history(
        &self,
        request: Request<wire::GetHistoryRequest>,
    ) -> Result<Response<wire::GetHistoryResponse>, Status> {
        self.may(&request, "agents.history", Authorizer::READ).await?;
        let asked = request.into_inner();
        let agent: AgentId = parse(&asked.agent_id)?;
        let [from, until] = [asked.from_unix_ms, asked.until_unix_ms].map(|unix_ms| unix_ms.div_euclid(1000));
        let back = Timestamp::now().as_second().saturating_sub(from);
        let level = Level::of(asked.step(), Duration::from_secs(back.try_into().unwrap_or_default()));
        let spans = level.at(from)..level.at(until.saturating_sub(1)).saturating_add(1);
        if from >= until || spans.len() > limits::HISTORY_SPANS as usize {
            let (most, seconds) = (limits::HISTORY_SPANS, level.seconds());
            let text = format!("ask for 1 to {most} spans of {seconds} seconds, the end behind the beginning");
            return Err(Status::invalid_argument(text));
        }
        let history = Arc::clone(&self.history);
        let of = agent.clone();
        let found = tokio::task::spawn_blocking(move || history.read(&of, level, spans)).await;
        let found = found.map_err(|_| Status::internal("the history could not be read; see the hub's log"))?;
        let found = found.map_err(fail)?;
        if found.is_empty() && self.fleet.facts(&agent).is_none() {
            return Err(Status::not_found(format!("there is no agent {agent}; see hubctl agents list")));
        }
        let begin = |number| level.begin(number) * 1000;
        let first = found.first().map_or(0, |(number, _)| begin(*number));
        Ok(Response::new(wire::GetHistoryResponse {
            step: level.step().into(),
            total: Some(Times::sum(found.iter().map(|(_, times)| times)).span(first)),
            spans: found.iter().map(|(number, times)| times.span(begin(*number))).collect(),
        }))
    }

    async fn list_audit(
        &self,
        request: Request<wire::ListAuditRequest>,
    ) -> Result<Response<Self::ListAuditStream>, Status> {
        self.may(&request, "audit.list", Authorizer::READ).await?;
        let wire::ListAuditRequest { from, limit } = request.into_inner();
        let limit = if limit == 0 { usize::MAX } else { limit.try_into().unwrap_or(usize::MAX) };
        let entries = self.store.audit(from).take(limit).map(|entry| {
            let entry = entry.map_err(|error| Status::internal(chain(&error).to_string()))?;
            Ok(wire::ListAuditResponse { entry: Some(entry) })
        });
        Ok(Response::new(Box::pin(stream::iter(entries))))
    }
}

fn no_command(id: CommandId) -> Status {
    Status::not_found(format!("there is no command {id}; see hubctl commands list"))
}

pub(super) fn reason(text: String) -> Result<String, Status> {
    if text.len() > limits::REASON_BYTES {
        return Err(Status::invalid_argument(format!("a reason has at most {} bytes", limits::REASON_BYTES)));
    }
    Ok(if text.is_empty() { "no reason given".into() } else { text })
}

fn check_labels(labels: &std::collections::HashMap<String, String>, groups: &[String]) -> Result<(), Status> {
    let too_long = |text: &String| text.is_empty() || text.len() > LABEL;
    if labels.len() > LABELS
        || groups.len() > LABELS
        || labels.iter().any(|(key, value)| too_long(key) || value.len() > LABEL)
    {
        return Err(Status::invalid_argument(format!(
            "at most {LABELS} labels and groups, each of 1 to {LABEL} bytes"
        )));
    }
    groups.iter().try_for_each(|group| parse::<GroupName>(group).map(|_| ()))
}
