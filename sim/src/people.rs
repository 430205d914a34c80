//! Publishers and viewers. They stand for an edge's hub: who publishes claims the stream and gets a
//! generation; who watches is told of it by the controller, and asks again when it ends.

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::{
    ids::{Generation, NodeId, Room, RoomName, Stream, Tenant, Track, TrackId},
    time::Time,
    wire::{Flags, Frame, Priority, Start},
};
use longspan_relay::forward::{Input, LocalEvent, LocalKey};

use crate::{
    consumer::{Consumer, payload},
    world::{Event, Tables, World},
};

/// A publisher's frames: five a second, a group each second.
pub const FRAME_EVERY: Duration = Duration::from_millis(200);
const FRAMES: u64 = 5;
/// A viewer's pause before it asks again for what ended.
const RETURN_AFTER: Duration = Duration::from_millis(300);

/// A stream that some edge publishes, in ever newer generations.
pub struct Slot {
    /// Where.
    pub edge: usize,
    /// The generation it has or had last.
    pub generation: Generation,
    /// It is published now.
    pub live: bool,
    /// Since when.
    pub since: Time,
    /// When its publisher last said something.
    pub(crate) said: Time,
    /// Its publisher wants to be live.
    pub wanted: bool,
    /// Its edge is told of the room on its behalf.
    pub(crate) watching: bool,
    /// A claim is under way.
    pub(crate) claiming: bool,
    /// One frame, then silence; instead of video.
    pub catalog: bool,
    pub(crate) room: RoomName,
    pub(crate) every: Duration,
    frames: u64,
    /// No controller knows it: whoever asks is told where it is.
    by_hand: bool,
    next: (u64, u64),
}

/// What a viewer wants, over ends and generations.
pub struct Viewer {
    /// Where it is.
    pub node: usize,
    /// What it watches.
    pub slot: usize,
    /// How old a frame may be, in ms; 0: any age.
    pub budget_ms: u32,
    /// Its subscription.
    pub key: Option<LocalKey>,
    /// What the newest of its subscriptions saw.
    pub seen: Consumer,
    /// It left.
    pub gone: bool,
    /// How often it asked again.
    pub returns: u64,
    /// Since when it watches.
    pub since: Time,
    /// Moves of its path.
    pub moves: u64,
}

impl World {
    /// The track of a slot in its present generation.
    pub fn track(&self, slot: usize) -> TrackId {
        self.track_of(slot, self.slots[slot].generation)
    }

    fn track_of(&self, slot: usize, generation: Generation) -> TrackId {
        let kind = match self.slots[slot].catalog {
            true => "catalog",
            false => "video",
        };
        TrackId {
            room: self.slots[slot].room.clone(),
            stream: stream(slot),
            track: Track::new(kind).expect("a name"),
            generation,
        }
    }

