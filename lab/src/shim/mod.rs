//! Lays an emulated world over real sockets: between what a node does and what the network sees.
//!
//! UDP is delayed where it leaves ([`Shim::socket`]), so that both directions of a link are each
//! delayed once. A TCP stream is delayed in both directions by the one who dials
//! ([`Shim::stream`]), because the other end is a controller, which knows of no emulation.

mod socket;
mod stream;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use longspan_proto::ids::{Net, NodeId, Region};
use quinn::AsyncUdpSocket;
use tokio::net::TcpStream;

pub use socket::Counts;
pub use stream::{Delayed, MAX_CHUNKS};

pub use crate::delay::MAX_WAITING;
use crate::{
    delay::Began,
    world::{Live, Who},
};

/// One node's place in an emulated world.
#[derive(Debug, Clone)]
pub struct Shim {
    live: Live,
    me: Who,
    began: Began,
    counts: Arc<Counts>,
}

impl Shim {
    /// For the node `node` in `region`.
    pub fn new(live: Live, node: NodeId, region: Region) -> Shim {
        let placed = live
            .world()
            .nodes
            .get(&node)
            .map(|placed| placed.who(&node));
        let me = placed.unwrap_or_else(|| Who {
            node: Some(node),
            ..Who::in_region(region)
        });
        Shim {
            live,
            me,
            began: Began::now(),
            counts: Arc::default(),
        }
    }

    /// A socket over `inner` whose datagrams leave it as late as the world says, or never.
    pub fn socket(&self, inner: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(socket::Socket::new(self.clone(), inner))
    }

    /// A stream over `inner` in which every byte travels as long as the world says. Losses cost
    /// nothing in it: it stands for a TCP that repairs at once.
    pub fn stream(&self, inner: TcpStream) -> Delayed {
        stream::delay(self.clone(), inner)
    }

    /// What happened to datagrams so far.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Whoever listens at an address that the world does not tell is next door.
    fn who(&self, addr: SocketAddr) -> (Who, Net) {
        self.live.world().at(addr).unwrap_or_else(|| {
            let next_door = Who {
                node: None,
                ..self.me.clone()
            };
            (next_door, Net::internet())
        })
    }
}
