//! What follows from a link's life and cost.

use std::time::Duration;

use longspan_proto::{
    ids::Position,
    wire::{End, EndReason, GroupHeader, Message, Ok, Priority, Start},
};
use longspan_topology::link::{Cause, Event, Why};

use super::{Input, LocalEvent, LocalKey, Lone, Output, PeerKey, StreamKey, Trouble, node, nodes};

const WHY: Why = Why {
    cause: Cause::Silence,
    silence: Duration::from_millis(90),
    unanswered: 3,
};
const HOLD: Duration = Duration::from_secs(5);

fn link(lone: &mut Lone, peer: PeerKey, event: Event) {
    lone.input(Input::Link { peer, event });
}

fn cost(lone: &mut Lone, peer: PeerKey, extra_us: u64) {
    lone.input(Input::Cost { peer, extra_us });
}

fn at(group: u64, frame: u64) -> Start {
    Start::At(Position { group, frame })
}

fn upstream(lone: &Lone) -> Option<String> {
    let tracks = lone.core.tracks();
    let [.., upstream, _] = &tracks[0].chain[..] else {
        return None;
    };
    Some(upstream.to_string())
}

/// A track from x (group 3, two frames), which y could bring as well.
fn between() -> (Lone, PeerKey, PeerKey) {
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

/// The same with z, and x suspected: y was asked, and after a while z beside it.
fn hedged() -> (Lone, [PeerKey; 3]) {
    let (mut lone, x, y) = between();
    let z = lone.peer(3, "z");
    lone.routes(&[&["x", "origin"], &["y", "origin"], &["z", "origin"]]);
    link(&mut lone, x, Event::Suspect(WHY));
    assert_eq!(lone.subscribed()[0].0, 2);
    lone.after(Duration::from_millis(49));
    assert_eq!(lone.subscribed(), []);
    lone.after(Duration::from_millis(1));
    assert_eq!(lone.subscribed(), [(3, 0, vec!["origin".into()], at(3, 2))]);
    (lone, [x, y, z])
}

/// Which of the peers were told that nothing more is wanted.
fn left(lone: &mut Lone) -> Vec<u64> {
    let said = lone.said().into_iter();
    let left = said.filter(|(_, message)| matches!(message, Message::Unsubscribe(_)));
    left.map(|(peer, _)| peer).collect()
}

#[test]
fn of_two_that_are_asked_for_a_track_in_trouble_the_first_that_feeds_stays() {
    for first in [1, 2] {
        let (mut lone, peers) = hedged();
        let (feeds, name) = (peers[first], ["x", "y", "z"][first]);
        lone.ok(feeds, 0, &["origin", name]);
        lone.open(feeds, 9, 0, 3, 2);
        lone.frame(feeds, 9);
        assert_eq!(upstream(&lone), Some(name.into()));
        let mut left = left(&mut lone);
        left.sort_unstable();
        let others = [1, 2, 3].into_iter().filter(|n| *n != first as u64 + 1);
        assert_eq!(left, others.collect::<Vec<_>>());
        let stats = lone.core.stats();
        assert_eq!((stats.rescues, stats.moves_done), (0, 1));
        let told = lone.core.failovers().next().expect("it is told").clone();
        assert_eq!((told.to, told.asked), (node(name), 2));
    }
}

#[test]
fn a_rescue_that_is_answered_in_time_is_not_doubled() {
    let (mut lone, x, y) = between();
    lone.peer(3, "z");
    lone.routes(&[&["x", "origin"], &["y", "origin"], &["z", "origin"]]);
    link(&mut lone, x, Event::Suspect(WHY));
    lone.after(Duration::from_millis(40));
    lone.ok(y, 0, &["origin", "y"]);
    lone.outputs();
    lone.after(Duration::from_millis(60));
    assert_eq!(lone.subscribed(), []);
}

#[test]
fn where_both_are_asked_one_refusal_leaves_the_other() {
    let refusal = |id| {
        Message::End(End {
            id,
            reason: EndReason::Unreachable,
            message: String::new(),
        })
    };
    for (refuses, answers) in [(1, 2), (2, 1)] {
        let (mut lone, peers) = hedged();
        lone.hear(peers[refuses], refusal(0));
        assert_eq!(lone.subscribed(), [], "the other is asked already");
        let (feeds, name) = (peers[answers], ["x", "y", "z"][answers]);
        lone.ok(feeds, 0, &["origin", name]);
        lone.open(feeds, 9, 0, 3, 2);
        lone.frame(feeds, 9);
        assert_eq!(upstream(&lone), Some(name.into()));
        let told = lone.core.failovers().next().expect("it is told");
        let refused = node(["x", "y", "z"][refuses]);
        assert_eq!(told.refused, [(refused, Some(EndReason::Unreachable))]);
        assert_eq!(lone.core.stats().rescues, 0);
    }
}

#[test]
fn a_verdict_leaves_both_that_are_asked_and_the_first_answer_decides() {
    let (mut lone, [x, y, z]) = hedged();
    link(&mut lone, x, Event::Down(WHY));
    assert_eq!(lone.subscribed(), []);
    lone.ok(z, 0, &["origin", "z"]);
    lone.open(z, 9, 0, 3, 2);
    lone.frame(z, 9);
    assert_eq!(upstream(&lone), Some("z".into()));
    // Too late.
    lone.ok(y, 0, &["origin", "y"]);
    assert_eq!(upstream(&lone), Some("z".into()));
    assert_eq!(lone.core.stats().rescues, 0);
}

#[test]
fn a_neighbour_that_is_heard_again_ends_both() {
    let (mut lone, [x, ..]) = hedged();
    link(&mut lone, x, Event::Up);
    let mut left = left(&mut lone);
    left.sort_unstable();
    assert_eq!(left, [2, 3]);
    lone.after(Duration::from_secs(30));
    assert_eq!(upstream(&lone), Some("x".into()));
    assert_eq!(lone.core.stats().rescues, 0);
}

#[test]
fn trouble_of_either_that_is_asked_leaves_the_other() {
    for troubled in [1, 2] {
        let (mut lone, peers) = hedged();
        link(&mut lone, peers[troubled], Event::Suspect(WHY));
        let other = 3 - troubled;
        let name = ["x", "y", "z"][other];
        lone.outputs();
        lone.ok(peers[other], 0, &["origin", name]);
        lone.open(peers[other], 9, 0, 3, 2);
        lone.frame(peers[other], 9);
        assert_eq!(upstream(&lone), Some(name.into()));
        lone.input(Input::PeerDown {
            peer: peers[troubled],
        });
        assert_eq!(lone.core.stats().rescues, 0);
    }
}

#[test]
fn where_the_second_refuses_the_third_is_asked_beside_the_first() {
    let (mut lone, [_, _, z]) = hedged();
    let u = lone.peer(4, "u");
    lone.routes(&[
        &["x", "origin"],
        &["y", "origin"],
        &["z", "origin"],
        &["u", "origin"],
    ]);
    lone.hear(
        z,
        Message::End(End {
            id: 0,
            reason: EndReason::Loop,
            message: String::new(),
        }),
    );
    assert_eq!(lone.subscribed(), [(4, 0, vec!["origin".into()], at(3, 2))]);
    lone.ok(u, 0, &["origin", "u"]);
    lone.open(u, 9, 0, 3, 2);
    lone.frame(u, 9);
    assert_eq!(upstream(&lone), Some("u".into()));
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
