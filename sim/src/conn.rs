//! Connections: made, lost, made again. It stands for `relay/src/quic` (handshake, redialing, which
//! of two connections stays).

use std::time::Duration;

use longspan_lab::wan::Verdict;
use longspan_proto::{ids::BootId, time::Time, wire::Role};
use longspan_relay::{
    forward::{Input, PeerKey},
    quic::limits,
};
use longspan_topology::link::{Life, Prober, drift::Drift};

use crate::{
    pipe::{OVERHEAD, Pipe},
    world::{Event, Tables, World},
};

/// Bytes of a handshake's flight that matter, padded (RFC 9000 §14.1).
const HELLO: usize = 1_200;
/// The first wait for an answer where no round trip is known: three times the initial 333 ms
/// (RFC 9002 §6.2.2).
const HELLO_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Dialing,
    Open,
    Shut,
}

/// One end of a connection.
pub struct Half {
    pub node: usize,
    /// The boot that holds it.
    pub boot: u64,
    pub stage: Stage,
    pub peer: PeerKey,
    pub prober: Option<Prober>,
    /// When its prober is woken.
    pub beat: Option<Time>,
    pub drift: Drift,
    pub told_cost_us: u64,
    pub looked: Time,
    /// When a frame last crossed.
    pub carried: Option<Time>,
    pub heard: Time,
    pub opened: Time,
    pub told_rtt: Time,
    /// Packets that arrived, probes not counted.
    pub packets: u64,
}

/// A connection; side 0 is the link's `a`.
pub struct Conn {
    pub link: usize,
    pub dialer: usize,
    pub halves: [Half; 2],
    /// From each side.
    pub pipes: [Pipe; 2],
}

impl World {
    pub(crate) fn conn(&mut self, conn: u32) -> Option<&mut Conn> {
        self.conns[conn as usize].as_deref_mut()
    }

    /// Which end dials: an edge always; of two relays the lower name.
    fn dialer(&self, link: usize) -> usize {
        let link = &self.layout.links[link];
        let (a, b) = (&self.layout.nodes[link.a], &self.layout.nodes[link.b]);
        match (a.role, b.role) {
            (Role::Edge, _) => 0,
            (_, Role::Edge) => 1,
            _ => usize::from(a.name > b.name),
        }
    }

    pub(crate) fn dialing_node(&self, link: usize) -> usize {
        self.end(link, self.dialer(link))
    }

    pub(crate) fn end(&self, link: usize, side: usize) -> usize {
        let link = &self.layout.links[link];
        if side == 0 { link.a } else { link.b }
    }

    /// Dials whomever it should be connected to and is not.
    pub(crate) fn dial_wanted(&mut self, node: usize) {
        for at in 0..self.links_of[node].len() {
            let link = self.links_of[node][at];
            if self.dialing_node(link) == node && self.wants(node, link) {
                self.dial_soon(link, Duration::ZERO);
            }
        }
    }

    fn wants(&self, node: usize, link: usize) -> bool {
        let other = self.end(link, 1 - self.dialer(link));
        match self.setup.tables {
            Tables::ByHand => true,
            Tables::Controllers(_) => self.nodes[node].wanted.contains(&other),
        }
    }

    pub(crate) fn dial_soon(&mut self, link: usize, wait: Duration) {
        let state = &mut self.links[link];
        if state.dialing.is_none() && !std::mem::replace(&mut state.dial_due, true) {
            self.after(wait, Event::Dial(link as u32));
        }
    }

    /// Whether an end has a connection that is not down.
    pub(crate) fn is_up(&self, link: usize, side: usize) -> bool {
        let conn = self.links[link].conns[side].and_then(|id| self.conns[id as usize].as_deref());
        conn.is_some_and(|conn| {
            let prober = conn.halves[side].prober.as_ref();
            prober.is_some_and(|prober| prober.life() != Life::Down)
        })
    }

    fn redial(&mut self, link: usize) {
        let dialer = self.dialer(link);
        let state = &mut self.links[link];
        let most = match state.conns[dialer] {
            Some(_) => limits::REDIAL_BESIDE_MAX,
            None => limits::REDIAL_MAX,
        };
        state.redial = (state.redial * 2)
            .clamp(limits::REDIAL_FIRST, limits::REDIAL_MAX)
            .min(most);
        let pause = state.redial;
        // Between half of it and all of it.
        let jittered = pause / 2 + pause * self.dice.below(1_000) as u32 / 2_000;
        self.dial_soon(link, jittered);
    }

