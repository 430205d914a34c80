use proptest::{collection::vec, prelude::*};

use super::*;

fn session(id: u8) -> SessionId {
    SessionId([id; 16])
}

fn whole(id: u8, version: u64, names: Vec<String>) -> Roster {
    Roster {
        session: session(id),
        version,
        whole: true,
        count: names.len() as u64,
        joins: names.len() as u64,
        leaves: 0,
        names,
    }
}

fn some(id: u8, version: u64, count: u64, names: Vec<String>) -> Roster {
    Roster {
        whole: false,
        count,
        joins: count,
        ..whole(id, version, names)
    }
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("m{n:04}")).collect()
}

/// Presence, and the keyed state that its changes make.
#[derive(Default)]
struct World {
    presence: Presence,
    state: BTreeMap<String, Bytes>,
    changes: usize,
}

impl World {
    fn take(&mut self, at: u64, roster: Roster) {
        self.presence.take(roster).unwrap();
        self.settle(at);
    }

    fn settle(&mut self, at: u64) {
        for change in self.presence.settle(at) {
            self.apply(change);
        }
    }

    fn apply(&mut self, change: Change) {
        self.changes += 1;
        match change.body.is_empty() {
            true => assert!(self.state.remove(&change.key).is_some(), "{}", change.key),
            false => drop(self.state.insert(change.key, change.body)),
        }
    }

    fn count(&mut self, at: u64) -> bool {
        let change = self.presence.count(at);
        let told = change.is_some();
        change.into_iter().for_each(|change| self.apply(change));
        told
    }

    fn keys(&self) -> Vec<&str> {
        self.state.keys().map(String::as_str).collect()
    }

    fn summary(&self) -> Bytes {
        self.state.get(TOPIC).cloned().expect("a summary")
    }
}

fn summary(count: u64, joins: u64, leaves: u64, sample: Vec<String>) -> Bytes {
    body::Summary {
        count,
        joins,
        leaves,
        sample,
    }
    .encode()
}

#[test]
fn an_edge_declares_and_what_differs_is_told() {
    let mut world = World::default();
    world.take(0, whole(1, 1, vec!["anna".into(), "ben".into()]));
    assert_eq!(world.keys(), ["presence/anna", "presence/ben"]);
    assert_eq!(world.state["presence/ben"], body::member("ben"));
    // Ben moves to another edge: told by the new one before the old one sees him gone.
    world.take(0, whole(2, 1, vec!["ben".into()]));
    world.take(0, whole(1, 2, vec!["anna".into()]));
    assert_eq!((world.keys().len(), world.changes), (2, 2), "nobody heard");
    // What comes late, or again, changes nothing.
    world.take(0, whole(1, 1, vec!["carl".into()]));
    world.take(0, whole(1, 2, vec!["carl".into()]));
    assert_eq!(world.changes, 2);
    assert_eq!(world.presence.held(session(1)), 2);
    world.take(0, whole(2, 2, vec![]));
    assert_eq!(world.keys(), ["presence/anna"]);
    assert_eq!(world.presence.held(session(2)), 0);
}

#[test]
fn an_edge_that_is_gone_takes_its_members_along_unless_it_spoke_since() {
    let mut world = World::default();
    world.take(0, whole(1, 4, vec!["anna".into()]));
    assert!(!world.presence.lapse(session(1), 3));
    assert!(!world.presence.lapse(session(2), 4));
    assert!(world.presence.lapse(session(1), 4));
    world.settle(0);
    assert!(world.state.is_empty());
    assert_eq!(
        world.presence,
        Presence {
            leaves: 1,
            joins: 1,
            ..Presence::default()
        }
    );
    // It was only slow: it says again what it said.
    world.take(0, whole(1, 4, vec!["anna".into()]));
    assert_eq!(world.keys(), ["presence/anna"]);
}

#[test]
fn above_the_limit_a_summary_stands_for_all() {
    let mut world = World::default();
    world.take(0, whole(1, 1, names(0..400)));
    world.take(0, whole(2, 1, names(300..500)));
    assert_eq!(world.keys().len(), LISTED);
    world.take(10_000, whole(2, 2, names(300..501)));
    assert_eq!(world.keys(), ["presence"]);
    let mixed = |from: usize| -> Vec<String> {
        let pairs = (0..SAMPLE / 2).flat_map(|n| [n, n + from]);
        pairs.map(|n| format!("m{n:04}")).collect()
    };
    assert_eq!(world.summary(), summary(501, 0, 0, mixed(300)));
    assert!(!world.count(11_000), "it is true yet");

    // 600 more at a third edge, which tells only some; a minute later some leave.
    world.take(12_000, some(3, 1, 600, names(600..620)));
    assert!(world.count(12_000));
    let told = world.summary();
    assert!(
        told.starts_with(b"\xa4\x65count\x19\x04\xb1"),
        "1201: 400, 201 and 600"
    );
    world.take(
        14_000,
        Roster {
            count: 580,
            joins: 620,
            leaves: 40,
            ..some(3, 2, 0, names(600..620))
        },
    );
    assert!(world.count(16_000));
    let told = world.summary();
    assert!(
        told.windows(8).any(|w| w == b"\x65joins\x05\x66"),
        "20 in 4 s: {told:?}"
    );
    assert!(
        told.windows(8).any(|w| w == b"leaves\x0a\x66"),
        "40 in 4 s: {told:?}"
    );

    // Names again, once few enough are there and all are known.
    world.take(
        17_000,
        Roster {
            count: 10,
            ..some(3, 3, 0, names(600..610))
        },
    );
    world.take(17_000, whole(1, 2, names(0..100)));
    assert_eq!(world.keys(), ["presence"], "one edge did not tell all");
    world.take(17_000, whole(3, 4, names(600..610)));
    assert_eq!(world.keys().len(), 100 + 201 + 10);
}

