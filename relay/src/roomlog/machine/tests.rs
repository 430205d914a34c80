use std::collections::HashMap;

use bytes::Bytes;
use longspan_proto::{
    ids::{Room as Name, SessionId, Tenant},
    wire::room::Answer,
};
use proptest::{collection::vec, prelude::*};

use super::{
    super::room::{Retention, Snapshot},
    *,
};

fn room(id: u8) -> RoomName {
    RoomName {
        tenant: Tenant::default_tenant(),
        room: Name::new(&format!("room-{id}")).unwrap(),
    }
}

fn session(id: u8) -> SessionId {
    SessionId([id; 16])
}

/// Message `n` of session `id`; which room and what class follow from the two.
fn message(id: u8, n: u64) -> Envelope {
    let state = n.is_multiple_of(3);
    Envelope {
        room: room(id % 2),
        session: session(id),
        n,
        class: if state { Class::State } else { Class::Log },
        topic: "t".into(),
        key: state.then(|| format!("k{}", n % 2)),
        expected: None,
        revision: 0,
        from: format!("m{id}"),
        recipient: None,
        at: 0,
        seq: 0,
        body: Bytes::from(vec![id; (n % 7) as usize * 10]),
    }
}

fn publish(at: u64, id: u8, n: u64) -> Entry {
    Entry {
        at,
        command: Command::Publish(message(id, n)),
    }
}

fn roster(id: u8, version: u64, names: std::ops::Range<u16>) -> Roster {
    Roster {
        session: session(id),
        version,
        whole: !names.len().is_multiple_of(7),
        count: names.len() as u64,
        joins: 10 * version,
        leaves: version,
        names: names.map(|n| format!("m{n}")).collect(),
    }
}

fn limits() -> Limits {
    Limits {
        history_messages: 8,
        acks: 4,
        ..Limits::default()
    }
}

fn acked(outcome: &Outcome) -> Option<u64> {
    match outcome.answer {
        Some(Answer::Acked { seq, .. }) => Some(seq),
        _ => None,
    }
}

fn slug(outcome: &Outcome) -> &str {
    match &outcome.answer {
        Some(Answer::Refused { slug, .. }) => slug,
        other => panic!("{other:?} is no refusal"),
    }
}

fn state(machine: &Machine, id: u8) -> Snapshot {
    machine.room(&room(id)).unwrap().snapshot()
}

#[test]
fn a_message_sent_again_is_answered_as_before_after_a_restore_too() {
    let mut machine = Machine::new(limits());
    let first = machine.apply(publish(1_000, 1, 1));
    assert_eq!(acked(&first), Some(1));
    assert_eq!(first.published.first().map(|m| m.at), Some(1_000));
    let mut machine = Machine::restore(machine.snapshot()).unwrap();
    let again = machine.apply(publish(2_000, 1, 1));
    assert_eq!((acked(&again), again.published), (Some(1), vec![]));
}

#[test]
fn sessions_live_by_the_logs_own_time() {
    let mut machine = Machine::new(limits());
    machine.apply(publish(1_000, 1, 1));
    // A leader whose clock is behind does not take time back.
    machine.apply(publish(0, 3, 1));
    assert_eq!(machine.at(), 1_000);
    machine.apply(publish(601_000, 3, 2));
    assert_eq!(acked(&machine.apply(publish(601_000, 1, 1))), Some(1));
    machine.apply(publish(1_201_001, 3, 3));
    let mut restored = Machine::restore(machine.snapshot()).unwrap();
    for machine in [&mut machine, &mut restored] {
        assert_eq!(
            slug(&machine.apply(publish(1_201_001, 1, 1))),
            "session_expired"
        );
    }
}

