//! A whole backbone in virtual time: the real forwarding cores, joined by modelled links.
//!
//! Everything random comes from one seed, which a failure prints: run that one again with
//! `SIM_SEED=… cargo test -p longspan-tests sim::random::one_seed`.
//!
//! * `graph`: who can reach whom, and the route tables that follow from it.
//! * `world`: the cores, the links' clocks, the events.
//! * `consumer`: what a viewer sees, checked event by event.
//! * `check`: what must hold of every core at every step.
//! * `random`: random operations, then repair, then everyone must be fed again.
//! * `scenarios`: single faults, told exactly.

mod check;
mod consumer;
mod graph;
mod random;
mod scenarios;
mod world;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// The only source of chance.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n.max(1)
    }

    /// Whether something happens that happens so many times in a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}
