//! What must happen, step by step.

use super::*;

const CLASS: (&str, &str) = ("class", "teacher");

/// A relay and an edge in Hong Kong, an edge in Singapore; the class is watched in both.
fn class() -> (World, [Conn; 3]) {
    let mut world = World::new();
    let relay = world.join("hk-relay-1", 1, 0);
    let hk = world.join("hk-edge-1", 1, 0);
    let sg = world.join("sg-edge-1", 1, 0);
    world.watch(hk, "class");
    world.watch(sg, "class");
    world.settle();
    (world, [relay, hk, sg])
}

fn granted(generation: u64, claim: Result<Granted, Refused>) {
    let claim = claim.expect("granted");
    assert_eq!(claim.generation, Generation::new(0, generation));
}

fn unavailable(claim: Result<Granted, Refused>) {
    assert!(matches!(claim, Err(Refused::Unavailable(_))), "{claim:?}");
}

#[test]
fn records_stand_where_the_design_says_and_go_with_their_node() {
    let (mut world, [relay, hk, sg]) = class();
    granted(1, world.claim("hk-edge-1", CLASS, "ann"));
    let all = [
        "generations/default/class/teacher",
        "nodes/hk-edge-1",
        "nodes/hk-relay-1",
        "nodes/sg-edge-1",
        "tenants/default/rooms/class",
        "tenants/default/rooms/class/edges/hk-edge-1",
        "tenants/default/rooms/class/edges/sg-edge-1",
        "tenants/default/rooms/class/streams/teacher",
    ];
    assert_eq!(world.keys(), all);
    // Hong Kong's edge dies. Its session ends at once; its records with its lease.
    world.input(0, Input::Left(hk));
    world.live(&[relay, sg], 14);
    assert_eq!(world.keys(), all);
    assert_eq!(world.told_room(sg, "class").unwrap().streams.len(), 1);
    world.live(&[relay, sg], 2);
    let left = world.keys();
    assert_eq!(
        left,
        [
            "generations/default/class/teacher",
            "nodes/hk-relay-1",
            "nodes/sg-edge-1",
            "tenants/default/rooms/class",
            "tenants/default/rooms/class/edges/sg-edge-1",
        ]
    );
    let told = world.told_room(sg, "class").unwrap();
    assert!(told.streams.is_empty() && told.edges == ["sg-edge-1"]);
    granted(2, world.claim("sg-edge-1", CLASS, "bob"));
}

#[test]
fn a_room_watched_again_over_a_new_connection_is_told_there() {
    let (mut world, [_, _, before]) = class();
    granted(1, world.claim("hk-edge-1", CLASS, "ann"));
    assert_eq!(world.told_room(before, "class").unwrap().streams.len(), 1);
    // Its connection breaks and it comes back, the same process: what changed meanwhile it never heard.
    let session = world.state().nodes[&node("sg-edge-1")].lease;
    let again = world.join("sg-edge-1", 1, session);
    world.watch(again, "class");
    world.settle();
    let told = world.told_room(again, "class");
    assert_eq!(told.map(|room| room.streams.len()), Some(1));
}

#[test]
fn the_same_publisher_takes_over_another_is_refused() {
    let (mut world, [_, hk, _]) = class();
    granted(1, world.claim("hk-edge-1", CLASS, ""));
    let base = world.told_room(hk, "class").unwrap().streams[0].hls_base;
    assert_eq!(base, 1_000_001, "Unix seconds at the claim");
    let held = world.claim("sg-edge-1", CLASS, "bob").unwrap_err();
    assert_eq!(
        held.to_string(),
        "stream teacher of room default/class is held by another publisher, at hk-edge-1"
    );
    granted(2, world.claim("sg-edge-1", CLASS, ""));
    let streams = &world.told_room(hk, "class").unwrap().streams;
    assert_eq!(streams[0].origin, "sg-edge-1");
    assert_eq!(streams[0].hls_base, base + 1, "within the same second");
    assert_eq!(
        world.claim("hk-edge-1", ("class", "@room"), ""),
        Err(Refused::Reserved(stream("@room")))
    );
}

#[test]
fn claims_of_one_stream_wait_for_each_other() {
    let (mut world, _) = class();
    let tickets = [
        world.ask("hk-edge-1", CLASS, "ann"),
        world.ask("sg-edge-1", CLASS, "bob"),
        world.ask("sg-edge-1", CLASS, "ann"),
        world.ask("hk-edge-1", ("class", "screen"), "ann"),
    ];
    world.settle();
    let told: Vec<Option<u64>> = tickets
        .iter()
        .map(|t| {
            let told = world.controllers[0].claimed[t].as_ref();
            told.ok().map(|g| g.generation.counter())
        })
        .collect();
    assert_eq!(told, [Some(1), None, Some(2), Some(1)]);
}

