//! How long an election is: follows the round trips measured inside the group.

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::time::Time;

use super::{ELECTION_TICKS, Member};

/// However near the members are: below it a pause of the scheduler or a slow sync of a disk would
/// look like a dead leader.
pub const SHORTEST_ELECTION: Duration = Duration::from_millis(250);
/// However far they are, and however bad a link is at present.
pub const LONGEST_ELECTION: Duration = Duration::from_secs(3);
/// An election lasts so many of the longest round trip (etcd's tuning guide: "at least 10 times").
const ROUND_TRIPS: u32 = 10;
/// What is assumed of a member nothing was measured of: an ocean.
const UNMEASURED: Duration = Duration::from_millis(100);
/// A longer round trip is no measurement: somebody was asleep, or the stamp is of another life.
const LONGEST_SAMPLE: Duration = Duration::from_secs(10);

/// Round trips to the other members, as RFC 6298 §2 smooths them.
#[derive(Debug, Default)]
pub(super) struct Timing {
    members: BTreeMap<Member, Smoothed>,
}

#[derive(Debug, Clone, Copy)]
struct Smoothed {
    mean: Duration,
    deviation: Duration,
}

impl Timing {
    /// A packet came that says: your packet of `sent` (µs of this clock) was heard, and `held`
    /// (µs) for this answer.
    pub fn heard(&mut self, now: Time, from: Member, sent: u64, held: u64) {
        let Some(sample) = now.as_micros().checked_sub(sent.saturating_add(held)) else {
            return;
        };
        let sample = Duration::from_micros(sample);
        if sample > LONGEST_SAMPLE {
            return;
        }
        let first = Smoothed {
            mean: sample,
            deviation: sample / 2,
        };
        self.members
            .entry(from)
            .and_modify(|smoothed| {
                let off = smoothed.mean.abs_diff(sample);
                smoothed.deviation = (smoothed.deviation * 3 + off) / 4;
                smoothed.mean = (smoothed.mean * 7 + sample) / 8;
            })
            .or_insert(first);
    }

    /// Forgets who is no member any more.
    pub fn keep(&mut self, is_member: impl Fn(Member) -> bool) {
        self.members.retain(|member, _| is_member(*member));
    }

    /// The least time of silence after which a leader counts as lost.
    pub fn election(&self) -> Duration {
        let longest = self
            .members
            .values()
            .map(|smoothed| smoothed.mean + smoothed.deviation * 4)
            .max()
            .unwrap_or(UNMEASURED);
        (longest * ROUND_TRIPS).clamp(SHORTEST_ELECTION, LONGEST_ELECTION)
    }

    /// Raft's unit of time.
    pub fn tick(&self) -> Duration {
        self.election() / ELECTION_TICKS as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Member = Member(1);
    const B: Member = Member(2);

    fn ms(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    fn measured(samples: &[(Member, u64)]) -> Timing {
        let mut timing = Timing::default();
        for round in 0..50 {
            for (member, rtt) in samples {
                let sent = 1_000 * round;
                timing.heard(ms(sent + rtt + 7), *member, sent * 1_000, 7_000);
            }
        }
        timing
    }

    #[test]
    fn elections_follow_the_longest_round_trip_within_bounds() {
        assert_eq!(Timing::default().election(), Duration::from_secs(1));
        assert_eq!(measured(&[(A, 1)]).election(), SHORTEST_ELECTION);
        let far = measured(&[(A, 1), (B, 100)]).election();
        assert!((1_000..1_010).contains(&far.as_millis()), "{far:?}");
        assert_eq!(measured(&[(A, 400)]).election(), LONGEST_ELECTION);
    }

    #[test]
    fn stamps_of_another_life_are_no_measurement() {
        let mut timing = Timing::default();
        timing.heard(ms(5), A, 6_000, 0);
        timing.heard(ms(5), A, 5_000, 1);
        timing.heard(ms(20_000), A, 5_000_000, 0);
        timing.heard(ms(5), A, u64::MAX, u64::MAX);
        assert!(timing.members.is_empty());
        timing.heard(ms(15_000), A, 5_000_000, 0);
        assert_eq!(timing.members.len(), 1);
        timing.keep(|_| false);
        assert!(timing.members.is_empty());
    }
}
