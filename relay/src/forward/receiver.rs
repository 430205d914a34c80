//! A receiver: a cursor into the group cache of one track.

use std::{collections::VecDeque, time::Duration};

use longspan_proto::{
    ids::{NodeId, Position},
    time::Time,
    wire::{Frame, GroupHeader, Priority, Start},
};

use super::{
    LocalKey, PeerKey, StreamKey,
    cache::{Cache, Group, State},
    slab, track,
};

/// A receiver's key.
pub(super) type Key = slab::Key<Receiver>;

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// A peer, under the number it chose.
    Peer(PeerKey, u64),
    /// A consumer inside this node.
    Local(LocalKey),
}

/// In which of its peer's queues a receiver stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queued {
    /// One bit for each queue that holds it; an entry that is no longer meant stays until it is
    /// taken out, so that no receiver is ever twice in one queue.
    present: u8,
    /// The queue that is meant.
    at: Option<Priority>,
}

impl Queued {
    /// Enters a queue, unless it is in a better one; whether it is to be pushed there.
    pub(super) fn enter(&mut self, class: Priority) -> bool {
        if self.at.is_some_and(|at| at <= class) {
            return false;
        }
        self.at = Some(class);
        let bit = 1 << class as u8;
        let push = self.present & bit == 0;
        self.present |= bit;
        push
    }

    /// Was taken out of a queue; whether that was the one that is meant.
    pub(super) fn leave(&mut self, class: Priority) -> bool {
        self.present &= !(1 << class as u8);
        if self.at == Some(class) {
            self.at = None;
            return true;
        }
        false
    }
}

/// How far a receiver is with one group.
#[derive(Debug)]
struct Cursor {
    group: u64,
    /// The next frame.
    next: u64,
    /// Its outgoing stream, once opened; consumers inside this node have number 0.
    stream: Option<StreamKey>,
    /// Sent to the end, or dropped.
    done: bool,
}

/// What a receiver gets next.
#[derive(Debug)]
pub(super) enum Step {
    /// A group begins for it.
    Open(GroupHeader, Priority),
    /// A frame.
    Frame {
        group: u64,
        index: u64,
        stream: StreamKey,
        frame: Frame,
        age_us: u64,
    },
    /// The group is complete.
    Finish { group: u64, stream: StreamKey },
    /// The rest of the group does not come.
    Drop(Dropped),
}

/// A group's rest that does not come, and why.
#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) group: u64,
    pub(super) from_frame: u64,
    pub(super) stream: Option<StreamKey>,
    /// Older than the receiver's budget; otherwise it never came here whole.
    pub(super) stale: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) track: track::Key,
    pub(super) to: To,
    pub(super) start: Start,
    /// Age beyond which video is worthless; none for consumers inside this node, which have it
    /// already and judge for themselves.
    budget: Option<Duration>,
    /// The nodes its subscription crossed, the sender last; only this node for its own.
    pub(super) crossed: Vec<NodeId>,
    /// When it is refused unless confirmed.
    pub(super) deadline: Option<Time>,
    pub(super) confirmed: bool,
    pub(super) queued: Queued,
    /// What it wants from before this node began to take the track may still be fetched.
    fill: bool,
    /// Where it begins, once known.
    begin: Option<Position>,
    /// Held frames below this position are replay for it.
    live_from: Position,
    /// Groups it began, by number; those the cache dropped are forgotten.
    cursors: VecDeque<Cursor>,
    /// Held groups below are all done.
    settled: u64,
    /// Streams open to it.
    open: usize,
    /// Streams that were opened to it.
    opened: u64,
}

impl Receiver {
    pub(super) fn new(
        track: track::Key,
        to: To,
        start: Start,
        budget: Option<Duration>,
        crossed: Vec<NodeId>,
        deadline: Option<Time>,
    ) -> Receiver {
        Receiver {
            track,
            to,
            start,
            budget,
            crossed,
            deadline,
            confirmed: false,
            queued: Queued::default(),
            fill: true,
            begin: None,
            live_from: Position::default(),
            cursors: VecDeque::new(),
            settled: 0,
            open: 0,
            opened: 0,
        }
    }

