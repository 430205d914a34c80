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
