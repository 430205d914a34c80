//! Two ends over a modelled link, in virtual time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use longspan_proto::{ids::BootId, time::Time, wire::probe::Probe};

use super::{Cadence, Cause, Event, Input, Life, Need, Prober};

/// xorshift64*, so that a run is repeated from its seed.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a link treats packets: the round trip, the share lost, in bursts of Gilbert and Elliott.
#[derive(Clone, Copy)]
struct Profile {
    rtt_ms: u64,
    loss: f64,
    burst: f64,
}

/// The profile `internet`: 0.3 % lost in bursts of 4, jitter 2 % of the round trip.
fn internet(rtt_ms: u64) -> Profile {
    Profile {
        rtt_ms,
        loss: 0.003,
        burst: 4.0,
    }
}

struct Wire {
    cut: bool,
    bad: bool,
}

#[derive(Clone, Copy)]
enum Packet {
    Probe(Probe),
    Media,
}

struct World {
    now: Time,
    dice: Dice,
    profile: Profile,
    ends: [Prober; 2],
    /// An end that does not run, as after SIGSTOP.
    stopped: [bool; 2],
    wires: [Wire; 2],
    /// From each end, every so often.
    media: [Option<Duration>; 2],
    next_media: [Time; 2],
    flight: BinaryHeap<Reverse<(Time, u64)>>,
    packets: Vec<Option<(usize, Packet)>>,
    received: [u64; 2],
    probes: u64,
    events: Vec<(Time, usize, Event)>,
}

/// The clocks of the two ends differ by an hour.
const OFFSET: [Duration; 2] = [Duration::ZERO, Duration::from_secs(3_600)];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    fn new(seed: u64, profile: Profile) -> World {
        let now = Time::from_micros(1_000_000);
        let boots = [BootId(1), BootId(2)];
        let end = |at: usize| {
            Prober::new(
                now + OFFSET[at],
                boots[at],
                boots[1 - at],
                Cadence::default(),
            )
        };
        let wire = || Wire {
            cut: false,
            bad: false,
        };
        World {
            now,
            dice: Dice(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15)),
            profile,
            ends: [end(0), end(1)],
            stopped: [false; 2],
            wires: [wire(), wire()],
            media: [None; 2],
            next_media: [now; 2],
            flight: BinaryHeap::new(),
            packets: Vec::new(),
            received: [0; 2],
            probes: 0,
            events: Vec::new(),
        }
    }

    fn need(&mut self, needs: [Need; 2]) {
        for (end, need) in needs.into_iter().enumerate() {
            self.input(end, Input::Need(need));
        }
    }

    fn local(&self, end: usize) -> Time {
        self.now + OFFSET[end]
    }

    fn input(&mut self, end: usize, input: Input) {
        let now = self.local(end);
        self.ends[end].handle(now, input).unwrap();
        self.drain(end);
    }

    fn drain(&mut self, end: usize) {
        let now = self.local(end);
        while let Some(event) = self.ends[end].poll_event() {
            self.events.push((self.now, end, event));
        }
        while let Some(probe) = self.ends[end].poll_probe(now) {
            self.probes += 1;
            self.send(end, Packet::Probe(probe));
        }
        while let Some(event) = self.ends[end].poll_event() {
            self.events.push((self.now, end, event));
        }
    }

    fn send(&mut self, end: usize, packet: Packet) {
        let Profile {
            rtt_ms,
            loss,
            burst,
        } = self.profile;
        let leave = 1.0 / burst;
        let enter = leave * loss / (1.0 - loss);
        let wire = &mut self.wires[end];
        let flip = self.dice.unit();
        wire.bad = flip < if wire.bad { 1.0 - leave } else { enter };
        if wire.bad || wire.cut {
            return;
        }
        let rtt_us = rtt_ms as f64 * 1_000.0;
        let jitter = -self.dice.unit().max(1e-12).ln() * 0.02 * rtt_us;
        let at = self.now + Duration::from_micros((rtt_us / 2.0 + jitter) as u64);
        self.flight.push(Reverse((at, self.packets.len() as u64)));
        self.packets.push(Some((1 - end, packet)));
    }

    fn run(&mut self, for_: Duration) {
        let until = self.now + for_;
        loop {
            let arrival = self.flight.peek().map(|Reverse((at, _))| *at);
            let timer = |end: usize| {
                let due = self.ends[end].poll_timeout().filter(|_| !self.stopped[end]);
                due.map(|at| (at - OFFSET[end]).max(self.now))
            };
            let media = |end: usize| self.media[end].map(|_| self.next_media[end]);
            let all = [arrival, timer(0), timer(1), media(0), media(1)];
            let Some(next) = all.into_iter().flatten().min().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = next;
            if arrival == Some(next) {
                let Some(Reverse((_, n))) = self.flight.pop() else {
                    unreachable!()
                };
                if let Some((to, packet)) = self.packets[n as usize].take()
                    && !self.stopped[to]
                {
                    self.received[to] += 1;
                    match packet {
                        Packet::Probe(probe) => self.input(to, Input::Probe(probe)),
                        Packet::Media => self.input(to, Input::Packets(self.received[to])),
                    }
                }
                if self.flight.is_empty() {
                    self.packets.clear();
                }
                continue;
            }
            for end in 0..2 {
                if all[3 + end] == Some(next) {
                    self.next_media[end] = next + self.media[end].unwrap();
                    if !self.stopped[end] {
                        self.send(end, Packet::Media);
                    }
                } else if all[1 + end] == Some(next) {
                    let now = self.local(end);
                    self.ends[end].handle_timeout(now);
                    self.drain(end);
                }
            }
        }
    }

    fn first(&self, end: usize, what: impl Fn(&Event) -> bool) -> Option<(Time, Event)> {
        let mut events = self.events.iter();
        let (at, _, event) = events.find(|(_, e, event)| *e == end && what(event))?;
        Some((*at, *event))
    }

    fn count(&self, what: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, _, e)| what(e)).count()
    }
}

