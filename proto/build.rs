//! Compiles the .proto files with protox, so that no protoc is needed; the same descriptors feed reflection.

use std::path::PathBuf;

use prost::Message as _;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "envelope",
        "command",
        "ecs",
        "images",
        "aurora",
        "s3",
        "logs",
        "dagster",
        "arrivals",
        "power",
        "sealed",
        "trust",
        "enrol",
        "alerts",
        "link",
        "report",
        "usage",
        "history",
        "operator",
        "proposals",
    ]
    .map(|name| format!("sfdata/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false) // callers bring a channel with mutual TLS
        .codec_path("crate::codec::Small")
        .bytes(".")
        .boxed(".sfdata.v1.ConnectRequest.message.health")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=sfdata");
    Ok(())
}
