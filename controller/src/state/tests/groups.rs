//! Placement groups: made, told, mended, and kept over a change of controllers and a lost store.

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

#[test]
fn the_first_room_makes_its_region_s_groups_and_rooms_are_told_who_keeps_them() {
    let (mut world, relays, edge) = hong_kong();
    let far = world.join_with(0, keeper("sg-relay-1", 1, 9));
    assert!(all_stored(&world).is_empty(), "nobody needs any yet");
    world.watch(edge, "class");
    look(&mut world);
    let ids = all_stored(&world);
    assert_eq!(ids.len(), 3, "as many as the region has relays");
    for id in &ids {
        let group = stored(&world, *id);
        assert_eq!(numbers(&group), (vec![1, 2, 3], vec![]));
        assert_eq!((group.born.clone(), group.next), (vec![1, 2, 3], 4));
        let nodes: BTreeSet<&str> = group.members.iter().map(|m| m.node.as_str()).collect();
        assert_eq!(nodes.len(), 3);
        assert!(nodes.iter().all(|node| node.starts_with("hk")), "{nodes:?}");
    }
    for conn in relays {
        let told = told(&world, 0, conn);
        assert_eq!(told.len(), 3, "each has a part in each");
        assert!(told.iter().all(|g| g.revision == 1 && g.members.len() == 3));
    }
    assert!(told(&world, 0, far).is_empty());
    let room = world.told_room(edge, "class").unwrap().clone();
    assert!(ids.contains(&Generation(room.group)));
    assert_eq!(room.members.len(), 3);

    // Further rooms are spread over them; a group that has rooms is not left again.
    for n in 0..20 {
        world.watch(edge, &format!("room-{n}"));
    }
    look(&mut world);
    let rooms = world.state().view_rooms();
    let groups: BTreeSet<String> = rooms.iter().map(|r| r.group.clone().unwrap()).collect();
    assert_eq!(groups.len(), 3);
    assert_eq!(all_stored(&world).len(), 3);

    // Who leads is told first.
    let id = Generation(room.group);
    let third = number(&world, id, "hk-relay-3");
    says_at(
        &mut world,
        0,
        relays[2],
        vec![says(id, third, third, 4, &[1, 2, 3])],
    );
    let members = || world.told_room(edge, "class").unwrap().members.clone();
    assert_eq!(members()[0], "hk-relay-3");
    // One that led before, and does not know yet that it leads no more, changes nothing.
    let first = number(&world, id, "hk-relay-1");
    says_at(
        &mut world,
        0,
        relays[0],
        vec![says(id, first, first, 3, &[1, 2, 3])],
    );
    let members = world.told_room(edge, "class").unwrap().members.clone();
    assert_eq!(members[0], "hk-relay-3");
    assert_eq!(view(&world, 0, id).leader, Some(node("hk-relay-3")));
    assert_eq!(view(&world, 0, id).state, "whole");
}

#[test]
fn the_watch_may_tell_of_a_commit_before_its_answer_comes() {
    let (mut world, relays, edge) = hong_kong();
    world.watch(edge, "class");
    for _ in 0..5 {
        world.at += Duration::from_millis(100);
        let now = world.now();
        world.controllers[0].state.handle_timeout(now);
        world.controllers[0].drain();
        while world.step(0) || world.tell(0) || world.answer(0) {}
    }
    assert_eq!(all_stored(&world).len(), 3);
    assert_ne!(world.told_room(edge, "class").unwrap().group, 0);
    assert_eq!(told(&world, 0, relays[0]).len(), 3);
    // And more can be made: another region's.
    let far = world.join("sg-edge-1", 1, 0);
    world.join_with(0, keeper("sg-relay-1", 1, 9));
    world.watch(far, "other");
    look(&mut world);
    assert_eq!(all_stored(&world).len(), 4);
}

