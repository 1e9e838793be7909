//! A hub in between: agents dial it in place of theirs, it dials the hub in place of the agent, and keeps what goes by. Its
//! certificates are the hub's and the agent's own, so that neither takes it for anything else.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use bytes::Bytes;
use prost::Message as _;
use sfdata_common::channel;
use sfdata_proto::v1::{self as wire, connect_response::Message as FromHub};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::{
    fleet::{Fleet, free_port},
    raw::{self, Call},
    release::{ENROL, LINK, SERVICES, Side},
    rogue::{Place, client_tls, stolen_tls},
};

/// One message that went by.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Who said it.
    pub by: Side,
    /// `/package.Service/Method`.
    pub method: String,
    /// As it was on the wire.
    pub bytes: Bytes,
}

/// The one in between.
pub struct Relay {
    /// In place of the hub's authenticated listener.
    pub address: SocketAddr,
    /// In place of the one where agents join.
    pub enrol: SocketAddr,
    between: Arc<Between>,
    places: [Place; 2],
}

struct Between {
    heard: Mutex<Vec<Heard>>,
    lose: AtomicBool,
    /// Where the agent keeps its certificate.
    agent: PathBuf,
    ca: Vec<u8>,
    /// Of the hub.
    address: String,
    /// Where nobody needs a certificate.
    enrol: Channel,
}

impl Relay {
    /// Between the fleet's hub and the agent whose folder is `agent`.
    pub fn start(fleet: &Fleet, agent: &Path) -> Result<Self> {
        let (hub, ca) = (&fleet.hub_config, fleet.bundle.ca_certificates[0].clone());
        let between = Arc::new(Between {
            heard: Mutex::default(),
            lose: AtomicBool::default(),
            agent: agent.into(),
            ca,
            address: hub.listen.address.to_string(),
            enrol: channel::open(&hub.listen.enrol.to_string(), client_tls(fleet, None)?),
        });
        let listen = |certified| -> Result<(SocketAddr, Place)> {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            let (routes, mut calls) = raw::routes(&SERVICES);
            let between = Arc::clone(&between);
            tokio::spawn(async move {
                while let Some(call) = calls.recv().await {
                    tokio::spawn(Arc::clone(&between).pass(call));
                }
            });
            Ok((address, Place::take(&hub.data_dir, address, certified, routes)?))
        };
        let ((address, certified), (enrol, anybody)) = (listen(true)?, listen(false)?);
        Ok(Self { address, enrol, between, places: [certified, anybody] })
    }

    /// What has gone by until now.
    pub fn heard(&self) -> Vec<Heard> {
        self.between.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next delivery does not arrive.
    pub fn lose_a_delivery(&self) {
        self.between.lose.store(true, Ordering::Relaxed);
    }

    /// Give the addresses back.
    pub async fn stop(self) {
        for place in self.places {
            place.leave().await;
        }
    }
}

impl Between {
    fn hears(&self, by: Side, method: &str, bytes: &Bytes) {
        let heard = Heard { by, method: method.to_owned(), bytes: bytes.clone() };
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    }

    fn hub(&self, method: &str) -> Result<Channel, Status> {
        if method.starts_with(ENROL.trim_end_matches("/Enrol")) {
            return Ok(self.enrol.clone());
        }
        let tls = stolen_tls(&self.agent, &self.ca).map_err(|error| Status::internal(error.to_string()))?;
        Ok(channel::open(&self.address, tls))
    }

    /// Pass on what both say until one of them ends the call. What is said is kept before the other can answer it.
    async fn pass(self: Arc<Self>, call: Call) {
        let Call { path, mut incoming, out } = call;
        let (up, messages) = mpsc::channel(64);
        let (between, method) = (Arc::clone(&self), path.clone());
        let there = tokio::spawn(async move {
            while let Ok(Some(bytes)) = incoming.message().await {
                between.hears(Side::Agent, &method, &bytes);
                if up.send(bytes).await.is_err() {
                    return;
                }
            }
        });
        let back = async {
            let mut answers = raw::open(&self.hub(&path)?, &path, ReceiverStream::new(messages)).await?;
            while let Some(bytes) = answers.message().await? {
                if self.is_lost(&path, &bytes) {
                    continue;
                }
                self.hears(Side::Hub, &path, &bytes);
                if out.send(Ok(bytes)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(status) = back.await {
            let _: Result<(), _> = out.send(Err(status)).await;
        }
        there.abort();
    }

    fn is_lost(&self, method: &str, bytes: &Bytes) -> bool {
        let delivery = || {
            let message = wire::ConnectResponse::decode(bytes.clone()).ok().and_then(|said| said.message);
            matches!(message, Some(FromHub::Delivery(_)))
        };
        self.lose.load(Ordering::Relaxed) && method == LINK && delivery() && self.lose.swap(false, Ordering::Relaxed)
    }
}
