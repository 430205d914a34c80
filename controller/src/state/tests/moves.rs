//! Rooms move between groups: what is asked, told, and believed of it.

use super::{
    groups::{keeper, led, look, number, says},
    *,
};
use crate::state::record::GroupId;

fn ask(world: &mut World, name: &str, to: Where) -> Ticket {
    let ticket = world.number();
    let wish = Move {
        room: room(name),
        to,
        reason: "new disks".into(),
        owner: "ann".into(),
    };
    world.input(0, Input::Move(ticket, wish));
    world.settle();
    ticket
}

fn answer(world: &World, ticket: Ticket) -> Option<&Result<Begun, Unchanged>> {
    world.controllers[0].moving.get(&ticket)
}

fn refused(world: &World, ticket: Ticket) -> String {
    match answer(world, ticket) {
        Some(Err(Unchanged::Refused(why))) => why.clone(),
        Some(Err(Unchanged::NotFound { what, near })) => format!("{what}; near {near:?}"),
        other => panic!("{other:?}"),
    }
}

/// The moves that a relay was told last.
fn told(world: &World, index: usize, conn: Conn) -> Vec<control::RoomMove> {
    let pushed = world.controllers[index].pushed.get(&conn).into_iter();
    let mut moves = pushed.flatten().rev().filter_map(|m| match m {
        to_node::Message::Moves(moves) => Some(moves.moves.clone()),
        _ => None,
    });
    moves.next().unwrap_or_default()
}

/// A relay that leads all groups says something of a move, too.
fn say(world: &mut World, index: usize, conn: Conn, ids: &[GroupId], report: MoveReport) {
    let groups = ids.iter().map(|id| {
        let first = number(world, *id, "hk-relay-1");
        says(*id, first, first, 1, &[1, 2, 3])
    });
    let said = Said::Status(
        Status::default(),
        groups.collect(),
        vec![report],
        Vec::new(),
    );
    world.input(index, Input::Said(conn, said));
    look(world);
}

fn view(world: &World, index: usize, name: &str) -> RoomView {
    let state = &world.controllers[index].state;
    state.view_room(&room(name)).expect("it is there")
}

fn group_of(world: &World, name: &str) -> GroupId {
    let group = view(world, 0, name).group.expect("it is in a group");
    record::read_generation(&group).expect("a name")
}

/// A room that is on its way to another group: by which move, and where from and to.
fn begun() -> (World, [Conn; 3], Conn, Vec<GroupId>, [Generation; 3]) {
    let (mut world, relays, edge, ids) = led();
    let from = group_of(&world, "class");
    let to = *ids.iter().find(|id| **id != from).expect("another");
    let ticket = ask(&mut world, "class", Where::Group(to));
    let begun = answer(&world, ticket)
        .expect("an answer")
        .as_ref()
        .expect("it begins");
    assert_eq!(
        (&begun.from, &begun.to),
        (&from.to_string(), &to.to_string())
    );
    let word = record::read_generation(&begun.word).expect("a name");
    (world, relays, edge, ids, [word, from, to])
}

fn report([word, from, _]: [Generation; 3], said: MoveSaid) -> MoveReport {
    MoveReport {
        room: room("class"),
        word,
        from,
        said,
    }
}

