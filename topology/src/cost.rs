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
    Terms {
        raw_delay: metrics.raw_delay_us,
        jitter: metrics.jitter_p95_us as i64,
        repair: (metrics.rtt_us as f64 * loss / (1.0 - loss)) as i64,
        hop: HOP_US,
    }
}

/// A link's cost; None: it may not be used.
pub fn cost(link: &Link) -> Option<i64> {
    link.up.then(|| terms(&link.metrics).total())
}
