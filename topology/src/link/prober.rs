//! One end of one link: schedule, estimators and detector together.

use std::{collections::VecDeque, time::Duration};

use longspan_proto::{
    ids::BootId,
    time::Time,
    wire::probe::{Echo, Probe},
};

use super::{
    Event, Life, Loss,
    detector::{Detector, Evidence, Limits, SUSPECT_LEAST, down_probes, suspect_probes},
    estimator::Estimator,
};
use crate::graph::Metrics;

/// How often a link is probed, by what it is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// Tracks cross it. Three are missing after 75 ms, which leaves 175 ms of DESIGN §3's 250 for
    /// jitter and for the move. At 80 B on the wire it costs 26 kbit/s, 1 % of one picture.
    pub carrying: Duration,
    /// Tracks would move to it: it must be known to live, and how it does, when they do.
    pub backup: Duration,
    /// Neither.
    pub idle: Duration,
    /// A fresh connection, for `settling_for`: so that its measures are good early.
    pub settling: Duration,
    /// See `settling`.
    pub settling_for: Duration,
    /// A verdict is wanted: fifteen probes in 75 ms. At most [`super::detector::DOWN_PROBES_MOST`]
    /// and one round trip of them.
    pub suspect: Duration,
    /// The verdict stands; five round trips in a row revoke it.
    pub down: Duration,
}

impl Default for Cadence {
    fn default() -> Self {
        Cadence {
            carrying: Duration::from_millis(25),
            backup: Duration::from_millis(200),
            idle: Duration::from_secs(1),
            settling: Duration::from_millis(200),
            settling_for: Duration::from_secs(5),
            suspect: Duration::from_millis(5),
            down: Duration::from_millis(200),
        }
    }
}

/// What a link is needed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing at present.
    #[default]
    Idle,
    /// Tracks would move to it.
    Backup,
    /// Tracks or calls cross it.
    Carrying,
}

/// What happens to this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A probe came whose tag is right.
    Probe(Probe),
    /// So many packets of the session have come since it began: more than before is a sign of life.
    Packets(u64),
    /// What the link is needed for from now on.
    Need(Need),
}

/// A probe of another process than the peer's: one's own thrown back, or an earlier one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a probe of boot {told:?}; the peer is {peer:?}")]
pub struct Foreign {
    /// Whose it is.
    pub told: BootId,
    /// Whose it should be.
    pub peer: BootId,
}

/// What ages are measured against (WIRE.md, "Clocks").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baseline {
    /// The smallest clock difference of the recent probes, in µs.
    pub raw_us: i64,
    /// The smoothed round trip, in µs.
    pub rtt_us: u64,
}

/// All that is known of a link besides its [`Metrics`].
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// The direction towards this end; None before the first round trip.
    pub metrics: Option<Metrics>,
    /// By how much its delay grew lately, in µs ([`Estimator::trend_us`]).
    pub trend_us: i64,
    /// Loss of the other direction, as the peer's counts tell it: share and mean burst in probes.
    pub out_loss: f64,
    /// See `out_loss`.
    pub out_burst: f64,
    /// The mean burst in probes of the direction towards this end.
    pub burst: f64,
}

/// The round trip that is assumed before one was measured.
const ASSUMED_RTT: Duration = Duration::from_millis(500);
/// What timers and queues of both ends may add to any interval.
const SLACK: Duration = Duration::from_millis(10);
/// The most jitter that is allowed for.
const JITTER_MOST: Duration = Duration::from_millis(250);
/// An announced cadence is believed up to this (WIRE.md, "Probes").
const NEXT_MOST: Duration = Duration::from_secs(10);
/// Answers go at most so often (WIRE.md, "Probes"): below the cadence of a suspicion, and no way
/// to make a node send much.
const ANSWER_LEAST: Duration = Duration::from_millis(2);
/// A timer that fires so late tells that this process was starved: it is not the other end's
/// silence.
const LATE: Duration = Duration::from_millis(20);
/// And so late, that it was stopped: what it knows is old, and it begins to listen anew.
const STOPPED: Duration = Duration::from_millis(100);
/// For so long after that, what is taken from the socket waited there: its times say nothing.
const STALE_FOR: Duration = Duration::from_millis(100);
/// Own probes remembered until they are echoed; of more the oldest are forgotten. It is a verdict's
/// most, and three seconds of the fastest cadence as the round trip.
const SENT_MOST: usize = 1_024;

