//! Worlds as text, and what is found in them.

use longspan_proto::{
    ids::{Net, NodeId},
    wire::Role,
};

use super::*;
use crate::{
    cost,
    graph::{Metrics, Node, Transit, Weight},
    policy::Mode,
};

/// A link in the direction of frames. Delays without clocks.
#[derive(Debug, Clone)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub net: String,
    pub raw_us: i64,
    pub rtt_us: u64,
    pub jitter_us: u64,
    pub loss: f64,
    pub price: u32,
    pub full: bool,
    pub cordoned: bool,
}

#[derive(Debug, Clone, Default)]
pub struct World {
    /// Relays by name, then edges by name.
    pub nodes: Vec<(String, Node)>,
    pub links: Vec<Edge>,
    /// What each node's clock is ahead.
    pub ahead_us: Vec<i64>,
    pub class: Class,
}

impl World {
    /// Line by line:
    ///
    /// * `a-b 20`: 20 ms either way; `a-b 20/30`: frames take 20 ms from a to b, 30 ms back; `a>b 20`:
    ///   only from a to b. Then words: `net=NAME`, `jitter=MS`, `price=N`, `full`, `cordoned`, `down`.
    /// * `node c SG draining`: a country, `draining` or `cordoned`.
    /// * `class lecture CN HK`: the mode and the countries that may be crossed.
    ///
    /// Names that begin with `e-` are edges.
    pub fn parse(text: &str) -> World {
        let mut world = World::default();
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut names: Vec<&str> = Vec::new();
        for line in lines().filter(|l| !l.starts_with("class ") && !l.starts_with('#')) {
            let line = line.strip_prefix("node ");
            match line {
                Some(line) => names.extend(line.split(' ').next()),
                None => continue,
            }
        }
        for line in lines().filter(|l| is_link(l)) {
            names.extend(<[&str; 2]>::from(ends(line).0));
        }
        names.sort_by_key(|name| (name.starts_with("e-"), *name));
        names.dedup();
        for name in names {
            let role = match name.starts_with("e-") {
                true => Role::Edge,
                false => Role::Relay,
            };
            world.nodes.push((name.to_owned(), Node::new(role)));
        }
        world.ahead_us = vec![0; world.nodes.len()];
        for line in lines() {
            world.line(line);
        }
        world
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "#" => {}
            "node" => {
                let at = self.number(words[1]);
                for word in &words[2..] {
                    let node = &mut self.nodes[at].1;
                    match *word {
                        "draining" => node.transit = Transit::Draining,
                        "cordoned" => node.transit = Transit::Closed,
                        country => node.country = Some(country.as_bytes().try_into().unwrap()),
                    }
                }
            }
            "class" => {
                self.class.mode = match words[1] {
                    "interactive" => Mode::Interactive,
                    "lecture" => Mode::Lecture,
                    "broadcast" => Mode::Broadcast,
                    mode => panic!("{mode}"),
                };
                let countries = words[2..].iter().map(|c| c.as_bytes().try_into().unwrap());
                self.class.residency = countries.collect();
            }
            _ => self.link(line, &words),
        }
    }

    fn link(&mut self, line: &str, words: &[&str]) {
        let ((from, to), both) = ends(line);
        let (from, to) = (self.number(from), self.number(to));
        if words.contains(&"down") {
            return;
        }
        let us = |ms: &str| (ms.parse::<f64>().unwrap() * 1_000.0) as i64;
        let (forth, back) = match words[1].split_once('/') {
            Some((forth, back)) => (us(forth), us(back)),
            None => (us(words[1]), us(words[1])),
        };
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let link = Edge {
            from,
            to,
            net: value("net=").unwrap_or("internet").to_owned(),
            raw_us: forth,
            rtt_us: (forth + back) as u64,
            jitter_us: value("jitter=").map_or(0, |ms| us(ms) as u64),
            loss: 0.0,
            price: value("price=").map_or(0, |price| price.parse().unwrap()),
            full: words.contains(&"full"),
            cordoned: words.contains(&"cordoned"),
        };
        if both {
            let (from, to) = (to, from);
            let raw_us = back;
            self.links.push(Edge {
                from,
                to,
                raw_us,
                ..link.clone()
            });
        }
        self.links.push(link);
    }

    pub fn number(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name} is not in the world"))
    }

    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|(name, _)| name.clone()).collect()
    }

    pub fn weight(&self, link: &Edge) -> Weight {
        let ahead = self.ahead_us[link.to] - self.ahead_us[link.from];
        let metrics = Metrics {
            raw_delay_us: link.raw_us.saturating_add(ahead),
            rtt_us: link.rtt_us,
            jitter_p95_us: link.jitter_us,
            loss: link.loss,
        };
        Weight {
            price: link.price,
            full: link.full,
            cordoned: link.cordoned,
            ..Weight::new(Net::new(&link.net).unwrap(), &metrics)
        }
    }

    /// What a path over these links costs without clocks.
    pub fn cost_us<'a>(&self, links: impl Iterator<Item = &'a Edge>) -> i64 {
        let (mut sum, mut squares) = (0, 0);
        for link in links {
            sum += link.raw_us + cost::HOP_US;
            squares += link.jitter_us.pow(2);
        }
        sum + squares.isqrt() as i64
    }

    /// Of the links from one node to another.
    pub fn weights(&self, from: usize, to: usize) -> Vec<Weight> {
        let links = self.links.iter().filter(|l| (l.from, l.to) == (from, to));
        links.map(|link| self.weight(link)).collect()
    }

    pub fn graph(&self) -> Graph {
        let nodes = self.nodes.iter();
        let mut graph = Graph::new(nodes.map(|(name, node)| (NodeId::new(name).unwrap(), *node)));
        for from in 0..graph.relays() {
            for to in 0..self.nodes.len() {
                graph.set_link(from, to, self.weights(from, to));
            }
        }
        graph.settle();
        graph
    }

    /// The best path and the backup of what `from` pulls from `to`, as nodes with both ends.
    pub fn paths(&self, from: &str, to: &str) -> Vec<Vec<String>> {
        let (a, b) = (self.number(from), self.number(to));
        let graph = self.graph();
        let paths = Paths::new(&graph, &self.class);
        let pair = paths.pair(a, b);
        let found = [pair.best, pair.backup].into_iter().filter(Way::is_some);
        found.map(|way| self.nodes_of(&way, a, b)).collect()
    }

    fn nodes_of(&self, way: &Way, from: usize, to: usize) -> Vec<String> {
        let links = way.links(from, to).map(|(_, to, _)| to);
        let nodes = std::iter::once(from).chain(links);
        nodes.map(|node| self.nodes[node].0.clone()).collect()
    }

    /// `a b d 20.5 | a d 50.5`: the best path and the backup, with the costs told in ms. A net other
    /// than the internet stands before the node it leads to.
    pub fn told(&self, from: &str, to: &str) -> String {
        let (a, b) = (self.number(from), self.number(to));
        let graph = self.graph();
        let paths = Paths::new(&graph, &self.class);
        let pair = paths.pair(a, b);
        let found = [pair.best, pair.backup].into_iter().filter(Way::is_some);
        let shown = found.map(|way| {
            let path = way.path(&graph, a, b, pair.told_us(&way));
            let hops = path.hops.iter().map(|hop| match hop.net.as_str() {
                "internet" => hop.node.to_string(),
                net => format!("{net}:{}", hop.node),
            });
            let nodes: Vec<String> = std::iter::once(from.to_owned()).chain(hops).collect();
            format!("{} {}", nodes.join(" "), path.cost_us as f64 / 1_000.0)
        });
        let shown: Vec<String> = shown.collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(" | ")
        }
    }
}

fn is_link(line: &str) -> bool {
    !["class ", "node ", "#"]
        .iter()
        .any(|word| line.starts_with(word))
}

/// `a-b …`: its ends, and whether it leads both ways.
fn ends(line: &str) -> ((&str, &str), bool) {
    let word = line.split(' ').next().unwrap();
    match word.split_once('>') {
        Some(ends) => (ends, false),
        // An edge's own dash is not the link's.
        None => (
            word.rsplit_once('-').unwrap_or_else(|| panic!("{line}")),
            true,
        ),
    }
}
