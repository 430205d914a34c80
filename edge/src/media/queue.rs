//! One track's samples in their order, out of groups that may overlap.

use std::collections::{BTreeMap, VecDeque};

use longspan_proto::time::Time;

use super::{Assembled, GroupStart, Kind, MAX_HELD, MAX_WAIT, Sample, TrackEvent};

/// Orders one track's samples: all of a group, then the next group. A group that is not complete
/// when the next one has waited [`MAX_WAIT`] is given up; what cannot be decoded for a missing
/// sample is left out, up to the next key frame.
#[derive(Debug)]
pub(super) struct Queue {
    kind: Kind,
    groups: BTreeMap<u64, Held>,
    /// The group whose samples are given out, and the index of its next one.
    current: Option<(u64, u64)>,
    /// Samples were lost: the next one given out must be a key frame.
    need_key: bool,
    held: usize,
    last: Option<u64>,
    step: u64,
}

/// A group that is not given out yet.
#[derive(Debug)]
struct Held {
    start: Option<GroupStart>,
    samples: VecDeque<(u64, Sample, Time)>,
    since: Time,
    ended: bool,
    /// It ended before it was complete.
    cut_short: bool,
}

impl Queue {
    pub(super) fn new(kind: Kind) -> Queue {
        Queue {
            kind,
            groups: BTreeMap::new(),
            current: None,
            need_key: kind == Kind::Video,
            held: 0,
            last: None,
            step: 0,
        }
    }

    pub(super) fn handle(&mut self, now: Time, event: TrackEvent) {
        match event {
            TrackEvent::Group(start) => {
                if let Some(held) = self.group(now, start.group) {
                    // A resume begins the same group again further on.
                    held.start.get_or_insert(start);
                    held.ended = false;
                    held.cut_short = false;
                }
            }
            TrackEvent::Sample {
                group,
                index,
                sample,
            } => {
                let next = match self.current {
                    Some((current, next)) if current == group => next,
                    _ => 0,
                };
                let Some(held) = self.group(now, group) else {
                    return;
                };
                let next = held.samples.back().map_or(next, |(last, ..)| last + 1);
                if index >= next {
                    held.samples.push_back((index, sample, now));
                    self.held += 1;
                }
            }
            TrackEvent::End { group } => {
                if let Some(held) = self.groups.get_mut(&group) {
                    held.ended = true;
                }
            }
            TrackEvent::Dropped { group } => {
                if let Some(held) = self.group(now, group) {
                    held.ended = true;
                    held.cut_short = true;
                }
            }
        }
    }

    /// The group's place; `None` if its turn is over.
    fn group(&mut self, now: Time, group: u64) -> Option<&mut Held> {
        if self.current.is_some_and(|(current, _)| group < current) {
            return None;
        }
        // A group that is over is remembered as the current one, without a place.
        if self.current.is_some_and(|(current, _)| group == current)
            && !self.groups.contains_key(&group)
        {
            return None;
        }
        Some(self.groups.entry(group).or_insert_with(|| Held {
            start: None,
            samples: VecDeque::new(),
            since: now,
            ended: false,
            cut_short: false,
        }))
    }

    /// Moves on from groups that have nothing more to give, and skips what cannot be decoded.
    pub(super) fn settle(&mut self, now: Time) {
        loop {
            let Some((&group, first)) = self.groups.first_key_value() else {
                return;
            };
            let Some((index, sample, _)) = first.samples.front() else {
                let give_up = self
                    .next_group()
                    .is_some_and(|(since, full)| full || now.saturating_since(since) >= MAX_WAIT);
                if !first.ended && !give_up {
                    return;
                }
                self.need_key |= self.kind == Kind::Video && (first.cut_short || !first.ended);
                let index = match self.current {
                    Some((current, index)) if current == group => index,
                    _ => 0,
                };
                self.groups.remove(&group);
                self.current = Some((group, index));
                continue;
            };
            let expected = match self.current {
                Some((current, next)) if current == group => next,
                Some((current, _)) if current + 1 == group => 0,
                // Groups are missing, or nothing came yet.
                _ => u64::MAX,
            };
            if self.kind == Kind::Video && *index != expected {
                self.need_key = true;
            }
            self.need_key &= !sample.key;
            if !self.need_key {
                return;
            }
            let skipped = *index;
            self.advance(group, skipped);
        }
    }

    /// The next group with samples: since when it is there, and whether no more fit.
    fn next_group(&self) -> Option<(Time, bool)> {
        let mut later = self.groups.values().skip(1);
        let next = later.find(|held| !held.samples.is_empty())?;
        Some((next.since, self.held >= MAX_HELD))
    }

    fn advance(&mut self, group: u64, index: u64) -> Option<(Option<GroupStart>, Sample, Time)> {
        let held = self.groups.get_mut(&group)?;
        let (_, sample, since) = held.samples.pop_front()?;
        let begins = held.start.take();
        self.held -= 1;
        self.current = Some((group, index + 1));
        Some((begins, sample, since))
    }

    /// The sample whose turn it is: its timestamp and since when it waits. Settle first.
    pub(super) fn head(&self) -> Option<(u64, Time)> {
        let (_, held) = self.groups.first_key_value()?;
        let (_, sample, since) = held.samples.front()?;
        Some((sample.timestamp, *since))
    }

    /// Takes the head.
    pub(super) fn pop(&mut self) -> Option<Assembled> {
        let (&group, held) = self.groups.first_key_value()?;
        let (index, ..) = held.samples.front()?;
        let index = *index;
        let (begins, sample, _) = self.advance(group, index)?;
        if let Some(last) = self.last {
            self.step = sample.timestamp.saturating_sub(last);
        }
        self.last = Some(sample.timestamp);
        Some(Assembled {
            group,
            begins,
            sample,
        })
    }

    /// Whether the next sample, when it comes, will be later than `timestamp`, by the step of
    /// the last two.
    pub(super) fn is_past(&self, timestamp: u64) -> bool {
        self.last
            .is_some_and(|last| last.saturating_add(self.step) > timestamp)
    }

    /// More does not fit: nothing waits any longer.
    pub(super) fn is_full(&self) -> bool {
        self.held >= MAX_HELD
    }

    /// When an unfinished group is given up.
    pub(super) fn timeout(&self) -> Option<Time> {
        let (_, first) = self.groups.first_key_value()?;
        if !first.samples.is_empty() {
            return None;
        }
        Some(self.next_group()?.0 + MAX_WAIT)
    }
}
