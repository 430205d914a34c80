//! The last groups of one track.
//!
//! A group is held as one run of frames without holes, so a position is either held, or known to
//! be missing, or still to come. Groups go whole and in the order of their numbers; a number that
//! went never comes back, which is what makes every position reach a receiver at most once.

use std::collections::VecDeque;

use longspan_proto::{
    ids::Position,
    time::Time,
    wire::{Frame, GroupHeader, Priority},
};

use super::GroupView;

/// What a held frame costs beside its payload: its place in the vector, the shared payload's
/// bookkeeping, rounded up. So a flood of empty frames is bounded too.
const FRAME_OVERHEAD: usize = 128;
/// The same for a group.
pub(super) const GROUP_OVERHEAD: usize = 512;

/// A frame and when it came.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Frame,
    arrived: Time,
    age_us: u64,
}

impl Held {
    /// How old the frame is now, in µs: its age when it came, and the time it was held.
    pub(super) fn age_us(&self, now: Time) -> u64 {
        let held = now.saturating_since(self.arrived).as_micros() as u64;
        self.age_us.saturating_add(held)
    }
}

/// Whether more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// More frames may come.
    Open,
    /// All its frames came.
    Complete,
    /// The rest will not come.
    Broken,
}

/// A group as far as it is held.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) timestamp: u64,
    pub(super) origin_time: u64,
    /// The number of the first held frame.
    pub(super) first: u64,
    frames: Vec<Held>,
    /// Frames from 0 on, coming late to fill up what is missing below `first`.
    head: Vec<Held>,
    bytes: usize,
    pub(super) state: State,
    /// Since when no stream feeds it, though it is open.
    pub(super) unfed: Option<Time>,
    /// The upstream announced that it ends before this frame.
    pub(super) dropped_at: Option<u64>,
    /// When a newer group began: what its age is counted from.
    pub(super) superseded: Option<Time>,
    /// The lowest age at which a live frame of it came, in µs.
    pub(super) least_age_us: Option<u64>,
}

impl Group {
    /// The number of the first frame that is not held: the next to come.
    pub(super) fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    pub(super) fn frame(&self, index: u64) -> Option<&Held> {
        let at = index.checked_sub(self.first)?;
        self.frames.get(usize::try_from(at).ok()?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn view(&self) -> GroupView {
        GroupView {
            group: self.number,
            first: self.first,
            end: self.end(),
            open: self.state == State::Open,
            superseded: self.superseded,
        }
    }
}

/// What became of a group that was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It is new.
    New,
    /// It was held already, and more of it may come.
    Known,
    /// It is complete, broken or long gone: nothing of it is wanted.
    Past,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// It was the next one.
    Next,
    /// It was held already.
    Duplicate,
    /// Frames before it are missing, or its group has ended.
    Gap,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    groups: VecDeque<Group>,
    bytes: usize,
    /// Groups below are gone for good.
    floor: u64,
}

impl Cache {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Group> {
        self.groups.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.groups.iter_mut()
    }

