//! One rising timeline for a viewer who stays while publishers come and go.

/// What is left between the last sample of one generation and the first of the next, in µs: about
/// a picture at 25 a second.
pub const SPLICE_GAP: u64 = 40_000;

/// A jump forward by more than this at a splice is closed, in µs: players would show nothing for
/// as long.
const MAX_JUMP: u64 = 10_000_000;

/// Maps each generation's timestamps to one timeline that does not run backwards.
///
/// The first generation's timestamps pass unchanged. A later one whose timestamps continue (are
/// not before what was already written, nor far beyond it) passes with the offset in force;
/// otherwise it is moved to follow what was written.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    offset: i64,
    last: Option<u64>,
    splice: bool,
}

impl Timeline {
    /// A timeline that has seen nothing.
    pub fn new() -> Timeline {
        Timeline::default()
    }

    /// The next sample is the first of another generation.
    pub fn splice(&mut self) {
        self.splice = self.last.is_some();
    }

    /// Where a timestamp stands on this timeline, in µs.
    pub fn map(&mut self, timestamp: u64) -> u64 {
        if let (true, Some(last)) = (self.splice, self.last) {
            self.splice = false;
            let moved = timestamp.saturating_add_signed(self.offset);
            if moved < last || moved > last.saturating_add(MAX_JUMP) {
                self.offset = last.saturating_add(SPLICE_GAP) as i64 - timestamp as i64;
            }
        }
        let moved = timestamp.saturating_add_signed(self.offset);
        self.last = Some(self.last.map_or(moved, |last| last.max(moved)));
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_generation_passes_unchanged() {
        let mut it = Timeline::new();
        for timestamp in [50, 10, 9_000_000_000, 3] {
            assert_eq!(it.map(timestamp), timestamp);
        }
    }

    #[test]
    fn a_restart_follows_what_was_written() {
        let mut it = Timeline::new();
        it.map(5_000_000);
        it.splice();
        assert_eq!(it.map(100), 5_040_000);
        assert_eq!(it.map(20_100), 5_060_000);
        // The other track of the new generation may begin a little earlier.
        assert_eq!(it.map(0), 5_039_900);
        // And a takeover that goes on counting, behind a restart.
        it.splice();
        assert_eq!(it.map(30_100), 5_070_000);
    }

    #[test]
    fn a_far_jump_is_closed_and_a_small_one_kept() {
        let mut it = Timeline::new();
        it.map(1_000);
        it.splice();
        assert_eq!(it.map(MAX_JUMP + 1_000), MAX_JUMP + 1_000);
        it.splice();
        assert_eq!(it.map(3 * MAX_JUMP), MAX_JUMP + 1_000 + SPLICE_GAP);
    }
}
