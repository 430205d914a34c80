use longspan_proto::{
    ids::{NodeId, Room as Name, SessionId, Tenant},
    wire::{
        envelope::{Class, Envelope},
        moving::PART,
        room::Answer,
        roster::Roster,
    },
};
use proptest::{collection::vec, prelude::*};

use super::{
    super::{super::Limits, Entry, Outcome},
    *,
};

const HERE: LogId = LogId { group: 1, era: 1 };

fn room(id: u8) -> RoomName {
    RoomName {
        tenant: Tenant::default_tenant(),
        room: Name::new(&format!("room-{id}")).unwrap(),
    }
}

fn to(word: u64) -> Moved {
    Moved {
        word,
        group: 2,
        nodes: vec![NodeId::new("relay-4").unwrap()],
    }
}

fn message(n: u64) -> Envelope {
    let state = n.is_multiple_of(2);
    Envelope {
        room: room(0),
        session: SessionId([7; 16]),
        n,
        class: if state { Class::State } else { Class::Log },
        topic: "t".into(),
        key: state.then(|| format!("k{n}")),
        expected: None,
        revision: 0,
        from: "m".into(),
        recipient: None,
        at: 0,
        seq: 0,
        body: vec![n as u8; 40].into(),
    }
}

fn apply(machine: &mut Machine, at: u64, command: Command) -> Outcome {
    let entry = Entry { at, command };
    let read = Entry::decode(entry.encode()).unwrap();
    assert_eq!(read, entry);
    let outcome = machine.apply(read);
    let again = Machine::restore(machine.snapshot()).unwrap();
    assert_eq!(again.snapshot(), machine.snapshot());
    assert_eq!(again.cost(), machine.cost());
    outcome
}

fn publish(machine: &mut Machine, n: u64) -> Outcome {
    apply(machine, 1_000, Command::Publish(message(n)))
}

fn seq(outcome: &Outcome) -> u64 {
    match outcome.answer {
        Some(Answer::Acked { seq, .. }) => seq,
        ref other => panic!("{other:?}"),
    }
}

fn close(machine: &mut Machine, word: u64) {
    let (room, to) = (room(0), to(word));
    let log = HERE;
    apply(machine, 1_000, Command::Close { room, to, log });
}

fn act(machine: &mut Machine, command: fn(RoomName, u64) -> Command, word: u64) -> Outcome {
    apply(machine, 1_000, command(room(0), word))
}

fn reopen(room: RoomName, word: u64) -> Command {
    Command::Reopen { room, word }
}
fn gone(room: RoomName, word: u64) -> Command {
    Command::Gone { room, word }
}
fn settled(room: RoomName, word: u64) -> Command {
    Command::Settled { room, word }
}
fn open(room: RoomName, word: u64) -> Command {
    Command::Open { room, word }
}
fn drop(room: RoomName, word: u64) -> Command {
    Command::Drop { room, word }
}

fn part(
    machine: &mut Machine,
    at: u64,
    word: u64,
    index: u64,
    last: bool,
    bytes: Bytes,
) -> Outcome {
    let room = room(0);
    let part = Command::Part {
        room,
        word,
        index,
        last,
        bytes,
    };
    apply(machine, at, part)
}

/// Hands a closed room over in parts of so many bytes.
fn hand_over(from: &Machine, machine: &mut Machine, word: u64, size: usize) {
    let whole = from.export(&room(0)).expect("it is closed");
    let count = whole.len().div_ceil(size) as u64;
    for (index, bytes) in (0..).zip(whole.chunks(size)) {
        let last = index + 1 == count;
        part(
            machine,
            1_000,
            word,
            index,
            last,
            Bytes::copy_from_slice(bytes),
        );
    }
}

fn two() -> (Machine, Machine) {
    let machine = || Machine::new(Limits::default());
    (machine(), machine())
}

