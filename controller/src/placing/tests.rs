use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::ids::{NodeId, Region};
use longspan_topology::graph::Country;
use proptest::prelude::*;

use super::*;
use crate::state::record::{Group, Member};

const ANYWHERE: &BTreeSet<Country> = &BTreeSet::new();

fn name(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn region(name: &str) -> Region {
    Region::new(name).unwrap()
}

/// `hk-a-1` is a relay in zone `a` of `hk`.
fn site(id: &str) -> Site {
    let parts: Vec<&str> = id.split('-').collect();
    let (lat, lon) = match parts[0] {
        "bj" => (40.0, 116.0),
        "hk" => (22.0, 114.0),
        "sg" => (1.0, 104.0),
        _ => (50.0, 8.0),
    };
    Site {
        id: name(id),
        region: region(parts[0]),
        zone: parts[1].parse().unwrap(),
        country: None,
        lat,
        lon,
        free: Some(7),
    }
}

fn made(sites: Vec<Site>, of: &str, count: usize) -> Vec<Vec<String>> {
    made_by(sites, of, count, |_, _| None)
}

fn made_by(
    sites: Vec<Site>,
    of: &str,
    count: usize,
    rtt: impl Fn(&NodeId, &NodeId) -> Option<u64>,
) -> Vec<Vec<String>> {
    let wanted = Wanted {
        region: &region(of),
        residency: ANYWHERE,
    };
    let backbone = Backbone::new(sites, rtt);
    let groups = make(&backbone, wanted, count, &mut Loads::new());
    let names = |group: Vec<(NodeId, u64)>| group.iter().map(|(n, _)| n.to_string()).collect();
    groups.into_iter().map(names).collect()
}

#[test]
fn the_region_s_zones_come_first_then_the_region_then_the_nearest() {
    let sites = |ids: &[&str]| ids.iter().map(|id| site(id)).collect::<Vec<_>>();
    let zones = sites(&["hk-a-1", "hk-a-2", "hk-b-1", "hk-c-1", "sg-a-1"]);
    assert_eq!(made(zones, "hk", 1), [["hk-a-1", "hk-b-1", "hk-c-1"]]);
    let one_zone = sites(&["hk-a-1", "hk-a-2", "hk-a-3", "sg-b-1"]);
    assert_eq!(made(one_zone, "hk", 1), [["hk-a-1", "hk-a-2", "hk-a-3"]]);
    // By the globe Beijing is nearer to Hong Kong than Singapore is.
    let thin = || sites(&["hk-a-1", "bj-a-1", "sg-a-1", "sg-b-1", "de-a-1"]);
    assert_eq!(made(thin(), "hk", 1), [["hk-a-1", "bj-a-1", "sg-a-1"]]);
    // It was measured otherwise.
    let measured =
        |a: &NodeId, b: &NodeId| (a.starts_with("hk") && b.starts_with("sg")).then_some(12_000_u64);
    let made = made_by(thin(), "hk", 1, measured);
    assert_eq!(made, [["hk-a-1", "sg-a-1", "sg-b-1"]]);
}

#[test]
fn as_many_as_there_are_and_none_that_may_not() {
    assert_eq!(made(Vec::new(), "hk", 4), Vec::<Vec<String>>::new());
    assert_eq!(made(vec![site("hk-a-1")], "hk", 1), [["hk-a-1"]]);
    let mut taken = vec![site("hk-a-1"), site("hk-b-1")];
    taken[0].free = None;
    assert_eq!(made(taken, "hk", 1), [["hk-b-1"]]);
    let mut sites = vec![site("hk-a-1"), site("hk-b-1"), site("sg-a-1")];
    sites[0].country = Some(*b"HK");
    sites[2].country = Some(*b"SG");
    let backbone = Backbone::new(sites, |_, _| None);
    let wanted = Wanted {
        region: &region("hk"),
        residency: &[*b"SG"].into(),
    };
    let groups = make(&backbone, wanted, 1, &mut Loads::new());
    assert_eq!(
        groups,
        [[(name("sg-a-1"), 7)]],
        "an unknown country is in no set"
    );
}

fn any_sites() -> impl Strategy<Value = Vec<Site>> {
    let one = (0..3_usize, 0..3_usize, 0..8_u32, any::<bool>(), 0..4_u32);
    proptest::collection::vec(one, 0..24).prop_map(|all| {
        let mut sites: BTreeMap<NodeId, Site> = BTreeMap::new();
        for (region, zone, number, free, _) in all {
            let id = format!(
                "{}-{}-{number}",
                ["bj", "hk", "sg"][region],
                ["a", "b", "c"][zone]
            );
            let mut site = site(&id);
            site.free = free.then_some(u64::from(number) + 1);
            sites.insert(site.id.clone(), site);
        }
        sites.into_values().collect()
    })
}

proptest! {
    #[test]
    fn what_is_made_is_of_free_relays_apart_and_even(sites in any_sites(), count in 1..20_usize) {
        let groups = made(sites.clone(), "hk", count);
        let free: Vec<&Site> = sites.iter().filter(|s| s.free.is_some()).collect();
        let here: Vec<&&Site> = free.iter().filter(|s| *s.region == *"hk").collect();
        let zones: BTreeSet<_> = here.iter().map(|s| &s.zone).collect();
        let size = free.len().min(MEMBERS);
        prop_assert_eq!(groups.len(), if size == 0 { 0 } else { count });
        let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
        for group in &groups {
            let members: BTreeSet<&str> = group.iter().map(|id| &**id).collect();
            prop_assert_eq!(members.len(), size, "{:?}", group);
            let of = |id: &str| free.iter().find(|s| *s.id == *id).copied();
            let chosen: Vec<&Site> = members.iter().filter_map(|id| of(id)).collect();
            prop_assert_eq!(chosen.len(), size, "all are free");
            let local: Vec<&&Site> = chosen.iter().filter(|s| *s.region == *"hk").collect();
            prop_assert_eq!(local.len(), here.len().min(MEMBERS), "its own region first");
            let theirs: BTreeSet<_> = local.iter().map(|s| &s.zone).collect();
            prop_assert_eq!(theirs.len(), zones.len().min(local.len()), "zones apart");
            for id in members {
                *loads.entry(id).or_default() += 1;
            }
        }
        // Where zones do not decide, all of the region have as many parts, give or take one.
        if zones.len() == 1 && here.len() >= MEMBERS {
            let parts: Vec<usize> =
                here.iter().map(|s| loads.get(&*s.id).copied().unwrap_or(0)).collect();
            let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", parts);
        }
        let mut turned = sites;
        turned.reverse();
        prop_assert_eq!(made(turned, "hk", count), groups, "the same in whatever order");
    }
}

/// What happens to the world of one group.
#[derive(Debug, Clone)]
enum Op {
    Die(usize),
    /// Comes back; with another disk, or with its own.
    Return(usize, bool),
    Drain(usize, bool),
    /// The leader learns of the newest record.
    Deliver,
    /// The group does what it can.
    Act,
    /// The controller hears of it.
    Hear,
    /// The controller looks.
    Look,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..6_usize).prop_map(Op::Die),
        3 => (0..6_usize, any::<bool>()).prop_map(|(r, b)| Op::Return(r, b)),
        1 => (0..6_usize, any::<bool>()).prop_map(|(r, b)| Op::Drain(r, b)),
        4 => Just(Op::Deliver),
        6 => Just(Op::Act),
        4 => Just(Op::Hear),
        6 => Just(Op::Look),
    ]
}

