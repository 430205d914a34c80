//! The words Longspan's nodes exchange.
//!
//! * [`ids`]: names and numbers that identify things (nodes, rooms, tracks, positions).
//! * [`wire`]: the binary format between nodes; `proto/WIRE.md` is normative.
//! * [`time`]: the clock values the pure cores take as arguments.
//! * [`control`]: the gRPC services between nodes and controllers, from `proto/control.proto`.
//!
//! Nothing here opens a socket or reads a clock.

pub mod ids;
pub mod time;
pub mod wire;

/// The gRPC metadata in which a controller that does not lead names the URL of the one that does;
/// it comes with UNAVAILABLE.
pub const LEADER_METADATA: &str = "longspan-leader";

/// The gRPC services between nodes and controllers (generated from `proto/control.proto`).
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code; its documentation stands in control.proto"
)]
pub mod control {
    tonic::include_proto!("longspan.control.v1");
}