#[test]
fn a_forgotten_room_never_gives_a_place_twice() {
    let mut machine = Machine::new(limits());
    for n in 1..=5 {
        machine.apply(publish(1_000 + n, 0, n));
    }
    let forget = |unused_since| Entry {
        at: 5_000,
        command: Command::Forget {
            room: room(0),
            unused_since,
        },
    };
    assert_eq!(machine.apply(forget(1_004)).forgotten, None);
    assert_eq!(machine.apply(forget(1_005)).forgotten, Some(room(0)));
    assert_eq!(machine.apply(forget(1_005)).forgotten, None);
    assert_eq!(machine.cost(), 0);
    let mut machine = Machine::restore(machine.snapshot()).unwrap();
    assert_eq!(acked(&machine.apply(publish(6_000, 0, 1))), Some(GROUP + 1));
}

#[test]
fn the_order_is_kept_by_number_bytes_and_age() {
    let mut machine = Machine::new(Limits {
        history_messages: 4,
        ..Limits::default()
    });
    let retain = |messages, age| Entry {
        at: 0,
        command: Command::Retain {
            room: room(0),
            retention: Retention {
                messages,
                bytes: usize::MAX,
                age: Duration::from_millis(age),
            },
        },
    };
    let kept = |machine: &Machine| -> Vec<u64> {
        let kept = state(machine, 0).history;
        kept.iter().map(|message| message.seq).collect()
    };
    machine.apply(retain(99, 1_000));
    for n in 1..=6 {
        machine.apply(publish(n * 100, 0, n));
    }
    assert_eq!(
        kept(&machine),
        [3, 4, 5, 6],
        "the limit, not what was asked"
    );
    machine.apply(retain(2, 1_000));
    assert_eq!(kept(&machine), [5, 6]);
    machine.apply(publish(1_500, 0, 7));
    assert_eq!(kept(&machine), [6, 7]);
    machine.apply(publish(1_601, 0, 8));
    assert_eq!(kept(&machine), [7, 8]);
    let room = machine.room(&room(0)).unwrap();
    let since = |seq| {
        room.since(seq)
            .map(|m| m.map(|m| m.seq).collect::<Vec<_>>())
    };
    assert_eq!(since(8), Some(vec![]));
    assert_eq!(since(7), Some(vec![8]));
    assert_eq!(since(6), Some(vec![7, 8]));
    assert_eq!(since(5), None, "6 is gone");
    assert_eq!(since(9), None, "it was never given");
}

#[test]
fn what_is_full_says_so_and_what_was_kept_gives_way_first() {
    let one = {
        let mut machine = Machine::new(Limits::default());
        machine.apply(publish(0, 0, 1));
        machine.cost()
    };
    let mut machine = Machine::new(Limits {
        rooms: 2,
        acks: 4,
        log_bytes: one + 4_000,
        ..Limits::default()
    });
    for n in 1..200 {
        let outcome = machine.apply(publish(0, 0, n));
        assert!(acked(&outcome).is_some(), "{n}: {outcome:?}");
        assert!(machine.cost() <= one + 4_500, "{n}: {}", machine.cost());
    }
    let big = |n| {
        let mut message = message(0, n);
        message.class = Class::State;
        message.key = Some(format!("big{n}"));
        message.body = vec![0; 3_000].into();
        Entry {
            at: 0,
            command: Command::Publish(message),
        }
    };
    machine.apply(big(200));
    let refused = machine.apply(big(201));
    assert_eq!(slug(&refused), "room_full");
    let deletes = {
        let mut message = message(0, 201);
        message.class = Class::State;
        message.key = Some("big200".into());
        message.body = Bytes::new();
        Entry {
            at: 0,
            command: Command::Publish(message),
        }
    };
    assert!(acked(&machine.apply(deletes)).is_some());

    let mut machine = Machine::new(Limits {
        rooms: 1,
        ..Limits::default()
    });
    machine.apply(publish(0, 0, 1));
    assert_eq!(slug(&machine.apply(publish(0, 1, 1))), "too_many_rooms");
}

