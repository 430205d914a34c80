//! What share is lost, and whether that is more than usual.

/// Bytes of one sample: with fewer, one burst of a handful of packets is a large share.
const SAMPLE: u64 = 120_000;
/// How much of a sample goes into the usual loss.
const GAIN: f64 = 1.0 / 8.0;
/// Loss above twice the usual one and this share is excessive. Below it a sender that repeats
/// what is lost still gets through; the worst link of the matrix loses 40 % in its worst hour.
const EXCESS: f64 = 0.25;
/// Excessive samples in a row that count: one may be a link that was away for a moment.
const IN_A_ROW: u32 = 2;

/// Counts of the current sample, and what came out of earlier ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Loss {
    delivered: u64,
    lost: u64,
    usual: f64,
    excessive: u32,
}

impl Loss {
    pub fn delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    pub fn lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// The share lost, once there is enough to tell; a new sample begins then.
    pub fn sample(&mut self) -> Option<f64> {
        let all = self.delivered + self.lost;
        if all < SAMPLE {
            return None;
        }
        let share = self.lost as f64 / all as f64;
        (self.delivered, self.lost) = (0, 0);
        if share > 2.0 * self.usual + EXCESS {
            self.excessive += 1;
        } else {
            self.excessive = 0;
            self.usual += (share - self.usual) * GAIN;
        }
        Some(share)
    }

    /// Whether the last samples were beyond what is usual.
    pub fn is_excessive(&self) -> bool {
        self.excessive >= IN_A_ROW
    }

    /// This is what the link loses now.
    pub fn accept(&mut self, share: f64) {
        self.usual = share;
        self.excessive = 0;
    }

    /// The current sample says nothing.
    pub fn forget(&mut self) {
        (self.delivered, self.lost) = (0, 0);
        self.excessive = 0;
    }
}