    /// It is confirmed and takes from the cache from now on. The first position it will get,
    /// where that is known.
    /// `fillable`: there is an upstream from which what is not held may be fetched.
    pub(super) fn attach(&mut self, cache: &Cache, fillable: bool) -> Option<Position> {
        self.confirmed = true;
        self.fill = fillable;
        self.deadline = None;
        self.live_from = cache.newest().map_or(Position::default(), |g| Position {
            group: g.number,
            frame: g.end(),
        });
        self.resolve(cache);
        match self.begin {
            Some(begin) if !fillable || !cache.lacks(begin) => cache.first_from(begin),
            _ => None,
        }
    }

    /// From where it wants what is not held, though it may be held upstream.
    pub(super) fn lacks(&self, cache: &Cache) -> Option<Start> {
        if !self.confirmed || !self.fill {
            return None;
        }
        match self.start {
            Start::Latest => self.begin.is_none().then_some(Start::Latest),
            // From its group's start: a cache is filled up without holes.
            Start::At(position) => cache.lacks(position).then_some(Start::At(Position {
                group: position.group,
                frame: 0,
            })),
        }
    }

    /// What was to be had from this start on was fetched, or could not be.
    pub(super) fn filled(&mut self, from: Start) {
        self.fill &= match (self.start, from) {
            (Start::At(position), Start::At(from)) => position < from,
            (Start::Latest, Start::Latest) => false,
            _ => true,
        };
    }

    /// How many streams were opened to it so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether it asked for the newest group.
    pub(super) fn wants_latest(&self) -> bool {
        self.start == Start::Latest
    }

    /// Finds where it begins, once that can be told.
    pub(super) fn resolve(&mut self, cache: &Cache) {
        if self.begin.is_none() {
            self.begin = match self.start {
                Start::At(position) => Some(position),
                Start::Latest => cache.latest(),
            };
            self.settled = self.begin.map_or(0, |b| b.group);
        }
    }

    /// A group was put below newer ones.
    pub(super) fn unsettle(&mut self, group: u64) {
        if self.begin.is_some_and(|begin| group >= begin.group) {
            self.settled = self.settled.min(group);
        }
    }

    fn cursor(&self, group: u64) -> Option<&Cursor> {
        let at = self
            .cursors
            .binary_search_by_key(&group, |c| c.group)
            .ok()?;
        self.cursors.get(at)
    }

    fn cursor_mut(&mut self, group: &Group, next: u64) -> &mut Cursor {
        let at = match self
            .cursors
            .binary_search_by_key(&group.number, |c| c.group)
        {
            Ok(at) => at,
            Err(at) => {
                self.cursors.insert(
                    at,
                    Cursor {
                        group: group.number,
                        next,
                        stream: None,
                        done: false,
                    },
                );
                at
            }
        };
        &mut self.cursors[at]
    }

    /// The next frame of a group, and whether its stream is open; none when it is done with it.
    fn progress(&self, begin: Position, group: &Group) -> Option<(u64, bool)> {
        match self.cursor(group.number) {
            Some(cursor) if cursor.done => None,
            Some(cursor) => Some((cursor.next, cursor.stream.is_some())),
            None if group.number == begin.group => Some((begin.frame.max(group.first), false)),
            None => Some((group.first, false)),
        }
    }

    /// Whether there is something of the group for it now.
    fn pending(&self, begin: Position, group: &Group, may_open: bool) -> bool {
        match self.progress(begin, group) {
            None => false,
            // Its beginning is being fetched.
            Some((next, false))
                if self.fill && next > begin.frame && group.number == begin.group =>
            {
                false
            }
            Some((_, false)) if !may_open => false,
            // A resumed group is opened though nothing of it is new: so that the receiver knows
            // that it goes on.
            Some((_, false)) if group.number == begin.group && begin.frame > 0 => true,
            Some((next, _)) => next < group.end() || group.state != State::Open,
        }
    }

