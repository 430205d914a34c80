//! The first room makes its region's groups; who gets a part in them.

use super::*;

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