#[test]
fn a_room_waits_for_relays() {
    let mut world = World::new();
    let edge = world.join("bj-edge-1", 1, 0);
    world.watch(edge, "class");
    world.settle();
    let key = "tenants/default/rooms/class".to_owned();
    assert!(world.keys().contains(&key), "it has a record meanwhile");
    assert_eq!(world.state().rooms[&room("class")].group, None);
    // What happens once there are relays that keep logs: `groups`.
}

#[test]
fn a_commit_of_unknown_outcome_never_blocks_another_publisher() {
    let (mut world, _) = class();
    let ticket = world.ask("hk-edge-1", CLASS, "ann");
    world.step(0);
    world.answer(0);
    // The commit happens; its answer is lost.
    assert!(world.lose(0, true) && world.answer(0));
    let told = world.controllers[0].claimed.remove(&ticket).unwrap();
    unavailable(told);
    let record = "tenants/default/rooms/class/streams/teacher".to_owned();
    assert!(world.keys().contains(&record));
    unavailable(world.claim("sg-edge-1", CLASS, "bob"));
    world.lead(0, false);
    world.settle();
    assert!(!world.keys().contains(&record), "nobody holds it");
    granted(2, world.claim("sg-edge-1", CLASS, "bob"));
}

#[test]
fn what_nodes_hold_survives_leases_that_ended_in_an_outage() {
    let (mut world, [relay, hk, sg]) = class();
    granted(1, world.claim("hk-edge-1", CLASS, "ann"));
    granted(1, world.claim("sg-edge-1", ("class", "screen"), "bob"));
    let before = world.keys();
    world.cut = true;
    for conn in [relay, hk, sg] {
        world.said(conn, Said::Heartbeat);
    }
    world.settle();
    unavailable(world.claim("hk-edge-1", ("class", "other"), "ann"));
    // Singapore's edge dies meanwhile; a relay comes.
    world.input(0, Input::Left(sg));
    let late = world.join("sg-relay-1", 1, 0);
    world.at += Duration::from_secs(100);
    assert_eq!(world.state().rooms[&room("class")].streams.len(), 2);
    // The store wakes, and ends all leases at once.
    world.cut = false;
    let now = world.now().time;
    world.engine.expire(now);
    assert_eq!(world.keys().len(), 3, "two generations and the room");
    world.lead(0, false);
    world.settle();
    let mut expected: Vec<String> = before
        .into_iter()
        .filter(|key| !key.ends_with("/sg-edge-1") && !key.ends_with("/streams/screen"))
        .collect();
    expected.push("nodes/sg-relay-1".into());
    expected.sort();
    assert_eq!(world.keys(), expected);
    let told = world.told_room(hk, "class").unwrap();
    assert_eq!(told.streams.len(), 1);
    assert_eq!(told.streams[0].generation, 1, "under the same generation");
    assert_eq!(told.edges, ["hk-edge-1"]);
    world.live(&[relay, hk, late], 20);
    assert_eq!(world.keys(), expected, "and their leases live on");
}

#[test]
fn leases_may_end_without_the_controller_noticing_an_outage() {
    let (mut world, [_, hk, sg]) = class();
    granted(1, world.claim("hk-edge-1", CLASS, "ann"));
    let before = world.keys();
    // No heartbeat came in time, but the sessions stand.
    world.wait(Duration::from_secs(16));
    world.settle();
    assert_eq!(world.keys(), before);
    assert_eq!(
        world.told_room(sg, "class").unwrap().streams[0].generation,
        1
    );
    world.said(hk, Said::Heartbeat);
    world.settle();
    assert_eq!(world.keys(), before);
}

#[test]
fn a_deposed_controller_writes_nothing() {
    let (mut world, [_, hk, _]) = class();
    granted(1, world.claim("hk-edge-1", CLASS, "ann"));
    let second = world.elect();
    world.settle();
    let before = world.keys();
    unavailable(world.claim("hk-edge-1", CLASS, "ann"));
    world.watch(hk, "another");
    world.input(0, Input::Left(hk));
    world.settle();
    assert_eq!(world.keys(), before);
    // The one that leads knows all from the store, and goes on above it.
    let lease = world.controllers[second].state.nodes[&node("sg-edge-1")].lease;
    world.join_at(second, "sg-edge-1", 1, lease);
    world.settle();
    let ticket = world.ask_at(second, "sg-edge-1", CLASS, "ann");
    world.settle();
    granted(
        2,
        world.controllers[second].claimed.remove(&ticket).unwrap(),
    );
}

