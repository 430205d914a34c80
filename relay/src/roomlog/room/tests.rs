use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use longspan_proto::ids::{Room as Name, RoomName, Tenant};
use proptest::{collection::vec, prelude::*};

use super::*;

fn session(id: u8) -> SessionId {
    SessionId([id; 16])
}

fn log(id: u8, n: u64, body: &str) -> Envelope {
    Envelope {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Name::new("math").unwrap(),
        },
        session: session(id),
        n,
        class: Class::Log,
        topic: "chat".into(),
        key: None,
        expected: None,
        revision: 0,
        from: format!("m{id}"),
        recipient: None,
        at: 0,
        seq: 0,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn put(n: u64, key: &str, expected: Option<u64>, body: &str) -> Envelope {
    Envelope {
        class: Class::State,
        key: Some(key.into()),
        expected,
        ..log(1, n, body)
    }
}

fn room(limits: Limits) -> Room {
    Room::new(limits, 0)
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// What a publisher sees, as text: `3` a place, `3 again`, or the refusal.
fn publish(room: &mut Room, message: Envelope) -> String {
    match room.publish(Time::ZERO, 0, message) {
        Ok(Accepted { seq, new: Some(_) }) => format!("{seq}"),
        Ok(Accepted { seq, new: None }) => format!("{seq} again"),
        Err(refusal) => format!("{}: {refusal}", refusal.slug()),
    }
}

#[test]
fn numbers_are_taken_once_and_in_order() {
    let mut room = room(Limits::default());
    let cases = [
        (1, 1, "a", "1"),
        (1, 2, "b", "2"),
        (2, 1, "x", "3"),
        (1, 2, "b", "2 again"),
        (1, 1, "a", "1 again"),
        (
            1,
            1,
            "other",
            "n_reused: n 1 was another message before, acked as seq 1",
        ),
        (
            1,
            4,
            "d",
            "n_jumped: n jumps to 4; the next one expected is 3",
        ),
        (1, 3, "c", "4"),
        (
            3,
            2,
            "y",
            "n_jumped: n jumps to 2; the next one expected is 1",
        ),
        (
            1,
            0,
            "z",
            "n_went_back: n goes back to 0; the highest held is 0",
        ),
    ];
    for (id, n, body, want) in cases {
        assert_eq!(
            publish(&mut room, log(id, n, body)),
            want,
            "{id} {n} {body}"
        );
    }
}

#[test]
fn a_refused_number_may_be_used_again_or_left_out() {
    let mut room = room(Limits::default());
    assert_eq!(publish(&mut room, put(1, "page", Some(0), "1")), "1");
    let refused = publish(&mut room, put(2, "page", Some(0), "2"));
    assert_eq!(
        refused,
        r#"conflict: "page" is at revision 1, not 0 (0: there is no such key)"#
    );
    assert_eq!(publish(&mut room, put(2, "page", Some(1), "2")), "2");
    assert!(publish(&mut room, put(3, "page", Some(9), "2")).starts_with("conflict"));
    assert_eq!(publish(&mut room, put(4, "page", Some(2), "3")), "3");
    let late = publish(&mut room, put(3, "page", None, "3"));
    assert_eq!(late, "n_went_back: n goes back to 3; the highest held is 4");
}

/// A copy may be late: what its publisher was told is not done must not be done by it.
#[test]
fn a_conflict_sent_again_is_a_conflict_again() {
    let mut room = room(Limits::default());
    publish(&mut room, put(1, "page", None, "1"));
    let refused = publish(&mut room, put(2, "page", Some(0), "2"));
    assert!(refused.starts_with("conflict"), "{refused}");
    publish(
        &mut room,
        Envelope {
            session: session(2),
            ..put(1, "page", None, "")
        },
    );
    assert_eq!(publish(&mut room, put(2, "page", Some(0), "2")), refused);
    // Another message under the same number may be taken.
    assert_eq!(publish(&mut room, put(2, "page", Some(0), "3")), "3");
}

#[test]
fn numbers_the_edge_refused_are_passed_over() {
    let mut room = room(Limits::default());
    room.pass_over(Time::ZERO, session(1), 1, 3);
    assert_eq!(room.held(Time::ZERO, session(1)), Ok(3));
    assert_eq!(publish(&mut room, log(1, 4, "a")), "1");
    room.pass_over(Time::ZERO, session(1), 7, 9);
    assert!(publish(&mut room, log(1, 10, "b")).starts_with("n_jumped"));
    assert!(publish(&mut room, log(1, 3, "c")).starts_with("n_went_back"));
}

#[test]
fn keyed_state_is_put_replaced_and_deleted() {
    let mut room = room(Limits::default());
    publish(&mut room, put(1, "page", None, "1"));
    publish(&mut room, put(2, "hand/m1", None, "true"));
    publish(&mut room, put(3, "page", None, "2"));
    let text = |room: &Room| {
        let snapshot = room.snapshot();
        let keys: Vec<String> = snapshot
            .keys
            .iter()
            .map(|e| {
                let body = String::from_utf8_lossy(&e.body);
                format!(
                    "{}={body}@{}",
                    e.key.as_deref().unwrap_or_default(),
                    e.revision
                )
            })
            .collect();
        format!("{}: {}", snapshot.seq, keys.join(" "))
    };
    assert_eq!(text(&room), "3: hand/m1=true@2 page=2@3");
    publish(&mut room, put(4, "hand/m1", Some(2), ""));
    publish(&mut room, put(5, "never", None, ""));
    assert_eq!(text(&room), "5: page=2@3");
    assert_eq!(publish(&mut room, put(6, "hand/m1", Some(0), "x")), "6");
    assert_eq!(
        room.keyed.iter().map(cost).sum::<usize>(),
        room.keyed.bytes()
    );
}

#[test]
fn class_key_and_expectation_must_fit() {
    let mut room = room(Limits::default());
    let mut n = 0;
    let mut next = |class, key: Option<&str>, expected| {
        n += 1;
        let message = Envelope {
            class,
            key: key.map(str::to_owned),
            expected,
            ..log(1, n, "x")
        };
        publish(&mut room, message)
    };
    let refused = "wrong_class: class state needs a key";
    assert_eq!(next(Class::State, None, None), refused);
    assert_eq!(next(Class::State, Some(""), None), refused);
    let refused = "wrong_class: class log takes no key";
    assert_eq!(next(Class::Log, Some("k"), None), refused);
    let refused = "wrong_class: an expected revision needs class state";
    assert_eq!(next(Class::Log, None, Some(1)), refused);
    assert_eq!(next(Class::Ephemeral, None, Some(1)), refused);
    assert_eq!(next(Class::Ephemeral, Some("cursor/m1"), None), "0");
    assert_eq!(next(Class::Log, None, None), "1");
}

#[test]
fn sizes_are_bounded_on_both_sides() {
    let mut room = room(Limits::default());
    let body = |len: usize| "x".repeat(len);
    assert_eq!(publish(&mut room, log(1, 1, &body(MAX_BODY))), "1");
    assert_eq!(
        publish(&mut room, log(1, 2, &body(MAX_BODY + 1))),
        "too_long: body has 16385 bytes; the limit is 16384"
    );
    let key = |len: usize| "k".repeat(len);
    assert_eq!(publish(&mut room, put(2, &key(MAX_KEY), None, "x")), "2");
    let refused = publish(&mut room, put(3, &key(MAX_KEY + 1), None, "x"));
    assert_eq!(refused, "too_long: key has 129 bytes; the limit is 128");
}

#[test]
fn keys_bytes_and_sessions_are_bounded_with_the_limit_named() {
    let mut few_keys = room(Limits {
        keys: 2,
        ..Limits::default()
    });
    publish(&mut few_keys, put(1, "a", None, "x"));
    publish(&mut few_keys, put(2, "b", None, "x"));
    let refused = few_keys
        .publish(Time::ZERO, 0, put(3, "c", None, "x"))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the room holds 2 keys; no more are taken"
    );
    assert_eq!((refused.slug(), refused.limit()), ("room_full", Some(2)));
    assert_eq!(publish(&mut few_keys, put(3, "a", None, "y")), "3");
    assert_eq!(publish(&mut few_keys, put(4, "a", None, "")), "4");
    assert_eq!(publish(&mut few_keys, put(5, "c", None, "x")), "5");

    let mut small = room(Limits {
        state_bytes: 2 * cost(&put(1, "a", None, "x")),
        ..Limits::default()
    });
    publish(&mut small, put(1, "a", None, "x"));
    assert_eq!(publish(&mut small, put(2, "b", None, "x")), "2");
    assert!(publish(&mut small, put(3, "b", None, "xy")).contains("bytes of state"));

    let mut few_sessions = room(Limits {
        sessions: 1,
        ..Limits::default()
    });
    publish(&mut few_sessions, log(1, 1, "x"));
    assert!(publish(&mut few_sessions, log(2, 1, "x")).contains("1 sessions"));
}

#[test]
fn history_is_bounded_in_messages_and_bytes() {
    let mut few = room(Limits {
        history_messages: 3,
        ..Limits::default()
    });
    for n in 1..=5 {
        publish(&mut few, log(1, n, "x"));
    }
    let kept: Vec<u64> = few.snapshot().history.iter().map(|e| e.seq).collect();
    assert_eq!(kept, [3, 4, 5]);

    let mut small = room(Limits {
        history_bytes: 2 * cost(&log(1, 1, "x")),
        ..Limits::default()
    });
    for n in 1..=3 {
        publish(&mut small, log(1, n, "x"));
    }
    assert_eq!(small.snapshot().history.len(), 2);
}

#[test]
fn a_session_past_its_time_is_expired_and_its_first_number_not_taken_twice() {
    let mut room = room(Limits::default());
    let publish = |room: &mut Room, now, id, n| room.publish(now, 0, log(id, n, "x"));
    publish(&mut room, at(0), 1, 1).unwrap();
    publish(&mut room, at(600), 1, 1).unwrap();
    publish(&mut room, at(1_200), 2, 1).unwrap();
    for n in [1, 2] {
        assert_eq!(
            publish(&mut room, at(1_201), 1, n),
            Err(Refusal::SessionExpired)
        );
    }
    assert_eq!(
        room.held(at(1_201), session(1)),
        Err(Refusal::SessionExpired)
    );
    room.pass_over(at(1_201), session(1), 1, 5);
    assert_eq!(
        room.held(at(1_201), session(1)),
        Err(Refusal::SessionExpired)
    );
    assert_eq!(room.held(at(1_201), session(2)), Ok(1));
}

#[test]
fn only_the_last_acks_are_remembered() {
    let mut room = room(Limits {
        acks: 2,
        ..Limits::default()
    });
    for n in 1..=3 {
        publish(&mut room, log(1, n, "x"));
    }
    assert_eq!(publish(&mut room, log(1, 2, "x")), "2 again");
    assert!(publish(&mut room, log(1, 1, "x")).starts_with("n_went_back"));
}

#[derive(Debug, Clone)]
struct Op {
    id: u8,
    /// Which number, relative to the next one of the session.
    offset: i64,
    class: Class,
    wall: u64,
}

fn op() -> impl Strategy<Value = Op> {
    let class = prop_oneof![Just(Class::Log), Just(Class::State), Just(Class::Ephemeral)];
    (0u8..4, -4i64..3, class, 0u64..1_000).prop_map(|(id, offset, class, wall)| Op {
        id,
        offset,
        class,
        wall,
    })
}

fn message(op: &Op, n: u64) -> Envelope {
    Envelope {
        class: op.class,
        key: (op.class == Class::State).then(|| format!("k{}", n % 3)),
        ..log(op.id, n, &format!("{} {n}", op.id))
    }
}

proptest! {
    /// Whatever is sent, sent again, skipped and repeated: every message is taken at most once,
    /// places rise by one, each session's messages keep their order, time never goes back, and
    /// the state is what the published messages say.
    #[test]
    fn exactly_once_in_one_order(ops in vec(op(), 1..200)) {
        let mut room = room(Limits::default());
        let mut next: HashMap<u8, u64> = HashMap::new();
        let mut first: HashMap<(u8, u64), (Class, u64)> = HashMap::new();
        let mut published: Vec<Envelope> = Vec::new();
        let mut everything: Vec<Envelope> = Vec::new();
        for op in &ops {
            let next = next.entry(op.id).or_insert(1);
            let n = next.saturating_add_signed(op.offset);
            match room.publish(Time::ZERO, op.wall, message(op, n)) {
                Ok(Accepted { seq, new: Some(envelope) }) => {
                    prop_assert_eq!(n, *next, "only the next number is taken anew");
                    prop_assert_eq!(first.insert((op.id, n), (op.class, seq)), None);
                    *next += 1;
                    everything.push(envelope.clone());
                    if op.class != Class::Ephemeral {
                        prop_assert_eq!(seq, published.len() as u64 + 1);
                        published.push(envelope);
                    }
                }
                Ok(Accepted { seq, new: None }) => {
                    prop_assert_eq!(first.get(&(op.id, n)), Some(&(op.class, seq)));
                }
                Err(Refusal::Jumped { n: refused, expected }) => {
                    prop_assert_eq!((refused, expected), (n, *next));
                    prop_assert!(n > *next);
                }
                Err(Refusal::Reused { seq, .. }) => {
                    prop_assert_eq!(first[&(op.id, n)].1, seq);
                    prop_assert!(first[&(op.id, n)].0 != op.class);
                }
                Err(Refusal::WentBack { .. }) => prop_assert_eq!(n, 0),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        for pair in everything.windows(2) {
            prop_assert!(pair[0].at <= pair[1].at);
        }
        for id in 0..4 {
            let ns: Vec<u64> = everything.iter().filter(|e| e.session == session(id)).map(|e| e.n).collect();
            prop_assert!(ns.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        }
        let mut state = std::collections::BTreeMap::new();
        for envelope in &published {
            if let Some(key) = &envelope.key {
                state.insert(key.clone(), envelope.clone());
            }
        }
        let snapshot = room.snapshot();
        prop_assert_eq!(snapshot.keys, state.into_values().collect::<Vec<_>>());
        prop_assert_eq!(snapshot.history, published);
    }
}
