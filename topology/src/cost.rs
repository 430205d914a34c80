//! What a link costs: µs of expected delivery latency (DESIGN §4).

use crate::graph::{Link, Metrics};

/// What crossing one more node adds, in µs: reading, queueing and writing a frame. An assumption
/// until `bench chain` measures more than one machine.
pub const HOP_US: i64 = 500;

/// The terms of a link's cost, for `route explain`. All in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// One-way delay plus the clocks' offset.
    pub raw_delay: i64,
    /// 95th percentile of the jitter.
    pub jitter: i64,
    /// What repairing lost packets adds on average: one round trip for each that is lost.
    pub repair: i64,
    /// Forwarding at the receiving node.
    pub hop: i64,
}

/// What a clock difference may be, in µs: 36,000 years. Beyond it a report is nonsense; clamped,
/// the sums over a path cannot overflow.
const RAW_LIMIT: i64 = 1 << 60;
/// What a jitter or a round trip may be, in µs: 18 minutes; clamped alike.
const TERM_LIMIT: u64 = 1 << 30;

impl Terms {
    /// Their sum.
    pub fn total(&self) -> i64 {
        self.raw_delay + self.jitter + self.repair + self.hop
    }
}

/// The terms for what was measured.
pub fn terms(metrics: &Metrics) -> Terms {
    // A lost packet is repaired after one round trip if its repair is not lost too: rtt · p / (1 − p).
    let loss = metrics.loss.clamp(0.0, 0.99);
    let rtt = metrics.rtt_us.min(TERM_LIMIT);
    Terms {
        raw_delay: metrics.raw_delay_us.clamp(-RAW_LIMIT, RAW_LIMIT),
        jitter: metrics.jitter_p95_us.min(TERM_LIMIT) as i64,
        repair: (rtt as f64 * loss / (1.0 - loss)) as i64,
        hop: HOP_US,
    }
}

/// By how much the one-way delay as measured exceeds half the round trip, in µs: the offset of the
/// two clocks, as far as round trips tell it.
pub(crate) fn offset(metrics: &Metrics) -> i64 {
    terms(metrics).raw_delay - (metrics.rtt_us.min(TERM_LIMIT) / 2) as i64
}

/// A link's cost; None: it may not be used.
pub fn cost(link: &Link) -> Option<i64> {
    link.up.then(|| terms(&link.metrics).total())
}
