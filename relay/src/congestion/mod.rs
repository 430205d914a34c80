//! How much may be under way on a connection between two nodes: a pure core.
//!
//! The links are one operator's, their capacity is configured, and nearly always the lessons on
//! them want less than that. So the window starts where TCP's search ends, at the configured
//! capacity times the measured delay, and is taken back only where the link shows that it carries
//! less:
//!
//! * **Delay.** A *standing* queue, the least round trip of a whole round above the least of the
//!   last 10 to 20 s, beyond a target. A burst or jitter leaves some packet of the round unharmed.
//! * **Loss** that is far above the link's usual loss, in two samples one after the other.
//! * **Marks** of explicit congestion notification (RFC 3168).
//!
//! The window then falls to what was delivered, and grows again: evenly at first (so that
//! connections that share a link come to share it evenly), then faster. A signal that *does not
//! yield* to a reduction was not ours to mend: the delay is then the link's new delay (a route has
//! changed), the loss its new usual loss, and the reduction is taken back. A delay is therefore
//! tried with a mild reduction, and drained only where it yields.
//!
//! The contract: the `handle_…` functions are told what happens, in order, with the time; after
//! each, [`Window::bytes`] says how much may be in flight. Sources: the standing round trip is
//! Copa's (Arun, Balakrishnan, 2018), falling to what was delivered is BBR's (draft-ietf-ccwg-bbr).

mod base;
mod loss;
mod round;
#[cfg(test)]
mod tests;

use std::time::Duration;

use longspan_proto::time::Time;

use base::Base;
use loss::Loss;
use round::{Finished, Round};

/// What the window is bounded by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the link carries, in bits a second.
    pub capacity: u64,
    /// Bytes that may be in flight whatever the signals say: a key frame with its audio. Given
    /// up by halves only where a link is silent again and again.
    pub floor: u64,
}

/// Where a queue is drained: this share of what was delivered, so that it is empty within a round
/// and the link's own round trip is seen.
const REDUCE: f64 = 0.85;
/// Where a reduction mended nothing: so much more than was delivered, for what waited meanwhile.
const RESTORE: f64 = 1.5;
/// The even step of growth, in shares of the capacity a round: 1.6 of 200 Mbit/s.
const STEP: f64 = 1.0 / 128.0;
/// Rounds without a signal, in which the window was wanted, after which the step doubles each
/// round.
const EVEN_ROUNDS: u32 = 4;
/// The fastest growth: a quarter a round.
const FASTEST: f64 = 0.25;
/// Up to so many times what was delivered at the last reduction, the steps stay even: what is
/// sent too much shows a round later, and there it is expected.
const NEAR: f64 = 1.25;
/// The standing queue that is allowed: a quarter of the link's round trip, within these bounds.
/// Jitter without reordering lets packets stand behind the slowest of those before them; where a
/// stream is dense and the jitter's mean 2 % of the round trip, that alone stands at an eighth.
/// Below 5 ms a busy machine's own scheduling looks like a queue; 60 ms fit into the 100 ms that
/// the bottlenecks of the internet usually hold.
const TARGET: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(60));
/// Packets that may always be in flight: with fewer, acknowledgements stop coming (RFC 9002, 7.2).
const MIN_PACKETS: u64 = 10;

/// The window of one connection. See the [module](self).
#[derive(Debug, Clone)]
pub struct Window {
    config: Config,
    mtu: u64,
    base: Base,
    loss: Loss,
    round: Round,
    /// Of the ceiling, in 0 … 1.
    share: f64,
    /// What was delivered in each of the last rounds, in bytes a second.
    delivered: [f64; 3],
    /// A reduction whose effect is awaited.
    trial: Option<Trial>,
    /// Rounds that count for faster growth: see [`EVEN_ROUNDS`].
    clean: u32,
    /// The share that was delivered at the last reduction that mended something.
    limit: f64,
    /// See [`Config::floor`].
    floor: u64,
    /// The last round ended in silence: see [`Window::handle_silence`].
    silent: bool,
    last_sent: Time,
}

/// What was seen when the window was reduced.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// Packets sent up to then met the queue of before.
    at: Time,
    /// The round after a reduction acknowledges what was sent before it; the next one is judged.
    settled: bool,
    /// The standing queue, where that was the signal.
    queue: Option<Duration>,
    /// The share lost, where that was the signal.
    loss: Option<f64>,
    /// What was delivered, in bytes a second.
    delivered: f64,
}

impl Window {
    /// For a connection whose packets carry up to `mtu` bytes.
    pub fn new(config: Config, now: Time, mtu: u16) -> Window {
        Window {
            mtu: mtu.into(),
            base: Base::default(),
            loss: Loss::default(),
            round: Round::new(now),
            share: 1.0,
            delivered: [0.0; 3],
            trial: None,
            clean: 0,
            limit: 0.0,
            floor: config.floor,
            silent: false,
            last_sent: now,
            config,
        }
    }

    /// Bytes that may be in flight.
    pub fn bytes(&self) -> u64 {
        let bytes = self.ceiling().map_or(self.floor, |ceiling| {
            self.floor.max((ceiling * self.share) as u64)
        });
        bytes.max(MIN_PACKETS * self.mtu)
    }

    /// What is in flight at the configured capacity with the allowed queue; `None` before the
    /// first round trip was measured.
    fn ceiling(&self) -> Option<f64> {
        let base = self.base.get()?;
        let allowed = base + target(base);
        Some(self.config.capacity as f64 / 8.0 * allowed.as_secs_f64())
    }

    /// Bytes were sent.
    pub fn handle_sent(&mut self, now: Time) {
        // After a pause nothing can be said of the rate before it.
        if now.saturating_since(self.last_sent) > round::PAUSE {
            self.round = Round::new(now);
        }
        self.last_sent = now;
    }

