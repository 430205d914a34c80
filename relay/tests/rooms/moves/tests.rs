//! What must hold of moves.

use super::Moves;
use crate::world::seeds;

/// Seeds that `cargo test` plays.
const SEEDS: u64 = 120;

#[test]
fn every_seed_keeps_every_law() {
    let total = seeds::play_all::<Moves>(SEEDS);
    // Moves went through, were taken back, and were struck at each of their steps.
    assert!(total.of("published") > 100 * SEEDS, "{total}");
    assert!(total.of("moved") > 4 * SEEDS, "{total}");
    assert!(total.of("taken back") > SEEDS / 2, "{total}");
    assert!(total.of("sent after") > SEEDS, "{total}");
    assert!(total.of("kills") > SEEDS, "{total}");
    assert!(total.of("snapshots") > SEEDS / 2, "{total}");
    for step in ["close", "reopen", "gone", "part", "open", "settled"] {
        let struck = total.of(&format!("struck at {step}"));
        assert!(struck > SEEDS / 20, "{step}: {total}");
    }
}

#[test]
fn a_seed_is_a_world() {
    seeds::play_twice::<Moves>();
}
