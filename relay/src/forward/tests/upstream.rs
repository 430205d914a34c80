//! What this node asks of others: found, lost, found again, left.

use std::time::Duration;

use longspan_proto::{
    ids::Position,
    wire::{End, EndReason, Message, Start, Unsubscribe, Update},
};

use super::{Input, LocalEvent, LocalKey, Lone, PeerKey, fed, node, nodes};

fn end(lone: &mut Lone, peer: PeerKey, id: u64, reason: EndReason) {
    let message = String::new();
    lone.hear(
        peer,
        Message::End(End {
            id,
            reason,
            streams: 0,
            message,
        }),
    );
}

#[test]
fn the_asked_way_goes_first_then_the_tables() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let [x, y] = [lone.peer(2, "x"), lone.peer(3, "y")];
    lone.routes(&[&["y", "origin"]]);
    lone.asked(a, 0, &["x", "origin"], &["a"]);
    assert_eq!(
        lone.subscribed(),
        [(2, 0, vec!["origin".into()], Start::Latest)]
    );
    end(&mut lone, x, 0, EndReason::Unreachable);
    assert_eq!(
        lone.subscribed(),
        [(3, 0, vec!["origin".into()], Start::Latest)]
    );
    end(&mut lone, y, 0, EndReason::OverCapacity);
    assert_eq!(lone.ends(), [(1, 0, EndReason::OverCapacity)]);
}

#[test]
fn what_the_origin_does_not_have_is_not_looked_for_elsewhere() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let x = lone.peer(2, "x");
    lone.peer(3, "y");
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.asked(a, 0, &["x", "origin"], &["a"]);
    lone.outputs();
    end(&mut lone, x, 0, EndReason::NotFound);
    assert_eq!(lone.ends(), [(1, 0, EndReason::NotFound)]);
    assert_eq!(lone.subscribed(), []);
}

#[test]
fn a_silent_neighbour_is_given_up_after_a_round_trip_and_a_quarter_second() {
    let mut lone = Lone::new();
    let up = lone.peer(1, "up");
    lone.input(Input::Rtt {
        peer: up,
        rtt: Duration::from_millis(40),
    });
    lone.local(1, "up");
    lone.outputs();
    lone.after(Duration::from_millis(289));
    assert_eq!(lone.said(), []);
    lone.after(Duration::from_millis(1));
    let said = lone.said();
    assert!(matches!(said[0], (1, Message::Unsubscribe(_))), "{said:?}");
}

#[test]
fn the_search_for_a_local_consumer_is_bounded_and_pauses_grow() {
    let mut lone = Lone::new();
    let up = lone.peer(1, "up");
    lone.local(1, "up");
    let mut asked = Vec::new();
    let begin = lone.now;
    loop {
        for (_, id, ..) in lone.subscribed() {
            asked.push(lone.now.saturating_since(begin).as_millis());
            end(&mut lone, up, id, EndReason::OverCapacity);
        }
        if lone.core.stats().subscriptions == 0 {
            break;
        }
        let due = lone.core.poll_timeout().expect("it goes on or ends");
        let pause = due.saturating_since(lone.now);
        lone.after(pause);
    }
    assert_eq!(asked[..6], [0, 50, 150, 350, 750, 1_550]);
    assert_eq!(asked.last(), Some(&10_550));
    assert_eq!(asked.len(), 15);
}

