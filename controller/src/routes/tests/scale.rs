//! Many nodes, many changes: what is computed in steps is what a fresh start gives, and nothing
//! grows with the square of the nodes that should not.

use super::*;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// `to: from ms, …` for every node, as they stand.
fn report_all(world: &mut World, ms: &BTreeMap<(String, String), u64>) {
    let names: Vec<String> = world.nodes.iter().map(|n| n.id.to_string()).collect();
    for to in &names {
        let links = ms.iter().filter(|((_, end), ms)| end == to && **ms > 0);
        let links: Vec<String> = links
            .map(|((from, _), ms)| format!("{from} {ms}"))
            .collect();
        world.report(&format!("{to}: {}", links.join(", ")));
    }
}

#[test]
fn steps_give_what_a_fresh_start_gives() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let names = "a b c d f g h e-1 e-2";
        let mut world = World::new(names);
        let mut ms = BTreeMap::new();
        for from in names.split(' ') {
            let is_edge = |name: &str| name.starts_with("e-");
            for to in names.split(' ') {
                if to != from && !(is_edge(from) && is_edge(to)) {
                    ms.insert((from.to_owned(), to.to_owned()), 5 + dice.below(60));
                }
            }
        }
        report_all(&mut world, &ms);
        world.compute();
        for step in 0..30 {
            let at = dice.below(ms.len() as u64) as usize;
            let link = ms.keys().nth(at).unwrap().clone();
            // Down, or anything; costs differ by more than what is too small to be computed.
            ms.insert(link, dice.below(4).min(1) * (5 + 2 * dice.below(60)));
            report_all(&mut world, &ms);
            // Longer than the hold time.
            world.wait(6_000).compute();
            // A fresh start knows no path in use, so what hysteresis keeps may differ; what each
            // pair can reach, and that its paths are simple and up, may not.
            let mut fresh = World::new(names);
            report_all(&mut fresh, &ms);
            fresh.compute();
            for (from, table) in world.router.tables() {
                let other = fresh.router.table(from).unwrap();
                let ends = |table: &Table| table.paths.keys().cloned().collect::<Vec<_>>();
                assert_eq!(ends(table), ends(other), "seed {seed}, step {step}");
                for (to, paths) in &table.paths {
                    let (mine, best) = (paths[0].cost_us, other.paths[to][0].cost_us);
                    assert!(
                        mine <= best + (best * 4 / 100).max(3_500),
                        "seed {seed}, step {step}: {from} > {to}, {mine} µs, {best} µs"
                    );
                    assert_eq!(
                        paths.len(),
                        other.paths[to].len(),
                        "seed {seed}, step {step}"
                    );
                    for path in paths {
                        let mut at = from;
                        for hop in &path.hops {
                            let link = (hop.node.to_string(), at.to_string());
                            let back = (link.1.clone(), link.0.clone());
                            let is_up = ms[&link] > 0 && ms[&back] > 0;
                            assert!(is_up, "seed {seed}, step {step}: {link:?} is down");
                            at = &hop.node;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn who_comes_and_goes_leaves_the_others_paths_alone() {
    let mut world = World::square();
    // Kept by hysteresis: the direct way is better by 2 ms only.
    world.wait(10_000).report("a: b 10, c 15, d 19").compute();
    assert_eq!(world.paths("a", "d"), "b d | d");
    let newcomer = World::new("aa").nodes.remove(0);
    world.nodes.push(newcomer);
    let routed = world.compute();
    assert_eq!(routed.switches, []);
    assert_eq!(world.paths("a", "d"), "b d | d");
    world.nodes.pop();
    world.router.forget(&node("aa"));
    assert_eq!(world.compute().switches, []);
    assert_eq!(world.paths("a", "d"), "b d | d");
}

#[test]
fn the_death_of_a_hub_is_told_in_bounds() {
    // A star: every pair's path crosses the hub.
    let leaves: Vec<String> = (0..20).map(|n| format!("leaf-{n}")).collect();
    let mut world = World::new(&format!("hub {}", leaves.join(" ")));
    let all: Vec<String> = leaves.iter().map(|leaf| format!("{leaf} 10")).collect();
    world.report(&format!("hub: {}", all.join(", ")));
    for leaf in &leaves {
        world.report(&format!("{leaf}: hub 10"));
    }
    world.compute();
    assert_eq!(world.paths("leaf-0", "leaf-1"), "hub leaf-1");
    world.nodes.remove(0);
    world.router.forget(&node("hub"));
    let routed = world.compute();
    let pairs = 20 * 19;
    assert!(routed.switches.len() <= 2 * MOVES_TOLD);
    assert!(routed.switches.len() + routed.more_moves >= pairs);
    assert!(routed.more_moves > 0);
    assert_eq!(
        world.router.switches().count(),
        4,
        "as many as it was told to keep"
    );
}

#[test]
fn fellows_of_a_placement_group_are_neighbours_whatever_the_choice() {
    let names: Vec<String> = (0..200).map(|n| format!("r{n}")).collect();
    let mut world = World::new(&names.join(" "));
    for (n, member) in world.nodes.iter_mut().enumerate() {
        member.region = Region::new(&format!("region-{}", n % 15)).unwrap();
        member.lat = (n % 15) as f64 * 5.0;
        member.lon = (n % 15) as f64 * 20.0;
    }
    let now = world.now();
    world.router.recompute(now, &world.nodes);
    let is_neighbour = |world: &World, a: &str, b: &str| {
        let table = world.router.table(&node(a)).expect("a table");
        table.neighbours.contains(&node(b))
    };
    let far = names
        .iter()
        .find(|other| *other != "r0" && !is_neighbour(&world, "r0", other));
    let far = far.expect("not all are neighbours");
    let pair: BTreeSet<(NodeId, NodeId)> = [(node("r0"), node(far))].into();
    world.router.set_fellows(now.time, pair.clone());
    world.wait(1_000);
    assert!(world.router.due().is_some(), "it is to be computed");
    let now = world.now();
    let routed = world.router.recompute(now, &world.nodes);
    assert!(is_neighbour(&world, "r0", far) && is_neighbour(&world, far, "r0"));
    assert!(routed.push.contains(&node("r0")) && routed.push.contains(&node(far)));
    assert_eq!(routed.push.len(), 2, "nobody else is told");
    // They stay so when somebody else goes, and until they are fellows no more.
    world.nodes.pop_if(|member| member.id != node(far));
    let now = world.now();
    world.router.recompute(now, &world.nodes);
    assert!(is_neighbour(&world, "r0", far));
    world.router.set_fellows(now.time, pair);
    assert!(world.router.due().is_none(), "the same changes nothing");
    world.router.set_fellows(now.time, BTreeSet::new());
    let now = world.now();
    world.router.recompute(now, &world.nodes);
    assert!(!is_neighbour(&world, "r0", far) && !is_neighbour(&world, far, "r0"));
}

#[test]
fn above_64_relays_only_links_of_neighbours_count() {
    let names: Vec<String> = (0..66).map(|n| format!("r-{n}")).collect();
    let mut world = World::new(&names.join(" "));
    for (at, member) in world.nodes.iter_mut().enumerate() {
        member.region = Region::new(&format!("region-{}", at % 6)).unwrap();
        (member.lat, member.lon) = ((at % 6) as f64 * 10.0, (at % 6) as f64 * 20.0);
    }
    for to in &names {
        let others = names.iter().filter(|from| *from != to);
        let links: Vec<String> = others.map(|from| format!("{from} 10")).collect();
        world.report(&format!("{to}: {}", links.join(", ")));
    }
    world.compute();
    let mut far = 0;
    for (id, table) in world.router.tables() {
        assert!(
            (16..65).contains(&table.neighbours.len()),
            "{}",
            table.neighbours.len()
        );
        assert_eq!(table.paths.len(), 65, "everybody is reached");
        for path in table.paths.values().flatten() {
            assert!(table.neighbours.contains(&path.hops[0].node), "{id}");
            far += usize::from(path.hops.len() > 1);
        }
        for neighbour in &table.neighbours {
            let theirs = &world.router.table(neighbour).unwrap().neighbours;
            assert!(theirs.contains(id), "mutual");
        }
    }
    assert!(far > 0, "not all are neighbours");
}
