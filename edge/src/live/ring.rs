//! What a stream's viewers share: the newest pieces of it, in one place. Pure.
//!
//! A viewer is a [`Cursor`]: it holds no piece, so one that stalls costs nothing and one that
//! falls behind loses its own old pieces only.

use std::{collections::VecDeque, time::Duration};

use longspan_proto::time::Time;

/// How much a [`Ring`] holds. The pieces since the newest key stay beyond `bytes` and `span`, so
/// that a newcomer can begin at once; never beyond `max_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes held in any case.
    pub bytes: usize,
    /// How long pieces are held in any case.
    pub span: Duration,
    /// Bytes held at most. A stream whose newest key is further back than this cannot be joined
    /// before its next key.
    pub max_bytes: usize,
    /// A viewer further behind than this, in bytes…
    pub lag_bytes: u64,
    /// …or in time skips to the newest key, if that is ahead of it.
    pub lag: Duration,
}

impl Default for Limits {
    /// For streams of 0.1–10 Mbit/s with a key frame every 1–10 s: 8 MB hold six seconds of the
    /// fastest; a viewer who is 5 s behind is better served by a jump than by the past.
    fn default() -> Limits {
        Limits {
            bytes: 8 << 20,
            span: Duration::from_secs(10),
            max_bytes: 32 << 20,
            lag_bytes: 4 << 20,
            lag: Duration::from_secs(5),
        }
    }
}

/// Where a viewer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the next piece it wants.
    next: u64,
    /// It can begin only at a key.
    wants_key: bool,
}

/// What is shared.
#[derive(Debug)]
pub struct Ring<T> {
    limits: Limits,
    /// The number of the first piece held.
    first: u64,
    pieces: VecDeque<Piece<T>>,
    bytes: usize,
    /// Bytes of all pieces ever pushed.
    total: u64,
    /// The numbers of the keys held.
    keys: VecDeque<u64>,
}

#[derive(Debug)]
struct Piece<T> {
    value: T,
    size: usize,
    at: Time,
    /// Bytes of all pieces before it.
    offset: u64,
}

impl<T: Clone> Ring<T> {
    /// An empty one.
    pub fn new(limits: Limits) -> Ring<T> {
        Ring {
            limits,
            first: 0,
            pieces: VecDeque::new(),
            bytes: 0,
            total: 0,
            keys: VecDeque::new(),
        }
    }

    /// Takes the next piece; a viewer can begin at it if it is a `key`.
    pub fn push(&mut self, now: Time, key: bool, size: usize, value: T) {
        if key {
            self.keys.push_back(self.end());
        }
        self.pieces.push_back(Piece {
            value,
            size,
            at: now,
            offset: self.total,
        });
        self.bytes += size;
        self.total += size as u64;
        while self.trims(now) {
            self.drop_first();
        }
    }

    /// Where a newcomer begins: at the newest key.
    pub fn newcomer(&self) -> Cursor {
        Cursor {
            next: self.first,
            wants_key: true,
        }
    }

