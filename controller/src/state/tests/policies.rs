//! How much is kept of rooms: what is asked, told, and believed of it.

use super::{
    groups::{MOST, keeper, led, look, number, says},
    *,
};
use crate::state::record::{GroupId, Keep};

fn messages(messages: u64) -> Keep {
    Keep {
        messages: Some(messages),
        ..Keep::default()
    }
}

fn bytes(bytes: u64) -> Keep {
    Keep {
        bytes: Some(bytes),
        ..Keep::default()
    }
}

fn ask_at(world: &mut World, index: usize, name: &str, keep: Option<Keep>) -> Ticket {
    let ticket = world.number();
    let wish = KeepRoom {
        room: room(name),
        keep,
        reason: "exams".into(),
        owner: "ann".into(),
    };
    world.input(index, Input::Keep(ticket, wish));
    world.settle();
    ticket
}

fn ask(world: &mut World, name: &str, keep: Option<Keep>) -> PolicyView {
    let ticket = ask_at(world, 0, name, keep);
    let answer = world.controllers[0].kept.remove(&ticket);
    answer.expect("an answer").expect("it is taken")
}

fn refused(world: &mut World, index: usize, ticket: Ticket) -> String {
    match world.controllers[index].kept.remove(&ticket) {
        Some(Err(Unchanged::Refused(why) | Unchanged::Unavailable(why))) => why,
        other => panic!("{other:?}"),
    }
}

/// The policies that a relay was told last.
fn told(world: &World, index: usize, conn: Conn) -> Vec<control::RoomPolicy> {
    let pushed = world.controllers[index].pushed.get(&conn).into_iter();
    let mut lists = pushed.flatten().rev().filter_map(|m| match m {
        to_node::Message::Policies(told) => Some(told.policies.clone()),
        _ => None,
    });
    lists.next().unwrap_or_default()
}

fn lists_told(world: &World, index: usize, conn: Conn) -> usize {
    let pushed = world.controllers[index].pushed.get(&conn).into_iter();
    let is_list = |m: &&to_node::Message| matches!(m, to_node::Message::Policies(_));
    pushed.flatten().filter(is_list).count()
}

/// The relay that leads all groups says what holds in a room, too.
fn say(world: &mut World, index: usize, conn: Conn, ids: &[GroupId], report: PolicyReport) {
    let groups = ids.iter().map(|id| {
        let first = number(world, *id, "hk-relay-1");
        says(*id, first, first, 1, &[1, 2, 3])
    });
    let said = Said::Status(
        Status::default(),
        groups.collect(),
        Vec::new(),
        vec![report],
    );
    world.input(index, Input::Said(conn, said));
    look(world);
}

fn view(world: &World, index: usize, name: &str) -> PolicyView {
    let state = &world.controllers[index].state;
    state.view_policy(&room(name)).expect("it is known")
}

fn group_of(world: &World, name: &str) -> GroupId {
    let group = world.state().view_room(&room(name)).expect("it is there");
    record::read_generation(&group.group.expect("a group")).expect("a name")
}

fn report(world: &World, name: &str, keeps: Option<Kept>) -> PolicyReport {
    PolicyReport {
        room: room(name),
        group: group_of(world, name),
        keeps,
    }
}

