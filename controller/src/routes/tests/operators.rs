//! What operators ask for: cordons, drains, costs, prices, capacities, pins.

use super::{overrides::LinkOverride, *};

fn link(from: &str, to: &str) -> (NodeId, NodeId, Option<Net>) {
    (node(from), node(to), None)
}

fn reasons(routed: &Routed) -> Vec<&str> {
    let mut reasons: Vec<&str> = routed.switches.iter().map(|s| s.reason.as_str()).collect();
    reasons.sort();
    reasons.dedup();
    reasons
}

#[test]
fn a_draining_node_is_left_at_once_and_stays_an_end() {
    let mut world = World::square();
    assert_eq!(world.paths("a", "d"), "b d | c d");
    let routed = world.ask(|o| _ = o.nodes.insert(node("b"), NodeOverride::Draining));
    assert_eq!(world.paths("a", "d"), "c d | d");
    assert_eq!(world.paths("a", "b"), "b | c d b");
    assert_eq!(reasons(&routed), ["a node of the old path is draining"]);
    assert!(
        routed.push.contains(&node("a")),
        "make before break: by a new table"
    );
    // Where nothing else reaches, it is crossed.
    world
        .report("d: b 10")
        .report("c: a 15")
        .report("a: b 10, c 15");
    world.compute();
    assert_eq!(world.paths("a", "d"), "b d");
    // When the drain is taken back, what moved away has no reason to hurry back.
    let mut world = World::square();
    world.ask(|o| _ = o.nodes.insert(node("b"), NodeOverride::Draining));
    world.wait(4_999).ask(|o| o.nodes.clear());
    assert_eq!(world.paths("a", "d"), "c d | b d");
    world.wait(1).report("b: a 12, d 10").compute();
    assert_eq!(world.paths("a", "d"), "b d | c d");
}

#[test]
fn a_cordoned_node_is_never_crossed() {
    let mut world = World::square();
    let routed = world.ask(|o| _ = o.nodes.insert(node("b"), NodeOverride::Cordoned));
    assert_eq!(world.paths("a", "d"), "c d | d");
    assert!(!routed.switches.is_empty());
    world
        .report("d: b 10")
        .report("c: a 15")
        .report("a: b 10, c 15");
    world.compute();
    assert_eq!(world.paths("a", "d"), "");
}

#[test]
fn links_are_cordoned_made_dear_and_made_cheap() {
    let mut world = World::square();
    let cordoned = LinkOverride {
        cordoned: true,
        ..LinkOverride::default()
    };
    world.ask(|o| _ = o.links.insert(link("d", "b"), cordoned));
    assert_eq!(world.paths("a", "d"), "c d | d");
    assert_eq!(
        world.paths("d", "a"),
        "b a | c a",
        "the other direction is not"
    );
    // Over one net only: the other goes on.
    let of = |net: &str| (node("d"), node("b"), Some(Net::new(net).unwrap()));
    world.wait(10_000).ask(|o| {
        o.links.clear();
        o.links.insert(of("leased"), cordoned);
    });
    assert_eq!(world.paths("a", "d"), "b d | c d");
    // A cordon of all nets is not lifted by what is asked of one.
    world.ask(|o| {
        o.links.insert(
            of("internet"),
            LinkOverride {
                price: Some(1),
                ..LinkOverride::default()
            },
        );
        o.links.insert(link("d", "b"), cordoned);
    });
    assert_eq!(world.paths("a", "d"), "c d | d");

    let mut world = World::square();
    let added = LinkOverride {
        cost: Some(CostOverride::Added(12_000)),
        ..LinkOverride::default()
    };
    let routed = world
        .wait(10_000)
        .ask(|o| _ = o.links.insert(link("d", "b"), added));
    assert_eq!(
        world.paths("a", "d"),
        "b d | c d",
        "a gain of 2 ms is too small"
    );
    assert_eq!(routed.switches, []);
    let twice = LinkOverride {
        cost: Some(CostOverride::Factor(3.0)),
        ..LinkOverride::default()
    };
    let routed = world
        .wait(10_000)
        .ask(|o| _ = o.links.insert(link("d", "b"), twice));
    assert_eq!(world.paths("a", "d"), "c d | b d");
    // d to b: 10.5 ms, and twice as much more.
    assert_eq!(reasons(&routed), ["the new path is 11.0 ms faster"]);
}

#[test]
fn within_the_budget_the_cheaper_path_wins_after_the_hold_time() {
    let mut world = World::square();
    let price = |price| LinkOverride {
        price: Some(price),
        ..LinkOverride::default()
    };
    let routed = world.ask(|o| {
        o.links.insert(link("d", "b"), price(2_500_000));
        o.links.insert(link("d", "a"), price(9_000_000));
    });
    assert_eq!(world.paths("a", "d"), "c d | b d");
    assert_eq!(reasons(&routed), ["a GB costs 2.5 less on the new path"]);
    let why = world.router.explain(&node("a"), &node("d"), &[]);
    assert_eq!(why.ruled_out.len(), 1, "{why:?}");
    assert_eq!(why.ruled_out[0].nodes, [node("b"), node("d")]);
    assert_eq!(
        why.ruled_out[0].because,
        ["it costs more, and the path taken is within the latency budget"]
    );
}

