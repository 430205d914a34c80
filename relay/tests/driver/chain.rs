//! Frames over several nodes.

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::{
    ids::Position,
    wire::{EndReason, Start},
};
use longspan_relay::{forward::LocalEvent, node::Subscription};

use crate::world::{World, counted, eventually, frame, id, metrics, next, soon, track};

/// Frame sizes of a group: nothing, small ones, one of many packets, the largest.
const SIZES: [usize; 8] = [90_000, 0, 1, 1_200, 5_000, 17, 1 << 20, 300];

/// Takes events until all of `groups` are complete: each group in order and bit-exact; a newer
/// one may overtake an older one.
async fn take_whole(subscription: &mut Subscription, groups: u64) {
    // For each group the number of the next frame; `None` after its end.
    let mut open: BTreeMap<u64, Option<u64>> = BTreeMap::new();
    let done = |open: &BTreeMap<u64, Option<u64>>| {
        open.len() as u64 == groups && open.values().all(Option::is_none)
    };
    while !done(&open) {
        match next(subscription).await {
            LocalEvent::Group(header) => {
                let group = header.group;
                assert_eq!(header.timestamp, group * 1_000_000);
                assert_eq!(header.origin_time, 1_700_000_000_000_000 + group);
                assert_eq!(
                    open.insert(group, Some(0)),
                    None,
                    "group {group} comes once"
                );
            }
            LocalEvent::Frame {
                group,
                index,
                frame: got,
            } => {
                assert_eq!(open[&group], Some(index));
                let expected = frame(group, index, SIZES[index as usize]);
                // Not by assert_eq: there may be a million bytes.
                assert!(got == expected, "frame {group}/{index} differs");
                open.insert(group, Some(index + 1));
            }
            LocalEvent::GroupEnd { group } => {
                assert_eq!(open.insert(group, None), Some(Some(SIZES.len() as u64)));
            }
            other => panic!("frames were expected, of {open:?}: {other:?}"),
        }
    }
}

async fn delivers(names: &[&'static str]) {
    metrics();
    let world = World::chain(names).await;
    let (first, last) = (names[0], names[names.len() - 1]);
    let publisher = world.handle(first).publish(track("video"));
    // Not the latest: of groups that are published at once any may come first, and would be that.
    let start = Start::At(Position::default());
    let mut subscription =
        world
            .handle(last)
            .subscribe(track("video"), id(first), start, Duration::ZERO);
    let path: Vec<_> = names.iter().map(|name| id(name)).collect();
    match soon("the confirmation", subscription.next()).await {
        Some(LocalEvent::Path(confirmed)) => assert_eq!(confirmed, path),
        other => panic!("the path was expected: {other:?}"),
    }
    assert_eq!(subscription.path(), path);
    let groups = 5;
    for group in 0..groups {
        publisher.group(group, group * 1_000_000, 1_700_000_000_000_000 + group);
        for (index, len) in SIZES.iter().enumerate() {
            publisher.frame(frame(group, index as u64, *len));
        }
    }
    drop(publisher);
    take_whole(&mut subscription, groups).await;
    match next(&mut subscription).await {
        LocalEvent::End { reason, .. } => assert_eq!(reason, EndReason::Finished),
        other => panic!("the end was expected: {other:?}"),
    }
    assert!(soon("the end", subscription.next()).await.is_none());
    assert!(counted("longspan_frames_forwarded_total") >= (groups * SIZES.len() as u64) as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_deliver_every_byte_in_order() {
    delivers(&["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_deliver_every_byte_in_order() {
    delivers(&["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_edge_to_edge_over_two_relays() {
    delivers(&["edge-1", "a", "b", "edge-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_that_nobody_has_ends_with_the_reason() {
    let world = World::chain_with(&["a", "b"], |mut config| {
        config.limits.search = Duration::from_millis(100);
        config
    })
    .await;
    let mut subscription =
        world
            .handle("b")
            .subscribe(track("none"), id("a"), Start::Latest, Duration::ZERO);
    match next(&mut subscription).await {
        LocalEvent::End { reason, .. } => assert_eq!(reason, EndReason::NotFound),
        other => panic!("the end was expected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_loses_old_groups_and_costs_nobody_else() {
    let world = World::chain(&["a", "b", "c"]).await;
    let publisher = world.handle("a").publish(track("video"));
    let subscribe = |at| -> Subscription {
        world
            .handle(at)
            .subscribe(track("video"), id("a"), Start::Latest, Duration::ZERO)
    };
    let (mut slow, mut quick) = (subscribe("c"), subscribe("c"));
    eventually("both are confirmed", || {
        world.handle("b").debug()["tracks"][0]["receivers"] == 1
    })
    .await;
    // More than waits in an inbox, by far.
    let (groups, frames) = (60, 100);
    for group in 0..groups {
        publisher.group(group, group * 1_000_000, 0);
        for index in 0..frames {
            publisher.frame(frame(group, index, 100));
        }
        let mut seen = 0;
        while seen < frames {
            match next(&mut quick).await {
                LocalEvent::Frame {
                    group: g, index, ..
                } => {
                    assert_eq!((g, index), (group, seen));
                    seen += 1;
                }
                LocalEvent::GroupDropped { .. } => panic!("the quick one lost something"),
                _ => {}
            }
        }
    }
    // The slow one: a hole that is announced, then the newest groups whole.
    let (mut dropped, mut newest, mut whole) = (0, 0, 0);
    while newest < groups - 1 || whole < frames {
        match next(&mut slow).await {
            LocalEvent::GroupDropped { .. } => dropped += 1,
            LocalEvent::Group(header) => (newest, whole) = (header.group, 0),
            LocalEvent::Frame { group, index, .. } => {
                assert_eq!((group, index), (newest, whole));
                whole += 1;
            }
            _ => {}
        }
    }
    assert!(dropped > 0 && dropped < groups, "{dropped} groups dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_receiver_nothing_moves() {
    let world = World::chain(&["a", "b"]).await;
    let publisher = world.handle("a").publish(track("video"));
    publisher.group(0, 0, 0);
    publisher.frame(frame(0, 0, 1_000));
    assert_eq!(world.handle("b").debug()["tracks"], serde_json::json!([]));
}
