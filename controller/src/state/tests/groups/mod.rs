//! Placement groups: made, told, mended, and kept over a change of controllers and a lost store.

mod kept;
mod made;
mod mended;

use std::collections::BTreeSet;

use super::*;
use crate::state::record::{GroupId, Wish};

/// The most that a group keeps of a room.
pub const MOST: Kept = Kept {
    messages: 1_024,
    bytes: 2 << 20,
    age_ms: 86_400_000,
};
/// A relay that joins with a disk, and what it is told.
pub fn keeper(id: &str, boot: u64, disk: u64) -> Join {
    let mut join = join(id, boot, 0);
    let zone = id.rsplit('-').next().unwrap();
    join.node.zone = format!("z{zone}").parse().unwrap();
    join.disk = disk;
    join
}

/// Three relays in Hong Kong, in three zones, with disks 1 to 3, and an edge there.
pub fn hong_kong() -> (World, [Conn; 3], Conn) {
    let mut world = World::new();
    let relays = [1, 2, 3].map(|n| world.join_with(0, keeper(&format!("hk-relay-{n}"), 1, n)));
    let edge = world.join("hk-edge-1", 1, 0);
    world.settle();
    (world, relays, edge)
}

/// Groups are looked at.
pub fn look(world: &mut World) {
    // What is committed is looked at again.
    for _ in 0..3 {
        world.wait(Duration::from_millis(100));
    }
}

/// What a relay was told last.
fn told(world: &World, index: usize, conn: Conn) -> Vec<control::PlacementGroup> {
    let pushed = world.controllers[index].pushed.get(&conn).into_iter();
    let mut groups = pushed.flatten().rev().filter_map(|m| match m {
        to_node::Message::Groups(groups) => Some(groups.groups.clone()),
        _ => None,
    });
    groups.next().unwrap_or_default()
}

pub fn stored(world: &World, id: GroupId) -> record::Group {
    let key = key::Key::Group(id).to_string();
    let found = world.engine.read(&key, None).unwrap().entries;
    let entry = found.iter().find(|entry| *entry.key == *key);
    record::read(&entry.expect("it is stored").value).unwrap()
}

pub fn all_stored(world: &World) -> Vec<GroupId> {
    let keys = world.keys();
    let ids = keys.iter().filter_map(|key| key.strip_prefix("groups/"));
    ids.filter_map(record::read_generation).collect()
}

fn numbers(group: &record::Group) -> (Vec<u64>, Vec<u64>) {
    let of = |members: &[record::Member]| members.iter().map(|m| m.number).collect();
    (of(&group.members), of(&group.leaving))
}

/// What a member says. `leader` leads under `term`.
pub fn says(id: GroupId, number: u64, leader: u64, term: u64, voters: &[u64]) -> GroupStatus {
    GroupStatus {
        id,
        number,
        leader,
        generation: Generation::new(1, term),
        voters: voters.to_vec(),
        learners: Vec::new(),
        applied: 10,
        rooms: 1,
        halted: String::new(),
        most: Some(MOST),
    }
}

pub fn says_at(world: &mut World, index: usize, conn: Conn, groups: Vec<GroupStatus>) {
    let said = Said::Status(Status::default(), groups, Vec::new(), Vec::new());
    world.input(index, Input::Said(conn, said));
    look(world);
}

/// The member of a group that a relay is.
pub fn number(world: &World, id: GroupId, relay: &str) -> u64 {
    let group = stored(world, id);
    let member = group.members.iter().find(|m| *m.node == *relay);
    member.expect("it belongs to it").number
}

/// One room, and so groups; `hk-relay-1` leads all of them.
pub fn led() -> (World, [Conn; 3], Conn, Vec<GroupId>) {
    let (mut world, relays, edge) = hong_kong();
    world.watch(edge, "class");
    look(&mut world);
    let ids = all_stored(&world);
    let all = ids.iter().map(|id| {
        let first = number(&world, *id, "hk-relay-1");
        says(*id, first, first, 1, &[1, 2, 3])
    });
    let all = all.collect();
    says_at(&mut world, 0, relays[0], all);
    (world, relays, edge, ids)
}

fn view(world: &World, index: usize, id: GroupId) -> GroupView {
    let all = world.controllers[index].state.view_groups();
    let found = all.into_iter().find(|group| group.group == id.to_string());
    found.expect("it is known")
}

fn ask(world: &mut World, id: &str, ask: Ask) {
    let ticket = world.number();
    let change = Change {
        target: Target::Node(node(id)),
        ask,
        reason: "new disks".into(),
        owner: "ann".into(),
        ttl: None,
        force: false,
    };
    world.input(0, Input::Change(ticket, change));
    world.settle();
    assert!(world.controllers[0].changed[&ticket].is_ok());
}

const DRAIN: Ask = Ask::Set(Wish::Drain { deadline_ms: 0 });

fn state_of(world: &World, id: &str) -> &'static str {
    let nodes = world.state().view_nodes();
    let found = nodes.iter().find(|n| *n.info.id == *id);
    found.expect("it is known").state
}

fn number_of(world: &World, id: GroupId, relay: &str) -> u64 {
    let group = stored(world, id);
    let member = group.all().find(|m| *m.node == *relay).cloned();
    member.expect("it is named").number
}
