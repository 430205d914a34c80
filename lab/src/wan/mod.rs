//! One direction of a link: pure and seeded. Time is an argument, so the same model serves the
//! socket shim in real time and a simulation in virtual time.

mod profile;

use std::time::Duration;

use longspan_proto::time::Time;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use profile::{Profile, UnknownProfile};

/// How delay varies.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Evenly within this share of the delay, either way.
    Uniform(f64),
    /// Exponential above the delay; the mean in ms.
    ExponentialMs(f64),
}

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Each packet by itself, with this probability.
    Bernoulli(f64),
    /// In bursts: Gilbert–Elliott with everything lost in the bad state.
    Bursts {
        /// Share of packets lost.
        mean: f64,
        /// Mean length of a burst, in packets; at least 1.
        length: f64,
    },
}

/// What a direction does to packets.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// One-way delay in ms.
    pub delay_ms: f64,
    /// How it varies.
    pub jitter: Jitter,
    /// What is lost.
    pub loss: Loss,
    /// Mbit/s; None: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<f64>,
    /// How long a packet may wait for the rate, in ms; longer waits are losses.
    #[serde(default)]
    pub queue_ms: f64,
    /// Whether jitter may reorder.
    #[serde(default)]
    pub reorders: bool,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives then.
    Deliver(Time),
    /// It is lost on the way.
    Lost,
    /// The queue before the rate is full.
    Overflow,
}

/// A direction in use: the model and its state.
#[derive(Debug, Clone)]
pub struct Direction {
    model: Model,
    rng: ChaCha8Rng,
    /// In the bad state of the loss model.
    bad: bool,
    /// When the rate is free again.
    free: Time,
    /// The latest delivery so far.
    last: Time,
}

impl Direction {
    /// Begins in the good state with nothing queued.
    pub fn new(model: Model, seed: u64) -> Direction {
        Direction {
            model,
            rng: ChaCha8Rng::seed_from_u64(seed),
            bad: false,
            free: Time::ZERO,
            last: Time::ZERO,
        }
    }

    /// Changes the model; what is on its way stays on its way.
    pub fn set_model(&mut self, model: Model) {
        self.model = model;
    }

    /// Sends a packet of `len` bytes.
    pub fn send(&mut self, now: Time, len: usize) -> Verdict {
        if self.loses() {
            return Verdict::Lost;
        }
        let mut departs = now;
        if let Some(mbit) = self.model.rate_mbit {
            let starts = now.max(self.free);
            if starts.saturating_since(now) > ms(self.model.queue_ms) {
                return Verdict::Overflow;
            }
            departs = starts + Duration::from_secs_f64(len as f64 * 8.0 / (mbit * 1e6));
            self.free = departs;
        }
        let delay = self.model.delay_ms;
        let jitter = match self.model.jitter {
            Jitter::Uniform(share) => delay * share * self.rng.random_range(-1.0..=1.0),
            // The inverse of the exponential distribution; 1 - u is never 0.
            Jitter::ExponentialMs(mean) => -mean * (1.0 - self.rng.random::<f64>()).ln(),
        };
        let mut arrives = departs + ms((delay + jitter).max(0.0));
        if !self.model.reorders {
            arrives = arrives.max(self.last);
        }
        self.last = self.last.max(arrives);
        Verdict::Deliver(arrives)
    }

    fn loses(&mut self) -> bool {
        match self.model.loss {
            Loss::Bernoulli(p) => chance(&mut self.rng, p),
            Loss::Bursts { mean, length } => {
                let length = length.max(1.0);
                let leave = 1.0 / length;
                // In balance: share of bad packets = enter / (enter + leave) = mean.
                let enter = if mean >= 1.0 {
                    1.0
                } else {
                    (leave * mean / (1.0 - mean)).min(1.0)
                };
                let stays_bad = self.bad && (mean >= 1.0 || !chance(&mut self.rng, leave));
                self.bad = if self.bad {
                    stays_bad
                } else {
                    chance(&mut self.rng, enter)
                };
                self.bad
            }
        }
    }
}