#[test]
fn a_wish_is_told_to_the_group_and_the_edges_and_holds_when_its_leader_says_so() {
    let (mut world, relays, edge, ids) = led();
    let before = view(&world, 0, "class");
    assert_eq!(
        (before.state, before.holds),
        (PolicyStands::Default, Some(MOST))
    );
    let asked = ask(&mut world, "class", Some(messages(10)));
    assert_eq!(asked.state, PolicyStands::Waiting, "{asked:?}");
    let list = told(&world, 0, relays[0]);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].group, group_of(&world, "class").0);
    assert_eq!(list[0].keep.unwrap().messages, Some(10));
    assert_eq!(told(&world, 0, relays[2]), list, "each member is told");
    let state = world.told_room(edge, "class").expect("edges are told");
    assert_eq!(state.keep.unwrap().messages, Some(10));
    let audit = world.controllers[0].audit.last().expect("it is audited");
    assert_eq!(audit["what"]["reason"], "exams", "{audit}");
    assert_eq!(audit["what"]["keep"]["messages"], 10, "{audit}");
    assert_eq!(audit["actor"], "operator ann");

    let holds = Kept {
        messages: 10,
        ..MOST
    };
    let said = report(&world, "class", Some(holds));
    // A member that does not lead says nothing that counts.
    world.said(
        relays[1],
        Said::Status(
            Status::default(),
            Vec::new(),
            Vec::new(),
            vec![said.clone()],
        ),
    );
    assert_eq!(view(&world, 0, "class").state, PolicyStands::Waiting);
    say(&mut world, 0, relays[0], &ids, said);
    let now = view(&world, 0, "class");
    assert_eq!(
        (now.state, now.holds, now.most),
        (PolicyStands::Holds, Some(holds), Some(MOST))
    );
    // The next one leaves what it does not name.
    let before = list[0].word;
    let asked = ask(&mut world, "class", Some(bytes(4_096)));
    assert_eq!(asked.state, PolicyStands::Waiting);
    let list = told(&world, 0, relays[0]);
    let keep = list[0].keep.unwrap();
    assert_eq!((keep.messages, keep.bytes), (Some(10), Some(4_096)));
    assert!(list[0].word > before, "it rises");
    let lists = lists_told(&world, 0, relays[0]);
    for _ in 0..10 {
        world.wait(Duration::from_secs(1));
        look(&mut world);
    }
    assert_eq!(lists_told(&world, 0, relays[0]), lists, "told once");
}

#[test]
fn a_wish_above_the_limit_is_shown_as_what_came_of_it() {
    let (mut world, relays, _, ids) = led();
    ask(&mut world, "class", Some(messages(5_000)));
    let said = report(&world, "class", Some(MOST));
    say(&mut world, 0, relays[0], &ids, said);
    let now = view(&world, 0, "class");
    assert_eq!(
        (now.state, now.holds),
        (PolicyStands::Clamped, Some(MOST)),
        "{now:?}"
    );
    assert_eq!(now.wished.unwrap().keep.messages, Some(5_000));
    assert_eq!(now.most.unwrap().messages, 1_024);
}

#[test]
fn a_wish_is_withdrawn_and_forgotten_once_that_holds() {
    let (mut world, relays, edge, ids) = led();
    ask(&mut world, "class", Some(messages(10)));
    let kept = "tenants/default/rooms/class/policy".to_owned();
    assert!(world.keys().contains(&kept));
    let asked = ask(&mut world, "class", None);
    assert_eq!(asked.state, PolicyStands::Waiting);
    let keep = told(&world, 0, relays[0])[0].keep.unwrap();
    assert_eq!(keep, control::Retention::default(), "told all the same");
    let said = |messages| Kept { messages, ..MOST };
    let ten = report(&world, "class", Some(said(10)));
    say(&mut world, 0, relays[0], &ids, ten);
    let sweep = |world: &mut World| {
        world.watch(edge, "class");
        world.live(&[relays[0], relays[1], relays[2], edge], 61);
    };
    sweep(&mut world);
    assert!(world.keys().contains(&kept), "it does not hold yet");
    let all = report(&world, "class", Some(MOST));
    say(&mut world, 0, relays[0], &ids, all);
    assert_eq!(view(&world, 0, "class").state, PolicyStands::Holds);
    sweep(&mut world);
    assert!(!world.keys().contains(&kept));
    assert_eq!(view(&world, 0, "class").state, PolicyStands::Default);
    assert!(told(&world, 0, relays[0]).is_empty());
    let state = world.told_room(edge, "class").expect("edges are told");
    assert_eq!(state.keep, None);
}

#[test]
fn a_room_that_is_not_open_yet_has_its_policy_when_it_opens() {
    let (mut world, relays, edge, ids) = led();
    let asked = ask(&mut world, "clas", Some(messages(10)));
    assert_eq!(asked.state, PolicyStands::NotOpen);
    let why = asked.why.expect("why");
    assert!(why.contains("did you mean class?"), "{why}");
    assert!(told(&world, 0, relays[0]).is_empty(), "nobody keeps it");
    world.watch(edge, "clas");
    look(&mut world);
    assert_eq!(told(&world, 0, relays[0]).len(), 1);
    let said = report(&world, "clas", None);
    say(&mut world, 0, relays[0], &ids, said);
    assert_eq!(view(&world, 0, "clas").state, PolicyStands::NotOpen);
    // It goes with nobody in it, and the wish stays.
    let names: Vec<String> = world
        .state()
        .view_policies(Some(&Tenant::default_tenant()))
        .into_iter()
        .map(|view| view.room)
        .collect();
    assert_eq!(names, ["clas"]);
    assert!(world.state().view_policy(&room("other")).is_err());
}

