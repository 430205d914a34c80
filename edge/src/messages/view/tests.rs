use bytes::Bytes;
use longspan_proto::ids::{Room, RoomName, SessionId, Tenant};

use super::*;

fn message(seq: u64, key: Option<&str>, body: &str) -> Envelope {
    Envelope {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("math").unwrap(),
        },
        session: SessionId([1; 16]),
        n: seq,
        class: key.map_or(Class::Log, |_| Class::State),
        topic: "t".into(),
        key: key.map(str::to_owned),
        expected: None,
        revision: key.map_or(0, |_| seq),
        from: "m1".into(),
        recipient: None,
        at: 0,
        seq,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn snapshot(seq: u64, history: std::ops::Range<u64>) -> Snapshot {
    Snapshot {
        seq,
        at: 0,
        keys: vec![],
        history: history.map(|seq| message(seq, None, "x")).collect(),
    }
}

fn log(group: u64) -> Log {
    Log { group, era: 1 }
}

fn view() -> View {
    let mut view = View::new(Limits {
        messages: 4,
        ephemeral: 2,
        ..Limits::default()
    });
    view.load(log(1), snapshot(0, 1..1));
    view
}

fn apply(view: &mut View, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        assert_eq!(view.apply(message(seq, None, "x")), Applied::New);
    }
}

/// `3 4` or `gap 1-5` or `-`.
fn next(view: &View, cursor: &mut Cursor) -> String {
    match view.next(cursor, 64, 1 << 20) {
        Next::Nothing => "-".into(),
        Next::Gap { from, to } => format!("gap {from}-{to}"),
        Next::Events(events) => {
            let seqs: Vec<String> = events
                .iter()
                .map(|event| event.message().seq.to_string())
                .collect();
            seqs.join(" ")
        }
    }
}

#[test]
fn a_reader_gets_everything_in_order() {
    let mut view = view();
    let mut cursor = view.now();
    assert_eq!(next(&view, &mut cursor), "-");
    apply(&mut view, 1..=3);
    assert_eq!(next(&view, &mut cursor), "1 2 3");
    assert_eq!(view.apply(message(3, None, "x")), Applied::Known);
    assert_eq!(view.apply(message(5, None, "x")), Applied::Hole);
    assert_eq!(next(&view, &mut cursor), "-");
}

#[test]
fn whoever_lags_just_too_far_is_told() {
    let mut view = view();
    let (mut a, mut b) = (view.now(), view.now());
    apply(&mut view, 1..=4);
    assert_eq!(next(&view, &mut a), "1 2 3 4");
    apply(&mut view, 5..=5);
    assert_eq!(next(&view, &mut b), "gap 1-5");
    assert_eq!(next(&view, &mut b), "-");
    assert_eq!(next(&view, &mut a), "5");
}

#[test]
fn a_resume_begins_where_it_ended_even_ahead_of_this_edge() {
    let mut view = view();
    apply(&mut view, 1..=6);
    assert_eq!(next(&view, &mut view.after(2)), "3 4 5 6");
    assert_eq!(next(&view, &mut view.after(1)), "gap 2-6");
    let mut ahead = view.after(8);
    assert_eq!(next(&view, &mut ahead), "-");
    apply(&mut view, 7..=9);
    assert_eq!(next(&view, &mut ahead), "9");
    assert_eq!(next(&view, &mut view.lost(9)), "gap 10-9");
}

#[test]
fn a_state_whose_history_reaches_back_leaves_no_gap() {
    let mut view = view();
    apply(&mut view, 1..=3);
    let mut cursor = view.now();
    view.load(log(1), snapshot(6, 3..7));
    assert_eq!(next(&view, &mut cursor), "4 5 6");
    view.load(log(1), snapshot(6, 3..7));
    assert_eq!(next(&view, &mut cursor), "-");
    view.load(log(1), snapshot(9, 8..10));
    assert_eq!(next(&view, &mut cursor), "gap 7-9");
    apply(&mut view, 10..=10);
    assert_eq!(next(&view, &mut cursor), "10");
}

