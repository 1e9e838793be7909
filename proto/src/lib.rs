//! Messages and services of `proto/sfdata/v1`, generated at build time. No logic lives here.

mod codec;

/// Version 1 of the wire.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::unwrap_used)]
    tonic::include_proto!("sfdata.v1");

    /// Encoded `FileDescriptorSet` of this package, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
