//! Whom a relay is connected to. Up to 64 relays: all others. Above, a set: each pair of neighbours
//! costs both of them a connection and probes, and a mesh of all grows with the square.
//!
//! The choice depends on who is there and where, not on measurements: those exist only between
//! neighbours, and a choice by them would swing to and fro. What a path in use crosses stays.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::ids::{NodeId, Region};

/// Up to so many relays all are neighbours: 63 connections and, at idle, 63 probes a second each.
pub const FULL_MESH: usize = 64;
/// Nearest relays that everybody keeps. A region of up to 17 relays stays fully meshed.
pub const NEAREST: usize = 16;
/// Regions that every region has links to, if there are so many: the nearest …
const NEAR_REGIONS: usize = 16;
/// … and some picked by a hash, so that few relays lie between any two.
const FAR_REGIONS: usize = 8;
/// Links between two regions at least, while regions are few: so that one may fail.
const LINKS_OF_REGIONS: usize = 2;
/// A link that only a path in use asks for is kept while both its ends have fewer than this.
pub const MOST_KEPT: usize = 2 * FULL_MESH;

/// A relay and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its name.
    pub id: NodeId,
    /// Its region.
    pub region: Region,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// For each relay its neighbours, by their places in `sites`, in order. `used` are the links that
/// paths take now. The same whatever the order of `sites`; mutual; everybody reaches everybody.
pub fn choose(sites: &[Site], used: impl IntoIterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let count = sites.len();
    let mut sets: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
    if count <= FULL_MESH {
        let others = |me: usize| (0..count).filter(move |other| *other != me).collect();
        return (0..count).map(others).collect();
    }
    let mut links = nearest(sites);
    links.extend(between_regions(sites));
    for (a, b) in links {
        sets[a].insert(b);
        sets[b].insert(a);
    }
    join(sites, &mut sets);
    let mut used: Vec<(usize, usize)> = used.into_iter().filter(|(a, b)| a != b).collect();
    used.sort_unstable_by(|x, y| {
        let order = |(a, b): &(usize, usize)| (distance(&sites[*a], &sites[*b]), *a, *b);
        order(x).cmp(&order(y))
    });
    for (a, b) in used {
        if sets[a].contains(&b) || (sets[a].len() < MOST_KEPT && sets[b].len() < MOST_KEPT) {
            sets[a].insert(b);
            sets[b].insert(a);
        }
    }
    sets.into_iter()
        .map(|set| set.into_iter().collect())
        .collect()
}

/// Everybody's nearest. Those at the same place are ordered by a hash of both names, so that a
/// large site becomes a random mesh and not a row.
fn nearest(sites: &[Site]) -> Vec<(usize, usize)> {
    let mut links = Vec::new();
    for (me, site) in sites.iter().enumerate() {
        let others = sites.iter().enumerate().filter(|(other, _)| *other != me);
        let mut others: Vec<_> = others
            .map(|(other, o)| (distance(site, o), mix(&site.id, &o.id), &o.id, other))
            .collect();
        if others.len() > NEAREST {
            others.select_nth_unstable(NEAREST);
        }
        links.extend(others.iter().take(NEAREST).map(|(.., other)| (me, *other)));
    }
    links
}

/// Links between regions: as many as the smaller one has relays, spread over both, so that no relay
/// carries what a whole region sends.
fn between_regions(sites: &[Site]) -> Vec<(usize, usize)> {
    let mut regions: BTreeMap<&Region, Vec<usize>> = BTreeMap::new();
    for (at, site) in sites.iter().enumerate() {
        regions.entry(&site.region).or_default().push(at);
    }
    let few = regions.len() <= NEAR_REGIONS + FAR_REGIONS + 1;
    let mut links = Vec::new();
    for (a, b) in pairs_of_regions(sites, &regions) {
        let ranked = |of: &Region, towards: &Region| {
            let mut relays = regions[of].clone();
            relays.sort_by_cached_key(|at| (mix(&sites[*at].id, towards), &sites[*at].id));
            relays
        };
        let (ours, theirs) = (ranked(a, b), ranked(b, a));
        let least = if few { LINKS_OF_REGIONS } else { 1 };
        let count = ours.len().min(theirs.len()).max(least);
        let pair = |n: usize| (ours[n % ours.len()], theirs[n % theirs.len()]);
        links.extend((0..count).map(pair));
    }
    links
}