    pub(crate) fn dial(&mut self, link: usize) {
        self.links[link].dial_due = false;
        let dialer = self.dialer(link);
        let node = self.end(link, dialer);
        if !self.alive(node) || self.is_up(link, dialer) || !self.wants(node, link) {
            return;
        }
        let beside = self.links[link].conns[dialer].is_some();
        let half = |side: usize| {
            let node = self.end(link, side);
            Half {
                node,
                boot: self.nodes[node].boot,
                stage: Stage::Dialing,
                peer: PeerKey(0),
                prober: None,
                beat: None,
                drift: Drift::default(),
                told_cost_us: 0,
                looked: Time::ZERO,
                carried: None,
                heard: self.now,
                opened: self.now,
                told_rtt: self.now,
                packets: 0,
            }
        };
        let conn = Conn {
            link,
            dialer,
            halves: [half(0), half(1)],
            pipes: Default::default(),
        };
        let id = self.conns.len() as u32;
        self.conns.push(Some(Box::new(conn)));
        self.links[link].dialing = Some(id);
        self.after(limits::DIAL_PATIENCE, Event::Late(id, false));
        // Beside a connection that is down the handshake's own timers back off too.
        let patience = match beside {
            true => limits::DIAL_PATIENCE,
            false => limits::HANDSHAKE,
        };
        self.after(patience, Event::Late(id, true));
        self.leg(id, 0, 0);
    }

    /// Sends a leg of the handshake, until the next one is under way: first flight, answer, hello,
    /// hello. Each is one packet here.
    pub(crate) fn leg(&mut self, id: u32, leg: u8, attempt: u8) {
        let Some(conn) = &self.conns[id as usize] else {
            return;
        };
        let side = match leg % 2 {
            0 => conn.dialer,
            _ => 1 - conn.dialer,
        };
        let half = &conn.halves[side];
        let (node, boot, link) = (half.node, half.boot, conn.link);
        if half.stage == Stage::Shut || self.nodes[node].boot != boot || !self.alive(node) {
            return;
        }
        let arrives = match self.nodes[node].stopped {
            true => None,
            false => self.packet(link, side, HELLO, 1),
        };
        match arrives {
            Some(at) => self.schedule(at, Event::Hello(id, leg)),
            None => {
                let wait = HELLO_AGAIN * (1 << attempt.min(3));
                self.after(wait, Event::Leg(id, leg, attempt + 1));
            }
        }
    }

    /// A leg has arrived.
    pub(crate) fn hello(&mut self, id: u32, leg: u8) {
        let Some(conn) = &self.conns[id as usize] else {
            return;
        };
        let to = match leg % 2 {
            0 => 1 - conn.dialer,
            _ => conn.dialer,
        };
        let half = &conn.halves[to];
        let node = half.node;
        let from = &conn.halves[1 - to];
        let from_gone = from.stage == Stage::Shut || self.nodes[from.node].boot != from.boot;
        if !self.alive(node) || self.nodes[node].stopped {
            // Lost; whoever sent it sends it again.
            if !from_gone {
                self.after(HELLO_AGAIN, Event::Leg(id, leg, 1));
            }
            return;
        }
        if leg == 0 {
            // The acceptor learns of it only now: its boot is the one that answers.
            let boot = self.nodes[node].boot;
            if let Some(conn) = self.conn(id) {
                conn.halves[to].boot = boot;
            }
        } else if half.boot != self.nodes[node].boot {
            return;
        }
        if leg >= 2 {
            self.open(id, to);
        }
        if leg < 3 {
            self.leg(id, leg + 1, 0);
        }
    }

    pub(crate) fn late(&mut self, id: u32, over: bool) {
        let Some(conn) = &self.conns[id as usize] else {
            return;
        };
        let (link, dialer) = (conn.link, conn.dialer);
        if conn.halves[dialer].stage != Stage::Dialing || self.links[link].dialing != Some(id) {
            return;
        }
        self.links[link].unreachable = true;
        let node = self.end(link, dialer);
        if over {
            self.links[link].dialing = None;
            self.close(id, dialer, true);
            if self.alive(node) && self.wants(node, link) {
                self.redial(link);
            }
        }
        self.neighbours_changed(node);
    }

    fn open(&mut self, id: u32, side: usize) {
        let now = self.now;
        let Some(conn) = self.conns[id as usize].as_deref() else {
            return;
        };
        if conn.halves[side].stage != Stage::Dialing {
            return;
        }
        let (link, dialer) = (conn.link, conn.dialer);
        let (node, other) = (conn.halves[side].node, conn.halves[1 - side].node);
        let boots = [conn.halves[side].boot, conn.halves[1 - side].boot];
        let state = &mut self.nodes[node];
        state.next_peer += 1;
        let peer = PeerKey(state.next_peer);
        state.peers.insert(peer, (id, side as u8));
        let local = state.clock.shows(now);
        let cadence = self.setup.cadence;
        let boot = |node: usize, boot: u64| BootId(((node as u64) << 32) | boot);
        let prober = Prober::new(local, boot(node, boots[0]), boot(other, boots[1]), cadence);
        let Some(conn) = self.conn(id) else { return };
        let half = &mut conn.halves[side];
        half.stage = Stage::Open;
        half.peer = peer;
        half.opened = now;
        half.heard = now;
        half.told_rtt = now;
        half.prober = Some(prober);
        let state = &mut self.links[link];
        if side == dialer {
            state.dialing = None;
            state.unreachable = false;
        }
        let before = state.conns[side].replace(id);
        let (role, name) = {
            let other = &self.layout.nodes[other];
            (other.role, other.name.clone())
        };
        self.log(format_args!(
            "{} is connected to {name}",
            self.layout.name(node)
        ));
        let input = Input::PeerUp {
            peer,
            node: name,
            role,
        };
        self.input(node, input);
        if let Some(before) = before {
            // A newer connection took over.
            self.close(before, side, true);
        }
        self.after(limits::IDLE, Event::Idle(id, side as u8));
        self.need(id, side);
        self.beat(id, side);
        self.neighbours_changed(node);
    }

