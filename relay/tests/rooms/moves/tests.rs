//! What must hold of moves.
//!
//! The laws are those of one group: one order, nothing acked is lost, repeated or
//! forgotten, whatever group keeps the room. And: every move ends, a room ends up in one group, and
//! nothing of it is left in the other.

use std::{num::NonZero, thread};

use super::world::{Played, World};

/// Seeds that `cargo test` plays.
const SEEDS: u64 = 120;

#[test]
fn every_seed_keeps_every_law() {
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let total = thread::scope(|scope| {
        let playing: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || play((first..SEEDS).step_by(threads as usize))))
            .collect();
        let mut total = Played::default();
        for thread in playing {
            match thread.join() {
                Ok(Ok(played)) => total.add(&played),
                Ok(Err(broken)) => panic!("{broken}"),
                Err(panicked) => std::panic::resume_unwind(panicked),
            }
        }
        total
    });
    // Moves went through, were taken back, and were struck at each of their steps.
    let played = format!("{total:#?}");
    assert!(total.published > 100 * SEEDS, "{played}");
    assert!(
        total.moved > 4 * SEEDS && total.back > SEEDS / 2,
        "{played}"
    );
    assert!(total.sent_after > SEEDS, "{played}");
    assert!(
        total.kills > SEEDS && total.snapshots > SEEDS / 2,
        "{played}"
    );
    assert!(
        total.struck.values().all(|struck| *struck > SEEDS / 20),
        "{played}"
    );
    assert_eq!(total.struck.len(), 6, "{played}");
}

fn play(seeds: impl Iterator<Item = u64>) -> Result<Played, String> {
    let mut total = Played::default();
    for seed in seeds {
        let played = World::play(seed).map_err(|broken| format!("seed {seed}: {broken}"))?;
        total.add(&played);
    }
    Ok(total)
}

/// The same seed plays the same world, event by event.
#[test]
fn a_seed_is_a_world() {
    for seed in [3, 7] {
        assert_eq!(World::play(seed), World::play(seed), "seed {seed}");
    }
}
