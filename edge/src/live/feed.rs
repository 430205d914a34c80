//! One stream that is watched here over HLS: pulls it and cuts it into segments, for as long as
//! somebody asks for them. Apart from the [hub](super::hub), because a segment is a whole group:
//! both read the same groups from this node's cache, so nothing crosses the backbone twice.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use longspan_proto::{ids::NodeId, time::Time};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::follow::{Event, Follow};
use crate::{
    clock::Clock,
    hls::{Name, Segmenter, Window},
};

/// How often a feed looks whether it is still needed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// A stream's newest segments.
#[derive(Debug)]
pub struct Feed {
    clock: Clock,
    window: Mutex<Window>,
    /// When somebody last asked, in µs of the clock.
    asked: AtomicU64,
    segments: watch::Sender<u64>,
    /// The way the media takes, origin first, this node last.
    path: Mutex<Option<Vec<NodeId>>>,
}

impl Feed {
    pub(super) fn new(clock: Clock) -> Feed {
        Feed {
            clock,
            window: Mutex::new(Window::new()),
            asked: AtomicU64::new(clock.now().as_micros()),
            segments: watch::channel(0).0,
            path: Mutex::default(),
        }
    }

    /// The playlist, with `query` behind each URI if there is one. The first one is waited for.
    pub async fn playlist(&self, query: Option<&str>, wait: Duration) -> Option<String> {
        self.touch();
        let mut segments = self.segments.subscribe();
        // An elapsed time shows in the playlist's absence.
        let _ = timeout(wait, segments.wait_for(|count| *count > 0)).await;
        self.touch();
        let window = self.lock();
        match query {
            Some(query) => window.playlist_with_query(query),
            None => window.playlist(),
        }
    }

    /// A segment or an init segment, if it is still held.
    pub fn get(&self, name: &Name) -> Option<Bytes> {
        self.touch();
        self.lock().get(name)
    }

    /// The way the media takes here, origin first, this node last, once that is known.
    pub fn path(&self) -> Option<Vec<NodeId>> {
        self.path
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Cuts segments until nobody publishes any more or nobody has asked for `linger`.
    pub(super) async fn run(&self, mut follow: Follow, linger: Duration) {
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut segmenter: Option<Segmenter> = None;
        loop {
            tokio::select! {
                event = follow.next() => match event {
                    Event::Begin { generation, catalog } => {
                        self.finish(segmenter.take());
                        segmenter = Some(Segmenter::new(generation, &catalog));
                    }
                    Event::Track(kind, event) => {
                        if let Some(segmenter) = &mut segmenter {
                            segmenter.handle(kind, event);
                            self.list(segmenter);
                        }
                    }
                    Event::Path(path) => {
                        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
                        follow.room().changed();
                    }
                    Event::Catalog(_) => {}
                    Event::Ended => break,
                },
                _ = housekeeping.tick() => {
                    let asked = Time::from_micros(self.asked.load(Ordering::Relaxed));
                    if self.clock.now().saturating_since(asked) >= linger {
                        break;
                    }
                }
            }
        }
        self.finish(segmenter);
    }

    fn finish(&self, segmenter: Option<Segmenter>) {
        if let Some(mut segmenter) = segmenter {
            segmenter.finish();
            self.list(&mut segmenter);
        }
    }

    fn list(&self, segmenter: &mut Segmenter) {
        while let Some(segment) = segmenter.poll_segment() {
            self.lock().push(segment);
            self.segments.send_modify(|count| *count += 1);
        }
    }

    fn touch(&self) {
        let now = self.clock.now().as_micros();
        self.asked.store(now, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
