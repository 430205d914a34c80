//! The load: one source that stamps its frames, and sinks that count them and measure their age.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, BufMut, BytesMut};
use longspan_proto::{
    ids::{Generation, NodeId, Room, RoomName, Stream, Tenant, Track, TrackId},
    wire::{Flags, Frame, Priority, Start},
};
use longspan_relay::{
    forward::LocalEvent,
    node::{Handle, Publisher, Subscription},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::MissedTickBehavior,
};

use super::{backbone::ORIGIN, report::Distribution};
use crate::failure::{Failure, Outcome};

/// What is sent.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Frames a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub fps: u32,
    /// Bytes a frame.
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub size: u32,
    /// Frames a group: each group is a QUIC stream.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub group: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

/// The same for the source; its key frames may be larger.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub fps: u32,
    pub group: u32,
    /// Bytes of a group's first frame.
    pub key: u32,
    /// Bytes of every other one.
    pub size: u32,
}

impl Load {
    pub fn shape(&self) -> Shape {
        Shape {
            fps: self.fps,
            group: self.group,
            key: self.size,
            size: self.size,
        }
    }
}

/// Send time in µs since the run began, and the frame's number.
const STAMP: usize = 16;
/// How long a sink may take to its first frame.
const FIRST: Duration = Duration::from_secs(20);
/// How long after the last frame was sent a late one still counts as delivered.
const LATE: Duration = Duration::from_secs(5);

/// The one track of a bench.
pub fn track(stream: &str) -> TrackId {
    let room = RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("bench").expect("a name"),
    };
    TrackId {
        room,
        stream: Stream::new(stream).expect("a name"),
        track: Track::new("video").expect("a name"),
        generation: Generation(1),
    }
}

/// Takes a track from the origin. No budget: whatever is late is measured, not dropped.
pub fn subscribe(handle: &Handle, track: TrackId) -> Subscription {
    let origin = NodeId::new(ORIGIN).expect("a name");
    handle.subscribe(track, origin, Start::Latest, Duration::ZERO)
}

