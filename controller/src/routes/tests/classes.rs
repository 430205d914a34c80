//! Policy classes: each has its own paths, and the law holds in all of them.

use longspan_topology::{
    encoding,
    policy::{MAX_CLASSES, Mode},
    routes::{Routes, Version},
};

use super::*;

fn within(countries: &[&[u8; 2]]) -> Class {
    Class {
        mode: Mode::Lecture,
        residency: countries.iter().map(|country| **country).collect(),
    }
}

fn settled() -> World {
    let mut world = World::square();
    for (at, country) in [b"CN", b"HK", b"CN", b"CN"].into_iter().enumerate() {
        world.nodes[at].country = Some(*country);
    }
    world.compute();
    world
}

#[test]
fn residency_is_kept_whatever_it_costs() {
    let mut world = settled();
    let time = world.now().time;
    let class = world.router.class(time, &within(&[b"CN"])).unwrap();
    assert_eq!(class, 1);
    let routed = world.compute();
    assert_eq!(routed.push.len(), 4, "tables have a class more");
    assert_eq!(world.paths("a", "d"), "b d | c d");
    assert_eq!(world.paths_of(class, "a", "d"), "c d | d");
    assert_eq!(world.paths_of(class, "a", "b"), "", "not to it either");
    // Nothing but b reaches d: then nothing does.
    world
        .report("d: b 10")
        .report("c: a 15")
        .report("a: b 10, c 15")
        .compute();
    assert_eq!(world.paths("a", "d"), "b d");
    assert_eq!(world.paths_of(class, "a", "d"), "");
    let why = world.router.explain_in(class, &node("a"), &node("d"), &[]);
    assert_eq!(why.class, "lecture within CN");
    assert_eq!(
        why.ruled_out[0].because,
        ["b is in HK, and the room's residency is lecture within CN"]
    );
}

#[test]
fn a_pin_does_not_break_the_law() {
    let mut world = settled();
    let time = world.now().time;
    let class = world.router.class(time, &within(&[b"CN"])).unwrap();
    let pin = vec![node("b"), node("d")];
    world.ask(|o| _ = o.pins.insert((node("a"), node("d")), pin));
    assert_eq!(world.paths("a", "d"), "b d | c d");
    assert_eq!(world.paths_of(class, "a", "d"), "c d | d");
    let why = world.router.explain_in(class, &node("a"), &node("d"), &[]);
    assert_eq!(
        why.passed_over_pins,
        ["the pin over b → d is passed over: the room's residency forbids it"]
    );
}

#[test]
fn the_message_tells_classes_apart() {
    let mut world = settled();
    let time = world.now().time;
    world.router.class(time, &within(&[b"CN"])).unwrap();
    world.compute();
    let table = world.router.table(&node("a")).unwrap();
    let routes = table.routes(Version::default());
    let message = encoding::whole(&routes);
    let classes = message.classes.iter().map(|c| (c.class, c.routes.len()));
    assert_eq!(classes.collect::<Vec<_>>(), [(0, 3), (1, 2)]);
    assert_eq!(encoding::read(&message, &Routes::default()), Ok(routes));
}

#[test]
fn one_class_too_many_is_refused() {
    let mut world = World::triangle();
    for n in 1..MAX_CLASSES as u8 {
        let class = within(&[&[b'A', n]]);
        assert_eq!(world.router.class(Time::ZERO, &class), Ok(n));
    }
    let refused = world.router.class(Time::ZERO, &within(&[b"ZZ"]));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .ends_with("than the limit of 64")
    );
    assert_eq!(world.router.class(Time::ZERO, &Class::default()), Ok(0));
}