fn suspect(event: &Event) -> bool {
    matches!(event, Event::Suspect(_))
}

fn down(event: &Event) -> bool {
    matches!(event, Event::Down(_))
}

fn cause(event: Event) -> Option<Cause> {
    match event {
        Event::Suspect(why) | Event::Down(why) => Some(why.cause),
        Event::Up => None,
    }
}

/// A settled link that carries tracks from end 1 to end 0.
fn carrying(seed: u64, profile: Profile) -> World {
    let mut world = World::new(seed, profile);
    world.need([Need::Carrying; 2]);
    world.run(Duration::from_secs(10));
    world.events.clear();
    world
}

/// Hours of virtual time that the rates are taken over; more with `LINK_HOURS`.
fn hours() -> u64 {
    let asked = std::env::var("LINK_HOURS").ok();
    asked.and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// Suspicions and verdicts of both ends over so many hours.
fn alarms(profile: Profile, needs: [Need; 2], media: Option<Duration>) -> (usize, usize) {
    let (mut suspects, mut downs) = (0, 0);
    for seed in 0..hours() {
        let mut world = World::new(seed, profile);
        world.need(needs);
        world.media[1] = media;
        // Acknowledgements come back for every second packet.
        world.media[0] = media.map(|every| every * 2);
        world.run(Duration::from_secs(3_600));
        suspects += world.count(suspect);
        downs += world.count(down);
    }
    (suspects, downs)
}

#[test]
fn the_internet_is_not_taken_for_dead_with_probes_alone() {
    for needs in [[Need::Carrying; 2], [Need::Backup; 2], [Need::Idle; 2]] {
        let (suspects, downs) = alarms(internet(120), needs, None);
        println!("{needs:?}: {suspects} suspicions in {} h", hours());
        // 0.05 a link and hour.
        assert_eq!(downs, 0, "{needs:?}");
    }
}

#[test]
fn with_media_suspicions_are_rare() {
    // 20 ms of audio and a picture of 2.5 Mbit/s.
    for every in [20, 4] {
        let (suspects, downs) = alarms(internet(120), [Need::Carrying; 2], Some(ms(every)));
        println!(
            "media every {every} ms: {suspects} suspicions in {} h",
            hours()
        );
        assert_eq!(downs, 0);
        // Each costs a round trip of doubled tracks: 100 an hour and end are below 1 % of its bytes.
        assert!(suspects <= 2 * 100 * hours() as usize, "{suspects}");
    }
}

#[test]
fn a_bad_border_is_not_taken_for_dead() {
    let inbound = |loss| Profile {
        rtt_ms: 200,
        loss,
        burst: 4.0,
    };
    for loss in [0.15, 0.4] {
        let (suspects, downs) = alarms(inbound(loss), [Need::Carrying; 2], None);
        println!(
            "{loss}: {suspects} suspicions, {downs} verdicts in {} h",
            hours()
        );
        assert!(downs as u64 <= hours(), "{downs}");
    }
}

#[test]
fn a_dead_link_is_suspected_within_its_cadence_and_judged_soon_after() {
    for rtt in [2, 40, 120, 250] {
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for seed in 0..40 {
            let mut world = carrying(seed, internet(rtt));
            world.run(ms(seed * 7));
            world.events.clear();
            let cut = world.now;
            world.wires = [true, true].map(|cut| Wire { cut, bad: false });
            world.run(Duration::from_secs(4));
            for end in 0..2 {
                let (at, event) = world.first(end, suspect).unwrap();
                assert_eq!(cause(event), Some(Cause::Silence));
                // What was in flight at the cut still came.
                early.push(at.saturating_since(cut).saturating_sub(ms(rtt / 2)));
                let (at, event) = world.first(end, down).unwrap();
                assert_eq!(cause(event), Some(Cause::Silence));
                late.push(at.saturating_since(cut));
            }
        }
        early.sort();
        late.sort();
        println!(
            "{rtt} ms: suspected {:?}, judged {:?}",
            early.last(),
            late.last()
        );
        // Three probes of 25 ms, 10 ms of slack, the jitter's p95 (6 % of the round trip) and its
        // tail in what came last.
        assert!(*early.last().unwrap() <= ms(90 + rtt / 5), "{early:?}");
        assert!(*late.last().unwrap() <= ms(1_300 + 2 * rtt), "{late:?}");
    }
}

#[test]
fn a_backup_is_suspected_within_a_second_whatever_the_other_end_thinks_of_it() {
    let mut world = World::new(3, internet(120));
    world.need([Need::Backup, Need::Idle]);
    world.run(Duration::from_secs(20));
    let cut = world.now;
    world.events.clear();
    world.wires = [true, true].map(|cut| Wire { cut, bad: false });
    world.run(Duration::from_secs(10));
    let (at, _) = world.first(0, suspect).unwrap();
    assert!(at.saturating_since(cut) <= ms(900), "{at:?}");
    // The idle end answers, so it is not asked for more than its need.
    let (at, _) = world.first(1, suspect).unwrap();
    assert!(at.saturating_since(cut) <= ms(3_500), "{at:?}");
}

#[test]
fn both_ends_know_of_a_link_that_is_dead_one_way() {
    for seed in 0..20 {
        let mut world = carrying(seed, internet(80));
        let cut = world.now;
        // From end 1 to end 0.
        world.wires[1].cut = true;
        world.run(Duration::from_secs(4));
        let (at, event) = world.first(0, suspect).unwrap();
        assert_eq!(cause(event), Some(Cause::Silence));
        assert!(at.saturating_since(cut) <= ms(160), "{at:?}");
        let (at, event) = world.first(1, suspect).unwrap();
        assert_eq!(cause(event), Some(Cause::OneWay), "it hears end 0 well");
        assert!(at.saturating_since(cut) <= ms(350), "{at:?}");
        let cause_of = |end| world.first(end, down).map(|(_, event)| cause(event));
        assert_eq!(cause_of(0), Some(Some(Cause::Silence)));
        assert_eq!(cause_of(1), Some(Some(Cause::OneWay)));
        assert_eq!(world.count(|e| *e == Event::Up), 0, "{:?}", world.events);
    }
}

#[test]
fn a_healed_link_is_trusted_after_round_trips_and_a_flapping_one_is_not() {
    let mut world = carrying(1, internet(80));
    world.wires = [true, true].map(|cut| Wire { cut, bad: false });
    world.run(Duration::from_secs(5));
    assert_eq!(world.ends.each_ref().map(Prober::life), [Life::Down; 2]);
    // It comes and goes faster than five round trips.
    for flap in 0..10 {
        for wire in &mut world.wires {
            wire.cut = flap % 2 == 1;
        }
        world.run(ms(700));
        assert_eq!(world.ends.each_ref().map(Prober::life), [Life::Down; 2]);
    }
    for wire in &mut world.wires {
        wire.cut = false;
    }
    world.run(Duration::from_secs(3));
    assert_eq!(world.ends.each_ref().map(Prober::life), [Life::Up; 2]);
    let loss = world.ends[0].metrics().unwrap().loss;
    assert!(loss < 0.2, "the outage is no loss: {loss}");
}

#[test]
fn an_end_that_was_stopped_accuses_nobody() {
    for (seed, stop) in [(1, 60), (2, 400), (3, 10_000)] {
        let mut world = carrying(seed, internet(80));
        let before = world.ends[0].metrics().unwrap();
        world.stopped[0] = true;
        world.run(ms(stop));
        world.stopped[0] = false;
        world.run(Duration::from_secs(2));
        let own = world.first(0, |event| down(event) || suspect(event));
        assert_eq!(own, None, "stopped for {stop} ms");
        assert_eq!(world.first(1, suspect).is_some(), stop >= 400);
        let after = world.ends[0].metrics().unwrap();
        assert!(after.rtt_us < before.rtt_us * 3 / 2, "{after:?}");
        assert!(
            after.raw_delay_us - before.raw_delay_us < 40_000,
            "{after:?}"
        );
    }
}

#[test]
fn packets_of_the_session_are_life_while_probes_are_not_let_through() {
    let mut world = carrying(5, internet(40));
    world.media = [Some(ms(20)); 2];
    world.next_media = [world.now; 2];
    for _ in 0..500 {
        world.run(ms(10));
        for at in 0..world.packets.len() {
            if matches!(world.packets[at], Some((_, Packet::Probe(_)))) {
                world.packets[at] = None;
            }
        }
    }
    // Those that were sent and came within one step of 10 ms do not exist at 20 ms one way.
    assert_eq!(world.count(down), 0, "{:?}", world.events);
}

#[test]
fn probes_are_as_many_as_the_need_says() {
    let expected = [
        (Need::Carrying, 40.0),
        (Need::Backup, 5.0),
        (Need::Idle, 1.0),
    ];
    for (need, per_second) in expected {
        let mut world = World::new(9, internet(80));
        world.need([need; 2]);
        world.run(Duration::from_secs(10));
        let before = world.probes;
        world.run(Duration::from_secs(100));
        let rate = (world.probes - before) as f64 / 200.0;
        assert!(
            (per_second * 0.9..per_second * 1.2).contains(&rate),
            "{need:?}: {rate}"
        );
    }
}

#[test]
fn only_the_one_that_needs_it_pays_and_the_other_answers() {
    let mut world = World::new(9, internet(80));
    world.need([Need::Carrying, Need::Idle]);
    world.run(Duration::from_secs(10));
    let before = world.probes;
    world.run(Duration::from_secs(10));
    let rate = (world.probes - before) as f64 / 10.0;
    assert!(
        (75.0..90.0).contains(&rate),
        "a probe and an answer each: {rate}"
    );
}

#[test]
fn a_round_trip_is_measured_without_what_the_other_side_held_and_without_the_offset() {
    let clean = Profile {
        rtt_ms: 80,
        loss: 0.0,
        burst: 1.0,
    };
    let world = carrying(2, clean);
    let base = world.ends[0].baseline().unwrap();
    assert!((80_000..86_000).contains(&base.rtt_us), "{base:?}");
    let offset = OFFSET[1].as_micros() as i64;
    assert!(
        (40_000..41_000).contains(&(base.raw_us + offset)),
        "{base:?}"
    );
}

#[test]
fn what_another_process_says_is_refused_and_copies_are_no_life() {
    let now = Time::from_micros(5_000_000);
    let mut end = Prober::new(now, BootId(1), BootId(2), Cadence::default());
    let mut probe = end.poll_probe(now).unwrap();
    assert!(end.handle(now, Input::Probe(probe)).is_err(), "reflected");
    probe.boot = BootId(3);
    assert!(end.handle(now, Input::Probe(probe)).is_err(), "restarted");
    probe.boot = BootId(2);
    end.handle(now, Input::Probe(probe)).unwrap();
    let quiet = end.poll_timeout();
    for n in 1..40 {
        let at = now + ms(n * 10);
        end.handle(at, Input::Probe(probe)).unwrap();
        while end.poll_probe(at).is_some() {}
    }
    assert!(quiet.is_some());
    let silence = now + Duration::from_secs(1);
    for n in 40..100 {
        end.handle_timeout(now + ms(n * 10));
        while end.poll_probe(now + ms(n * 10)).is_some() {}
    }
    end.handle_timeout(silence);
    assert_eq!(end.life(), Life::Suspect, "a copy is no sign of life");
}

#[test]
fn a_flood_of_questions_is_answered_in_measure() {
    let now = Time::from_micros(5_000_000);
    let mut end = Prober::new(now, BootId(1), BootId(2), Cadence::default());
    let mut probe = end.poll_probe(now).unwrap();
    let mut answers = 0;
    for n in 0..10_000u64 {
        let at = now + Duration::from_micros(n * 10);
        probe.boot = BootId(2);
        probe.seq = n as u32;
        probe.answer = true;
        end.handle(at, Input::Probe(probe)).unwrap();
        while let Some(answer) = end.poll_probe(at) {
            answers += 1;
            assert!(!answer.answer);
        }
    }
    // 100 ms at one in 2 ms.
    assert!((45..=51).contains(&answers), "{answers}");
}