#[test]
fn the_end_is_told_to_the_local_consumer() {
    let mut lone = Lone::new();
    lone.local(1, "up");
    lone.after(Duration::from_secs(12));
    let events = lone.events();
    let [LocalEvent::End { reason, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*reason, EndReason::Unreachable);
}

#[test]
fn a_lost_upstream_is_resumed_at_the_first_missing_position() {
    let mut lone = Lone::new();
    let [x, _] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    // Group 3 is complete, 4 lacks its rest, 5 has begun.
    for (stream, group, frames) in [(0, 3, 2), (1, 4, 3), (2, 5, 1)] {
        lone.open(x, stream, 0, group, 0);
        for _ in 0..frames {
            lone.frame(x, stream);
        }
    }
    lone.finish(x, 0);
    lone.outputs();
    lone.input(Input::PeerDown { peer: x });
    let at = Start::At(Position { group: 4, frame: 3 });
    assert_eq!(lone.subscribed(), [(2, 0, vec!["origin".into()], at)]);
}

#[test]
fn a_reset_before_the_connection_is_lost_skips_nothing() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 3, 0);
    lone.frame(up, 0);
    lone.input(Input::GroupReset {
        peer: up,
        stream: super::StreamKey(0),
    });
    lone.input(Input::PeerDown { peer: up });
    lone.outputs();
    lone.peer(2, "up");
    let at = Start::At(Position { group: 3, frame: 1 });
    assert_eq!(lone.subscribed(), [(2, 0, vec![], at)]);
}

#[test]
fn a_confirmation_over_this_node_itself_is_none() {
    let mut lone = Lone::new();
    let [x, _] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.outputs();
    lone.ok(x, 0, &["origin", "me", "x"]);
    let said = lone.said();
    assert!(matches!(said[0], (1, Message::Unsubscribe(_))), "{said:?}");
    assert!(matches!(said[1], (2, Message::Subscribe(_))), "{said:?}");
    assert_eq!(lone.events(), []);
}

#[test]
fn whoever_finds_itself_in_a_chain_leaves_at_once() {
    let mut lone = Lone::new();
    let [x, _] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.outputs();
    let chain = nodes(&["origin", "me", "z", "x"]);
    lone.hear(x, Message::Update(Update { id: 0, chain }));
    let said = lone.said();
    assert!(matches!(said[0], (1, Message::Unsubscribe(_))), "{said:?}");
    assert!(matches!(said[1], (2, Message::Subscribe(_))), "{said:?}");
}