    /// A packet of `bytes` bytes, sent at `sent`, was acknowledged. `rtt` is the smoothed round
    /// trip without what the receiver waited; `limited`: the window held something back meanwhile.
    pub fn handle_ack(&mut self, now: Time, sent: Time, bytes: u64, rtt: Duration, limited: bool) {
        // Of a single packet it may be known better, while a queue drains.
        let rtt = rtt.min(now.saturating_since(sent));
        self.base.add(now, rtt);
        self.round.add(sent, bytes, rtt, limited);
        self.loss.delivered(bytes);
    }

    /// The packets of one acknowledgement are told.
    pub fn handle_acks_end(&mut self, now: Time) {
        if let Some(finished) = self.round.finish(now) {
            self.judge(now, finished);
        }
    }

    /// `bytes` bytes are lost.
    pub fn handle_loss(&mut self, bytes: u64) {
        self.loss.lost(bytes);
    }

    /// A packet sent at `sent` passed a queue that marks instead of dropping.
    pub fn handle_mark(&mut self, sent: Time) {
        if self.trial.is_none_or(|trial| sent > trial.at) {
            self.round.mark();
        }
    }

    /// Nothing came through for several round trips (RFC 9002, 7.6): the link was away, which
    /// says nothing of what it carries now. Half of what went through before is tried; the floor
    /// is halved where that, too, meets silence.
    pub fn handle_silence(&mut self, now: Time) {
        let base = self.base.get().unwrap_or_default();
        self.reduce_to(self.best() * base.as_secs_f64() / 2.0);
        if self.silent {
            self.floor = (self.floor / 2).max(MIN_PACKETS * self.mtu);
        }
        self.silent = true;
        self.trial = None;
        self.clean = EVEN_ROUNDS;
        self.loss.forget();
        self.round = Round::new(now);
    }

    /// Packets carry up to `mtu` bytes from now on.
    pub fn handle_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
    }

    fn judge(&mut self, now: Time, round: Finished) {
        self.delivered.rotate_left(1);
        self.delivered[2] = round.delivered;
        let Some(base) = self.base.get() else { return };
        let queue = round.standing.saturating_sub(base);
        let crowded = queue > target(base);
        let sample = self.loss.sample();
        if let Some(trial) = &mut self.trial {
            if !trial.settled {
                trial.settled = true;
                return;
            }
            let trial = *trial;
            self.trial = None;
            let still_crowded = crowded && trial.queue.is_some_and(|before| 4 * queue > 3 * before);
            let still_lossy = trial
                .loss
                .zip(sample)
                .filter(|(before, after)| 2.0 * after > *before);
            if still_crowded {
                self.base.set(now, round.standing);
            }
            if let Some((_, after)) = still_lossy {
                self.loss.accept(after);
            }
            if still_crowded || still_lossy.is_some() {
                self.restore(trial);
                return;
            }
            if trial.queue.is_some() {
                // It was ours; the rest of it goes, too.
                self.reduce(now, None, None);
                return;
            }
        }
        let lossy = sample.filter(|_| self.loss.is_excessive());
        if crowded || round.marked || lossy.is_some() {
            self.reduce(now, crowded.then_some(queue), lossy);
        } else {
            // No faster where a queue begins to stand.
            self.grow(round.limited && 2 * queue < target(base));
        }
    }

    fn reduce(&mut self, now: Time, queue: Option<Duration>, loss: Option<f64>) {
        let base = self.base.get().unwrap_or_default();
        let (delivered, stands) = match queue {
            // Half of it may stand while it is seen whether it yields. What the link delivers may
            // just have changed: the last round counts.
            Some(queue) => (self.delivered[2], (base + queue / 2).as_secs_f64()),
            None => (self.best(), base.as_secs_f64() * REDUCE),
        };
        self.reduce_to(delivered * stands);
        if let (None, Some(ceiling)) = (queue, self.ceiling()) {
            self.limit = delivered * base.as_secs_f64() / ceiling;
        }
        self.clean = 0;
        self.trial = Some(Trial {
            at: now,
            settled: false,
            queue,
            loss,
            delivered,
        });
    }

    /// At most to so many bytes.
    fn reduce_to(&mut self, bytes: f64) {
        if let Some(ceiling) = self.ceiling() {
            self.share = self.share.min(bytes.max(self.floor as f64) / ceiling);
        }
    }

    /// The reduction mended nothing.
    fn restore(&mut self, trial: Trial) {
        let Some(ceiling) = self.ceiling() else {
            return;
        };
        let base = self.base.get().unwrap_or_default();
        let bytes = trial.delivered * RESTORE * base.as_secs_f64();
        self.share = self.share.max(bytes / ceiling).min(1.0);
        self.limit = 0.0;
        self.clean = EVEN_ROUNDS;
    }

    /// What nobody wants, or what a queue may stand for, is given slowly.
    fn grow(&mut self, fast: bool) {
        let near = (self.limit / NEAR..self.limit * NEAR).contains(&self.share);
        self.clean = match fast && !near {
            true => self.clean + 1,
            false => self.clean.min(EVEN_ROUNDS),
        };
        self.silent = false;
        self.floor = (2 * self.floor).min(self.config.floor);
        let doubled = self.clean.saturating_sub(EVEN_ROUNDS).min(16);
        let step = STEP * f64::from(1u32 << doubled);
        self.share = (self.share + step.min(self.share * FASTEST)).min(1.0);
    }

    /// The best of the last rounds: a round in which little was wanted says little.
    fn best(&self) -> f64 {
        self.delivered.iter().copied().fold(0.0, f64::max)
    }
}

fn target(base: Duration) -> Duration {
    (base / 4).clamp(TARGET.0, TARGET.1)
}