#[test]
fn tables_wait_until_those_of_before_have_reported() {
    let (mut world, [relay, ..]) = class();
    world.join("sg-relay-1", 1, 0);
    world.settle();
    world.live(&[relay], 1);
    assert!(
        world.table(relay).is_some(),
        "a new backbone waits for nobody"
    );

    let second = world.elect();
    world.settle();
    let hk = world.controllers[second].state.nodes[&node("hk-relay-1")].lease;
    let conn = world.join_at(second, "hk-relay-1", 1, hk);
    let links = Said::Links(Vec::new());
    world.input(second, Input::Said(conn, links.clone()));
    let pushed = |world: &World| {
        let pushed = &world.controllers[second].pushed[&conn];
        pushed
            .iter()
            .any(|m| matches!(m, to_node::Message::Table(_)))
    };
    world.wait(Duration::from_millis(9_900));
    assert!(!pushed(&world), "the other relay has not come back");
    let renewed = Input::Renewed(world.now().time);
    world.input(second, renewed);
    world.wait(Duration::from_millis(100));
    assert!(pushed(&world), "and is not waited for forever");
}

#[test]
fn no_table_is_pushed_once_another_may_lead() {
    let (mut world, [relay, ..]) = class();
    world.live(&[relay], 1);
    let before = world.table(relay).unwrap();
    // The election was renewed a second ago.
    world.at += Limits::default().election_ttl - Duration::from_secs(1);
    world.join("sg-relay-1", 1, 0);
    world.wait(Duration::ZERO);
    assert_eq!(world.table(relay).as_ref(), Some(&before));
    let timeout = world.state().poll_timeout().unwrap();
    assert!(timeout > world.now().time, "no busy loop: {timeout:?}");
    let renewed = Input::Renewed(world.now().time);
    world.input(0, renewed);
    world.wait(Duration::ZERO);
    let after = world.table(relay).unwrap();
    assert_eq!(after.neighbours, [node("sg-relay-1")]);
    assert!(after.version > before.version);
}

#[test]
fn bounds_are_named() {
    let (mut world, [_, hk, _]) = class();
    world.controllers[0].state.limits.streams_per_room = 1;
    world.controllers[0].state.limits.rooms_per_node = 2;
    granted(1, world.claim("hk-edge-1", CLASS, "ann"));
    let told = world.claim("hk-edge-1", ("class", "screen"), "ann");
    assert_eq!(
        told.unwrap_err().to_string(),
        "streams in one room: the limit of 1 is reached"
    );
    granted(2, world.claim("hk-edge-1", CLASS, "ann"));
    world.watch(hk, "second");
    assert!(world.controllers[0].closed.is_empty());
    world.watch(hk, "third");
    assert_eq!(
        world.controllers[0].closed[&hk].to_string(),
        "rooms one node watches: the limit of 2 is reached"
    );
    world.controllers[0].state.limits.commits = 0;
    unavailable(world.claim("hk-edge-1", CLASS, "ann"));
}

#[test]
fn a_room_that_nobody_uses_is_forgotten_but_not_its_generations() {
    let (mut world, [relay, hk, sg]) = class();
    let claim = world.claim("hk-edge-1", CLASS, "ann").unwrap();
    let release = Input::Release {
        session: world.state().nodes[&node("hk-edge-1")].lease,
        room: room("class"),
        stream: stream("teacher"),
        generation: claim.generation,
    };
    world.input(0, release);
    for conn in [hk, sg] {
        world.said(conn, Said::Unwatch(room("class")));
    }
    world.settle();
    let lives = "tenants/default/rooms/class".to_owned();
    world.live(&[relay, hk, sg], 3_590);
    assert!(world.keys().contains(&lives));
    world.live(&[relay, hk, sg], 80);
    assert!(!world.keys().contains(&lives));
    assert!(world.state().rooms.is_empty());
    world.watch(hk, "class");
    world.settle();
    assert!(world.keys().contains(&lives));
    granted(2, world.claim("hk-edge-1", CLASS, "bob"));
}

#[test]
fn a_generation_that_cannot_be_read_is_never_overwritten() {
    let (mut world, _) = class();
    let put = Write::Put {
        key: key::Key::Generation(room("class"), stream("teacher")).to_string(),
        value: r#"{"v":2,"generation":"a new form"}"#.into(),
        lease: None,
    };
    let txn = Txn {
        compares: vec![],
        writes: vec![put],
    };
    world.engine.commit(&txn).unwrap();
    let told = world.claim("hk-edge-1", CLASS, "ann").unwrap_err();
    assert!(
        told.to_string()
            .contains("generations/default/class/teacher")
    );
}

#[test]
fn the_directory_is_told_once_for_many_changes() {
    let (mut world, [relay, ..]) = class();
    world.wait(Duration::from_millis(100));
    let directories = |world: &World| {
        let pushed = &world.controllers[0].pushed[&relay];
        pushed
            .iter()
            .filter_map(|m| match m {
                to_node::Message::Directory(d) => Some(d.nodes.len()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let before = directories(&world).len();
    for n in 2..20 {
        world.join(&format!("hk-edge-{n}"), 1, 0);
    }
    world.wait(Duration::from_millis(100));
    assert_eq!(directories(&world)[before..], [21]);
}
