//! What crosses connections: control messages, groups, frames. It stands for `relay/src/quic`'s
//! readers and writers.

use longspan_lab::wan::Verdict;
use longspan_proto::{time::Time, wire::Stamp};
use longspan_relay::forward::{Input, PeerKey, Transmit};

use crate::{
    pipe::{Carried, Item, Lane, OVERHEAD, PACKET, SMALL, UNSENT, resend_after},
    world::{Event, World},
};

impl World {
    /// Gives a peer's connection something to carry.
    pub(crate) fn send(&mut self, node: usize, peer: PeerKey, lane: Lane, size: usize, item: Item) {
        let Some((id, side)) = self.nodes[node].peers.get(&peer).copied() else {
            return;
        };
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let n = conn.pipes[usize::from(side)].number(lane);
        if let (Lane::Group(_), Item::Frame(..)) = (lane, &item) {
            conn.halves[usize::from(side)].carried = Some(now);
        }
        let carried = Carried {
            lane,
            n,
            item,
            lost: size,
            latest: now,
            losses: 0,
        };
        self.put(id, side.into(), Box::new(carried));
    }

    /// Puts what is not under way of an item on the link.
    fn put(&mut self, id: u32, side: usize, mut carried: Box<Carried>) {
        let now = self.now;
        let Some(conn) = self.conns[id as usize].as_deref() else {
            return;
        };
        let link = conn.link;
        let state = &mut self.links[link];
        let class = usize::from(carried.lane == Lane::Control);
        let mut left = carried.lost;
        carried.lost = 0;
        while left > 0 {
            let bytes = left.min(PACKET);
            left -= bytes;
            state.bytes[side][class] += (bytes + OVERHEAD) as u64;
            match state.directions[side].send(now, bytes + OVERHEAD) {
                Verdict::Deliver(at) => carried.latest = carried.latest.max(at),
                Verdict::Drop(_) => carried.lost += bytes,
            }
        }
        if carried.lost == 0 {
            let at = carried.latest;
            self.schedule(at, Event::Arrive(id, side as u8, carried));
        } else {
            let wait = resend_after(self.rtt(link), carried.losses);
            carried.losses += 1;
            self.after(wait, Event::Resend(id, side as u8, carried));
        }
    }

    pub(crate) fn resend(&mut self, id: u32, side: usize, carried: Box<Carried>) {
        let Some(conn) = self.conns[id as usize].as_deref() else {
            return;
        };
        let half = &conn.halves[side];
        let node = &self.nodes[half.node];
        if half.boot != node.boot || node.core.is_none() || half.stage == crate::conn::Stage::Shut {
            return;
        }
        self.put(id, side, carried);
    }

    /// An item of `from`'s has arrived at the other end.
    pub(crate) fn arrive(&mut self, id: u32, from: usize, mut carried: Carried) {
        let side = 1 - from;
        if !self.takes(id, side) {
            self.refuse(id, side);
            // Not acknowledged: all of it is sent again, if its sender still can.
            if self.conns[id as usize].is_some() {
                carried.lost = SMALL;
                let link = self.conns[id as usize]
                    .as_deref()
                    .map_or(0, |conn| conn.link);
                let wait = resend_after(self.rtt(link), carried.losses);
                carried.losses += 1;
                self.after(wait, Event::Resend(id, from as u8, Box::new(carried)));
            }
            return;
        }
        self.heard(id, side);
        let Some(conn) = self.conn(id) else { return };
        let lane = carried.lane;
        let mut next = conn.pipes[from].arrived(lane, carried.n, carried.item);
        while let Some(item) = next {
            self.take(id, side, lane, item);
            next = self.conn(id).and_then(|conn| conn.pipes[from].next(lane));
        }
    }