#[derive(Debug, Clone)]
struct Relay {
    up: bool,
    disk: u64,
    draining: bool,
}

/// A group that carries out what it is told as `relay/src/roomlog/group` does, with relays that come
/// and go, and the controller that looks after it.
struct World {
    relays: BTreeMap<NodeId, Relay>,
    record: Group,
    /// Every member there ever was.
    ever: BTreeMap<u64, Member>,
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    wanted: Vec<u64>,
    heard: Option<Report>,
    disks: u64,
}

const RELAYS: [&str; 6] = ["hk-a-1", "hk-a-2", "hk-b-1", "hk-c-1", "sg-a-1", "bj-a-1"];

impl World {
    fn new() -> World {
        let relay = |n: usize| Relay {
            up: true,
            disk: n as u64 + 1,
            draining: false,
        };
        let names = RELAYS.iter().enumerate();
        let members: Vec<Member> = [0, 2, 3]
            .into_iter()
            .zip(1..)
            .map(|(relay, number)| Member {
                number,
                node: name(RELAYS[relay]),
                disk: relay as u64 + 1,
            })
            .collect();
        World {
            relays: names.map(|(n, id)| (name(id), relay(n))).collect(),
            ever: members.iter().map(|m| (m.number, m.clone())).collect(),
            record: Group {
                region: region("hk"),
                era: 1,
                revision: 1,
                members,
                born: vec![1, 2, 3],
                leaving: Vec::new(),
                next: 4,
            },
            voters: [1, 2, 3].into(),
            learners: BTreeSet::new(),
            wanted: vec![1, 2, 3],
            heard: None,
            disks: 100,
        }
    }

