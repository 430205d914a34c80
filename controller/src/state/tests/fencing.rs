//! Random interleavings: whatever is delayed, lost, deposed or ended, no generation has two
//! owners, and none is ever lower than one before.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const EDGES: [&str; 3] = ["hk-edge-1", "sg-edge-1", "bj-edge-1"];
const STREAMS: [(&str, &str); 2] = [("class", "teacher"), ("class", "screen")];
const IDENTITIES: [&str; 2] = ["ann", "bob"];

#[derive(Debug, Clone)]
enum Op {
    /// An edge asks a controller.
    Claim(usize, usize, usize, usize),
    /// An edge gives back what it was granted last.
    Release(usize, usize),
    /// The store does a controller's oldest call.
    Step(usize),
    /// A controller gets its oldest result.
    Answer(usize),
    /// A controller is told what happened.
    Tell(usize),
    /// A controller's oldest call is lost, after it happened or before.
    Lose(usize, bool),
    /// A controller asks whether the store is back.
    Recover(usize),
    /// Another controller takes the election; the old one does not know.
    Elect,
    /// Time passes, and with it leases.
    Wait(u64),
    /// An edge's session at a controller breaks, and may come back as another run.
    Left(usize, usize),
    Join(usize, usize, u64),
    /// An edge lives.
    Heartbeat(usize, usize),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let c = 0..3_usize;
    prop_oneof![
        6 => (c.clone(), 0..3_usize, 0..2_usize, 0..2_usize).prop_map(|(c, e, s, i)| Op::Claim(c, e, s, i)),
        2 => (c.clone(), 0..2_usize).prop_map(|(c, s)| Op::Release(c, s)),
        8 => c.clone().prop_map(Op::Step),
        8 => c.clone().prop_map(Op::Answer),
        4 => c.clone().prop_map(Op::Tell),
        2 => (c.clone(), any::<bool>()).prop_map(|(c, b)| Op::Lose(c, b)),
        2 => c.clone().prop_map(Op::Recover),
        1 => Just(Op::Elect),
        1 => (0..20_000_u64).prop_map(Op::Wait),
        1 => (c.clone(), 0..3_usize).prop_map(|(c, e)| Op::Left(c, e)),
        3 => (c.clone(), 0..3_usize, 1..3_u64).prop_map(|(c, e, b)| Op::Join(c, e, b)),
        2 => (c, 0..3_usize).prop_map(|(c, e)| Op::Heartbeat(c, e)),
        2 => Just(Op::Settle),
    ]
}

fn conn(world: &World, c: usize, e: usize) -> Option<Conn> {
    world.controllers[c].state.nodes.get(&node(EDGES[e]))?.conn
}

fn apply(world: &mut World, asked: &mut BTreeMap<(usize, Ticket), usize>, op: &Op) {
    let within = |c: usize| c % world.controllers.len();
    match *op {
        Op::Claim(c, e, s, i) => {
            let c = within(c);
            let ticket = world.ask_at(c, EDGES[e], STREAMS[s], IDENTITIES[i]);
            asked.insert((c, ticket), s);
        }
        Op::Release(c, s) => {
            let c = within(c);
            let (in_room, name) = (room(STREAMS[s].0), stream(STREAMS[s].1));
            let held = world.controllers[c].state.rooms.get(&in_room);
            if let Some(held) = held.and_then(|r| r.streams.get(&name)).cloned() {
                let release = Input::Release {
                    session: held.session,
                    room: in_room,
                    stream: name,
                    generation: held.record.generation,
                };
                world.input(c, release);
            }
        }
        Op::Step(c) => drop(world.step(within(c))),
        Op::Answer(c) => drop(world.answer(within(c))),
        Op::Tell(c) => drop(world.tell(within(c))),
        Op::Lose(c, happens) => drop(world.lose(within(c), happens)),
        Op::Recover(c) => {
            // Only who leads still gets an answer; a deposed one is replaced by its driver.
            let c = within(c);
            let key = key::Key::Election.to_string();
            let record = world.engine.read(&key, None).unwrap();
            let current = record.entries.first().map(|e| e.revision);
            if current == Some(world.controllers[c].state.election) {
                world.lead(c, false);
            }
        }
        Op::Elect if world.controllers.len() < 3 => drop(world.elect()),
        Op::Elect => {}
        Op::Wait(ms) => {
            world.at += Duration::from_millis(ms);
            let now = world.now().time;
            world.engine.expire(now);
        }
        Op::Left(c, e) => {
            let c = within(c);
            if let Some(conn) = conn(world, c, e) {
                world.input(c, Input::Left(conn));
            }
        }
        Op::Join(c, e, boot) => {
            let c = within(c);
            let known = world.controllers[c].state.nodes.get(&node(EDGES[e]));
            let session = known.map_or(0, |n| n.lease);
            world.join_at(c, EDGES[e], boot, session);
        }
        Op::Heartbeat(c, e) => {
            let c = within(c);
            if let Some(conn) = conn(world, c, e) {
                world.input(c, Input::Said(conn, Said::Heartbeat));
            }
        }
        Op::Settle => world.settle(),
    }
}

/// Every generation that was granted, by stream and generation: once.
fn check(world: &World, asked: &BTreeMap<(usize, Ticket), usize>) {
    let mut committed: BTreeMap<String, BTreeSet<Generation>> = BTreeMap::new();
    for (key, list) in issued(&world.engine) {
        let generations: Vec<Generation> = list.iter().map(|(g, _)| *g).collect();
        assert!(
            generations.is_sorted_by(|a, b| a < b),
            "{key} was given out as {generations:?}"
        );
        committed.insert(key, generations.into_iter().collect());
    }
    let mut granted: BTreeSet<(usize, Generation)> = BTreeSet::new();
    for (c, controller) in world.controllers.iter().enumerate() {
        for (ticket, answer) in &controller.claimed {
            let Ok(answer) = answer else { continue };
            let s = asked[&(c, *ticket)];
            assert!(
                granted.insert((s, answer.generation)),
                "{:?} has two owners under {}",
                STREAMS[s],
                answer.generation
            );
            let key = key::Key::Generation(room(STREAMS[s].0), stream(STREAMS[s].1));
            assert!(
                committed[&key.to_string()].contains(&answer.generation),
                "{} was told but never committed",
                answer.generation
            );
        }
    }
    // A record in the store never stands above what was given out.
    for entry in world.engine.read(key::ROOT, None).unwrap().entries {
        if let Some(key::Key::Stream(room, stream)) = key::Key::parse(&entry.key) {
            let record: record::Stream = record::read(&entry.value).unwrap();
            let key = key::Key::Generation(room, stream).to_string();
            assert!(committed[&key].contains(&record.generation));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_generation_has_two_owners(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        let mut asked = BTreeMap::new();
        world.join("hk-relay-1", 1, 0);
        for (n, edge) in EDGES.iter().enumerate() {
            let conn = world.join(edge, 1, 0);
            if n < 2 {
                world.watch(conn, "class");
            }
        }
        for op in &ops {
            apply(&mut world, &mut asked, op);
            check(&world, &asked);
        }
        // Whatever happened: when the store answers again, whoever leads serves, and every claim
        // has been answered.
        let last = world.controllers.len() - 1;
        world.lead(last, false);
        world.settle();
        check(&world, &asked);
        let state = &world.controllers[last].state;
        for (c, ticket) in asked.keys() {
            if *c == last {
                let granted = world.controllers[last].claimed.contains_key(ticket);
                let waits_for_lease = state.nodes.values().any(|n| !n.granted);
                prop_assert!(granted || waits_for_lease, "a claim is never answered");
            }
        }
    }
}
