//! What a link costs: µs of expected delivery latency (DESIGN §4).

use crate::graph::Metrics;

/// What crossing one more node adds, in µs: reading, queueing and writing a frame. An assumption
/// until `bench chain` measures more than one machine.
pub const HOP_US: i64 = 500;

/// What an edge's attachment to a relay costs beyond what is measured, in µs, unless it is its best
/// one. More than the hop over the best one: an edge's tracks come and go over the relay that all
/// edges of the region share, so that they cross the backbone once. Less than what a link gains that
/// browns out.
pub const STANDBY_US: u32 = 20_000;

/// How long the leg from an edge to a relay other than its best one is taken to be, in µs, for no
/// table tells it. A standby stands in another zone, at the farthest in a region nearby; a detour over
/// the best one is shorter than that, so that an edge sends a track once, and over its standby only
/// where nothing else is left.
const STANDBY_LEG_US: u32 = 80_000;

/// What the last leg to an edge counts, in µs, over its attachment of this rank (0: its best relay,
/// whose leg is the same for all paths and not counted). Nodes choose by it, and what is told of their
/// choice must too.
pub fn attachment_us(rank: usize) -> u64 {
    u64::from(STANDBY_LEG_US + STANDBY_US) * rank as u64
}

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
    /// What an operator adds or takes away.
    pub operator: i64,
}

/// A link's cost as an operator sees it, beside what is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CostOverride {
    /// This many µs more (or fewer, if negative) than measured.
    Added(i64),
    /// This many times the expected latency (half the round trip and the other terms, since the
    /// raw delay holds the clocks' offset), 0.1 … 100.
    Factor(f64),
}

/// What a clock difference may be, in µs: 36,000 years. Beyond it a report is nonsense; clamped,
/// the sums over a path cannot overflow.
const RAW_LIMIT: i64 = 1 << 60;
/// What a jitter, a round trip or an operator's term may be, in µs: 18 minutes; clamped alike.
const TERM_LIMIT: u64 = 1 << 30;

impl Terms {
    /// Their sum.
    pub fn total(&self) -> i64 {
        self.raw_delay + self.jitter + self.repair + self.hop + self.operator
    }

    /// The terms of a path out of those of its links: sums, but for the jitter. Delays that vary
    /// independently of each other are rarely all long at once: their spreads add in quadrature.
    pub fn along(links: impl IntoIterator<Item = Terms>) -> Terms {
        let mut squares = 0;
        let nothing = Terms {
            raw_delay: 0,
            jitter: 0,
            repair: 0,
            hop: 0,
            operator: 0,
        };
        let sum = links.into_iter().fold(nothing, |sum, link| {
            squares += link.jitter.unsigned_abs().pow(2);
            Terms {
                raw_delay: sum.raw_delay + link.raw_delay,
                jitter: 0,
                repair: sum.repair + link.repair,
                hop: sum.hop + link.hop,
                operator: sum.operator + link.operator,
            }
        });
        Terms {
            jitter: squares.isqrt() as i64,
            ..sum
        }
    }
}

/// The terms for what was measured.
pub fn terms(metrics: &Metrics) -> Terms {
    terms_as(metrics, None)
}

/// The terms for what was measured, and for what an operator says of it.
pub fn terms_as(metrics: &Metrics, asked: Option<CostOverride>) -> Terms {
    // A lost packet is repaired after one round trip if its repair is not lost too: rtt · p / (1 − p).
    let loss = metrics.loss.clamp(0.0, 0.99);
    let rtt = metrics.rtt_us.min(TERM_LIMIT);
    let mut terms = Terms {
        raw_delay: metrics.raw_delay_us.clamp(-RAW_LIMIT, RAW_LIMIT),
        jitter: metrics.jitter_p95_us.min(TERM_LIMIT) as i64,
        repair: (rtt as f64 * loss / (1.0 - loss)) as i64,
        hop: HOP_US,
        operator: 0,
    };
    let limit = TERM_LIMIT as i64;
    terms.operator = match asked {
        None => 0,
        Some(CostOverride::Added(us)) => us.clamp(-limit, limit),
        Some(CostOverride::Factor(factor)) => {
            let expected = rtt as i64 / 2 + terms.jitter + terms.repair + terms.hop;
            let more = expected as f64 * (factor.clamp(0.1, 100.0) - 1.0);
            (more as i64).clamp(-limit, limit)
        }
    };
    terms
}

/// By how much the one-way delay as measured exceeds half the round trip, in µs: the offset of the
/// two clocks, as far as round trips tell it.
pub fn offset(metrics: &Metrics) -> i64 {
    let rtt = metrics.rtt_us.min(TERM_LIMIT);
    metrics.raw_delay_us.clamp(-RAW_LIMIT, RAW_LIMIT) - (rtt / 2) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_scales_the_latency_and_never_the_clocks_offset() {
        let metrics = Metrics {
            raw_delay_us: 7_000_000_000,
            rtt_us: 80_000,
            jitter_p95_us: 1_500,
            loss: 0.2,
        };
        let plain = terms(&metrics);
        assert_eq!((plain.repair, plain.operator), (20_000, 0));
        let asked = |asked| terms_as(&metrics, Some(asked)).operator;
        assert_eq!(
            asked(CostOverride::Factor(2.0)),
            40_000 + 1_500 + 20_000 + 500
        );
        assert_eq!(asked(CostOverride::Factor(1.0)), 0);
        assert_eq!(asked(CostOverride::Added(-3_000)), -3_000);
        assert_eq!(offset(&metrics), 7_000_000_000 - 40_000);
    }

    #[test]
    fn jitters_of_a_path_add_in_quadrature_and_the_rest_adds_up() {
        let link = |ms: i64, jitter_p95_us| {
            terms(&Metrics {
                raw_delay_us: ms * 1_000,
                rtt_us: 2_000 * ms as u64,
                jitter_p95_us,
                loss: 0.0,
            })
        };
        let path = Terms::along([link(10, 3_000), link(20, 4_000)]);
        assert_eq!(
            (path.raw_delay, path.jitter, path.hop),
            (30_000, 5_000, 1_000)
        );
        assert_eq!(Terms::along([link(10, 3_000)]), link(10, 3_000));
        assert_eq!(Terms::along([]).total(), 0);
    }

    #[test]
    fn nonsense_is_clamped() {
        let metrics = Metrics {
            raw_delay_us: i64::MIN,
            rtt_us: u64::MAX,
            jitter_p95_us: u64::MAX,
            loss: f64::NAN,
        };
        for asked in [
            None,
            Some(CostOverride::Factor(f64::NAN)),
            Some(CostOverride::Added(i64::MAX)),
        ] {
            assert!(terms_as(&metrics, asked).total() < 0, "no overflow");
        }
    }
}
