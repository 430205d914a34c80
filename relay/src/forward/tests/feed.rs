//! The caches: bounded, and told when something is lost.

use std::time::Duration;

use longspan_proto::{
    ids::Position,
    wire::{GroupDropped, Message, Priority, Start},
};

use super::{Input, LocalEvent, LocalKey, Lone, PeerKey, StreamKey, fed};

fn dropped(events: Vec<LocalEvent>) -> Vec<(u64, u64)> {
    let dropped = |event| match event {
        LocalEvent::GroupDropped { group, from_frame } => Some((group, from_frame)),
        _ => None,
    };
    events.into_iter().filter_map(dropped).collect()
}

#[test]
fn the_oldest_groups_go_first_and_a_slow_receiver_is_told() {
    let mut lone = Lone::with(|config| config.cache.track_bytes = 10_000);
    let a = lone.peer(1, "a");
    lone.publish("video");
    lone.asked(a, 5, &[], &["a"]);
    lone.publish_group("video", 0);
    lone.publish_frame("video", Priority::VideoKey, 1_000);
    assert_eq!(lone.sent(a), ["open 0 as 0 from 0", "frame 0"]);
    lone.outputs();
    for group in 1..12 {
        lone.publish_group("video", group);
        lone.publish_frame("video", Priority::VideoKey, 1_000);
        assert!(lone.core.stats().cache_bytes <= 10_000);
    }
    let said = lone.said();
    assert!(
        matches!(&said[0], (1, Message::GroupDropped(d)) if (d.id, d.group, d.from_frame) == (5, 0, 1)),
        "{said:?}"
    );
    let sent = lone.sent(a);
    assert_eq!(sent[0], "reset 0");
    // 10,000 bytes hold six groups of a frame and its overhead.
    assert_eq!(sent.iter().filter(|s| s.starts_with("frame")).count(), 6);
    assert_eq!(lone.core.stats().groups_evicted, 6);
}

#[test]
fn one_group_that_is_too_large_loses_its_rest() {
    let mut lone = Lone::with(|config| config.cache.track_bytes = 5_000);
    lone.publish("video");
    lone.local(1, "me");
    lone.publish_group("video", 0);
    for _ in 0..10 {
        lone.publish_frame("video", Priority::VideoDelta, 1_000);
        assert!(lone.core.stats().cache_bytes <= 5_000);
    }
    assert_eq!(dropped(lone.events()), [(0, 3)]);
    lone.publish_group("video", 1);
    lone.publish_frame("video", Priority::VideoKey, 1_000);
    let events = lone.events();
    assert!(
        matches!(events[..], [LocalEvent::Group(_), LocalEvent::Frame { .. }]),
        "{events:?}"
    );
}

#[test]
fn the_node_s_bytes_are_bounded_over_all_tracks() {
    let mut lone = Lone::with(|config| config.cache.node_bytes = 20_000);
    for n in 0..10 {
        let name = format!("t{n}");
        lone.publish(&name);
        for group in 0..5 {
            lone.publish_group(&name, group);
            for _ in 0..3 {
                lone.publish_frame(&name, Priority::VideoDelta, 500);
                assert!(lone.core.stats().cache_bytes <= 20_000);
            }
        }
    }
    assert!(lone.core.stats().frames_cache_full > 0);
    let groups = lone.core.tracks().iter().map(|t| t.groups).max();
    // Nothing but newest groups is left.
    assert_eq!(groups, Some(1));
}

#[test]
fn old_groups_age_but_the_newest_never() {
    let mut lone = Lone::new();
    lone.publish("video");
    for group in 0..3 {
        lone.publish_group("video", group);
        lone.publish_frame("video", Priority::State, 10);
        lone.after(Duration::from_secs(1));
    }
    let groups = |lone: &Lone| lone.core.stats().cache_groups;
    lone.after(Duration::from_millis(7_999));
    assert_eq!(groups(&lone), 3);
    lone.after(Duration::from_millis(1));
    assert_eq!(groups(&lone), 2);
    lone.after(Duration::from_secs(3_600));
    assert_eq!(groups(&lone), 1);
    assert_eq!(lone.core.poll_timeout(), None);
    lone.local(1, "me");
    assert!(
        lone.events()
            .iter()
            .any(|e| matches!(e, LocalEvent::Frame { group: 2, .. }))
    );
}

#[test]
fn a_newcomer_s_past_is_flagged_as_replay() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.publish("video");
    for group in 0..2 {
        lone.publish_group("video", group);
        lone.publish_frame("video", Priority::VideoKey, 10);
        lone.publish_frame("video", Priority::VideoDelta, 10);
    }
    lone.asked(a, 0, &[], &["a"]);
    lone.publish_frame("video", Priority::VideoDelta, 10);
    assert_eq!(
        lone.sent(a),
        [
            "open 1 as 0 from 0 replay",
            "frame 0 replay",
            "frame 0 replay",
            "frame 0"
        ]
    );
}

