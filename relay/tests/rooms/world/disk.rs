//! A member's disk: what is written is in doubt until it is synced.

use std::collections::VecDeque;

use longspan_relay::roomlog::group::{Persist, Saved};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Default)]
pub struct Disk {
    synced: Saved,
    unsynced: VecDeque<Persist>,
}

impl Disk {
    pub fn new(saved: Saved) -> Disk {
        Disk {
            synced: saved,
            unsynced: VecDeque::new(),
        }
    }

    pub fn write(&mut self, persist: Persist) {
        self.unsynced.push_back(persist);
    }

    /// The newest that is written and not synced.
    pub fn written(&self) -> Option<u64> {
        self.unsynced.back().map(|persist| persist.number)
    }

    /// All up to this number is safe now.
    pub fn sync(&mut self, number: u64) {
        while let Some(next) = self.unsynced.front()
            && next.number <= number
            && let Some(next) = self.unsynced.pop_front()
        {
            self.synced.write(&next);
        }
    }

    /// The process dies: of what was not synced some of the first writes survive, or none. How
    /// many are lost.
    pub fn crash(&mut self, dice: &mut ChaCha8Rng, tail: bool) -> usize {
        let survive = match tail {
            true => dice.random_range(0..=self.unsynced.len()),
            false => self.unsynced.len(),
        };
        for persist in self.unsynced.drain(..survive) {
            self.synced.write(&persist);
        }
        let lost = self.unsynced.len();
        self.unsynced.clear();
        lost
    }

    pub fn saved(&self) -> Saved {
        self.synced.clone()
    }
}
