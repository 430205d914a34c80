//! How much goes over a connection, out of counters that only rise.

use longspan_proto::time::Time;

/// Each of `N` counters and its rise a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates<const N: usize> {
    at: Time,
    bytes: [u64; N],
}

impl<const N: usize> Rates<N> {
    /// From here on, with what is counted already.
    pub fn new(now: Time, bytes: [u64; N]) -> Rates<N> {
        Rates { at: now, bytes }
    }

    /// What was counted since the last call, in bit/s.
    pub fn take(&mut self, now: Time, bytes: [u64; N]) -> [u64; N] {
        let us = now.saturating_since(self.at).as_micros().max(1) as f64;
        let before = std::mem::replace(self, Rates::new(now, bytes)).bytes;
        std::array::from_fn(|at| {
            let bits = bytes[at].saturating_sub(before[at]) as f64 * 8.0;
            (bits / us * 1e6) as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_since_the_last_look() {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let mut rates = Rates::new(at(500), [1_000, 7]);
        assert_eq!(rates.take(at(1_500), [126_000, 7]), [1_000_000, 0]);
        assert_eq!(rates.take(at(3_500), [126_000, 1_007]), [0, 4_000]);
        // Two looks at once, or a counter that went back, are no rate.
        assert_eq!(rates.take(at(3_500), [5, 1_007]), [0, 0]);
    }
}
