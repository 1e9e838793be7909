//! A gRPC channel over mutual TLS that always connects with the newest identity.
//!
//! The TLS configuration is loaded at each connect, so that a renewed certificate is used from the next
//! connection on, without a new channel.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::limits;

/// A client's TLS configuration that can be exchanged while channels use it.
pub type SharedTls = Arc<ArcSwap<ClientConfig>>;

/// A channel to `address` (`host:port`); it connects when first used, and again when the connection is lost.
pub fn open(address: &str, tls: SharedTls) -> Channel {
    let address: Arc<str> = address.into();
    Endpoint::from_static("http://sfdata-hub")
        .connect_timeout(limits::HANDSHAKE_TIMEOUT)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_| {
            let (address, tls) = (Arc::clone(&address), tls.load_full());
            async move { connect(&address, tls).await.map(TokioIo::new) }
        }))
}

async fn connect(address: &str, tls: Arc<ClientConfig>) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot reach {address}: {error}")))?;
    tcp.set_nodelay(true)?;
    // The hub is known by its SPIFFE name; the server name is a constant that gives nothing away.
    let name = ServerName::try_from("sfdata-hub").map_err(io::Error::other)?;
    TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("no TLS with {address}: {error}")))
}