#[test]
fn a_dropped_group_is_passed_on_with_or_without_its_stream() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    lone.frame(up, 0);
    lone.outputs();
    let mut drop = |group, from_frame| {
        let id = 0;
        lone.hear(
            up,
            Message::GroupDropped(GroupDropped {
                id,
                group,
                from_frame,
            }),
        );
        dropped(lone.events())
    };
    // Frames before the drop are still on their way.
    assert_eq!(drop(0, 2), []);
    // A group whose header was lost with its stream.
    assert_eq!(drop(1, 0), [(1, 0)]);
    lone.frame(up, 0);
    assert_eq!(dropped(lone.events()), [(0, 2)]);
}

#[test]
fn a_reset_without_a_word_is_given_up_after_a_second() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    lone.frame(up, 0);
    let stream = StreamKey(0);
    lone.input(Input::GroupReset { peer: up, stream });
    lone.after(Duration::from_millis(999));
    assert_eq!(dropped(lone.events()), []);
    lone.after(Duration::from_millis(1));
    assert_eq!(dropped(lone.events()), [(0, 1)]);
}

#[test]
fn a_track_published_here_is_served_here() {
    let mut lone = Lone::new();
    lone.local(1, "me");
    let events = lone.events();
    assert!(matches!(events[..], [LocalEvent::End { .. }]), "{events:?}");
    lone.publish("video");
    lone.local(2, "me");
    lone.publish_group("video", 7);
    lone.publish_frame("video", Priority::VideoKey, 10);
    lone.publish_group("video", 8);
    lone.input(Input::Unpublish {
        track: super::track("video"),
    });
    let kinds: Vec<String> = lone.events().iter().map(|e| format!("{e:?}")).collect();
    let kinds: Vec<&str> = kinds
        .iter()
        .map(|e| e.split([' ', '(']).next().unwrap_or(""))
        .collect();
    assert_eq!(
        kinds,
        [
            "Path", "Group", "Frame", "GroupEnd", "Group", "GroupEnd", "End"
        ]
    );
    assert_eq!(lone.core.stats().tracks, 0);
    lone.input(Input::Unsubscribe { local: LocalKey(2) });
}

/// Group 3 is open with one frame when its upstream is lost, and resumed at another connection.
fn resumed() -> (Lone, PeerKey) {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 3, 0);
    lone.frame(up, 0);
    lone.input(Input::PeerDown { peer: up });
    let again = lone.peer(2, "up");
    lone.ok(again, 0, &["up"]);
    lone.outputs();
    (lone, again)
}

#[test]
fn an_upstream_that_has_not_begun_to_serve_is_waited_for() {
    let (mut lone, up) = resumed();
    // What it owes stands behind what is more urgent.
    lone.after(Duration::from_secs(8));
    assert_eq!(dropped(lone.events()), []);
    lone.open(up, 0, 0, 3, 1);
    lone.frame(up, 0);
    let events = lone.events();
    assert!(
        matches!(
            events[..],
            [LocalEvent::Frame {
                group: 3,
                index: 1,
                ..
            }]
        ),
        "{events:?}"
    );
}

#[test]
fn an_upstream_that_serves_but_leaves_a_group_out_is_not_waited_for() {
    let (mut lone, up) = resumed();
    lone.open(up, 0, 0, 4, 0);
    lone.after(Duration::from_millis(999));
    assert_eq!(dropped(lone.events()), []);
    lone.after(Duration::from_millis(1));
    assert_eq!(dropped(lone.events()), [(3, 1)]);
}

#[test]
fn a_hole_that_another_stream_is_filling_up_is_not_the_end_of_a_group() {
    let mut lone = Lone::new();
    let (up, a) = (lone.peer(1, "up"), lone.peer(2, "a"));
    let start = |frame| Start::At(Position { group: 5, frame });
    lone.asked_with(a, 0, &["up"], &["a"], start(29), 0);
    lone.ok(up, 0, &["up"]);
    // The packet in which group 5 goes on was lost; what is missing is fetched.
    lone.open(up, 1, 0, 6, 0);
    assert_eq!(lone.subscribed().last().map(|s| s.3), Some(start(0)));
    lone.ok(up, 1, &["up"]);
    lone.open(up, 2, 1, 5, 0);
    for _ in 0..27 {
        lone.frame(up, 2);
    }
    // It was only late.
    lone.open(up, 0, 0, 5, 29);
    for _ in 29..50 {
        lone.frame(up, 0);
    }
    lone.finish(up, 0);
    for _ in 27..50 {
        lone.frame(up, 2);
    }
    lone.finish(up, 2);
    let said = lone.said();
    let dropped = |m: &(u64, Message)| matches!(m.1, Message::GroupDropped(_));
    assert!(!said.iter().any(dropped), "{said:?}");
    let sent = lone.sent(a);
    assert_eq!(sent.iter().filter(|s| s.starts_with("frame")).count(), 21);
}