#[test]
fn another_log_is_a_gap_for_everybody() {
    let mut view = view();
    apply(&mut view, 1..=3);
    let mut cursor = view.now();
    view.load(log(2), snapshot(0, 1..1));
    assert_eq!(next(&view, &mut cursor), "gap 4-0");
    apply(&mut view, 1..=1);
    assert_eq!(next(&view, &mut cursor), "1");
    // A leader of old knows less than was seen.
    view.load(log(2), snapshot(0, 1..1));
    assert_eq!(next(&view, &mut cursor), "-");
}

#[test]
fn ephemeral_messages_come_once_and_are_thinned_silently() {
    let mut view = view();
    let mut cursor = view.now();
    let mut fast = view.now();
    for _ in 0..2 {
        view.apply_ephemeral(message(0, None, "x"));
    }
    assert_eq!(next(&view, &mut fast), "0 0");
    view.apply_ephemeral(message(0, None, "x"));
    assert_eq!(next(&view, &mut fast), "0");
    assert_eq!(next(&view, &mut cursor), "0 0");
    assert_eq!(next(&view, &mut cursor), "-");
    assert_eq!(next(&view, &mut view.now()), "-");
}

#[test]
fn a_reader_who_lags_sees_the_newest_of_each_label() {
    let mut view = View::new(Limits::default());
    view.load(log(1), snapshot(0, 1..1));
    let mut slow = view.now();
    let mut fast = view.now();
    let bodies = |view: &View, cursor: &mut Cursor| -> String {
        match view.next(cursor, 64, 1 << 20) {
            Next::Nothing => "-".into(),
            Next::Gap { .. } => "gap".into(),
            Next::Events(events) => {
                let bodies = events.iter().map(|e| e.message().body.to_vec());
                bodies
                    .map(|body| String::from_utf8(body).unwrap())
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        }
    };
    for (key, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        view.apply_ephemeral(message(0, Some(key), body));
        assert_eq!(bodies(&view, &mut fast), body);
    }
    view.apply_ephemeral(message(0, None, "4"));
    view.apply_ephemeral(message(0, None, "5"));
    assert_eq!(bodies(&view, &mut slow), "2 3 4 5");
    assert_eq!(bodies(&view, &mut slow), "-");
    // Far more than are held, of few labels: the newest of each stay.
    for n in 0..10_000 {
        view.apply_ephemeral(message(0, Some(["a", "b", "c"][n % 3]), &n.to_string()));
    }
    assert_eq!(bodies(&view, &mut slow), "9997 9998 9999");
    assert!(view.labels.len() <= 3);
}

#[test]
fn a_batch_is_bounded_in_messages_and_bytes() {
    let mut view = view();
    apply(&mut view, 1..=4);
    let mut cursor = view.after(0);
    let count = |next| match next {
        Next::Events(events) => events.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(view.next(&mut cursor, 3, 1 << 20)), 3);
    assert_eq!(count(view.next(&mut cursor, 3, 1 << 20)), 1);
    assert_eq!(count(view.next(&mut view.after(0), 64, 1)), 1);
}

#[test]
fn state_follows_the_log_and_is_cut_into_pieces() {
    let mut view = view();
    view.apply(message(1, Some("a"), "1"));
    view.apply(message(2, Some("b"), "2"));
    view.apply(message(3, Some("a"), "3"));
    let state = view.state(1 << 20);
    assert_eq!(state.len(), 1);
    assert_eq!(state[0]["a"].revision, 3);
    view.apply(message(4, Some("a"), ""));
    assert_eq!(view.state(1 << 20)[0].keys().collect::<Vec<_>>(), ["b"]);
    view.apply(message(5, Some("c"), "5"));
    assert_eq!(view.state(1).len(), 2);
}
