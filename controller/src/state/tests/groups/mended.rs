//! Members that are lost, have another disk, or are drained.

use super::*;

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