fn pairs_of_regions<'a>(
    sites: &[Site],
    regions: &BTreeMap<&'a Region, Vec<usize>>,
) -> BTreeSet<(&'a Region, &'a Region)> {
    // A region stands where the first of its relays by name does.
    let stands = |region: &Region| {
        let relays = regions[region].iter().map(|at| &sites[*at]);
        relays.min_by(|a, b| a.id.cmp(&b.id))
    };
    let mut pairs = BTreeSet::new();
    for a in regions.keys().copied() {
        let others = regions.keys().copied().filter(|b| *b != a);
        let mut by_distance: Vec<(u64, &Region)> = others
            .filter_map(|b| Some((distance(stands(a)?, stands(b)?), b)))
            .collect();
        by_distance.sort_unstable();
        let mut far = by_distance.split_off(NEAR_REGIONS.min(by_distance.len()));
        far.sort_by_cached_key(|(_, b)| mix(a.min(*b), a.max(*b)));
        far.truncate(FAR_REGIONS);
        let chosen = by_distance.into_iter().chain(far);
        pairs.extend(chosen.map(|(_, b)| (a.min(b), a.max(b))));
    }
    pairs
}

/// Joins what is not connected, by the shortest links between the parts.
fn join(sites: &[Site], sets: &mut [BTreeSet<usize>]) {
    loop {
        let mut reached = BTreeSet::from([0]);
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            open.extend(
                sets[at]
                    .iter()
                    .copied()
                    .filter(|next| reached.insert(*next)),
            );
        }
        let inside = reached.iter().copied();
        let outside = || (0..sites.len()).filter(|at| !reached.contains(at));
        let links = inside.flat_map(|a| outside().map(move |b| (a, b)));
        let shortest = links.min_by_key(|&(a, b)| {
            let (a, b) = (&sites[a], &sites[b]);
            let ends = (
                a.id.clone().min(b.id.clone()),
                a.id.clone().max(b.id.clone()),
            );
            (distance(a, b), ends)
        });
        let Some((a, b)) = shortest else {
            return;
        };
        sets[a].insert(b);
        sets[b].insert(a);
    }
}

/// Along the great circle, in m (haversine, mean Earth radius 6,371 km).
fn distance(a: &Site, b: &Site) -> u64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half((b.lon - a.lon).to_radians());
    (2.0 * 6_371_000.0 * h.sqrt().min(1.0).asin()) as u64
}