#[test]
fn a_room_that_moves_takes_its_policy_along() {
    let (mut world, relays, _, ids) = led();
    ask(&mut world, "class", Some(messages(10)));
    let from = group_of(&world, "class");
    let to = *ids.iter().find(|id| **id != from).expect("another");
    let ticket = world.number();
    let wish = Move {
        room: room("class"),
        to: Where::Group(to),
        reason: "new disks".into(),
        owner: "ann".into(),
    };
    world.input(0, Input::Move(ticket, wish));
    world.settle();
    let begun = world.controllers[0].moving[&ticket]
        .clone()
        .expect("it begins");
    let moved = MoveReport {
        room: room("class"),
        word: record::read_generation(&begun.word).expect("a name"),
        from,
        said: MoveSaid::Gone,
    };
    let said = Said::Status(Status::default(), Vec::new(), vec![moved], Vec::new());
    world.said(relays[1], said);
    look(&mut world);
    assert_eq!(group_of(&world, "class"), to);
    let list = told(&world, 0, relays[0]);
    assert_eq!((list.len(), list[0].group), (1, to.0));
}

#[test]
fn another_controller_tells_what_the_store_holds_and_a_deposed_one_changes_nothing() {
    let (mut world, _, _, ids) = led();
    ask(&mut world, "class", Some(messages(10)));
    let first = view(&world, 0, "class").wished.expect("a wish");
    let next = world.elect();
    world.settle();
    let relay = world.join_with(next, keeper("hk-relay-1", 1, 1));
    world.settle();
    for _ in 0..30 {
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(told(&world, next, relay)[0].word, first.word.0);
    // The one before does not know that it leads no more: what it takes is refused by the store.
    let ticket = ask_at(&mut world, 0, "class", Some(messages(99)));
    let why = refused(&mut world, 0, ticket);
    assert!(why.contains("at the same moment"), "{why}");
    assert_eq!(view(&world, next, "class").wished, Some(first.clone()));
    // The new one's wish counts more.
    let ticket = ask_at(&mut world, next, "class", Some(messages(20)));
    let taken = world.controllers[next].kept.remove(&ticket);
    let taken = taken.expect("an answer").expect("it is taken");
    assert!(taken.wished.expect("a wish").word > first.word);
    let list = told(&world, next, relay);
    assert_eq!(list[0].keep.unwrap().messages, Some(20));
    let holds = Kept {
        messages: 20,
        ..MOST
    };
    let said = PolicyReport {
        room: room("class"),
        group: Generation(list[0].group),
        keeps: Some(holds),
    };
    say(&mut world, next, relay, &ids, said);
    assert_eq!(view(&world, next, "class").state, PolicyStands::Holds);
}

#[test]
fn what_cannot_be_had_is_refused_with_the_limit() {
    let (mut world, _, _, _) = led();
    world.cut = true;
    world.input(0, Input::StoreLost);
    let ticket = ask_at(&mut world, 0, "class", Some(messages(10)));
    let why = refused(&mut world, 0, ticket);
    assert!(why.contains("store cannot be reached"), "{why}");
    world.cut = false;
    world.lead(0, true);
    world.settle();
    world.controllers[0].state.limits.policies = 1;
    ask(&mut world, "class", Some(messages(10)));
    let ticket = ask_at(&mut world, 0, "other", Some(messages(10)));
    let why = refused(&mut world, 0, ticket);
    assert!(why.contains("1 rooms have a policy, the limit"), "{why}");
    ask(&mut world, "class", Some(messages(20)));
}

#[test]
fn a_store_that_came_back_is_believed() {
    let (mut world, relays, edge, _) = led();
    ask(&mut world, "class", Some(messages(10)));
    world.input(0, Input::StoreLost);
    // By hand, while nobody looked.
    let key = key::Key::Policy(room("class")).to_string();
    let txn = Txn {
        compares: vec![],
        writes: vec![Write::Delete(key)],
    };
    world.engine.commit(&txn).unwrap();
    world.lead(0, false);
    world.settle();
    look(&mut world);
    assert!(told(&world, 0, relays[0]).is_empty());
    let state = world.told_room(edge, "class").expect("edges are told");
    assert_eq!(state.keep, None);
    assert_eq!(view(&world, 0, "class").state, PolicyStands::Default);
}
