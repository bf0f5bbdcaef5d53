//! Compiles `proto/berth/v1/*.proto` with `protox`, so that no `protoc` needs to be installed.

use std::path::Path;

const FILES: [&str; 8] = [
    "berth/v1/spec.proto",
    "berth/v1/object.proto",
    "berth/v1/control.proto",
    "berth/v1/dispatcher.proto",
    "berth/v1/node.proto",
    "berth/v1/raft.proto",
    "berth/v1/identity.proto",
    "berth/v1/managers.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, [Path::new("proto")])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
