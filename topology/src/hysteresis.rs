//! When a better path is worth moving to (DESIGN §4: no switch for a gain under 3 % or 3 ms, the
//! larger; none within a hold time unless the path failed).

use std::time::Duration;

use longspan_proto::time::Time;

/// Least gain, as a share of the present cost.
const GAIN_SHARE: f64 = 0.03;
/// Least gain in µs.
const GAIN_US: u64 = 3_000;

/// Why a path is kept or left; told to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The present path is gone: move at once.
    Failed,
    /// The gain is worth it.
    Better {
        /// Gain in µs.
        gain_us: u64,
    },
    /// It saves money within the latency budget.
    Cheaper {
        /// By how much a GB costs less, in millionths of the operator's currency.
        saved: u32,
    },
    /// The present path crosses a draining node: it leaves while both work.
    Drained,
    /// An operator pinned the other one.
    Pinned,
    /// Kept: the gain is too small.
    SmallGain {
        /// Gain in µs; 0 for none.
        gain_us: u64,
    },
    /// Kept: the last move was too short ago.
    Held,
}

impl Verdict {
    /// Whether to move.
    pub fn moves(self) -> bool {
        !matches!(self, Verdict::SmallGain { .. } | Verdict::Held)
    }
}

/// What a path is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Expected delivery latency in µs.
    pub cost_us: u64,
    /// Price of a GB in millionths of the operator's currency; 0 where prices do not count.
    pub price: u32,
}

/// Judges a candidate. `present` is the present path's cost now, None if it cannot be used any
/// more; `moved` is when the last move was.
pub fn judge(
    present: Option<u64>,
    candidate: u64,
    now: Time,
    moved: Option<Time>,
    hold: Duration,
) -> Verdict {
    let free = |cost_us| Judged { cost_us, price: 0 };
    judge_priced(present.map(free), free(candidate), now, moved, hold)
}

/// The same where prices count; the candidate is the best by the class's rules.
pub fn judge_priced(
    present: Option<Judged>,
    candidate: Judged,
    now: Time,
    moved: Option<Time>,
    hold: Duration,
) -> Verdict {
    let Some(present) = present else {
        return Verdict::Failed;
    };
    let gain_us = present.cost_us.saturating_sub(candidate.cost_us);
    let least = ((present.cost_us as f64 * GAIN_SHARE) as u64).max(GAIN_US);
    let saved = present.price.saturating_sub(candidate.price);
    let verdict = if saved > 0 {
        Verdict::Cheaper { saved }
    } else if gain_us >= least {
        Verdict::Better { gain_us }
    } else {
        return Verdict::SmallGain { gain_us };
    };
    match moved {
        Some(moved) if now.saturating_since(moved) < hold => Verdict::Held,
        _ => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_is_cheaper_is_moved_to_after_the_hold_time_though_it_is_slower() {
        let path = |cost_us, price| Judged { cost_us, price };
        let judge =
            |moved| judge_priced(Some(path(20_000, 9)), path(60_000, 2), at(9), moved, HOLD);
        assert_eq!(judge(None), Verdict::Cheaper { saved: 7 });
        assert_eq!(judge(Some(at(5))), Verdict::Held);
    }

    #[test]
    fn small_gains_are_left_alone() {
        // 3 % of 200 ms is 6 ms; 3 ms is the least for short paths.
        assert_eq!(
            judge(Some(200_000), 194_001, at(9), None, HOLD),
            Verdict::SmallGain { gain_us: 5_999 }
        );
        assert_eq!(
            judge(Some(200_000), 194_000, at(9), None, HOLD),
            Verdict::Better { gain_us: 6_000 }
        );
        assert_eq!(
            judge(Some(20_000), 17_001, at(9), None, HOLD),
            Verdict::SmallGain { gain_us: 2_999 }
        );
        assert_eq!(
            judge(Some(20_000), 17_000, at(9), None, HOLD),
            Verdict::Better { gain_us: 3_000 }
        );
        assert_eq!(
            judge(Some(20_000), 30_000, at(9), None, HOLD),
            Verdict::SmallGain { gain_us: 0 }
        );
    }

    #[test]
    fn a_failed_path_is_left_at_once_others_after_the_hold_time() {
        assert_eq!(
            judge(Some(200_000), 100_000, at(9), Some(at(5)), HOLD),
            Verdict::Held
        );
        assert!(judge(Some(200_000), 100_000, at(10), Some(at(5)), HOLD).moves());
        assert_eq!(
            judge(None, 500_000, at(9), Some(at(9)), HOLD),
            Verdict::Failed
        );
    }
}
