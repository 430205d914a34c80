//! The QUIC driver: one endpoint, and for each neighbour one connection with its tasks.
//!
//! * [`limits`]: every number of the transport.
//! * `endpoint`: the socket and its configuration.
//! * `accept`, `dial`: how connections come about; `hello`: what is said first.
//! * `peer`: one connection's life; `read`, `write`: its streams.

mod accept;
mod dial;
mod endpoint;
mod hello;
pub mod limits;
mod peer;
mod read;
mod refusal;
mod write;

pub(crate) use accept::accept;
pub(crate) use dial::{jittered, keep_neighbours};
pub(crate) use endpoint::{Endpoint, bind};
pub(crate) use peer::{close_all, say_goodbye};