#[test]
fn a_room_goes_on_where_it_was_in_the_other_group() {
    let (mut a, mut b) = two();
    for n in 1..=5 {
        publish(&mut a, n);
    }
    let roster = Roster {
        session: SessionId([9; 16]),
        version: 3,
        whole: true,
        count: 1,
        joins: 1,
        leaves: 0,
        names: vec!["anna".into()],
    };
    let present = Command::Roster {
        room: room(0),
        roster,
    };
    apply(&mut a, 1_000, present);
    let before = a.room(&room(0)).unwrap().snapshot();
    close(&mut a, 7);
    // Nothing changes in it any more, and nobody is answered.
    let held = publish(&mut a, 6);
    assert!(held.shut && held.answer.is_none() && held.published.is_empty());
    let lapse = Command::Lapse {
        room: room(0),
        session: SessionId([9; 16]),
        version: 3,
    };
    assert!(apply(&mut a, 60_000, lapse).published.is_empty());
    assert_eq!(a.room(&room(0)).unwrap().snapshot(), before);

    hand_over(&a, &mut b, 7, 50);
    assert_eq!(b.arrived(&room(0), 7), Arrived::Whole);
    assert!(b.room(&room(0)).is_none(), "a copy means nothing");
    assert!(publish(&mut b, 6).shut);
    assert_eq!(act(&mut a, gone, 7).forgotten, Some(room(0)));
    assert_eq!(a.whereabouts(&room(0)), Whereabouts::Away(&to(7)));
    assert_eq!(a.unsettled().count(), 1);
    act(&mut b, open, 7);
    act(&mut a, settled, 7);
    assert_eq!(a.unsettled().count(), 0);

    assert_eq!(b.room(&room(0)).unwrap().snapshot(), before);
    assert_eq!(b.came(&room(0)), Some(Came { word: 7, log: HERE }));
    assert_eq!(
        seq(&publish(&mut b, 5)),
        5,
        "it was taken in the other group"
    );
    assert_eq!(seq(&publish(&mut b, 6)), before.seq + 1);
    assert!(publish(&mut a, 7).shut, "it is not here any more");
    assert_eq!(b.room(&room(0)).unwrap().roster_held(SessionId([9; 16])), 3);

    // And back again: it keeps the log it began with, and the tombstone goes.
    close(&mut b, 8);
    hand_over(&b, &mut a, 8, PART);
    act(&mut b, gone, 8);
    act(&mut a, open, 8);
    assert_eq!(a.came(&room(0)), Some(Came { word: 8, log: HERE }));
    assert_eq!(seq(&publish(&mut a, 7)), before.seq + 2);
}

#[test]
fn a_move_that_is_taken_back_changes_nothing_and_never_begins_again() {
    let (mut a, mut b) = two();
    publish(&mut a, 1);
    close(&mut a, 7);
    hand_over(&a, &mut b, 7, PART);
    act(&mut a, reopen, 7);
    assert_eq!(seq(&publish(&mut a, 2)), 2);
    // What was on its way of the move comes too late.
    act(&mut a, gone, 7);
    close(&mut a, 7);
    assert_eq!(seq(&publish(&mut a, 3)), 3);
    // The other group is told; until then it holds a copy that nobody opens.
    assert_eq!(
        a.unsettled().collect::<Vec<_>>(),
        [(&room(0), &to(7), false)]
    );
    act(&mut b, drop, 7);
    assert_eq!(b.arrived(&room(0), 7), Arrived::Parts(0));
    act(&mut b, open, 7);
    assert_eq!(b.whereabouts(&room(0)), Whereabouts::Unknown);
    assert_eq!(b.cost(), 0);
    act(&mut a, settled, 7);
    assert_eq!(a.unsettled().count(), 0);
    // One that had not begun never will; the next may.
    act(&mut a, reopen, 8);
    close(&mut a, 8);
    assert_eq!(seq(&publish(&mut a, 4)), 4);
    close(&mut a, 9);
    assert!(publish(&mut a, 5).shut);
}

#[test]
fn a_room_that_has_not_come_yet_is_neither_made_nor_moved() {
    let (mut a, mut b) = two();
    publish(&mut a, 1);
    close(&mut a, 7);
    hand_over(&a, &mut b, 7, PART);
    act(&mut a, gone, 7);
    // The controller knows that it is there; it wants it elsewhere already.
    close(&mut b, 8);
    act(&mut b, reopen, 8);
    assert_eq!(b.whereabouts(&room(0)), Whereabouts::Coming);
    act(&mut b, open, 7);
    assert_eq!(seq(&publish(&mut b, 2)), 2);
}