#[test]
fn without_disks_there_are_no_groups_and_who_is_taken_out_of_service_gets_no_part() {
    let (mut world, [..], edge) = {
        let mut world = World::new();
        let conns = ["hk-relay-1", "hk-relay-2"].map(|id| world.join(id, 1, 0));
        let edge = world.join("hk-edge-1", 1, 0);
        (world, conns, edge)
    };
    world.watch(edge, "class");
    look(&mut world);
    assert!(all_stored(&world).is_empty());
    assert_eq!(world.told_room(edge, "class").unwrap().group, 0);

    // One with a disk comes, and one that is cordoned, and one that drains.
    for (id, disk) in [("hk-relay-3", 3), ("hk-relay-4", 4), ("hk-relay-5", 5)] {
        world.join_with(0, keeper(id, 1, disk));
    }
    world.settle();
    ask(&mut world, "hk-relay-4", Ask::Set(Wish::Cordon));
    ask(&mut world, "hk-relay-5", DRAIN);
    look(&mut world);
    let ids = all_stored(&world);
    for id in &ids {
        let group = stored(&world, *id);
        let nodes: Vec<&str> = group.members.iter().map(|m| m.node.as_str()).collect();
        assert!(!nodes.contains(&"hk-relay-1"), "{nodes:?}");
    }
    assert_eq!(
        stored(&world, ids[0]).members[0].node.as_str(),
        "hk-relay-3"
    );
    assert_ne!(world.told_room(edge, "class").unwrap().group, 0);
}

#[test]
fn a_lone_relay_s_group_grows_to_three_one_by_one() {
    let mut world = World::new();
    let first = world.join_with(0, keeper("hk-relay-1", 1, 1));
    let edge = world.join("hk-edge-1", 1, 0);
    world.watch(edge, "class");
    look(&mut world);
    let id = all_stored(&world)[0];
    assert_eq!(numbers(&stored(&world, id)), (vec![1], vec![]));
    world.join_with(0, keeper("sg-relay-1", 1, 2));
    world.join_with(0, keeper("sg-relay-2", 1, 3));
    look(&mut world);
    assert_eq!(stored(&world, id).revision, 1, "nobody leads yet");
    says_at(&mut world, 0, first, vec![says(id, 1, 1, 1, &[1])]);
    assert_eq!(numbers(&stored(&world, id)), (vec![1, 2], vec![]));
    look(&mut world);
    assert_eq!(stored(&world, id).revision, 2, "the second has no vote yet");
    says_at(&mut world, 0, first, vec![says(id, 1, 1, 1, &[1, 2])]);
    assert_eq!(numbers(&stored(&world, id)), (vec![1, 2, 3], vec![]));
    assert_eq!(view(&world, 0, id).state, "reduced");
    says_at(&mut world, 0, first, vec![says(id, 1, 1, 1, &[1, 2, 3])]);
    assert_eq!(view(&world, 0, id).state, "whole");
    assert_eq!(stored(&world, id).born, [1]);
}

