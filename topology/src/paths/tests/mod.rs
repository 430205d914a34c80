//! Paths over small graphs: readable cases, an oracle that tries everything, changes in place.

mod cases;
mod matrix;
mod oracle;
mod world;

use super::*;
use world::World;

/// Costs are raw clock differences: what a clock is ahead must not matter.
#[test]
fn clock_offsets_change_nothing() {
    let text = "a-b 10\nb-d 10/12\na-c 15\nc-d 15\na-d 50\ne-1-a 1\ne-2-d 1";
    let plain = World::parse(text);
    for ahead in [
        [0, 5_000_000, -70_000_000, 900, 3, -4],
        [1 << 40, 7, 9, -(1 << 39), 0, 1],
    ] {
        let mut odd = plain.clone();
        odd.ahead_us = ahead.to_vec();
        for from in plain.names() {
            for to in ["a", "b", "c", "d"].into_iter().filter(|to| *to != from) {
                assert_eq!(odd.told(&from, to), plain.told(&from, to), "{from} > {to}");
            }
        }
    }
}

#[test]
fn a_clock_that_just_stepped_makes_no_loop() {
    // b's clock seems to have jumped by 100 ms on what it receives, not yet on what it sends.
    let mut world = World::parse("a>b 10\nb>a 10\nb>c 10\nc>b 10\na-c 30\nc-d 10");
    for link in world.links.iter_mut().filter(|link| link.to == 1) {
        link.raw_us -= 100_000;
    }
    for (from, to) in [("a", "c"), ("a", "d"), ("c", "a"), ("d", "b")] {
        let paths = world.paths(from, to);
        assert!(!paths.is_empty(), "{from} > {to}");
        for mut nodes in paths {
            let len = nodes.len();
            nodes.sort();
            nodes.dedup();
            assert_eq!(nodes.len(), len, "{from} > {to}: {nodes:?}");
        }
    }
}

#[test]
fn nonsense_in_a_report_does_not_overflow() {
    let mut world = World::parse("b>a 1\nc>b 1\na>c 1");
    for (link, raw_us) in world.links.iter_mut().zip([i64::MIN, i64::MAX, 0]) {
        link.raw_us = raw_us;
        (link.rtt_us, link.jitter_us, link.loss) = (u64::MAX, u64::MAX, f64::NAN);
    }
    assert_eq!(world.paths("a", "c"), [["a", "b", "c"]]);
}

#[test]
fn no_nodes_no_paths() {
    let mut graph = Graph::new([]);
    graph.settle();
    let mut paths = Paths::new(&graph, &Class::default());
    paths.update(&graph, &[]);
}

/// Frames flow against a path: the links that they take are weighed, not those of the requests.
#[test]
fn a_path_is_as_long_as_its_frames_take() {
    let mut world = World::parse("a-d 10/90\na-b 20/30\nb-d 20/30\ne-1-a 5/1\ne-1-d 2/4");
    for ahead in [[0; 4], [900_000_000, -5, 7_000_000, 44]] {
        world.ahead_us = ahead.to_vec();
        // d to b and b to a: 60 ms and two hops. The link from d to a takes 90 ms.
        assert_eq!(world.paths("a", "d"), [vec!["a", "b", "d"], vec!["a", "d"]]);
        // From a to d in 10 ms; over b in 40 ms.
        assert_eq!(world.paths("d", "a"), [vec!["d", "a"], vec!["d", "b", "a"]]);
        // The edge is reached from a in 1 ms and from d in 4 ms; how it reaches them does not count.
        assert_eq!(world.paths("e-1", "b")[0], ["e-1", "d", "b"]);
        world
            .links
            .iter_mut()
            .for_each(|link| link.cordoned = link.from == 2 && link.to == 3);
        assert_eq!(world.paths("e-1", "b")[0], ["e-1", "a", "b"]);
        world
            .links
            .iter_mut()
            .for_each(|link| link.cordoned = false);
    }
}

/// What the search compared is what nodes are told, so that they order paths as it did.
#[test]
fn told_costs_are_half_of_round_trips_and_the_other_terms() {
    let mut world = World::parse("a-b 30\nb-d 30\na-d 50");
    world.ahead_us = vec![0, 7_000_000, -900_000];
    // What a pulls from d comes over the link from d to a.
    for link in world.links.iter_mut().filter(|l| (l.from, l.to) == (2, 0)) {
        (link.jitter_us, link.loss) = (2_000, 0.2);
    }
    let lossy = 50.0 + 2.0 + 25.0 + 0.5;
    assert_eq!(world.told("a", "d"), format!("a b d 61 | a d {lossy}"));
}