#[test]
fn parts_come_in_order_and_an_incomplete_room_is_forgotten() {
    let (mut a, mut b) = two();
    publish(&mut a, 1);
    close(&mut a, 7);
    let whole = a.export(&room(0)).unwrap();
    let piece = |from, to| whole.slice(from..to);
    part(&mut b, 1_000, 7, 1, false, piece(10, 20));
    assert_eq!(
        b.arrived(&room(0), 7),
        Arrived::Parts(0),
        "the first is missing"
    );
    part(&mut b, 1_000, 7, 0, false, piece(0, 10));
    part(&mut b, 1_000, 7, 0, false, piece(0, 10));
    assert_eq!(b.arrived(&room(0), 7), Arrived::Parts(1), "once");
    act(&mut b, open, 7);
    assert_eq!(
        b.whereabouts(&room(0)),
        Whereabouts::Coming,
        "not all is there"
    );
    part(&mut b, 1_000, 6, 0, true, piece(0, 10));
    assert_eq!(
        b.arrived(&room(0), 7),
        Arrived::Parts(1),
        "of an earlier move"
    );
    assert!(matches!(b.arrived(&room(0), 6), Arrived::Refused(_)));
    // A later move takes its place.
    part(&mut b, 2_000, 9, 0, false, piece(0, 10));
    assert_eq!(b.arrived(&room(0), 9), Arrived::Parts(1));
    // Nothing more comes for a minute, by the log's time.
    let nothing = Command::Drop {
        room: room(1),
        word: 1,
    };
    apply(&mut b, 2_000 + PARTS_AGE - 1, nothing.clone());
    assert_eq!(b.arrived(&room(0), 9), Arrived::Parts(1));
    apply(&mut b, 2_000 + PARTS_AGE, nothing);
    assert_eq!(b.whereabouts(&room(0)), Whereabouts::Unknown);
    assert_eq!(b.cost(), 0);
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_reason() {
    let (mut a, mut b) = two();
    let why = |outcome: Outcome| match outcome.answer {
        Some(Answer::Refused { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let odd = part(&mut b, 0, 7, 0, true, Bytes::from_static(b"\x09"));
    assert_eq!(why(odd), "it cannot be read: room's version 9 is not known");
    assert_eq!(b.whereabouts(&room(0)), Whereabouts::Unknown);
    // No place: as many rooms as may be, or as many bytes.
    publish(&mut a, 1);
    close(&mut a, 7);
    let whole = a.export(&room(0)).unwrap();
    let mut few = Machine::new(Limits {
        rooms: 1,
        ..Limits::default()
    });
    let mut other = message(1);
    other.room = room(1);
    apply(&mut few, 0, Command::Publish(other));
    let full = why(part(&mut few, 0, 7, 0, true, whole.clone()));
    assert_eq!(full, "this node holds 1 rooms; no more are taken");
    let mut small = Machine::new(Limits {
        log_bytes: 100,
        ..Limits::default()
    });
    let full = why(part(&mut small, 0, 7, 0, true, whole));
    assert!(full.contains("the room holds 100 bytes"), "{full}");
    assert_eq!(small.cost(), 0);
    // As many rooms come as may.
    for id in 1..=MOVES as u8 {
        let begin = Command::Part {
            room: room(id),
            word: 1,
            index: 0,
            last: false,
            bytes: Bytes::from_static(b"x"),
        };
        assert!(apply(&mut b, 0, begin).answer.is_none());
    }
    let full = why(part(&mut b, 0, 7, 0, false, Bytes::from_static(b"x")));
    assert_eq!(full, "64 rooms come here already, the limit");
}

#[test]
fn a_room_of_an_earlier_word_gives_way_and_a_tombstone_ends_after_a_day() {
    let (mut a, mut b) = two();
    publish(&mut a, 1);
    publish(&mut a, 2);
    // Somebody whom no controller told made it there.
    publish(&mut b, 1);
    close(&mut a, 7);
    hand_over(&a, &mut b, 7, PART);
    act(&mut a, gone, 7);
    assert_eq!(act(&mut b, open, 7).forgotten, Some(room(0)));
    assert_eq!(seq(&publish(&mut b, 3)), 3);
    let ask = |at, machine: &mut Machine| {
        let (room, session) = (room(0), SessionId([7; 16]));
        apply(machine, at, Command::Ask { room, session }).shut
    };
    // It stays for as long as the other group is to be told.
    assert!(ask(1_000 + 2 * AWAY_AGE, &mut a));
    act(&mut a, settled, 7);
    assert!(!ask(1_000 + 2 * AWAY_AGE, &mut a));
}

/// A step of two groups, whatever their drivers do: in any order, repeated, late.
#[derive(Debug, Clone, Copy)]
enum Op {
    Publish(usize),
    Close(usize),
    Reopen(usize, u64),
    HandOver(usize),
    Gone(usize),
    Open(usize, u64),
    Drop(usize, u64),
    Settled(usize, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0usize..2;
    prop_oneof![
        6 => at.clone().prop_map(Op::Publish),
        3 => at.clone().prop_map(Op::Close),
        1 => (at.clone(), 0u64..3).prop_map(|(at, back)| Op::Reopen(at, back)),
        4 => at.clone().prop_map(Op::HandOver),
        3 => at.clone().prop_map(Op::Gone),
        4 => (at.clone(), 0u64..3).prop_map(|(at, back)| Op::Open(at, back)),
        1 => (at.clone(), 0u64..3).prop_map(|(at, back)| Op::Drop(at, back)),
        2 => (at, 0u64..3).prop_map(|(at, back)| Op::Settled(at, back)),
    ]
}

proptest! {
    /// As long as drivers keep to what they must (gone only after all has arrived, open only after it is
    /// gone, drop only after it was taken back), at most one group serves the room, and its order goes on.
    #[test]
    fn one_group_at_most_serves_a_room(ops in vec(op(), 1..120)) {
        let (a, b) = two();
        let mut groups = [a, b];
        let (mut word, mut next, mut newest) = (0u64, 1u64, 0u64);
        let mut home = 0;
        for op in ops {
            match op {
                Op::Publish(at) => {
                    // Edges ask where they were told that the room is.
                    if at == home {
                        let outcome = publish(&mut groups[at], next);
                        if !outcome.shut {
                            prop_assert_eq!(seq(&outcome), newest + 1);
                            (next, newest) = (next + 1, newest + 1);
                        }
                    }
                }
                Op::Close(at) => {
                    if at == home {
                        word += 1;
                        close(&mut groups[at], word);
                    }
                }
                // A group that never had the room has nothing to take back.
                Op::Reopen(at, back) => {
                    if at == home || groups[at].whereabouts(&room(0)) != Whereabouts::Unknown {
                        act(&mut groups[at], reopen, word.saturating_sub(back));
                    }
                }
                Op::HandOver(at) => {
                    let leaving = groups[at].leaving().map(|(_, to)| to.word).next();
                    if let Some(word) = leaving {
                        let [a, b] = &mut groups;
                        match at {
                            0 => hand_over(a, b, word, 64),
                            _ => hand_over(b, a, word, 64),
                        }
                    }
                }
                Op::Gone(at) => {
                    let leaving = groups[at].leaving().map(|(_, to)| to.word).next();
                    if let Some(word) = leaving
                        && groups[1 - at].arrived(&room(0), word) == Arrived::Whole
                    {
                        act(&mut groups[at], gone, word);
                        home = 1 - at;
                    }
                }
                Op::Open(at, back) => {
                    let of = word.saturating_sub(back);
                    let told = groups[1 - at].unsettled().any(|(_, to, gone)| gone && to.word == of);
                    if told { act(&mut groups[at], open, of); }
                }
                Op::Drop(at, back) => {
                    let of = word.saturating_sub(back);
                    let told = groups[1 - at].unsettled().any(|(_, to, gone)| !gone && to.word == of);
                    if told { act(&mut groups[at], drop, of); }
                }
                Op::Settled(at, back) => {
                    let of = word.saturating_sub(back);
                    let open = groups[1 - at].arrived(&room(0), of) == Arrived::Open;
                    let went = groups[at].unsettled().any(|(_, to, gone)| gone && to.word == of);
                    if !went || open { act(&mut groups[at], settled, of); }
                }
            }
            let serve = groups.iter().filter(|g| g.whereabouts(&room(0)) == Whereabouts::Here);
            prop_assert!(serve.count() <= 1);
            let held: Vec<u64> = groups.iter().filter_map(|g| Some(g.room(&room(0))?.seq())).collect();
            prop_assert!(held.iter().all(|seq| *seq == newest));
        }
    }
}