/// One end of one link; see the [module](super). Begins as `Up`, as if just heard of.
#[derive(Debug, Clone)]
pub struct Prober {
    me: BootId,
    peer: BootId,
    cadence: Cadence,
    since: Time,
    need: Need,
    detector: Detector,
    incoming: Estimator,
    /// What follows from its loss: so many missing probes are suspicious.
    suspicious: u32,
    outgoing: Loss,

    /// Numbers the probes sent.
    seq: u32,
    /// Own probes, oldest first, of which no echo came.
    sent: VecDeque<(u32, Time)>,
    last_sent: Time,
    next_probe: Time,
    answer_at: Option<Time>,
    /// Since when the peer is asked for answers because its own cadence is too slow.
    asking: Option<Time>,

    /// When anything was heard.
    heard: Time,
    packets: u64,
    /// The newest probe heard, its send time, and when it came.
    newest: Option<(u32, Time, Time)>,
    /// Probes heard.
    count: u32,
    /// When the peer's next probe is due, after the newest.
    promise: Duration,
    /// The newest own probe that the peer told to have heard, and how many it had heard then.
    echoed: Option<(u32, u32)>,

    /// Round trips in a row since the verdict, and when the first was complete; and the first
    /// probe that counts for one.
    round_trips: u32,
    well_since: Time,
    down_seq: u32,
    /// It was stopped, and has not asked yet how things stand.
    woken: bool,
    /// When this end was last awake.
    awake: Time,
    /// Probes below this were sent before this end was stopped.
    fresh_seq: u32,
    stale_until: Time,
    events: VecDeque<Event>,
}

impl Prober {
    /// The end `me` of a session with `peer` that begins now.
    pub fn new(now: Time, me: BootId, peer: BootId, cadence: Cadence) -> Prober {
        Prober {
            me,
            peer,
            cadence,
            since: now,
            need: Need::default(),
            detector: Detector::new(),
            incoming: Estimator::default(),
            suspicious: suspect_probes(&Loss::default(), cadence.carrying),
            outgoing: Loss::default(),
            seq: 0,
            sent: VecDeque::new(),
            last_sent: now,
            next_probe: now,
            answer_at: None,
            asking: None,
            heard: now,
            packets: 0,
            newest: None,
            count: 0,
            promise: cadence.settling,
            echoed: None,
            round_trips: 0,
            well_since: now,
            down_seq: 0,
            woken: false,
            awake: now,
            fresh_seq: 0,
            stale_until: now,
            events: VecDeque::new(),
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Time, input: Input) -> Result<(), Foreign> {
        self.wake(now);
        match input {
            Input::Probe(probe) => self.arrived(now, probe)?,
            Input::Packets(packets) => {
                if packets > self.packets {
                    self.packets = packets;
                    self.heard = now;
                }
            }
            Input::Need(need) => {
                self.need = need;
                self.next_probe = self.next_probe.min(self.last_sent + self.interval(now));
                self.ask(now);
            }
        }
        self.judge(now);
        Ok(())
    }

    /// What to send now; `None` until `poll_timeout`.
    pub fn poll_probe(&mut self, now: Time) -> Option<Probe> {
        let due = self.next_probe <= now;
        if !due && self.answer_at.is_none_or(|at| at > now) {
            return None;
        }
        self.answer_at = None;
        let interval = self.interval(now);
        self.ask(now);
        // An answer does for the schedule too, unless an answer to it is wanted.
        let woken = std::mem::take(&mut self.woken);
        let answer = due && (woken || self.asking.is_some() || self.life() != Life::Up);
        if due || (self.asking.is_none() && self.life() == Life::Up) {
            self.next_probe = now + interval;
        }
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        if self.sent.len() == SENT_MOST {
            self.sent.pop_front();
        }
        self.sent.push_back((seq, now));
        self.last_sent = now;
        let held = |at: Time| now.saturating_since(at).as_micros();
        Some(Probe {
            boot: self.me,
            seq,
            sent: now,
            echo: self.newest.map(|(seq, sent, at)| Echo {
                seq,
                sent,
                held_us: held(at).try_into().unwrap_or(u32::MAX),
            }),
            heard: self.count,
            next_ms: interval.as_millis().try_into().unwrap_or(u16::MAX),
            answer,
        })
    }

    /// When `handle_timeout` and then `poll_probe` are to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let mut due = self.next_probe;
        if let Some(at) = self.answer_at {
            due = due.min(at);
        }
        if self.life() == Life::Up {
            due = due.min(self.quiet_since() + self.quiet_limit());
        }
        Some(due)
    }