    /// Groups from this number on, oldest first.
    pub(super) fn from(&self, number: u64) -> impl DoubleEndedIterator<Item = &Group> {
        let at = self.groups.partition_point(|g| g.number < number);
        self.groups.range(at..)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Group> {
        let at = self
            .groups
            .binary_search_by_key(&number, |g| g.number)
            .ok()?;
        self.groups.get(at)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Group> {
        let at = self
            .groups
            .binary_search_by_key(&number, |g| g.number)
            .ok()?;
        self.groups.get_mut(at)
    }

    pub(super) fn oldest(&self) -> Option<&Group> {
        self.groups.front()
    }

    pub(super) fn newest(&self) -> Option<&Group> {
        self.groups.back()
    }

    /// Where `Start::Latest` begins: the first frame of the newest group that has one. A group
    /// held only from its middle (a resume began there) does not count: nothing of it could be
    /// decoded.
    pub(super) fn latest(&self) -> Option<Position> {
        let whole = |g: &&Group| !g.is_empty() && g.first == 0;
        let group = self.groups.iter().rev().find(whole)?;
        Some(Position {
            group: group.number,
            frame: 0,
        })
    }

    /// Whether the position is not held, though what comes after it is: it was before this node
    /// began to take the track. What was evicted is not meant; it is gone.
    pub(super) fn lacks(&self, position: Position) -> bool {
        if position.group < self.floor {
            return false;
        }
        match self.get(position.group) {
            Some(group) => group.first > position.frame,
            None => self.oldest().is_some_and(|g| g.number > position.group),
        }
    }

    /// The first held position at or after `start`, where that can be told.
    pub(super) fn first_from(&self, start: Position) -> Option<Position> {
        let group = self
            .from(start.group)
            .find(|g| !g.is_empty() || g.number == start.group)?;
        let frame = if group.number == start.group {
            start.frame.max(group.first)
        } else {
            group.first
        };
        Some(Position {
            group: group.number,
            frame,
        })
    }

    /// The first position not held yet that may still come: where a broken subscription goes on.
    /// Everything before it is held, or known to be missing.
    pub(super) fn resume(&self) -> Option<Position> {
        let newest = self.groups.back()?;
        let open = self.groups.iter().find(|g| g.state == State::Open);
        Some(match open {
            Some(group) => Position {
                group: group.number,
                frame: group.end(),
            },
            None => Position {
                group: newest.number.saturating_add(1),
                frame: 0,
            },
        })
    }

    /// The last position that came.
    pub(super) fn last(&self) -> Option<Position> {
        let group = self.groups.iter().rev().find(|g| !g.is_empty())?;
        Some(Position {
            group: group.number,
            frame: group.end() - 1,
        })
    }

    /// A group begins or goes on. An older group that is superseded by it is told by `number`.
    pub(super) fn open(&mut self, now: Time, header: &GroupHeader) -> Opened {
        if header.group < self.floor {
            return Opened::Past;
        }
        let at = match self
            .groups
            .binary_search_by_key(&header.group, |g| g.number)
        {
            Ok(at) if self.groups[at].state == State::Open => return Opened::Known,
            // What is missing below its first frame may still be filled up.
            Ok(at) if header.first_frame < self.groups[at].first => return Opened::Known,
            Ok(_) => return Opened::Past,
            Err(at) => at,
        };
        let superseded = (at < self.groups.len()).then_some(now);
        if superseded.is_none()
            && let Some(before) = self.groups.back_mut()
        {
            before.superseded = Some(now);
        }
        self.bytes += GROUP_OVERHEAD;
        self.groups.insert(
            at,
            Group {
                number: header.group,
                timestamp: header.timestamp,
                origin_time: header.origin_time,
                first: header.first_frame,
                frames: Vec::new(),
                head: Vec::new(),
                bytes: GROUP_OVERHEAD,
                state: State::Open,
                unfed: None,
                dropped_at: None,
                superseded,
                least_age_us: None,
            },
        );
        Opened::New
    }

    /// A frame of a group came.
    pub(super) fn append(
        &mut self,
        now: Time,
        number: u64,
        index: u64,
        frame: Frame,
        age_us: u64,
    ) -> Appended {
        let Some(group) = self.get_mut(number) else {
            // Evicted while its stream was still open: whoever wanted it was told.
            return Appended::Gap;
        };
        let bytes = Self::cost(&frame);
        let live = !frame.flags.replay;
        let held = Held {
            frame,
            arrived: now,
            age_us,
        };
        if index < group.first && index == group.head.len() as u64 {
            group.head.push(held);
            if group.head.len() as u64 == group.first {
                let tail = std::mem::replace(&mut group.frames, std::mem::take(&mut group.head));
                group.frames.extend(tail);
                group.first = 0;
            }
        } else if index < group.end() {
            return Appended::Duplicate;
        } else if index > group.end() || group.state != State::Open {
            return Appended::Gap;
        } else {
            if live {
                group.least_age_us = Some(group.least_age_us.map_or(age_us, |a| a.min(age_us)));
            }
            group.frames.push(held);
        }
        group.bytes += bytes;
        self.bytes += bytes;
        Appended::Next
    }

    /// What `append` would add to the bytes.
    pub(super) fn cost(frame: &Frame) -> usize {
        frame.payload.len() + FRAME_OVERHEAD
    }

    /// Drops the oldest group; its number and all below are gone for good.
    pub(super) fn evict(&mut self) -> Option<Group> {
        let group = self.groups.pop_front()?;
        self.bytes -= group.bytes;
        self.floor = group.number.saturating_add(1);
        Some(group)
    }

    /// Forgets everything, also what was gone: only where no receiver is left to tell twice.
    pub(super) fn clear(&mut self) {
        *self = Cache::default();
    }

    /// How old live frames are at best when they come here, in µs.
    pub(super) fn least_age_us(&self) -> Option<u64> {
        self.groups.iter().rev().find_map(|g| g.least_age_us)
    }

    /// The class of what comes here, by the last frame.
    pub(super) fn priority(&self) -> Option<Priority> {
        let group = self.groups.iter().rev().find(|g| !g.is_empty())?;
        group.frames.last().map(|held| held.frame.priority)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use longspan_proto::wire::Flags;

    use super::*;

    fn header(group: u64, first_frame: u64) -> GroupHeader {
        GroupHeader {
            subscription: 0,
            group,
            first_frame,
            timestamp: 0,
            origin_time: 0,
            replay: false,
        }
    }

    fn frame() -> Frame {
        Frame {
            timestamp: 0,
            flags: Flags::default(),
            priority: Priority::VideoDelta,
            payload: Bytes::from_static(&[0; 100]),
        }
    }

    fn put(cache: &mut Cache, group: u64, index: u64) -> Appended {
        cache.append(Time::ZERO, group, index, frame(), 0)
    }

    #[test]
    fn takes_each_position_once_and_no_hole() {
        let mut cache = Cache::default();
        assert_eq!(cache.open(Time::ZERO, &header(3, 2)), Opened::New);
        assert_eq!(put(&mut cache, 3, 2), Appended::Next);
        assert_eq!(put(&mut cache, 3, 2), Appended::Duplicate);
        assert_eq!(put(&mut cache, 3, 1), Appended::Duplicate);
        assert_eq!(put(&mut cache, 3, 4), Appended::Gap);
        assert_eq!(put(&mut cache, 3, 3), Appended::Next);
        assert_eq!(put(&mut cache, 4, 0), Appended::Gap);
        assert_eq!(cache.open(Time::ZERO, &header(3, 0)), Opened::Known);
    }

    #[test]
    fn an_evicted_number_never_comes_back() {
        let mut cache = Cache::default();
        for group in 0..3 {
            cache.open(Time::ZERO, &header(group, 0));
            put(&mut cache, group, 0);
        }
        let before = cache.bytes();
        assert_eq!(cache.evict().unwrap().number, 0);
        assert_eq!(cache.bytes(), before / 3 * 2);
        assert_eq!(cache.open(Time::ZERO, &header(0, 0)), Opened::Past);
        cache.evict();
        cache.evict();
        assert_eq!((cache.bytes(), cache.len()), (0, 0));
    }

    #[test]
    fn a_group_held_from_its_middle_is_filled_up_from_its_start() {
        let mut cache = Cache::default();
        cache.open(Time::ZERO, &header(3, 2));
        put(&mut cache, 3, 2);
        assert_eq!(cache.latest(), None);
        assert_eq!(put(&mut cache, 3, 0), Appended::Next);
        assert_eq!(cache.latest(), None);
        assert_eq!(put(&mut cache, 3, 3), Appended::Next);
        assert_eq!(put(&mut cache, 3, 1), Appended::Next);
        assert_eq!(cache.latest(), Some(Position { group: 3, frame: 0 }));
        assert_eq!(cache.get(3).unwrap().end(), 4);
        assert_eq!(put(&mut cache, 3, 1), Appended::Duplicate);
    }

    #[test]
    fn resumes_at_the_first_hole_that_can_still_be_filled() {
        let mut cache = Cache::default();
        assert_eq!(cache.resume(), None);
        for group in 0..3 {
            cache.open(Time::ZERO, &header(group, 0));
            put(&mut cache, group, 0);
        }
        cache.get_mut(0).unwrap().state = State::Complete;
        assert_eq!(cache.resume(), Some(Position { group: 1, frame: 1 }));
        cache.get_mut(1).unwrap().state = State::Broken;
        assert_eq!(cache.resume(), Some(Position { group: 2, frame: 1 }));
        cache.get_mut(2).unwrap().state = State::Complete;
        assert_eq!(cache.resume(), Some(Position { group: 3, frame: 0 }));
    }

    #[test]
    fn only_the_newest_group_is_not_superseded() {
        let mut cache = Cache::default();
        let now = Time::from_micros(7);
        for group in [1, 5, 3] {
            cache.open(now, &header(group, 0));
        }
        let superseded: Vec<_> = cache.iter().map(|g| g.superseded).collect();
        assert_eq!(superseded, [Some(now), Some(now), None]);
    }
}