    /// Takes the next pieces for a viewer, about `budget` bytes of them and at least one, into
    /// `out`. Returns the number of pieces that were skipped because the viewer fell behind.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        now: Time,
        budget: usize,
        out: &mut VecDeque<T>,
    ) -> u64 {
        let mut skipped = 0;
        if cursor.next < self.first {
            skipped += self.first - cursor.next;
            cursor.next = self.first;
            cursor.wants_key = true;
        }
        let newest = self.keys.back().copied();
        if let Some(newest) = newest
            && newest >= cursor.next
            && (cursor.wants_key || self.lags(cursor, now))
        {
            skipped += if cursor.wants_key {
                0
            } else {
                newest - cursor.next
            };
            cursor.next = newest;
            cursor.wants_key = false;
        }
        if cursor.wants_key {
            cursor.next = self.end();
            return skipped;
        }
        let mut taken = 0;
        while let Some(piece) = self.pieces.get((cursor.next - self.first) as usize)
            && (taken == 0 || taken + piece.size <= budget)
        {
            out.push_back(piece.value.clone());
            taken += piece.size;
            cursor.next += 1;
        }
        skipped
    }

    /// The pieces since the newest key, the key first; nothing before the first key.
    pub fn since_key(&self) -> impl Iterator<Item = &T> {
        let from = self.keys.back().map_or(self.end(), |key| *key);
        self.pieces
            .range((from - self.first) as usize..)
            .map(|piece| &piece.value)
    }

    /// The number the next piece will have.
    pub fn end(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn lags(&self, cursor: &Cursor, now: Time) -> bool {
        let index = (cursor.next - self.first) as usize;
        self.pieces.get(index).is_some_and(|piece| {
            self.total - piece.offset > self.limits.lag_bytes
                || now.saturating_since(piece.at) > self.limits.lag
        })
    }

    fn trims(&self, now: Time) -> bool {
        let Some(oldest) = self.pieces.front() else {
            return false;
        };
        let full =
            self.bytes > self.limits.bytes || now.saturating_since(oldest.at) > self.limits.span;
        let needed = self.keys.back().is_none_or(|key| *key <= self.first);
        // Without a key nothing can be begun at: only the lesser bound counts.
        let keyless = self.keys.is_empty() && full;
        keyless || (full && !needed) || self.bytes > self.limits.max_bytes
    }

    fn drop_first(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.bytes -= piece.size;
            if self.keys.front() == Some(&self.first) {
                self.keys.pop_front();
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 100,
        span: Duration::from_secs(10),
        max_bytes: 300,
        lag_bytes: 60,
        lag: Duration::from_secs(5),
    };

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    /// Pieces of ten bytes, numbered; `k` is a key.
    fn filled(pattern: &str) -> Ring<u64> {
        let mut ring = Ring::new(LIMITS);
        for (n, c) in pattern.chars().enumerate() {
            ring.push(at(0), c == 'k', 10, n as u64);
        }
        ring
    }

    fn read(ring: &Ring<u64>, cursor: &mut Cursor, now: Time) -> (Vec<u64>, u64) {
        let mut out = VecDeque::new();
        let skipped = ring.read(cursor, now, usize::MAX, &mut out);
        (out.into(), skipped)
    }

    #[test]
    fn a_newcomer_begins_at_the_newest_key() {
        let ring = filled("k..k..");
        let mut cursor = ring.newcomer();
        assert_eq!(read(&ring, &mut cursor, at(0)), (vec![3, 4, 5], 0));
        assert_eq!(read(&ring, &mut cursor, at(0)), (vec![], 0));
    }

    #[test]
    fn before_the_first_key_a_newcomer_waits() {
        let mut ring = filled("..");
        let mut cursor = ring.newcomer();
        assert_eq!(read(&ring, &mut cursor, at(0)), (vec![], 0));
        ring.push(at(0), false, 10, 2);
        assert_eq!(read(&ring, &mut cursor, at(0)), (vec![], 0));
        ring.push(at(0), true, 10, 3);
        ring.push(at(0), false, 10, 4);
        assert_eq!(read(&ring, &mut cursor, at(0)), (vec![3, 4], 0));
    }

    #[test]
    fn reads_no_more_than_the_budget_but_at_least_one() {
        let ring = filled("k...");
        let mut cursor = ring.newcomer();
        let mut out = VecDeque::new();
        ring.read(&mut cursor, at(0), 25, &mut out);
        assert_eq!(out, [0, 1]);
        ring.read(&mut cursor, at(0), 1, &mut out);
        assert_eq!(out, [0, 1, 2]);
    }

    #[test]
    fn lag_is_judged_on_both_sides_of_its_bounds() {
        // 60 bytes behind: just allowed. 70: skips.
        for (pattern, first) in [("k.....", 1), ("k..k...", 1), ("k...k...", 4)] {
            let mut ring = Ring::new(LIMITS);
            let mut cursor = ring.newcomer();
            for (n, c) in pattern.chars().enumerate() {
                ring.push(at(0), c == 'k', 10, n as u64);
                if n == 0 {
                    read(&ring, &mut cursor, at(0));
                }
            }
            assert_eq!(read(&ring, &mut cursor, at(0)).0[0], first, "{pattern}");
        }
        let mut ring = filled("k");
        let mut cursor = ring.newcomer();
        read(&ring, &mut cursor, at(0));
        ring.push(at(0), false, 10, 1);
        ring.push(at(0), true, 10, 2);
        assert_eq!(read(&ring, &mut cursor.clone(), at(5_000)), (vec![1, 2], 0));
        assert_eq!(read(&ring, &mut cursor, at(5_001)), (vec![2], 1));
    }

    #[test]
    fn a_laggard_inside_the_newest_run_goes_on() {
        let ring = filled("k.........");
        let mut cursor = ring.newcomer();
        let mut out = VecDeque::new();
        ring.read(&mut cursor, at(0), 10, &mut out);
        assert_eq!(read(&ring, &mut cursor, at(60_000)).0.len(), 9);
    }

    #[test]
    fn who_fell_off_waits_for_a_key() {
        let mut ring = filled("k");
        let mut cursor = ring.newcomer();
        read(&ring, &mut cursor, at(0));
        // The run since the key outgrows even the hard bound.
        for n in 1..40 {
            ring.push(at(0), false, 10, n);
        }
        assert!(ring.bytes() <= LIMITS.bytes);
        let (pieces, skipped) = read(&ring, &mut cursor, at(0));
        assert_eq!((pieces.len(), skipped), (0, 29));
        ring.push(at(0), true, 10, 40);
        assert_eq!(read(&ring, &mut cursor, at(0)).0, [40]);
    }

    #[test]
    fn holds_the_run_since_the_newest_key() {
        let ring = filled("k.....k.............");
        assert_eq!(ring.bytes(), 140);
        assert_eq!(ring.since_key().count(), 14);
        let mut old = filled("k.k.");
        old.push(at(11_000), false, 10, 4);
        assert_eq!(old.since_key().copied().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(old.bytes(), 30);
    }

    proptest! {
        #[test]
        fn bounded_ordered_and_begun_at_keys(
            ops in proptest::collection::vec((0u8..4, any::<bool>(), 1usize..40, 0u64..2_000), 1..300)
        ) {
            let mut ring = Ring::new(LIMITS);
            let mut keys = vec![];
            let mut cursor = ring.newcomer();
            let (mut now, mut n, mut last) = (0, 0u64, None);
            for (op, key, size, step) in ops {
                now += step;
                if op < 3 {
                    let key = key && op == 0;
                    ring.push(at(now), key, size, n);
                    keys.push(key);
                    n += 1;
                } else {
                    let (pieces, _) = read(&ring, &mut cursor, at(now));
                    for piece in pieces {
                        let follows = last.is_some_and(|last| last + 1 == piece);
                        prop_assert!(last.is_none_or(|last| last < piece));
                        prop_assert!(follows || keys[piece as usize]);
                        last = Some(piece);
                    }
                }
                prop_assert!(ring.bytes() <= LIMITS.max_bytes);
                prop_assert_eq!(ring.end(), n);
            }
        }
    }
}