    fn is_alive(&self, number: u64) -> bool {
        let member = &self.ever[&number];
        let relay = &self.relays[&member.node];
        relay.up && relay.disk == member.disk
    }

    fn has_quorum(&self) -> bool {
        let alive = self.voters.iter().filter(|n| self.is_alive(**n));
        alive.count() * 2 > self.voters.len()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Die(relay) => self.relay(relay).up = false,
            Op::Return(at, same) => {
                self.disks += 1;
                let disk = self.disks;
                let relay = self.relay(at);
                if !relay.up {
                    relay.up = true;
                    relay.disk = if same { relay.disk } else { disk };
                }
            }
            Op::Drain(relay, draining) => self.relay(relay).draining = draining,
            Op::Deliver => self.wanted = self.record.members.iter().map(|m| m.number).collect(),
            Op::Act => self.act(),
            Op::Hear => self.hear(),
            Op::Look => self.look(),
        }
    }

    fn relay(&mut self, at: usize) -> &mut Relay {
        self.relays.get_mut(&name(RELAYS[at])).unwrap()
    }

    /// One change of the membership.
    fn act(&mut self) {
        if !self.has_quorum() {
            return;
        }
        let is_wanted = |n: &u64| self.wanted.contains(n);
        if let Some(learner) = self.learners.iter().find(|n| !is_wanted(n)).copied() {
            self.learners.remove(&learner);
            return;
        }
        let belongs = |n: &&u64| self.voters.contains(n) || self.learners.contains(n);
        if let Some(new) = self.wanted.iter().find(|n| !belongs(n)).copied() {
            self.learners.insert(new);
            return;
        }
        let spare = self.voters.iter().find(|n| !is_wanted(n)).copied();
        let ready = self.learners.iter().find(|n| self.is_alive(**n)).copied();
        match (ready, spare) {
            (Some(new), _) => {
                self.learners.remove(&new);
                self.voters.insert(new);
            }
            (None, Some(spare)) if self.learners.is_empty() => {
                // It does not leave itself without a quorum.
                let rest = self.voters.iter().filter(|n| **n != spare);
                if rest.filter(|n| self.is_alive(**n)).count() * 2 < self.voters.len() {
                    return;
                }
            }
            _ => return,
        }
        if let Some(spare) = spare {
            self.voters.remove(&spare);
        }
    }

    fn hear(&mut self) {
        let leader = self.voters.iter().find(|n| self.is_alive(**n)).copied();
        self.heard = leader.filter(|_| self.has_quorum()).map(|leader| Report {
            leader,
            voters: self.voters.clone(),
            learners: self.learners.clone(),
        });
    }

    fn look(&mut self) {
        let standing = |member: &Member| {
            let relay = &self.relays[&member.node];
            match relay {
                Relay { up: false, .. } => Standing::Gone,
                relay if relay.disk != member.disk => Standing::OtherDisk,
                Relay { draining: true, .. } => Standing::Draining,
                _ => Standing::Here,
            }
        };
        let sites = self
            .relays
            .iter()
            .filter(|(_, relay)| relay.up)
            .map(|(id, relay)| Site {
                free: Some(relay.disk).filter(|_| !relay.draining),
                ..site(id)
            });
        let backbone = Backbone::new(sites, |_, _| None);
        let facts = Facts {
            group: &self.record,
            standing: &standing,
            report: self.heard.as_ref(),
            backbone: &backbone,
            loads: &Loads::new(),
        };
        let wanted = Wanted {
            region: &region("hk"),
            residency: ANYWHERE,
        };
        let Step::Change(after, why) = next(&facts, wanted) else {
            return;
        };
        let before = &self.record;
        let reports = self
            .heard
            .as_ref()
            .expect("nothing is changed without a leader");
        assert_eq!(after.revision, before.revision + 1, "{why}");
        assert!(
            (1..=MEMBERS).contains(&after.members.len()),
            "{why}: {after:?}"
        );
        let new: Vec<&Member> = after
            .all()
            .filter(|m| !before.all().any(|b| b == *m))
            .collect();
        assert!(new.len() <= 1, "{why}");
        for member in new {
            assert!(
                !self.ever.contains_key(&member.number),
                "{why}: {member:?} was there"
            );
            let relay = &self.relays[&member.node];
            assert!(
                relay.up && !relay.draining && relay.disk == member.disk,
                "{why}"
            );
        }
        let nodes: BTreeSet<&NodeId> = after.members.iter().map(|m| &m.node).collect();
        assert_eq!(
            nodes.len(),
            after.members.len(),
            "no relay twice: {after:?}"
        );
        // Of those who vote now one at most is on his way out that way.
        let outgoing = after
            .leaving
            .iter()
            .filter(|m| reports.voters.contains(&m.number));
        assert!(outgoing.count() <= 1, "{why}: {after:?}, {reports:?}");
        // Nobody is lost sight of who may still have a vote.
        let all: BTreeSet<u64> = after.all().map(|m| m.number).collect();
        let lost = before.all().find(|m| !all.contains(&m.number));
        assert!(lost.is_none_or(|m| !reports.has(m.number)), "{why}");
        self.ever
            .extend(after.members.iter().map(|m| (m.number, m.clone())));
        self.record = *after;
    }

    /// Everybody hears everything, again and again.
    fn calm(&mut self) {
        for _ in 0..60 {
            for op in [Op::Deliver, Op::Act, Op::Hear, Op::Look] {
                self.apply(&op);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens, and in whatever order it is heard: no change costs the group its quorum, and
    /// when all is calm and relays are enough, three members that live vote and nobody is left over.
    #[test]
    fn a_group_is_mended_and_never_broken(ops in proptest::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        for op in &ops {
            let before = world.has_quorum();
            world.apply(op);
            if matches!(op, Op::Act | Op::Look | Op::Hear | Op::Deliver) {
                prop_assert!(!before || world.has_quorum(), "{:?} broke {:?}", op, world.record);
            }
        }
        if world.has_quorum() {
            for relay in 0..RELAYS.len() {
                world.apply(&Op::Return(relay, true));
                world.apply(&Op::Drain(relay, relay == 1));
            }
            world.calm();
            let record = &world.record;
            let members: BTreeSet<u64> = record.members.iter().map(|m| m.number).collect();
            prop_assert_eq!(&world.voters, &members, "{:?}", record);
            prop_assert!(world.voters.iter().all(|n| world.is_alive(*n)));
            prop_assert_eq!(members.len(), MEMBERS);
            prop_assert!(record.leaving.is_empty() && world.learners.is_empty());
            prop_assert!(record.members.iter().all(|m| m.node != name(RELAYS[1])), "it drains");
        }
    }
}
