//! Edges that are cordoned and drained: who is told what, and when they are empty.

use super::*;
use crate::state::record::Wish;

/// When the drain of these tests is to be done, Unix ms; the clock begins at 1,000,001,000.
const DEADLINE_MS: u64 = 1_000_061_000;

/// Two edges in Hong Kong and one in Singapore that users reach, and a relay.
fn edges() -> (World, [Conn; 4]) {
    let mut world = World::new();
    let join_edge = |world: &mut World, id: &str| {
        let mut join = join(id, 1, 0);
        join.node.http = format!("http://{id}");
        world.join_with(0, join)
    };
    let conns = [
        join_edge(&mut world, "hk-edge-1"),
        join_edge(&mut world, "hk-edge-2"),
        join_edge(&mut world, "sg-edge-1"),
        world.join("hk-relay-1", 1, 0),
    ];
    world.settle();
    (world, conns)
}

fn change(id: &str, ask: Ask) -> Change {
    Change {
        target: Target::Node(node(id)),
        ask,
        reason: "new disks".into(),
        owner: "ann".into(),
        ttl: None,
        force: false,
    }
}

fn drain() -> Ask {
    Ask::Set(Wish::Drain {
        deadline_ms: DEADLINE_MS,
    })
}

fn make(world: &mut World, change: Change) -> Result<Changed, Unchanged> {
    let ticket = world.number();
    world.input(0, Input::Change(ticket, change));
    world.settle();
    let answer = world.controllers[0].changed.remove(&ticket);
    // What is gathered for a while is told.
    world.wait(Duration::from_millis(100));
    answer.expect("a change is answered")
}

/// Draining, cordoned, what is left: as a node was told of another last.
fn told(world: &World, index: usize, conn: Conn, id: &str) -> (bool, bool, u32) {
    let pushed = world.controllers[index].pushed[&conn].iter().rev();
    let mut directories = pushed.filter_map(|message| match message {
        to_node::Message::Directory(directory) => Some(directory),
        _ => None,
    });
    let newest = directories.next().expect("a directory");
    let entry = newest.nodes.iter().find(|entry| entry.id == id);
    let entry = entry.expect("it stands in the directory");
    (entry.draining, entry.cordoned, entry.drain_left_ms)
}

fn view(world: &World, id: &str) -> NodeView {
    let nodes = world.state().view_nodes();
    let found = nodes.into_iter().find(|n| *n.info.id == *id);
    found.expect("it is known")
}

const DONE: Result<Changed, Unchanged> = Ok(Changed { changed: true });

fn says(room_name: &str, viewers: u32, members: u32) -> Said {
    Said::Watch {
        room: room(room_name),
        viewers,
        members,
    }
}

fn serves(subscriptions: u32) -> Said {
    let status = Status {
        subscriptions,
        ..Status::default()
    };
    Said::Status(status, Vec::new(), Vec::new(), Vec::new())
}

#[test]
fn everybody_is_told_of_it_and_the_edge_how_long_is_left() {
    let (mut world, [hk, _, sg, relay]) = edges();
    assert_eq!(make(&mut world, change("hk-edge-1", drain())), DONE);
    for conn in [hk, sg, relay] {
        let (draining, cordoned, left) = told(&world, 0, conn, "hk-edge-1");
        assert!(draining && !cordoned);
        assert!((59_000..=60_000).contains(&left), "{left}");
        assert_eq!(told(&world, 0, conn, "hk-edge-2"), (false, false, 0));
    }
    let cordon = Ask::Set(Wish::Cordon);
    assert_eq!(make(&mut world, change("sg-edge-1", cordon)), DONE);
    assert_eq!(told(&world, 0, hk, "sg-edge-1"), (false, true, 0));
    assert_eq!(view(&world, "sg-edge-1").state, "cordoned");
    assert_eq!(make(&mut world, change("hk-edge-1", Ask::Undrain)), DONE);
    assert_eq!(told(&world, 0, hk, "hk-edge-1"), (false, false, 0));
}