#[test]
fn the_border_is_crossed_once() {
    let mut world = World::default();
    world.take(0, whole(1, 1, names(0..500)));
    world.take(0, whole(2, 1, names(500..501)));
    for version in 2..10 {
        world.take(0, whole(2, version, names(500..500 + version as usize % 2)));
        assert_eq!(world.keys(), ["presence"]);
    }
    world.take(0, whole(1, 2, names(0..LISTED_AGAIN + 1)));
    world.take(0, whole(2, 10, vec![]));
    assert_eq!(world.keys(), ["presence"]);
    world.take(0, whole(1, 3, names(0..LISTED_AGAIN)));
    assert_eq!(world.keys().len(), LISTED_AGAIN);
}

#[test]
fn names_are_bounded_and_told_again_when_there_is_room() {
    let mut world = World::default();
    world.take(0, whole(1, 1, names(0..500)));
    world.take(0, whole(2, 1, names(500..1_000)));
    world.take(0, whole(3, 1, names(1_000..1_500)));
    assert_eq!(world.presence.names, KEPT + SAMPLE);
    assert_eq!(world.presence.held(session(3)), 0, "it is to tell again");
    world.take(0, whole(1, 2, vec![]));
    world.take(0, whole(2, 2, vec![]));
    assert_eq!(world.keys(), ["presence"]);
    // The same version: what it was not asked to change.
    world.take(0, whole(3, 1, names(1_000..1_300)));
    assert_eq!(world.keys().len(), 300);
    assert_eq!(world.presence.held(session(3)), 1);
}

#[test]
fn a_lie_about_numbers_costs_nothing() {
    let mut world = World::default();
    for id in 1..4 {
        let lie = Roster {
            joins: MAX_VARINT,
            leaves: MAX_VARINT,
            ..some(id, 1, MAX_VARINT, names(0..1))
        };
        world.take(u64::from(id), lie);
        world.presence.lapse(session(1), 1);
    }
    world.count(9_000);
    let mut out = BytesMut::new();
    world.presence.encode(&mut out);
}

#[test]
fn edges_are_bounded() {
    let mut presence = Presence::default();
    let edge = |id: usize| Roster {
        session: SessionId((id as u128).to_be_bytes()),
        ..whole(0, 1, names(0..1))
    };
    for id in 0..MAX_EDGES {
        presence.take(edge(id)).unwrap();
    }
    let refused = presence.take(edge(MAX_EDGES)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the room holds 256 edges with members; no more are taken"
    );
}

#[test]
fn a_long_name_has_a_key_of_its_own() {
    let long = "é".repeat(60);
    let (a, b) = (key(&format!("{long}a")), key(&format!("{long}b")));
    assert!(a.len() <= MAX_KEY && b.len() <= MAX_KEY);
    assert_ne!(a, b);
    assert_eq!(key("anna"), "presence/anna");
}

proptest! {
    /// Whatever edges declare, late or again, and whoever lapses: the state is who is there, by the
    /// newest word of each, or one summary of their number; and it comes back from its bytes.
    #[test]
    fn the_state_tells_who_is_there(words in vec((0u8..5, 1u64..6, 0usize..700, 0usize..400, any::<bool>()), 1..40)) {
        let mut world = World::default();
        let mut truth: BTreeMap<u8, (u64, Vec<String>)> = BTreeMap::new();
        for (at, (id, version, first, len, lapses)) in (0..).zip(words) {
            let at = at * 1_000;
            if lapses {
                if world.presence.lapse(session(id), version) {
                    truth.remove(&id);
                }
                world.settle(at);
            } else {
                let names = names(first..first + len.min(MAX_NAMES));
                let held = world.presence.edges.get(&session(id)).map_or(0, |told| match told.cut {
                    true => told.version - 1,
                    false => told.version,
                });
                world.take(at, whole(id, version, names.clone()));
                if version > held && names.is_empty() {
                    truth.remove(&id);
                } else if version > held {
                    truth.insert(id, (version, names));
                }
            }
            world.count(at);
            let sum: usize = truth.values().map(|(_, names)| names.len()).sum();
            let there: BTreeSet<&String> = truth.values().flat_map(|(_, names)| names).collect();
            if world.state.contains_key(TOPIC) {
                prop_assert_eq!(world.state.len(), 1);
                let cut = world.presence.edges.values().any(|told| told.cut);
                prop_assert!(cut || there.len() > LISTED_AGAIN);
                let count = world.presence.size();
                prop_assert!(count == there.len() || count == sum, "{} or {}, not {}", there.len(), sum, count);
            } else {
                let want: Vec<String> = there.iter().map(|name| key(name)).collect();
                prop_assert_eq!(world.keys(), want);
                prop_assert!(there.len() <= LISTED);
            }
            let mut out = BytesMut::new();
            world.presence.encode(&mut out);
            let read = Presence::decode(&mut longspan_proto::wire::Reader::new(out.freeze())).unwrap();
            prop_assert_eq!(&read, &world.presence);
        }
    }
}
