//! A viewer's own edge is lost: how long it is without anything new.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Args, moment, record,
    viewer::{SILENCE, Viewer},
    world::World,
};
use crate::{
    bench::report::Distribution,
    failure::{Failure, Outcome},
};

/// What `up` plays.
const ROOM: &str = "lesson";
const PATH: &str = "/live/lesson/teacher.flv";
/// How long a viewer may be without tags before the run fails.
const WAIT: Duration = Duration::from_secs(30);
/// How long it is looked at afterwards whether all is in order.
const AFTER: Duration = Duration::from_secs(1);

/// Runs all trials.
pub(super) async fn run(args: &Args, world: &World) -> Outcome<Value> {
    let [.., second, lost] = world.edges.as_slice() else {
        return Err(Failure::failed("longspan up told too few edges"));
    };
    let (mut gap, mut order) = (Distribution::new(), Order::default());
    let mut not_at_key = 0;
    let warm = args.warm.then(|| keep_warm(&second.http));
    for trial in 0..args.trials {
        if !args.warm {
            world.cold(second, ROOM).await?;
        }
        // It has just come back, or up: a viewer that knows no other waits for it.
        Viewer::new(&[&lost.http], PATH).within(WAIT).await?;
        let mut viewer = Viewer::new(&[&lost.http, &second.http], PATH);
        let first = viewer.within(WAIT).await?;
        if first.edge != 0 {
            return Err(Failure::failed(format!("{} does not deliver", lost.id)));
        }
        order.begin();
        let strikes = Instant::now() + moment(args.seed, trial);
        while Instant::now() < strikes {
            order.see(&viewer.within(WAIT).await?);
        }
        let struck = Instant::from_std(world.strike(args.fault, lost).await?);
        let mut last = struck;
        let took = loop {
            let seen = viewer.within(WAIT).await?;
            order.see(&seen);
            if seen.edge == 1 {
                break seen.at.saturating_duration_since(last);
            }
            // What was under way still arrives.
            last = seen.at;
        };
        eprintln!("{} of {}: {took:.0?}", trial + 1, args.trials);
        record(&mut gap, took);
        let over = Instant::now() + AFTER;
        world.heal(args.fault, lost).await?;
        while Instant::now() < over {
            order.see(&viewer.within(WAIT).await?);
        }
        not_at_key += viewer.not_at_key;
    }
    drop(warm);
    Ok(json!({
        "second_edge": if args.warm { "warm" } else { "cold" },
        "silence_ms": SILENCE.as_millis() as u64,
        "gap_ms": gap.json(),
        "backwards": order.backwards,
        "not_at_key": not_at_key,
    }))
}

/// Somebody else at an edge, for as long as what is returned lives.
fn keep_warm(http: &str) -> tokio::task::JoinSet<()> {
    let mut other = Viewer::new(&[http], PATH);
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        loop {
            other.next().await;
        }
    });
    task
}

/// Whether what a viewer shows can be shown.
#[derive(Default)]
pub(super) struct Order {
    last: Option<u32>,
    /// Pictures that were not later than the one before.
    pub(super) backwards: u64,
}

impl Order {
    /// Another viewer.
    pub(super) fn begin(&mut self) {
        self.last = None;
    }

    pub(super) fn see(&mut self, seen: &super::viewer::Seen) {
        if !seen.picture {
            return;
        }
        let backwards = self.last.is_some_and(|last| seen.timestamp <= last);
        self.backwards += u64::from(backwards);
        self.last = Some(seen.timestamp);
    }
}