fn chance(rng: &mut impl Rng, p: f64) -> bool {
    rng.random::<f64>() < p
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: usize = 200_000;

    fn model(loss: Loss) -> Model {
        Model {
            delay_ms: 50.0,
            jitter: Jitter::ExponentialMs(2.0),
            loss,
            rate_mbit: None,
            queue_ms: 0.0,
            reorders: false,
        }
    }

    /// One packet a millisecond; the fate of each.
    fn fates(model: Model) -> Vec<(Time, Verdict)> {
        let mut direction = Direction::new(model, 42);
        (0..PACKETS as u64)
            .map(|i| Time::from_micros(i * 1_000))
            .map(|t| (t, direction.send(t, 1_200)))
            .collect()
    }

    #[test]
    fn losses_have_the_set_mean_and_burst_length() {
        for (mean, length) in [(0.003, 4.0), (0.15, 4.0), (0.4, 8.0)] {
            let lost: Vec<bool> = fates(model(Loss::Bursts { mean, length }))
                .iter()
                .map(|(_, v)| *v == Verdict::Lost)
                .collect();
            let count = lost.iter().filter(|l| **l).count();
            let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count();
            let share = count as f64 / PACKETS as f64;
            assert!((share / mean - 1.0).abs() < 0.15, "{share} for {mean}");
            let found = count as f64 / bursts as f64;
            assert!(
                (found / length - 1.0).abs() < 0.15,
                "bursts of {found} for {length}"
            );
        }
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        for loss in [
            Loss::Bernoulli(0.0),
            Loss::Bursts {
                mean: 0.0,
                length: 4.0,
            },
        ] {
            assert!(fates(model(loss)).iter().all(|(_, v)| *v != Verdict::Lost));
        }
        for loss in [
            Loss::Bernoulli(1.0),
            Loss::Bursts {
                mean: 1.0,
                length: 4.0,
            },
        ] {
            assert!(fates(model(loss)).iter().all(|(_, v)| *v == Verdict::Lost));
        }
    }

    #[test]
    fn delay_has_the_set_mean_and_never_reorders() {
        let mut last = Time::ZERO;
        let mut sum = 0.0;
        for (sent, verdict) in fates(model(Loss::Bernoulli(0.0))) {
            let Verdict::Deliver(arrives) = verdict else {
                panic!("nothing is lost")
            };
            assert!(arrives >= last);
            last = arrives;
            sum += arrives.saturating_since(sent).as_secs_f64() * 1000.0;
        }
        let mean = sum / PACKETS as f64;
        // Keeping the order adds to the exponential's mean of 2 ms.
        assert!((52.0..54.0).contains(&mean), "{mean}");
    }

    #[test]
    fn the_rate_holds_and_the_queue_is_bounded() {
        let model = Model {
            rate_mbit: Some(4.8),
            queue_ms: 100.0,
            ..model(Loss::Bernoulli(0.0))
        };
        let fates = fates(model);
        // 1200 B a millisecond are 9.6 Mbit/s: half of it passes.
        let passed = fates
            .iter()
            .filter(|(_, v)| matches!(v, Verdict::Deliver(_)))
            .count();
        assert!(
            (passed as f64 / PACKETS as f64 - 0.5).abs() < 0.01,
            "{passed}"
        );
        let waits = fates.iter().filter_map(|(sent, v)| match v {
            Verdict::Deliver(arrives) => Some(arrives.saturating_since(*sent)),
            _ => None,
        });
        assert!(waits.max().unwrap() < Duration::from_millis(50 + 100 + 40));
    }

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let model = Profile::Internet.model(90.0);
        let run = |seed| {
            let mut direction = Direction::new(model, seed);
            (0..1_000)
                .map(|i| direction.send(Time::from_micros(i * 500), 900))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
