//! What routing costs a controller: all paths of a full mesh, what one link's change touches, the
//! tables out of them, and how much longer paths get when relays keep a set of neighbours. On one
//! core; nothing is started.

use std::time::{Duration, Instant};

use longspan_controller::routes::{Member, Now, Report, Router};
use longspan_lab::matrix::{Matrix, Place};
use longspan_proto::{
    ids::{Net, NodeId, Region},
    time::Time,
    wire::Role,
};
use longspan_topology::{
    graph::{Graph, Link, Metrics, Node, Weight},
    neighbours::{self, Site},
    paths::Paths,
    policy::{Class, MAX_CLASSES, Mode},
};
use serde_json::{Value, json};

use super::report::{self, Distribution};

/// What is computed.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Relays, spread over the bundled regions.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1_024))]
    relays: u32,
    /// Policy classes: the default and, for each more, one that forbids some country.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_CLASSES as i64))]
    class_count: u32,
    /// Full computations.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Changes of one link.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    changes: u32,
    /// What links are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it.
pub fn run(args: &Args) -> Value {
    let world = World::new(args.relays as usize, args.seed);
    let classes = world.classes(args.class_count as usize);
    let mesh = world.graph(|_, _| true);
    let (full, change) = measure(&world, &mesh, &classes, args);
    let sets = neighbours::choose(&world.sites, []);
    let sparse = world.graph(|a, b| sets[a].binary_search(&b).is_ok());
    let (sparse_full, sparse_change) = measure(&world, &sparse, &classes, args);
    let degrees = sets.iter().map(Vec::len);
    let (tables_full, tables_change) = tables(&world, &classes, args);
    let links = |graph: &Graph| -> usize {
        let pairs = (0..world.len()).flat_map(|a| (0..world.len()).map(move |b| (a, b)));
        pairs.map(|(a, b)| graph.weights(a, b).len()).sum()
    };
    report::report(
        args.seed,
        json!({
            "relays": args.relays,
            "classes": args.class_count,
            "links": links(&mesh),
            // Every pair's best path and backup, of all classes.
            "full_ms": full.json(),
            "change_ms": change.json(),
            // The same over the neighbour sets that relays keep when there are more than 64.
            "neighbours": {
                "links": links(&sparse),
                "degree_max": degrees.clone().max(),
                "degree_min": degrees.min(),
                "full_ms": sparse_full.json(),
                "change_ms": sparse_change.json(),
            },
            // Delivery latency of the best path over them, as a multiple of the full mesh's.
            "stretch": stretch(&mesh, &sparse),
            // From reports to tables, as a controller does it; hysteresis included.
            "tables_full_ms": tables_full.json(),
            "tables_change_ms": tables_change.json(),
        }),
    )
}

/// Times of computing everything, and of taking in one link's change.
fn measure(
    world: &World,
    graph: &Graph,
    classes: &[Class],
    args: &Args,
) -> (Distribution, Distribution) {
    let (mut full, mut change) = (Distribution::new(), Distribution::new());
    let mut paths = Vec::new();
    for _ in 0..args.rounds {
        let start = Instant::now();
        paths = classes
            .iter()
            .map(|class| Paths::new(graph, class))
            .collect::<Vec<_>>();
        full.record_us(us(start));
    }
    let mut graph = graph.clone();
    let mut dice = Dice(args.seed ^ 0x5eed);
    for _ in 0..args.changes {
        let (from, to) = world.link(&graph, &mut dice);
        let weights = world.changed(from, to, &mut dice);
        let start = Instant::now();
        graph.set_link(from, to, weights);
        graph.settle();
        for paths in &mut paths {
            paths.update(&graph, &[(to, from)]);
        }
        change.record_us(us(start));
    }
    (full, change)
}

