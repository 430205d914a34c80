//! One lesson: video and audio from one edge, and what of it arrives at another, when.

use std::{
    collections::BTreeSet,
    ops::RangeBounds,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, BytesMut};
use longspan_proto::{
    ids::{Generation, NodeId, Room, RoomName, Stream, Tenant, Track, TrackId},
    wire::{Flags, Frame, Priority, Start},
};
use longspan_relay::{
    forward::LocalEvent,
    node::{Handle, Publisher},
};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::{
    bench::load::wall_us,
    failure::{Failure, Outcome},
};

/// What a track is made of.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    fps: u32,
    group: u32,
    /// Bytes of a group's first frame, and of each other.
    key: usize,
    size: usize,
    /// Of the first, and of each other.
    class: (Priority, Priority),
}

/// 2.5 Mbit/s: key frames of 80 KB every 2 s, and at 30 frames/s the rest in between.
const VIDEO: Kind = Kind {
    name: "video",
    fps: 30,
    group: 60,
    key: 80_000,
    size: (625_000 - 80_000) / 59,
    class: (Priority::VideoKey, Priority::VideoDelta),
};

/// 120 kbit/s, a second a group.
const AUDIO: Kind = Kind {
    name: "audio",
    fps: 50,
    group: 50,
    key: 300,
    size: 300,
    class: (Priority::Realtime, Priority::Realtime),
};

/// What both tracks carry, in bit/s.
pub const PAYLOAD_BPS: f64 = 2_500_000.0 + 120_000.0;

/// A frame's number, and when it was sent in µs of the lesson.
const STAMP: usize = 16;

/// A running lesson; dropping it ends it.
pub struct Lesson {
    stream: String,
    tracks: [Watched; 2],
    tasks: Vec<JoinHandle<()>>,
}

type Watched = Arc<Mutex<Seen>>;

/// What came of one track.
#[derive(Debug, Default)]
pub struct Seen {
    /// Each frame at its first arrival, in order of arrival.
    arrivals: Vec<(u64, Instant)>,
    /// How long each of them took.
    delays: Vec<Duration>,
    numbers: BTreeSet<u64>,
    repeated: u64,
    /// Its ways, each with when it was told.
    paths: Vec<(Instant, Vec<NodeId>)>,
    ended: Option<String>,
}

impl Lesson {
    /// Publishes at one node and watches at another.
    pub fn start(stream: &str, from: &Handle, to: &Handle) -> Outcome<Lesson> {
        let began = Instant::now();
        let mut tasks = Vec::new();
        let mut tracks = Vec::new();
        for kind in [VIDEO, AUDIO] {
            let track = track(stream, kind.name)?;
            tasks.push(tokio::spawn(publish(
                from.publish(track.clone()),
                kind,
                began,
            )));
            let seen = Watched::default();
            tasks.push(tokio::spawn(watch(
                to.clone(),
                track,
                from.id().clone(),
                seen.clone(),
                began,
            )));
            tracks.push(seen);
        }
        let tracks = tracks.try_into().expect("two kinds");
        Ok(Lesson {
            stream: stream.to_owned(),
            tracks,
            tasks,
        })
    }

    /// Its stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Both tracks.
    pub fn tracks(&self) -> impl Iterator<Item = MutexGuard<'_, Seen>> {
        self.tracks
            .iter()
            .map(|seen| seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The way of the pictures: the origin first. Empty before there is one.
    pub fn path(&self) -> Vec<NodeId> {
        let path = self.tracks().next().map(|seen| seen.path().to_vec());
        path.unwrap_or_default()
    }

    /// Since when neither track has changed its way.
    pub fn steady_since(&self) -> Option<Instant> {
        let told = self
            .tracks()
            .map(|seen| seen.paths.last().map(|(at, _)| *at));
        told.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// When the last of both tracks took a way from which on all satisfy `good`; None while one
    /// does not.
    pub fn moved_at(&self, good: impl Fn(&[NodeId]) -> bool) -> Option<Instant> {
        let moved = self.tracks().map(|seen| {
            let good = seen.paths.iter().rev().take_while(|(_, path)| good(path));
            good.last().map(|(at, _)| *at)
        });
        moved.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Whether both tracks take this one way.
    pub fn one_way(&self) -> bool {
        let paths: Vec<_> = self.tracks().map(|seen| seen.path().to_vec()).collect();
        !paths[0].is_empty() && paths[0] == paths[1]
    }
}

impl Drop for Lesson {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Seen {
    /// Frames that came since `at`.
    pub fn since(&self, at: Instant) -> usize {
        self.arrivals
            .iter()
            .rev()
            .take_while(|(_, when)| *when >= at)
            .count()
    }

    /// The nodes it crosses now, the origin first; empty before it has a way.
    fn path(&self) -> &[NodeId] {
        self.paths.last().map_or(&[], |(_, path)| path)
    }

    /// How long those took that came in this time, without what `way` says of the way they came.
    pub fn beyond(
        &self,
        time: impl RangeBounds<Instant>,
        way: impl Fn(&[NodeId]) -> Duration,
    ) -> impl Iterator<Item = Duration> {
        let ways: Vec<(Instant, Duration)> = self
            .paths
            .iter()
            .map(|(told, path)| (*told, way(path)))
            .collect();
        let arrivals = self.arrivals.iter().zip(&self.delays);
        let within = arrivals.filter(move |((_, when), _)| time.contains(when));
        within.map(move |((_, when), delay)| {
            // A way is told before the first frame that came over it.
            let taken = ways.iter().rev().find(|(told, _)| told <= when);
            delay.saturating_sub(taken.map_or(Duration::ZERO, |(_, way)| *way))
        })
    }

    /// The longest time without a new frame that ends after `from`; and when it ended.
    pub fn longest_gap(&self, from: Instant) -> Option<(Duration, Instant)> {
        let pairs = self.arrivals.windows(2);
        let gaps = pairs.filter(|pair| pair[1].1 > from);
        gaps.map(|pair| (pair[1].1 - pair[0].1, pair[1].1)).max()
    }

    /// The number of the newest frame.
    pub fn newest(&self) -> u64 {
        self.numbers.last().copied().unwrap_or_default()
    }

    /// Frames from the first one up to number `until` that never came. A newer group may overtake
    /// an older one: so it is asked a while after `until` was the newest.
    pub fn lost(&self, until: u64) -> u64 {
        match self.numbers.first() {
            Some(first) if *first <= until => {
                until - first + 1 - self.numbers.range(..=until).count() as u64
            }
            _ => 0,
        }
    }

    /// Frames that came twice.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Why nothing more comes.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    fn frame(&mut self, mut payload: bytes::Bytes, began: Instant) {
        if payload.len() < STAMP {
            return;
        }
        let (number, sent) = (payload.get_u64(), payload.get_u64());
        if self.numbers.insert(number) {
            let now = Instant::now();
            let sent = began + Duration::from_micros(sent);
            self.arrivals.push((number, now));
            self.delays.push(now.saturating_duration_since(sent));
        } else {
            self.repeated += 1;
        }
    }
}

fn track(stream: &str, name: &str) -> Outcome<TrackId> {
    Ok(TrackId {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("failover").map_err(Failure::failed)?,
        },
        stream: Stream::new(stream).map_err(Failure::failed)?,
        track: Track::new(name).map_err(Failure::failed)?,
        generation: Generation(1),
    })
}

async fn publish(publisher: Publisher, kind: Kind, began: Instant) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / kind.fps);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0u64.. {
        tick.tick().await;
        let timestamp = n * 1_000_000 / u64::from(kind.fps);
        let first = n % u64::from(kind.group) == 0;
        if first {
            publisher.group(n / u64::from(kind.group), timestamp, wall_us());
        }
        let (size, priority) = match first {
            true => (kind.key, kind.class.0),
            false => (kind.size, kind.class.1),
        };
        let mut payload = BytesMut::zeroed(size);
        let mut stamp = &mut payload[..STAMP];
        stamp.put_u64(n);
        stamp.put_u64(began.elapsed().as_micros() as u64);
        publisher.frame(Frame {
            timestamp,
            flags: Flags {
                key: first,
                ..Flags::default()
            },
            priority,
            payload: payload.freeze(),
        });
    }
}

