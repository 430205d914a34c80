//! Delay, jitter and loss of one direction, out of the probes that arrive.

use std::{collections::VecDeque, time::Duration};

use longspan_proto::time::Time;

use super::Loss;
use crate::graph::Metrics;

/// The floor and the jitter are taken over so many probes at most (at 25 ms 6.4 s), and over so
/// long: a floor that is older may be another route's, or the clocks' drift (50 ppm in 30 s are
/// 1.5 ms).
const WINDOW: usize = 256;
const WINDOW_FOR: Duration = Duration::from_secs(30);
/// Smoothing of the delay and the round trip: weight of a new sample (RFC 6298 §2 uses 1/8).
const SMOOTHING: f64 = 1.0 / 8.0;
/// The slow average, against which the trend of the delay is told.
const SLOW_SMOOTHING: f64 = 1.0 / 64.0;
/// The jitter is computed anew after so many probes.
const JITTER_EVERY: u32 = 8;
/// A jump of the raw difference beyond this is a step of a clock (or a suspend), not a delay.
const CLOCK_STEP_US: i64 = 10_000_000;

/// One direction of a link, as its receiving end measures it.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    raw: Option<f64>,
    raw_slow: Option<f64>,
    rtt: Option<f64>,
    /// When the last probes came, and their raw differences.
    window: VecDeque<(Time, i64)>,
    /// The smallest of them.
    floor: Option<i64>,
    newest_seq: Option<u32>,
    loss: Loss,
    jitter_us: u64,
    stale: u32,
}

impl Estimator {
    /// A probe with number `seq` arrived; `raw_us` is the receiver's clock minus its send time,
    /// `rtt_us` the round trip it completed, where it completed one; `spacing` its sender's cadence.
    pub fn arrived(
        &mut self,
        now: Time,
        seq: u32,
        raw_us: i64,
        rtt_us: Option<u64>,
        spacing: Duration,
    ) {
        if !self.count(seq, spacing) {
            return;
        }
        if self
            .raw
            .is_some_and(|raw| (raw - raw_us as f64).abs() > CLOCK_STEP_US as f64)
        {
            self.raw = None;
            self.raw_slow = None;
            self.window.clear();
            self.floor = None;
            self.stale = 0;
        }
        while self.window.len() >= WINDOW
            || self
                .window
                .front()
                .is_some_and(|(at, _)| now.saturating_since(*at) > WINDOW_FOR)
        {
            let gone = self.window.pop_front().map(|(_, raw)| raw);
            if gone == self.floor {
                self.floor = None;
            }
        }
        self.window.push_back((now, raw_us));
        self.floor = match self.floor {
            Some(floor) => Some(floor.min(raw_us)),
            None => self.window.iter().map(|(_, raw)| *raw).min(),
        };
        smooth(&mut self.raw, raw_us as f64, SMOOTHING);
        smooth(&mut self.raw_slow, raw_us as f64, SLOW_SMOOTHING);
        if let Some(rtt) = rtt_us {
            smooth(&mut self.rtt, rtt as f64, SMOOTHING);
        }
        if self.stale == 0 {
            self.stale = JITTER_EVERY.min(self.window.len() as u32);
            self.jitter_us = self.jitter_now();
        }
        self.stale -= 1;
    }

    /// A probe arrived whose times say nothing of the link (this end was stopped): it is counted
    /// only. False for one that is late or doubled.
    pub fn count(&mut self, seq: u32, spacing: Duration) -> bool {
        if let Some(newest) = self.newest_seq {
            let ahead = seq.wrapping_sub(newest);
            if ahead == 0 || ahead > u32::MAX / 2 {
                // It was counted as lost; its delay says nothing of the present.
                return false;
            }
            self.loss.count(ahead - 1, 1, spacing);
        }
        self.newest_seq = Some(seq);
        true
    }

    /// The link was down: what did not come meanwhile is no loss.
    pub fn outage(&mut self) {
        self.newest_seq = None;
    }

    /// The smallest raw difference of the window: the clocks' offset and the quickest flight.
    pub fn floor_us(&self) -> Option<i64> {
        self.floor
    }

    /// The smoothed round trip in µs.
    pub fn rtt_us(&self) -> Option<u64> {
        self.rtt.map(|rtt| rtt as u64)
    }

    /// The 95th percentile of the delay above its floor, in µs.
    pub fn jitter_us(&self) -> u64 {
        self.jitter_us
    }

    /// By how much the delay of the last 8 probes exceeds that of the last 64, in µs: a queue that
    /// grows shows here first.
    pub fn trend_us(&self) -> i64 {
        match (self.raw, self.raw_slow) {
            (Some(fast), Some(slow)) => (fast - slow) as i64,
            _ => 0,
        }
    }

