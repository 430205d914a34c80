//! What peers ask: merged, kept waiting, refused with the reason.

use std::time::Duration;

use longspan_proto::{
    ids::Position,
    wire::{EndReason, Message, Priority, Role, Start, Unsubscribe},
};

use super::{Input, Lone, fed, nodes};

#[test]
fn who_would_close_a_loop_is_refused() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.peer(2, "up");
    for (id, path, crossed) in [
        (0, &["up"][..], &["me", "a"][..]),
        (1, &["up", "me"], &["a"]),
        (2, &["up", "x"], &["x", "a"]),
    ] {
        lone.asked(a, id, path, crossed);
        assert_eq!(lone.ends(), [(1, id, EndReason::Loop)]);
    }
    assert_eq!(lone.core.stats().tracks, 0);
}

#[test]
fn who_is_in_the_confirmed_chain_is_refused() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let up = lone.peer(2, "up");
    lone.local(1, "up");
    lone.ok(up, 0, &["origin", "a", "up"]);
    lone.outputs();
    lone.asked(a, 0, &["up", "origin"], &["a"]);
    assert_eq!(lone.ends(), [(1, 0, EndReason::Loop)]);
}

#[test]
fn who_waited_and_turns_out_to_be_in_the_chain_is_refused() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let b = lone.peer(2, "b");
    let up = lone.peer(3, "up");
    lone.asked(b, 0, &["up", "origin"], &["b"]);
    lone.asked(a, 0, &["up", "origin"], &["x", "a"]);
    lone.outputs();
    lone.ok(up, 0, &["origin", "x", "up"]);
    let said = lone.said();
    assert!(
        matches!(&said[0], (2, Message::Ok(ok)) if ok.chain == nodes(&["origin", "x", "up", "me"]))
    );
    assert!(matches!(&said[1], (1, Message::End(end)) if end.reason == EndReason::Loop));
    assert_eq!(said.len(), 2);
}

#[test]
fn two_that_ask_each_other_both_look_elsewhere() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.routes(&[&["a", "origin"]]);
    lone.local(1, "origin");
    lone.asked(a, 0, &["origin"], &["a"]);
    assert_eq!(lone.ends(), [(1, 0, EndReason::Loop)]);
}

#[test]
fn the_hop_limit_counts_what_is_between_the_ends() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.peer(2, "up");
    // edge, three more, a, me | up, origin: six between.
    lone.asked(a, 0, &["up", "origin"], &["edge", "x", "y", "z", "a"]);
    assert_eq!(lone.ends(), [(1, 0, EndReason::TooManyHops)]);
    lone.asked(a, 1, &["up", "origin"], &["edge", "x", "y", "a"]);
    assert_eq!(lone.ends(), []);
    // Merging into a chain that is longer than the asked path counts the chain.
    let (mut lone, up) = fed();
    let a = lone.peer(2, "a");
    lone.hear(
        up,
        Message::Update(longspan_proto::wire::Update {
            id: 0,
            chain: nodes(&["origin", "p", "q", "up"]),
        }),
    );
    lone.asked(a, 0, &["up"], &["edge", "z", "a"]);
    assert_eq!(lone.ends(), [(2, 0, EndReason::TooManyHops)]);
    lone.asked(a, 1, &["up"], &["edge", "a"]);
    assert_eq!(lone.ends(), []);
}

#[test]
fn limits_are_told_with_their_number() {
    let mut lone = Lone::with(|config| {
        config.limits.subscriptions_per_peer = 1;
        config.limits.tracks = 1;
    });
    let a = lone.peer(1, "a");
    lone.publish("video");
    lone.asked(a, 0, &[], &["a"]);
    lone.outputs();
    lone.asked(a, 1, &[], &["a"]);
    let said = lone.said();
    let (1, Message::End(end)) = &said[0] else {
        panic!("{said:?}");
    };
    assert_eq!(end.reason, EndReason::Limit);
    assert!(end.message.contains("1 subscriptions"), "{}", end.message);
    // The only track there may be is taken.
    let mut lone = Lone::with(|config| config.limits.tracks = 1);
    let a = lone.peer(1, "a");
    lone.publish("audio");
    lone.asked(a, 0, &["a2"], &["a"]);
    assert_eq!(lone.ends(), [(1, 0, EndReason::Limit)]);
}

#[test]
fn an_unknown_track_is_not_found_at_its_origin_and_unreachable_elsewhere() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.asked(a, 0, &[], &["a"]);
    lone.asked(a, 1, &["up"], &["a"]);
    assert_eq!(
        lone.ends(),
        [(1, 0, EndReason::NotFound), (1, 1, EndReason::Unreachable)]
    );
}

