//! The ways between hosts: a delay each, cuts in one direction or both, slow spells.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Default)]
pub struct Net {
    /// One-way delay of a directed way, µs.
    delays: BTreeMap<(usize, usize), u64>,
    cut: BTreeMap<(usize, usize), ()>,
    slow: BTreeMap<(usize, usize), u64>,
    /// All delays of this world, µs: a region, a country, an ocean.
    span: u64,
}

impl Net {
    pub fn new(dice: &mut ChaCha8Rng) -> Net {
        Net {
            span: [1_000, 1_000, 10_000, 60_000][dice.random_range(0..4)],
            ..Net::default()
        }
    }

    /// Data centres of one region.
    pub fn region() -> Net {
        Net {
            span: 1_000,
            ..Net::default()
        }
    }

    /// When a packet arrives; None: never.
    pub fn delay(&mut self, dice: &mut ChaCha8Rng, from: usize, to: usize) -> Option<Duration> {
        let way = (from, to);
        if self.cut.contains_key(&way) || dice.random_ratio(1, 200) {
            return None;
        }
        let span = self.span;
        let base = *self
            .delays
            .entry(way)
            .or_insert_with(|| dice.random_range(span / 4..=span));
        let slow = self.slow.get(&way).copied().unwrap_or(0);
        let jitter = dice.random_range(0..=base / 4 + slow / 2);
        Some(Duration::from_micros(base + slow + jitter))
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to), ());
    }

    pub fn slow(&mut self, from: usize, to: usize, by: Duration) {
        self.slow.insert((from, to), by.as_micros() as u64);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }
}