/// Wall clock, µs since the Unix epoch.
pub fn wall_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// Sends frames at a steady rate until it is dropped.
pub struct Source {
    began: Instant,
    fps: u32,
    sent: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Source {
    pub fn start(publisher: Publisher, shape: Shape) -> Source {
        let began = Instant::now();
        let (tell, sent) = watch::channel(0);
        let task = tokio::spawn(send(publisher, shape, began, tell));
        Source {
            began,
            fps: shape.fps,
            sent,
            task,
        }
    }

    /// Waits until `n` frames were sent.
    pub async fn sent(&self, n: u64) -> Outcome {
        let mut sent = self.sent.clone();
        let reached = sent.wait_for(|sent| *sent >= n).await;
        reached
            .map(|_| ())
            .map_err(|_| Failure::failed("the source ended before its time"))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(publisher: Publisher, shape: Shape, began: Instant, tell: watch::Sender<u64>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / shape.fps);
    // A late source catches up: the rate is part of what is measured.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0u64.. {
        tick.tick().await;
        let timestamp = n * 1_000_000 / u64::from(shape.fps);
        let first = n % u64::from(shape.group) == 0;
        if first {
            publisher.group(n / u64::from(shape.group), timestamp, wall_us());
        }
        let size = if first { shape.key } else { shape.size };
        let mut payload = BytesMut::zeroed(size as usize);
        let mut stamp = &mut payload[..STAMP];
        stamp.put_u64(began.elapsed().as_micros() as u64);
        stamp.put_u64(n);
        let priority = if first {
            Priority::VideoKey
        } else {
            Priority::VideoDelta
        };
        let flags = Flags {
            key: first,
            ..Flags::default()
        };
        publisher.frame(Frame {
            timestamp,
            flags,
            priority,
            payload: payload.freeze(),
        });
        tell.send_replace(n + 1);
    }
}

/// Which frames are measured: `from..until`, by number.
struct Window {
    from: AtomicU64,
    until: AtomicU64,
}

/// What all sinks saw of the measured frames.
pub struct Seen {
    /// Frames sent.
    pub sent: u64,
    /// Frames taken by sinks, each once a sink.
    pub delivered: u64,
    /// Frames that a sink was owed and never got.
    pub lost: u64,
    /// Frames that a sink got twice.
    pub repeated: u64,
    /// From the source's stamp to the sink.
    pub latency: Distribution,
    /// How long the frames were being sent.
    pub took: Duration,
}

/// Lets every sink take the track; calls `at` once when measuring begins and once when the last
/// frame has come or is given up.
pub async fn measure(
    source: &Source,
    load: &Load,
    sinks: Vec<Subscription>,
    mut at: impl FnMut() -> Outcome,
) -> Outcome<Seen> {
    let window = Arc::new(Window::default());
    let owed = sinks.len() as u64;
    let (sinking, mut first) = watch::channel(0u64);
    let (give_up, given_up) = watch::channel(false);
    let sinking = Arc::new(sinking);
    let mut tasks = JoinSet::new();
    for subscription in sinks {
        let sink = Sink {
            subscription,
            window: window.clone(),
            began: source.began,
        };
        tasks.spawn(sink.run(sinking.clone(), given_up.clone()));
    }
    let all = tokio::time::timeout(FIRST, first.wait_for(|n| *n >= owed))
        .await
        .is_ok();
    if !all {
        let have = *first.borrow();
        return Err(Failure::failed(format!(
            "{have} of {owed} receivers got a frame within {FIRST:?}"
        )));
    }
    // Half a second ahead, so that every sink knows the window before it begins.
    let from = *source.sent.borrow() + u64::from(source.fps).div_ceil(2);
    let until = from + u64::from(load.fps) * load.seconds;
    window.until.store(until, Ordering::Release);
    window.from.store(from, Ordering::Release);
    source.sent(from).await?;
    at()?;
    let began = Instant::now();
    source.sent(until).await?;
    let took = began.elapsed();
    let deadline = tokio::time::Instant::now() + LATE;
    let sent = until - from;
    let mut seen = Seen {
        sent,
        delivered: 0,
        lost: 0,
        repeated: 0,
        latency: Distribution::new(),
        took,
    };
    loop {
        match tokio::time::timeout_at(deadline, tasks.join_next()).await {
            Ok(None) => break,
            Ok(Some(counted)) => seen.add(&counted.map_err(Failure::failed)?),
            Err(_) => {
                give_up.send_replace(true);
                while let Some(counted) = tasks.join_next().await {
                    seen.add(&counted.map_err(Failure::failed)?);
                }
                break;
            }
        }
    }
    at()?;
    Ok(seen)
}

impl Seen {
    fn add(&mut self, counted: &Counted) {
        self.delivered += counted.delivered;
        self.lost += self.sent - counted.delivered;
        self.repeated += counted.repeated;
        self.latency.add(&counted.latency);
    }
}

struct Sink {
    subscription: Subscription,
    window: Arc<Window>,
    began: Instant,
}

struct Counted {
    delivered: u64,
    repeated: u64,
    latency: Distribution,
}

impl Sink {
    /// Until every measured frame is here, the track ends or `given_up`.
    async fn run(
        mut self,
        sinking: Arc<watch::Sender<u64>>,
        mut given_up: watch::Receiver<bool>,
    ) -> Counted {
        let mut counted = Counted {
            delivered: 0,
            repeated: 0,
            latency: Distribution::new(),
        };
        let mut have = HashSet::new();
        let mut first = true;
        loop {
            let event = tokio::select! {
                event = self.subscription.next() => event,
                _ = given_up.wait_for(|given_up| *given_up) => return counted,
            };
            let Some(event) = event else { return counted };
            let LocalEvent::Frame { frame, .. } = event else {
                continue;
            };
            let now = self.began.elapsed().as_micros() as u64;
            if std::mem::take(&mut first) {
                sinking.send_modify(|n| *n += 1);
            }
            let mut stamp = frame.payload;
            if stamp.len() < STAMP {
                continue;
            }
            let (sent, n) = (stamp.get_u64(), stamp.get_u64());
            let (from, until) = self.window.get();
            if !(from..until).contains(&n) {
                continue;
            }
            if !have.insert(n) {
                counted.repeated += 1;
                continue;
            }
            counted.delivered += 1;
            counted.latency.record_us(now.saturating_sub(sent));
            if counted.delivered == until - from {
                return counted;
            }
        }
    }
}

impl Default for Window {
    /// Nothing is measured yet.
    fn default() -> Window {
        Window {
            from: AtomicU64::new(u64::MAX),
            until: AtomicU64::new(u64::MAX),
        }
    }
}

impl Window {
    /// The end is stored first, so it is known wherever the beginning is.
    fn get(&self) -> (u64, u64) {
        let from = self.from.load(Ordering::Acquire);
        (from, self.until.load(Ordering::Acquire))
    }
}
