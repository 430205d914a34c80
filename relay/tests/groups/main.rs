//! Placement groups in virtual time: three members, publishers who send again, followers, and
//! every fault of the lab, from a seed (`relay/examples/log_seeds.rs` plays one by hand).

mod asking;
mod client;
mod disk;
mod ending;
mod faults;
mod follower;
mod history;
mod hosts;
mod net;
mod world;

use world::World;

/// Seeds that `cargo test` plays.
const SEEDS: u64 = 240;

#[test]
fn every_seed_keeps_every_law() {
    let mut total = world::Played::default();
    for seed in 0..SEEDS {
        match World::play(seed) {
            Ok(played) => total.add(&played),
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    // Each kind of trouble was met, and work was done in spite of it.
    let played = format!("{total:#?}");
    assert!(total.published > 100 * SEEDS, "{played}");
    assert!(total.resent > 5 * SEEDS, "{played}");
    assert!(total.leaders > 4 * SEEDS, "{played}");
    assert!(
        total.kills > SEEDS && total.tails_lost > SEEDS / 4,
        "{played}"
    );
    assert!(total.snapshots > SEEDS, "{played}");
    assert!(total.replaced > SEEDS / 4, "{played}");
    assert!(
        total.resumed > SEEDS && total.reads > 10 * SEEDS,
        "{played}"
    );
    assert!(total.conflicts > SEEDS && total.expired > 0, "{played}");
}

/// The same seed plays the same world, event by event.
#[test]
fn a_seed_is_a_world() {
    for seed in [3, 7] {
        assert_eq!(World::play(seed), World::play(seed), "seed {seed}");
    }
}
