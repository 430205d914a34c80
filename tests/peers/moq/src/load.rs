//! One publisher that stamps its frames, receivers that count them and measure their age: as
//! `src/bench/load.rs` does for our own relay.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, BytesMut};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};
use url::Url;

use crate::relay::Row;

/// What is sent.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Frames a second
    #[arg(long, default_value_t = 50)]
    pub fps: u32,
    /// Bytes a frame
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u32).range(16..))]
    pub size: u32,
    /// Frames a group
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub group: u32,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

/// Send time in µs since the run began, and the frame's number.
const STAMP: usize = 16;
/// Receivers that connect at once.
const CONNECTING: usize = 16;
/// How long all receivers may take to their first frame.
const FIRST: Duration = Duration::from_secs(30);
/// How long after the last frame was sent a late one still counts as delivered.
const LATE: Duration = Duration::from_secs(5);
/// How old a group may get before the peer gives it up. Nothing is dropped for its age, as in
/// `longspan bench`.
const MAX_AGE: Duration = Duration::from_secs(10);

const BROADCAST: &str = "bench";
const TRACK: &str = "video";

/// What all receivers saw of the measured frames.
pub struct Seen {
    pub delivered: u64,
    pub lost: u64,
    pub repeated: u64,
    pub took: Duration,
    latency: Histogram<u64>,
}

impl Seen {
    /// In ms, with the keys of `longspan bench`.
    pub fn latency_json(&self) -> Value {
        let ms = |us: u64| (us as f64 / 10.0).round() / 100.0;
        let at = |quantile| ms(self.latency.value_at_quantile(quantile));
        json!({
            "p50": at(0.5), "p99": at(0.99), "p999": at(0.999),
            "max": ms(self.latency.max()), "n": self.latency.len(),
        })
    }
}

/// A client on an interface of its own choice, in the relay's family of addresses.
fn client() -> Result<moq_tokio::Client> {
    let mut config = moq_tokio::connect::Config::default();
    // The relay's certificate is made for this run.
    config.tls.insecure = Some(true);
    config.bind = Some("0.0.0.0:0".parse()?);
    Ok(config.init(moq_tokio::quic::Config::default())?)
}

fn addresses(url: Url) -> Result<moq_tokio::connect::Addrs> {
    moq_tokio::connect::Addrs::collect([url]).context("an address")
}

/// Which frames are measured: `from..until`, by number.
struct Window {
    from: AtomicU64,
    until: AtomicU64,
}

/// Publishes and receives; calls `at` when measuring begins and when the last frame has come or is
/// given up.
pub async fn run(
    row: &Row,
    load: &Load,
    receivers: u32,
    mut at: impl FnMut() -> Result<()>,
) -> Result<Seen> {
    let began = Instant::now();
    let (tell, mut sent) = watch::channel(0u64);
    let publisher = tokio::spawn(publish(row.first()?, load.clone(), began, tell));
    let window = Arc::new(Window {
        from: AtomicU64::new(u64::MAX),
        until: AtomicU64::new(u64::MAX),
    });
    let (heard, mut first) = watch::channel(0u32);
    let heard = Arc::new(heard);
    let (give_up, given_up) = watch::channel(false);
    let gate = Arc::new(tokio::sync::Semaphore::new(CONNECTING));
    let mut tasks = JoinSet::new();
    for _ in 0..receivers {
        let receiver = Receiver {
            began,
            window: window.clone(),
            counted: Counted::new(),
            have: HashSet::new(),
        };
        tasks.spawn(receiver.run(row.end()?, gate.clone(), heard.clone(), given_up.clone()));
    }
    let all = tokio::time::timeout(FIRST, first.wait_for(|n| *n >= receivers))
        .await
        .is_ok();
    if !all {
        if publisher.is_finished() {
            publisher.await??;
        }
        bail!(
            "{} of {receivers} receivers got a frame within {FIRST:?}",
            *first.borrow()
        );
    }
    // Half a second ahead, so that every receiver knows the window before it begins.
    let from = *sent.borrow() + u64::from(load.fps).div_ceil(2);
    let until = from + u64::from(load.fps) * load.seconds;
    window.until.store(until, Ordering::Release);
    window.from.store(from, Ordering::Release);
    let gone = |_| anyhow::anyhow!("the publisher ended before its time");
    sent.wait_for(|sent| *sent >= from).await.map_err(gone)?;
    at()?;
    let measured = Instant::now();
    sent.wait_for(|sent| *sent >= until).await.map_err(gone)?;
    let mut seen = Seen {
        delivered: 0,
        lost: 0,
        repeated: 0,
        took: measured.elapsed(),
        latency: histogram(),
    };
    let late = tokio::time::sleep(LATE);
    tokio::pin!(late);
    loop {
        tokio::select! {
            counted = tasks.join_next() => match counted {
                None => break,
                Some(counted) => {
                    let counted = counted??;
                    seen.delivered += counted.delivered;
                    seen.lost += (until - from) - counted.delivered;
                    seen.repeated += counted.repeated;
                    seen.latency.add(&counted.latency)?;
                }
            },
            () = &mut late, if !*give_up.borrow() => { give_up.send_replace(true); }
        }
    }
    at()?;
    publisher.abort();
    Ok(seen)
}