#[test]
fn a_new_chain_goes_down_before_the_first_frame_of_the_new_way() {
    let mut lone = Lone::new();
    let [x, y, a] = [lone.peer(1, "x"), lone.peer(2, "y"), lone.peer(3, "a")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.asked(a, 9, &["x", "origin"], &["a"]);
    lone.ok(x, 0, &["origin", "x"]);
    lone.open(x, 0, 0, 0, 0);
    lone.frame(x, 0);
    lone.sent(a);
    lone.routes(&[&["y", "origin"], &["x", "origin"]]);
    lone.outputs();
    lone.ok(y, 0, &["origin", "y"]);
    // Confirmed, but it does not feed yet: the old one stays.
    assert_eq!(lone.said(), []);
    lone.open(y, 7, 0, 0, 1);
    assert_eq!(lone.sent(a), Vec::<String>::new());
    lone.frame(y, 7);
    let said = lone.said();
    assert!(matches!(said[0], (1, Message::Unsubscribe(_))), "{said:?}");
    let (3, Message::Update(update)) = &said[1] else {
        panic!("{said:?}");
    };
    assert_eq!(
        (update.id, &update.chain),
        (9, &nodes(&["origin", "y", "me"]))
    );
    assert_eq!(lone.sent(a), ["frame 0"]);
    // What the old one still sends is stopped and changes nothing.
    lone.frame(x, 0);
    assert_eq!(lone.sent(a), Vec::<String>::new());
}

#[test]
fn a_refused_move_keeps_the_old_way_and_is_tried_a_few_times() {
    let mut lone = Lone::new();
    let [x, y] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.outputs();
    lone.routes(&[&["y", "origin"], &["x", "origin"]]);
    let mut attempts = 0;
    for _ in 0..20 {
        for (_, id, ..) in lone.subscribed() {
            attempts += 1;
            end(&mut lone, y, id, EndReason::Loop);
        }
        lone.after(Duration::from_secs(1));
    }
    let stats = lone.core.stats();
    assert_eq!((attempts, stats.moves_failed, stats.moves), (5, 5, 0));
    assert_eq!(lone.core.tracks()[0].chain, nodes(&["origin", "x", "me"]));
}

/// The upstream says that it is finished, and how many streams there were.
fn finished(streams: u64) -> (Lone, PeerKey) {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    lone.frame(up, 0);
    let message = String::new();
    let end = End {
        id: 0,
        reason: EndReason::Finished,
        streams,
        message,
    };
    lone.hear(up, Message::End(end));
    (lone, up)
}

fn is_over(lone: &mut Lone) -> bool {
    let events = lone.events();
    events.iter().any(
        |event| matches!(event, LocalEvent::End { reason, .. } if *reason == EndReason::Finished),
    )
}

#[test]
fn a_finished_track_ends_when_its_last_groups_are_in_however_late() {
    let (mut lone, up) = finished(2);
    lone.after(Duration::from_secs(2));
    lone.frame(up, 0);
    lone.finish(up, 0);
    assert!(!is_over(&mut lone), "another stream is on its way");
    lone.after(Duration::from_secs(2));
    lone.open(up, 1, 0, 1, 0);
    lone.frame(up, 1);
    assert!(!is_over(&mut lone));
    lone.finish(up, 1);
    assert!(is_over(&mut lone));
    assert_eq!(lone.core.stats().tracks, 0);
}

#[test]
fn a_finished_track_does_not_wait_for_ever_for_a_stream_that_was_reset_unheard() {
    let (mut lone, up) = finished(2);
    lone.finish(up, 0);
    lone.after(Duration::from_millis(4_999));
    assert!(!is_over(&mut lone));
    lone.after(Duration::from_millis(1));
    assert!(is_over(&mut lone));
}

#[test]
fn a_stream_that_brings_nothing_new_counts_among_those_of_a_finished_track() {
    let (mut lone, up) = finished(2);
    lone.finish(up, 0);
    // Of a group that is complete.
    lone.open(up, 1, 0, 0, 0);
    assert!(is_over(&mut lone));
}

#[test]
fn a_track_nobody_wants_lingers_then_is_left_then_forgotten() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    lone.frame(up, 0);
    lone.outputs();
    lone.input(Input::Unsubscribe { local: LocalKey(1) });
    lone.after(Duration::from_millis(1_999));
    assert_eq!(lone.said(), []);
    lone.after(Duration::from_millis(1));
    assert!(matches!(lone.said()[..], [(1, Message::Unsubscribe(_))]));
    // Held for whoever resumes.
    assert!(lone.core.stats().cache_bytes > 0);
    lone.after(Duration::from_secs(10));
    let stats = lone.core.stats();
    assert_eq!((stats.tracks, stats.cache_bytes), (0, 0));
    assert_eq!(lone.core.poll_timeout(), None);
}

#[test]
fn what_was_left_of_a_track_is_not_its_latest() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    lone.frame(up, 0);
    lone.input(Input::Unsubscribe { local: LocalKey(1) });
    lone.after(Duration::from_secs(5));
    lone.outputs();
    lone.local(2, "up");
    assert_eq!(lone.subscribed(), [(1, 1, vec![], Start::Latest)]);
    lone.ok(up, 1, &["up"]);
    let events = lone.events();
    assert!(matches!(events[..], [LocalEvent::Path(_)]), "{events:?}");
}

#[test]
fn a_move_to_a_neighbour_that_by_now_comes_from_here_is_given_up() {
    let mut lone = Lone::new();
    let [x, y] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.open(x, 0, 0, 0, 0);
    lone.frame(x, 0);
    lone.routes(&[&["y", "origin"], &["x", "origin"]]);
    // Both move to each other at once; each still says its old chain.
    lone.asked(y, 0, &["x", "origin"], &["y"]);
    lone.ok(y, 0, &["origin", "z", "y"]);
    lone.outputs();
    lone.open(y, 0, 0, 0, 1);
    lone.frame(y, 0);
    let said = lone.said();
    assert!(
        matches!(said[..], [(2, Message::Unsubscribe(_))]),
        "{said:?}"
    );
    assert_eq!(lone.core.tracks()[0].chain, nodes(&["origin", "x", "me"]));
}

