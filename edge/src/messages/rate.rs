//! How often something may happen.

use std::time::Duration;

use longspan_proto::time::Time;

/// A rate with a burst: the generic cell rate algorithm (ITU-T I.371 §A), which needs one number.
#[derive(Debug, Clone)]
pub struct Rate {
    interval: Duration,
    tolerance: Duration,
    /// When the next one would be due if all came evenly.
    due: Time,
}

impl Rate {
    /// `per_second` (at least 1) in the long run, `burst` (at least 1) at once.
    pub fn new(per_second: u32, burst: u32) -> Rate {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Rate {
            interval,
            tolerance: interval * burst.max(1).saturating_sub(1),
            due: Time::ZERO,
        }
    }

    /// Whether one more may happen now; counts it if so.
    pub fn allows(&mut self, now: Time) -> bool {
        if self.due.saturating_since(now) > self.tolerance {
            return false;
        }
        self.due = self.due.max(now) + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut rate = Rate::new(10, 3);
        let at = |ms: u64| Time::ZERO + Duration::from_millis(5_000 + ms);
        let allowed = (0..5).filter(|_| rate.allows(at(0))).count();
        assert_eq!(allowed, 3);
        assert!(!rate.allows(at(99)));
        assert!(rate.allows(at(100)));
        assert!(!rate.allows(at(100)));
        let allowed = (0..50).filter(|_| rate.allows(at(10_000))).count();
        assert_eq!(allowed, 3);
    }
}