    /// The group it is served from next. Newer before older where frames may be dropped at all;
    /// otherwise (audio, messages, no budget) in order, since everything will be sent anyway and
    /// consumers want it in order.
    fn pick<'c>(&mut self, cache: &'c Cache, open_sends: usize) -> Option<&'c Group> {
        self.resolve(cache);
        let begin = self.begin?;
        while let Some(group) = cache.from(self.settled).next()
            && group.superseded.is_some()
            && self.progress(begin, group).is_none()
        {
            self.settled = group.number + 1;
        }
        let may_open = self.open < open_sends;
        let mut groups = cache.from(self.settled);
        let oldest = groups.find(|g| self.pending(begin, g, may_open))?;
        let newest = groups
            .rev()
            .find(|g| self.pending(begin, g, may_open))
            .unwrap_or(oldest);
        if self.budget.is_some() && self.class(begin, newest) >= Priority::VideoKey {
            return Some(newest);
        }
        Some(oldest)
    }

    /// The class of what it gets next from the group; ends of groups go with the best, as they
    /// free what is held.
    fn class(&self, begin: Position, group: &Group) -> Priority {
        let next = self
            .progress(begin, group)
            .and_then(|(next, _)| group.frame(next));
        next.map_or(Priority::Realtime, |held| held.frame.priority)
    }

    /// The class of what it gets next, if there is anything.
    pub(super) fn next_class(&mut self, cache: &Cache, open_sends: usize) -> Option<Priority> {
        let group = self.pick(cache, open_sends)?;
        Some(self.class(self.begin?, group))
    }

    /// What it gets next, if there is anything. `stream` numbers a stream that is opened.
    pub(super) fn step(
        &mut self,
        now: Time,
        cache: &Cache,
        open_sends: usize,
        stream: impl FnOnce() -> StreamKey,
    ) -> Option<Step> {
        let group = self.pick(cache, open_sends)?;
        let begin = self.begin?;
        let (next, _) = self.progress(begin, group)?;
        let held = group.frame(next);
        let position = Position {
            group: group.number,
            frame: next,
        };
        let replay = position < self.live_from;
        let stale = held.is_some_and(|held| {
            let newer = cache.latest().is_some_and(|p| p.group > group.number);
            self.budget.is_some_and(|budget| {
                held.frame.priority >= Priority::VideoKey
                    && held.age_us(now) > budget.as_micros() as u64
                    // What is replayed is old by nature; it is worthless once there is newer.
                    && (newer || !(replay || held.frame.flags.replay))
            })
        });
        let class = self.class(begin, group);
        let cursor = self.cursor_mut(group, next);
        let dropped = |cursor: &Cursor, stale| {
            Step::Drop(Dropped {
                group: group.number,
                from_frame: next,
                stream: cursor.stream,
                stale,
            })
        };
        let broken = held.is_none() && group.state == State::Broken;
        if stale || broken {
            let step = dropped(cursor, stale);
            cursor.done = true;
            if cursor.stream.take().is_some() {
                self.open -= 1;
            }
            return Some(step);
        }
        let Some(stream) = cursor.stream else {
            cursor.stream = Some(stream());
            self.open += 1;
            self.opened += 1;
            let header = GroupHeader {
                subscription: match self.to {
                    To::Peer(_, sub) => sub,
                    To::Local(_) => 0,
                },
                group: group.number,
                first_frame: next,
                timestamp: group.timestamp,
                origin_time: group.origin_time,
                replay,
            };
            return Some(Step::Open(header, class));
        };
        let Some(held) = held else {
            cursor.done = true;
            cursor.stream = None;
            self.open -= 1;
            return Some(Step::Finish {
                group: group.number,
                stream,
            });
        };
        cursor.next += 1;
        let mut frame = held.frame.clone();
        frame.flags.replay |= replay;
        Some(Step::Frame {
            group: group.number,
            index: next,
            stream,
            frame,
            age_us: held.age_us(now),
        })
    }

    /// The stream that `step` opened last for a group.
    pub(super) fn stream(&self, group: u64) -> Option<StreamKey> {
        self.cursor(group)?.stream
    }

    /// The cache dropped a group (and none below is left): what of it this receiver misses.
    pub(super) fn evicted(&mut self, group: &Group) -> Option<Dropped> {
        let begin = self.begin.filter(|begin| group.number >= begin.group)?;
        let progress = self.progress(begin, group);
        while self.cursors.front().is_some_and(|c| c.group < group.number) {
            self.cursors.pop_front();
        }
        let stream = match self.cursors.front() {
            Some(cursor) if cursor.group == group.number => {
                self.cursors.pop_front().and_then(|c| c.stream)
            }
            _ => None,
        };
        if stream.is_some() {
            self.open -= 1;
        }
        let (from_frame, _) = progress?;
        Some(Dropped {
            group: group.number,
            from_frame,
            stream,
            stale: false,
        })
    }

    /// Its open streams, to be reset when it leaves.
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamKey> {
        self.cursors.iter().filter_map(|c| c.stream)
    }
}
