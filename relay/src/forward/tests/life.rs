//! What follows from a link's life and cost.

use std::time::Duration;

use longspan_proto::{
    ids::Position,
    wire::{End, EndReason, GroupHeader, Message, Ok, Priority, Start},
};
use longspan_topology::link::{Cause, Event, Why};

use super::{
    Input, LocalEvent, LocalKey, Lone, Output, PeerKey, StreamKey, Trouble, hedge::left, node,
    nodes,
};

pub(super) const WHY: Why = Why {
    cause: Cause::Silence,
    silence: Duration::from_millis(90),
    unanswered: 3,
};
const HOLD: Duration = Duration::from_secs(5);

pub(super) fn link(lone: &mut Lone, peer: PeerKey, event: Event) {
    lone.input(Input::Link { peer, event });
}

fn cost(lone: &mut Lone, peer: PeerKey, extra_us: u64) {
    lone.input(Input::Cost { peer, extra_us });
}

pub(super) fn at(group: u64, frame: u64) -> Start {
    Start::At(Position { group, frame })
}

pub(super) fn upstream(lone: &Lone) -> Option<String> {
    let tracks = lone.core.tracks();
    let [.., upstream, _] = &tracks[0].chain[..] else {
        return None;
    };
    Some(upstream.to_string())
}

/// A track from x (group 3, two frames), which y could bring as well.
pub(super) fn between() -> (Lone, PeerKey, PeerKey) {
    let mut lone = Lone::new();
    let (x, y) = (lone.peer(1, "x"), lone.peer(2, "y"));
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.open(x, 0, 0, 3, 0);
    lone.frame(x, 0);
    lone.frame(x, 0);
    lone.outputs();
    (lone, x, y)
}

#[test]
fn a_suspected_neighbours_tracks_are_asked_for_elsewhere_at_once() {
    let (mut lone, x, y) = between();
    link(&mut lone, x, Event::Suspect(WHY));
    let asked = lone.subscribed();
    assert_eq!(asked, [(2, 0, vec!["origin".into()], at(3, 2))]);
    // It still comes from x meanwhile; y is not a second copy of it.
    lone.frame(x, 0);
    lone.ok(y, 0, &["origin", "y"]);
    lone.open(y, 9, 0, 3, 2);
    lone.frame(y, 9);
    assert_eq!(upstream(&lone), Some("x".into()), "it is no news");
    assert_eq!(lone.core.stats().frames_duplicate, 1);
    lone.frame(y, 9);
    assert_eq!(upstream(&lone), Some("y".into()));
    let healed = lone.outputs().into_iter().find_map(|output| match output {
        Output::Healed { trouble, .. } => Some(trouble),
        _ => None,
    });
    assert_eq!(healed, Some(Trouble::Silence));
}

#[test]
fn a_neighbour_that_is_heard_again_in_time_keeps_its_tracks() {
    let (mut lone, x, y) = between();
    link(&mut lone, x, Event::Suspect(WHY));
    lone.ok(y, 0, &["origin", "y"]);
    lone.outputs();
    link(&mut lone, x, Event::Up);
    let said = lone.said();
    assert!(
        matches!(&said[..], [(2, Message::Unsubscribe(_))]),
        "{said:?}"
    );
    lone.after(Duration::from_secs(30));
    assert_eq!(upstream(&lone), Some("x".into()));
    let stats = lone.core.stats();
    assert_eq!(
        (stats.rescues, stats.rescues_spared, stats.moves_done),
        (0, 1, 0)
    );
}

#[test]
fn what_moved_stays_for_the_hold_time() {
    let (mut lone, x, y) = between();
    link(&mut lone, x, Event::Suspect(WHY));
    lone.ok(y, 0, &["origin", "y"]);
    lone.open(y, 9, 0, 3, 2);
    lone.frame(y, 9);
    link(&mut lone, x, Event::Up);
    lone.outputs();
    lone.after(HOLD - Duration::from_millis(1));
    assert_eq!(lone.subscribed(), []);
    lone.after(Duration::from_millis(1));
    assert_eq!(lone.subscribed(), [(1, 1, vec!["origin".into()], at(3, 3))]);
}

