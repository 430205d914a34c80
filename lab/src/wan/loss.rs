//! Which packets are lost.

use std::{f64::consts::PI, time::Duration};

use longspan_proto::time::Time;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::unit;

/// A ramp starts where its loss is its mean (sin⁴ is 3/8 there), so that whoever switches it on
/// sees loss at once.
const RAMP_START: f64 = 0.286_03;

/// How packets are lost in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// None is.
    #[default]
    None,
    /// All are.
    All,
    /// Each with the same probability, whatever happened to others.
    Bernoulli {
        /// The probability.
        mean: f64,
    },
    /// In bursts: a good state loses nothing, a bad one everything (E. N. Gilbert, "Capacity of a
    /// Burst-Noise Channel", 1960, with error probability 1 in the bad state).
    GilbertElliott {
        /// The share of packets lost in the long run.
        mean: f64,
        /// The mean length of a burst, in packets.
        burst: f64,
    },
    /// Gilbert–Elliott whose mean goes up and down: `peak` · sin⁴(π t / period), whose mean over a
    /// period is 3/8 of the peak.
    Ramps {
        /// The highest loss.
        peak: f64,
        /// The mean length of a burst, in packets.
        burst: f64,
        /// From one peak to the next, in seconds.
        period_s: f64,
    },
}

impl Loss {
    /// The share lost at `now` in the long run.
    pub fn mean(&self, now: Time) -> f64 {
        match *self {
            Loss::None => 0.0,
            Loss::All => 1.0,
            Loss::Bernoulli { mean } | Loss::GilbertElliott { mean, .. } => mean,
            Loss::Ramps { peak, period_s, .. } => {
                let t = now.saturating_since(Time::ZERO).as_secs_f64() / period_s + RAMP_START;
                peak * (PI * t).sin().powi(4)
            }
        }
    }

    /// `Err` says what cannot be.
    pub(super) fn check(&self) -> Result<(), String> {
        let share = |name: &str, share: f64| {
            if (0.0..=1.0).contains(&share) {
                Ok(())
            } else {
                Err(format!("loss.{name} is {share}; it must lie in 0 … 1"))
            }
        };
        let burst = |burst: f64, mean: f64| {
            if !(burst.is_finite() && burst >= 1.0) {
                return Err(format!(
                    "loss.burst is {burst}; it must be 1 packet or more"
                ));
            }
            // The good state would have to be left with a probability above 1.
            if mean < 1.0 && mean / (1.0 - mean) > burst {
                return Err(format!(
                    "loss.mean {mean} cannot be reached with bursts of {burst}: take bursts of {:.1} or more",
                    mean / (1.0 - mean)
                ));
            }
            Ok(())
        };
        match *self {
            Loss::None | Loss::All => Ok(()),
            Loss::Bernoulli { mean } => share("mean", mean),
            Loss::GilbertElliott { mean, burst: b } => share("mean", mean).and(burst(b, mean)),
            Loss::Ramps {
                peak,
                burst: b,
                period_s,
            } => {
                let period = Duration::try_from_secs_f64(period_s);
                if !period.is_ok_and(|period| period >= Duration::from_secs(1)) {
                    return Err(format!(
                        "loss.period_s is {period_s}; it must be 1 second or more"
                    ));
                }
                share("peak", peak).and(burst(b, peak))
            }
        }
    }
}

/// Where the two-state chain is.
#[derive(Debug, Clone, Default)]
pub(super) struct LossState {
    bad: bool,
}

impl LossState {
    /// Whether the next packet is lost.
    pub fn loses(&mut self, loss: &Loss, now: Time, rng: &mut impl Rng) -> bool {
        match *loss {
            Loss::None => {
                self.bad = false;
                false
            }
            Loss::All => true,
            Loss::Bernoulli { mean } => unit(rng) < mean,
            Loss::GilbertElliott { burst, .. } | Loss::Ramps { burst, .. } => {
                self.step(loss.mean(now), burst, rng)
            }
        }
    }

    /// One step of the chain. In the long run it is bad for `mean` of the packets: it leaves bad
    /// with 1 / burst, and good with mean / (burst · (1 − mean)).
    fn step(&mut self, mean: f64, burst: f64, rng: &mut impl Rng) -> bool {
        if mean >= 1.0 {
            return true;
        }
        let leave = if self.bad {
            1.0 / burst
        } else {
            mean / (burst * (1.0 - mean))
        };
        if unit(rng) < leave {
            self.bad = !self.bad;
        }
        self.bad
    }
}
