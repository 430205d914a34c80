//! By how much a link costs more now than when the route table was made.
//!
//! A table tells what paths cost; it does not tell each link's share. So this end keeps what its
//! own links cost when the table was computed, and adds to a path what its first link has come to
//! cost beyond that. Clock offsets cancel in the difference. A controller that answers makes a new
//! table, and the difference begins anew; while none answers, it stands.

use std::{collections::VecDeque, time::Duration};

use longspan_proto::time::Time;

/// A table rests on reports that are at least so old when it arrives: one interval of reports (1 s)
/// and the way to the controller and back.
const TABLE_AGE: Duration = Duration::from_secs(2);
/// Costs are remembered in steps of this.
const STEP: Duration = Duration::from_millis(250);
/// So many: a little more than [`TABLE_AGE`] of them.
const KEPT: usize = 12;

/// A link's measures have settled after this (the prober's `settling_for`); before, what it came to
/// cost is how it is.
const SETTLES: Duration = Duration::from_secs(5);
/// What is less than this, in µs, is noise of the jitter's percentile.
const NOISE_US: i64 = 5_000;

/// See the [module](self). Costs in µs ([`crate::cost`]).
#[derive(Debug, Clone, Default)]
pub struct Drift {
    kept: VecDeque<(Time, i64)>,
    since: Option<Time>,
    told: Option<i64>,
    now: Option<i64>,
}

impl Drift {
    /// The link costs so much now; `None`: not known.
    pub fn costs(&mut self, now: Time, cost: Option<i64>) {
        self.now = cost;
        let Some(cost) = cost else { return };
        let since = *self.since.get_or_insert(now);
        if self.told.is_none() || now.saturating_since(since) < SETTLES {
            self.told = Some(cost);
        }
        let last = self.kept.back().map(|(at, _)| *at);
        if last.is_none_or(|last| now.saturating_since(last) >= STEP) {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back((now, cost));
        }
    }

    /// A route table arrived.
    pub fn told(&mut self, now: Time) {
        let old = |(at, _): &&(Time, i64)| *at + TABLE_AGE <= now;
        let known = self.kept.iter().rev().find(old).or(self.kept.front());
        self.told = known.map(|(_, cost)| *cost);
    }

    /// How much more it costs than the table knows, in µs; 0 for less, or for little more.
    pub fn extra_us(&self) -> u64 {
        match (self.now, self.told) {
            (Some(now), Some(told)) => match now.saturating_sub(told) {
                extra if extra < NOISE_US => 0,
                extra => extra as u64,
            },
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn what_a_link_came_to_cost_since_the_table_counts() {
        let mut drift = Drift::default();
        for ms in (0..8_000).step_by(100) {
            drift.costs(at(ms), Some(-40_000));
        }
        drift.told(at(8_000));
        drift.costs(at(8_100), Some(-10_000));
        assert_eq!(drift.extra_us(), 30_000);
        drift.costs(at(8_200), Some(-50_000));
        assert_eq!(drift.extra_us(), 0, "less is no cost");
        drift.costs(at(8_300), Some(-35_001));
        assert_eq!(drift.extra_us(), 0, "nor is noise");
        drift.costs(at(8_400), Some(-35_000));
        assert_eq!(drift.extra_us(), 5_000);
    }

    #[test]
    fn a_young_link_is_as_it_is() {
        let mut drift = Drift::default();
        drift.costs(at(0), Some(1_000));
        drift.told(at(100));
        drift.costs(at(4_999), Some(61_000));
        assert_eq!(drift.extra_us(), 0);
        drift.costs(at(5_000), Some(121_000));
        assert_eq!(drift.extra_us(), 60_000);
    }

    #[test]
    fn a_table_on_its_way_during_the_change_does_not_hide_it() {
        let mut drift = Drift::default();
        for ms in (0..9_000).step_by(100) {
            let cost = if ms < 7_500 { 20_000 } else { 80_000 };
            drift.costs(at(ms), Some(cost));
        }
        drift.told(at(9_000));
        assert_eq!(drift.extra_us(), 60_000);
        for ms in (9_000..12_000).step_by(100) {
            drift.costs(at(ms), Some(80_000));
        }
        drift.told(at(12_000));
        assert_eq!(drift.extra_us(), 0, "the next one knows");
    }
}
