//! Waiting between attempts.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: a store that comes back is noticed within it.
const LONGEST: Duration = Duration::from_secs(3);

/// Doubling waits with jitter, so that many who lost the same server do not return together.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How long to wait now: between half and all of the doubled wait.
    pub fn next(&mut self) -> Duration {
        let full = LONGEST.min(FIRST * 2u32.saturating_pow(self.attempts));
        self.attempts = self.attempts.saturating_add(1).min(16);
        full.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}