    /// A slot at an edge, in a room of its own: a catalog of one frame, or video.
    pub fn slot(&mut self, edge: usize, catalog: bool) -> usize {
        let room = RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new(&format!("room-{}", self.slots.len())).expect("a name"),
        };
        self.slots.push(Slot {
            edge,
            generation: Generation(0),
            live: false,
            since: self.now,
            said: self.now,
            wanted: false,
            watching: false,
            claiming: false,
            catalog,
            room,
            every: FRAME_EVERY,
            frames: FRAMES,
            by_hand: self.setup.tables == Tables::ByHand,
            next: (0, 0),
        });
        self.slots.len() - 1
    }

    /// A slot of small frames, so many a group, of which no controller is told.
    pub fn sound(&mut self, edge: usize, every: Duration, frames: u64) -> usize {
        let slot = self.slot(edge, false);
        let state = &mut self.slots[slot];
        state.every = every;
        state.frames = frames;
        state.by_hand = true;
        slot
    }

    /// The publisher of a slot comes.
    pub fn publish(&mut self, slot: usize) {
        self.slots[slot].wanted = true;
        let node = self.slots[slot].edge;
        if self.slots[slot].live || !self.alive(node) {
            return;
        }
        match self.slots[slot].by_hand {
            true => {
                let next = self.slots[slot].generation.counter() + 1;
                self.go_live(slot, Generation::new(0, next));
            }
            false => {
                if !std::mem::replace(&mut self.slots[slot].watching, true) {
                    self.watch_more(node, slot, 1);
                }
                self.claim(slot);
            }
        }
    }

    /// It has its generation.
    pub(crate) fn go_live(&mut self, slot: usize, generation: Generation) {
        let state = &mut self.slots[slot];
        state.generation = generation;
        state.live = true;
        state.since = self.now;
        state.next = (0, 0);
        let node = state.edge;
        let track = self.track(slot);
        self.log(format_args!("publish {track}"));
        self.truth.insert(track.clone(), BTreeMap::new());
        self.input(node, Input::Publish { track });
        self.after(Duration::ZERO, Event::Produce(slot as u32, generation.0));
        if self.slots[slot].by_hand {
            for viewer in 0..self.viewers.len() {
                if self.viewers[viewer].slot == slot && !self.viewers[viewer].gone {
                    self.come_back(viewer);
                }
            }
        }
    }

    /// The publisher of a slot leaves.
    pub fn unpublish(&mut self, slot: usize) {
        self.slots[slot].wanted = false;
        let node = self.slots[slot].edge;
        if std::mem::take(&mut self.slots[slot].live) {
            let track = self.track(slot);
            self.log(format_args!("unpublish {track}"));
            self.input(node, Input::Unpublish { track });
            if !self.slots[slot].by_hand {
                self.release(slot);
            }
        }
        if std::mem::take(&mut self.slots[slot].watching) {
            self.watch_more(node, slot, -1);
        }
    }

    /// One frame more in a catalog's only group, long after the first.
    pub fn say_more(&mut self, slot: usize) {
        let Slot { live, catalog, .. } = self.slots[slot];
        if !live || !catalog || !self.runs(self.slots[slot].edge) {
            return;
        }
        let track = self.track(slot);
        let len = self
            .truth
            .entry(track.clone())
            .or_default()
            .entry(0)
            .or_default();
        let index = std::mem::replace(len, *len + 1);
        let frame = Frame {
            timestamp: 0,
            flags: Flags::default(),
            priority: Priority::State,
            payload: payload(&track, 0, index, self.setup.frame_size),
        };
        self.slots[slot].said = self.now;
        let node = self.slots[slot].edge;
        self.input(node, Input::PublishFrame { track, frame });
    }

    pub(crate) fn produce(&mut self, slot: usize, of: u64) {
        let Slot {
            edge,
            generation,
            live,
            catalog,
            next: (group, index),
            ..
        } = self.slots[slot];
        if !live || generation.0 != of || catalog && group > 0 {
            return;
        }
        let track = self.track(slot);
        if index == 0 {
            self.truth
                .entry(track.clone())
                .or_default()
                .insert(group, 0);
            let input = Input::PublishGroup {
                track: track.clone(),
                group,
                timestamp: group * 1_000_000,
                origin_time: self.now.as_micros(),
            };
            self.input(edge, input);
        }
        let priority = match (catalog, slot % 3, index) {
            (true, ..) => Priority::State,
            (_, 0, _) => Priority::Realtime,
            (_, _, 0) => Priority::VideoKey,
            _ => Priority::VideoDelta,
        };
        let frame = Frame {
            timestamp: self.now.as_micros(),
            flags: Flags {
                key: index == 0,
                ..Flags::default()
            },
            priority,
            payload: payload(&track, group, index, self.setup.frame_size),
        };
        *self
            .truth
            .entry(track.clone())
            .or_default()
            .entry(group)
            .or_default() += 1;
        self.slots[slot].said = self.now;
        self.input(edge, Input::PublishFrame { track, frame });
        self.slots[slot].next = match index + 1 < self.slots[slot].frames && !catalog {
            true => (group, index + 1),
            false => (group + 1, 0),
        };
        let every = self.slots[slot].every;
        self.after(every, Event::Produce(slot as u32, of));
    }

    /// A viewer comes to a node.
    pub fn view(&mut self, node: usize, slot: usize, budget_ms: u32) -> usize {
        let origin = self.slots[slot].edge;
        let name = |n: usize| self.layout.name(n).clone();
        let seen = Consumer::new(self.track(slot), name(node), name(origin));
        self.viewers.push(Viewer {
            node,
            slot,
            budget_ms,
            key: None,
            seen,
            gone: false,
            returns: 0,
            since: self.now,
            moves: 0,
        });
        let viewer = self.viewers.len() - 1;
        match self.slots[slot].by_hand {
            true => self.subscribe(viewer, Start::Latest, origin),
            false => {
                self.watch_more(node, slot, 1);
                self.come_back(viewer);
            }
        }
        viewer
    }

    fn subscribe(&mut self, viewer: usize, start: Start, origin: usize) {
        self.next_local += 1;
        let local = LocalKey(self.next_local);
        let Viewer {
            node,
            slot,
            budget_ms,
            ..
        } = self.viewers[viewer];
        let generation = self.told(node, slot).map_or(Generation(0), |(_, g)| g);
        let track = self.track_of(slot, generation);
        self.truth.entry(track.clone()).or_default();
        let name = |n: usize| self.layout.name(n).clone();
        let origin = name(origin);
        let mut seen = Consumer::new(track.clone(), name(node), origin.clone());
        let before = &self.viewers[viewer].seen;
        if before.track == track {
            seen.last_frame = before.last_frame;
        }
        self.viewers[viewer].seen = seen;
        self.viewers[viewer].key = Some(local);
        self.by_local.insert(local, viewer);
        let input = Input::Subscribe {
            local,
            track,
            origin,
            start,
            budget_ms,
        };
        self.input(node, input);
    }

    /// Whether a node was told of a stream's present generation.
    pub(crate) fn knows(&self, node: usize, slot: usize) -> bool {
        let told = self.told(node, slot);
        told.is_some_and(|(_, generation)| generation == self.slots[slot].generation)
    }

    /// Since when, at the latest.
    pub(crate) fn knows_since(&self, node: usize, slot: usize) -> Time {
        let state = &self.slots[slot];
        let told = (state.room.clone(), state.generation);
        let since = self.nodes[node].known_since.get(&told);
        since.copied().unwrap_or(state.since)
    }

    /// Where a stream is, and its generation, as a node knows it.
    fn told(&self, node: usize, slot: usize) -> Option<(NodeId, Generation)> {
        let state = &self.slots[slot];
        match state.by_hand {
            true => Some((self.layout.name(state.edge).clone(), state.generation)),
            false => {
                let known = self.nodes[node].known.get(&state.room)?;
                let found = known.iter().find(|(name, ..)| *name == *stream(slot));
                found.map(|(_, origin, generation)| (origin.clone(), *generation))
            }
        }
    }

    /// A viewer whose subscription ended, or whose stream has a new generation, asks again.
    pub(crate) fn come_back(&mut self, viewer: usize) {
        let Viewer {
            node,
            slot,
            gone,
            key,
            ..
        } = self.viewers[viewer];
        if gone || !self.alive(node) {
            return;
        }
        let by_hand = self.slots[slot].by_hand;
        let told = self
            .told(node, slot)
            .filter(|_| !by_hand || self.slots[slot].live);
        let Some((origin, generation)) = told else {
            if let (Some(local), false) = (key, by_hand) {
                // Its publisher is gone, as the controller says.
                self.viewers[viewer].key = None;
                self.by_local.remove(&local);
                self.input(node, Input::Unsubscribe { local });
            }
            return;
        };
        let same = self.viewers[viewer].seen.track.generation == generation;
        if let Some(local) = key {
            if same {
                return;
            }
            self.viewers[viewer].key = None;
            self.by_local.remove(&local);
            self.input(node, Input::Unsubscribe { local });
        }
        let start = match same {
            true => self.viewers[viewer].seen.resume(),
            false => Start::Latest,
        };
        self.viewers[viewer].returns += 1;
        self.subscribe(viewer, start, self.layout.index(&origin));
    }

    pub(crate) fn viewer_hears(&mut self, local: LocalKey, event: LocalEvent) {
        let Some(at) = self.by_local.get(&local).copied() else {
            return;
        };
        let viewer = &mut self.viewers[at];
        if let LocalEvent::Path(path) = &event {
            viewer.moves += u64::from(!viewer.seen.path.is_empty() && viewer.seen.path != *path);
            self.laws.path(path);
        }
        let truth = self.truth.get(&viewer.seen.track);
        let len = |group| truth.and_then(|t| t.get(&group)).copied().unwrap_or(0);
        viewer.seen.event(self.now, event, len);
        if viewer.seen.ended.is_some() {
            viewer.key = None;
            self.by_local.remove(&local);
            if !viewer.gone {
                self.after(RETURN_AFTER, Event::Return(at as u32));
            }
        }
    }

    /// A viewer leaves.
    pub fn leave(&mut self, viewer: usize) {
        if std::mem::replace(&mut self.viewers[viewer].gone, true) {
            return;
        }
        let (node, slot) = (self.viewers[viewer].node, self.viewers[viewer].slot);
        if let Some(local) = self.viewers[viewer].key.take() {
            self.by_local.remove(&local);
            self.input(node, Input::Unsubscribe { local });
        }
        if !self.slots[slot].by_hand {
            self.watch_more(node, slot, -1);
        }
    }

    /// After a restart publishers and viewers come to the edge again.
    pub(crate) fn users_return(&mut self, node: usize) {
        for viewer in 0..self.viewers.len() {
            if self.viewers[viewer].node == node && !self.viewers[viewer].gone {
                // Nobody remembers what was seen.
                let track = self.track_of(self.viewers[viewer].slot, Generation(0));
                let (node, origin) = {
                    let seen = &self.viewers[viewer].seen;
                    (seen.node.clone(), seen.origin.clone())
                };
                self.viewers[viewer].seen = Consumer::new(track, node, origin);
                self.viewers[viewer].since = self.now;
                self.after(RETURN_AFTER, Event::Return(viewer as u32));
            }
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].edge == node && self.slots[slot].wanted {
                self.publish(slot);
            }
        }
    }

    /// How many frames a viewer misses, from the first group it saw to the one before the last.
    pub fn missing(&self, viewer: usize) -> u64 {
        self.missing_before(viewer, self.viewers[viewer].seen.newest())
    }

    /// The same to the one before `last`.
    pub(crate) fn missing_before(&self, viewer: usize, last: u64) -> u64 {
        let seen = &self.viewers[viewer].seen;
        let truth = self.truth.get(&seen.track);
        seen.missing(last, |group| {
            truth.and_then(|t| t.get(&group)).copied().unwrap_or(0)
        })
    }
}

pub(crate) fn stream(slot: usize) -> Stream {
    Stream::new(&format!("s{slot}")).expect("a name")
}
