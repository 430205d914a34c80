//! What operators ask for: stored with its audit, in force until taken back or over.

use super::*;
use crate::state::{key::Link, record::Wish};

/// Relays in Beijing, Hong Kong and Singapore, all linked, and an edge in Hong Kong.
fn backbone() -> (World, [Conn; 4]) {
    let mut world = World::new();
    let relays = ["bj-relay-1", "hk-relay-1", "sg-relay-1"];
    let conns = relays.map(|relay| world.join(relay, 1, 0));
    let edge = world.join("hk-edge-1", 1, 0);
    for (relay, conn) in relays.iter().zip(conns) {
        let others = relays.iter().filter(|other| *other != relay);
        let reports = others.map(|from| report(from, 20)).collect();
        world.said(conn, Said::Links(reports));
    }
    world.live(&[conns[0], conns[1], conns[2], edge], 1);
    let [bj, hk, sg] = conns;
    (world, [bj, hk, sg, edge])
}

fn of_node(id: &str) -> Target {
    Target::Node(node(id))
}

fn wish(target: Target, ask: Ask, ttl: Option<u64>) -> Change {
    Change {
        target,
        ask,
        reason: "new cables".into(),
        owner: "ann".into(),
        ttl: ttl.map(Duration::from_secs),
        force: false,
    }
}

fn drain() -> Ask {
    Ask::Set(Wish::Drain { deadline_ms: 0 })
}

fn change(world: &mut World, change: Change) -> Result<Changed, Unchanged> {
    change_at(world, 0, change)
}

fn change_at(world: &mut World, index: usize, change: Change) -> Result<Changed, Unchanged> {
    let ticket = world.number();
    world.input(index, Input::Change(ticket, change));
    world.settle();
    let answer = world.controllers[index].changed.remove(&ticket);
    answer.expect("a change is answered")
}

fn state_of(world: &World, index: usize, id: &str) -> &'static str {
    let nodes = world.controllers[index].state.view_nodes();
    let found = nodes.iter().find(|n| *n.info.id == *id);
    found.expect("it is known").state
}

fn is_draining(world: &World, conn: Conn, id: &str) -> bool {
    let pushed = world.controllers[0].pushed[&conn].iter().rev();
    let mut directories = pushed.filter_map(|m| match m {
        to_node::Message::Directory(d) => Some(d),
        _ => None,
    });
    let newest = directories.next().expect("a directory");
    newest.nodes.iter().any(|n| n.id == id && n.draining)
}

const DONE: Result<Changed, Unchanged> = Ok(Changed { changed: true });
const NOTHING: Result<Changed, Unchanged> = Ok(Changed { changed: false });

#[test]
fn a_drain_is_stored_with_its_audit_and_outlives_its_controller() {
    let (mut world, [bj, ..]) = backbone();
    let asked = wish(of_node("hk-relay-1"), drain(), None);
    assert_eq!(change(&mut world, asked.clone()), DONE);
    let key = "overrides/nodes/hk-relay-1".to_owned();
    assert!(world.keys().contains(&key));
    let audit = &world.controllers[0].audit[0];
    assert_eq!(audit["actor"], "operator ann");
    assert_eq!(audit["what"]["t"], "override_set");
    assert_eq!(audit["what"]["target"], "node hk-relay-1");
    assert_eq!(audit["what"]["reason"], "new cables");
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "draining");
    world.wait(Duration::from_millis(100));
    assert!(is_draining(&world, bj, "hk-relay-1"), "nodes are told");

    let second = world.elect();
    world.settle();
    let hk = world.controllers[second].state.nodes[&node("hk-relay-1")].lease;
    world.join_at(second, "hk-relay-1", 1, hk);
    assert_eq!(state_of(&world, second, "hk-relay-1"), "draining");
    let back = wish(of_node("hk-relay-1"), Ask::Undrain, None);
    assert_eq!(change_at(&mut world, second, back.clone()), DONE);
    assert_eq!(change_at(&mut world, second, back), NOTHING);
    assert!(!world.keys().contains(&key));
    assert_eq!(state_of(&world, second, "hk-relay-1"), "up");
}