    /// What is lost of what comes.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    fn jitter_now(&self) -> u64 {
        let floor = self.floor_us().unwrap_or_default();
        let mut above: Vec<u64> = self
            .window
            .iter()
            .map(|(_, raw)| (raw - floor) as u64)
            .collect();
        if above.is_empty() {
            return 0;
        }
        let at = (above.len() - 1) * 95 / 100;
        *above.select_nth_unstable(at).1
    }

    /// All together; None before the first round trip.
    pub fn metrics(&self) -> Option<Metrics> {
        Some(Metrics {
            raw_delay_us: self.raw? as i64,
            rtt_us: self.rtt_us()?,
            jitter_p95_us: self.jitter_us,
            loss: self.loss.mean(),
        })
    }
}

fn smooth(average: &mut Option<f64>, sample: f64, weight: f64) {
    *average = Some(average.map_or(sample, |average| average + weight * (sample - average)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(25);

    fn arrived(link: &mut Estimator, seq: u32, raw_us: i64, rtt_us: Option<u64>) {
        let now = Time::ZERO + SPACING * seq;
        link.arrived(now, seq, raw_us, rtt_us, SPACING);
    }

    #[test]
    fn a_steady_link_is_told_as_it_is() {
        let mut link = Estimator::default();
        for seq in 0..101 {
            let late = i64::from(seq % 21 == 0) * 3_000;
            arrived(&mut link, seq, -5_000_000 + 40_000 + late, Some(80_000));
        }
        let metrics = link.metrics().unwrap();
        assert!(
            (metrics.raw_delay_us + 4_960_000).abs() < 1_000,
            "{metrics:?}"
        );
        assert_eq!(metrics.rtt_us, 80_000);
        assert_eq!(
            metrics.jitter_p95_us, 0,
            "one in twenty-one is beyond the 95th percentile"
        );
        assert_eq!(metrics.loss, 0.0);
        assert_eq!(link.floor_us(), Some(-4_960_000));
    }

    #[test]
    fn jitter_is_the_95th_percentile_above_the_floor() {
        let mut link = Estimator::default();
        for seq in 0..256 {
            arrived(&mut link, seq, i64::from(seq % 100) * 1_000, Some(80_000));
        }
        let jitter = link.metrics().unwrap().jitter_p95_us;
        assert!((92_000..=98_000).contains(&jitter), "{jitter}");
    }

    #[test]
    fn lost_probes_are_counted_late_and_doubled_ones_are_not_counted_twice() {
        let mut link = Estimator::default();
        for seq in (0..400).filter(|seq| seq % 4 != 0) {
            arrived(&mut link, seq, 1_000, Some(2_000));
            arrived(&mut link, seq, 1_000, Some(2_000));
            arrived(&mut link, seq.wrapping_sub(3), 900_000, None);
        }
        let loss = link.metrics().unwrap().loss;
        assert!((0.15..0.35).contains(&loss), "{loss}");
        assert!(link.loss().burst() < 1.5, "{:?}", link.loss());
        assert_eq!(link.metrics().unwrap().raw_delay_us, 1_000);
    }

    #[test]
    fn a_clock_step_begins_anew() {
        let mut link = Estimator::default();
        for seq in 0..40 {
            arrived(&mut link, seq, 50_000, Some(100_000));
        }
        arrived(&mut link, 40, 3_600_050_000, Some(100_000));
        assert_eq!(link.metrics().unwrap().raw_delay_us, 3_600_050_000);
        assert_eq!(link.metrics().unwrap().jitter_p95_us, 0);
    }

    #[test]
    fn a_growing_queue_shows_in_the_trend() {
        let mut link = Estimator::default();
        for seq in 0..100 {
            arrived(&mut link, seq, 50_000, Some(100_000));
        }
        assert_eq!(link.trend_us(), 0);
        for seq in 100..120 {
            arrived(&mut link, seq, 50_000 + i64::from(seq - 100) * 2_000, None);
        }
        assert!(link.trend_us() > 10_000, "{}", link.trend_us());
    }

    #[test]
    fn an_old_floor_is_forgotten() {
        let mut link = Estimator::default();
        arrived(&mut link, 0, 40_000, Some(80_000));
        let later = Time::ZERO + WINDOW_FOR;
        link.arrived(later, 1, 50_000, None, SPACING);
        assert_eq!(link.floor_us(), Some(40_000));
        link.arrived(later + SPACING, 2, 50_000, None, SPACING);
        assert_eq!(link.floor_us(), Some(50_000));
    }

    #[test]
    fn an_outage_is_no_loss() {
        let mut link = Estimator::default();
        arrived(&mut link, 1, 5, Some(10));
        link.outage();
        arrived(&mut link, 100, 5, Some(10));
        assert_eq!(link.metrics().unwrap().loss, 0.0);
    }

    #[test]
    fn nothing_is_told_before_a_round_trip() {
        let mut link = Estimator::default();
        arrived(&mut link, 1, 5, None);
        assert_eq!(link.metrics(), None);
    }
}
