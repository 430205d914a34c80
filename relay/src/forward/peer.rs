//! A connected neighbour: what is asked of it, what it asks, and what waits to be sent to it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use longspan_proto::{
    ids::NodeId,
    time::Time,
    wire::{Priority, Role},
};
use longspan_topology::link::Life;

use super::{StreamKey, Trouble, receiver, track};

/// Dead entries a queue may hold beyond two for each receiver before it is swept.
const SWEEP_SLACK: usize = 64;

/// A group's stream coming from the peer.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) track: track::Key,
    /// Which of our subscriptions it answers.
    pub(super) sub: u64,
    pub(super) group: u64,
    /// The number of the next frame on it.
    pub(super) next: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) role: Role,
    pub(super) rtt: Option<Duration>,
    /// What the link's prober says.
    pub(super) life: Life,
    /// Why it is not `Up`, and since when.
    pub(super) trouble: Option<(Trouble, Time)>,
    /// How much more the link costs than the route table knows, in µs.
    pub(super) extra_us: u64,
    /// What goes to it now, in bit/s …
    pub(super) sent_bps: u64,
    /// … and what the link to it carries; 0: not known.
    pub(super) capacity_bps: u64,
    /// It said that it will close.
    pub(super) leaving: bool,
    /// The number of our next subscription to it; all below were used.
    pub(super) next_sub: u64,
    /// Our subscriptions to it. Ordered, as the next: a run is repeated exactly from its inputs.
    pub(super) asked: BTreeMap<u64, track::Key>,
    /// Its subscriptions to us.
    pub(super) serving: BTreeMap<u64, receiver::Key>,
    pub(super) incoming: HashMap<StreamKey, Incoming>,
    next_stream: u64,
    /// Streams to be reset, before anything else.
    pub(super) resets: VecDeque<StreamKey>,
    /// Receivers with something to send, by the class of their next frame; each at most once in
    /// each queue (its `present` bits).
    queues: [VecDeque<receiver::Key>; 4],
    /// `Ready` was said and the peer was not found empty since.
    pub(super) ready_said: bool,
}

impl Peer {
    pub(super) fn new(node: NodeId, role: Role) -> Peer {
        Peer {
            node,
            role,
            rtt: None,
            life: Life::Up,
            trouble: None,
            extra_us: 0,
            sent_bps: 0,
            capacity_bps: 0,
            leaving: false,
            next_sub: 0,
            asked: BTreeMap::new(),
            serving: BTreeMap::new(),
            incoming: HashMap::new(),
            next_stream: 0,
            resets: VecDeque::new(),
            queues: Default::default(),
            ready_said: false,
        }
    }

    /// New tracks avoid it, old ones leave it.
    pub(super) fn avoided(&self) -> bool {
        self.life != Life::Up || self.leaving
    }

    pub(super) fn open_stream(&mut self) -> StreamKey {
        let key = StreamKey(self.next_stream);
        self.next_stream += 1;
        key
    }

    /// Queues a receiver; whether `Ready` is to be said.
    pub(super) fn enqueue(
        &mut self,
        key: receiver::Key,
        queued: &mut receiver::Queued,
        class: Priority,
    ) -> bool {
        if queued.enter(class) {
            self.queues[class as usize].push_back(key);
        }
        !std::mem::replace(&mut self.ready_said, true)
    }

    /// The next receiver to serve and the class it was queued in; it is in that queue no more.
    pub(super) fn dequeue(&mut self) -> Option<(receiver::Key, Priority)> {
        const CLASSES: [Priority; 4] = [
            Priority::Realtime,
            Priority::State,
            Priority::VideoKey,
            Priority::VideoDelta,
        ];
        CLASSES
            .into_iter()
            .find_map(|class| Some((self.queues[class as usize].pop_front()?, class)))
    }

    /// Entries in all queues.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Sweeps out receivers that are gone, once they are many: a peer that subscribes and leaves
    /// without ever taking anything grows nothing.
    pub(super) fn sweep(&mut self, alive: impl Fn(receiver::Key) -> bool) {
        let bound = 2 * self.serving.len() + SWEEP_SLACK;
        for queue in &mut self.queues {
            if queue.len() > bound {
                queue.retain(|key| alive(*key));
            }
        }
    }
}
