//! What is sent: lessons, or as much as goes.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_proto::time::Time;
use quinn_proto::{Connection, StreamId, WriteError};

use super::net::{self, Net};

/// How often the application looks.
const TICK: Duration = Duration::from_millis(1);

/// 2.5 Mbit/s each: 30 frames/s with a key frame of 80 KB every 2 s, and 48 audio frames/s.
pub struct Lessons {
    connection: usize,
    lessons: Vec<Lesson>,
    /// By stream: where each frame ends, when it was sent, what it is.
    owed: BTreeMap<StreamId, Vec<(u64, Time, Kind)>>,
    seen: usize,
    /// Written and not taken by QUIC, whose send window is full.
    waiting: VecDeque<(StreamId, usize)>,
    pub late: BTreeMap<Kind, Vec<(Time, Duration)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Audio,
    Key,
    Delta,
}

#[derive(Clone, Default)]
struct Lesson {
    video: Option<StreamId>,
    audio: Option<StreamId>,
    frames: u64,
    samples: u64,
    /// Where its first group begins, so that lessons do not send their key frames together.
    begins: Time,
    written: BTreeMap<StreamId, u64>,
}

const GROUP: u64 = 60;
const KEY: usize = 80_000;
const DELTA: usize = (625_000 - KEY - 2 * 48 * AUDIO) / 59;
const AUDIO: usize = 300;

impl Lessons {
    pub fn new(net: &mut Net, count: u64) -> Lessons {
        let connection = net.connect();
        // The golden ratio spreads any number of them over a group.
        let begins = |i: u64| (2e6 * (i as f64 * 0.618_034).fract()) as u64;
        let lessons = (0..count).map(|i| Lesson {
            begins: net.now + Duration::from_micros(begins(i)),
            ..Lesson::default()
        });
        Lessons {
            connection,
            lessons: lessons.collect(),
            owed: BTreeMap::new(),
            seen: 0,
            waiting: VecDeque::new(),
            late: BTreeMap::new(),
        }
    }

    /// Sends for `time`.
    pub fn run(&mut self, net: &mut Net, time: Duration) {
        let until = net.now + time;
        while net.now < until {
            self.send(net);
            self.write(net);
            net.flush_client();
            let next = net.now + TICK;
            net.run(next);
            self.take(net);
        }
    }

    /// Waits for what is still under way; false: not all came within `bound`.
    pub fn finish(&mut self, net: &mut Net, bound: Duration) -> bool {
        let until = net.now + bound;
        while self.owed.values().any(|frames| !frames.is_empty()) {
            if net.now >= until {
                return false;
            }
            self.write(net);
            net.flush_client();
            let next = net.now + TICK;
            net.run(next);
            self.take(net);
        }
        true
    }

    fn send(&mut self, net: &mut Net) {
        let now = net.now;
        for lesson in &mut self.lessons {
            let lived = now.saturating_since(lesson.begins).as_micros() as u64;
            if now < lesson.begins {
                continue;
            }
            while lesson.frames * 1_000_000 / 30 <= lived {
                let first = lesson.frames % GROUP == 0;
                let connection = net.connection(self.connection);
                if first {
                    lesson.video = Some(net::open(connection, 0));
                }
                let (kind, size) = if first {
                    (Kind::Key, KEY)
                } else {
                    (Kind::Delta, DELTA)
                };
                let id = lesson.video.expect("opened");
                lesson.frames += 1;
                let end = lesson.write(id, size);
                self.waiting.push_back((id, size));
                self.owed.entry(id).or_default().push((end, now, kind));
            }
            while lesson.samples * 1_000_000 / 48 <= lived {
                let connection = net.connection(self.connection);
                if lesson.samples % 48 == 0 {
                    lesson.audio = Some(net::open(connection, 1));
                }
                let id = lesson.audio.expect("opened");
                lesson.samples += 1;
                let end = lesson.write(id, AUDIO);
                self.waiting.push_back((id, AUDIO));
                self.owed
                    .entry(id)
                    .or_default()
                    .push((end, now, Kind::Audio));
            }
        }
    }

