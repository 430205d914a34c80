//! Who is where, and which links there can be.

use std::{collections::HashMap, time::Duration};

use longspan_lab::{matrix::Matrix, wan::Profile};
use longspan_proto::{
    ids::{NodeId, Region, Zone},
    wire::Role,
};

use crate::Dice;

/// Inside a region, between zones.
const ZONE_RTT: Duration = Duration::from_micros(1_500);
/// Relays an edge may ever be linked to: the nearest of them.
const REACH: usize = 6;

/// A node at its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its name.
    pub name: NodeId,
    /// What it is.
    pub role: Role,
    /// Where.
    pub region: Region,
    /// In which IDC.
    pub zone: Zone,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// A possible connection of two nodes.
#[derive(Debug, Clone)]
pub struct Link {
    /// One end.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// One way without jitter, from a and from b.
    pub delay: [Duration; 2],
    /// How each direction treats packets.
    pub profile: Profile,
}

/// Relays first, then edges.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// All nodes.
    pub nodes: Vec<Placed>,
    /// How many of them are relays.
    pub relays: usize,
    /// All links there can be.
    pub links: Vec<Link>,
    by_name: HashMap<NodeId, usize>,
}

impl Layout {
    /// Nodes without a place, links to be added: for scenarios told exactly.
    pub fn plain(relays: usize, edges: usize) -> Layout {
        let mut layout = Layout::default();
        for n in 0..relays + edges {
            let (kind, n) = match n < relays {
                true => ("relay", n),
                false => ("edge", n - relays),
            };
            let region = Region::new("plain").expect("a slug");
            let role = if kind == "relay" {
                Role::Relay
            } else {
                Role::Edge
            };
            let zone = Zone::new("plain").expect("a slug");
            layout.add(Placed {
                name: NodeId::new(&format!("{kind}-{n}")).expect("a slug"),
                role,
                region,
                zone,
                country: "XX".into(),
                lat: 0.0,
                lon: 0.0,
            });
        }
        layout
    }

    /// Relays and edges round-robin over the regions of the bundled matrix, relays of one region in
    /// zones of their own; a full mesh of relays, and from each edge the nearest ones. Every link
    /// draws how its round trip splits into two ways.
    pub fn world(relays: usize, edges: usize, profile: &Profile, dice: &mut Dice) -> Layout {
        let matrix = Matrix::bundled();
        let regions: Vec<_> = matrix.places().keys().cloned().collect();
        Layout::over(&matrix, &regions, relays, edges, profile, dice)
    }

    /// One relay and one edge in each of so many regions, drawn.
    pub fn drawn(regions: usize, profile: &Profile, dice: &mut Dice) -> Layout {
        let matrix = Matrix::bundled();
        let mut from: Vec<Region> = matrix.places().keys().cloned().collect();
        while from.len() > regions.max(1) {
            from.swap_remove(dice.below(from.len() as u64) as usize);
        }
        from.sort();
        Layout::over(&matrix, &from, from.len(), from.len(), profile, dice)
    }

    fn over(
        matrix: &Matrix,
        regions: &[Region],
        relays: usize,
        edges: usize,
        profile: &Profile,
        dice: &mut Dice,
    ) -> Layout {
        let regions: Vec<_> = regions.iter().map(|r| (r, &matrix.places()[r])).collect();
        let mut layout = Layout::default();
        for n in 0..relays + edges {
            let (role, n) = match n < relays {
                true => (Role::Relay, n),
                false => (Role::Edge, n - relays),
            };
            let (region, place) = regions[n % regions.len()];
            let kind = if role == Role::Relay { "relay" } else { "edge" };
            let nth = n / regions.len();
            layout.add(Placed {
                name: NodeId::new(&format!("{region}-{kind}-{nth}")).expect("a slug"),
                role,
                region: region.clone(),
                zone: Zone::new(&format!("{region}-{}", nth % 3)).expect("a slug"),
                country: place.country.clone(),
                lat: place.lat,
                lon: place.lon,
            });
        }
        let rtt = |a: &Placed, b: &Placed| match matrix.rtt(&a.region, &b.region) {
            Some(rtt) if !rtt.is_zero() => rtt,
            _ => ZONE_RTT,
        };
        for a in 0..relays {
            for b in a + 1..relays {
                let rtt = rtt(&layout.nodes[a], &layout.nodes[b]);
                layout.link(a, b, split(rtt, dice), profile.clone());
            }
        }
        for edge in relays..relays + edges {
            let place = &layout.nodes[edge];
            let mut near: Vec<(Duration, usize)> = (0..relays)
                .map(|relay| (rtt(place, &layout.nodes[relay]), relay))
                .collect();
            near.sort();
            for (rtt, relay) in near.into_iter().take(REACH) {
                layout.link(relay, edge, split(rtt, dice), profile.clone());
            }
        }
        layout
    }

    fn add(&mut self, node: Placed) {
        if node.role == Role::Relay {
            self.relays += 1;
        }
        self.by_name.insert(node.name.clone(), self.nodes.len());
        self.nodes.push(node);
    }

    /// One link more.
    pub fn link(&mut self, a: usize, b: usize, delay: [Duration; 2], profile: Profile) -> usize {
        self.links.push(Link {
            a,
            b,
            delay,
            profile,
        });
        self.links.len() - 1
    }

    /// Whether a node is an edge.
    pub fn is_edge(&self, node: usize) -> bool {
        node >= self.relays
    }

    /// The node of this name.
    pub fn find(&self, name: &NodeId) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The node of this name, which must be one.
    pub fn index(&self, name: &NodeId) -> usize {
        self.find(name).expect("a node of the layout")
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> &NodeId {
        &self.nodes[node].name
    }
}

/// 45 to 55 % one way, the rest the other.
fn split(rtt: Duration, dice: &mut Dice) -> [Duration; 2] {
    let there = rtt * (45 + dice.below(11) as u32) / 100;
    [there, rtt - there]
}
