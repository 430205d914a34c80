//! What a node's clock shows: an origin of its own, and a rate a little off.

use std::time::Duration;

use longspan_proto::time::Time;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::unit;

/// The most a clock's rate is off, in parts per billion: ±100 ppm, the tolerance of common quartz
/// oscillators (IEEE 802.3 asks the same of network interfaces).
pub const MAX_SKEW_PPB: i32 = 100_000;

const BILLION: i128 = 1_000_000_000;

/// A node's monotonic clock as a function of the true time.
///
/// The contract: [`Clock::local`] never decreases, and [`Clock::real`] is its inverse: the first
/// true time at which the clock shows at least what was asked, which is when a timer set by that
/// clock fires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    offset: Duration,
    skew_ppb: i32,
}

/// Why a clock was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a skew of {skew_ppb} ppb; it must lie in -{MAX_SKEW_PPB} … {MAX_SKEW_PPB}")]
pub struct ClockError {
    /// What was asked for.
    pub skew_ppb: i32,
}

impl Clock {
    /// A clock that shows `offset` at the true time zero, and runs `skew_ppb` parts per billion
    /// too fast.
    pub fn new(offset: Duration, skew_ppb: i32) -> Result<Clock, ClockError> {
        if !(-MAX_SKEW_PPB..=MAX_SKEW_PPB).contains(&skew_ppb) {
            return Err(ClockError { skew_ppb });
        }
        Ok(Clock { offset, skew_ppb })
    }

    /// The clock that `seed` gives: its offset even in 0 … `within`, its skew even in ± 100 ppm.
    /// Offsets are never below zero because a [`Time`] is not; between two nodes they differ by up
    /// to `within` in either direction.
    pub fn draw(seed: u64, within: Duration) -> Clock {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let skew = f64::from(MAX_SKEW_PPB) * (2.0 * unit(&mut rng) - 1.0);
        Clock {
            offset: within.mul_f64(unit(&mut rng)),
            skew_ppb: skew.round() as i32,
        }
    }

    /// What it shows at the true time `real`.
    pub fn local(&self, real: Time) -> Time {
        let real = i128::from(real.as_micros());
        let gained = (real * i128::from(self.skew_ppb)).div_euclid(BILLION);
        let local = self.offset.as_micros() as i128 + real + gained;
        Time::from_micros(u64::try_from(local.max(0)).unwrap_or(u64::MAX))
    }

    /// The first true time at which it shows `local` or more.
    pub fn real(&self, local: Time) -> Time {
        let since = i128::from(local.as_micros()) - self.offset.as_micros() as i128;
        if since <= 0 {
            return Time::ZERO;
        }
        let rate = BILLION + i128::from(self.skew_ppb);
        // local(t) is the floor of offset + t · rate, so the first t is the ceiling of the inverse.
        let real = (since * BILLION + rate - 1).div_euclid(rate);
        Time::from_micros(u64::try_from(real).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000_000;

    #[test]
    fn a_clock_is_off_by_its_offset_and_gains_by_its_skew() {
        let clock = Clock::new(Duration::from_secs(5), 100_000).expect("a clock");
        assert_eq!(clock.local(Time::ZERO), Time::from_micros(5_000_000));
        // 100 ppm of an hour are 360 ms.
        let later = Time::from_micros(5_000_000 + HOUR + 360_000);
        assert_eq!(clock.local(Time::from_micros(HOUR)), later);
        assert_eq!(Clock::default().local(later), later);
        let told = Clock::new(Duration::ZERO, 100_001).expect_err("refused");
        assert!(told.to_string().contains("100001 ppb"), "{told}");
    }

    #[test]
    fn drawn_clocks_fill_their_range_and_repeat() {
        let within = Duration::from_secs(10);
        let clocks: Vec<Clock> = (0..2_000).map(|seed| Clock::draw(seed, within)).collect();
        assert_eq!(clocks[7], Clock::draw(7, within));
        let skews = || clocks.iter().map(|clock| clock.skew_ppb);
        assert!(skews().all(|skew| skew.abs() <= MAX_SKEW_PPB));
        assert!(skews().max() > Some(95_000) && skews().min() < Some(-95_000));
        let offsets = || clocks.iter().map(|clock| clock.offset);
        assert!(offsets().all(|offset| offset <= within));
        assert!(offsets().max() > Some(within * 19 / 20) && offsets().min() < Some(within / 20));
    }

    proptest! {
        #[test]
        fn a_timer_fires_at_the_first_time_that_the_clock_shows(
            seed: u64, real in 1..30 * HOUR, local in 0..30 * HOUR,
        ) {
            let clock = Clock::draw(seed, Duration::from_secs(60));
            let (before, now) = (Time::from_micros(real - 1), Time::from_micros(real));
            prop_assert!(clock.local(before) <= clock.local(now));
            let local = Time::from_micros(local);
            let fires = clock.real(local);
            prop_assert!(clock.local(fires) >= local);
            if fires > Time::ZERO {
                let earlier = Time::from_micros(fires.as_micros() - 1);
                prop_assert!(clock.local(earlier) < local);
            }
        }
    }
}