/// FNV-1a of both, with the 64-bit finaliser of MurmurHash3: the same on every controller.
fn mix(a: &str, b: &str) -> u64 {
    let bytes = a.bytes().chain([0]).chain(b.bytes());
    let mut h = bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use longspan_proto::{ids::Net, wire::Role};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        graph::{Graph, Metrics, Node, Weight},
        paths::{Paths, Way},
        policy::Class,
    };

    /// Relays in so many places, spread by the seed.
    fn sites(count: usize, regions: usize, seed: u64) -> Vec<Site> {
        let place = |n: usize, what: &str, span: f64| {
            let hash = mix(&format!("{seed}"), &format!("{what}{n}"));
            (hash % 1_000_000) as f64 / 1_000_000.0 * span - span / 2.0
        };
        let site = |n: usize| Site {
            id: NodeId::new(&format!("relay-{n}")).unwrap(),
            region: Region::new(&format!("region-{}", n % regions)).unwrap(),
            lat: place(n % regions, "lat", 120.0),
            lon: place(n % regions, "lon", 360.0),
        };
        (0..count).map(site).collect()
    }

    fn names(sites: &[Site], sets: &[Vec<usize>]) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        let set = |set: &Vec<usize>| set.iter().map(|at| sites[*at].id.clone()).collect();
        sites
            .iter()
            .map(|s| s.id.clone())
            .zip(sets.iter().map(set))
            .collect()
    }

    #[test]
    fn few_relays_are_a_full_mesh() {
        for count in [0, 1, 2, 64] {
            let sets = choose(&sites(count, 5, 1), []);
            assert_eq!(sets.len(), count);
            assert!(sets.iter().all(|set| set.len() == count - 1));
        }
    }

    /// (relays, regions): few large ones, one, as many as relays.
    const SHAPES: [(usize, usize); 5] = [(65, 15), (256, 15), (128, 1), (100, 100), (90, 40)];

    #[test]
    fn sets_are_mutual_connected_and_bounded_whatever_the_order() {
        for (count, regions) in SHAPES {
            let mut sites = sites(count, regions, 7);
            let sets = choose(&sites, []);
            for (me, set) in sets.iter().enumerate() {
                assert!(set.len() >= NEAREST, "{count}/{regions}: {}", set.len());
                assert!(set.len() <= 96, "{count}/{regions}: {}", set.len());
                assert!(
                    set.iter()
                        .all(|other| *other != me && sets[*other].contains(&me))
                );
            }
            let mut reached = BTreeSet::from([0]);
            let mut open = vec![0];
            while let Some(at) = open.pop() {
                open.extend(
                    sets[at]
                        .iter()
                        .copied()
                        .filter(|next| reached.insert(*next)),
                );
            }
            assert_eq!(reached.len(), count);
            let told = names(&sites, &sets);
            sites.reverse();
            sites.rotate_left(count / 3);
            assert_eq!(names(&sites, &choose(&sites, [])), told);
        }
    }

    #[test]
    fn who_comes_or_goes_changes_little() {
        let all = sites(200, 15, 3);
        let before = names(&all, &choose(&all, []));
        let fewer: Vec<Site> = all[1..].to_vec();
        let after = names(&fewer, &choose(&fewer, []));
        let links = before.values().map(BTreeSet::len).sum::<usize>();
        let kept = after
            .iter()
            .map(|(id, set)| set.intersection(&before[id]).count());
        let kept = kept.sum::<usize>();
        assert!(kept * 100 > links * 95, "{kept} of {links} stay");
    }

    #[test]
    fn what_a_path_crosses_stays_within_the_bound() {
        let sites = sites(200, 15, 3);
        let plain = choose(&sites, []);
        let other = (0..200)
            .find(|other| *other != 0 && !plain[0].contains(other))
            .unwrap();
        let kept = choose(&sites, [(0, other)]);
        assert!(kept[0].contains(&other) && kept[other].contains(&0));
        let all = (0..200).flat_map(|a| (0..200).map(move |b| (a, b)));
        assert!(choose(&sites, all).iter().all(|set| set.len() <= MOST_KEPT));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        /// Half of the round trips are longer than the way is, by up to 80 %: as on the internet,
        /// the best path is often over others.
        #[test]
        fn paths_over_the_sets_are_nearly_as_short(seed in any::<u64>(), regions in 5usize..20) {
            let count = 70;
            let sites = sites(count, regions, seed);
            let sets = choose(&sites, []);
            let paths = |is_linked: &dyn Fn(usize, usize) -> bool| {
                let nodes = sites.iter().map(|s| (s.id.clone(), Node::new(Role::Relay)));
                let mut graph = Graph::new(nodes);
                for (a, x) in sites.iter().enumerate() {
                    for (b, y) in sites.iter().enumerate() {
                        let detour = mix(a.min(b).to_string().as_str(), a.max(b).to_string().as_str()) % 800;
                        let us = distance(x, y) / 200 * (1_000 + detour) / 1_000 + 500;
                        let metrics = Metrics { raw_delay_us: us as i64, rtt_us: us * 2, jitter_p95_us: 0, loss: 0.0 };
                        if a != b && is_linked(a, b) {
                            let (from, to) = (graph.number(&x.id).unwrap(), graph.number(&y.id).unwrap());
                            graph.set_link(from, to, vec![Weight::new(Net::internet(), &metrics)]);
                        }
                    }
                }
                graph.settle();
                let paths = Paths::new(&graph, &Class::default());
                (graph, paths)
            };
            let (_, all) = paths(&|_, _| true);
            let (graph, some) = paths(&|a, b| sets[a].contains(&b));
            let mut stretch = Vec::new();
            for a in 0..count {
                for b in (0..count).filter(|b| *b != a) {
                    let told = |paths: &Paths| paths.pair(a, b).told_us(&paths.pair(a, b).best) as f64;
                    prop_assert!(some.pair(a, b).best.is_some(), "{} > {}", &graph.names()[a], &graph.names()[b]);
                    prop_assert!([&some.pair(a, b).backup].into_iter().all(Way::is_some));
                    stretch.push(told(&some) / told(&all));
                }
            }
            stretch.sort_by(f64::total_cmp);
            prop_assert!(stretch[0] >= 0.999, "{}", stretch[0]);
            let (median, worst) = (stretch[stretch.len() / 2], stretch[stretch.len() * 99 / 100]);
            prop_assert!(median < 1.1 && worst < 1.6, "median {median}, p99 {worst}");
        }
    }
}