#[test]
fn one_member_does_not_take_all_of_a_rooms_state() {
    let mut machine = Machine::new(Limits {
        member_keys: 3,
        member_bytes: 2_000,
        ..Limits::default()
    });
    let mut numbers = [0; 3];
    let mut put = |machine: &mut Machine, id: u8, key: &str, body: usize| {
        numbers[usize::from(id)] += 1;
        let mut message = message(id, numbers[usize::from(id)]);
        message.room = room(0);
        message.class = Class::State;
        message.key = Some(key.into());
        message.body = vec![0; body].into();
        let command = Command::Publish(message);
        machine.apply(Entry { at: 0, command })
    };
    for key in ["a", "b", "c"] {
        assert!(acked(&put(&mut machine, 1, key, 10)).is_some());
    }
    let mut machine = Machine::restore(machine.snapshot()).unwrap();
    let refused = put(&mut machine, 1, "d", 10).answer.unwrap();
    let Answer::Refused {
        slug,
        limit,
        message,
        ..
    } = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((&slug[..], limit), ("member_full", Some(3)));
    assert_eq!(message, "\"m1\" holds 3 keys; no more are taken of it");
    // Its own may change, others may write theirs and take its over, which then are theirs.
    assert!(acked(&put(&mut machine, 1, "a", 20)).is_some());
    assert!(acked(&put(&mut machine, 2, "d", 10)).is_some());
    assert!(acked(&put(&mut machine, 2, "a", 10)).is_some());
    assert!(acked(&put(&mut machine, 1, "e", 10)).is_some());
    assert_eq!(
        slug_of(&put(&mut machine, 1, "e", 1_700)),
        Some("member_full")
    );
    assert!(acked(&put(&mut machine, 1, "b", 0)).is_some());
    assert!(acked(&put(&mut machine, 1, "f", 10)).is_some());
}

fn slug_of(outcome: &Outcome) -> Option<&str> {
    matches!(outcome.answer, Some(Answer::Refused { .. })).then(|| slug(outcome))
}

#[test]
fn a_question_makes_no_room() {
    let mut machine = Machine::new(limits());
    let ask = Entry {
        at: 0,
        command: Command::Ask {
            room: room(0),
            session: session(1),
        },
    };
    let answer = machine.apply(ask.clone()).answer;
    assert_eq!(
        answer,
        Some(Answer::Held {
            session: session(1),
            n: 0
        })
    );
    assert!(machine.is_empty());
    machine.apply(publish(0, 2, 1));
    let mut ask = ask;
    ask.command = Command::Ask {
        room: room(0),
        session: session(2),
    };
    assert_eq!(
        machine.apply(ask).answer,
        Some(Answer::Held {
            session: session(2),
            n: 1
        })
    );
}

#[test]
fn an_ephemeral_message_is_refused() {
    let mut machine = Machine::new(limits());
    let entry = Entry {
        at: 0,
        command: Command::Publish(Envelope {
            class: Class::Ephemeral,
            ..message(0, 1)
        }),
    };
    assert_eq!(slug(&machine.apply(entry)), "wrong_class");
}

#[test]
fn who_is_there_is_state_of_the_room_and_keeps_it() {
    let mut machine = Machine::new(limits());
    let entry = |at, command| Entry { at, command };
    let tell = |version, names| Command::Roster {
        room: room(1),
        roster: roster(7, version, names),
    };
    let present = |version| {
        Some(Answer::Present {
            session: session(7),
            version,
        })
    };
    let nobody = machine.apply(entry(1_000, tell(1, 0..0)));
    assert_eq!((nobody.answer, machine.len()), (present(1), 0));
    let told = machine.apply(entry(1_000, tell(2, 0..2)));
    assert_eq!(told.answer, present(2));
    let keys = |outcome: &Outcome| -> Vec<(u64, String, bool)> {
        let published = outcome.published.iter();
        published
            .map(|m| (m.seq, m.key.clone().unwrap(), m.body.is_empty()))
            .collect()
    };
    let here = |seq, key: &str| (seq, key.to_owned(), false);
    assert_eq!(
        keys(&told),
        [here(1, "presence/m0"), here(2, "presence/m1")]
    );
    let first = &told.published[0];
    assert_eq!(
        (&first.topic[..], &first.from[..], first.at),
        ("presence", "", 1_000)
    );
    assert_eq!(state(&machine, 1).keys.len(), 2);

    // A room that somebody is in is not forgotten.
    let forget = Command::Forget {
        room: room(1),
        unused_since: 9_999,
    };
    assert_eq!(machine.apply(entry(5_000, forget.clone())).forgotten, None);
    let lapse = |version| Command::Lapse {
        room: room(1),
        session: session(7),
        version,
    };
    let mut machine = Machine::restore(machine.snapshot()).unwrap();
    assert!(machine.apply(entry(5_000, lapse(1))).published.is_empty());
    let gone = machine.apply(entry(5_000, lapse(2)));
    assert_eq!(
        keys(&gone),
        [
            (3, "presence/m0".into(), true),
            (4, "presence/m1".into(), true)
        ]
    );
    assert!(state(&machine, 1).keys.is_empty());
    assert_eq!(machine.apply(entry(5_000, forget)).forgotten, Some(room(1)));
}