#[test]
fn a_lost_member_is_replaced_after_the_grace_one_at_a_time_and_dropped_when_the_group_says_so() {
    let (mut world, relays, edge, ids) = led();
    let spare = world.join_with(0, keeper("hk-relay-4", 1, 4));
    let other = world.join_with(0, keeper("hk-relay-5", 1, 5));
    let live = [relays[0], relays[1], spare, other, edge];
    let id = ids[0];
    world.input(0, Input::Left(relays[2]));
    // The lease takes 15 s, the grace 10 s.
    world.live(&live, 14);
    assert_eq!(view(&world, 0, id).state, "whole", "its lease lives");
    world.live(&live, 9);
    assert_eq!(view(&world, 0, id).state, "reduced");
    assert!(
        ids.iter().all(|id| stored(&world, *id).revision == 1),
        "a blip costs no member"
    );
    world.live(&live, 4);
    let lost = number_of(&world, id, "hk-relay-3");
    for id in &ids {
        let group = stored(&world, *id);
        assert_eq!((group.revision, group.next), (2, 5));
        assert_eq!(numbers(&group).1.len(), 1);
        assert!(numbers(&group).0.contains(&4), "a number that nobody had");
    }
    let newcomer = stored(&world, id).members.last().unwrap().node.clone();
    let taken: BTreeSet<NodeId> = ids
        .iter()
        .map(|id| stored(&world, *id).members[2].node.clone())
        .collect();
    assert_eq!(
        taken.len(),
        2,
        "its parts are shared by those who have the fewest"
    );
    let conn = if *newcomer == *"hk-relay-4" {
        spare
    } else {
        other
    };
    assert!(
        told(&world, 0, conn)
            .iter()
            .any(|g| g.id == id.0 && g.leaving.len() == 1)
    );
    assert!(told(&world, 0, relays[0]).iter().all(|g| g.revision == 2));

    // A second loss waits until the first is mended: with it most members would be gone.
    let first = number(&world, id, "hk-relay-1");
    says_at(
        &mut world,
        0,
        relays[0],
        vec![says(id, first, first, 1, &[1, 2, 3])],
    );
    assert_eq!(
        stored(&world, id).revision,
        2,
        "the group has not changed yet"
    );
    let (members, _) = numbers(&stored(&world, id));
    says_at(
        &mut world,
        0,
        relays[0],
        vec![says(id, first, first, 1, &members)],
    );
    let group = stored(&world, id);
    assert_eq!((group.revision, numbers(&group)), (3, (members, vec![])));
    assert_eq!(view(&world, 0, id).state, "whole");
    assert!(
        told(&world, 0, conn)
            .iter()
            .any(|g| g.id == id.0 && g.revision == 3)
    );

    // It comes back with the disk it had: it is told that it belongs to the group no more.
    let mut back = keeper("hk-relay-3", 2, 3);
    let held = |id: GroupId| HeldGroup {
        id,
        era: 1,
        revision: 1,
        members: [(1, "hk-relay-1"), (2, "hk-relay-2"), (3, "hk-relay-3")]
            .map(|(number, id)| record::Member {
                number,
                node: node(id),
                disk: number,
            })
            .to_vec(),
        born: vec![1, 2, 3],
        leaving: Vec::new(),
    };
    back.groups = vec![held(id)];
    let conn = world.join_with(0, back);
    world.settle();
    let told = told(&world, 0, conn);
    let group = told
        .iter()
        .find(|g| g.id == id.0)
        .expect("it says that it has a part");
    assert!(
        group
            .members
            .iter()
            .chain(&group.leaving)
            .all(|m| m.number != lost)
    );
    assert_eq!(
        stored(&world, id).revision,
        3,
        "what is older changes nothing"
    );
}

fn number_of(world: &World, id: GroupId, relay: &str) -> u64 {
    let group = stored(world, id);
    let member = group.all().find(|m| *m.node == *relay).cloned();
    member.expect("it is named").number
}

#[test]
fn another_disk_is_another_member_at_once_on_the_same_relay() {
    let (mut world, relays, _, ids) = led();
    let id = ids[0];
    let lost = number(&world, id, "hk-relay-2");
    world.join_with(0, keeper("hk-relay-2", 2, 22));
    look(&mut world);
    let group = stored(&world, id);
    assert_eq!(numbers(&group).1, [lost]);
    let new = group.members.last().unwrap();
    assert_eq!(
        (new.number, new.node.as_str(), new.disk),
        (4, "hk-relay-2", 22)
    );
    // It loses that one too, before it was of any use: the group has one less to come.
    world.join_with(0, keeper("hk-relay-2", 3, 23));
    look(&mut world);
    let group = stored(&world, id);
    let new = group.members.last().unwrap();
    assert_eq!((new.number, new.disk), (5, 23));
    // What the leader said is older than the fourth: it may belong to the group by now.
    assert_eq!(numbers(&group).1, [lost, 4]);
    let rooms = world.state().view_rooms();
    assert!(rooms[0].group.is_some());
    let first = number(&world, id, "hk-relay-1");
    let voters: Vec<u64> = numbers(&group).0;
    says_at(
        &mut world,
        0,
        relays[0],
        vec![says(id, first, first, 2, &voters)],
    );
    assert_eq!(view(&world, 0, id).state, "whole");
    assert!(view(&world, 0, id).waits.is_none());
}

