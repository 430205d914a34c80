//! What goes first, what is dropped, and how often that is said.

use std::time::Duration;

use bytes::Bytes;
use longspan_proto::wire::{Message, Priority, Start, Subscribe};

use super::{Input, Lone, Output, PeerKey, Transmit, node, track};

fn subscribe(lone: &mut Lone, peer: PeerKey, id: u64, name: &str, budget_ms: u32) {
    let subscribe = Subscribe {
        id,
        track: track(name),
        path: Vec::new(),
        crossed: vec![node("a")],
        start: Start::Latest,
        rate: 0,
        budget_ms,
        ticket: Bytes::new(),
    };
    lone.hear(peer, Message::Subscribe(subscribe));
}

fn busy() -> (Lone, PeerKey) {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    for (id, name) in ["audio", "state", "video"].into_iter().enumerate() {
        lone.publish(name);
        subscribe(&mut lone, a, id as u64, name, 400);
    }
    lone.outputs();
    (lone, a)
}

/// What is sent, as track numbers and groups: the frames only.
fn order(lone: &mut Lone, peer: PeerKey) -> Vec<(u64, u64)> {
    let mut streams = std::collections::HashMap::new();
    let mut order = Vec::new();
    let now = lone.now;
    while let Some(transmit) = lone.core.poll_transmit(now, peer) {
        match transmit {
            Transmit::Open { stream, header, .. } => {
                streams.insert(stream, (header.subscription, header.group));
            }
            Transmit::Frame { stream, .. } => order.push(streams[&stream]),
            _ => {}
        }
    }
    order
}

#[test]
fn sound_before_state_before_key_before_delta() {
    let (mut lone, a) = busy();
    for name in ["video", "state", "audio"] {
        lone.publish_group(name, 0);
    }
    lone.publish_frame("video", Priority::VideoKey, 10);
    lone.publish_frame("video", Priority::VideoDelta, 10);
    lone.publish_frame("state", Priority::State, 10);
    lone.publish_frame("audio", Priority::Realtime, 10);
    lone.publish_frame("audio", Priority::Realtime, 10);
    assert_eq!(
        order(&mut lone, a),
        [(0, 0), (0, 0), (1, 0), (2, 0), (2, 0)]
    );
}

#[test]
fn newer_video_before_older_but_sound_in_order() {
    let (mut lone, a) = busy();
    for group in 0..2 {
        for (name, class) in [("video", Priority::VideoKey), ("audio", Priority::Realtime)] {
            lone.publish_group(name, group);
            lone.publish_frame(name, class, 10);
            lone.publish_frame(name, class, 10);
        }
    }
    let expected = [
        (0, 0),
        (0, 0),
        (0, 1),
        (0, 1),
        (2, 1),
        (2, 1),
        (2, 0),
        (2, 0),
    ];
    assert_eq!(order(&mut lone, a), expected);
}

#[test]
fn subscriptions_take_turns() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    for (id, name) in ["one", "two", "three"].into_iter().enumerate() {
        lone.publish(name);
        subscribe(&mut lone, a, id as u64, name, 0);
        lone.publish_group(name, 0);
        for _ in 0..2 {
            lone.publish_frame(name, Priority::VideoDelta, 10);
        }
    }
    let order: Vec<_> = order(&mut lone, a).into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn ready_is_said_once_until_drained() {
    let (mut lone, a) = busy();
    let ready = |lone: &mut Lone| {
        let outputs = lone.outputs().into_iter();
        outputs
            .filter(|o| matches!(o, Output::Ready { .. }))
            .count()
    };
    lone.publish_group("video", 0);
    for _ in 0..3 {
        lone.publish_frame("video", Priority::VideoDelta, 10);
    }
    assert_eq!(ready(&mut lone), 1);
    let now = lone.now;
    assert!(lone.core.poll_transmit(now, a).is_some());
    lone.publish_frame("video", Priority::VideoDelta, 10);
    assert_eq!(ready(&mut lone), 0);
    while lone.core.poll_transmit(now, a).is_some() {}
    lone.publish_frame("video", Priority::VideoDelta, 10);
    assert_eq!(ready(&mut lone), 1);
}

