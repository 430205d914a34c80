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
        Next::Events(batch) => {
            let seqs: Vec<String> = batch
                .events
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
fn whoever_comes_back_is_given_what_the_policy_keeps_and_whoever_stayed_all_there_is() {
    let mut view = view();
    let mut stayed = view.now();
    let keep = |messages| Retention {
        messages,
        ..Retention::ALL
    };
    view.keep(keep(2));
    apply(&mut view, 1..=4);
    assert_eq!(next(&view, &mut view.after(2)), "3 4");
    let mut early = view.after(1);
    assert_eq!(next(&view, &mut early), "gap 2-4");
    assert_eq!(next(&view, &mut early), "-", "the state is told then");
    assert_eq!(next(&view, &mut stayed), "1 2 3 4");
    assert_eq!(next(&view, &mut view.after(9)), "-", "it is ahead");
    // Nothing at all: only who has seen the newest goes on.
    view.keep(keep(0));
    assert_eq!(next(&view, &mut view.after(4)), "-");
    assert_eq!(next(&view, &mut view.after(3)), "gap 4-4");
    // More than there is.
    view.keep(keep(1_000));
    apply(&mut view, 5..=5);
    assert_eq!(next(&view, &mut view.after(1)), "2 3 4 5");
    assert_eq!(next(&view, &mut view.after(0)), "gap 1-5");
}

#[test]
fn a_policy_counts_bytes_and_age_as_the_room_s_log_does() {
    let mut view = view();
    for (seq, at) in (1..=4).zip([0, 1_000, 2_000, 3_000]) {
        let message = Envelope {
            at,
            ..message(seq, None, "x")
        };
        view.apply(message);
    }
    let one = {
        let fits = |bytes| {
            let kept = Retention {
                bytes,
                ..Retention::ALL
            };
            kept.keeps([&message(4, None, "x")]) == 1
        };
        (1..1_000).find(|bytes| fits(*bytes)).unwrap()
    };
    view.keep(Retention {
        bytes: 2 * one,
        ..Retention::ALL
    });
    assert_eq!(next(&view, &mut view.after(2)), "3 4");
    assert_eq!(next(&view, &mut view.after(1)), "gap 2-4");
    view.keep(Retention {
        age: std::time::Duration::from_millis(1_999),
        ..Retention::ALL
    });
    assert_eq!(next(&view, &mut view.after(2)), "3 4");
    assert_eq!(next(&view, &mut view.after(1)), "gap 2-4");
    view.keep(Retention {
        age: std::time::Duration::from_millis(2_000),
        ..Retention::ALL
    });
    assert_eq!(next(&view, &mut view.after(1)), "2 3 4");
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
            Next::Events(batch) => {
                let bodies = batch.events.iter().map(|e| e.message().body.to_vec());
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
        Next::Events(batch) => batch.events.len(),
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

/// Places and what was left out, `3 5 (2)`.
fn batch(view: &View, cursor: &mut Cursor, messages: usize) -> String {
    match view.next(cursor, messages, 1 << 20) {
        Next::Events(Batch { events, skipped }) => {
            let seqs = events.iter().map(|event| event.message().seq.to_string());
            let seqs: Vec<String> = seqs.collect();
            format!("{} ({skipped})", seqs.join(" "))
        }
        Next::Nothing => "-".into(),
        Next::Gap { from, to } => format!("gap {from}-{to}"),
    }
}

#[test]
fn whoever_lags_by_more_than_a_batch_is_spared_what_is_written_again() {
    let mut view = View::new(Limits::default());
    view.load(log(1), snapshot(0, 1..1));
    let keys = [
        Some("a"),
        None,
        Some("a"),
        Some("b"),
        Some("b"),
        Some("a"),
        None,
    ];
    for (at, key) in keys.into_iter().enumerate() {
        // The fifth deletes.
        let body = if at == 4 { "" } else { "x" };
        view.apply(message(at as u64 + 1, key, body));
    }
    let skipping = |seq| view.after(seq).skipping(true);
    let mut cursor = skipping(0);
    assert_eq!(batch(&view, &mut cursor, 3), "2 5 6 (3)");
    assert_eq!(batch(&view, &mut cursor, 3), "7 (0)");
    // Not by more than a batch; and who does not want it.
    assert_eq!(batch(&view, &mut skipping(0), 7), "1 2 3 4 5 6 7 (0)");
    assert_eq!(batch(&view, &mut view.after(0), 3), "1 2 3 (0)");
    // A batch ends with what is given: what would be left out behind it is looked at again.
    let mut cursor = skipping(0);
    assert_eq!(batch(&view, &mut cursor, 1), "2 (1)");
    assert_eq!(batch(&view, &mut cursor, 1), "5 (2)");
    // It lags still after a gap.
    let mut cursor = view.lost(1).skipping(true);
    assert_eq!(batch(&view, &mut cursor, 3), "gap 2-7");
    assert_eq!(cursor, view.now().skipping(true));
}

proptest::proptest! {
    /// However slowly it reads, whoever is spared ends with the state of whoever is not, and has
    /// every message that is none.
    #[test]
    fn reading_with_and_without_what_is_written_again_ends_in_the_same_state(
        messages in proptest::collection::vec((0u8..4, 0u8..6, proptest::bool::ANY), 1..300),
        reads in proptest::collection::vec((0usize..40, 1usize..8), 1..60),
    ) {
        let mut view = View::new(Limits { messages: 400, ..Limits::default() });
        view.load(log(1), snapshot(0, 1..1));
        let (mut slow, mut full) = (Reader::new(&view, true), Reader::new(&view, false));
        let mut messages = (1..).zip(messages);
        for (come, most) in reads {
            for (seq, (class, key, deletes)) in messages.by_ref().take(come) {
                let key = (class > 0).then(|| format!("key-{key}"));
                let body = if key.is_some() && deletes { "" } else { "x" };
                view.apply(message(seq, key.as_deref(), body));
            }
            slow.read(&view, most);
        }
        while slow.read(&view, 5) {}
        while full.read(&view, 5) {}
        proptest::prop_assert_eq!(slow.state, full.state);
        proptest::prop_assert_eq!(slow.log, full.log);
        proptest::prop_assert_eq!(slow.seq, view.seq());
    }
}

struct Reader {
    cursor: Cursor,
    seq: u64,
    state: BTreeMap<String, u64>,
    log: Vec<u64>,
}

impl Reader {
    fn new(view: &View, skips: bool) -> Reader {
        Reader {
            cursor: view.now().skipping(skips),
            seq: view.seq(),
            state: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// As a client reads: places that are not there are those that were said to be left out.
    fn read(&mut self, view: &View, most: usize) -> bool {
        let Next::Events(Batch { events, skipped }) = view.next(&mut self.cursor, most, 1 << 20)
        else {
            return false;
        };
        let mut left = skipped;
        for event in events {
            let message = event.message();
            left -= message.seq - self.seq - 1;
            self.seq = message.seq;
            match &message.key {
                None => self.log.push(message.seq),
                Some(key) if message.body.is_empty() => drop(self.state.remove(key)),
                Some(key) => drop(self.state.insert(key.clone(), message.seq)),
            }
        }
        assert_eq!(left, 0, "as many are left out as is said");
        true
    }
}
