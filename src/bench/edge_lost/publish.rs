//! The publisher's edge is lost and the publisher comes back at another one: how long that one
//! takes to accept it, and how soon viewers elsewhere go on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Args, moment,
    publisher::Publisher,
    record,
    viewer::{Seen, Viewer},
    watch::Order,
    world::{Edge, World},
};
use crate::{
    bench::report::Distribution,
    failure::{Failure, Outcome},
};

const ROOM: &str = "class";
const STREAM: &str = "teacher";
const PATH: &str = "/live/class/teacher.flv";
/// How long anything may take before the run fails.
const WAIT: Duration = Duration::from_secs(30);
/// How long after the fault the publisher tries another edge. Encoders take longer; what is
/// measured begins with the attempt.
const NOTICED: Duration = Duration::from_millis(500);
/// How long the lost edge is watched after it came back: nothing of what it holds may show.
const AFTER: Duration = Duration::from_secs(1);
/// What viewers see, on its way to whoever counts.
const QUEUE: usize = 4_096;

/// Runs all trials.
pub(super) async fn run(args: &Args, world: &World) -> Outcome<Value> {
    let [first, second, elsewhere @ ..] = world.edges.as_slice() else {
        return Err(Failure::failed("longspan up told too few edges"));
    };
    let publishers = [first, second];
    let (mut accepted, mut continued) = (Distribution::new(), Distribution::new());
    let mut publishing = Publishing::start(&first.rtmp).await?;
    let mut viewers = Viewers::new(elsewhere);
    viewers.all_begin().await?;
    for trial in 0..args.trials {
        let [lost, other] = [0, 1].map(|n| publishers[(trial as usize + n) % 2]);
        viewers.watch_for(moment(args.seed, trial)).await?;
        world.strike(args.fault, lost).await?;
        viewers.drain_for(NOTICED).await;
        let attempt = Instant::now();
        let mut next = Publishing::start(&other.rtmp).await?;
        let took = next.accepted - attempt;
        record(&mut accepted, took);
        let begun = viewers.all_begin().await?;
        let key = next.first_key().await?;
        let waits: Vec<Duration> = begun
            .iter()
            .map(|at| at.saturating_duration_since(key))
            .collect();
        eprintln!(
            "{} of {}: accepted after {took:.0?}, continued after {waits:.0?}",
            trial + 1,
            args.trials
        );
        waits.iter().for_each(|took| record(&mut continued, *took));
        // The lost edge comes back with what it holds, the publisher's old connection open.
        world.heal(args.fault, lost).await?;
        // It is back when it is fed: it says it is ready as soon as it runs.
        Viewer::new(&[&lost.http], PATH).within(WAIT).await?;
        viewers.watch_for(AFTER).await?;
        publishing = next;
    }
    drop(publishing);
    let backwards: u64 = viewers.orders.iter().map(|order| order.backwards).sum();
    Ok(json!({
        "viewers": elsewhere.len(),
        "accepted_ms": accepted.json(),
        "continued_ms": continued.json(),
        "backwards": backwards,
        "not_at_key": viewers.not_at_key,
    }))
}

/// A publisher at work; dropping it breaks its connection.
struct Publishing {
    accepted: Instant,
    key: oneshot::Receiver<Instant>,
    _task: JoinSet<()>,
}

impl Publishing {
    async fn start(rtmp: &str) -> Outcome<Publishing> {
        let mut publisher = Publisher::start(rtmp, ROOM, STREAM).await?;
        let accepted = Instant::now();
        let (tell, key) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut tell = Some(tell);
            // Its edge is lost sooner or later: that is what this is about.
            let _ = publisher
                .publish(|| {
                    if let Some(tell) = tell.take() {
                        let _ = tell.send(Instant::now());
                    }
                })
                .await;
            // The connection stays as it is.
            std::future::pending::<()>().await;
        });
        Ok(Publishing {
            accepted,
            key,
            _task: task,
        })
    }

    async fn first_key(&mut self) -> Outcome<Instant> {
        let key = timeout(WAIT, &mut self.key).await;
        let key = key.ok().and_then(Result::ok);
        key.ok_or_else(|| Failure::failed("no key frame was published"))
    }
}

/// Those who watch, and whether what they see is in order.
struct Viewers {
    told: mpsc::Receiver<(usize, Seen, u64)>,
    orders: Vec<Order>,
    not_at_key: u64,
    _watching: JoinSet<()>,
}

impl Viewers {
    fn new(edges: &[Edge]) -> Viewers {
        let (tell, told) = mpsc::channel(QUEUE);
        let mut watching = JoinSet::new();
        for (n, edge) in edges.iter().enumerate() {
            let (mut viewer, tell) = (Viewer::new(&[&edge.http], PATH), tell.clone());
            watching.spawn(async move {
                loop {
                    let seen = viewer.next().await;
                    let not_at_key = std::mem::take(&mut viewer.not_at_key);
                    if tell.send((n, seen, not_at_key)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Viewers {
            told,
            orders: edges.iter().map(|_| Order::default()).collect(),
            not_at_key: 0,
            _watching: watching,
        }
    }

    /// Waits until each has the first picture of another publisher; returns when each had it.
    async fn all_begin(&mut self) -> Outcome<Vec<Instant>> {
        let mut begun = vec![None; self.orders.len()];
        while begun.iter().any(Option::is_none) {
            let (n, seen) = self.next().await?;
            if seen.begins {
                begun[n].get_or_insert(seen.at);
            }
        }
        Ok(begun.into_iter().flatten().collect())
    }

    /// Looks at what comes for a while; something must.
    async fn watch_for(&mut self, time: Duration) -> Outcome {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.next().await?;
        }
        Ok(())
    }

    /// Looks at what comes for a while, if anything does.
    async fn drain_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let drain = async { while self.next().await.is_ok() {} };
        // It has no other end.
        let _ = timeout_at(until, drain).await;
    }

    async fn next(&mut self) -> Outcome<(usize, Seen)> {
        let told = timeout(WAIT, self.told.recv()).await;
        let (n, seen, not_at_key) = told
            .ok()
            .flatten()
            .ok_or_else(|| Failure::failed(format!("viewers saw nothing for {WAIT:?}")))?;
        self.orders[n].see(&seen);
        self.not_at_key += not_at_key;
        Ok((n, seen))
    }
}