#[test]
fn a_full_link_keeps_its_tracks_and_takes_no_new_ones() {
    let mut world = World::square();
    let capacity = LinkOverride {
        capacity_bps: Some(1_000),
        ..LinkOverride::default()
    };
    world.ask(|o| _ = o.links.insert(link("d", "b"), capacity));
    let carry = |world: &mut World, bps: u64| {
        let time = world.now().time;
        let mut reports: Vec<Report> = Vec::new();
        for (from, ms) in [("a", 10), ("d", 10)] {
            reports.push(Report {
                from: node(from),
                link: Link {
                    net: Net::internet(),
                    up: true,
                    metrics: Metrics {
                        raw_delay_us: ms * 1_000,
                        rtt_us: ms as u64 * 2_000,
                        jitter_p95_us: 0,
                        loss: 0.0,
                    },
                },
                rate_bps: if from == "d" { bps } else { 0 },
            });
        }
        world.router.report(time, &node("b"), &reports);
        let push = world.compute().push;
        let table = world.router.table(&node("a")).unwrap();
        (
            world.paths("a", "d"),
            table.full.clone(),
            push.contains(&node("a")),
        )
    };
    assert_eq!(
        carry(&mut world, 800),
        ("b d | c d".into(), [].into(), false)
    );
    let full = [(node("d"), node("b"))];
    assert_eq!(
        carry(&mut world, 801),
        ("b d | c d".into(), full.clone().into(), true)
    );
    // It opens again well below, so that it does not swing.
    assert_eq!(
        carry(&mut world, 701),
        ("b d | c d".into(), full.into(), false)
    );
    assert_eq!(
        carry(&mut world, 700),
        ("b d | c d".into(), [].into(), true)
    );
    assert!(carry(&mut world, 900).2);
    // Who has no path yet takes another.
    let a = world.nodes.remove(0);
    world.router.forget(&node("a"));
    world.compute();
    world.nodes.push(a);
    world.report("a: b 10, c 15, d 50").report("c: a 15, d 15");
    assert_eq!(carry(&mut world, 900).0, "c d | b d");
}

#[test]
fn a_pin_is_followed_while_it_can_be() {
    let mut world = World::square();
    let pin = vec![node("c"), node("d")];
    assert_eq!(world.router.check_pin(&node("a"), &pin), Ok(()));
    let routed = world.ask(|o| _ = o.pins.insert((node("a"), node("d")), pin.clone()));
    assert_eq!(world.paths("a", "d"), "c d | b d");
    assert_eq!(reasons(&routed), ["an operator pinned the new path"]);
    let table = world.router.table(&node("a")).unwrap();
    let costs: Vec<u64> = table.paths[&node("d")].iter().map(|p| p.cost_us).collect();
    assert!(costs.is_sorted(), "nodes order by cost: {costs:?}");
    // It breaks: the best is taken, and explained.
    world.wait(10_000).report("c: a 15 down, d 15").compute();
    assert_eq!(world.paths("a", "d"), "b d | d");
    let why = world.router.explain(&node("a"), &node("d"), &[]);
    assert_eq!(
        why.passed_over_pins,
        ["the pin over c → d is passed over: no link from c to a is up both ways"]
    );
    // It comes back, and is followed again.
    world.report("c: a 15, d 15").compute();
    assert_eq!(world.paths("a", "d"), "c d | b d");
}

#[test]
fn an_impossible_pin_is_refused_with_the_reason() {
    let mut world = World::new("a b c d f g e-1");
    world
        .report("a: b 1")
        .report("b: a 1, c 1")
        .report("c: b 1, d 1")
        .report("d: c 1, f 1")
        .report("f: d 1, g 1");
    world.report("g: f 1").report("e-1: a 1");
    world.compute();
    world.ask(|o| {
        o.nodes.insert(node("c"), NodeOverride::Draining);
        let cordoned = LinkOverride {
            cordoned: true,
            ..LinkOverride::default()
        };
        // Frames to d come from f.
        o.links.insert(link("f", "d"), cordoned);
    });
    for (from, path, reason) in [
        ("a", "", "a pinned path from a names no destination"),
        (
            "a",
            "b c d f g",
            "the path crosses 4 relays; the limit is 3",
        ),
        ("a", "b a", "the path visits a twice"),
        ("a", "b x", "no link from x to b is up both ways"),
        (
            "b",
            "a e-1",
            "e-1 is an edge; paths lead over relays to relays",
        ),
        ("a", "c", "no link from c to a is up both ways"),
        ("d", "f", "the link from f to d is cordoned"),
        ("b", "c d", "c is draining; no path may cross it"),
    ] {
        let nodes: Vec<NodeId> = path.split_whitespace().map(node).collect();
        let refused = world.router.check_pin(&node(from), &nodes).unwrap_err();
        assert_eq!(refused.to_string(), reason);
    }
}

#[test]
fn explain_names_what_rules_a_quicker_path_out() {
    let mut world = World::square();
    world.ask(|o| {
        o.nodes.insert(node("b"), NodeOverride::Cordoned);
        let cordoned = LinkOverride {
            cordoned: true,
            ..LinkOverride::default()
        };
        o.links.insert(link("d", "c"), cordoned);
    });
    let why = world.router.explain(&node("a"), &node("d"), &[]);
    assert_eq!(why.candidates[0].nodes, [node("d")]);
    let because = |nodes: &[&str]| {
        let nodes: Vec<NodeId> = nodes.iter().map(|name| node(name)).collect();
        let found = why.ruled_out.iter().find(|r| r.nodes == nodes);
        found.map(|r| r.because.join("; "))
    };
    assert_eq!(because(&["b", "d"]).as_deref(), Some("b is cordoned"));
    let cost = why
        .ruled_out
        .iter()
        .find(|r| r.nodes[0] == node("b"))
        .unwrap()
        .cost_ms;
    assert_eq!(cost, 21.0);
}
