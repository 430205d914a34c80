//! Over a change of controllers, a lost store, records of other programs.

use super::*;

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
