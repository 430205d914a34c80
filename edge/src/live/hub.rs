//! One stream that is watched here: pulls it and feeds its viewers, for as long as there are any.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longspan_proto::ids::NodeId;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    follow::{Event, Follow},
    ring,
    stage::{Format, Outlet, Stage},
};
use crate::{
    clock::Clock,
    media::{Assembler, Catalog, Kind},
};

/// How often a hub looks whether it is still needed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a hub's viewers and its task share.
#[derive(Debug)]
pub(super) struct Hub {
    clock: Clock,
    viewers: AtomicUsize,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    stage: Stage,
    path: Option<Vec<NodeId>>,
    /// No one may join any more.
    closed: bool,
}

impl Hub {
    pub(super) fn new(clock: Clock, limits: ring::Limits) -> Hub {
        Hub {
            clock,
            viewers: AtomicUsize::new(0),
            shared: Mutex::new(Shared {
                stage: Stage::new(limits),
                path: None,
                closed: false,
            }),
        }
    }

    /// Counts a viewer in; `None` if the hub has just ended.
    pub(super) fn join(&self, format: Format) -> Option<Arc<Outlet>> {
        let mut shared = self.lock();
        if shared.closed {
            return None;
        }
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Some(shared.stage.outlet(self.clock.now(), format))
    }

    /// Counts a viewer out, who joined.
    pub(super) fn leave(&self) {
        self.viewers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// The way the media takes here, origin first, this node last, once that is known.
    pub(super) fn path(&self) -> Option<Vec<NodeId>> {
        self.lock().path.clone()
    }

    /// What the stream is made of, once that is known.
    pub(super) fn catalog(&self) -> Option<Arc<Catalog>> {
        self.lock().stage.catalog().cloned()
    }

    /// Feeds the viewers until nobody publishes any more or nobody has watched for `linger`.
    pub(super) async fn run(&self, mut follow: Follow, linger: Duration) {
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut assembler = Assembler::new(true, true);
        let mut needed = Instant::now();
        loop {
            let due = assembler.poll_timeout().map(|at| self.clock.instant(at));
            tokio::select! {
                event = follow.next() => match event {
                    Event::Ended => break,
                    event => {
                        let told = event.is_told();
                        self.take(event, &mut assembler);
                        if told {
                            follow.room().changed();
                        }
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = housekeeping.tick() => {
                    let mut shared = self.lock();
                    shared.stage.prune();
                    if self.viewers() > 0 {
                        needed = Instant::now();
                    } else if needed.elapsed() >= linger {
                        shared.closed = true;
                        break;
                    }
                }
            }
            self.feed(&mut assembler);
        }
        self.close();
    }

    /// Ends all viewers once they have read what is there.
    pub(super) fn close(&self) {
        let mut shared = self.lock();
        shared.closed = true;
        shared.stage.close();
    }

    fn take(&self, event: Event, assembler: &mut Assembler) {
        match event {
            Event::Begin { catalog, .. } => {
                *assembler = for_catalog(&catalog);
                self.lock().stage.begin(catalog);
            }
            Event::Catalog(catalog) => {
                let mut shared = self.lock();
                let same = |known: &Arc<Catalog>| {
                    Kind::ALL
                        .iter()
                        .all(|kind| known.has(*kind) == catalog.has(*kind))
                };
                if !shared.stage.catalog().is_some_and(same) {
                    *assembler = for_catalog(&catalog);
                }
                shared.stage.announce(catalog);
            }
            Event::Track(kind, event) => assembler.handle(self.clock.now(), kind, event),
            Event::Path(path) => self.lock().path = Some(path),
            Event::Ended => {}
        }
    }

    fn feed(&self, assembler: &mut Assembler) {
        let now = self.clock.now();
        let Some(first) = assembler.poll(now) else {
            return;
        };
        let mut shared = self.lock();
        shared.stage.push(now, first);
        while let Some(next) = assembler.poll(now) {
            shared.stage.push(now, next);
        }
        shared.stage.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn for_catalog(catalog: &Catalog) -> Assembler {
    Assembler::new(catalog.has(Kind::Video), catalog.has(Kind::Audio))
}
