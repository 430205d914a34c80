//! Lessons over one long link: how late their frames are under each congestion controller.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, BytesMut};
use longspan_lab::world::Everywhere;
use longspan_proto::{
    ids::{Region, Track, TrackId},
    wire::{Flags, Frame, Priority},
};
use longspan_relay::{
    forward::LocalEvent,
    node::{Publisher, Subscription},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    backbone::{Backbone, Emulate, ORIGIN},
    load,
    report::{self, Distribution},
    spec::Controller,
};
use crate::failure::{Failure, Outcome};

/// How many, over what.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Lessons of 2.5 Mbit/s: 30 frames/s with key frames of 80 KB every 2 s, and audio.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    lessons: u32,
    /// The link's round trip, in ms.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=2_000))]
    rtt: u64,
    /// What is laid over the link beside its delay.
    #[arg(long, default_value = "internet")]
    profile: String,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Under which controllers, one run after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ours", "cubic", "newreno", "bbr"])]
    congestion: Vec<Controller>,
    /// For losses and jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Frames a second and a group, and bytes of a key frame.
const FPS: u64 = 30;
const GROUP: u64 = 60;
const KEY: usize = 80_000;
/// Audio frames a second (AAC at 48 kHz), as many a group, and their bytes.
const AUDIO_FPS: u64 = 48;
const AUDIO: usize = 300;
/// What is left of 2.5 Mbit/s for every other video frame.
const DELTA: usize = (625_000 - KEY - 2 * AUDIO_FPS as usize * AUDIO) / 59;
/// How late p99 may be beyond one way.
const ALLOWED: Duration = Duration::from_millis(250);
/// Send time in µs since the run began.
const STAMP: usize = 8;
/// How long a receiver may take to its first frame, and then everything to settle.
const FIRST: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(2);
/// How long after the last frame was sent a late one still counts as delivered.
const LATE: Duration = Duration::from_secs(5);
/// The receivers' edge.
const VIEWER: &str = "viewer";
/// Where the relays stand: any two regions that are not one.
const REGIONS: [&str; 2] = ["cn-beijing", "sg"];

/// Runs it.
pub async fn run(args: &Args) -> Outcome<Value> {
    let everywhere = Everywhere::named(&args.profile).map_err(Failure::usage)?;
    let mut runs = serde_json::Map::new();
    for controller in &args.congestion {
        let name = serde_json::to_value(controller).map_err(Failure::failed)?;
        let name = name.as_str().unwrap_or_default().to_owned();
        eprintln!("{name}: measures for {} s", args.seconds);
        runs.insert(name, one(args, everywhere.clone(), *controller).await?);
    }
    Ok(report::report(
        args.seed,
        json!({
            "lessons": args.lessons,
            "rtt_ms": args.rtt,
            "profile": args.profile,
            "offered_mbit_per_s": report::round(f64::from(args.lessons) * 2.5, 1),
            "controllers": runs,
        }),
    ))
}

/// What kind of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Audio,
    Key,
    Delta,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Audio, Kind::Key, Kind::Delta];

    fn name(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Key => "video_key",
            Kind::Delta => "video_delta",
        }
    }

    fn of(frame: &Frame) -> Kind {
        match frame.priority {
            Priority::VideoKey => Kind::Key,
            Priority::VideoDelta => Kind::Delta,
            _ => Kind::Audio,
        }
    }
}

/// Shared by all senders and receivers of a run.
struct Run {
    began: Instant,
    /// Frames sent from then until then are measured, in µs since the run began.
    from_us: AtomicU64,
    until_us: AtomicU64,
    /// Beyond this a frame is late.
    bound_us: u64,
    seen: Mutex<BTreeMap<Kind, Seen>>,
}

#[derive(Default)]
struct Seen {
    sent: u64,
    delivered: u64,
    late: u64,
    bytes: u64,
    latency: Option<Distribution>,
}

impl Run {
    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn measures(&self, sent_us: u64) -> bool {
        let from = self.from_us.load(Ordering::Relaxed);
        (from..self.until_us.load(Ordering::Relaxed)).contains(&sent_us)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, kind: Kind, at_us: u64) {
        if self.measures(at_us) {
            self.lock().entry(kind).or_default().sent += 1;
        }
    }

