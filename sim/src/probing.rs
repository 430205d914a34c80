//! Each end's prober, driven. It stands for `relay/src/probe`.

use std::time::Duration;

use longspan_proto::wire::probe::Probe;
use longspan_relay::forward::Input;
use longspan_topology::{
    cost,
    link::{self, Need},
};

use crate::{
    conn::{Conn, Stage},
    world::{Event, World},
};

/// The core is told of the round trip so often.
const TELL_RTT: Duration = Duration::from_secs(1);
/// And of a cost beyond the table's, when it changed by more than this, in µs.
const TELL_COST_US: u64 = 1_000;
/// What changes slowly is looked at as often as this, at a beat. A node does so every 100 ms; a
/// link's cost is remembered in steps of 250 ms.
const LOOK: Duration = Duration::from_millis(250);
/// A link that carried a frame within this carries.
const CARRYING_FOR: Duration = Duration::from_secs(2);
impl World {
    /// Tells a prober how closely its link must be watched.
    pub(crate) fn need(&mut self, id: u32, side: usize) {
        let now = self.now;
        let Some(conn) = self.conns[id as usize].as_deref() else {
            return;
        };
        let half = &conn.halves[side];
        let carries = half
            .carried
            .is_some_and(|at| now.saturating_since(at) < CARRYING_FOR);
        let other = self.layout.name(conn.halves[1 - side].node);
        let need = match carries {
            true => Need::Carrying,
            false if self.nodes[half.node].backups.contains(other) => Need::Backup,
            false => Need::Idle,
        };
        self.tell_prober(id, side, link::Input::Need(need));
    }

    fn tell_prober(&mut self, id: u32, side: usize, input: link::Input) {
        let now = self.now;
        let Some(conn) = self.conns[id as usize].as_deref_mut() else {
            return;
        };
        let half = &mut conn.halves[side];
        let local = self.nodes[half.node].clock.shows(now);
        if let Some(prober) = &mut half.prober {
            // A probe of an earlier boot says nothing.
            let _ = prober.handle(local, input);
        }
    }

    /// A packet of the session arrived: any packet counts as life.
    pub(crate) fn heard(&mut self, id: u32, side: usize) {
        let now = self.now;
        if let Some(conn) = self.conn(id) {
            conn.halves[side].heard = now;
            conn.halves[side].packets += 1;
            let packets = conn.halves[side].packets;
            self.tell_prober(id, side, link::Input::Packets(packets));
        }
    }

    pub(crate) fn probe_arrives(&mut self, id: u32, from: usize, probe: &Probe) {
        let side = 1 - from;
        if !self.takes(id, side) {
            return;
        }
        let now = self.now;
        if let Some(conn) = self.conn(id) {
            conn.halves[side].heard = now;
        }
        self.tell_prober(id, side, link::Input::Probe(*probe));
        self.beat(id, side);
    }

