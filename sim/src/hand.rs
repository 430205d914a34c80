//! Route tables made by hand, by somebody who sees everything.

use std::{collections::BTreeMap, sync::Arc};

use longspan_proto::ids::Net;
use longspan_relay::forward::Input;
use longspan_topology::{
    paths::MAX_INTERMEDIATES,
    routes::{Hop, Path, Routes, Version},
};

use crate::{Layout, World};

impl World {
    /// Tells every node its table. `weight(node, link)` in percent falsifies its view.
    pub fn tables(&mut self, weight: &dyn Fn(usize, usize) -> u64) {
        self.table_n += 1;
        for node in 0..self.nodes.len() {
            self.table_of(node, &|link| weight(node, link));
        }
    }

    /// Tells every node its table, in which the links from these senders to these receivers are full.
    pub fn tables_with_full(&mut self, full: &[(usize, usize)]) {
        let named = |node: usize| self.layout.name(node).clone();
        self.full = full.iter().map(|(a, b)| (named(*a), named(*b))).collect();
        self.tables(&|_, _| 100);
    }

    /// Tells one node its table.
    pub fn table_of(&mut self, node: usize, weight: &dyn Fn(usize) -> u64) {
        if !self.alive(node) {
            return;
        }
        let routes = Arc::new(routes(self, node, weight));
        self.nodes[node].ways = routes.clone();
        self.drifts_begin(node);
        self.input(node, Input::Routes(routes));
    }
}

/// The best paths of `from` to every relay, at most two, over links that are open and nodes that
/// are alive.
fn routes(world: &World, from: usize, weight: &dyn Fn(usize) -> u64) -> Routes {
    let layout = &world.layout;
    let mut found: BTreeMap<usize, Vec<(u64, Vec<usize>)>> = BTreeMap::new();
    let mut stack = vec![(0u64, Vec::<usize>::new())];
    while let Some((cost, path)) = stack.pop() {
        let last = path.last().copied().unwrap_or(from);
        for next in (0..layout.relays).filter(|n| world.alive(*n)) {
            if next == from || path.contains(&next) {
                continue;
            }
            let Some(link) = world.link_of(last, next).filter(|l| world.is_open(*l)) else {
                continue;
            };
            let side = usize::from(layout.links[link].a != last);
            let delay = layout.links[link].delay[side].as_micros() as u64;
            let mut way = path.clone();
            way.push(next);
            let cost = cost + delay * weight(link) / 100 + 500;
            found.entry(next).or_default().push((cost, way.clone()));
            let between = way.len() - usize::from(layout.is_edge(from));
            if between <= MAX_INTERMEDIATES {
                stack.push((cost, way));
            }
        }
    }
    let mut paths = BTreeMap::new();
    for (to, mut ways) in found {
        ways.sort();
        let best = ways[0].clone();
        // The backup begins elsewhere, if it can.
        let other = ways.iter().find(|(_, way)| way[0] != best.1[0]).cloned();
        let ways = std::iter::once(best).chain(other);
        let paths_to = ways.map(|(cost_us, way)| Path {
            hops: way.into_iter().map(|node| hop(layout, node)).collect(),
            cost_us,
        });
        paths.insert(layout.name(to).clone(), paths_to.collect());
    }
    let attached = (layout.relays..layout.nodes.len()).map(|edge| {
        let links = world.links_of[edge].iter().filter(|l| world.is_open(**l));
        let relays = links.map(|l| layout.links[*l].a + layout.links[*l].b - edge);
        let relays = relays.filter(|r| world.alive(*r));
        (
            layout.name(edge).clone(),
            relays.map(|relay| layout.name(relay).clone()).collect(),
        )
    });
    Routes {
        version: Version {
            era: 0,
            election: 0,
            n: world.table_n,
        },
        neighbours: Vec::new(),
        paths,
        full: world.full.clone(),
        attached: attached.collect(),
        ..Routes::default()
    }
}

fn hop(layout: &Layout, node: usize) -> Hop {
    Hop {
        node: layout.name(node).clone(),
        net: Net::internet(),
    }
}