#[test]
fn a_neighbour_that_says_goodbye_is_left() {
    let mut lone = Lone::new();
    let [x, y] = [lone.peer(1, "x"), lone.peer(2, "y")];
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.outputs();
    lone.hear(x, Message::GoAway { deadline_ms: 5_000 });
    assert_eq!(lone.subscribed().len(), 1);
    lone.ok(y, 0, &["origin", "y"]);
    // The track is silent: it moves all the same.
    lone.after(Duration::from_millis(500));
    assert_eq!(lone.core.tracks()[0].chain[1], node("y"));
}

#[test]
fn a_full_link_keeps_its_tracks_and_takes_no_new_ones_while_another_way_is_there() {
    let ways: &[&[&str]] = &[&["x", "origin"], &["y", "origin"]];
    let full = &[("origin", "x")];
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let x = lone.peer(2, "x");
    lone.routes(ways);
    lone.asked(a, 0, &["x", "origin"], &["a"]);
    lone.ok(x, 0, &["origin", "x"]);
    let y = lone.peer(3, "y");
    lone.outputs();
    // What comes over it stays.
    lone.routes_with(ways, full);
    lone.after(Duration::from_secs(60));
    assert_eq!(lone.subscribed(), []);
    // What is new takes the other way, though it is the longer one; and stays there.
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let x = lone.peer(2, "x");
    lone.peer(3, "y");
    lone.routes_with(ways, full);
    let origin = || vec!["origin".to_owned()];
    lone.asked(a, 0, &["origin"], &["a"]);
    assert_eq!(lone.subscribed(), [(3, 0, origin(), Start::Latest)]);
    lone.ok(y, 0, &["origin", "y"]);
    lone.outputs();
    lone.routes_with(ways, full);
    lone.after(Duration::from_secs(60));
    assert_eq!(lone.subscribed(), []);
    // Once it is not full any more, it is the better way for it too.
    lone.routes(ways);
    assert_eq!(lone.subscribed(), [(2, 0, origin(), Start::Latest)]);
    // Where nothing else reaches, it takes what is new as well.
    lone.routes_with(ways, full);
    lone.input(Input::PeerDown { peer: y });
    lone.input(Input::PeerDown { peer: x });
    lone.peer(4, "x");
    lone.outputs();
    lone.asked(a, 1, &["origin"], &["a"]);
    assert_eq!(lone.subscribed(), [(4, 0, origin(), Start::Latest)]);
}

#[test]
fn nothing_moves_before_the_upstream_has_begun_to_serve() {
    let mut lone = Lone::new();
    let x = lone.peer(1, "x");
    lone.peer(2, "y");
    lone.routes(&[&["x", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "x"]);
    lone.outputs();
    // What y would be asked for, the newest group there is then, may not be the one x begins with.
    lone.routes(&[&["y", "origin"], &["x", "origin"]]);
    assert_eq!(lone.subscribed(), []);
    lone.open(x, 0, 0, 3, 0);
    lone.frame(x, 0);
    lone.after(Duration::from_millis(500));
    let from = Start::At(Position { group: 3, frame: 1 });
    assert_eq!(lone.subscribed(), [(2, 0, vec!["origin".into()], from)]);
}

#[test]
fn a_track_that_is_only_cached_goes_the_way_that_is_asked_for() {
    let mut lone = Lone::new();
    let (a, x) = (lone.peer(1, "a"), lone.peer(2, "x"));
    lone.peer(3, "y");
    lone.routes(&[&["x", "origin"]]);
    lone.asked(a, 0, &["x", "origin"], &["a"]);
    lone.ok(x, 0, &["origin", "x"]);
    lone.open(x, 0, 0, 3, 0);
    lone.frame(x, 0);
    lone.hear(a, Message::Unsubscribe(Unsubscribe { id: 0 }));
    lone.after(Duration::from_secs(3));
    lone.outputs();
    lone.asked(a, 1, &["y", "origin"], &["a"]);
    assert_eq!(lone.subscribed()[0].0, 3, "whoever asks knows why");
}
