//! Streams that are watched here.
//!
//! ```text
//! room state ─► Follow ─► Source (subscriptions) ─► Assembler ─► Stage ─► Outlet ─► Viewer …
//!                  └───────────────────────────────────────────► Feed (HLS segments)
//! ```
//!
//! A stream is pulled once however many watch it, and each format is written once: a [`Viewer`]
//! is a [cursor](ring::Cursor) into a [ring](ring::Ring). When a publisher is followed by
//! another, viewers stay and go on at the new one's first key frame.

mod feed;
mod follow;
mod hub;
mod peek;
pub mod ring;
mod source;
mod stage;
mod viewer;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use longspan_proto::ids::{NodeId, RoomName, Stream};
use longspan_relay::node::Handle;
use metrics::gauge;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    feed::Feed,
    stage::{Description, Format, Piece},
    viewer::{Item, Viewer},
};
use self::{follow::Follow, hub::Hub, peek::Peeks};
use crate::{
    clock::Clock,
    config::Limits,
    door::{Doors, GoingAway},
    media::Catalog,
    rooms::{Origin, Room, Rooms, TooMany, origin},
};

/// Why a stream cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Nobody publishes it.
    #[error("nobody publishes the stream {stream:?} in the room {room:?}")]
    UnknownStream {
        /// The room.
        room: String,
        /// The stream.
        stream: String,
    },
    /// The room's state is not known.
    #[error("the state of the room {room:?} is not known: no controller answered in time")]
    Unavailable {
        /// The room.
        room: String,
    },
    /// It is on, but nothing of it arrives.
    #[error("the stream {stream:?} is on, but nothing of it arrived within {seconds} s")]
    Silent {
        /// The stream.
        stream: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// As many viewers are here as this edge takes.
    #[error("this edge has {limit} viewers already, which is its limit")]
    TooManyViewers {
        /// The limit.
        limit: usize,
    },
    /// As many streams are watched here as this edge takes.
    #[error("{limit} streams are watched at this edge already, which is its limit")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// See [`TooMany`].
    #[error(transparent)]
    TooManyRooms(#[from] TooMany),
    /// The edge takes nobody new.
    #[error(transparent)]
    GoingAway(#[from] GoingAway),
    /// The edge is stopping.
    #[error("this edge is stopping; use another one")]
    Stopping,
}

impl WatchError {
    /// For errors and counters.
    pub fn slug(&self) -> &'static str {
        match self {
            WatchError::UnknownStream { .. } => "unknown_stream",
            WatchError::Unavailable { .. } => "unavailable",
            WatchError::Silent { .. } => "silent_stream",
            WatchError::TooManyViewers { .. } => "too_many_viewers",
            WatchError::TooManyStreams { .. } => "too_many_streams",
            WatchError::TooManyRooms(_) => "too_many_rooms",
            WatchError::GoingAway(_) => "going_away",
            WatchError::Stopping => "stopping",
        }
    }
}

type Key = (RoomName, Stream);

/// All streams that are watched here.
pub struct Live {
    node: Handle,
    rooms: Arc<Rooms>,
    limits: Limits,
    clock: Clock,
    permits: Arc<Semaphore>,
    hubs: Mutex<HashMap<Key, Arc<Hub>>>,
    feeds: Mutex<HashMap<Key, Arc<Feed>>>,
    peeks: Peeks,
    doors: Arc<Doors>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Live {
    pub(crate) fn new(
        node: Handle,
        rooms: Arc<Rooms>,
        limits: Limits,
        doors: Arc<Doors>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Live {
        Live {
            node,
            rooms,
            limits,
            clock: Clock::new(),
            permits: Arc::new(Semaphore::new(limits.viewers)),
            hubs: Mutex::default(),
            feeds: Mutex::default(),
            peeks: Peeks::default(),
            doors,
            tasks,
            stop,
        }
    }

    /// Whether a stream is on, without watching it.
    pub async fn find(&self, room: &RoomName, stream: &Stream) -> Result<Arc<Room>, WatchError> {
        let room = self.rooms.get(room)?;
        let Some(state) = room.known(self.limits.room_wait).await else {
            let room = room.name().room.to_string();
            return Err(WatchError::Unavailable { room });
        };
        if origin(&state, stream).is_none() {
            return Err(WatchError::UnknownStream {
                room: room.name().room.to_string(),
                stream: stream.to_string(),
            });
        }
        Ok(room)
    }

    /// A viewer of a stream that is on.
    pub async fn watch(
        self: &Arc<Live>,
        room: &RoomName,
        stream: &Stream,
        format: Format,
    ) -> Result<Viewer, WatchError> {
        match format {
            Format::Rtmp => self.doors.enter_by_rtmp()?,
            Format::Flv | Format::Mp4 => self.doors.enter()?,
        }
        let limit = self.limits.viewers;
        let permit = self
            .permits
            .clone()
            .try_acquire_owned()
            .map_err(|_| WatchError::TooManyViewers { limit })?;
        let room = self.find(room, stream).await?;
        loop {
            let hub = self.hub(&room, stream)?;
            // A hub that has just ended is out of the table in a moment.
            if let Some(outlet) = hub.join(format) {
                let in_room = room.viewer();
                let clock = self.clock;
                return Ok(Viewer::new(clock, hub, outlet, format, in_room, permit));
            }
            tokio::task::yield_now().await;
        }
    }

    /// The segments of a stream that is on.
    pub async fn feed(
        self: &Arc<Live>,
        room: &RoomName,
        stream: &Stream,
    ) -> Result<Arc<Feed>, WatchError> {
        let key = (room.clone(), stream.clone());
        if let Some(feed) = lock(&self.feeds).get(&key) {
            return Ok(feed.clone());
        }
        self.doors.enter()?;
        let room = self.find(room, stream).await?;
        let mut feeds = lock(&self.feeds);
        if let Some(feed) = feeds.get(&key) {
            return Ok(feed.clone());
        }
        self.check_room_for_more(feeds.len())?;
        let feed = Arc::new(Feed::new(self.clock));
        feeds.insert(key.clone(), feed.clone());
        let (live, task, follow) = (self.clone(), feed.clone(), self.follow(&room, stream));
        self.tasks.spawn(async move {
            live.while_allowed(task.run(follow, live.limits.hls_linger))
                .await;
            lock(&live.feeds).remove(&key);
        });
        Ok(feed)
    }

    /// The segments of a stream, if it is being cut already.
    pub fn running_feed(&self, room: &RoomName, stream: &Stream) -> Option<Arc<Feed>> {
        let key = (room.clone(), stream.clone());
        lock(&self.feeds).get(&key).cloned()
    }

    /// What is known of a stream that is watched here. Whoever watches over HLS has no session,
    /// so is not counted.
    pub fn watched(&self, room: &RoomName, stream: &Stream) -> Watched {
        let key = (room.clone(), stream.clone());
        let hub = lock(&self.hubs).get(&key).cloned();
        let feed = lock(&self.feeds).get(&key).cloned();
        Watched {
            viewers: hub.as_ref().map_or(0, |hub| hub.viewers()),
            path: hub
                .as_ref()
                .and_then(|hub| hub.path())
                .or_else(|| feed?.path()),
            catalog: hub.and_then(|hub| hub.catalog()),
        }
    }

    /// What a stream is made of, asked of its publisher's edge.
    pub async fn catalog(
        &self,
        room: &RoomName,
        stream: &Stream,
        origin: &Origin,
    ) -> Option<Arc<Catalog>> {
        self.peeks.catalog(&self.node, room, stream, origin).await
    }

    fn hub(self: &Arc<Live>, room: &Arc<Room>, stream: &Stream) -> Result<Arc<Hub>, WatchError> {
        let key = (room.name().clone(), stream.clone());
        let mut hubs = lock(&self.hubs);
        if let Some(hub) = hubs.get(&key) {
            return Ok(hub.clone());
        }
        self.check_room_for_more(hubs.len())?;
        let hub = Arc::new(Hub::new(self.clock, self.limits.ring));
        hubs.insert(key.clone(), hub.clone());
        gauge!("longspan_live_streams").set(hubs.len() as f64);
        let (live, task, follow) = (self.clone(), hub.clone(), self.follow(room, stream));
        self.tasks.spawn(async move {
            live.while_allowed(task.run(follow, live.limits.linger))
                .await;
            task.close();
            let mut hubs = lock(&live.hubs);
            hubs.remove(&key);
            gauge!("longspan_live_streams").set(hubs.len() as f64);
        });
        Ok(hub)
    }

    /// Does a stream's task, unless the edge stops, or those who are here may not stay any longer.
    async fn while_allowed(&self, task: impl Future<Output = ()>) {
        tokio::select! {
            () = task => {}
            () = self.doors.over() => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn check_room_for_more(&self, running: usize) -> Result<(), WatchError> {
        let limit = self.limits.streams;
        if self.stop.is_cancelled() {
            return Err(WatchError::Stopping);
        }
        if running >= limit {
            return Err(WatchError::TooManyStreams { limit });
        }
        Ok(())
    }

    fn follow(&self, room: &Arc<Room>, stream: &Stream) -> Follow {
        let limits = &self.limits;
        Follow::new(
            self.node.clone(),
            room.clone(),
            stream.clone(),
            limits.budget,
            limits.publisher_grace,
        )
    }
}

/// What is known of a stream that is watched here.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Viewers at this edge.
    pub viewers: usize,
    /// The way its media takes, origin first, this node last, once that is known.
    pub path: Option<Vec<NodeId>>,
    /// What it is made of, once that is known.
    pub catalog: Option<Arc<Catalog>>,
}

fn lock<T>(table: &Mutex<HashMap<Key, T>>) -> MutexGuard<'_, HashMap<Key, T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