/// The same through the controller's router, tables included.
fn tables(world: &World, classes: &[Class], args: &Args) -> (Distribution, Distribution) {
    let (mut full, mut change) = (Distribution::new(), Distribution::new());
    let mut dice = Dice(args.seed ^ 0x7ab1e);
    let mut at_ms = 0;
    let mut now = || {
        at_ms += 10_000;
        Now {
            time: Time::from_micros(at_ms * 1_000),
            unix_ms: at_ms,
        }
    };
    let mut router = Router::new(0, Duration::ZERO);
    for _ in 0..args.rounds.min(3) {
        router = Router::new(0, Duration::ZERO);
        for class in classes {
            let _ = router.class(Time::ZERO, class);
        }
        for to in 0..world.len() {
            router.report(Time::ZERO, &world.sites[to].id, &world.reports(to, None));
        }
        let start = Instant::now();
        router.recompute(now(), &world.members());
        full.record_us(us(start));
    }
    let members = world.members();
    for _ in 0..args.changes {
        let (from, to) = (dice.below(world.len()), dice.below(world.len()));
        let weights = world.changed_link(from, to, &mut dice);
        let reports = world.reports(to, Some((from, weights)));
        let start = Instant::now();
        router.report(Time::ZERO, &world.sites[to].id, &reports);
        router.recompute(now(), &members);
        change.record_us(us(start));
    }
    (full, change)
}