#[test]
fn a_room_moves_when_the_group_that_kept_it_says_so() {
    let (mut world, relays, edge, ids, the_move) = begun();
    let [word, from, to] = the_move;
    assert_eq!(group_of(&world, "class"), from, "not yet");
    let list = told(&world, 0, relays[0]);
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].word, list[0].from, list[0].to),
        (word.0, from.0, to.0)
    );
    assert_eq!(list[0].nodes[0], "hk-relay-1", "the likely leader first");
    let audit = world.controllers[0].audit.last().expect("it is audited");
    assert_eq!(audit["what"]["reason"], "new disks", "{audit}");
    assert_eq!(audit["actor"], "operator ann");

    say(
        &mut world,
        0,
        relays[0],
        &ids,
        report(the_move, MoveSaid::Stage(Stage::Closed)),
    );
    let moving = view(&world, 0, "class").moving.expect("it moves");
    assert_eq!(moving.stage, Stage::Closed);
    // One at a time.
    let ticket = ask(&mut world, "class", Where::Any);
    assert!(refused(&world, ticket).contains("on its way to group"));

    // Of another move, or of another group: nothing.
    for wrong in [[Generation(word.0 - 1), from, to], [word, to, from]] {
        say(
            &mut world,
            0,
            relays[0],
            &ids,
            report(wrong, MoveSaid::Gone),
        );
        assert_eq!(group_of(&world, "class"), from);
    }
    say(
        &mut world,
        0,
        relays[1],
        &[],
        report(the_move, MoveSaid::Gone),
    );
    let room = view(&world, 0, "class");
    assert_eq!(room.group, Some(to.to_string()));
    assert_eq!(room.moved, Some(word.to_string()));
    assert!(room.moving.is_none());
    let last = room.last_move.expect("it ended");
    assert_eq!(
        (last.word, last.from, last.to, last.failed),
        (word, from, to, None)
    );
    let state = world.told_room(edge, "class").expect("edges are told");
    assert_eq!((state.group, state.moved), (to.0, word.0));
    assert!(
        told(&world, 0, relays[0]).is_empty(),
        "nothing is to be done any more"
    );
    let events = &world.controllers[0].events;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::RoomMoved { .. }))
    );

    // The next move of the room has a higher word.
    let ticket = ask(&mut world, "class", Where::Group(from));
    let next = answer(&world, ticket)
        .expect("an answer")
        .as_ref()
        .expect("it begins");
    assert!(record::read_generation(&next.word) > Some(word));
}

#[test]
fn a_move_that_is_taken_back_leaves_the_room_with_the_reason() {
    let (mut world, relays, _, ids, the_move) = begun();
    let [_, from, to] = the_move;
    // Whoever does not know why waits for the leader, who does.
    say(
        &mut world,
        0,
        relays[1],
        &[],
        report(the_move, MoveSaid::Back(String::new())),
    );
    assert!(view(&world, 0, "class").moving.is_some());
    let why = "group was not reached".to_owned();
    say(
        &mut world,
        0,
        relays[0],
        &ids,
        report(the_move, MoveSaid::Back(why.clone())),
    );
    let room = view(&world, 0, "class");
    assert_eq!((room.group, room.moved), (Some(from.to_string()), None));
    assert_eq!(room.last_move.expect("it ended").failed, Some(why));
    assert!(told(&world, 0, relays[0]).is_empty());
    let ticket = ask(&mut world, "class", Where::Group(to));
    assert!(
        answer(&world, ticket).expect("an answer").is_ok(),
        "it may be asked again"
    );
}

#[test]
fn a_room_that_went_before_is_found_again() {
    let (mut world, relays, _, ids, the_move) = begun();
    let [word, _, to] = the_move;
    let there = *ids.iter().rfind(|id| **id != to).expect("another");
    let said = |word| MoveSaid::Elsewhere { group: there, word };
    say(
        &mut world,
        0,
        relays[0],
        &ids,
        report(the_move, said(Generation(word.0 - 1))),
    );
    let room = view(&world, 0, "class");
    assert_eq!(room.group, Some(there.to_string()));
    assert_eq!(room.moved, Some(Generation(word.0 - 1).to_string()));
    let failed = room.last_move.expect("it ended").failed.expect("why");
    assert!(failed.contains("before"), "{failed}");
}

