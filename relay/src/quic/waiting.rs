//! What of a group QUIC has not accepted yet, and how urgent it is: a group begins with a key frame
//! and goes on with others that are less urgent, all on one stream.

use std::collections::VecDeque;

use bytes::Bytes;

/// Pieces in order, each as urgent as what it belongs to.
#[derive(Default)]
pub(super) struct Waiting {
    pieces: VecDeque<Bytes>,
    /// Pieces that follow each other and are as urgent as each other: how many, and how urgent.
    runs: VecDeque<(usize, i32)>,
    bytes: usize,
}

impl Waiting {
    pub fn push(&mut self, piece: Bytes, urgency: i32) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
        match self.runs.back_mut() {
            Some((count, last)) if *last == urgency => *count += 1,
            _ => self.runs.push_back((1, urgency)),
        }
    }

    /// How urgent the next piece is; none: nothing waits.
    pub fn urgency(&self) -> Option<i32> {
        self.runs.front().map(|(_, urgency)| *urgency)
    }

    /// The next pieces that are all as urgent. They are what QUIC is to be given, which keeps what it
    /// did not take.
    pub fn next(&mut self) -> &mut [Bytes] {
        let count = self.runs.front().map_or(0, |(count, _)| *count);
        &mut self.pieces.make_contiguous()[..count]
    }

    /// QUIC took so many of the next pieces whole, and so many bytes of all.
    pub fn accepted(&mut self, pieces: usize, bytes: usize) {
        self.pieces.drain(..pieces);
        self.bytes -= bytes;
        if let Some((count, _)) = self.runs.front_mut() {
            *count -= pieces;
            if *count == 0 {
                self.runs.pop_front();
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Waiting::default();
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_key_frame_is_less_urgent_once_the_key_frame_is_out() {
        let (key, delta) = (9, 4);
        let mut waiting = Waiting::default();
        assert_eq!(waiting.urgency(), None);
        for (piece, urgency) in [("head", key), ("key", key), ("head", delta), ("del", delta)] {
            waiting.push(Bytes::from_static(piece.as_bytes()), urgency);
        }
        assert_eq!((waiting.pieces(), waiting.bytes()), (4, 14));
        // QUIC takes the header and two bytes of the key frame: the rest is as urgent as before.
        assert_eq!(waiting.next().len(), 2, "the key frame only");
        let rest = waiting.next()[1].split_off(2);
        waiting.next()[1] = rest;
        waiting.accepted(1, 6);
        assert_eq!(waiting.urgency(), Some(key));
        assert_eq!(waiting.next(), ["y"]);
        waiting.accepted(1, 1);
        assert_eq!(waiting.urgency(), Some(delta));
        assert_eq!(waiting.next(), ["head", "del"]);
        assert_eq!((waiting.pieces(), waiting.bytes()), (2, 7));
        // A key frame after it is urgent again, but only when it is its turn.
        waiting.push(Bytes::from_static(b"key"), key);
        assert_eq!(waiting.urgency(), Some(delta));
        waiting.accepted(2, 7);
        assert_eq!(waiting.urgency(), Some(key));
        waiting.clear();
        assert!(waiting.is_empty() && waiting.next().is_empty());
    }
}
