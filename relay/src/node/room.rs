//! Rooms this node serves, and streams it takes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use longspan_proto::{
    control,
    ids::{Generation, Room, RoomName, Tenant},
    wire::moving::Moved,
};
use tokio::sync::{Notify, watch};

/// What is known of a room; `None` until a controller told it.
pub type RoomView = watch::Receiver<Option<Arc<control::RoomState>>>;

#[derive(Default)]
struct Entry {
    state: watch::Sender<Option<Arc<control::RoomState>>>,
    /// (viewers, members) by watch.
    counts: HashMap<u64, (u32, u32)>,
}

#[derive(Default)]
struct State {
    rooms: HashMap<RoomName, Entry>,
    numbers: u64,
    /// Watched, left, or counted anew since the controller was told.
    dirty: BTreeSet<RoomName>,
}

/// All rooms that are watched.
#[derive(Default)]
pub(crate) struct Rooms {
    state: Mutex<State>,
    pub changed: Notify,
}

/// What the controller is to be told of a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Watch {
        room: RoomName,
        viewers: u32,
        members: u32,
    },
    Unwatch(RoomName),
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, state: &mut State, room: &RoomName) {
        state.dirty.insert(room.clone());
        self.changed.notify_one();
    }

    /// What was not told yet; rooms in `hold` stay for later.
    pub fn take_changes(&self, hold: &BTreeSet<RoomName>) -> Vec<Change> {
        let mut state = self.lock();
        let dirty = std::mem::take(&mut state.dirty);
        let mut changes = Vec::new();
        for room in dirty {
            let watched = state.rooms.contains_key(&room);
            if watched && hold.contains(&room) {
                state.dirty.insert(room);
                continue;
            }
            changes.push(state.change(room));
        }
        changes
    }

    /// Everything that is watched, for a controller that knows nothing.
    pub fn all(&self) -> Vec<Change> {
        let mut state = self.lock();
        state.dirty.clear();
        let rooms: Vec<RoomName> = state.rooms.keys().cloned().collect();
        rooms.into_iter().map(|room| state.change(room)).collect()
    }

    /// The controller told a room. An older revision than the one held is ignored; so is which group
    /// keeps the room's log, if a group itself said later where it went.
    pub fn told(&self, mut told: control::RoomState) {
        let (Ok(tenant), Ok(room)) = (Tenant::new(&told.tenant), Room::new(&told.room)) else {
            tracing::warn!(told.tenant, told.room, "the controller names an odd room");
            return;
        };
        if let Some(entry) = self.lock().rooms.get(&RoomName { tenant, room }) {
            entry.state.send_if_modified(|held| {
                if let Some(held) = held
                    && held.moved > told.moved
                {
                    (told.group, told.moved) = (held.group, held.moved);
                    told.members.clone_from(&held.members);
                }
                let newer = held
                    .as_ref()
                    .is_none_or(|held| held.revision <= told.revision && **held != told);
                if newer {
                    *held = Some(Arc::new(told));
                }
                newer
            });
        }
    }

    /// The group that kept a room said that it went elsewhere.
    pub fn moved(&self, room: &RoomName, moved: &Moved) {
        let state = self.lock();
        let Some(entry) = state.rooms.get(room) else {
            return;
        };
        entry.state.send_if_modified(|held| {
            let Some(known) = held.as_ref().filter(|known| known.moved < moved.word) else {
                return false;
            };
            *held = Some(Arc::new(control::RoomState {
                group: moved.group,
                moved: moved.word,
                members: moved.nodes.iter().map(ToString::to_string).collect(),
                ..control::RoomState::clone(known)
            }));
            true
        });
    }

    /// The highest generation seen in any room.
    pub fn highest_generation(&self) -> u64 {
        let state = self.lock();
        let told = state.rooms.values().filter_map(|entry| {
            let held = entry.state.borrow();
            let held = held.as_ref()?;
            held.streams.iter().map(|s| s.generation).max()
        });
        told.max().unwrap_or(0)
    }

    pub fn len(&self) -> usize {
        self.lock().rooms.len()
    }
}

impl State {
    fn change(&self, room: RoomName) -> Change {
        match self.rooms.get(&room) {
            None => Change::Unwatch(room),
            Some(entry) => {
                let sum = |of: fn(&(u32, u32)) -> u32| {
                    entry.counts.values().map(of).fold(0, u32::saturating_add)
                };
                Change::Watch {
                    viewers: sum(|c| c.0),
                    members: sum(|c| c.1),
                    room,
                }
            }
        }
    }
}

/// Interest in a room: while any is held, the controller tells this node of the room. Dropping
/// the last one ends it.
pub struct RoomWatch {
    rooms: Arc<Rooms>,
    room: RoomName,
    number: u64,
    view: RoomView,
}

impl RoomWatch {
    pub(crate) fn new(rooms: Arc<Rooms>, room: RoomName) -> RoomWatch {
        let mut state = rooms.lock();
        state.numbers += 1;
        let number = state.numbers;
        let entry = state.rooms.entry(room.clone()).or_default();
        let first = entry.counts.is_empty();
        entry.counts.insert(number, (0, 0));
        let view = entry.state.subscribe();
        if first {
            rooms.mark(&mut state, &room);
        }
        drop(state);
        RoomWatch {
            rooms,
            room,
            number,
            view,
        }
    }