#[test]
fn a_link_that_is_down_is_not_used_though_no_other_way_is_known() {
    let mut lone = Lone::new();
    let x = lone.peer(1, "x");
    lone.routes(&[&["x", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.open(x, 0, 0, 3, 0);
    lone.frame(x, 0);
    link(&mut lone, x, Event::Suspect(WHY));
    lone.outputs();
    link(&mut lone, x, Event::Down(WHY));
    assert_eq!(upstream(&lone), None, "the leg is lost");
    lone.after(Duration::from_secs(3));
    assert_eq!(lone.subscribed(), [], "and x is not asked");
    link(&mut lone, x, Event::Up);
    assert_eq!(lone.subscribed(), [(1, 1, vec!["origin".into()], at(3, 1))]);
}

#[test]
fn a_fresh_connection_beside_one_that_is_down_is_used() {
    let (mut lone, x, y) = between();
    lone.input(Input::PeerDown { peer: y });
    link(&mut lone, x, Event::Suspect(WHY));
    link(&mut lone, x, Event::Down(WHY));
    lone.outputs();
    lone.peer(7, "x");
    assert_eq!(lone.subscribed(), [(7, 0, vec!["origin".into()], at(3, 2))]);
    // The old one's end is no news.
    lone.ok(PeerKey(7), 0, &["origin", "x"]);
    lone.input(Input::PeerDown { peer: x });
    assert_eq!(upstream(&lone), Some("x".into()));
    assert_eq!(lone.core.stats().upstream_lost, 1);
}

#[test]
fn a_standby_that_was_asked_takes_over_with_the_verdict() {
    let (mut lone, x, y) = between();
    link(&mut lone, x, Event::Suspect(WHY));
    lone.outputs();
    link(&mut lone, x, Event::Down(WHY));
    assert_eq!(lone.subscribed(), [], "it is asked already");
    lone.ok(y, 0, &["origin", "y"]);
    assert_eq!(upstream(&lone), Some("y".into()));
}

#[test]
fn a_neighbour_that_refuses_a_rescue_is_passed_over_at_once() {
    let mut lone = Lone::new();
    let [x, y] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.peer(3, "z");
    lone.routes(&[&["x", "origin"], &["y", "origin"], &["z", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.outputs();
    link(&mut lone, x, Event::Suspect(WHY));
    assert_eq!(lone.subscribed()[0].0, 2);
    let refusal = |id| {
        Message::End(End {
            id,
            reason: EndReason::Loop,
            streams: 0,
            message: String::new(),
        })
    };
    lone.hear(y, refusal(0));
    assert_eq!(lone.subscribed()[0].0, 3);
    lone.hear(PeerKey(3), refusal(0));
    assert_eq!(lone.subscribed(), [], "all have refused: a pause");
    lone.after(Duration::from_millis(250));
    assert_eq!(lone.subscribed()[0].0, 2);
}

#[test]
fn nothing_is_moved_to_a_neighbour_that_is_suspected_too() {
    let (mut lone, x, y) = between();
    lone.peer(3, "z");
    lone.routes(&[&["x", "origin"], &["y", "origin"], &["z", "origin"]]);
    link(&mut lone, x, Event::Suspect(WHY));
    assert_eq!(lone.subscribed()[0].0, 2);
    link(&mut lone, y, Event::Suspect(WHY));
    assert_eq!(lone.subscribed()[0].0, 3);
}

#[test]
fn hundreds_of_tracks_are_asked_for_at_once_audio_first() {
    let mut lone = Lone::new();
    let x = lone.peer(1, "x");
    lone.peer(2, "y");
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    for n in 0..300u64 {
        lone.input(Input::Subscribe {
            local: LocalKey(n),
            track: super::track(&format!("t{n}")),
            origin: node("origin"),
            start: Start::Latest,
            budget_ms: 0,
        });
        let chain = nodes(&["origin", "x"]);
        let first = None;
        lone.hear(
            x,
            Message::Ok(Ok {
                id: n,
                chain,
                first,
            }),
        );
        lone.input(Input::GroupOpened {
            peer: x,
            stream: StreamKey(n),
            header: GroupHeader {
                subscription: n,
                group: 0,
                first_frame: 0,
                timestamp: 0,
                origin_time: 0,
                replay: false,
            },
        });
        let priority = match n % 3 {
            0 => Priority::VideoDelta,
            1 => Priority::Realtime,
            _ => Priority::State,
        };
        lone.input(Input::Frame {
            peer: x,
            stream: StreamKey(n),
            frame: super::frame(priority, 10),
            age_us: 0,
        });
    }
    lone.outputs();
    link(&mut lone, x, Event::Suspect(WHY));
    let asked: Vec<u64> = lone
        .said()
        .into_iter()
        .filter_map(|(peer, message)| match message {
            Message::Subscribe(s) if peer == 2 => {
                s.track.track.to_string().strip_prefix('t')?.parse().ok()
            }
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 300);
    let kinds: Vec<u64> = asked.iter().map(|n| n % 3).collect();
    let expected = [vec![1; 100], vec![2; 100], vec![0; 100]].concat();
    assert_eq!(kinds, expected);
}

#[test]
fn a_link_that_became_worse_than_another_way_is_left_and_found_again_after_the_hold() {
    let (mut lone, x, y) = between();
    // By the table y costs 1 µs more.
    cost(&mut lone, x, 3_000);
    assert_eq!(lone.subscribed(), [], "a gain of 2,999 µs is none");
    cost(&mut lone, x, 3_001);
    assert_eq!(lone.subscribed(), [(2, 0, vec!["origin".into()], at(3, 2))]);
    // Make before break: x feeds until y does.
    lone.frame(x, 0);
    assert_eq!(upstream(&lone), Some("x".into()));
    lone.ok(y, 0, &["origin", "y"]);
    lone.open(y, 9, 0, 3, 2);
    lone.frame(y, 9);
    lone.frame(y, 9);
    assert_eq!(upstream(&lone), Some("y".into()));
    // No way back while it costs more, whatever the table says.
    lone.outputs();
    lone.after(3 * HOLD);
    assert_eq!(lone.subscribed(), []);
    cost(&mut lone, x, 0);
    assert_eq!(lone.subscribed(), []);
    lone.after(HOLD);
    assert_eq!(lone.subscribed(), [(1, 1, vec!["origin".into()], at(3, 4))]);
}

#[test]
fn both_links_being_worse_is_no_reason() {
    let (mut lone, x, y) = between();
    cost(&mut lone, y, 50_000);
    cost(&mut lone, x, 40_000);
    assert_eq!(lone.subscribed(), []);
}

#[test]
fn what_a_newcomer_lacks_is_fetched_from_the_next_upstream() {
    // Resumed in the middle of group 3; a newcomer wants the group's start.
    let mut lone = Lone::new();
    let (x, y) = (lone.peer(1, "x"), lone.peer(2, "y"));
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.input(Input::Subscribe {
        local: LocalKey(1),
        track: super::track("video"),
        origin: node("origin"),
        start: at(3, 2),
        budget_ms: 0,
    });
    lone.ok(x, 0, &["origin", "x"]);
    lone.open(x, 0, 0, 3, 2);
    lone.frame(x, 0);
    lone.local(2, "origin");
    assert_eq!(lone.subscribed().last().unwrap().3, Start::Latest);
    link(&mut lone, x, Event::Suspect(WHY));
    link(&mut lone, x, Event::Down(WHY));
    let dropped = |event: &LocalEvent| matches!(event, LocalEvent::GroupDropped { .. });
    assert!(!lone.events().iter().any(dropped));
    lone.ok(y, 0, &["origin", "y"]);
    let backfill = lone.subscribed();
    assert_eq!(
        backfill.last().map(|asked| (asked.0, asked.3)),
        Some((2, Start::Latest)),
        "{backfill:?}"
    );
}

#[test]
fn live_sound_goes_before_what_a_mass_move_replays() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    for n in 0..50u64 {
        let name = format!("v{n}");
        lone.publish(&name);
        lone.publish_group(&name, 0);
        for _ in 0..20 {
            lone.publish_frame(&name, Priority::VideoDelta, 1_000);
        }
    }
    lone.publish("audio");
    lone.publish_group("audio", 0);
    let ask = |lone: &mut Lone, id: u64, name: &str| {
        let subscribe = longspan_proto::wire::Subscribe {
            id,
            track: super::track(name),
            path: Vec::new(),
            crossed: nodes(&["a"]),
            start: at(0, 2),
            rate: 0,
            budget_ms: 0,
            ticket: bytes::Bytes::new(),
        };
        lone.hear(a, Message::Subscribe(subscribe));
    };
    ask(&mut lone, 1_000, "audio");
    for n in 0..50 {
        ask(&mut lone, n, &format!("v{n}"));
    }
    let now = lone.now;
    for _ in 0..200 {
        assert!(lone.core.poll_transmit(now, a).is_some());
    }
    for _ in 0..3 {
        lone.publish_frame("audio", Priority::Realtime, 100);
    }
    let next = lone.sent(a);
    let sound = next
        .iter()
        .position(|what| what.starts_with("frame"))
        .unwrap();
    assert!(sound <= 1, "its stream, then the frame: {:?}", &next[..5]);
}

#[test]
fn the_only_other_neighbour_is_asked_on_though_it_is_suspected_too() {
    let (mut lone, x, y) = between();
    link(&mut lone, x, Event::Suspect(WHY));
    lone.outputs();
    link(&mut lone, y, Event::Suspect(WHY));
    assert!(left(&mut lone).is_empty());
    lone.ok(y, 0, &["origin", "y"]);
    lone.open(y, 9, 0, 3, 2);
    lone.frame(y, 9);
    assert_eq!(upstream(&lone), Some("y".into()));
}

#[test]
fn a_standby_that_lags_takes_over_half_a_second_after_its_confirmation() {
    let (mut lone, x, y) = between();
    cost(&mut lone, x, 80_000);
    lone.ok(y, 0, &["origin", "y"]);
    lone.open(y, 9, 0, 3, 2);
    for _ in 0..10 {
        lone.frame(x, 0);
        lone.frame(y, 9);
        lone.after(Duration::from_millis(49));
    }
    assert_eq!(upstream(&lone), Some("x".into()), "x is ahead all the time");
    lone.after(Duration::from_millis(10));
    assert_eq!(upstream(&lone), Some("y".into()));
}