#[test]
fn nothing_is_replaced_without_a_leader_or_with_most_members_gone() {
    let (mut world, relays, edge, ids) = led();
    let spare = world.join_with(0, keeper("hk-relay-4", 1, 4));
    let id = ids[0];
    // The leader goes, and nobody says that he leads now.
    world.input(0, Input::Left(relays[0]));
    let live = [relays[1], relays[2], spare, edge];
    world.live(&live, 30);
    assert_eq!(stored(&world, id).revision, 1);
    let seen = view(&world, 0, id);
    assert_eq!(seen.state, "stopped");
    assert!(
        seen.waits.as_ref().unwrap().contains("no member says"),
        "{seen:?}"
    );
    // One of two that are left leads: now the first is replaced.
    let second = number(&world, id, "hk-relay-2");
    let status = says(id, second, second, 2, &[1, 2, 3]);
    says_at(&mut world, 0, relays[1], vec![status.clone()]);
    assert_eq!(stored(&world, id).revision, 2);

    // In another group two are gone, and the one that is left believes for a moment that it leads.
    let id = ids[1];
    let second = number(&world, id, "hk-relay-2");
    world.input(0, Input::Left(relays[2]));
    world.live(&[relays[1], spare, edge], 30);
    let status = says(id, second, second, 2, &[1, 2, 3]);
    says_at(&mut world, 0, relays[1], vec![status]);
    assert_eq!(stored(&world, id).revision, 1);
    let waits = view(&world, 0, id).waits.unwrap();
    assert!(waits.contains("2 of 3 members are lost"), "{waits}");
    assert!(waits.contains("hk-relay-1 is gone"), "{waits}");
    assert_eq!(world.state().counts().groups[0], 3);
    assert!(world.state().counts().groups[1] + world.state().counts().groups[2] >= 2);
}

#[test]
fn messages_are_traced_from_whoever_leads_the_rooms_group() {
    let (mut world, _, edge, _) = led();
    let group = world.told_room(edge, "class").unwrap().group;
    let led = view(&world, 0, Generation(group));
    let ticket = world.number();
    world.input(0, Input::Trace(ticket, room("class")));
    world.wait(Duration::from_secs(2));
    let trace = world.controllers[0].traced[&ticket].clone().unwrap();
    let [messages] = &trace.streams[..] else {
        panic!("{trace:?}");
    };
    assert_eq!(messages.stream, Stream::room());
    assert_eq!(Some(&messages.origin), led.leader.as_ref());
    assert_eq!(Some(&messages.generation), led.generation.as_ref());
}

#[test]
fn a_relay_is_drained_when_it_is_in_no_group_and_where_there_is_no_other_two_go_on() {
    let (mut world, relays, _, ids) = led();
    let leads = world
        .state()
        .view_nodes()
        .into_iter()
        .find(|n| *n.info.id == *"hk-relay-1");
    assert_eq!(leads.map(|n| (n.groups.len(), n.leads)), Some((3, 3)));
    ask(&mut world, "hk-relay-1", DRAIN);
    look(&mut world);
    // It leads still, and says so.
    for id in &ids {
        let group = stored(&world, *id);
        assert_eq!(group.members.len(), 2, "nobody else is there");
        assert_eq!(group.leaving[0].node.as_str(), "hk-relay-1");
    }
    let plan = world.state().view_drain(&node("hk-relay-1")).unwrap();
    assert_eq!(plan.groups.len(), 3);
    let ended: Vec<GroupStatus> = ids
        .iter()
        .map(|id| {
            let second = number(&world, *id, "hk-relay-2");
            let members = numbers(&stored(&world, *id)).0;
            says(*id, second, second, 2, &members)
        })
        .collect();
    assert_eq!(state_of(&world, "hk-relay-1"), "draining");
    says_at(&mut world, 0, relays[0], Vec::new());
    says_at(&mut world, 0, relays[1], ended[..2].to_vec());
    assert_eq!(
        state_of(&world, "hk-relay-1"),
        "draining",
        "one group has it still"
    );
    says_at(&mut world, 0, relays[1], ended);
    assert_eq!(state_of(&world, "hk-relay-1"), "drained");
    let id = ids[0];
    assert_eq!(numbers(&stored(&world, id)).0.len(), 2);
    // Back in service it is taken in again, as another member.
    ask(&mut world, "hk-relay-1", Ask::Undrain);
    look(&mut world);
    let group = stored(&world, id);
    assert_eq!(
        group.members.last().map(|m| (m.number, m.node.as_str())),
        Some((4, "hk-relay-1"))
    );
}