    /// Which room.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// What is known of it; kept while no controller is reachable.
    pub fn state(&self) -> RoomView {
        self.view.clone()
    }

    /// How many viewers and members this watch stands for; the sum over a room's watches is told
    /// to the controller, at most once a second.
    pub fn set_counts(&self, viewers: u32, members: u32) {
        let mut state = self.rooms.lock();
        let Some(entry) = state.rooms.get_mut(&self.room) else {
            return;
        };
        if entry.counts.insert(self.number, (viewers, members)) != Some((viewers, members)) {
            self.rooms.mark(&mut state, &self.room);
        }
    }
}

impl Drop for RoomWatch {
    fn drop(&mut self) {
        let mut state = self.rooms.lock();
        let Some(entry) = state.rooms.get_mut(&self.room) else {
            return;
        };
        let counted = entry.counts.remove(&self.number) != Some((0, 0));
        let last = entry.counts.is_empty();
        if last {
            state.rooms.remove(&self.room);
        }
        if last || counted {
            self.rooms.mark(&mut state, &self.room);
        }
    }
}

/// A stream was taken for a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The fencing number; part of the tracks' identity.
    pub generation: Generation,
    /// The HLS media sequence number of group 0.
    pub hls_base: u64,
}

/// Why a stream was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another identity holds it.
    #[error("{message}")]
    Held {
        /// The controller's words.
        message: String,
    },
    /// The controller refuses for another reason; trying again will not help.
    #[error("{message}")]
    Refused {
        /// The controller's words.
        message: String,
    },
    /// No controller answers; a running stream is not concerned.
    #[error("the control plane is not reachable: {0}")]
    Unavailable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomName {
        RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("math").unwrap(),
        }
    }

    #[test]
    fn watches_of_one_room_are_told_as_one_sum() {
        let rooms = Arc::new(Rooms::default());
        let none = BTreeSet::new();
        let a = RoomWatch::new(rooms.clone(), room());
        let b = RoomWatch::new(rooms.clone(), room());
        a.set_counts(2, 1);
        b.set_counts(3, 0);
        assert_eq!(
            rooms.take_changes(&none),
            [Change::Watch {
                room: room(),
                viewers: 5,
                members: 1
            }]
        );
        assert!(rooms.take_changes(&none).is_empty());
        drop(a);
        assert_eq!(
            rooms.take_changes(&none),
            [Change::Watch {
                room: room(),
                viewers: 3,
                members: 0
            }]
        );
        drop(b);
        assert_eq!(rooms.take_changes(&none), [Change::Unwatch(room())]);
    }

    #[test]
    fn counts_wait_while_held_back_but_leaving_does_not() {
        let rooms = Arc::new(Rooms::default());
        let hold = BTreeSet::from([room()]);
        let watch = RoomWatch::new(rooms.clone(), room());
        assert!(rooms.take_changes(&hold).is_empty());
        drop(watch);
        assert_eq!(rooms.take_changes(&hold), [Change::Unwatch(room())]);
    }

    #[test]
    fn an_older_revision_is_ignored() {
        let rooms = Arc::new(Rooms::default());
        let watch = RoomWatch::new(rooms.clone(), room());
        let told = |revision| control::RoomState {
            tenant: "default".into(),
            room: "math".into(),
            revision,
            ..Default::default()
        };
        rooms.told(told(5));
        rooms.told(told(4));
        assert_eq!(watch.state().borrow().as_ref().unwrap().revision, 5);
    }

    #[test]
    fn where_a_room_went_is_believed_by_the_newer_word() {
        let rooms = Arc::new(Rooms::default());
        let watch = RoomWatch::new(rooms.clone(), room());
        let told = |revision, group, moved| control::RoomState {
            tenant: "default".into(),
            room: "math".into(),
            revision,
            group,
            moved,
            edges: vec![format!("edge-{revision}")],
            ..Default::default()
        };
        let moved = |word, group| Moved {
            word,
            group,
            nodes: vec!["relay-9".parse().unwrap()],
        };
        let now = || {
            let state = watch.state().borrow().clone().unwrap();
            (state.group, state.moved, state.edges[0].clone())
        };
        rooms.moved(&room(), &moved(3, 9));
        assert!(watch.state().borrow().is_none(), "nobody knows of the room");
        rooms.told(told(5, 1, 0));
        rooms.moved(&room(), &moved(3, 9));
        assert_eq!(now(), (9, 3, "edge-5".into()));
        let members = watch.state().borrow().as_ref().unwrap().members.clone();
        assert_eq!(members, ["relay-9"]);
        // The controllers do not know yet; what else they say counts.
        rooms.told(told(6, 1, 0));
        assert_eq!(now(), (9, 3, "edge-6".into()));
        // They do, and know of one more.
        rooms.told(told(7, 2, 4));
        rooms.moved(&room(), &moved(3, 9));
        assert_eq!(now(), (2, 4, "edge-7".into()));
    }
}
