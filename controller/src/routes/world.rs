//! The graph as it is now: out of who is there, what was reported, and what operators ask for.
//!
//! Links here are named as they are reported and as operators name them: from the sender to the
//! receiver of frames. In the graph they are steps of paths, which lead the other way
//! ([`Graph::set_link`]).

use std::collections::BTreeSet;

use longspan_proto::{
    ids::{Net, NodeId},
    wire::Role,
};
use longspan_topology::{
    cost::STANDBY_US,
    graph::{Graph, Node, Transit, Weight},
    neighbours::{self, FULL_MESH, Site},
    routes::Path,
};

use super::{
    Capacities, LinkView, Member, NodeOverride, Overrides, Report, Table, chosen::Chosen,
    links::Links, table,
};

/// See the module.
#[derive(Clone, Default)]
pub(super) struct World {
    pub links: Links,
    pub overrides: Overrides,
    pub capacities: Capacities,
    pub graph: Graph,
    /// By their numbers in the graph.
    members: Vec<Member>,
    /// Of each relay, by number; empty while all are neighbours of all.
    neighbours: Vec<Vec<usize>>,
    /// Pairs of relays that are neighbours in any case.
    fellows: BTreeSet<(NodeId, NodeId)>,
    /// Others than at the last choice of neighbours.
    new_fellows: bool,
    /// Full links (sender, receiver) that are in the graph.
    full: BTreeSet<(NodeId, NodeId)>,
    rebuilt: bool,
}

/// What a computation is to take in.
pub(super) struct Changes {
    /// Steps whose links changed, by numbers, without repetition.
    pub steps: Vec<(usize, usize)>,
    /// Tables may differ where paths look the same: other nodes, other nets between two of them, or
    /// a link filled up or emptied.
    pub is_other: bool,
}

impl World {
    pub fn report(&mut self, to: &NodeId, reports: &[Report]) -> bool {
        let mut links = std::mem::take(&mut self.links);
        let changed = links.report(to, reports, |from, net| self.capacity(from, to, net));
        self.links = links;
        changed
    }

    /// All links, in order.
    pub fn view(&self) -> Vec<LinkView> {
        self.links
            .view(|from, to, net| self.capacity(from, to, net))
    }

    /// What a link carries, in bit/s: as an operator says, else as configured.
    fn capacity(&self, from: &NodeId, to: &NodeId, net: &Net) -> u64 {
        let asked = self.overrides.link(from, to, net).capacity_bps;
        asked.unwrap_or_else(|| {
            let member = |node| self.members.get(self.graph.number(node)?);
            let regions = [from, to].map(|node| member(node).map(|member| &member.region));
            self.capacities.of(from, to, net, regions)
        })
    }

    /// Whether that changes anything.
    pub fn set_overrides(&mut self, overrides: Overrides) -> bool {
        if self.overrides == overrides {
            return false;
        }
        if self.overrides.links != overrides.links {
            self.links.touch_all();
        }
        self.overrides = overrides;
        true
    }

    pub fn forget(&mut self, node: &NodeId) {
        self.links.forget(node);
    }

    /// Takes in who is there. Gives the graph of before if it is another one now.
    pub fn set_members(&mut self, members: &[Member]) -> Option<Graph> {
        let node = |member: &Member| Node {
            role: member.role,
            country: member.country,
            transit: match self.overrides.nodes.get(&member.id) {
                None => Transit::Open,
                Some(NodeOverride::Draining) => Transit::Draining,
                Some(NodeOverride::Cordoned) => Transit::Closed,
            },
        };
        let is_same = members.len() == self.members.len()
            && members.iter().all(|member| {
                let number = self.graph.number(&member.id);
                number.is_some_and(|number| {
                    self.members[number].is_same_place(member)
                        && *self.graph.node(number) == node(member)
                })
            });
        if is_same {
            for member in members {
                let number = self.graph.number(&member.id);
                let known = number.and_then(|number| self.members.get_mut(number));
                if let Some(known) = known
                    && (known.has_session, &known.best) != (member.has_session, &member.best)
                {
                    known.has_session = member.has_session;
                    known.best.clone_from(&member.best);
                    self.links.touch_all_of(&member.id);
                }
            }
            return None;
        }
        let nodes = members
            .iter()
            .map(|member| (member.id.clone(), node(member)));
        let graph = Graph::new(nodes);
        let mut sorted: Vec<Member> = members.to_vec();
        sorted.retain(|member| graph.number(&member.id).is_some());
        sorted.sort_by_key(|member| graph.number(&member.id));
        sorted.dedup_by(|a, b| a.id == b.id);
        self.members = sorted;
        self.links.touch_all();
        self.rebuilt = true;
        Some(std::mem::replace(&mut self.graph, graph))
    }

    /// Whether that changes anything.
    pub fn set_fellows(&mut self, fellows: BTreeSet<(NodeId, NodeId)>) -> bool {
        let changed = self.fellows != fellows;
        self.fellows = fellows;
        self.new_fellows |= changed;
        changed
    }

    /// Whether neighbours are to be chosen anew because of them.
    pub fn has_new_fellows(&self) -> bool {
        self.new_fellows
    }