#[test]
fn golden_bytes() {
    let entry = Entry {
        at: 5,
        command: Command::PassOver {
            room: room(1),
            session: session(0xab),
            first: 1,
            last: 2,
        },
    };
    let golden = [
        &b"\x05\x02\x07default\x06room-1"[..],
        &[0xab; 16],
        b"\x01\x02",
    ]
    .concat();
    assert_eq!(entry.encode(), golden);
    assert_eq!(Entry::decode(golden.into()), Ok(entry));
    let unknown = Entry::decode(Bytes::from_static(b"\x00\x10")).unwrap_err();
    assert_eq!(unknown.to_string(), "command 16 is not known");
    let room = room(1);
    for (command, golden) in [
        (
            Command::Lapse {
                room: room.clone(),
                session: session(0xab),
                version: 3,
            },
            [&b"\x05\x07\x07default\x06room-1"[..], &[0xab; 16], b"\x03"].concat(),
        ),
        (
            Command::Count { room },
            b"\x05\x08\x07default\x06room-1".to_vec(),
        ),
    ] {
        let entry = Entry { at: 5, command };
        assert_eq!(entry.encode(), golden);
        assert_eq!(Entry::decode(golden.into()), Ok(entry));
    }
    let other = Machine::restore(Bytes::from_static(b"\x09")).unwrap_err();
    assert_eq!(other.to_string(), "snapshot's version 9 is not known");
}