#[test]
fn what_has_expired_counts_no_more_and_its_record_goes() {
    let (mut world, [bj, hk, sg, edge]) = backbone();
    let asked = wish(of_node("hk-relay-1"), Ask::Set(Wish::Cordon), Some(10));
    assert_eq!(change(&mut world, asked), DONE);
    let all = [bj, hk, sg, edge];
    world.live(&all, 9);
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "cordoned");
    // The store goes meanwhile: what is over is over.
    world.cut = true;
    world.input(0, Input::StoreLost);
    world.wait(Duration::from_secs(2));
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "up");
    assert!(world.state().router().overrides().nodes.is_empty());
    let key = "overrides/nodes/hk-relay-1".to_owned();
    assert!(world.keys().contains(&key));
    world.cut = false;
    world.lead(0, false);
    world.settle();
    world.wait(Duration::from_millis(10));
    assert!(!world.keys().contains(&key));
    let last = world.controllers[0].audit.last().unwrap();
    assert_eq!(last["what"]["t"], "override_ended");
    assert_eq!(last["what"]["reason"], "its time is over");
    assert_eq!(last["actor"], "the clock");
}

#[test]
fn what_cannot_be_had_is_refused_with_the_reason() {
    let (mut world, [_, hk, ..]) = backbone();
    let cordon = || Ask::Set(Wish::Cordon);
    let told = change(&mut world, wish(of_node("hk-rely-1"), cordon(), None));
    let Err(Unchanged::NotFound { what, near }) = told else {
        panic!("{told:?}");
    };
    assert_eq!(what, "there is no node hk-rely-1");
    assert_eq!(near.as_deref(), Some("hk-relay-1"));

    let mut refused = |target: Target, ask: Ask, words: &str| match change(
        &mut world,
        wish(target.clone(), ask, None),
    ) {
        Err(Unchanged::Refused(why) | Unchanged::NotFound { what: why, .. }) => {
            assert!(why.contains(words), "{words:?} is not in {why:?}");
        }
        other => panic!("{target}: {other:?}"),
    };
    refused(of_node("hk-edge-1"), drain(), "it is the only edge");
    let link = |to: &str, net: Option<&str>| Link {
        from: node("bj-relay-1"),
        to: node(to),
        net: net.map(|net| net.parse().unwrap()),
    };
    let over = link("sg-relay-1", Some("leased"));
    refused(
        Target::Cordon(over),
        cordon(),
        "no link from bj-relay-1 to sg-relay-1 over leased",
    );
    let pin = |nodes: &[&str]| {
        let nodes: Vec<NodeId> = nodes.iter().map(|id| node(id)).collect();
        let ends = Target::Pin(node("bj-relay-1"), nodes.last().unwrap().clone());
        (ends, Ask::Set(Wish::Pin { nodes }))
    };
    let (ends, ask) = pin(&["hk-relay-1", "hk-relay-1", "sg-relay-1"]);
    refused(ends, ask, "twice");
    let (ends, ask) = pin(&["hk-edge-1"]);
    refused(ends, ask, "is an edge");
    let (ends, ask) = pin(&["xx-relay-1", "sg-relay-1"]);
    refused(ends, ask, "no node xx-relay-1");

    // A link that broke cannot be pinned to.
    world.said(hk, Said::Links(vec![report("sg-relay-1", 20)]));
    let (ends, ask) = pin(&["hk-relay-1", "sg-relay-1"]);
    let told = change(&mut world, wish(ends, ask, None));
    assert_eq!(
        told,
        Err(Unchanged::Refused(
            "no link from hk-relay-1 to bj-relay-1 is up both ways".into()
        ))
    );

    assert_eq!(
        change(&mut world, wish(of_node("hk-relay-1"), drain(), None)),
        DONE
    );
    let told = change(&mut world, wish(of_node("hk-relay-1"), Ask::Uncordon, None));
    assert_eq!(
        told,
        Err(Unchanged::Refused(
            "node hk-relay-1 is draining, not cordoned: undrain it".into()
        ))
    );
    world.controllers[0].state.limits.overrides = 1;
    let told = change(&mut world, wish(of_node("sg-relay-1"), cordon(), None));
    assert_eq!(
        told,
        Err(Unchanged::Refused(
            "overrides: the limit of 1 is reached".into()
        ))
    );
}