    /// Does what is due. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Time) {
        self.wake(now);
        self.judge(now);
    }

    /// What changed; `None` when there is nothing left.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the other end lives.
    pub fn life(&self) -> Life {
        self.detector.life()
    }

    /// What is measured of the direction towards this end; `None` before the first round trip.
    pub fn metrics(&self) -> Option<Metrics> {
        self.incoming.metrics()
    }

    /// The rest of what is known.
    pub fn measures(&self) -> Measures {
        Measures {
            metrics: self.metrics(),
            trend_us: self.incoming.trend_us(),
            out_loss: self.outgoing.mean(),
            out_burst: self.outgoing.burst(),
            burst: self.incoming.loss().burst(),
        }
    }

    /// What ages are measured against; `None` before the first round trip.
    pub fn baseline(&self) -> Option<Baseline> {
        Some(Baseline {
            raw_us: self.incoming.floor_us()?,
            rtt_us: self.incoming.rtt_us()?,
        })
    }

    /// A timer or packet that comes far later than planned tells that this end did not run: the
    /// silence in between is its own, and so is the delay of what waited in the socket.
    fn wake(&mut self, now: Time) {
        let due = self.poll_timeout().unwrap_or(now).max(self.awake);
        let late = now.saturating_since(due);
        if late >= LATE {
            for at in [&mut self.heard, &mut self.since] {
                *at = *at + late;
            }
            for (_, at) in &mut self.sent {
                *at = *at + late;
            }
            if let Some(at) = &mut self.asking {
                *at = *at + late;
            }
            self.fresh_seq = self.seq;
            self.stale_until = now + STALE_FOR;
        }
        if late >= STOPPED && self.life() != Life::Down {
            // The other end may take this one for dead by now, and answers within a round trip.
            self.heard = now + self.patience();
            self.woken = true;
            self.next_probe = now;
        }
        self.awake = self.awake.max(now);
    }

    fn arrived(&mut self, now: Time, probe: Probe) -> Result<(), Foreign> {
        if probe.boot != self.peer {
            return Err(Foreign {
                told: probe.boot,
                peer: self.peer,
            });
        }
        let newer = |seq: u32| probe.seq.wrapping_sub(seq).wrapping_sub(1) < u32::MAX / 2;
        if self.newest.is_some_and(|(seq, ..)| !newer(seq)) {
            // A copy, or late: no sign of life now.
            return Ok(());
        }
        self.heard = now;
        self.count = self.count.wrapping_add(1);
        self.newest = Some((probe.seq, probe.sent, now));
        let spacing = std::mem::replace(&mut self.promise, probe.next().min(NEXT_MOST));
        if probe.answer {
            self.answer_at = Some(now.max(self.last_sent + ANSWER_LEAST));
        }
        let rtt_us = probe
            .echo
            .and_then(|echo| self.echoed(now, echo, probe.heard));
        if now < self.stale_until {
            self.incoming.count(probe.seq, spacing);
        } else {
            let raw_us = now.as_micros() as i64 - probe.sent.as_micros() as i64;
            self.incoming
                .arrived(now, probe.seq, raw_us, rtt_us, spacing);
        }
        self.suspicious = suspect_probes(self.incoming.loss(), self.cadence.carrying);
        self.ask(now);
        Ok(())
    }

    /// The peer told which probe of ours it heard last: the round trip in µs, if it says something
    /// new.
    fn echoed(&mut self, now: Time, echo: Echo, heard: u32) -> Option<u64> {
        let ahead = |seq: u32| echo.seq.wrapping_sub(seq).wrapping_sub(1) < u32::MAX / 2;
        if self.seq.wrapping_sub(echo.seq).wrapping_sub(1) >= u32::MAX / 2 {
            // It was never sent.
            return None;
        }
        if let Some((seq, counted)) = self.echoed {
            if !ahead(seq) {
                return None;
            }
            let arrived = heard.wrapping_sub(counted);
            let lost = echo.seq.wrapping_sub(seq).saturating_sub(arrived);
            let spacing = self.interval(now);
            self.outgoing.count(lost, arrived, spacing);
        }
        self.echoed = Some((echo.seq, heard));
        let mut sent = None;
        while let Some((seq, at)) = self.sent.front().copied()
            && echo.seq.wrapping_sub(seq) < u32::MAX / 2
        {
            self.sent.pop_front();
            sent = (seq == echo.seq).then_some(at);
        }
        if echo.seq.wrapping_sub(self.down_seq) < u32::MAX / 2 {
            if self.round_trips == 0 {
                self.well_since = now;
            }
            self.round_trips = self.round_trips.saturating_add(1);
        }
        if self.fresh_seq.wrapping_sub(echo.seq).wrapping_sub(1) < u32::MAX / 2 {
            return None;
        }
        let held = Duration::from_micros(echo.held_us.into());
        let away = now.saturating_since(sent?).saturating_sub(held);
        Some(away.as_micros() as u64)
    }

    /// This end's cadence.
    fn interval(&self, now: Time) -> Duration {
        match self.life() {
            Life::Suspect => self.cadence.suspect,
            Life::Down => self.cadence.down,
            Life::Up => self.needed(now),
        }
    }

    /// The cadence while all is well.
    fn needed(&self, now: Time) -> Duration {
        let cadence = &self.cadence;
        let needed = match self.need {
            Need::Carrying => cadence.carrying,
            Need::Backup => cadence.backup,
            Need::Idle => cadence.idle,
        };
        match now.saturating_since(self.since) < cadence.settling_for {
            true => needed.min(cadence.settling),
            false => needed,
        }
    }

    /// Notes whether the peer's own cadence is enough for this end.
    fn ask(&mut self, now: Time) {
        match self.promise > self.needed(now) {
            true => self.asking = Some(self.asking.unwrap_or(now)),
            false => self.asking = None,
        }
    }

    /// How long an answer takes at the most.
    fn patience(&self) -> Duration {
        let rtt = self.incoming.rtt_us();
        rtt.map_or(ASSUMED_RTT, Duration::from_micros) + self.allowance()
    }

    fn allowance(&self) -> Duration {
        SLACK + Duration::from_micros(self.incoming.jitter_us()).min(JITTER_MOST)
    }

    /// From when on the silence counts: answers that were only just asked for take a round trip.
    fn quiet_since(&self) -> Time {
        match self.asking {
            Some(asking) => self.heard.max(asking + self.patience()),
            None => self.heard,
        }
    }

    /// A longer silence is suspicious.
    fn quiet_limit(&self) -> Duration {
        let spacing = match self.asking {
            Some(_) => self.needed(self.awake),
            None => self.promise,
        };
        (spacing * self.suspicious).max(SUSPECT_LEAST) + self.allowance()
    }

    fn judge(&mut self, now: Time) {
        let before = self.life();
        if before == Life::Down && now.saturating_since(self.heard) >= self.cadence.down * 3 {
            self.round_trips = 0;
        }
        // Only a suspicion becomes a verdict.
        let most = |loss: &Loss| match before {
            Life::Suspect => down_probes(loss, self.cadence.carrying, self.cadence.suspect),
            Life::Up | Life::Down => u32::MAX,
        };
        let limits = Limits {
            quiet: self.quiet_limit(),
            unanswered: most(self.incoming.loss()),
            unheard: most(&self.outgoing),
        };
        let Some(event) = self.detector.judge(self.evidence(now), limits) else {
            return;
        };
        self.events.push_back(event);
        match event {
            // The next probe, the first of many, goes at once.
            Event::Suspect(_) => self.next_probe = now,
            Event::Down(_) => {
                self.round_trips = 0;
                self.well_since = now;
                self.down_seq = self.seq;
            }
            Event::Up => {
                if before == Life::Down {
                    self.incoming.outage();
                    self.echoed = None;
                }
                self.next_probe = self.next_probe.min(now + self.interval(now));
            }
        }
        self.ask(now);
    }

    fn evidence(&self, now: Time) -> Evidence {
        let patience = self.patience();
        let due = |by: Time| self.sent.partition_point(|(_, at)| *at + patience <= by);
        // A probe crossed with what was heard last says nothing.
        let before = self.sent.partition_point(|(_, at)| *at <= self.heard);
        let told = self.newest.map_or(0, |(.., at)| due(at));
        let oldest = self.sent.front().map(|(_, at)| *at);
        Evidence {
            quiet: now.saturating_since(self.quiet_since()),
            unanswered: due(now).saturating_sub(before) as u32,
            unheard: told as u32,
            deaf_for: oldest.map_or(Duration::ZERO, |at| now.saturating_since(at)),
            round_trips: self.round_trips,
            well_for: now.saturating_since(self.well_since),
        }
    }
}
