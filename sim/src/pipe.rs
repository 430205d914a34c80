//! One direction of a connection: what QUIC does with what it is given, as far as forwarding can
//! tell. It stands for quinn.
//!
//! * What is sent on a lane (the control stream is one, each group's stream another) arrives in
//!   order; lanes overtake one another. An item larger than a packet is several packets, and has
//!   arrived with the last of them.
//! * A lost packet delays its lane: it is sent again after 9/8 of a round trip and 25 ms (RFC 9002
//!   §6.1.2's time threshold and the acknowledgement's delay); again, twice as long after each loss
//!   (as probe timeouts, §6.2.1). In place of a congestion window the sender sees what waits in front
//!   of the link's bottleneck, and asks its core for more only while that is little.
//! * A reset stream's packets in flight are worth nothing to the receiver.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use longspan_proto::{
    time::Time,
    wire::{Frame, GroupHeader, Message, Stamp},
};
use longspan_relay::forward::StreamKey;

/// The most in one packet.
pub const PACKET: usize = 1_200;
/// Bytes of a group's header, an end, a control message.
pub const SMALL: usize = 40;
/// What IP, UDP and QUIC add to a packet.
pub const OVERHEAD: usize = 60;
/// How much may wait in front of the bottleneck before a core is asked for more.
pub const UNSENT: Duration = Duration::from_millis(5);
/// How long a receiver waits before it acknowledges (RFC 9000 §18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);
/// Losses in a row after which the wait doubles no more.
const MOST_DOUBLINGS: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    Control,
    Group(StreamKey),
}

#[derive(Debug)]
pub enum Item {
    Control(Message),
    Open(GroupHeader),
    Frame(Frame, Stamp),
    Finish,
    Reset,
}

/// An item on its way.
#[derive(Debug)]
pub struct Carried {
    pub lane: Lane,
    pub n: u32,
    pub item: Item,
    /// Bytes not yet under way.
    pub lost: usize,
    /// When the last of its other packets arrives.
    pub latest: Time,
    pub losses: u32,
}

#[derive(Debug, Default)]
struct Order {
    sent: u32,
    taken: u32,
    early: BTreeMap<u32, Item>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Pipe {
    lanes: HashMap<Lane, Order>,
    pub pulling: bool,
    /// Streams the sender reset: what is in flight of them is lost.
    reset: BTreeSet<StreamKey>,
    /// Streams the receiver has open.
    pub open: BTreeSet<StreamKey>,
    /// Streams the sender has open, with their subscription.
    pub sent: HashMap<StreamKey, u64>,
}

impl Pipe {
    /// Gives the item its place in its lane.
    pub fn number(&mut self, lane: Lane) -> u32 {
        let order = self.lanes.entry(lane).or_default();
        order.sent += 1;
        order.sent - 1
    }

    /// The sender gave a stream up.
    pub fn forget(&mut self, stream: StreamKey) {
        self.sent.remove(&stream);
        self.reset.insert(stream);
    }

    /// An item arrived: the item, if it is its lane's turn; [`next`](Pipe::next) gives what waited for it.
    pub fn arrived(&mut self, lane: Lane, n: u32, item: Item) -> Option<Item> {
        if let Lane::Group(stream) = lane
            && self.reset.contains(&stream)
        {
            // The reset itself overtakes what is worth nothing.
            self.lanes.remove(&lane);
            return matches!(item, Item::Reset).then_some(item);
        }
        let order = self.lanes.entry(lane).or_default();
        if n != order.taken {
            order.early.insert(n, item);
            return None;
        }
        order.taken += 1;
        if matches!(item, Item::Finish) {
            self.lanes.remove(&lane);
        }
        Some(item)
    }

    /// The next item of a lane, if it has arrived.
    pub fn next(&mut self, lane: Lane) -> Option<Item> {
        let order = self.lanes.get_mut(&lane)?;
        let item = order.early.remove(&order.taken)?;
        order.taken += 1;
        if matches!(item, Item::Finish) {
            self.lanes.remove(&lane);
        }
        Some(item)
    }
}

/// How long after a loss the packet is sent again.
pub fn resend_after(rtt: Duration, losses: u32) -> Duration {
    (rtt * 9 / 8 + ACK_DELAY) * (1 << losses.min(MOST_DOUBLINGS))
}
