//! What is yet to happen, in order of time; of one moment, in order of being scheduled.

use std::{cmp::Ordering, collections::BinaryHeap};

use longspan_proto::time::Time;

struct Entry<E> {
    at: Time,
    n: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest.
        (other.at, other.n).cmp(&(self.at, self.n))
    }
}

/// See the [module](self).
pub struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    next: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Queue<E> {
        Queue {
            heap: BinaryHeap::new(),
            next: 0,
        }
    }

    pub fn push(&mut self, at: Time, event: E) {
        let n = self.next;
        self.next += 1;
        self.heap.push(Entry { at, n, event });
    }

    /// The next event, if it is not after `until`.
    pub fn pop(&mut self, until: Time) -> Option<(Time, E)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// Events so far.
    pub fn scheduled(&self) -> u64 {
        self.next
    }
}