#[test]
fn another_controller_goes_on_where_the_first_stopped_and_a_deposed_one_writes_nothing() {
    let (mut world, relays, _, ids) = led();
    let spare = world.join_with(0, keeper("hk-relay-4", 1, 4));
    world.join_with(0, keeper("hk-relay-2", 2, 22));
    look(&mut world);
    let id = ids[0];
    assert_eq!(stored(&world, id).revision, 2, "a replacement is under way");
    let before = stored(&world, id);

    let second = world.elect();
    world.settle();
    assert_eq!(view(&world, second, id).revision, 2);
    let keepers = [
        ("hk-relay-1", 1, 1),
        ("hk-relay-2", 2, 22),
        ("hk-relay-3", 1, 3),
    ];
    let conns = keepers.map(|(id, boot, disk)| {
        let lease = world.controllers[second].state.nodes[&node(id)].lease;
        let conn = world.join_with(
            second,
            Join {
                session: lease,
                ..keeper(id, boot, disk)
            },
        );
        world.input(second, Input::Said(conn, Said::Links(Vec::new())));
        conn
    });
    world.settle();
    world.wait(Duration::from_secs(11));
    look(&mut world);
    assert_eq!(stored(&world, id), before, "it waits for the group");
    assert!(
        !told(&world, second, conns[0]).is_empty(),
        "and tells relays of it"
    );
    let first = number(&world, id, "hk-relay-1");
    let members = numbers(&before).0;
    says_at(
        &mut world,
        second,
        conns[0],
        vec![says(id, first, first, 1, &members)],
    );
    let after = stored(&world, id);
    assert_eq!((after.revision, after.leaving.len()), (3, 0));

    // The first has not heard that it is deposed, and sees another relay lose its disk.
    world.join_with(0, keeper("hk-relay-3", 2, 33));
    let number = number(&world, id, "hk-relay-1");
    says_at(
        &mut world,
        0,
        relays[0],
        vec![says(id, number, number, 9, &members)],
    );
    for _ in 0..20 {
        look(&mut world);
    }
    assert_eq!(stored(&world, id), after);
    let _ = spare;
}

/// What a relay's disk remembers.
fn held(id: GroupId, group: &record::Group) -> HeldGroup {
    HeldGroup {
        id,
        era: group.era,
        revision: group.revision,
        members: group.members.clone(),
        born: group.born.clone(),
        leaving: group.leaving.clone(),
    }
}