    fn received(&self, frame: Frame) {
        let kind = Kind::of(&frame);
        let bytes = frame.payload.len() as u64;
        let mut payload = frame.payload;
        if payload.len() < STAMP {
            return;
        }
        let sent = payload.get_u64();
        if !self.measures(sent) {
            return;
        }
        let took = self.now_us().saturating_sub(sent);
        let mut all = self.lock();
        let seen = all.entry(kind).or_default();
        seen.delivered += 1;
        seen.bytes += bytes;
        seen.late += u64::from(took > self.bound_us);
        seen.latency
            .get_or_insert_with(Distribution::new)
            .record_us(took);
    }

    fn outstanding(&self) -> u64 {
        self.lock()
            .values()
            .map(|s| s.sent.saturating_sub(s.delivered))
            .sum()
    }
}

async fn one(args: &Args, everywhere: Everywhere, controller: Controller) -> Outcome<Value> {
    let rtt = Duration::from_millis(args.rtt);
    let regions = REGIONS.map(|name| Region::new(name).expect("a name"));
    let edges = [(ORIGIN, 0), (VIEWER, 1)];
    let backbone = Backbone::start(
        &regions,
        Some(Emulate {
            everywhere,
            seed: args.seed,
            edges: &edges,
            rtt: Some(rtt),
            controller,
        }),
    )?;
    let origin = backbone.edge(ORIGIN, 0).await?;
    let viewer = backbone.edge(VIEWER, 1).await?;
    let run = Arc::new(Run {
        began: Instant::now(),
        from_us: AtomicU64::new(u64::MAX),
        until_us: AtomicU64::new(u64::MAX),
        bound_us: (rtt / 2 + ALLOWED).as_micros() as u64,
        seen: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    let (fed, mut feeding) = watch::channel(0u32);
    let fed = Arc::new(fed);
    for lesson in 0..args.lessons {
        // The golden ratio spreads any number of lessons over a group's time.
        let share = (f64::from(lesson) * 0.618_033_988_75).fract();
        let begins = Duration::from_secs(2).mul_f64(share);
        for kind in [Kind::Audio, Kind::Key] {
            let track = track(lesson, kind);
            let publisher = origin.handle.publish(track.clone());
            tasks.spawn(send(run.clone(), publisher, kind, begins));
            let subscription = load::subscribe(&viewer.handle, track);
            tasks.spawn(receive(run.clone(), subscription, fed.clone()));
        }
    }
    let wanted = 2 * args.lessons;
    let all = tokio::time::timeout(FIRST, feeding.wait_for(|n| *n >= wanted))
        .await
        .is_ok();
    if !all {
        return Err(Failure::failed(format!(
            "{} of {wanted} tracks brought a frame within {FIRST:?}",
            *feeding.borrow()
        )));
    }
    tokio::time::sleep(SETTLE).await;
    backbone.told(0);
    let from = run.now_us();
    run.until_us
        .store(from + args.seconds * 1_000_000, Ordering::Relaxed);
    run.from_us.store(from, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let told = backbone.told(0);
    let deadline = Instant::now() + LATE;
    while run.outstanding() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tasks.shutdown().await;
    Ok(json!({
        "frames": frames(&run, args.seconds),
        "link": link(&told),
    }))
}

fn track(lesson: u32, kind: Kind) -> TrackId {
    let mut track = load::track(&format!("lesson-{lesson}"));
    if kind == Kind::Audio {
        track.track = Track::new("audio").expect("a name");
    }
    track
}

/// A lesson's video or audio, until it is dropped.
async fn send(run: Arc<Run>, publisher: Publisher, kind: Kind, begins: Duration) {
    tokio::time::sleep(begins).await;
    let (fps, group) = match kind {
        Kind::Audio => (AUDIO_FPS, AUDIO_FPS),
        _ => (FPS, GROUP),
    };
    let mut tick = interval(Duration::from_secs(1) / fps as u32);
    // A late source catches up: the rate is part of what is measured.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0u64.. {
        tick.tick().await;
        let timestamp = n * 1_000_000 / fps;
        let first = n % group == 0;
        if first {
            publisher.group(n / group, timestamp, load::wall_us());
        }
        let (priority, size) = match (kind, first) {
            (Kind::Audio, _) => (Priority::Realtime, AUDIO),
            (_, true) => (Priority::VideoKey, KEY),
            (_, false) => (Priority::VideoDelta, DELTA),
        };
        let mut payload = BytesMut::zeroed(size);
        let at = run.now_us();
        (&mut payload[..STAMP]).put_u64(at);
        let frame = Frame {
            timestamp,
            flags: Flags {
                key: first,
                ..Flags::default()
            },
            priority,
            payload: payload.freeze(),
        };
        run.sent(Kind::of(&frame), at);
        publisher.frame(frame);
    }
}

async fn receive(run: Arc<Run>, mut subscription: Subscription, fed: Arc<watch::Sender<u32>>) {
    let mut first = true;
    while let Some(event) = subscription.next().await {
        if let LocalEvent::Frame { frame, .. } = event {
            if std::mem::take(&mut first) {
                fed.send_modify(|n| *n += 1);
            }
            run.received(frame);
        }
    }
}

fn frames(run: &Run, seconds: u64) -> Value {
    let all = run.lock();
    let mut kinds = serde_json::Map::new();
    let (mut bytes, mut sent, mut late) = (0, 0, 0);
    for kind in Kind::ALL {
        let Some(seen) = all.get(&kind) else { continue };
        let lost = seen.sent.saturating_sub(seen.delivered);
        (bytes, sent, late) = (
            bytes + seen.bytes,
            sent + seen.sent,
            late + seen.late + lost,
        );
        let share = (seen.late + lost) as f64 / seen.sent.max(1) as f64;
        kinds.insert(
            kind.name().to_owned(),
            json!({
                "latency_ms": seen.latency.as_ref().map(Distribution::json),
                "lost": lost,
                // Beyond one way and 250 ms, or not at all.
                "late_share": report::round(share, 5),
            }),
        );
    }
    let mut figures = kinds;
    let goodput = bytes as f64 * 8.0 / 1e6 / seconds as f64;
    figures.insert(
        "goodput_mbit_per_s".into(),
        report::round(goodput, 2).into(),
    );
    let share = late as f64 / f64::from(u32::try_from(sent).unwrap_or(u32::MAX)).max(1.0);
    figures.insert("late_share".into(), report::round(share, 5).into());
    Value::Object(figures)
}

/// What the sending relay told of its connection over the link, and of the emulated link itself.
fn link(told: &[Value]) -> Value {
    let series = |pointer: &str| -> Vec<u64> {
        let of = |line: &Value| line.pointer(pointer).and_then(Value::as_u64);
        told.iter().filter_map(of).collect()
    };
    let grown = |pointer: &str| {
        let values = series(pointer);
        values
            .last()
            .zip(values.first())
            .map_or(0, |(last, first)| last - first)
    };
    let peer = |key: &str| format!("/links/relay-2/{key}");
    let sent = grown(&peer("sent_bytes"));
    let repeated = grown(&peer("lost_bytes"));
    let windows = series(&peer("congestion_window"));
    let mut sorted = windows.clone();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize);
    // One value a second is enough to see its shape.
    let over_time: Vec<u64> = windows
        .iter()
        .step_by(10)
        .map(|bytes| bytes / 1_000)
        .collect();
    json!({
        "sent_bytes": sent,
        "sent_packets": grown(&peer("sent_packets")),
        // QUIC repeats what it takes for lost.
        "repeated_share": report::round(repeated as f64 / sent.max(1) as f64, 5),
        "lost_packets": grown("/emulated/lost"),
        "queue_drops": grown("/emulated/queue_full"),
        "window_bytes": { "min": at(0.0), "p50": at(0.5), "max": at(1.0) },
        "window_kb_each_second": over_time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_is_two_and_a_half_megabit() {
        let group = KEY + (GROUP as usize - 1) * DELTA + 2 * AUDIO_FPS as usize * AUDIO;
        let bits_per_s = group as f64 * 8.0 / 2.0;
        assert!((bits_per_s / 2.5e6 - 1.0).abs() < 0.001, "{bits_per_s}");
        assert_eq!(GROUP, 2 * FPS);
    }

    #[test]
    fn a_link_is_told_by_what_grew() {
        let line = |n: u64| {
            json!({
                "links": { "relay-2": {
                    "sent_bytes": 1_000 + 100 * n, "lost_bytes": 10 * n, "sent_packets": n,
                    "congestion_window": 5_000 * (n + 1),
                } },
                "emulated": { "lost": n, "queue_full": 0, "overflowed": 0 },
            })
        };
        let link = link(&[line(0), line(1), line(2)]);
        assert_eq!(link["sent_bytes"], 200);
        assert_eq!(link["repeated_share"], 0.1);
        assert_eq!(link["lost_packets"], 2);
        assert_eq!(
            link["window_bytes"],
            json!({ "min": 5_000, "p50": 10_000, "max": 15_000 })
        );
    }
}