    fn take(&mut self, id: u32, side: usize, lane: Lane, item: Item) {
        // What came before may have ended the connection.
        if !self.takes(id, side) {
            return;
        }
        let now = self.now;
        let Some(conn) = self.conns[id as usize].as_deref_mut() else {
            return;
        };
        let half = &mut conn.halves[side];
        let (node, peer) = (half.node, half.peer);
        let open = &mut conn.pipes[1 - side].open;
        let input = match (lane, item) {
            (Lane::Control, Item::Control(message)) => Input::Control { peer, message },
            (Lane::Group(stream), Item::Open(header)) => {
                open.insert(stream);
                Input::GroupOpened {
                    peer,
                    stream,
                    header,
                }
            }
            (Lane::Group(stream), Item::Frame(frame, stamp)) => {
                let carries = half.carried.replace(now).is_none();
                let local = self.nodes[node].clock.shows(now);
                let age_us = age(
                    local,
                    stamp,
                    half.prober.as_ref().and_then(|p| p.baseline()),
                );
                if carries {
                    self.need(id, side);
                    self.beat(id, side);
                }
                Input::Frame {
                    peer,
                    stream,
                    frame,
                    age_us,
                }
            }
            (Lane::Group(stream), Item::Finish) => {
                open.remove(&stream);
                Input::GroupFinished { peer, stream }
            }
            (Lane::Group(stream), Item::Reset) => {
                if !open.remove(&stream) {
                    return;
                }
                Input::GroupReset { peer, stream }
            }
            (lane, item) => panic!("{item:?} on {lane:?}"),
        };
        self.input(node, input);
    }

    pub(crate) fn pull_due(&mut self, id: u32, side: usize) {
        if let Some(conn) = self.conn(id) {
            conn.pipes[side].pulling = false;
            self.pull(id, side);
        }
    }

    /// Takes from the core what a connection has room for.
    pub(crate) fn pull(&mut self, id: u32, side: usize) {
        if !self.takes(id, side) {
            let node = self.conns[id as usize]
                .as_deref()
                .map(|c| c.halves[side].node);
            if let Some(node) = node.filter(|node| self.nodes[*node].stopped) {
                self.nodes[node].held.push(Event::Pull(id, side as u8));
            }
            return;
        }
        let now = self.now;
        loop {
            let Some(conn) = self.conns[id as usize].as_deref_mut() else {
                return;
            };
            let half = &mut conn.halves[side];
            let (node, peer) = (half.node, half.peer);
            let pipe = &mut conn.pipes[side];
            let waits = self.links[conn.link].directions[side].waits(now);
            if waits > UNSENT {
                let at = now + waits - UNSENT / 2;
                if !std::mem::replace(&mut pipe.pulling, true) {
                    self.schedule(at, Event::Pull(id, side as u8));
                }
                break;
            }
            let state = &mut self.nodes[node];
            let local = state.clock.shows(now);
            let core = state.core.as_mut();
            let transmit = core.and_then(|core| core.poll_transmit(local, peer));
            let (stream, size, item) = match transmit {
                None => break,
                Some(Transmit::Open { stream, header, .. }) => {
                    pipe.sent.insert(stream, header.subscription);
                    let open = pipe.sent.values().filter(|s| **s == header.subscription);
                    self.laws.open_sends(open.count());
                    (stream, SMALL, Item::Open(header))
                }
                Some(Transmit::Frame {
                    stream,
                    frame,
                    age_us,
                }) => {
                    if half.carried.replace(now).is_none() {
                        self.need(id, side);
                        self.beat(id, side);
                    }
                    let size = frame.payload.len() + SMALL;
                    (stream, size, Item::Frame(frame, Stamp::new(local, age_us)))
                }
                Some(Transmit::Finish { stream }) => {
                    pipe.sent.remove(&stream);
                    (stream, SMALL, Item::Finish)
                }
                Some(Transmit::Reset { stream }) => {
                    pipe.forget(stream);
                    (stream, SMALL, Item::Reset)
                }
            };
            self.send(node, peer, Lane::Group(stream), size, item);
        }
        if let Some(conn) = self.conns[id as usize].as_deref() {
            let node = conn.halves[side].node;
            // Taking may itself have asked for something.
            self.drain(node);
        }
    }
}

/// How old a frame is now, in µs: `relay/src/peers.rs`'s `Peer::age`.
fn age(now: Time, stamp: Stamp, base: Option<longspan_topology::link::Baseline>) -> u64 {
    let Some(base) = base else { return 0 };
    let beyond = stamp.raw_difference(now, base.raw_us) - base.raw_us;
    beyond.max(0) as u64 + base.rtt_us / 2
}