    /// Lets the prober do what is due, and carries out what it says.
    pub(crate) fn beat(&mut self, id: u32, side: usize) {
        let now = self.now;
        let Some(conn) = self.conns[id as usize].as_deref_mut() else {
            return;
        };
        let half = &mut conn.halves[side];
        if half.beat.is_some_and(|at| at <= now) {
            half.beat = None;
        }
        let (node, link, peer) = (half.node, conn.link, half.peer);
        let state = &self.nodes[node];
        if state.boot != half.boot || half.stage != Stage::Open || state.core.is_none() {
            return;
        }
        let local = state.clock.shows(now);
        let looks = now.saturating_since(half.looked) >= LOOK;
        if looks {
            half.looked = now;
            self.need(id, side);
        }
        let Some(conn) = self.conns[id as usize].as_deref_mut() else {
            return;
        };
        let half = &mut conn.halves[side];
        let Some(prober) = &mut half.prober else {
            return;
        };
        let mut costs = None;
        if looks {
            let metrics = prober.metrics();
            let cost = metrics.map(|metrics| cost::terms(&metrics).total());
            half.drift.costs(local, cost);
            let extra_us = half.drift.extra_us();
            let told = half.told_cost_us;
            if extra_us.abs_diff(told) > TELL_COST_US || (extra_us == 0) != (told == 0) {
                half.told_cost_us = extra_us;
                costs = Some(extra_us);
            }
        }
        prober.handle_timeout(local);
        let mut probes = Vec::new();
        while let Some(probe) = prober.poll_probe(local) {
            probes.push(probe);
        }
        let mut lives = Vec::new();
        while let Some(event) = prober.poll_event() {
            lives.push(event);
        }
        let due = prober.poll_timeout();
        let rtt = match now.saturating_since(half.told_rtt) >= TELL_RTT {
            true => prober
                .baseline()
                .map(|base| Duration::from_micros(base.rtt_us)),
            false => None,
        };
        if rtt.is_some() {
            half.told_rtt = now;
        }
        if let Some(due) = due {
            let at = self.nodes[node].clock.when(due).max(now);
            if half.beat.is_none_or(|beat| at < beat) {
                half.beat = Some(at);
                self.queue.push(at, Event::Beat(id, side as u8));
            }
        }
        for probe in probes {
            let bytes = longspan_proto::wire::probe::LEN + 28;
            if let Some(at) = self.packet(link, side, bytes, 2) {
                self.schedule(at, Event::Probe(id, side as u8, Box::new(probe)));
            }
        }
        if let Some(rtt) = rtt {
            self.input(node, Input::Rtt { peer, rtt });
        }
        if let Some(extra_us) = costs {
            self.input(node, Input::Cost { peer, extra_us });
        }
        for event in lives {
            self.life(id, side, event);
        }
    }

    fn life(&mut self, id: u32, side: usize, event: link::Event) {
        let Some(conn) = self.conns[id as usize].as_deref() else {
            return;
        };
        let half = &conn.halves[side];
        let (node, link, peer, opened) = (half.node, conn.link, half.peer, half.opened);
        let dials = side == conn.dialer && self.links[link].conns[side] == Some(id);
        self.note(u64::from(id) << 8 | side as u64);
        let (a, b) = self.ends(link);
        self.log(format_args!(
            "{a} {b}: {} says {event:?}",
            self.layout.name(node)
        ));
        if let link::Event::Down(_) = event {
            let other = self.end(link, 1 - side);
            let far = &conn_of(&self.conns, id).halves[1 - side];
            let lives = far.stage == Stage::Open && far.boot == self.nodes[other].boot;
            let could = self.is_open(link) && self.runs(other) && lives;
            self.false_downs += u64::from(could);
        }
        self.input(node, Input::Link { peer, event });
        match event {
            link::Event::Down(_) if dials => self.lost_by_dialer(link, opened),
            link::Event::Up if dials => self.links[link].unreachable = false,
            _ => {}
        }
        if !matches!(event, link::Event::Suspect(_)) {
            self.report_soon(node);
            self.neighbours_changed(node);
        }
    }

    /// The driver's suspicion of a link at one end, whatever the prober says: for scenarios.
    pub fn suspect(&mut self, at: usize, side: usize, suspect: bool) {
        if let Some(id) = self.links[at].conns[side]
            && self.takes(id, side)
            && let Some(conn) = self.conn(id)
        {
            let (node, peer) = (conn.halves[side].node, conn.halves[side].peer);
            let why = link::Why {
                cause: link::Cause::Silence,
                silence: Duration::from_millis(90),
                unanswered: 0,
            };
            let event = match suspect {
                true => link::Event::Suspect(why),
                false => link::Event::Up,
            };
            self.input(node, Input::Link { peer, event });
        }
    }
}

fn conn_of(conns: &[Option<Box<Conn>>], id: u32) -> &Conn {
    conns[id as usize]
        .as_deref()
        .expect("it was looked at just now")
}