/// Without a budget: what is late is measured, not dropped.
async fn watch(node: Handle, track: TrackId, origin: NodeId, seen: Watched, began: Instant) {
    let mut subscription = node.subscribe(track, origin, Start::Latest, Duration::ZERO);
    while let Some(event) = subscription.next().await {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            LocalEvent::Path(path) => seen.paths.push((Instant::now(), path)),
            LocalEvent::Frame { frame, .. } => seen.frame(frame.payload, began),
            LocalEvent::End { message, .. } => seen.ended = Some(message),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_losses_and_repeats_are_counted() {
        let mut seen = Seen::default();
        let began = Instant::now();
        let ms = |n| began + Duration::from_millis(n);
        for (number, at) in [(1, 0), (2, 20), (4, 320), (3, 330), (6, 350)] {
            seen.numbers.insert(number);
            seen.arrivals.push((number, ms(at)));
        }
        let (gap, ended) = seen.longest_gap(ms(100)).expect("a gap");
        assert_eq!((gap, ended), (Duration::from_millis(300), ms(320)));
        assert_eq!(
            seen.longest_gap(ms(320)).expect("a gap").0,
            Duration::from_millis(20)
        );
        assert_eq!((seen.lost(6), seen.lost(4)), (1, 0));
        assert_eq!(seen.since(ms(330)), 2);
        let mut frame = |number: u64, sent: u64| {
            let stamp = [number.to_be_bytes(), sent.to_be_bytes()].concat();
            seen.frame(stamp.into(), began);
        };
        frame(3, 0);
        frame(7, 0);
        assert_eq!((seen.repeated(), seen.newest()), (1, 7));
    }

    #[test]
    fn a_frame_is_compared_with_the_way_it_came() {
        let mut seen = Seen::default();
        let began = Instant::now();
        let at = |n| began + Duration::from_millis(n);
        let way = |names: &[&str]| {
            names
                .iter()
                .map(|n| NodeId::new(n).expect("a name"))
                .collect()
        };
        seen.paths = vec![(at(0), way(&["a", "b"])), (at(100), way(&["a", "c", "b"]))];
        for (number, when, delay) in [(1, 50, 30), (2, 99, 41), (3, 100, 65)] {
            seen.arrivals.push((number, at(when)));
            seen.delays.push(Duration::from_millis(delay));
        }
        let took = |path: &[NodeId]| Duration::from_millis(20 * path.len() as u64 - 10);
        let beyond: Vec<u128> = seen.beyond(at(60).., took).map(|d| d.as_millis()).collect();
        assert_eq!(beyond, [11, 15]);
    }

    #[test]
    fn the_picture_is_two_and_a_half_megabit() {
        let group = VIDEO.key + (VIDEO.group as usize - 1) * VIDEO.size;
        let bits_per_s = group as f64 * 8.0 * f64::from(VIDEO.fps) / f64::from(VIDEO.group);
        assert!((bits_per_s / 2.5e6 - 1.0).abs() < 0.001, "{bits_per_s}");
        let audio = f64::from(AUDIO.fps) * AUDIO.size as f64 * 8.0;
        let all = bits_per_s + audio;
        assert!((all / PAYLOAD_BPS - 1.0).abs() < 0.001, "{all}");
    }
}
