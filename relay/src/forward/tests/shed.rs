//! A full link is left by a few tracks at a time, the largest first, while there is another way.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use longspan_proto::wire::{Message, Ok, Priority, Start, Subscribe};

use super::{Input, Lone, PeerKey, StreamKey, frame, nodes, track};

const SECOND: Duration = Duration::from_secs(1);
const OVER_A: &[&str] = &["a", "origin"];
const OVER_B: &[&str] = &["b", "origin"];
const FULL_A: &[(&str, &str)] = &[("a", "me")];

/// So many tracks come over `a`, number n with frames of 10 n bytes.
struct Loaded {
    lone: Lone,
    a: PeerKey,
    b: PeerKey,
    tracks: u64,
}

impl Loaded {
    fn new(tracks: u64) -> Loaded {
        let mut lone = Lone::new();
        let [a, b, edge] = [lone.peer(1, "a"), lone.peer(2, "b"), lone.peer(3, "edge-1")];
        lone.routes(&[OVER_A, OVER_B]);
        for id in 0..tracks {
            let subscribe = Subscribe {
                id,
                track: track(&format!("t{id}")),
                path: nodes(&["origin"]),
                crossed: nodes(&["edge-1"]),
                start: Start::Latest,
                rate: 0,
                budget_ms: 0,
                ticket: Bytes::new(),
            };
            lone.hear(edge, Message::Subscribe(subscribe));
            lone.ok(a, id, &["origin", "a"]);
            lone.open(a, id, id, 0, 0);
        }
        lone.outputs();
        // Nobody waits until tracks may move at all.
        lone.after(10 * SECOND);
        Loaded { lone, a, b, tracks }
    }

    /// A second, in which each track still on `a` brings a frame.
    fn second(&mut self) {
        for id in 0..self.tracks {
            self.lone.input(Input::Frame {
                peer: self.a,
                stream: StreamKey(id),
                frame: frame(Priority::VideoDelta, 10 * (id as usize + 1)),
                age_us: 1_000,
            });
        }
        self.lone.after(SECOND);
    }

    /// The tracks that `b` was asked for since; it feeds them at once.
    fn moved(&mut self) -> Vec<String> {
        let said = self.lone.said();
        let asked = said
            .into_iter()
            .filter_map(|(peer, message)| match message {
                Message::Subscribe(s) if peer == self.b.0 => {
                    Some((s.id, s.track.track.to_string()))
                }
                _ => None,
            });
        let asked: Vec<(u64, String)> = asked.collect();
        for (id, _) in &asked {
            let chain = nodes(&["origin", "b"]);
            let ok = Ok {
                id: *id,
                chain,
                first: None,
            };
            self.lone.hear(self.b, Message::Ok(ok));
            self.lone.open(self.b, 1_000 + id, *id, 1, 0);
            self.lone.frame(self.b, 1_000 + id);
        }
        asked.into_iter().map(|(_, track)| track).collect()
    }

    fn on_a(&self) -> usize {
        let tracks = self.lone.core.tracks();
        let over_a =
            |track: &super::super::TrackView| track.chain.get(1) == Some(&super::node("a"));
        tracks.iter().filter(|track| over_a(track)).count()
    }
}

#[test]
fn five_in_a_hundred_a_second_and_the_largest_first() {
    let mut loaded = Loaded::new(60);
    loaded.second();
    assert_eq!(loaded.moved(), [""; 0]);
    loaded.lone.routes_with(&[OVER_A, OVER_B], FULL_A);
    loaded.second();
    assert_eq!(loaded.moved(), ["t59", "t58", "t57"]);
    // Of 57 that is a little less, and what is left of a whole one is not lost.
    let mut counts = Vec::new();
    for _ in 0..7 {
        loaded.second();
        counts.push(loaded.moved().len());
    }
    assert_eq!(counts, [2, 3, 3, 2, 3, 2, 2]);
    assert_eq!(loaded.on_a(), 60 - 3 - 17);
    assert_eq!(loaded.lone.core.stats().shed, 20);

    // It is full no more: the others stay.
    loaded.lone.routes_with(&[OVER_A, OVER_B], &[]);
    for _ in 0..20 {
        loaded.second();
        assert_eq!(loaded.moved(), [""; 0]);
    }
}

#[test]
fn one_of_a_few_leaves_now_and_then() {
    let mut loaded = Loaded::new(4);
    loaded.lone.routes_with(&[OVER_A, OVER_B], FULL_A);
    let mut left = Vec::new();
    for second in 1..=15 {
        loaded.second();
        left.extend(loaded.moved().into_iter().map(|track| (second, track)));
    }
    // A fifth of a track a second, then three twentieths.
    assert_eq!(left, [(5, "t3".into()), (12, "t2".into())]);
}

#[test]
fn nothing_leaves_without_an_open_way() {
    type Table = (
        &'static [&'static [&'static str]],
        &'static [(&'static str, &'static str)],
    );
    const TABLES: [Table; 3] = [
        (&[OVER_A], FULL_A),
        (&[OVER_A, OVER_B], &[("a", "me"), ("origin", "b")]),
        // That one is full elsewhere is seen to by whoever is at its end.
        (&[OVER_A, OVER_B], &[("origin", "a")]),
    ];
    for (ways, full) in TABLES {
        let mut loaded = Loaded::new(40);
        loaded.lone.routes_with(ways, full);
        for _ in 0..10 {
            loaded.second();
            assert_eq!(loaded.moved(), [""; 0]);
        }
        assert_eq!(loaded.lone.core.stats().shed, 0);
    }
}

#[test]
fn who_left_comes_back_later_and_in_trouble_at_once() {
    let back = |loaded: &mut Loaded| {
        let said = loaded.lone.said().into_iter();
        let asked = said.filter_map(|(peer, message)| match message {
            Message::Subscribe(s) if peer == loaded.a.0 => Some(s.track.track.to_string()),
            _ => None,
        });
        asked.collect::<BTreeSet<String>>()
    };
    let mut loaded = Loaded::new(20);
    loaded.lone.routes_with(&[OVER_A, OVER_B], FULL_A);
    loaded.second();
    assert_eq!(loaded.moved(), ["t19"]);
    loaded.lone.routes_with(&[OVER_A, OVER_B], &[]);
    loaded.lone.after(298 * SECOND);
    assert!(back(&mut loaded).is_empty());
    loaded.lone.after(10 * SECOND);
    assert_eq!(back(&mut loaded), ["t19".into()].into());

    let mut loaded = Loaded::new(20);
    loaded.lone.routes_with(&[OVER_A, OVER_B], FULL_A);
    loaded.second();
    assert_eq!(loaded.moved(), ["t19"]);
    let down = Input::PeerDown { peer: loaded.b };
    loaded.lone.input(down);
    assert_eq!(back(&mut loaded), ["t19".into()].into());
}
