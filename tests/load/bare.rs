//! The bare signed stream, which the hub is compared with: a tonic server that holds one bidirectional stream over mutual
//! TLS 1.3 (P-256) for each client, sends 1 KiB messages and gets as many back, with one Ed25519 signature and one
//! verification each way. It keeps nothing. tonic's and prost's own defaults throughout.
//!
//! The server is a process of its own (`sfdata-load bare-server`) that drives the exchange itself, since nothing
//! stands between whoever orders and the stream. It is told what to do on stdin, a line each, and answers on stdout.

pub(crate) mod client;
pub(crate) mod server;

use bytes::Bytes;
use sfdata_common::keys::{PublicKey, SigningKey};

/// What both ends know: the payload of every message.
pub(crate) const PAYLOAD_BYTES: usize = 1024;

/// One message, either way.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Signed {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    signature: Bytes,
}

impl Signed {
    fn new(payload: &Bytes, key: &SigningKey) -> Self {
        Self { payload: payload.clone(), signature: key.sign(payload).into() }
    }

    fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&self.payload, &self.signature)
    }
}