    /// One end closes, and says so once if `tell`.
    pub(crate) fn close(&mut self, id: u32, side: usize, tell: bool) {
        let Some(conn) = self.conns[id as usize].as_deref_mut() else {
            return;
        };
        let (link, dialer) = (conn.link, conn.dialer);
        let half = &mut conn.halves[side];
        let stage = std::mem::replace(&mut half.stage, Stage::Shut);
        let (node, boot, peer, opened) = (half.node, half.boot, half.peer, half.opened);
        half.prober = None;
        let both = conn.halves[1 - side].stage == Stage::Shut;
        if stage == Stage::Shut {
            return;
        }
        let is_here = self.nodes[node].boot == boot && self.alive(node);
        if self.links[link].conns[side] == Some(id) {
            self.links[link].conns[side] = None;
        }
        if self.links[link].dialing == Some(id) && side == dialer {
            self.links[link].dialing = None;
        }
        if is_here
            && tell
            && !self.nodes[node].stopped
            && let Some(at) = self.packet(link, side, OVERHEAD, 1)
        {
            self.schedule(at, Event::Closed(id, 1 - side as u8));
        }
        if both {
            self.conns[id as usize] = None;
        }
        if !is_here || stage != Stage::Open {
            return;
        }
        self.nodes[node].peers.remove(&peer);
        self.log(format_args!(
            "{} lost its connection to {}",
            self.layout.name(node),
            self.layout.name(self.end(link, 1 - side))
        ));
        self.input(node, Input::PeerDown { peer });
        if side == dialer && self.links[link].conns[side].is_none() {
            self.lost_by_dialer(link, opened);
        }
        self.neighbours_changed(node);
    }

    pub(crate) fn lost_by_dialer(&mut self, link: usize, opened: Time) {
        self.links[link].unreachable = true;
        if self.now.saturating_since(opened) >= limits::REDIAL_RESET {
            self.links[link].redial = Duration::ZERO;
        }
        self.redial(link);
    }

    /// quinn's own idle timeout, for what the prober does not see.
    pub(crate) fn idle(&mut self, id: u32, side: usize) {
        let now = self.now;
        let Some(conn) = &self.conns[id as usize] else {
            return;
        };
        let half = &conn.halves[side];
        if half.stage != Stage::Open {
            return;
        }
        let over = half.heard + limits::IDLE;
        if over <= now {
            self.close(id, side, false);
        } else {
            self.schedule(over, Event::Idle(id, side as u8));
        }
    }

    /// One packet of so many bytes over a link; when it arrives, if it does.
    pub(crate) fn packet(
        &mut self,
        link: usize,
        side: usize,
        bytes: usize,
        class: usize,
    ) -> Option<Time> {
        let state = &mut self.links[link];
        state.bytes[side][class] += bytes as u64;
        match state.directions[side].send(self.now, bytes) {
            Verdict::Deliver(at) => Some(at),
            Verdict::Drop(_) => None,
        }
    }

    /// Whether the half can take something in now.
    pub(crate) fn takes(&self, id: u32, side: usize) -> bool {
        self.conns[id as usize].as_deref().is_some_and(|conn| {
            let half = &conn.halves[side];
            let node = &self.nodes[half.node];
            half.stage == Stage::Open
                && node.boot == half.boot
                && node.core.is_some()
                && !node.stopped
        })
    }

    /// What arrives at an end that has no such connection (any more) is answered: by the close it
    /// sent, or by a stateless reset. That tells the sender.
    pub(crate) fn refuse(&mut self, id: u32, side: usize) {
        let Some(conn) = &self.conns[id as usize] else {
            return;
        };
        let (link, node, sender) = (conn.link, conn.halves[side].node, &conn.halves[1 - side]);
        let gone = conn.halves[side].stage == Stage::Shut
            || conn.halves[side].boot != self.nodes[node].boot;
        let listens = self.alive(node) && !self.nodes[node].stopped;
        if gone
            && listens
            && sender.stage == Stage::Open
            && let Some(at) = self.packet(link, side, OVERHEAD, 1)
        {
            self.schedule(at, Event::Closed(id, 1 - side as u8));
        }
    }
}
