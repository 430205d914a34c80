//! The rooms somebody here is in: what the controllers say of them, and how many of us are there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use longspan_proto::{
    control::RoomState,
    ids::{Generation, NodeId, RoomName, Stream},
};
use longspan_relay::node::{Handle, RoomWatch};
use tokio::sync::watch;

/// As many rooms are open here as this edge takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this edge serves {limit} rooms already, which is its limit")]
pub struct TooMany {
    /// The limit.
    pub limit: usize,
}

/// All rooms of this edge.
pub struct Rooms {
    node: Handle,
    limit: usize,
    linger: Duration,
    open: Mutex<HashMap<RoomName, Entry>>,
}

struct Entry {
    room: Arc<Room>,
    /// Since when nobody but this table holds it.
    idle: Option<Instant>,
}

/// One room, for as long as somebody holds it and a little longer.
pub struct Room {
    name: RoomName,
    watch: RoomWatch,
    viewers: AtomicU32,
    members: AtomicU32,
    /// Counts what changed of how its streams come here.
    changes: watch::Sender<u64>,
}

/// Where a stream enters the backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The edge its publisher is at.
    pub node: NodeId,
    /// The publisher's fencing number.
    pub generation: Generation,
    /// The HLS media sequence number of its group 0.
    pub hls_base: u64,
}

impl Rooms {
    pub(crate) fn new(node: Handle, limit: usize, linger: Duration) -> Rooms {
        Rooms {
            node,
            limit,
            linger,
            open: Mutex::default(),
        }
    }

    /// The room of this name, watched from now on.
    pub fn get(&self, name: &RoomName) -> Result<Arc<Room>, TooMany> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = open.get_mut(name) {
            entry.idle = None;
            return Ok(entry.room.clone());
        }
        if open.len() >= self.limit {
            return Err(TooMany { limit: self.limit });
        }
        let room = Arc::new(Room {
            name: name.clone(),
            watch: self.node.watch_room(name.clone()),
            viewers: AtomicU32::new(0),
            members: AtomicU32::new(0),
            changes: watch::Sender::new(0),
        });
        let entry = Entry {
            room: room.clone(),
            idle: None,
        };
        open.insert(name.clone(), entry);
        Ok(room)
    }

    /// Forgets rooms that nobody has held for a while. Called every second.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, entry| {
            if Arc::strong_count(&entry.room) > 1 {
                entry.idle = None;
                return true;
            }
            now.duration_since(*entry.idle.get_or_insert(now)) < self.linger
        });
    }
}

impl Room {
    /// Its name.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// What the controllers say of it, as it changes; `None` until they said something.
    pub fn state(&self) -> watch::Receiver<Option<Arc<RoomState>>> {
        self.watch.state()
    }

    /// What the controllers say of it, waited for at most `wait`.
    pub async fn known(&self, wait: Duration) -> Option<Arc<RoomState>> {
        let mut state = self.state();
        let known = tokio::time::timeout(wait, state.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// Changes when a stream takes another path to here, or another generation of it is shown.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// See [`Room::changes`].
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Viewers at this edge.
    pub fn viewers(&self) -> u32 {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Members of the room's messages at this edge.
    pub fn members(&self) -> u32 {
        self.members.load(Ordering::Relaxed)
    }

    /// A viewer, for as long as what is returned is held.
    pub(crate) fn viewer(self: &Arc<Room>) -> Counted {
        Counted::new(self.clone(), |room| &room.viewers)
    }

    /// A member of the room's messages, for as long as what is returned is held.
    pub fn member(self: &Arc<Room>) -> Counted {
        Counted::new(self.clone(), |room| &room.members)
    }
}

/// Somebody who is counted in a room.
pub struct Counted {
    room: Arc<Room>,
    counter: fn(&Room) -> &AtomicU32,
}

impl Counted {
    fn new(room: Arc<Room>, counter: fn(&Room) -> &AtomicU32) -> Counted {
        counter(&room).fetch_add(1, Ordering::Relaxed);
        let counted = Counted { room, counter };
        counted.tell();
        counted
    }

    /// In which.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    fn tell(&self) {
        let Room { watch, .. } = &*self.room;
        watch.set_counts(self.room.viewers(), self.room.members());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.room).fetch_sub(1, Ordering::Relaxed);
        self.tell();
    }
}

/// Where a stream enters the backbone, by what the controllers say of its room.
pub fn origin(state: &RoomState, stream: &Stream) -> Option<Origin> {
    let found = state.streams.iter().find(|s| s.stream == stream.as_str())?;
    let node = NodeId::new(&found.origin)
        .inspect_err(|error| tracing::warn!(%error, %stream, "room state names no valid origin"))
        .ok()?;
    Some(Origin {
        node,
        generation: Generation(found.generation),
        hls_base: found.hls_base,
    })
}
