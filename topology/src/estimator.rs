//! A link's delay, jitter and loss, out of the probes that arrive; and whether it lives.

use std::{collections::VecDeque, time::Duration};

use longspan_proto::time::Time;

use crate::graph::Metrics;

/// Probes that the delay's floor and the jitter are taken over. At one a second this is half a
/// minute; at twenty a second, a second and a half.
const WINDOW: usize = 32;
/// Smoothing of the delay and the round trip: weight of a new sample (RFC 6298 §2 uses 1/8).
const SMOOTHING: f64 = 1.0 / 8.0;
/// Weight of the newest probe in the fast and the slow loss averages.
const LOSS_FAST: f64 = 1.0 / 16.0;
const LOSS_SLOW: f64 = 1.0 / 256.0;
/// A jump of the raw difference beyond this is a step of a clock (or a suspend), not a delay.
const CLOCK_STEP_US: i64 = 10_000_000;

/// One direction of a link, as its receiving end measures it.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    raw: Option<f64>,
    rtt: Option<f64>,
    /// Raw differences of the last probes.
    window: VecDeque<i64>,
    newest_seq: Option<u32>,
    loss_fast: f64,
    loss_slow: f64,
}

impl Estimator {
    /// A probe with number `seq` arrived; `raw_us` is the receiver's clock minus its send time,
    /// `rtt_us` the round trip it completed, where it echoed one.
    pub fn arrived(&mut self, seq: u32, raw_us: i64, rtt_us: Option<u64>) {
        if let Some(newest) = self.newest_seq {
            let ahead = seq.wrapping_sub(newest);
            if ahead == 0 || ahead > u32::MAX / 2 {
                // Late or doubled: it was counted as lost; its delay says nothing of the present.
                return;
            }
            for _ in 1..ahead.min(WINDOW as u32) {
                self.count_loss(1.0);
            }
            self.count_loss(0.0);
        }
        self.newest_seq = Some(seq);
        if self
            .raw
            .is_some_and(|raw| (raw - raw_us as f64).abs() > CLOCK_STEP_US as f64)
        {
            self.raw = None;
            self.window.clear();
        }
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(raw_us);
        smooth(&mut self.raw, raw_us as f64);
        if let Some(rtt) = rtt_us {
            smooth(&mut self.rtt, rtt as f64);
        }
    }

    fn count_loss(&mut self, lost: f64) {
        self.loss_fast += LOSS_FAST * (lost - self.loss_fast);
        self.loss_slow += LOSS_SLOW * (lost - self.loss_slow);
    }

    /// The smallest raw difference of the window: the clocks' offset and the quickest flight.
    pub fn floor_us(&self) -> Option<i64> {
        self.window.iter().min().copied()
    }

    /// The smoothed round trip in µs.
    pub fn rtt_us(&self) -> Option<u64> {
        self.rtt.map(|rtt| rtt as u64)
    }

    /// All together; None before the first round trip.
    pub fn metrics(&self) -> Option<Metrics> {
        let (raw, floor) = (self.raw?, self.floor_us()?);
        let mut above: Vec<u64> = self.window.iter().map(|raw| (raw - floor) as u64).collect();
        above.sort_unstable();
        Some(Metrics {
            raw_delay_us: raw as i64,
            rtt_us: self.rtt_us()?,
            jitter_p95_us: above[(above.len() - 1) * 95 / 100],
            loss: self.loss_fast.max(self.loss_slow),
        })
    }
}

fn smooth(average: &mut Option<f64>, sample: f64) {
    *average = Some(average.map_or(sample, |average| average + SMOOTHING * (sample - average)));
}

/// Whether the other side of a link lives. Any packet counts as life.
#[derive(Debug, Clone)]
pub struct Detector {
    heard: Time,
    unanswered: u32,
}

/// What the detector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Heard of lately.
    Up,
    /// Silent for longer than usual: probe faster, make the standby ready.
    Suspect,
    /// Silent for too long and too many probes.
    Down,
}

/// Fewest unanswered probes for a verdict (DESIGN §3).
pub const DOWN_PROBES: u32 = 15;
/// Fewest unanswered probes for a suspicion.
pub const SUSPECT_PROBES: u32 = 3;

impl Detector {
    /// Begins now, as if just heard of.
    pub fn new(now: Time) -> Detector {
        Detector {
            heard: now,
            unanswered: 0,
        }
    }

    /// Something arrived.
    pub fn heard(&mut self, now: Time) {
        self.heard = now;
        self.unanswered = 0;
    }

    /// A probe was sent.
    pub fn probed(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// The verdict, where `silence` is the shortest that makes one.
    pub fn life(&self, now: Time, silence: Duration) -> Life {
        let quiet = now.saturating_since(self.heard);
        if self.unanswered >= DOWN_PROBES && quiet >= silence {
            Life::Down
        } else if self.unanswered >= SUSPECT_PROBES && quiet >= silence / 4 {
            Life::Suspect
        } else {
            Life::Up
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_link_is_told_as_it_is() {
        let mut link = Estimator::default();
        for seq in 0..100 {
            link.arrived(
                seq,
                -5_000_000 + 40_000 + i64::from(seq % 20 == 0) * 3_000,
                Some(80_000),
            );
        }
        let metrics = link.metrics().unwrap();
        assert!(
            (metrics.raw_delay_us + 4_960_000).abs() < 1_000,
            "{metrics:?}"
        );
        assert_eq!(metrics.rtt_us, 80_000);
        assert_eq!(
            metrics.jitter_p95_us, 0,
            "one in twenty is the 95th percentile's far side"
        );
        assert_eq!(metrics.loss, 0.0);
        assert_eq!(link.floor_us(), Some(-4_960_000));
    }

    #[test]
    fn lost_probes_are_counted_late_and_doubled_ones_are_not_counted_twice() {
        let mut link = Estimator::default();
        for seq in (0..400).filter(|seq| seq % 4 != 0) {
            link.arrived(seq, 1_000, Some(2_000));
            link.arrived(seq, 1_000, Some(2_000));
            link.arrived(seq.wrapping_sub(3), 900_000, None);
        }
        let loss = link.metrics().unwrap().loss;
        assert!((0.15..0.35).contains(&loss), "{loss}");
        assert_eq!(link.metrics().unwrap().raw_delay_us, 1_000);
    }

    #[test]
    fn a_clock_step_begins_anew() {
        let mut link = Estimator::default();
        for seq in 0..40 {
            link.arrived(seq, 50_000, Some(100_000));
        }
        link.arrived(40, 3_600_050_000, Some(100_000));
        assert_eq!(link.metrics().unwrap().raw_delay_us, 3_600_050_000);
        assert_eq!(link.metrics().unwrap().jitter_p95_us, 0);
    }

    #[test]
    fn nothing_is_told_before_a_round_trip() {
        let mut link = Estimator::default();
        link.arrived(1, 5, None);
        assert_eq!(link.metrics(), None);
    }

    #[test]
    fn silence_and_probes_are_both_needed() {
        let silence = Duration::from_millis(400);
        let mut link = Detector::new(Time::ZERO);
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        for _ in 0..DOWN_PROBES - 1 {
            link.probed();
        }
        assert_eq!(
            link.life(at(10_000), silence),
            Life::Suspect,
            "one probe short"
        );
        link.probed();
        assert_eq!(
            link.life(at(399), silence),
            Life::Suspect,
            "one millisecond short"
        );
        assert_eq!(link.life(at(400), silence), Life::Down);
        link.heard(at(401));
        assert_eq!(
            link.life(at(10_000), silence),
            Life::Up,
            "nothing was asked since"
        );
    }
}
