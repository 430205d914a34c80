//! A viewer: checks each event against what was published and what it saw before.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use longspan_proto::{
    ids::{NodeId, Position, TrackId},
    time::Time,
    wire::{EndReason, Start},
};
use longspan_relay::forward::LocalEvent;

/// What stands in a frame, so that a viewer knows it by heart.
pub(crate) fn payload(track: &TrackId, group: u64, index: u64, size: usize) -> Bytes {
    let mut text = format!("{track} {group} {index} ").into_bytes();
    text.resize(text.len().max(size), b'.');
    text.into()
}

/// A group is complete, or told not to be, before so many newer ones have begun: caches of the
/// simulation keep at most ten seconds, of which each group is one.
const LONG_AGO: u64 = 15;

/// A group as a viewer saw it.
#[derive(Debug)]
struct Seen {
    next: u64,
    over: bool,
}

/// One subscription of a viewer.
#[derive(Debug)]
pub struct Consumer {
    /// What it wants.
    pub track: TrackId,
    /// Where it is.
    pub node: NodeId,
    /// Where the track enters.
    pub origin: NodeId,
    /// The nodes the track crosses, as last told.
    pub path: Vec<NodeId>,
    /// The newest groups; older ones were whole, or told not to be.
    groups: BTreeMap<u64, Seen>,
    /// Frames that came.
    pub frames: u64,
    /// The groups that were announced not to come whole.
    pub dropped: Vec<u64>,
    /// When the last one came.
    pub last_frame: Option<Time>,
    /// When anything was last told, a frame or that there will be none.
    pub last_word: Option<Time>,
    /// The longest time without a frame, once there was one.
    pub longest_gap: Duration,
    /// When that gap began.
    pub longest_from: Time,
    /// It ended.
    pub ended: Option<EndReason>,
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest: Vec<_> = self.groups.iter().rev().take(3).collect();
        let Consumer {
            track,
            path,
            frames,
            dropped,
            ended,
            ..
        } = self;
        write!(
            f,
            "{track} over {path:?}: {frames} frames, dropped {dropped:?}, the newest groups {newest:?}, ended {ended:?}"
        )
    }
}

impl Consumer {
    pub(crate) fn new(track: TrackId, node: NodeId, origin: NodeId) -> Consumer {
        Consumer {
            track,
            node,
            origin,
            path: Vec::new(),
            groups: BTreeMap::new(),
            frames: 0,
            dropped: Vec::new(),
            last_frame: None,
            last_word: None,
            longest_gap: Duration::ZERO,
            longest_from: Time::ZERO,
            ended: None,
        }
    }

    /// Every frame at most once and in order inside its group, with the content that was
    /// published; nothing after an end. `len` tells a group's published length so far.
    pub(crate) fn event(&mut self, now: Time, event: LocalEvent, len: impl Fn(u64) -> u64) {
        assert_eq!(self.ended, None, "{event:?} after the end");
        self.last_word = Some(now);
        match event {
            LocalEvent::Path(path) => {
                for (at, node) in path.iter().enumerate() {
                    assert!(!path[..at].contains(node), "{path:?} crosses {node} twice");
                }
                assert_eq!(path.first(), Some(&self.origin), "{path:?}");
                assert_eq!(path.last(), Some(&self.node), "{path:?}");
                self.path = path;
            }
            LocalEvent::Group(header) => {
                let seen = Seen {
                    next: header.first_frame,
                    over: false,
                };
                let before = self.groups.insert(header.group, seen);
                assert!(before.is_none(), "group {} began twice", header.group);
            }
            LocalEvent::Frame {
                group,
                index,
                frame,
            } => {
                assert!(!self.path.is_empty(), "a frame before the path is known");
                let seen = self.groups.get_mut(&group).expect("its group began");
                assert!(!seen.over, "a frame after the end of group {group}");
                assert_eq!(index, seen.next, "group {group}");
                seen.next += 1;
                let expected = payload(&self.track, group, index, frame.payload.len());
                assert_eq!(frame.payload, expected);
                self.frames += 1;
                if let Some(last) = self.last_frame
                    && now.saturating_since(last) > self.longest_gap
                {
                    self.longest_gap = now.saturating_since(last);
                    self.longest_from = last;
                }
                self.last_frame = Some(now);
            }
            LocalEvent::GroupEnd { group } => {
                let seen = self.groups.get_mut(&group).expect("its group began");
                assert!(!seen.over, "group {group} ended twice");
                assert_eq!(seen.next, len(group), "group {group} is not complete");
                seen.over = true;
            }
            LocalEvent::GroupDropped { group, from_frame } => {
                let seen = self.groups.entry(group).or_insert(Seen {
                    next: from_frame,
                    over: false,
                });
                assert!(!seen.over, "group {group} ended twice");
                assert_eq!(from_frame, seen.next, "group {group}");
                seen.over = true;
                self.dropped.push(group);
            }
            LocalEvent::End { reason, .. } => self.ended = Some(reason),
        }
    }

    /// Where a new subscription goes on.
    pub(crate) fn resume(&self) -> Start {
        let open = self.groups.iter().find(|(_, seen)| !seen.over);
        let last = self.groups.last_key_value();
        match (open, last) {
            (Some((group, seen)), _) => Start::At(Position {
                group: *group,
                frame: seen.next,
            }),
            (None, Some((group, _))) => Start::At(Position {
                group: group + 1,
                frame: 0,
            }),
            (None, None) => Start::Latest,
        }
    }

    /// A group that began long before the newest, and neither came whole nor was told not to. (One
    /// that never began, after a break longer than caches reach back, is no news.)
    pub(crate) fn untold(&self) -> Option<u64> {
        let last = self.groups.keys().next_back()?;
        let mut long_ago = self.groups.range(..last.saturating_sub(LONG_AGO));
        let untold = long_ago.find(|(_, seen)| !seen.over);
        untold.map(|(group, _)| *group)
    }

    /// The newest group it saw.
    pub(crate) fn newest(&self) -> u64 {
        self.groups.last_key_value().map_or(0, |(group, _)| *group)
    }

    /// How many frames of the groups from the first it saw to the one before `last` did not come.
    pub(crate) fn missing(&self, last: u64, len: impl Fn(u64) -> u64) -> u64 {
        let Some((first, seen)) = self.groups.first_key_value() else {
            return 0;
        };
        if *first >= last {
            return 0;
        }
        let skipped_first = len(*first).saturating_sub(seen.next);
        let later = (first + 1..last).map(|group| {
            let came = self.groups.get(&group).map_or(0, |seen| seen.next);
            len(group).saturating_sub(came)
        });
        skipped_first + later.sum::<u64>()
    }
}