/// A step: a session publishes its next number or one of the last ones again, or something else.
#[derive(Debug, Clone)]
enum Op {
    Publish {
        id: u8,
        back: u64,
    },
    PassOver {
        id: u8,
        skip: u64,
    },
    Ask {
        id: u8,
    },
    Retain {
        id: u8,
        messages: usize,
    },
    Forget {
        id: u8,
        age: u64,
    },
    Wait {
        ms: u64,
    },
    Roster {
        id: u8,
        version: u64,
        first: u16,
        len: u16,
    },
    Lapse {
        id: u8,
        version: u64,
    },
    Count {
        id: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0u8..6;
    prop_oneof![
        8 => (id.clone(), 0u64..4).prop_map(|(id, back)| Op::Publish { id, back }),
        1 => (id.clone(), 0u64..3).prop_map(|(id, skip)| Op::PassOver { id, skip }),
        1 => id.clone().prop_map(|id| Op::Ask { id }),
        1 => (id.clone(), 0usize..10).prop_map(|(id, messages)| Op::Retain { id, messages }),
        1 => (id, 0u64..700_000).prop_map(|(id, age)| Op::Forget { id, age }),
        2 => (0u64..400_000).prop_map(|ms| Op::Wait { ms }),
        2 => (0u8..6, 1u64..5, 0u16..9, 0u16..400)
            .prop_map(|(id, version, first, len)| Op::Roster { id, version, first, len }),
        1 => (0u8..6, 1u64..5).prop_map(|(id, version)| Op::Lapse { id, version }),
        1 => (0u8..6).prop_map(|id| Op::Count { id }),
    ]
}

fn entries(ops: &[Op]) -> Vec<Entry> {
    let mut next: HashMap<u8, u64> = HashMap::new();
    let mut at = 1_000_000;
    ops.iter()
        .map(|op| {
            let command = match *op {
                Op::Wait { ms } => {
                    at += ms;
                    Command::Ask {
                        room: room(0),
                        session: session(99),
                    }
                }
                Op::Publish { id, back } => {
                    let next = next.entry(id).or_insert(1);
                    let n = next.saturating_sub(back).max(1);
                    *next = (*next).max(n + 1);
                    Command::Publish(message(id, n))
                }
                Op::PassOver { id, skip } => {
                    let next = next.entry(id).or_insert(1);
                    let first = *next;
                    *next += skip;
                    Command::PassOver {
                        room: room(id % 2),
                        session: session(id),
                        first,
                        last: first + skip,
                    }
                }
                Op::Ask { id } => Command::Ask {
                    room: room(id % 2),
                    session: session(id),
                },
                Op::Retain { id, messages } => Command::Retain {
                    room: room(id % 2),
                    retention: Retention {
                        messages,
                        bytes: 500,
                        age: Duration::from_secs(60),
                    },
                },
                Op::Roster {
                    id,
                    version,
                    first,
                    len,
                } => Command::Roster {
                    room: room(id % 2),
                    roster: roster(id, version, first..first + len),
                },
                Op::Lapse { id, version } => Command::Lapse {
                    room: room(id % 2),
                    session: session(id),
                    version,
                },
                Op::Count { id } => Command::Count { room: room(id % 2) },
                Op::Forget { id, age } => Command::Forget {
                    room: room(id % 2),
                    unused_since: at - age,
                },
            };
            Entry { at, command }
        })
        .collect()
}

proptest! {
    /// The same entries make the same bytes; a snapshot and the entries after it make the whole;
    /// the account of what all costs is right; entries come back from their bytes.
    #[test]
    fn the_same_entries_make_the_same_state(ops in vec(op(), 1..150), cut in 0usize..150) {
        let entries = entries(&ops);
        let cut = cut.min(entries.len());
        let mut whole = Machine::new(limits());
        let mut cut_at = None;
        let mut outcomes = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if index == cut {
                cut_at = Some(whole.snapshot());
            }
            prop_assert_eq!(Entry::decode(entry.encode()), Ok(entry.clone()));
            outcomes.push(whole.apply(entry.clone()));
        }
        let snapshot = cut_at.unwrap_or_else(|| whole.snapshot());
        let mut restored = Machine::restore(snapshot.clone()).unwrap();
        prop_assert_eq!(restored.snapshot(), snapshot);
        for (entry, outcome) in entries.iter().zip(&outcomes).skip(cut) {
            prop_assert_eq!(&restored.apply(entry.clone()), outcome);
        }
        prop_assert_eq!(restored.snapshot(), whole.snapshot());
        prop_assert_eq!(restored.cost(), whole.cost());
        let read = Machine::restore(whole.snapshot()).unwrap();
        prop_assert_eq!(read.cost(), whole.cost());
    }

    /// Whatever is sent again, whenever and under whichever leader's clock: in one life of a room no
    /// message has two places, and places rise by one.
    #[test]
    fn no_message_has_two_places(ops in vec(op(), 1..200)) {
        let mut machine = Machine::new(limits());
        let mut places: HashMap<(SessionId, u64), u64> = HashMap::new();
        let mut newest: HashMap<RoomName, u64> = HashMap::new();
        for entry in entries(&ops) {
            let outcome = machine.apply(entry);
            if let Some(room) = outcome.forgotten {
                places.retain(|(session, _), _| room != self::room(session.0[0] % 2));
            }
            for message in &outcome.published {
                let seq = message.seq;
                if message.n > 0 {
                    prop_assert_eq!(places.insert((message.session, message.n), seq), None);
                }
                let newest = newest.entry(message.room.clone()).or_default();
                prop_assert!(seq == *newest + 1 || (seq > *newest && seq % GROUP == 1));
                *newest = seq;
            }
            if let Some(Answer::Acked { session, n, seq }) = outcome.answer {
                prop_assert_eq!(places.get(&(session, n)), Some(&seq));
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Entry::decode(bytes.clone().into());
        let mut versioned = vec![2];
        versioned.extend(bytes);
        let _ = Machine::restore(versioned.into());
    }
}
