//! Another controller begins to lead: nothing that runs may notice.

use super::*;

const CLASS: (&str, &str) = ("class", "teacher");

/// Three relays; the ways from Beijing to Singapore over Hong Kong and directly take nearly as long.
fn triangle(world: &mut World, index: usize, held: Option<Routes>) -> [Conn; 3] {
    let relays = ["bj-relay-1", "hk-relay-1", "sg-relay-1"];
    let conns = relays.map(|relay| {
        let lease = world.controllers[index].state.nodes.get(&node(relay));
        let lease = lease.map_or(0, |n| n.lease);
        let mut join = join(relay, 1, lease);
        join.held = held.clone().filter(|_| relay == "bj-relay-1");
        join.carries = join.held.is_some();
        world.join_with(index, join)
    });
    let ms = |a: &str, b: &str| match (a.starts_with("hk"), b.starts_with("hk")) {
        (false, false) => 40,
        _ => 19,
    };
    for (relay, conn) in relays.iter().zip(conns) {
        let others = relays.iter().filter(|other| *other != relay);
        let reports = others.map(|from| report(from, ms(from, relay))).collect();
        world.input(index, Input::Said(conn, Said::Links(reports)));
    }
    world.settle();
    world.wait(Duration::from_secs(1));
    conns
}

fn way(routes: &Routes) -> Vec<&str> {
    let path = &routes.paths["sg-relay-1"][0];
    path.hops.iter().map(|hop| hop.node.as_str()).collect()
}

#[test]
fn a_new_leader_begins_with_the_paths_that_nodes_use() {
    let mut world = World::new();
    let [bj, ..] = triangle(&mut world, 0, None);
    let computed = world.table(bj).unwrap();
    let direct = ["sg-relay-1"];
    let (used, other): (&[&str], _) = match way(&computed) == direct {
        true => (&["hk-relay-1", "sg-relay-1"], direct.to_vec()),
        false => (&direct, way(&computed)),
    };
    // Beijing uses the one that is not best by a hair: the backup in the table of before.
    let mut held = computed.clone();
    held.paths.get_mut("sg-relay-1").unwrap().swap(0, 1);
    assert_eq!(way(&held), used);
    assert_ne!(way(&held), other);

    let second = world.elect();
    world.settle();
    let [bj, ..] = triangle(&mut world, second, Some(held.clone()));
    let pushed = &world.controllers[second].pushed[&bj];
    let tables = pushed.iter().filter_map(|m| match m {
        to_node::Message::Table(table) => Some(table),
        _ => None,
    });
    let told = tables.fold(held.clone(), |held, told| {
        encoding::read(told, &held).expect("a change of what it holds")
    });
    assert!(told.version > held.version, "nodes see that somebody leads");
    assert_eq!(way(&told), used, "and go on as before");
    let switches = world.controllers[second].state.router().switches().count();
    assert_eq!(switches, 0);
}

#[test]
fn records_that_ended_while_no_controller_ran_are_put_again() {
    let mut world = World::new();
    let [bj, ..] = triangle(&mut world, 0, None);
    let edge = world.join("hk-edge-1", 1, 0);
    world.watch(edge, "class");
    let claim = world.claim("hk-edge-1", CLASS, "ann").unwrap();
    world.wait(Duration::from_millis(200));
    let held = world.table(bj).unwrap();

    // All controllers are gone for longer than leases live.
    for id in ["bj-relay-1", "hk-relay-1", "sg-relay-1", "hk-edge-1"] {
        let lease = world.state().nodes[&node(id)].lease;
        world.engine.revoke(lease).unwrap();
    }
    world.at += Duration::from_secs(60);
    let second = world.elect();
    world.settle();
    assert!(world.controllers[second].state.nodes.is_empty());

    // The edge comes first: it is told of no world without the others, and of no room without its
    // stream.
    let mut joins = join("hk-edge-1", 1, 77);
    joins.carries = true;
    joins.held = Some(held.clone());
    joins.streams = vec![HeldStream {
        room: room("class"),
        stream: stream("teacher"),
        generation: claim.generation,
        hls_base: claim.hls_base,
        identity: "ann".into(),
    }];
    let edge = world.join_with(second, joins);
    let watch = Said::Watch {
        room: room("class"),
        viewers: 1,
        members: 0,
    };
    world.input(second, Input::Said(edge, watch));
    world.settle();
    world.wait(Duration::from_secs(1));
    let told = |world: &World| world.controllers[second].pushed[&edge].clone();
    assert_eq!(told(&world).len(), 1, "a welcome: {:?}", told(&world));
    let relay = {
        let mut joins = join("hk-relay-1", 1, 78);
        joins.held = Some(Routes {
            paths: Default::default(),
            ..held.clone()
        });
        world.join_with(second, joins)
    };
    world.input(second, Input::Said(relay, Said::Links(Vec::new())));
    world.settle();
    world.wait(Duration::from_secs(10));
    let told = told(&world);
    let rooms = told.iter().filter_map(|m| match m {
        to_node::Message::Room(room) => Some(room),
        _ => None,
    });
    for state in rooms.clone() {
        assert_eq!(state.streams[0].generation, claim.generation.0);
    }
    assert!(rooms.count() > 0, "it is told in the end: {told:?}");
    let key = "tenants/default/rooms/class/streams/teacher".to_owned();
    assert!(world.keys().contains(&key), "{:?}", world.keys());
}