    /// Chooses who is connected to whom, after the members changed (then `used` are steps in use by
    /// the numbers of the graph of `before`), or their fellows.
    pub fn set_neighbours(&mut self, before: Option<&Graph>, used: &BTreeSet<(usize, usize)>) {
        let chosen = std::mem::take(&mut self.neighbours);
        self.new_fellows = false;
        let relays = self.graph.relays();
        if relays <= FULL_MESH {
            return;
        }
        let sites = self.members[..relays].iter().map(|member| Site {
            id: member.id.clone(),
            region: member.region.clone(),
            lat: member.lat,
            lon: member.lon,
        });
        let now = |number: usize| {
            let number = match before {
                Some(before) => self.graph.number(before.names().get(number)?)?,
                None => number,
            };
            (number < relays).then_some(number)
        };
        let used = used.iter().filter_map(|&(a, b)| Some((now(a)?, now(b)?)));
        self.neighbours = neighbours::choose(&sites.collect::<Vec<_>>(), used);
        let number = |node| self.graph.number(node).filter(|number| *number < relays);
        for (a, b) in &self.fellows {
            let (Some(a), Some(b)) = (number(a), number(b)) else {
                continue;
            };
            for (of, other) in [(a, b), (b, a)] {
                let set = &mut self.neighbours[of];
                if let Err(place) = set.binary_search(&other) {
                    set.insert(place, other);
                }
            }
        }
        if before.is_none() && self.neighbours != chosen {
            self.links.touch_all();
            self.rebuilt = true;
        }
    }

    /// Whom a node shall be connected to.
    fn neighbours_of(&self, node: usize) -> Vec<NodeId> {
        let names = self.graph.names();
        let relays = self.graph.relays();
        // An edge chooses its relays itself, by the directory and by what answers.
        if node >= relays {
            return Vec::new();
        }
        match self.neighbours.get(node) {
            Some(set) => set.iter().map(|other| names[*other].clone()).collect(),
            None => {
                let others = (0..relays).filter(|other| *other != node);
                others.map(|other| names[other].clone()).collect()
            }
        }
    }

    /// Whether a node may pull from a relay. Edges choose theirs themselves.
    fn are_neighbours(&self, node: usize, relay: usize) -> bool {
        let set = self.neighbours.get(node);
        set.is_none_or(|set| set.binary_search(&relay).is_ok())
    }

    /// Weighs anew what changed, and puts it into the graph.
    pub fn weigh(&mut self) -> Changes {
        let mut changes = Changes {
            steps: Vec::new(),
            is_other: std::mem::take(&mut self.rebuilt),
        };
        for (from, to) in self.links.take_changed() {
            let number = |node| self.graph.number(node);
            let (Some(sender), Some(receiver)) = (number(&from), number(&to)) else {
                continue;
            };
            if sender >= self.graph.relays() {
                continue;
            }
            let has_session = |node: &NodeId| {
                let number = self.graph.number(node);
                number.is_some_and(|number| self.members[number].has_session)
            };
            let mut weights = self.links.weigh(&from, &to, has_session, &self.overrides);
            if !self.are_neighbours(receiver, sender) {
                weights.clear();
            }
            let member = self.members.get(receiver);
            let best = member.and_then(|member| member.best.as_ref());
            if best.is_some_and(|best| *best != from) {
                for weight in &mut weights {
                    weight.cost_us = weight.cost_us.saturating_add(STANDBY_US.into());
                }
            }
            changes.is_other |= match weights.iter().any(|weight| weight.full) {
                true => self.full.insert((from, to)),
                false => !self.full.is_empty() && self.full.remove(&(from, to)),
            };
            let known = self.graph.weights(receiver, sender);
            let nets = |weights: &[Weight]| -> BTreeSet<Net> {
                weights.iter().map(|weight| weight.net.clone()).collect()
            };
            changes.is_other |= known.len().max(weights.len()) > 1 && nets(known) != nets(&weights);
            if self.graph.set_link(sender, receiver, weights) {
                changes.steps.push((receiver, sender));
            }
        }
        self.graph.settle();
        changes
    }

    /// The table a node should have, with the paths of every class.
    pub fn table(&self, node: usize, classes: &[Chosen]) -> Table {
        let mut classes = classes
            .iter()
            .map(|chosen| paths(&self.graph, node, chosen));
        let mut table = Table {
            neighbours: self.neighbours_of(node),
            paths: classes.next().unwrap_or_default(),
            classes: (1..).zip(classes).collect(),
            full: BTreeSet::new(),
        };
        table.full = self.full_among(&self.graph.names()[node], &table);
        table
    }

    /// The full links on the paths of a node's table, (sender, receiver) each.
    fn full_among(&self, me: &NodeId, table: &Table) -> BTreeSet<(NodeId, NodeId)> {
        let mut found = BTreeSet::new();
        if self.full.is_empty() {
            return found;
        }
        let classes = std::iter::once(&table.paths).chain(table.classes.values());
        for path in classes.flat_map(|paths| paths.values().flatten()) {
            let pulling = std::iter::once(me).chain(path.hops.iter().map(|hop| &hop.node));
            for (receiver, hop) in pulling.zip(&path.hops) {
                let link = (hop.node.clone(), receiver.clone());
                if self.full.contains(&link) {
                    found.insert(link);
                }
            }
        }
        found
    }

    /// Whether a node is known to be an edge.
    pub fn is_edge(&self, node: &NodeId) -> bool {
        let number = self.graph.number(node);
        let member = number.and_then(|number| self.members.get(number));
        member.is_some_and(|member| member.role == Role::Edge)
    }
}

/// What a node is told of one class.
fn paths(graph: &Graph, from: usize, chosen: &Chosen) -> table::Paths {
    let told = chosen.row(graph, from).iter().enumerate();
    let told = told.filter_map(|(to, told)| {
        let ways = told.ways.iter().flatten();
        let paths: Vec<Path> = ways
            .map(|(way, cost_us)| way.path(graph, from, to, *cost_us))
            .collect();
        (!paths.is_empty()).then(|| (graph.names()[to].clone(), paths))
    });
    told.collect()
}