#[test]
fn what_relays_disks_remember_restores_a_store_that_lost_it() {
    let (mut world, _, _, ids) = led();
    world.join_with(0, keeper("hk-relay-2", 2, 22));
    look(&mut world);
    let groups: Vec<(GroupId, record::Group)> =
        ids.iter().map(|id| (*id, stored(&world, *id))).collect();
    // A new store: nothing of before is in it.
    let mut world = World::new();
    let mut back = keeper("hk-relay-1", 1, 1);
    back.groups = groups.iter().map(|(id, group)| held(*id, group)).collect();
    // A neighbour has an older record of one of them, and one that nobody is named in.
    let mut other = keeper("hk-relay-3", 1, 3);
    let mut older = held(ids[0], &groups[0].1);
    older.revision -= 1;
    older.members[0].number = 99;
    let mut foreign = held(Generation::new(0, 50), &groups[0].1);
    foreign.members.retain(|m| *m.node != *"hk-relay-3");
    other.groups = vec![older, foreign];
    world.join_with(0, back.clone());
    world.join_with(0, other);
    look(&mut world);
    for (id, group) in &groups {
        let now = stored(&world, *id);
        assert_eq!(held(*id, &now), held(*id, group));
        assert!(now.next > group.members.iter().map(|m| m.number).max().unwrap());
        assert_eq!(now.region.as_str(), "hk");
    }
    assert_eq!(
        all_stored(&world).len(),
        3,
        "what names nobody is not believed"
    );
    let events = &world.controllers[0].events;
    let refused = events.iter().find_map(|event| match event {
        Event::GroupsRefused {
            node,
            groups,
            reason,
        } => Some((node, groups, reason)),
        _ => None,
    });
    let (who, count, why) = refused.expect("it is told");
    assert_eq!((who.as_str(), *count), ("hk-relay-3", 1));
    assert!(
        why.contains("0.50") && why.contains("does not name hk-relay-3"),
        "{why}"
    );

    // Groups that are made now have other names, above all that came along.
    let edge = world.join("sg-edge-1", 1, 0);
    world.join_with(0, keeper("sg-relay-1", 1, 9));
    world.watch(edge, "class");
    look(&mut world);
    let new: Vec<GroupId> = all_stored(&world)
        .into_iter()
        .filter(|id| !ids.contains(id))
        .collect();
    assert_eq!(new.len(), 1);
    assert!(ids.iter().all(|id| *id < new[0]));

    // The same again, and a lower revision, change nothing.
    let before = stored(&world, ids[1]);
    let mut again = back.clone();
    again.groups[1].revision -= 1;
    again.groups[1].leaving.clear();
    world.join_with(0, again);
    look(&mut world);
    assert_eq!(stored(&world, ids[1]), before);
    // A higher era does, whatever its revision.
    let mut anew = back;
    (anew.groups[1].era, anew.groups[1].revision) = (2, 1);
    world.join_with(0, anew);
    look(&mut world);
    assert_eq!(stored(&world, ids[1]).age(), (2, 1));
}

#[test]
fn a_disk_is_nobody_else_s_and_reports_of_what_is_not_known_change_nothing() {
    let (mut world, relays, edge, ids) = led();
    // Another relay comes with a copy of the first one's disk, and all it remembers.
    let mut copy = keeper("hk-relay-9", 1, 1);
    copy.groups = vec![HeldGroup {
        revision: 40,
        ..held(ids[0], &stored(&world, ids[0]))
    }];
    let conn = world.join_with(0, copy);
    look(&mut world);
    assert_eq!(stored(&world, ids[0]).revision, 1);
    let events = &world.controllers[0].events;
    let refused = events.iter().any(|event| {
        matches!(event, Event::DiskRefused { node, of, .. }
            if **node == *"hk-relay-9" && **of == *"hk-relay-1")
    });
    assert!(refused, "{events:?}");
    // It leads, it says; so does an edge; and of groups that nobody knows.
    let lie = says(ids[0], 1, 1, 99, &[1]);
    says_at(
        &mut world,
        0,
        conn,
        vec![lie.clone(), says(Generation::new(9, 9), 1, 1, 1, &[1])],
    );
    says_at(&mut world, 0, edge, vec![lie]);
    assert_eq!(view(&world, 0, ids[0]).leader, Some(node("hk-relay-1")));
    assert_eq!(stored(&world, ids[0]).revision, 1);
    let nodes = world.state().view_nodes();
    let seen = nodes.iter().find(|n| *n.info.id == *"hk-relay-9").unwrap();
    assert_eq!(seen.disk, None);
    assert!(
        seen.groups
            .iter()
            .any(|g| g.group == "9.9" && g.number.is_none())
    );
    // A member that speaks for another is not heard.
    let first = number(&world, ids[0], "hk-relay-1");
    let second = number(&world, ids[0], "hk-relay-2");
    says_at(
        &mut world,
        0,
        relays[1],
        vec![says(ids[0], first, first, 50, &[1, 2, 3])],
    );
    assert_eq!(view(&world, 0, ids[0]).leader, Some(node("hk-relay-1")));
    // One that can go no further does not lead, and is shown.
    let mut halted = says(ids[0], second, 0, 1, &[]);
    halted.halted = "entry 7 cannot be read".into();
    says_at(&mut world, 0, relays[1], vec![halted]);
    let members = view(&world, 0, ids[0]).members;
    let seen = members.iter().find(|m| m.number == second).unwrap();
    assert_eq!(seen.halted.as_deref(), Some("entry 7 cannot be read"));
}

