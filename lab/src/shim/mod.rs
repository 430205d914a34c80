//! Lays an emulated world over real sockets: between what a node does and what the network sees.
//!
//! UDP is delayed where it leaves ([`Shim::socket`]), so that both directions of a link are each
//! delayed once. A TCP stream is delayed in both directions by the one who dials
//! ([`Shim::stream`]), because the other end is a controller, which knows of no emulation.

mod socket;
mod stream;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use longspan_proto::{
    ids::{NodeId, Region},
    time::Time,
};
use quinn::AsyncUdpSocket;
use tokio::net::TcpStream;

pub use socket::{Counts, MAX_WAITING};
pub use stream::{Delayed, MAX_CHUNKS};

use crate::{
    wan::Direction,
    world::{Live, Who},
};

/// One node's place in an emulated world.
#[derive(Debug, Clone)]
pub struct Shim {
    live: Live,
    me: Who,
    began: Instant,
    counts: Arc<Counts>,
}

impl Shim {
    /// For the node `node` in `region`.
    pub fn new(live: Live, node: NodeId, region: Region) -> Shim {
        Shim {
            live,
            me: Who {
                node: Some(node),
                region,
            },
            began: Instant::now(),
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

    fn now(&self) -> Time {
        Time::from_micros(self.began.elapsed().as_micros() as u64)
    }

    fn instant(&self, time: Time) -> Instant {
        self.began + time.saturating_since(Time::ZERO)
    }

    /// Whoever listens at an address that the world does not tell is next door.
    fn who(&self, addr: SocketAddr) -> Who {
        self.live.world().at(addr).unwrap_or_else(|| Who {
            node: None,
            region: self.me.region.clone(),
        })
    }
}

/// A direction that follows the world's changes.
#[derive(Debug)]
struct Lane {
    from: Who,
    to: Who,
    version: u64,
    direction: Direction,
}

impl Lane {
    fn new(shim: &Shim, from: Who, to: Who) -> Lane {
        let version = shim.live.version();
        let world = shim.live.world();
        let (one_way, profile) = world.between(&from, &to);
        let seed = seed(world.seed, &from, &to);
        Lane {
            from,
            to,
            version,
            direction: Direction::new(one_way, profile, seed),
        }
    }

    fn current(&mut self, shim: &Shim) -> &mut Direction {
        let version = shim.live.version();
        if version != self.version {
            self.version = version;
            let (one_way, profile) = shim.live.world().between(&self.from, &self.to);
            self.direction.change(one_way, profile);
        }
        &mut self.direction
    }
}

/// FNV-1a over both names: every direction draws its own numbers, the same ones in every run.
fn seed(world: u64, from: &Who, to: &Who) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ world;
    for who in [from, to] {
        let node = who.node.as_ref().map_or("", |node| node.as_str());
        for byte in who.region.bytes().chain([0]).chain(node.bytes()).chain([1]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