#[test]
fn video_past_its_budget_is_dropped_for_the_rest_of_its_group() {
    let (mut lone, a) = busy();
    lone.publish_group("video", 0);
    lone.publish_frame("video", Priority::VideoKey, 10);
    assert_eq!(order(&mut lone, a).len(), 1);
    lone.publish_frame("video", Priority::VideoDelta, 10);
    lone.after(Duration::from_millis(400));
    // Just in time.
    assert_eq!(lone.sent(a), ["frame 0"]);
    lone.publish_frame("video", Priority::VideoDelta, 10);
    lone.after(Duration::from_micros(400_001));
    lone.outputs();
    assert_eq!(lone.sent(a), ["reset 0"]);
    let said = lone.said();
    assert!(
        matches!(&said[..], [(1, Message::GroupDropped(d))] if (d.id, d.group, d.from_frame) == (2, 0, 2)),
        "{said:?}"
    );
    // Nothing of it later, but the next group.
    lone.publish_frame("video", Priority::VideoDelta, 10);
    assert_eq!(lone.sent(a), Vec::<String>::new());
    lone.publish_group("video", 1);
    lone.publish_frame("video", Priority::VideoKey, 10);
    assert_eq!(lone.sent(a), ["open 1 as 1 from 0", "frame 1"]);
    assert_eq!(lone.core.stats().groups_stale, 1);
}

#[test]
fn sound_and_state_and_what_has_no_budget_are_never_stale() {
    let (mut lone, a) = busy();
    lone.publish("late");
    subscribe(&mut lone, a, 9, "late", 0);
    for (name, class) in [
        ("audio", Priority::Realtime),
        ("state", Priority::State),
        ("late", Priority::VideoDelta),
    ] {
        lone.publish_group(name, 0);
        lone.publish_frame(name, class, 10);
    }
    lone.after(Duration::from_secs(60));
    assert_eq!(order(&mut lone, a).len(), 3);
}

#[test]
fn a_newcomer_s_replay_is_old_and_still_sent_until_there_is_newer() {
    let (mut lone, _) = busy();
    lone.publish_group("video", 0);
    lone.publish_frame("video", Priority::VideoKey, 10);
    lone.publish_frame("video", Priority::VideoDelta, 10);
    lone.after(Duration::from_secs(2));
    let b = lone.peer(2, "b");
    lone.asked_with(b, 0, &[], &["b"], Start::Latest, 400);
    let now = lone.now;
    assert!(lone.core.poll_transmit(now, b).is_some());
    assert!(lone.core.poll_transmit(now, b).is_some());
    lone.publish_group("video", 1);
    lone.publish_frame("video", Priority::VideoKey, 10);
    assert_eq!(lone.sent(b), ["open 1 as 1 from 0", "frame 1", "reset 0"]);
}

#[test]
fn the_age_grows_while_a_frame_is_held() {
    let (mut lone, a) = super::fed();
    let b = lone.peer(2, "b");
    lone.asked(b, 0, &["up"], &["b"]);
    lone.open(a, 0, 0, 0, 0);
    lone.frame(a, 0);
    lone.after(Duration::from_millis(30));
    let now = lone.now;
    lone.core.poll_transmit(now, b);
    let Some(Transmit::Frame { age_us, .. }) = lone.core.poll_transmit(now, b) else {
        panic!("a frame");
    };
    assert_eq!(age_us, 31_000);
}

#[test]
fn the_end_comes_after_everything_else() {
    let (mut lone, a) = busy();
    lone.publish_group("video", 0);
    lone.publish_frame("video", Priority::VideoKey, 10);
    lone.input(Input::Unpublish {
        track: track("video"),
    });
    assert_eq!(lone.ends(), []);
    assert_eq!(lone.sent(a), ["open 0 as 0 from 0", "frame 0", "finish 0"]);
    assert_eq!(lone.ends().len(), 1);
}