fn stretch(mesh: &Graph, sparse: &Graph) -> Value {
    let class = Class::default();
    let (all, some) = (Paths::new(mesh, &class), Paths::new(sparse, &class));
    let mut ratios = Vec::new();
    for from in 0..mesh.relays() {
        for to in (0..mesh.relays()).filter(|to| *to != from) {
            let (all, some) = (all.pair(from, to), some.pair(from, to));
            let told = |pair: &longspan_topology::paths::Pair| pair.told_us(&pair.best) as f64;
            ratios.push(match some.best.is_some() {
                true => told(some) / told(all).max(1.0),
                false => f64::INFINITY,
            });
        }
    }
    ratios.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let place = (ratios.len() as f64 * quantile) as usize;
        ratios
            .get(place.min(ratios.len() - 1))
            .map(|ratio| report::round(*ratio, 3))
    };
    json!({ "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1.0), "n": ratios.len() })
}

fn us(start: Instant) -> u64 {
    start.elapsed().as_micros() as u64
}

/// Relays and what is measured between them.
struct World {
    sites: Vec<Site>,
    countries: Vec<[u8; 2]>,
    /// At `from * len + to`.
    metrics: Vec<Metrics>,
}

impl World {
    fn new(relays: usize, seed: u64) -> World {
        let matrix = Matrix::bundled();
        let places: Vec<(&Region, &Place)> = matrix.places().iter().collect();
        let mut dice = Dice(seed);
        let mut drawn: Vec<(Site, [u8; 2])> = (0..relays)
            .map(|n| {
                let (region, place) = places[n % places.len()];
                let id = NodeId::new(&format!("{region}-relay-{}", n / places.len() + 1));
                let site = Site {
                    id: id.expect("a region's name and a number are a name"),
                    region: region.clone(),
                    lat: place.lat,
                    lon: place.lon,
                };
                (site, place.country.as_bytes().try_into().unwrap_or(*b"XX"))
            })
            .collect();
        // As the graph numbers them.
        drawn.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let (sites, countries): (Vec<Site>, Vec<[u8; 2]>) = drawn.into_iter().unzip();
        let ahead_us: Vec<i64> = (0..relays)
            .map(|_| dice.below(2_000_000_000) as i64 - 1_000_000_000)
            .collect();
        let mut metrics = Vec::with_capacity(relays * relays);
        let mut factors = vec![0; relays * relays];
        for from in 0..relays {
            for to in 0..relays {
                // Each pair has a way of its own: up to 30 % longer than the regions' mean.
                let known = factors[to * relays + from];
                let factor = if known > 0 {
                    known
                } else {
                    1_000 + dice.below(300) as u64
                };
                factors[from * relays + to] = factor;
                let mean = matrix.rtt(&sites[from].region, &sites[to].region);
                let rtt_us = mean.map_or(0, |rtt| rtt.as_micros() as u64) * factor / 1_000 + 600;
                let skew = dice.below(100) as i64 - 50;
                metrics.push(Metrics {
                    raw_delay_us: rtt_us as i64 / 2 * (1_000 + skew) / 1_000 + ahead_us[to]
                        - ahead_us[from],
                    rtt_us,
                    jitter_p95_us: rtt_us / 50 + dice.below(2_000) as u64,
                    loss: dice.below(1_000) as f64 / 100_000.0,
                });
            }
        }
        World {
            sites,
            countries,
            metrics,
        }
    }

    fn len(&self) -> usize {
        self.sites.len()
    }

    fn classes(&self, count: usize) -> Vec<Class> {
        let mut all = self.countries.clone();
        all.sort_unstable();
        all.dedup();
        let class = |n: usize| {
            let forbidden = n % all.len();
            let allowed = all.iter().enumerate().filter(|(at, _)| *at != forbidden);
            Class {
                mode: [Mode::Interactive, Mode::Lecture, Mode::Broadcast][n / all.len() % 3],
                residency: allowed.map(|(_, country)| *country).collect(),
            }
        };
        let more = (0..count.saturating_sub(1)).map(class);
        std::iter::once(Class::default()).chain(more).collect()
    }

    fn graph(&self, is_linked: impl Fn(usize, usize) -> bool) -> Graph {
        let nodes = self
            .sites
            .iter()
            .zip(&self.countries)
            .map(|(site, country)| {
                let country = Some(*country);
                (
                    site.id.clone(),
                    Node {
                        country,
                        ..Node::new(Role::Relay)
                    },
                )
            });
        let mut graph = Graph::new(nodes);
        for from in 0..self.len() {
            for to in (0..self.len()).filter(|to| *to != from && is_linked(from, *to)) {
                let metrics = &self.metrics[from * self.len() + to];
                graph.set_link(from, to, vec![Weight::new(Net::internet(), metrics)]);
            }
        }
        graph.settle();
        graph
    }

    /// A link of the graph.
    fn link(&self, graph: &Graph, dice: &mut Dice) -> (usize, usize) {
        loop {
            let (from, to) = (dice.below(self.len()), dice.below(self.len()));
            // What was cut may come back; what never was there may not.
            if from != to
                && (!graph.weights(from, to).is_empty() || !graph.weights(to, from).is_empty())
            {
                return (from, to);
            }
        }
    }

    /// In a tenth of the cases cut; else slower by up to 80 ms, or as it was.
    fn changed(&self, from: usize, to: usize, dice: &mut Dice) -> Vec<Weight> {
        let link = self.changed_link(from, to, dice);
        let weight = link
            .up
            .then(|| Weight::new(link.net.clone(), &link.metrics));
        weight.into_iter().collect()
    }

    fn changed_link(&self, from: usize, to: usize, dice: &mut Dice) -> Link {
        let mut metrics = self.metrics[from * self.len() + to];
        let fate = dice.below(10);
        if fate > 4 {
            metrics.raw_delay_us += dice.below(80_000) as i64;
        }
        Link {
            net: Net::internet(),
            up: fate > 0,
            metrics,
        }
    }

    /// What one relay reports, with one link as it is now.
    fn reports(&self, to: usize, changed: Option<(usize, Link)>) -> Vec<Report> {
        let others = (0..self.len()).filter(|from| *from != to);
        let report = |from: usize| Report {
            from: self.sites[from].id.clone(),
            link: match &changed {
                Some((at, link)) if *at == from => link.clone(),
                _ => Link {
                    net: Net::internet(),
                    up: true,
                    metrics: self.metrics[from * self.len() + to],
                },
            },
            rate_bps: 0,
        };
        others.map(report).collect()
    }

    fn members(&self) -> Vec<Member> {
        let members = self.sites.iter().zip(&self.countries);
        let member = |(site, country): (&Site, &[u8; 2])| Member {
            best: None,
            id: site.id.clone(),
            role: Role::Relay,
            has_session: true,
            country: Some(*country),
            region: site.region.clone(),
            lat: site.lat,
            lon: site.lon,
        };
        members.map(member).collect()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to draw links from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_mesh_is_computed_changed_and_told() {
        let figures = run(&Args {
            relays: 20,
            class_count: 3,
            rounds: 1,
            changes: 5,
            seed: 7,
        });
        assert_eq!(figures["links"], 380);
        assert_eq!(figures["change_ms"]["n"], 5);
        assert_eq!(figures["tables_change_ms"]["n"], 5);
        assert_eq!(figures["stretch"]["n"], 380);
        assert_eq!(figures["stretch"]["max"], 1.0, "20 relays are a full mesh");
    }
}
