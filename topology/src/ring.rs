//! The placement ring: which relays a room is at home on, and which placement group keeps its log.
//! Consistent hashing by the crate `hashring`, which has neither virtual nodes nor a stable hash of
//! its own choice: both are here.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use hashring::HashRing;
use longspan_proto::ids::{NodeId, RoomName, Zone};

/// Points of each relay (or group) on the ring: shares differ by about 1/√128 ≈ 9 %.
pub const VIRTUAL_NODES: u32 = 128;

/// A point of a relay or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    /// Its place in the list that the ring is over.
    place: usize,
    number: u32,
    name: Arc<[u8]>,
}

/// Hashed by explicit bytes, so that every controller of every version places alike.
impl std::hash::Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.name);
        state.write(&[0]);
        state.write(&self.number.to_be_bytes());
    }
}

struct Key<'a>(&'a RoomName);

impl std::hash::Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.tenant.as_bytes());
        state.write(&[0]);
        state.write(self.0.room.as_bytes());
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv §3), and a finaliser that spreads its weak upper bits
/// (the 64-bit mix of MurmurHash3). Not for hostile input; a tenant who picks room names to crowd
/// one relay crowds his own rooms.
#[derive(Clone, Copy, Default)]
struct Stable;

struct Fnv(u64);

impl BuildHasher for Stable {
    type Hasher = Fnv;
    fn build_hasher(&self) -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut h = self.0;
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }
}

/// The ring over a set of relays; made once when membership changes.
pub struct Ring {
    ring: HashRing<Point, Stable>,
    relays: Vec<(NodeId, Zone)>,
}

impl Ring {
    /// A ring over these relays, in whatever order they come.
    pub fn new(relays: impl IntoIterator<Item = (NodeId, Zone)>) -> Ring {
        let mut relays: Vec<(NodeId, Zone)> = relays.into_iter().collect();
        relays.sort();
        relays.dedup();
        let ring = points(relays.iter().map(|(name, _)| name.as_bytes().into()));
        Ring { ring, relays }
    }

    /// The room's relay; None on an empty ring.
    pub fn home(&self, room: &RoomName) -> Option<&NodeId> {
        self.ring
            .get(&Key(room))
            .map(|point| &self.relays[point.place].0)
    }

    /// Up to `count` relays for the room, the home first, each in another zone as long as there
    /// are zones, then in any.
    pub fn replicas(&self, room: &RoomName, count: usize) -> Vec<&NodeId> {
        let points = self.relays.len() * VIRTUAL_NODES as usize;
        let mut order: Vec<usize> = Vec::new();
        let mut seen = HashSet::new();
        let walk = self
            .ring
            .get_with_replicas(&Key(room), points.saturating_sub(1));
        for point in walk.into_iter().flatten() {
            if seen.insert(point.place) {
                order.push(point.place);
            }
        }
        let mut zones = HashSet::new();
        let (first, rest): (Vec<usize>, Vec<usize>) = order
            .into_iter()
            .partition(|&relay| zones.insert(&self.relays[relay].1));
        first
            .into_iter()
            .chain(rest)
            .take(count)
            .map(|relay| &self.relays[relay].0)
            .collect()
    }
}

/// The ring over a region's placement groups; made once when another is made.
pub struct GroupRing {
    ring: HashRing<Point, Stable>,
    groups: Vec<u64>,
}

impl GroupRing {
    /// A ring over these groups, in whatever order they come.
    pub fn new(groups: impl IntoIterator<Item = u64>) -> GroupRing {
        let mut groups: Vec<u64> = groups.into_iter().collect();
        groups.sort_unstable();
        groups.dedup();
        let names = groups.iter().map(|id| id.to_be_bytes()[..].into());
        let ring = points(names);
        GroupRing { ring, groups }
    }

    /// The room's group; None on an empty ring.
    pub fn group(&self, room: &RoomName) -> Option<u64> {
        self.ring
            .get(&Key(room))
            .map(|point| self.groups[point.place])
    }
}

fn points(names: impl Iterator<Item = Arc<[u8]>>) -> HashRing<Point, Stable> {
    let mut ring = HashRing::with_hasher(Stable);
    let points = names.enumerate().flat_map(|(place, name)| {
        (0..VIRTUAL_NODES).map(move |number| Point {
            place,
            number,
            name: name.clone(),
        })
    });
    ring.batch_add(points.collect());
    ring
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use longspan_proto::ids::{Room, Tenant};

    use super::*;

    fn room(n: usize) -> RoomName {
        RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new(&format!("room-{n}")).unwrap(),
        }
    }

    fn relays(n: usize) -> Vec<(NodeId, Zone)> {
        (0..n)
            .map(|i| {
                (
                    NodeId::new(&format!("relay-{i}")).unwrap(),
                    Zone::new(&format!("z{}", i % 3)).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn shares_are_even() {
        let ring = Ring::new(relays(6));
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for n in 0..6_000 {
            *counts.entry(ring.home(&room(n)).unwrap()).or_default() += 1;
        }
        for (relay, count) in counts {
            assert!((700..1_300).contains(&count), "{relay} has {count} of 6000");
        }
    }

    #[test]
    fn a_lost_relay_moves_its_own_rooms_only() {
        let (all, mut fewer) = (relays(6), relays(6));
        let lost = fewer.remove(2).0;
        let (before, after) = (Ring::new(all), Ring::new(fewer));
        for n in 0..1_000 {
            let was = before.home(&room(n)).unwrap();
            if *was != lost {
                assert_eq!(after.home(&room(n)), Some(was));
            }
        }
    }

    #[test]
    fn order_of_joining_does_not_matter_and_zones_differ() {
        let mut reversed = relays(6);
        reversed.reverse();
        let (a, b) = (Ring::new(relays(6)), Ring::new(reversed));
        for n in 0..200 {
            let three = a.replicas(&room(n), 3);
            assert_eq!(three, b.replicas(&room(n), 3));
            assert_eq!(Some(three[0]), a.home(&room(n)));
            let zones: HashSet<u8> = three.iter().map(|r| (r.as_bytes()[6] - b'0') % 3).collect();
            assert_eq!(zones.len(), 3, "{three:?}");
        }
    }

    #[test]
    fn few_relays_are_enough() {
        assert_eq!(Ring::new([]).home(&room(1)), None);
        assert!(Ring::new([]).replicas(&room(1), 3).is_empty());
        assert_eq!(Ring::new(relays(1)).replicas(&room(1), 3).len(), 1);
        assert_eq!(Ring::new(relays(4)).replicas(&room(1), 9).len(), 4);
    }

    /// Another hash would move every room of a running backbone.
    #[test]
    fn places_are_golden() {
        let ring = Ring::new(relays(6));
        let homes: Vec<&str> = (0..6)
            .map(|n| ring.home(&room(n)).unwrap().as_str())
            .collect();
        assert_eq!(
            homes,
            [
                "relay-5", "relay-5", "relay-5", "relay-5", "relay-3", "relay-4"
            ]
        );
    }

    #[test]
    fn groups_share_rooms_evenly_and_a_new_one_takes_only_its_share() {
        let before = GroupRing::new(1..=6);
        let after = GroupRing::new((1..=7).rev());
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for n in 0..6_000 {
            let group = before.group(&room(n)).unwrap();
            *counts.entry(group).or_default() += 1;
            let then = after.group(&room(n)).unwrap();
            assert!(then == group || then == 7, "{group} to {then}");
        }
        for (group, count) in counts {
            assert!((700..1_300).contains(&count), "{group} has {count} of 6000");
        }
        assert_eq!(GroupRing::new([]).group(&room(1)), None);
    }
}
