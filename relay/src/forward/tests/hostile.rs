//! Peers that flood or lie: counted, refused, disconnected; nothing panics.

use longspan_proto::{
    ids::Position,
    wire::{GroupDropped, MAX_FRAME, Message, Priority, Start, Update},
};

use super::{Input, Lone, StreamKey, fed, frame, nodes};

#[test]
fn frames_and_ends_of_unknown_streams_are_counted() {
    let (mut lone, up) = fed();
    for _ in 0..3 {
        lone.frame(up, 99);
    }
    lone.finish(up, 99);
    let stream = StreamKey(99);
    lone.input(Input::GroupReset { peer: up, stream });
    assert_eq!(lone.core.stats().frames_unknown, 3);
    assert_eq!(lone.disconnects(), Vec::<String>::new());
}

#[test]
fn answers_to_what_was_never_asked_end_the_connection() {
    let never = 77;
    let lies = [
        Message::Ok(longspan_proto::wire::Ok {
            id: never,
            chain: nodes(&["up"]),
            first: None,
        }),
        Message::Update(Update {
            id: never,
            chain: nodes(&["up"]),
        }),
        Message::Update(Update {
            id: 0,
            chain: nodes(&["x", "x", "up"]),
        }),
        Message::Update(Update {
            id: 0,
            chain: nodes(&["up", "x"]),
        }),
        Message::Update(Update {
            id: 0,
            chain: Vec::new(),
        }),
        Message::GroupDropped(GroupDropped {
            id: 0,
            group: u64::MAX,
            from_frame: 0,
        }),
    ];
    for lie in lies {
        let (mut lone, up) = fed();
        lone.hear(up, lie.clone());
        assert_eq!(lone.disconnects().len(), 1, "{lie:?}");
    }
    let (mut lone, up) = fed();
    lone.open(up, 0, never, 0, 0);
    assert_eq!(lone.disconnects().len(), 1);
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 1 << 62, 0);
    assert_eq!(lone.disconnects().len(), 1);
}

#[test]
fn too_many_open_groups_end_the_connection() {
    let (mut lone, up) = fed();
    for group in 0..64 {
        lone.open(up, group, 0, group, 0);
    }
    assert_eq!(lone.disconnects(), Vec::<String>::new());
    lone.open(up, 64, 0, 64, 0);
    assert_eq!(lone.disconnects().len(), 1);
}

#[test]
fn a_frame_that_is_too_large_ends_the_connection() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    for (size, ends) in [(MAX_FRAME, 0), (MAX_FRAME + 1, 1)] {
        lone.input(Input::Frame {
            peer: up,
            stream: StreamKey(0),
            frame: frame(Priority::VideoDelta, size),
            age_us: u64::MAX,
        });
        assert_eq!(lone.disconnects().len(), ends);
    }
}

#[test]
fn a_group_opened_twice_or_gone_is_stopped() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 5, 0);
    lone.open(up, 1, 0, 5, 0);
    lone.frame(up, 0);
    lone.finish(up, 0);
    lone.open(up, 2, 0, 5, 0);
    let outputs = lone.outputs().into_iter();
    let stopped = outputs
        .filter(|o| matches!(o, super::Output::Stop { .. }))
        .count();
    assert_eq!(stopped, 2);
    lone.frame(up, 1);
    lone.frame(up, 2);
    let stats = lone.core.stats();
    assert_eq!((stats.frames_received, stats.frames_unknown), (1, 2));
}

#[test]
fn a_flood_of_empty_frames_is_bounded() {
    let mut lone = Lone::with(|config| config.cache.track_bytes = 100_000);
    let up = lone.peer(1, "up");
    lone.local(1, "up");
    lone.ok(up, 0, &["up"]);
    lone.open(up, 0, 0, 0, 0);
    for _ in 0..10_000 {
        lone.input(Input::Frame {
            peer: up,
            stream: StreamKey(0),
            frame: frame(Priority::Realtime, 0),
            age_us: 0,
        });
    }
    assert!(lone.core.stats().cache_bytes <= 100_000);
    assert!(lone.core.stats().frames_cache_full > 0);
}

#[test]
fn a_flood_of_groups_is_bounded() {
    let (mut lone, up) = fed();
    for group in 0..10_000 {
        lone.open(up, group, 0, group * 1_000, 0);
        lone.finish(up, group);
        lone.outputs();
    }
    assert_eq!(lone.core.stats().cache_groups, 256);
}

#[test]
fn a_subscription_of_another_s_making_ends_the_connection() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.asked(a, 0, &["up"], &["a", "b"]);
    assert_eq!(lone.disconnects().len(), 1);
    lone.publish("video");
    lone.asked(a, 1, &[], &["a"]);
    lone.asked(a, 1, &[], &["a"]);
    assert_eq!(lone.disconnects().len(), 1);
}

#[test]
fn absurd_positions_are_just_never_reached() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.publish("video");
    lone.publish_group("video", 3);
    lone.publish_frame("video", Priority::VideoKey, 10);
    let absurd = Position {
        group: 3,
        frame: u64::MAX,
    };
    lone.asked_with(a, 0, &[], &["a"], Start::At(absurd), 1);
    let absurd = Position {
        group: u64::MAX,
        frame: u64::MAX,
    };
    lone.asked_with(a, 1, &[], &["a"], Start::At(absurd), 1);
    lone.sent(a);
    lone.publish_group("video", 4);
    lone.publish_frame("video", Priority::VideoKey, 10);
    lone.sent(a);
    lone.publish_group("video", u64::MAX);
    lone.publish_frame("video", Priority::VideoKey, 10);
    lone.sent(a);
}
