//! What must hold of one group.

use std::time::Duration;

use longspan_proto::time::Time;
use longspan_relay::roomlog::group::Group;
use rand::RngExt;

use super::{GROUP, Groups};
use crate::world::{Place, World, history::Broken, hosts::Host, seeds};

/// Seeds that `cargo test` plays.
const SEEDS: u64 = 400;

#[test]
fn every_seed_keeps_every_law() {
    let total = seeds::play_all::<Groups>(SEEDS);
    // Each kind of trouble was met, and work was done in spite of it.
    assert!(total.of("published") > 100 * SEEDS, "{total}");
    assert!(total.of("resent") > 5 * SEEDS, "{total}");
    assert!(total.of("terms") > 4 * SEEDS, "{total}");
    assert!(total.of("kills") > SEEDS, "{total}");
    assert!(total.of("tails lost") > SEEDS / 4, "{total}");
    assert!(total.of("snapshots") > SEEDS, "{total}");
    assert!(total.of("replaced") > SEEDS / 4, "{total}");
    assert!(total.of("resumed") > SEEDS, "{total}");
    assert!(total.of("reads") > 10 * SEEDS, "{total}");
    assert!(total.of("conflicts") > SEEDS, "{total}");
    assert!(total.of("expired") > 0, "{total}");
}

/// Inside a region publishing stands still for a second at most, in 99 of 100 cases. The time is the
/// simulation's, and the same on every machine.
#[test]
fn a_lost_leader_is_followed_within_a_second() {
    let mut without: Vec<Duration> = (0..200)
        .map(|seed| without_leader(seed).expect("nothing else is wrong"))
        .collect();
    without.sort();
    let (half, most) = (without[100], without[198]);
    println!("without a leader: p50 {half:?}, p99 {most:?}");
    assert!(most <= Duration::from_secs(1), "p50 {half:?}, p99 {most:?}");
}

/// Inside one region, where all is well, the leader dies: how long nothing can be published.
fn without_leader(seed: u64) -> Result<Duration, Broken> {
    let mut world = World::<Groups>::new(seed, Place::Region)?;
    let dies = Time::ZERO + Duration::from_millis(world.dice.random_range(3_000..4_000));
    while world.now < dies {
        world.next()?;
    }
    let leader = world.leader(GROUP).ok_or("somebody leads after 3 s")?;
    let died = world.now;
    world.kill(leader, true);
    let serves = |host: &Host<Groups>| host.group.as_ref().is_some_and(Group::serves);
    while !world.hosts.iter().any(serves) {
        world.next()?;
    }
    Ok(world.now.saturating_since(died))
}

#[test]
fn a_seed_is_a_world() {
    seeds::play_twice::<Groups>();
}