    /// Hands over what QUIC accepts.
    fn write(&mut self, net: &mut Net) {
        static ZEROS: [u8; KEY] = [0; KEY];
        let connection = net.connection(self.connection);
        while let Some((id, size)) = self.waiting.front_mut() {
            match connection.send_stream(*id).write(&ZEROS[..*size]) {
                Ok(written) if written == *size => drop(self.waiting.pop_front()),
                Ok(written) => *size -= written,
                Err(WriteError::Blocked) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn take(&mut self, net: &mut Net) {
        for arrival in &net.arrivals[self.seen..] {
            let Some(frames) = self.owed.get_mut(&arrival.stream) else {
                continue;
            };
            let whole = frames
                .iter()
                .take_while(|(end, ..)| *end <= arrival.bytes)
                .count();
            for (_, sent, kind) in frames.drain(..whole) {
                let late = arrival.at.saturating_since(sent);
                self.late.entry(kind).or_default().push((sent, late));
            }
        }
        self.seen = net.arrivals.len();
    }

    /// The share of frames sent in `from..until` that took longer than `bound`.
    pub fn later_than(&self, bound: Duration, from: Time, until: Time) -> f64 {
        let all = self.late.values().flatten();
        let sent: Vec<_> = all
            .filter(|(sent, _)| (from..until).contains(sent))
            .collect();
        let late = sent.iter().filter(|(_, late)| *late > bound).count();
        late as f64 / sent.len().max(1) as f64
    }

    pub fn quantile(&self, kind: Kind, q: f64) -> Duration {
        let mut all: Vec<Duration> = self.late[&kind].iter().map(|(_, late)| *late).collect();
        all.sort_unstable();
        all[((all.len() - 1) as f64 * q) as usize]
    }
}

impl Lesson {
    /// Where it ends in its stream.
    fn write(&mut self, id: StreamId, size: usize) -> u64 {
        let end = self.written.entry(id).or_default();
        *end += size as u64;
        *end
    }
}

/// As much as goes, on a connection each.
pub struct Bulk {
    /// Connections, the stream that is being written and what it may still take.
    flows: Vec<(usize, StreamId, usize)>,
    /// Bytes delivered of each stream.
    have: BTreeMap<(usize, StreamId), u64>,
    seen: usize,
}

/// Bytes of each of its streams: as a group's, well below what one stream may have under way.
const GROUP_BYTES: usize = 256 << 10;

impl Bulk {
    pub fn new() -> Bulk {
        Bulk {
            flows: Vec::new(),
            have: BTreeMap::new(),
            seen: 0,
        }
    }

    pub fn add(&mut self, net: &mut Net) {
        let number = net.connect();
        let id = net::open(net.connection(number), 0);
        self.flows.push((number, id, GROUP_BYTES));
    }

    /// Sends for `time`; what each flow delivered meanwhile, in Mbit/s.
    pub fn run(&mut self, net: &mut Net, time: Duration) -> Vec<f64> {
        let began = net.now;
        let before = self.delivered(net);
        let until = began + time;
        while net.now < until {
            for (number, id, left) in &mut self.flows {
                fill(net.connection(*number), id, left);
            }
            net.flush_client();
            let next = net.now + TICK;
            net.run(next);
        }
        let after = self.delivered(net);
        let rate = |(after, before): (&u64, &u64)| {
            (after - before) as f64 * 8.0 / 1e6 / time.as_secs_f64()
        };
        after.iter().zip(&before).map(rate).collect()
    }

    /// Bytes of each flow until now.
    fn delivered(&mut self, net: &Net) -> Vec<u64> {
        for arrival in &net.arrivals[self.seen..] {
            let stream = (arrival.connection, arrival.stream);
            self.have.insert(stream, arrival.bytes);
        }
        self.seen = net.arrivals.len();
        let mut sums = vec![0; self.flows.len()];
        for ((number, _), bytes) in &self.have {
            if let Some(flow) = self.flows.iter().position(|flow| flow.0 == *number) {
                sums[flow] += bytes;
            }
        }
        sums
    }
}

fn fill(connection: &mut Connection, id: &mut StreamId, left: &mut usize) {
    static ZEROS: [u8; GROUP_BYTES] = [0; GROUP_BYTES];
    loop {
        match connection.send_stream(*id).write(&ZEROS[..*left]) {
            Ok(written) => *left -= written,
            Err(WriteError::Blocked) => return,
            Err(error) => panic!("{error}"),
        }
        if *left == 0 {
            let _ = connection.send_stream(*id).finish();
            (*id, *left) = (net::open(connection, 0), GROUP_BYTES);
        }
    }
}