#[test]
fn what_cannot_be_had_is_refused_with_the_name() {
    let (mut world, relays, edge, ids) = led();
    let from = group_of(&world, "class");
    let no = |world: &mut World, name: &str, to: Where| {
        let ticket = ask(world, name, to);
        refused(world, ticket)
    };
    assert_eq!(
        no(&mut world, "clas", Where::Any),
        "there is no room default/clas; near Some(\"class\")"
    );
    let unknown = Generation::new(1, 999);
    let why = no(&mut world, "class", Where::Group(unknown));
    assert!(why.contains("no placement group 1.999"), "{why}");
    let why = no(&mut world, "class", Where::Group(from));
    assert!(why.contains("already"), "{why}");
    let why = no(&mut world, "class", Where::Region("hkk".parse().unwrap()));
    assert_eq!(why, "there is no node in region hkk; near Some(\"hk\")");
    // Nobody leads one of them.
    let to = *ids.iter().find(|id| **id != from).expect("another");
    let groups = ids.iter().map(|id| {
        let first = number(&world, *id, "hk-relay-1");
        says(*id, first, if *id == to { 0 } else { first }, 1, &[1, 2, 3])
    });
    let said = Said::Status(Status::default(), groups.collect(), Vec::new(), Vec::new());
    world.said(relays[0], said);
    look(&mut world);
    let why = no(&mut world, "class", Where::Group(to));
    assert!(why.contains("has no leader now"), "{why}");
    // The one with the fewest rooms is chosen, of those that are led.
    let ticket = ask(&mut world, "class", Where::Any);
    let begun = answer(&world, ticket)
        .expect("an answer")
        .as_ref()
        .expect("it begins");
    assert!(begun.to != to.to_string() && begun.to != from.to_string());
    // A room that nobody keeps yet is waited for, and then refused.
    world.watch(edge, "other");
    world.cut = true;
    let ticket = ask(&mut world, "other", Where::Any);
    assert!(answer(&world, ticket).is_none_or(Result::is_err));
}

#[test]
fn a_region_without_groups_gets_them_and_the_wish_waits() {
    let (mut world, _, _, _) = led();
    let region: longspan_proto::ids::Region = "sg".parse().unwrap();
    let relay = world.join_with(0, keeper("sg-relay-1", 1, 9));
    world.settle();
    let ticket = ask(&mut world, "class", Where::Region(region.clone()));
    assert!(answer(&world, ticket).is_none(), "it waits");
    look(&mut world);
    let groups = world.state().view_groups();
    let made = groups
        .iter()
        .find(|group| group.region == region)
        .expect("it is made");
    let id = record::read_generation(&made.group).expect("a name");
    let first = number(&world, id, "sg-relay-1");
    let said = Said::Status(
        Status::default(),
        vec![says(id, first, first, 1, &[1, 2, 3])],
        Vec::new(),
        Vec::new(),
    );
    world.said(relay, said);
    world.wait(Duration::from_secs(1));
    let begun = answer(&world, ticket)
        .expect("an answer")
        .as_ref()
        .expect("it begins");
    assert_eq!(begun.to, id.to_string());

    // One that nobody comes to lead is refused in the end.
    let mut world = led().0;
    world.join_with(0, keeper("sg-relay-1", 1, 9));
    world.settle();
    let ticket = ask(&mut world, "class", Where::Region(region));
    for _ in 0..25 {
        world.wait(Duration::from_millis(500));
    }
    let why = refused(&world, ticket);
    assert!(
        why.contains("region sg has no other placement group"),
        "{why}"
    );
}

#[test]
fn another_controller_and_a_store_that_was_away_end_a_move_all_the_same() {
    let (mut world, relays, _, ids, the_move) = begun();
    let [word, _, to] = the_move;
    // The group has decided while the store is away.
    world.cut = true;
    say(
        &mut world,
        0,
        relays[0],
        &ids,
        report(the_move, MoveSaid::Gone),
    );
    assert!(
        view(&world, 0, "class").moving.is_some(),
        "the store decides"
    );
    world.cut = false;
    world.lead(0, true);
    world.settle();
    for _ in 0..4 {
        world.wait(Duration::from_millis(500));
    }
    let room = view(&world, 0, "class");
    assert_eq!(
        (room.group, room.moved),
        (Some(to.to_string()), Some(word.to_string()))
    );

    // A controller that has just begun knows from the store, and tells relays anew.
    let (mut world, _, _, ids, the_move) = begun();
    let next = world.elect();
    world.settle();
    let relay = world.join_with(next, keeper("hk-relay-1", 1, 1));
    world.settle();
    for _ in 0..30 {
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(told(&world, next, relay)[0].word, the_move[0].0);
    say(
        &mut world,
        next,
        relay,
        &ids,
        report(the_move, MoveSaid::Gone),
    );
    let room = view(&world, next, "class");
    assert_eq!(room.group, Some(the_move[2].to_string()));
}
