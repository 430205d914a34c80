//! A node's own clock, which is not the world's.

use longspan_proto::time::Time;

/// Begins at `offset` and runs too fast or too slow by `ppm`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    pub offset_us: u64,
    pub ppm: i64,
}

impl Clock {
    /// What it shows at the world's `at`.
    pub fn shows(&self, at: Time) -> Time {
        // Fits: 2^63 µs at 1,000,000 ppm are a hundred days.
        let true_us = at.as_micros() as i64;
        let skew = true_us * self.ppm / 1_000_000;
        Time::from_micros((true_us + skew) as u64 + self.offset_us)
    }

    /// The first moment of the world at which it shows `time` or more.
    pub fn when(&self, time: Time) -> Time {
        let local = time.as_micros() as i64 - self.offset_us as i64;
        let rate = 1_000_000 + self.ppm;
        let mut at =
            Time::from_micros(((local.max(0) * 1_000_000 / rate) as u64).saturating_sub(2));
        while self.shows(at) < time {
            at = Time::from_micros(at.as_micros() + 1);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for ppm in [-200, -1, 0, 1, 137] {
            let clock = Clock {
                offset_us: 86_400_000_123,
                ppm,
            };
            for us in [0, 1, 999_999, 3_600_000_000, 123_456_789_012] {
                let at = Time::from_micros(us);
                let back = clock.when(clock.shows(at));
                assert!(
                    back <= at && clock.shows(back) == clock.shows(at),
                    "{ppm} {us}"
                );
            }
        }
    }
}