#[test]
fn an_edge_forwards_nothing() {
    let mut lone = Lone::with(|config| config.role = Role::Edge);
    let a = lone.peer(1, "a");
    let up = lone.peer(2, "up");
    lone.asked(a, 0, &["up"], &["a"]);
    assert_eq!(lone.ends(), [(1, 0, EndReason::Unreachable)]);
    lone.local(1, "up");
    lone.ok(up, 0, &["up"]);
    lone.outputs();
    lone.asked(a, 1, &[], &["a"]);
    assert_eq!(lone.ends(), [(1, 1, EndReason::NotFound)]);
}

#[test]
fn who_waits_too_long_is_told() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    let b = lone.peer(2, "b");
    lone.peer(3, "up");
    lone.asked(a, 0, &["up", "origin"], &["a"]);
    lone.after(Duration::from_millis(400));
    lone.asked(b, 0, &["up", "origin"], &["b"]);
    // Both wait for the one question that was asked.
    assert_eq!(lone.subscribed().len(), 1);
    lone.after(Duration::from_millis(349));
    assert_eq!(lone.ends(), []);
    lone.after(Duration::from_millis(1));
    assert_eq!(lone.ends()[0], (1, 0, EndReason::Timeout));
}

#[test]
fn old_frames_refuse_a_small_budget() {
    let (mut lone, up) = fed();
    lone.open(up, 0, 0, 0, 0);
    lone.input(Input::Frame {
        peer: up,
        stream: super::StreamKey(0),
        frame: super::frame(Priority::VideoKey, 10),
        age_us: 300_000,
    });
    let a = lone.peer(2, "a");
    lone.asked_with(a, 0, &["up"], &["a"], Start::Latest, 299);
    assert_eq!(lone.ends(), [(2, 0, EndReason::OverBudget)]);
    lone.asked_with(a, 1, &["up"], &["a"], Start::Latest, 300);
    lone.asked_with(a, 2, &["up"], &["a"], Start::Latest, 0);
    assert_eq!(lone.ends(), []);
}

#[test]
fn a_position_or_the_first_later_one_that_is_held() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.publish("video");
    for group in [4, 6] {
        lone.publish_group("video", group);
        lone.publish_frame("video", Priority::VideoKey, 10);
        lone.publish_frame("video", Priority::VideoDelta, 10);
    }
    let at = |group, frame| Position { group, frame };
    for (id, (asked, first)) in [
        (at(4, 1), Some(at(4, 1))),
        (at(2, 7), Some(at(4, 0))),
        (at(5, 1), Some(at(6, 0))),
        (at(6, 2), Some(at(6, 2))),
        (at(7, 0), None),
    ]
    .into_iter()
    .enumerate()
    {
        lone.outputs();
        lone.asked_with(a, id as u64, &[], &["a"], Start::At(asked), 0);
        let said = lone.said();
        let (1, Message::Ok(ok)) = &said[0] else {
            panic!("{said:?}");
        };
        assert_eq!(ok.first, first, "{asked:?}");
    }
}

#[test]
fn a_peer_that_comes_and_goes_grows_nothing() {
    let mut lone = Lone::new();
    let a = lone.peer(1, "a");
    lone.publish("video");
    lone.publish_group("video", 0);
    lone.publish_frame("video", Priority::VideoKey, 10);
    for id in 0..100_000 {
        lone.asked(a, id, &[], &["a"]);
        lone.hear(a, Message::Unsubscribe(Unsubscribe { id }));
        lone.outputs();
    }
    assert_eq!(lone.core.stats().subscriptions, 0);
    assert!(lone.core.queued(a) < 1_000, "{}", lone.core.queued(a));
    assert_eq!(lone.sent(a), Vec::<String>::new());
}

#[test]
fn a_link_at_its_limit_takes_no_new_subscription_and_says_so() {
    let (mut lone, _) = fed();
    let a = lone.peer(2, "a");
    let load = |lone: &mut Lone, sent_bps| {
        lone.input(Input::Load {
            peer: a,
            sent_bps,
            capacity_bps: 200_000_000,
        });
    };
    load(&mut lone, 190_000_000);
    lone.asked(a, 0, &["up"], &["a"]);
    assert_eq!(lone.ends(), []);
    load(&mut lone, 190_000_001);
    lone.asked(a, 1, &["up"], &["a"]);
    let said = lone.said();
    let [(2, Message::End(end))] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!((end.id, end.reason), (1, EndReason::OverCapacity));
    assert_eq!(
        end.message,
        "the link from me to a would carry 190.0 of 200.0 Mbit/s"
    );
    assert_eq!(lone.core.stats().subscriptions, 2, "what is there stays");
    load(&mut lone, 150_000_000);
    lone.asked(a, 2, &["up"], &["a"]);
    assert_eq!(lone.ends(), []);
}
