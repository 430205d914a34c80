//! Between the hosts: a reader takes what leaves one of them, its lanes decide, and what shall
//! arrive waits in the queue of the other.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use longspan_proto::ids::{Net, NodeId};
use tun_rs::SyncDevice;

use super::{MTU, packet::Header};
use crate::{
    delay::{Began, Queue, Refused},
    wan::Verdict,
    world::{Followed, Live, Who},
};

/// Packets on their way to one host.
pub type Arriving = Queue<Box<[u8]>>;

/// What has left one host.
#[derive(Debug, Default)]
pub struct Carried {
    lanes: Mutex<HashMap<Ipv4Addr, Lane>>,
    /// Nobody has the destination, or it was no IPv4 packet.
    pub astray: AtomicU64,
    /// More than [`MAX_WAITING`](crate::shim::MAX_WAITING) bytes were on their way to one host.
    pub overflowed: AtomicU64,
}

#[derive(Debug)]
pub struct Lane {
    pub to: NodeId,
    pub net: Net,
    pub lane: Followed,
}

impl Carried {
    pub fn lanes(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has an address.
#[derive(Debug)]
pub struct Target {
    pub who: Who,
    pub name: NodeId,
    pub net: Net,
    pub queue: Arc<Arriving>,
}

/// Takes what leaves one host.
pub struct Reader {
    pub who: Who,
    pub live: Live,
    pub began: Began,
    pub everybody: Arc<HashMap<Ipv4Addr, Target>>,
    pub carried: Arc<Carried>,
}

impl Reader {
    /// Until the device is gone.
    pub fn run(&self, device: &SyncDevice) {
        let mut buffer = vec![0; MTU];
        loop {
            match device.recv(&mut buffer) {
                Ok(length) => self.carry(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn carry(&self, packet: &[u8]) {
        let now = self.began.time();
        let header = Header::parse(packet);
        let target = header.and_then(|header| Some((header, self.everybody.get(&header.to)?)));
        let Some((header, target)) = target else {
            self.carried.astray.fetch_add(1, Relaxed);
            return;
        };
        let mut lanes = self.carried.lanes();
        let lane = lanes.entry(header.to).or_insert_with(|| Lane {
            to: target.name.clone(),
            net: target.net.clone(),
            lane: self
                .live
                .follow(self.who.clone(), target.who.clone(), target.net.clone()),
        });
        let verdict = lane.lane.send(now, header.payload);
        drop(lanes);
        if let Verdict::Deliver(at) = verdict
            && target.queue.push(at, packet.len(), packet.into()) == Err(Refused::Full)
        {
            self.carried.overflowed.fetch_add(1, Relaxed);
        }
    }
}
