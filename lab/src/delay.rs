//! What is under way: a heap of items by the time they are due, and a loop that lets them go.
//!
//! The loop runs in a thread and not in a task because tokio's timers tick in whole milliseconds,
//! which would add up to 2 ms to every emulated round trip; a condition variable is good to about
//! 0.1 ms.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use longspan_proto::time::Time;

/// Bytes under way in one queue; what comes when they are full is refused. 64 MB are more than two
/// seconds at 200 Mbit/s, over four times the longest delay of the matrix at the rate of its links.
pub const MAX_WAITING: usize = 64 << 20;

/// Timers of a thread may be late by this, so that the kernel can gather them (prctl(2),
/// PR_SET_TIMERSLACK); the default is 50 µs.
const SLACK_NS: u64 = 1;

/// The clock of a driver: a [`Time`] for the instants since it was made.
#[derive(Debug, Clone, Copy)]
pub struct Began(Instant);

impl Began {
    /// Zero is now.
    pub fn now() -> Began {
        Began(Instant::now())
    }

    /// How long ago that was.
    pub fn time(self) -> Time {
        Time::from_micros(self.0.elapsed().as_micros() as u64)
    }

    /// When it is, or was, that time.
    pub fn instant(self, time: Time) -> Instant {
        self.0 + time.saturating_since(Time::ZERO)
    }
}

/// Items that wait for their time. Those of the same time leave in the order they came.
#[derive(Debug)]
pub struct Queue<T> {
    began: Began,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: BinaryHeap<Reverse<Item<T>>>,
    bytes: usize,
    next: u64,
    closed: bool,
}

/// Why an item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// More than [`MAX_WAITING`] bytes would be under way.
    Full,
    /// Nothing leaves any more.
    Closed,
}

impl<T> Queue<T> {
    /// An empty queue with times of the clock `began`.
    pub fn new(began: Began) -> Queue<T> {
        Queue {
            began,
            state: Mutex::new(State {
                waiting: BinaryHeap::new(),
                bytes: 0,
                next: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes an item of `bytes` bytes that leaves at `at`.
    pub fn push(&self, at: Time, bytes: usize, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.bytes + bytes > MAX_WAITING {
            return Err(Refused::Full);
        }
        let n = state.next;
        state.next += 1;
        state.bytes += bytes;
        let first = state
            .waiting
            .peek()
            .is_none_or(|Reverse(first)| at < first.at);
        state.waiting.push(Reverse(Item { at, n, bytes, item }));
        drop(state);
        // The loop sleeps until the first one is due: only a new first one concerns it.
        if first {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Takes nothing any more; what is under way still leaves.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Lets every item go at its time, until the queue is closed and empty.
    pub fn run(&self, mut release: impl FnMut(T)) {
        // Where the kernel does not know it, timers are later by tens of microseconds.
        let _ = nix::sys::prctl::set_timerslack(SLACK_NS);
        let mut state = self.lock();
        loop {
            let Some(Reverse(first)) = state.waiting.peek() else {
                if state.closed {
                    return;
                }
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let wait = self
                .began
                .instant(first.at)
                .saturating_duration_since(Instant::now());
            if wait > Duration::ZERO {
                let waited = self.changed.wait_timeout(state, wait);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let Some(Reverse(item)) = state.waiting.pop() else {
                continue;
            };
            state.bytes -= item.bytes;
            drop(state);
            release(item.item);
            state = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Item<T> {
    at: Time,
    n: u64,
    bytes: usize,
    item: T,
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.n).cmp(&(other.at, other.n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_the_order_of_their_times_and_none_early() {
        let began = Began::now();
        let queue = Queue::new(began);
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        for (ms, name) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c')] {
            queue.push(at(ms), 1, (at(ms), name)).expect("taken");
        }
        queue.close();
        assert_eq!(queue.push(at(1), 1, (at(1), 'e')), Err(Refused::Closed));
        let mut left = String::new();
        queue.run(|(at, name)| {
            assert!(began.time() >= at);
            left.push(name);
        });
        assert_eq!(left, "abcd");
    }

    #[test]
    fn a_full_queue_refuses() {
        let queue = Queue::new(Began::now());
        queue.push(Time::ZERO, MAX_WAITING, 1).expect("taken");
        assert_eq!(queue.push(Time::ZERO, 1, 2), Err(Refused::Full));
    }
}
