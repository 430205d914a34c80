//! One direction of one link over one net, as a pure and seeded model; and the clocks at its ends.
//!
//! The contract: call [`Direction::send`] once for each packet, in the order of sending and with
//! the time of sending; the verdict says whether and when it arrives. Nothing else is kept or
//! asked: no clock, no queue of packets. The same seed and the same calls give the same verdicts.
//!
//! The order of effects is that of a real link: a packet waits behind those before it at the
//! bottleneck (and is dropped where the queue is full), may be lost on the way, then travels for
//! the base delay plus jitter. Delivery times never decrease unless the profile reorders.

mod clock;
mod loss;
mod profile;

use std::time::Duration;

use longspan_proto::time::Time;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use clock::{Clock, ClockError, MAX_SKEW_PPB};
pub use loss::Loss;
pub(crate) use profile::millis as profile_millis;
pub use profile::{Jitter, Profile, ProfileError, Rate};

use loss::LossState;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives then.
    Deliver(Time),
    /// It does not.
    Drop(Reason),
}

/// Why a packet does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Lost on the way.
    Lost,
    /// The bottleneck's queue was full.
    QueueFull,
}

/// One direction of a link.
#[derive(Debug, Clone)]
pub struct Direction {
    one_way: Duration,
    profile: Profile,
    rng: ChaCha8Rng,
    loss: LossState,
    /// When the bottleneck has sent all that it was given, in nanoseconds: a small packet on a fast
    /// link takes less than one microsecond.
    free: u64,
    /// The latest delivery so far.
    last: Time,
}

impl Direction {
    /// A direction that takes `one_way` without any jitter, under `profile`.
    pub fn new(one_way: Duration, profile: Profile, seed: u64) -> Direction {
        Direction {
            one_way,
            profile,
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss: LossState::default(),
            free: 0,
            last: Time::ZERO,
        }
    }

    /// Changes delay and profile from the next packet on. What is under way keeps its time, and
    /// the order of deliveries holds across the change.
    pub fn change(&mut self, one_way: Duration, profile: Profile) {
        self.one_way = one_way;
        self.profile = profile;
    }

    /// The delay without jitter that the next packet meets.
    pub fn one_way(&self) -> Duration {
        self.one_way + self.profile.extra_delay
    }

    /// How long a packet that is sent now waits in front of the bottleneck.
    pub fn waits(&self, now: Time) -> Duration {
        let waits = self
            .free
            .saturating_sub(now.as_micros().saturating_mul(1_000));
        Duration::from_nanos(waits)
    }

    /// Decides over one packet of `bytes` bytes (the datagram's payload) sent at `now`.
    pub fn send(&mut self, now: Time, bytes: usize) -> Verdict {
        let mut leaves = now;
        if let Some(rate) = self.profile.rate {
            let now_ns = now.as_micros().saturating_mul(1_000);
            let begins = self.free.max(now_ns);
            if u128::from(begins - now_ns) > rate.queue.as_nanos() {
                return Verdict::Drop(Reason::QueueFull);
            }
            self.free = begins.saturating_add(rate.nanos_for(bytes));
            leaves = Time::from_micros(self.free / 1_000);
        }
        if self.loss.loses(&self.profile.loss, now, &mut self.rng) {
            return Verdict::Drop(Reason::Lost);
        }
        let base = self.one_way();
        let jitter = self.profile.jitter.draw(self.one_way, &mut self.rng);
        let mut at = leaves + apply(base, jitter);
        if !self.profile.reorder {
            at = at.max(self.last);
        }
        self.last = self.last.max(at);
        Verdict::Deliver(at)
    }
}

/// `base` changed by `by` seconds, never below zero.
fn apply(base: Duration, by: f64) -> Duration {
    Duration::from_secs_f64((base.as_secs_f64() + by).max(0.0))
}

/// Uniform in [0, 1), from the top 53 bits of a draw.
pub(crate) fn unit(rng: &mut impl rand::Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