#[test]
fn groups_beyond_the_limit_are_refused_and_a_deleted_record_is_put_again() {
    let (mut world, _, _, ids) = led();
    let mut flood = keeper("hk-relay-4", 1, 4);
    let limit = Limits::default().groups;
    let member = record::Member {
        number: 1,
        node: node("hk-relay-4"),
        disk: 4,
    };
    let group = |n: usize| HeldGroup {
        id: Generation::new(3, n as u64 + 1),
        era: 1,
        revision: 1,
        members: vec![member.clone()],
        born: vec![1],
        leaving: Vec::new(),
    };
    flood.groups = (0..limit + 10).map(group).collect();
    world.join_with(0, flood);
    look(&mut world);
    assert_eq!(world.state().counts().groups[0], limit);
    let events = world.controllers[0].events.iter();
    let refused = events.filter_map(|event| match event {
        Event::GroupsRefused { groups, reason, .. } => Some((*groups, reason.clone())),
        _ => None,
    });
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 1, "one word about all of them");
    assert_eq!(refused[0].0, 13);
    assert!(
        refused[0].1.contains(&format!("the limit of {limit}")),
        "{refused:?}"
    );

    let key = key::Key::Group(ids[0]).to_string();
    let before = stored(&world, ids[0]);
    let txn = Txn {
        compares: Vec::new(),
        writes: vec![Write::Delete(key)],
    };
    world.engine.commit(&txn).unwrap();
    world.settle();
    look(&mut world);
    assert_eq!(stored(&world, ids[0]), before);
}

#[test]
fn a_record_of_a_later_program_is_left_alone() {
    let (mut world, _, edge) = hong_kong();
    let id = Generation::new(0, 7);
    let later = r#"{"v":2,"what":"nobody knows"}"#;
    let put = |key: key::Key| Write::Put {
        key: key.to_string(),
        value: later.into(),
        lease: None,
    };
    let txn = Txn {
        compares: Vec::new(),
        writes: vec![put(key::Key::Group(id)), put(key::Key::LastGroup)],
    };
    world.engine.commit(&txn).unwrap();
    world.settle();
    world.watch(edge, "class");
    look(&mut world);
    assert_eq!(
        all_stored(&world),
        [id],
        "nothing is given out below what cannot be read"
    );
    let mut back = keeper("hk-relay-1", 1, 1);
    back.groups = vec![HeldGroup {
        id,
        era: 1,
        revision: 9,
        members: vec![record::Member {
            number: 1,
            node: node("hk-relay-1"),
            disk: 1,
        }],
        born: vec![1],
        leaving: Vec::new(),
    }];
    world.join_with(0, back);
    look(&mut world);
    let key = key::Key::Group(id).to_string();
    let found = world.engine.read(&key, None).unwrap().entries;
    assert_eq!(&*found[0].value, later);
}

#[test]
fn the_store_is_away_and_nothing_is_lost_of_what_it_was_to_be_told() {
    let (mut world, _, _, ids) = led();
    let id = ids[0];
    world.cut = true;
    world.input(0, Input::StoreLost);
    world.join_with(0, keeper("hk-relay-2", 2, 22));
    look(&mut world);
    assert_eq!(stored(&world, id).revision, 1);
    world.cut = false;
    world.lead(0, false);
    look(&mut world);
    assert_eq!(
        stored(&world, id).revision,
        2,
        "it is done when the store is back"
    );
    // Its answer is lost, but it happened: the store is read anew, and it counts.
    let first = number(&world, id, "hk-relay-1");
    let members = numbers(&stored(&world, id)).0;
    let groups = vec![says(id, first, first, 1, &members)];
    let said = Said::Status(Status::default(), groups, Vec::new(), Vec::new());
    let conn = world.state().nodes[&node("hk-relay-1")].conn.unwrap();
    world.said(conn, said);
    world.at += Duration::from_millis(100);
    let now = world.now();
    world.controllers[0].state.handle_timeout(now);
    world.controllers[0].drain();
    while world.lose(0, true) {}
    world.settle();
    world.lead(0, false);
    look(&mut world);
    assert_eq!(stored(&world, id).revision, 3);
    assert!(view(&world, 0, id).waits.is_none());
}
