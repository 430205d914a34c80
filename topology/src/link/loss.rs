//! How much is lost, and how long it stays so.

use std::time::Duration;

/// Weight of the newest probe in the fast and the slow average (6.4 s at 25 ms).
const FAST: f64 = 1.0 / 16.0;
const SLOW: f64 = 1.0 / 256.0;
/// And in what thresholds rest on: 50 s at 25 ms, so that one burst moves them little.
const LONG: f64 = 1.0 / 2_048.0;
/// Weight of the newest burst in their mean length, and what is assumed before the first.
const BURST: f64 = 1.0 / 32.0;
const BURST_ASSUMED: f64 = 4.0;
/// A gap counts as a burst of so many probes at most: what is longer is an outage, and the
/// detector's business.
const LONGEST: u32 = 32;
/// Gaps between probes that are farther apart say nothing of how long a burst lasts.
const DENSE: Duration = Duration::from_millis(50);

/// Loss of probes in one direction.
#[derive(Debug, Clone, Default)]
pub struct Loss {
    fast: f64,
    slow: f64,
    long: f64,
    burst: Option<f64>,
    lasts_us: Option<f64>,
}

impl Loss {
    /// So many probes were lost, then so many arrived; their sender's cadence was `spacing`.
    pub(super) fn count(&mut self, lost: u32, arrived: u32, spacing: Duration) {
        let lost = lost.min(LONGEST);
        for _ in 0..lost {
            self.add(1.0);
        }
        for _ in 0..arrived.min(LONGEST) {
            self.add(0.0);
        }
        if lost == 0 {
            return;
        }
        average(&mut self.burst, lost.into(), BURST_ASSUMED);
        if spacing <= DENSE {
            let lasts = spacing * lost;
            average(&mut self.lasts_us, lasts.as_micros() as f64, 0.0);
        }
    }

    fn add(&mut self, lost: f64) {
        self.fast += FAST * (lost - self.fast);
        self.slow += SLOW * (lost - self.slow);
        self.long += LONG * (lost - self.long);
    }

    /// The share that is lost, 0 … 1, of the last 256 probes: what a link costs follows from it,
    /// and one burst is no reason to leave.
    pub fn mean(&self) -> f64 {
        self.slow
    }

    /// The same of the last 16 probes.
    pub fn lately(&self) -> f64 {
        self.fast
    }

    /// The share that is lost in the long run: of the last 2,000 probes.
    pub fn long_run(&self) -> f64 {
        self.long
    }

    /// The mean length of a burst in probes.
    pub fn burst(&self) -> f64 {
        self.burst.unwrap_or(BURST_ASSUMED)
    }

    /// How long a burst lasts on average; zero before the first that could be timed.
    pub fn lasts(&self) -> Duration {
        Duration::from_micros(self.lasts_us.unwrap_or(0.0) as u64)
    }
}

fn average(mean: &mut Option<f64>, sample: f64, assumed: f64) {
    let before = mean.unwrap_or(assumed);
    *mean = Some(before + BURST * (sample - before));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_and_bursts_are_told() {
        let mut loss = Loss::default();
        for _ in 0..300 {
            loss.count(4, 12, Duration::from_millis(25));
        }
        assert!((0.2..0.4).contains(&loss.mean()), "{loss:?}");
        assert_eq!(loss.burst(), 4.0);
        let lasts = loss.lasts().as_millis();
        assert!((98..=100).contains(&lasts), "{lasts}");
        assert!((0.2..0.3).contains(&loss.long_run()), "{loss:?}");
    }

    #[test]
    fn rare_probes_do_not_time_a_burst() {
        let mut loss = Loss::default();
        loss.count(1, 1, DENSE + Duration::from_millis(1));
        assert_eq!(loss.lasts(), Duration::ZERO);
        assert!(loss.burst() < BURST_ASSUMED);
        loss.count(1, 1, DENSE);
        assert!(loss.lasts() > Duration::ZERO);
    }
}
