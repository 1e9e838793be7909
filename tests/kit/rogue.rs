//! Peers that don't keep to the rules, with real certificates: who took over an agent, or the hub with all its keys.

use std::{net::SocketAddr, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use futures::Stream;
use sfdata_common::{
    Timestamp,
    channel::{self, SharedTls},
    dispatch::PAYLOAD_TYPE,
    envelope,
    ids::AgentId,
    keys::{SigningKey, sha256},
    peer::Subject,
    tls::{self, Identity, Knows, TlsKey},
};
use sfdata_hub::{
    enrol::{
        authority::Authority,
        identity::{DISPATCH_FILE, HubKeys},
    },
    metrics::Metrics,
    server::{self, Clients, Connections, Limits, Server},
};
use sfdata_proto::v1::{
    self as wire,
    connect_request::Message as FromAgent,
    connect_response::Message as FromHub,
    link_service_client::LinkServiceClient,
    link_service_server::{LinkService, LinkServiceServer},
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::Channel};

use crate::fleet::{Fleet, TRUST_DOMAIN};

/// A hub in the hands of somebody else: it has all keys of the real one and sends whatever it is told to.
pub struct RogueHub {
    key: SigningKey,
    agent: Mutex<mpsc::Receiver<Session>>,
    place: Place,
}

/// A listener with a certificate of the hub's own CA.
pub struct Place {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Place {
    /// Listen at `address`, with the CA of the hub in `data_dir`: for whoever has a certificate, or for anybody.
    pub fn take(data_dir: &Path, address: SocketAddr, certified: bool, routes: Routes) -> Result<Self> {
        let keys = HubKeys::open_or_create(data_dir, TRUST_DOMAIN, "core", Timestamp::now())?;
        let key = TlsKey::generate()?;
        let hour = Duration::from_secs(3600);
        let chain = keys.authority.issue(&key.request()?, &Subject::Hub("core".into()), hour, Timestamp::now())?;
        let identity = Identity::new(chain, &key)?;
        let roots = vec![keys.authority.certificate()];
        let tls = tls::server(&identity, Some(&roots).filter(|_| certified).map(Vec::as_slice))?;
        let server = Server {
            name: "rogue",
            tls: Arc::new(ArcSwap::new(tls)),
            clients: match certified {
                true => Clients::Certified { trust_domain: TRUST_DOMAIN.into(), admit: Arc::new(|_| true) },
                false => Clients::Anybody,
            },
            connections: Connections::default(),
            limits: Limits { drain: Duration::ZERO, ..Limits::authenticated() },
            metrics: Metrics::default(),
        };
        let stop = CancellationToken::new();
        let serving = server.serve(server::bind("rogue", address)?, routes, stop.clone());
        let task = tokio::spawn(async move { serving.await.expect("it serves") });
        Ok(Self { stop, task })
    }

    /// Give the address back.
    pub async fn leave(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

struct Session {
    hello: wire::Hello,
    out: mpsc::Sender<Result<wire::ConnectResponse, Status>>,
    incoming: Streaming<wire::ConnectRequest>,
}

struct Links(mpsc::Sender<Session>);

#[tonic::async_trait]
impl LinkService for Links {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<wire::ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<wire::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let (out, messages) = mpsc::channel(64);
        let sessions = self.0.clone();
        tokio::spawn(async move {
            if let Ok(Some(wire::ConnectRequest { message: Some(FromAgent::Hello(hello)) })) = incoming.message().await
            {
                let _ = sessions.send(Session { hello, out, incoming }).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// One agent's stream at a [`RogueHub`].
pub struct Held {
    /// What the agent said first.
    pub hello: wire::Hello,
    out: mpsc::Sender<Result<wire::ConnectResponse, Status>>,
    incoming: Streaming<wire::ConnectRequest>,
}

impl RogueHub {
    /// Take the place of the fleet's hub, which must have been stopped: same address, same keys.
    pub async fn in_place_of(fleet: &Fleet) -> Result<Self> {
        Self::at(fleet.hub_config.listen.address, &fleet.hub_config.data_dir).await
    }

    async fn at(address: SocketAddr, data_dir: &Path) -> Result<Self> {
        let key = SigningKey::read(&data_dir.join(DISPATCH_FILE))?;
        let (sessions, agent) = mpsc::channel(16);
        let routes = Routes::new(LinkServiceServer::new(Links(sessions)));
        Ok(Self { key, agent: Mutex::new(agent), place: Place::take(data_dir, address, true, routes)? })
    }

    /// Wait for an agent to connect, and welcome it.
    pub async fn agent(&self, epoch: u64) -> Held {
        self.agent_at(epoch, Timestamp::now()).await
    }

    /// Wait for an agent to connect, and welcome it with this for the hub's clock.
    pub async fn agent_at(&self, epoch: u64, clock: Timestamp) -> Held {
        let wait = async { self.agent.lock().await.recv().await.expect("the rogue hub runs") };
        let session = tokio::time::timeout(Duration::from_secs(40), wait).await.expect("an agent connects");
        let held = Held { hello: session.hello, out: session.out, incoming: session.incoming };
        let welcome = wire::Welcome { clock_unix_ms: clock.as_millisecond(), epoch, health_interval_seconds: 30 };
        held.send(FromHub::Welcome(welcome)).await;
        held
    }

    /// The dispatch key, which it has.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A delivery that only this command's operator or this dispatch can be wrong in.
    pub fn delivery(
        &self,
        agent: &AgentId,
        epoch: u64,
        sequence: u64,
        command: &wire::Envelope,
        id: &str,
    ) -> wire::Delivery {
        let dispatch = wire::Dispatch {
            agent_id: agent.to_string(),
            epoch,
            sequence,
            command_id: id.to_owned(),
            command_digest: sha256(&command.payload).to_vec().into(),
            dispatched_unix_ms: Timestamp::now().as_millisecond(),
            void: false,
        };
        self.deliver(&dispatch, command)
    }

    /// Sign whatever dispatch.
    pub fn deliver(&self, dispatch: &wire::Dispatch, command: &wire::Envelope) -> wire::Delivery {
        let payload = prost::Message::encode_to_vec(dispatch);
        wire::Delivery {
            dispatch: Some(envelope::seal(PAYLOAD_TYPE, payload, self.key())),
            command: Some(command.clone()),
            traceparent: String::new(),
        }
    }

    /// Give the address back.
    pub async fn stop(self) {
        self.place.leave().await;
    }
}

impl Held {
    /// Say something to the agent.
    pub async fn send(&self, message: FromHub) {
        let _ = self.out.send(Ok(wire::ConnectResponse { message: Some(message) })).await;
    }

    /// The health that the agent tells next.
    pub async fn health(&mut self) -> Option<wire::Health> {
        let read = async {
            loop {
                if let FromAgent::Health(health) = self.incoming.message().await.ok()??.message? {
                    return Some(*health);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.ok().flatten()
    }

    /// What the agent says next, whatever it is; `None` if it says nothing for ten seconds.
    pub async fn anything(&mut self) -> Option<FromAgent> {
        let read = async { self.incoming.message().await.ok()??.message };
        tokio::time::timeout(Duration::from_secs(10), read).await.ok().flatten()
    }

    /// What the agent says next, leaving out its health.
    pub async fn next(&mut self) -> Option<FromAgent> {
        let read = async {
            loop {
                match self.incoming.message().await.ok()??.message? {
                    FromAgent::Health(_) => {}
                    message => return Some(message),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.ok().flatten()
    }

    /// Deliver, and tell how the agent refused: the reason, and whether the number was used up.
    pub async fn refusal(&mut self, delivery: wire::Delivery) -> Option<(wire::RefusalReason, bool)> {
        self.send(FromHub::Delivery(delivery)).await;
        loop {
            match self.next().await? {
                FromAgent::Rejected(rejected) => return Some((rejected.refused?.reason(), false)),
                FromAgent::Receipt(receipt) => {
                    let receipt: wire::Receipt = prost::Message::decode(&receipt.payload[..]).ok()?;
                    return match receipt.outcome?.kind? {
                        wire::outcome::Kind::Refused(refused) => Some((refused.reason(), true)),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
    }
}

/// An agent in the hands of somebody else: it has the certificate and says whatever it is told to.
pub struct RogueAgent {
    /// Towards the hub.
    pub out: mpsc::Sender<wire::ConnectRequest>,
    /// From the hub.
    pub incoming: Streaming<wire::ConnectResponse>,
}

/// TLS of the agent that was enrolled in `data_dir`.
pub fn stolen_tls(data_dir: &Path, ca: &[u8]) -> Result<SharedTls> {
    let text = std::fs::read_to_string(data_dir.join("identity.pem"))?;
    let key = TlsKey::from_pem(&text)?;
    let mut chain = tls::certificates_from_pem(text.as_bytes())?;
    chain.remove(0);
    let identity = Identity::new(chain, &key)?;
    let cas = vec![ca.to_vec()];
    let knows = Knows::Cas { certificates: &cas, trust_domain: TRUST_DOMAIN };
    Ok(Arc::new(ArcSwap::new(tls::client(Some(&identity), knows)?)))
}

/// TLS with a certificate that the fleet's own CA issued to `subject` at `now`: of any age and life.
pub fn issued_tls(fleet: &Fleet, subject: &Subject, lifetime: Duration, now: Timestamp) -> Result<SharedTls> {
    let keys = HubKeys::open_or_create(&fleet.hub_config.data_dir, TRUST_DOMAIN, "core", now)?;
    tls_by(&keys.authority, fleet, subject, lifetime, now)
}

/// TLS with a certificate that `authority` issued, and which knows the fleet's hub.
pub fn tls_by(
    authority: &Authority,
    fleet: &Fleet,
    subject: &Subject,
    lifetime: Duration,
    now: Timestamp,
) -> Result<SharedTls> {
    let key = TlsKey::generate()?;
    let identity = Identity::new(authority.issue(&key.request()?, subject, lifetime, now)?, &key)?;
    client_tls(fleet, Some(&identity))
}

/// TLS that knows the fleet's hub, with this certificate or none.
pub fn client_tls(fleet: &Fleet, identity: Option<&Identity>) -> Result<SharedTls> {
    let knows = Knows::Cas { certificates: &fleet.bundle.ca_certificates, trust_domain: TRUST_DOMAIN };
    Ok(Arc::new(ArcSwap::new(tls::client(identity, knows)?)))
}

impl RogueAgent {
    /// Connect with a stolen certificate and say this first.
    pub async fn connect(fleet: &Fleet, number: usize, hello: wire::Hello) -> Result<Self> {
        let tls = stolen_tls(&fleet.agents[number].config.data_dir, &fleet.bundle.ca_certificates[0])?;
        Self::on(channel::open(&fleet.alice.address, tls), Some(hello)).await
    }

    /// Open a stream on this channel and say this first, or nothing.
    pub async fn on(channel: Channel, hello: Option<wire::Hello>) -> Result<Self> {
        let (out, messages) = mpsc::channel(64);
        if let Some(hello) = hello {
            out.send(wire::ConnectRequest { message: Some(FromAgent::Hello(hello)) }).await?;
        }
        let mut client = LinkServiceClient::new(channel);
        let connected = client.connect(ReceiverStream::new(messages));
        let incoming = tokio::time::timeout(Duration::from_secs(10), connected).await.context("no answer")??;
        Ok(Self { out, incoming: incoming.into_inner() })
    }

    /// What the hub says next.
    pub async fn next(&mut self) -> Result<Option<FromHub>, Status> {
        match tokio::time::timeout(Duration::from_secs(10), self.incoming.message()).await {
            Ok(message) => Ok(message?.and_then(|message| message.message)),
            Err(_) => Ok(None),
        }
    }

    /// Say something.
    pub async fn send(&self, message: FromAgent) {
        let _ = self.out.send(wire::ConnectRequest { message: Some(message) }).await;
    }
}
