//! One round: from a moment until what was sent after it is acknowledged.

use std::time::Duration;

use longspan_proto::time::Time;

/// The shortest round. On links within a building a round trip holds too few packets to judge.
const SHORTEST: Duration = Duration::from_millis(10);
/// The fewest packets: the least of so many round trips is the queue's, not the jitter's.
const PACKETS: u32 = 10;
/// Nothing sent for so long begins a round anew.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What was seen so far.
#[derive(Debug, Clone)]
pub(super) struct Round {
    began: Time,
    /// When the newest acknowledged packet was sent.
    newest: Time,
    packets: u32,
    bytes: u64,
    least: Option<Duration>,
    limited: bool,
    marked: bool,
}

/// A whole one.
pub(super) struct Finished {
    /// The least round trip.
    pub standing: Duration,
    /// In bytes a second.
    pub delivered: f64,
    /// The window held something back.
    pub limited: bool,
    /// A queue marked packets.
    pub marked: bool,
}

impl Round {
    pub fn new(now: Time) -> Round {
        Round {
            began: now,
            newest: Time::ZERO,
            packets: 0,
            bytes: 0,
            least: None,
            limited: false,
            marked: false,
        }
    }

    pub fn add(&mut self, sent: Time, bytes: u64, rtt: Duration, limited: bool) {
        self.newest = self.newest.max(sent);
        self.packets += 1;
        self.bytes += bytes;
        self.limited |= limited;
        self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
    }

    pub fn mark(&mut self) {
        self.marked = true;
    }

    /// Ends the round if it is whole and begins the next.
    pub fn finish(&mut self, now: Time) -> Option<Finished> {
        let took = now.saturating_since(self.began);
        if self.newest < self.began || took < SHORTEST || self.packets < PACKETS {
            return None;
        }
        let finished = Finished {
            standing: self.least?,
            delivered: self.bytes as f64 / took.as_secs_f64(),
            limited: self.limited,
            marked: self.marked,
        };
        *self = Round::new(now);
        Some(finished)
    }
}
