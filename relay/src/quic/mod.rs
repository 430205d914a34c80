//! The QUIC driver: one endpoint, and for each neighbour one connection with its tasks.
//!
//! * [`limits`]: every number of the transport.
//! * `endpoint`: the socket; [`transport`]: what QUIC is told; `controller`: our congestion
//!   controller as QUIC sees it.
//! * `accept`, `dial`: how connections come about; `hello`: what is said first.
//! * `peer`: one connection's life; `read`, `write`: its streams; `waiting`: what QUIC has not taken.
//! * `packets`: what members of placement groups say to each other.

mod accept;
mod controller;
mod dial;
mod endpoint;
mod hello;
pub mod limits;
pub(crate) mod packets;
mod peer;
mod read;
mod refusal;
pub mod transport;
mod waiting;
mod write;

pub(crate) use accept::accept;
pub(crate) use dial::{jittered, keep_neighbours};
pub(crate) use endpoint::{Endpoint, bind};
pub(crate) use peer::{close_all, say_goodbye};
