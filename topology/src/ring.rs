//! The placement ring: which placement group keeps a room's log.
//! Consistent hashing by the crate `hashring`, which has neither virtual nodes nor a stable hash of
//! its own choice: both are here.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use hashring::HashRing;
use longspan_proto::ids::RoomName;

/// Points of each group on the ring: shares differ by about 1/√128 ≈ 9 %.
pub const VIRTUAL_NODES: u32 = 128;

/// A point of a group.
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
/// one group crowds his own rooms.
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

/// The ring over a region's placement groups; made once when another is made.
pub struct Ring {
    ring: HashRing<Point, Stable>,
    groups: Vec<u64>,
}

impl Ring {
    /// A ring over these groups, in whatever order they come.
    pub fn new(groups: impl IntoIterator<Item = u64>) -> Ring {
        let mut groups: Vec<u64> = groups.into_iter().collect();
        groups.sort_unstable();
        groups.dedup();
        let names = groups.iter().map(|id| id.to_be_bytes()[..].into());
        let ring = points(names);
        Ring { ring, groups }
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

    /// Another hash would move every room of a running backbone.
    #[test]
    fn places_are_golden() {
        let ring = Ring::new(1..=6);
        let places: Vec<u64> = (0..6).map(|n| ring.group(&room(n)).unwrap()).collect();
        assert_eq!(places, [6, 6, 3, 2, 2, 6]);
    }

    #[test]
    fn groups_share_rooms_evenly_and_a_new_one_takes_only_its_share() {
        let before = Ring::new(1..=6);
        let after = Ring::new((1..=7).rev());
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
        assert_eq!(Ring::new([]).group(&room(1)), None);
    }
}