#[test]
fn a_change_that_another_was_faster_than_or_that_finds_no_store_changes_nothing() {
    let (mut world, _) = backbone();
    let cordon = wish(of_node("hk-relay-1"), Ask::Set(Wish::Cordon), None);
    let (first, second) = (world.number(), world.number());
    world.input(0, Input::Change(first, cordon.clone()));
    let drain = wish(of_node("hk-relay-1"), drain(), None);
    world.input(0, Input::Change(second, drain));
    world.settle();
    assert_eq!(world.controllers[0].changed[&first], DONE);
    let told = &world.controllers[0].changed[&second];
    assert!(
        matches!(told, Err(Unchanged::Refused(why)) if why.contains("same moment")),
        "{told:?}"
    );
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "cordoned");

    let lost = world.number();
    let uncordon = wish(of_node("hk-relay-1"), Ask::Uncordon, None);
    world.input(0, Input::Change(lost, uncordon.clone()));
    world.lose(0, false);
    world.answer(0);
    let told = &world.controllers[0].changed[&lost];
    assert!(
        matches!(told, Err(Unchanged::Unavailable(why)) if why.contains("not known")),
        "{told:?}"
    );
    let told = change(&mut world, uncordon);
    assert!(matches!(told, Err(Unchanged::Unavailable(_))), "{told:?}");
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "cordoned");
}

#[test]
fn changes_by_other_hands_are_heard() {
    let (mut world, _) = backbone();
    let put = Write::Put {
        key: format!("{}overrides/links/bj-relay-1/sg-relay-1/*/cost", key::ROOT),
        value: r#"{"v":1,"kind":"cost_added","added_us":9000,"reason":"r","owner":"o","since_ms":1,"until_ms":null}"#.into(),
        lease: None,
    };
    let commit = |world: &mut World, write: Write| {
        let (compares, writes) = (vec![], vec![write]);
        world.engine.commit(&Txn { compares, writes }).unwrap();
        world.settle();
        world.state().router().overrides().links.len()
    };
    let delete = Write::Delete(put.key().to_owned());
    assert_eq!(commit(&mut world, put), 1);
    assert_eq!(commit(&mut world, delete), 0);
}

#[test]
fn a_draining_relay_is_drained_when_nothing_is_left() {
    let (mut world, [_, hk, _, edge]) = backbone();
    let status = |subscriptions| {
        let status = Status {
            subscriptions,
            ..Status::default()
        };
        Said::Status(status, Vec::new(), Vec::new(), Vec::new())
    };
    world.said(hk, status(3));
    assert_eq!(
        change(&mut world, wish(of_node("hk-relay-1"), drain(), None)),
        DONE
    );
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "draining");
    world.said(hk, status(0));
    assert_eq!(state_of(&world, 0, "hk-relay-1"), "drained");

    let attached = |relays: &[&str]| Said::Attached(relays.iter().map(|id| node(id)).collect());
    world.said(edge, attached(&["hk-relay-1"]));
    assert_eq!(
        state_of(&world, 0, "hk-relay-1"),
        "draining",
        "an edge has no other"
    );
    world.said(edge, attached(&["bj-relay-1", "hk-relay-1"]));
    assert_eq!(
        state_of(&world, 0, "hk-relay-1"),
        "drained",
        "a standby is no hindrance"
    );
}

#[test]
fn a_dry_run_tells_what_would_move_and_moves_nothing() {
    let mut world = World::new();
    let relays = ["bj-relay-1", "hk-relay-1", "sg-relay-1"];
    let conns = relays.map(|relay| world.join(relay, 1, 0));
    // Beijing reaches Singapore quickly over Hong Kong, slowly by itself.
    let ms = |a: &str, b: &str| match a.starts_with("hk") || b.starts_with("hk") {
        true => 20,
        false => 120,
    };
    for (relay, conn) in relays.iter().zip(conns) {
        let others = relays.iter().filter(|other| *other != relay);
        let reports = others.map(|from| report(from, ms(from, relay))).collect();
        world.said(conn, Said::Links(reports));
    }
    world.live(&conns, 1);
    let before = world.table(conns[0]).unwrap();
    let plan = world.state().view_drain(&node("hk-relay-1")).unwrap();
    let told = plan.paths.iter().chain(&plan.stay);
    let crossing: Vec<(&str, &str)> = told.map(|m| (m.from.as_str(), m.to.as_str())).collect();
    assert_eq!(
        crossing,
        [("bj-relay-1", "sg-relay-1"), ("sg-relay-1", "bj-relay-1")]
    );
    world.live(&conns, 6);
    assert_eq!(world.table(conns[0]), Some(before));
    assert!(
        world
            .keys()
            .iter()
            .all(|key| !key.starts_with("overrides/"))
    );
}