#[test]
fn an_edge_that_starts_anew_drains_on_with_what_is_left_also_under_another_controller() {
    let (mut world, _) = edges();
    assert_eq!(make(&mut world, change("hk-edge-1", drain())), DONE);
    world.wait(Duration::from_secs(20));
    let conn = world.join("hk-edge-1", 2, 0);
    world.settle();
    world.wait(Duration::from_millis(100));
    let (draining, _, left) = told(&world, 0, conn, "hk-edge-1");
    assert!(draining);
    assert!((39_000..=40_000).contains(&left), "{left}");

    let second = world.elect();
    world.settle();
    world.at += Duration::from_secs(60);
    let conn = world.join_at(second, "hk-edge-1", 3, 0);
    world.settle();
    world.wait(Duration::from_millis(100));
    assert_eq!(told(&world, second, conn, "hk-edge-1"), (true, false, 0));
}

#[test]
fn an_edge_is_drained_when_nobody_is_at_it() {
    let (mut world, [hk, ..]) = edges();
    world.said(hk, says("class", 2, 30));
    world.said(hk, says("talk", 1, 12));
    world.said(hk, serves(5));
    world
        .claim("hk-edge-1", ("class", "teacher"), "ann")
        .unwrap();
    let load = Load {
        members: 42,
        viewers: 3,
        publishers: 1,
    };
    assert_eq!(view(&world, "hk-edge-1").load, load);
    assert_eq!(view(&world, "hk-edge-2").load, Load::default());
    assert_eq!(make(&mut world, change("hk-edge-1", drain())), DONE);
    let state = |world: &World| view(world, "hk-edge-1").state;
    // All that is there goes, one after the other.
    world.said(hk, says("class", 0, 0));
    world.said(hk, says("talk", 0, 1));
    world.said(hk, serves(0));
    assert_eq!(state(&world), "draining");
    world.said(hk, says("talk", 0, 0));
    assert_eq!(state(&world), "draining", "a stream is published there");
    let held = view_stream(&world);
    world.input(
        0,
        Input::Release {
            session: world.state().nodes[&node("hk-edge-1")].lease,
            room: room("class"),
            stream: stream("teacher"),
            generation: held,
        },
    );
    world.settle();
    assert_eq!(state(&world), "drained");
    // Somebody watches over HLS.
    world.said(hk, serves(1));
    assert_eq!(state(&world), "draining");
}

fn view_stream(world: &World) -> Generation {
    let held = &world.state().rooms[&room("class")].streams[&stream("teacher")];
    held.record.generation
}

#[test]
fn the_last_edge_is_drained_by_force_only() {
    let (mut world, [_, hk_2, ..]) = edges();
    assert_eq!(make(&mut world, change("sg-edge-1", drain())), DONE);
    world.input(0, Input::Left(hk_2));
    let refused = |told: Result<Changed, Unchanged>| match told {
        Err(Unchanged::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(make(&mut world, change("hk-edge-1", drain())));
    assert!(
        why.contains("hk-edge-2 is down, sg-edge-1 drains too"),
        "{why}"
    );
    let plan = world.state().view_edge_drain(&node("hk-edge-1")).unwrap();
    assert_eq!(plan.refused, Some(why));
    // What drains already may be given another deadline.
    let mut later = change("sg-edge-1", drain());
    later.ask = Ask::Set(Wish::Drain {
        deadline_ms: DEADLINE_MS + 1,
    });
    assert_eq!(make(&mut world, later), DONE);
    let mut forced = change("hk-edge-1", drain());
    forced.force = true;
    assert_eq!(make(&mut world, forced), DONE);
    assert_eq!(view(&world, "hk-edge-1").state, "draining");
}

#[test]
fn a_dry_run_names_who_takes_the_members_the_nearest_first() {
    let (mut world, [hk, ..]) = edges();
    world.said(hk, says("class", 1, 2));
    world
        .claim("hk-edge-1", ("class", "teacher"), "ann")
        .unwrap();
    let plan = world.state().view_edge_drain(&node("hk-edge-1")).unwrap();
    assert_eq!(plan.takers, [node("hk-edge-2"), node("sg-edge-1")]);
    assert_eq!(plan.streams, ["default/class/teacher"]);
    assert_eq!((plan.load.members, plan.load.viewers), (2, 1));
    assert_eq!(plan.refused, None);
    let cordon = Ask::Set(Wish::Cordon);
    assert_eq!(make(&mut world, change("hk-edge-2", cordon)), DONE);
    let plan = world.state().view_edge_drain(&node("hk-edge-1")).unwrap();
    assert_eq!(plan.takers, [node("sg-edge-1")]);
    assert!(
        world
            .keys()
            .iter()
            .all(|key| key != "overrides/nodes/hk-edge-1")
    );
}