/// Publishes for as long as it runs, and tells how many frames it has sent.
pub async fn publish(url: Url, load: Load, began: Instant, tell: watch::Sender<u64>) -> Result<()> {
    let origin = moq_tokio::origin::spawn();
    let broadcast = origin.create_broadcast(BROADCAST)?;
    let info = moq_net::track::Info::default().with_max_age(MAX_AGE);
    let track = broadcast.create_track(TRACK, info)?;
    broadcast.announce(Default::default())?;
    let connection = client()?.with_publisher(&origin).connect(addresses(url)?);
    let _connection = connection.established().await?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / load.fps);
    // A late source catches up: the rate is part of what is measured.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut group: Option<moq_net::group::Producer> = None;
    for n in 0u64.. {
        tick.tick().await;
        if n % u64::from(load.group) == 0 {
            if let Some(group) = group.take() {
                let _ = group.finish();
            }
            group = Some(track.append_group()?);
        }
        let mut payload = BytesMut::zeroed(load.size as usize);
        let mut stamp = &mut payload[..STAMP];
        stamp.put_u64(began.elapsed().as_micros() as u64);
        stamp.put_u64(n);
        let current = group.as_mut().context("a group")?;
        current.write_frame(moq_net::Timestamp::now(), payload.freeze())?;
        if load.group == 1 {
            // Said at once, rather than with the next one.
            group.take().context("a group")?.finish()?;
        }
        tell.send_replace(n + 1);
    }
    Ok(())
}

/// A subscription to all that is published.
pub struct Subscribed {
    pub track: moq_net::track::Subscriber,
    _connection: moq_tokio::Connection,
}

impl Subscribed {
    pub async fn new(url: Url) -> Result<Subscribed> {
        let origin = moq_tokio::origin::spawn();
        let connection = client()?
            .with_subscriber(origin.clone())
            .connect(addresses(url)?);
        let connection = connection.established().await?;
        let broadcast = origin.consume().routed_broadcast(BROADCAST).await?;
        let wanted = moq_net::track::Subscription::default().with_max_age(MAX_AGE);
        let track = broadcast.track(TRACK)?.subscribe(wanted).await?;
        Ok(Subscribed {
            track,
            _connection: connection,
        })
    }
}

/// A frame's number.
pub fn number(payload: &[u8]) -> Option<u64> {
    let mut stamp = payload.get(..STAMP)?;
    stamp.advance(8);
    Some(stamp.get_u64())
}

struct Counted {
    delivered: u64,
    repeated: u64,
    latency: Histogram<u64>,
}

impl Counted {
    fn new() -> Counted {
        Counted {
            delivered: 0,
            repeated: 0,
            latency: histogram(),
        }
    }
}

/// Three digits up to a minute, in µs.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("fixed bounds are valid")
}

struct Receiver {
    began: Instant,
    window: Arc<Window>,
    counted: Counted,
    have: HashSet<u64>,
}

impl Receiver {
    /// Until every measured frame is here, or `given_up`.
    async fn run(
        mut self,
        url: Url,
        gate: Arc<tokio::sync::Semaphore>,
        heard: Arc<watch::Sender<u32>>,
        mut given_up: watch::Receiver<bool>,
    ) -> Result<Counted> {
        let connecting = gate.acquire().await?;
        let mut subscribed = Subscribed::new(url).await?;
        drop(connecting);
        // Groups arrive side by side; each is read by a task of its own.
        let (frames, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let mut groups = JoinSet::new();
        let mut first = true;
        loop {
            tokio::select! {
                group = subscribed.track.recv_group() => {
                    let Some(mut group) = group? else { return Ok(self.counted) };
                    let frames = frames.clone();
                    groups.spawn(async move {
                        while let Ok(Some(frame)) = group.read_frame().await {
                            let _ = frames.send((Instant::now(), frame.payload));
                        }
                    });
                }
                Some(_) = groups.join_next() => {}
                Some((at, payload)) = arrived.recv() => {
                    if std::mem::take(&mut first) {
                        heard.send_modify(|n| *n += 1);
                    }
                    if self.take(at, &payload) {
                        return Ok(self.counted);
                    }
                }
                _ = given_up.wait_for(|given_up| *given_up) => return Ok(self.counted),
            }
        }
    }

    /// Counts a frame; whether it was the last one.
    fn take(&mut self, at: Instant, mut payload: &[u8]) -> bool {
        if payload.len() < STAMP {
            return false;
        }
        let (sent, n) = (payload.get_u64(), payload.get_u64());
        let from = self.window.from.load(Ordering::Acquire);
        let until = self.window.until.load(Ordering::Acquire);
        if !(from..until).contains(&n) {
            return false;
        }
        if !self.have.insert(n) {
            self.counted.repeated += 1;
            return false;
        }
        let age = at.duration_since(self.began).as_micros() as u64;
        self.counted.delivered += 1;
        self.counted
            .latency
            .saturating_record(age.saturating_sub(sent).max(1));
        self.counted.delivered == until - from
    }
}
