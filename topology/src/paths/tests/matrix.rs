//! The bundled matrix of round trips (`lab/data`): what is to be gained there is gained.

use super::world::World;
use crate::cost::HOP_US;

struct Regions {
    names: Vec<String>,
    rtt_ms: Vec<Vec<u64>>,
}

impl Regions {
    fn read() -> Regions {
        let text = include_str!("../../../../lab/data/rtt_internet_ms.csv");
        let mut lines = text.lines();
        let names = lines.next().unwrap().split(',').skip(1);
        let row = |line: &str| {
            line.split(',')
                .skip(1)
                .map(|ms| ms.parse().unwrap())
                .collect()
        };
        Regions {
            names: names.map(str::to_owned).collect(),
            rtt_ms: lines.map(row).collect(),
        }
    }

    fn world(&self) -> World {
        let mut text = String::new();
        for (a, from) in self.names.iter().enumerate() {
            for (b, to) in self.names.iter().enumerate().skip(a + 1) {
                let ms = self.rtt_ms[a][b] as f64 / 2.0;
                text += &format!("{from}>{to} {ms}/{ms}\n{to}>{from} {ms}/{ms}\n");
            }
        }
        World::parse(&text)
    }

    /// The least over every path of at most so many links, in ms of round trip, each link with two
    /// hops' cost.
    fn least(&self, at: usize, to: usize, links: usize, crossed: &mut Vec<usize>) -> f64 {
        let hops = 2.0 * HOP_US as f64 / 1_000.0;
        let mut least = self.rtt_ms[at][to] as f64 + hops;
        if links == 1 {
            return least;
        }
        for next in (0..self.names.len()).filter(|next| *next != to) {
            if !crossed.contains(&next) {
                crossed.push(next);
                let rest = self.least(next, to, links - 1, crossed);
                least = least.min(self.rtt_ms[at][next] as f64 + hops + rest);
                crossed.pop();
            }
        }
        least
    }
}

#[test]
fn the_known_gains_are_found() {
    let (regions, world) = (Regions::read(), Regions::read().world());
    let at = |name: &str| {
        regions
            .names
            .iter()
            .position(|known| known == name)
            .unwrap()
    };
    // Direct, over the best path, and over whom.
    for (from, to, direct, gained, over) in [
        ("cn-guangzhou", "sg", 310, 102, vec!["cn-shanghai", "hk"]),
        ("cn-shanghai", "au-sydney", 361, 165, vec!["hk", "sg"]),
        ("kr-seoul", "au-sydney", 307, 147, vec!["jp-tokyo"]),
        ("cn-guangzhou", "hk", 217, 69, vec!["cn-shanghai"]),
        ("cn-shanghai", "sg", 205, 71, vec!["hk"]),
    ] {
        assert_eq!(regions.rtt_ms[at(from)][at(to)], direct, "{from} > {to}");
        for (from, to, over) in [
            (from, to, over.clone()),
            (to, from, over.iter().rev().copied().collect()),
        ] {
            let nodes = &world.paths(from, to)[0];
            assert_eq!(nodes[1..nodes.len() - 1], over, "{from} > {to}");
            let rtts = nodes
                .windows(2)
                .map(|pair| regions.rtt_ms[at(&pair[0])][at(&pair[1])]);
            assert_eq!(rtts.sum::<u64>(), gained, "{from} > {to}");
        }
    }
}

#[test]
fn every_pair_has_the_least_of_all_paths_with_three_relays_between() {
    let (regions, world) = (Regions::read(), Regions::read().world());
    let graph = world.graph();
    let paths = super::Paths::new(&graph, &world.class);
    for (a, from) in regions.names.iter().enumerate() {
        for (b, to) in regions.names.iter().enumerate().filter(|(b, _)| *b != a) {
            let (x, y) = (world.number(from), world.number(to));
            let pair = paths.pair(x, y);
            let told_ms = pair.told_us(&pair.best) as f64 / 1_000.0 * 2.0;
            let least = regions.least(a, b, 4, &mut vec![a]);
            assert!(
                (told_ms - least).abs() < 0.01,
                "{from} > {to}: {told_ms}, {least}"
            );
            assert!(pair.backup.is_some() && pair.best.shared(&pair.backup, x, y) == (0, 0));
        }
    }
}
