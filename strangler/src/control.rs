//! `strangler.v1.Control`: how a controller asks the target, over gRPC.

mod client;
mod server;

/// The service as generated.
#[expect(missing_docs, reason = "documented in the .proto file; tonic does not document each item")]
pub mod v1 {
    tonic::include_proto!("strangler.v1");
}

pub use client::Client;
pub use server::{Server, serve};
pub use v1::control_server::ControlServer;

/// The descriptors of `strangler.v1`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