#[test]
fn leases_that_end_while_a_new_leader_settles_tear_nothing_down() {
    let mut world = World::new();
    let [bj, ..] = triangle(&mut world, 0, None);
    let edge = world.join("hk-edge-1", 1, 0);
    world.watch(edge, "class");
    let claim = world.claim("hk-edge-1", CLASS, "ann").unwrap();
    world.wait(Duration::from_millis(200));
    let held = world.table(bj).unwrap();
    let nodes = ["bj-relay-1", "hk-relay-1", "sg-relay-1", "hk-edge-1"];
    let leases = nodes.map(|id| world.state().nodes[&node(id)].lease);

    // The store sleeps; the next leader finds all records, and then their leases end at once.
    world.at += Duration::from_secs(60);
    let second = world.elect();
    world.settle();
    assert_eq!(world.controllers[second].state.nodes.len(), nodes.len());
    let mut joins = join("hk-edge-1", 1, leases[3]);
    joins.carries = true;
    joins.held = Some(held.clone());
    joins.streams = vec![HeldStream {
        room: room("class"),
        stream: stream("teacher"),
        generation: claim.generation,
        hls_base: claim.hls_base,
        identity: "ann".into(),
    }];
    let edge = world.join_with(second, joins);
    for lease in leases {
        world.engine.revoke(lease).unwrap();
    }
    world.settle();
    let watch = Said::Watch {
        room: room("class"),
        viewers: 1,
        members: 0,
    };
    world.input(second, Input::Said(edge, watch));
    world.settle();
    world.wait(Duration::from_secs(5));
    let told = world.controllers[second].pushed[&edge].clone();
    let early =
        |m: &to_node::Message| matches!(m, to_node::Message::Room(_) | to_node::Message::Table(_));
    assert!(!told.iter().any(early), "{told:?}");
    world.wait(Duration::from_secs(6));
    let told = world.controllers[second].pushed[&edge].clone();
    let rooms = told.iter().filter_map(|m| match m {
        to_node::Message::Room(room) => Some(room.streams.len()),
        _ => None,
    });
    let rooms: Vec<usize> = rooms.collect();
    assert!(
        !rooms.is_empty() && rooms.iter().all(|n| *n == 1),
        "{rooms:?}"
    );
}

#[test]
fn a_stream_given_to_another_meanwhile_is_not_taken_back() {
    let mut world = World::new();
    world.join("hk-relay-1", 1, 0);
    world.join("hk-edge-1", 1, 0);
    world.join("sg-edge-1", 1, 0);
    world.settle();
    let first = world.claim("hk-edge-1", CLASS, "ann").unwrap();
    let second = world.claim("sg-edge-1", CLASS, "ann").unwrap();
    // Hong Kong's edge comes back with what it was given once.
    let mut back = join(
        "hk-edge-1",
        1,
        world.state().nodes[&node("hk-edge-1")].lease,
    );
    back.streams = vec![HeldStream {
        room: room("class"),
        stream: stream("teacher"),
        generation: first.generation,
        hls_base: first.hls_base,
        identity: "ann".into(),
    }];
    world.join_with(0, back.clone());
    world.settle();
    let held = &world.state().rooms[&room("class")].streams[&stream("teacher")];
    assert_eq!(held.record.generation, second.generation);

    // And when the other has given its own back, the store still knows that a later one was given.
    let release = Input::Release {
        session: world.state().nodes[&node("sg-edge-1")].lease,
        room: room("class"),
        stream: stream("teacher"),
        generation: second.generation,
    };
    world.input(0, release);
    world.settle();
    world.join_with(0, back);
    world.settle();
    assert!(world.state().rooms[&room("class")].streams.is_empty());
}
