//! Others asked beside a neighbour that does not answer.

use std::time::Duration;

use longspan_proto::wire::{End, EndReason, Message};
use longspan_topology::link::Event;

use super::{
    Input, Lone, PeerKey,
    life::{WHY, at, between, link, upstream},
    node,
};

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
pub(super) fn left(lone: &mut Lone) -> Vec<u64> {
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
        assert_eq!((told.to, told.asked.len()), (node(name), 2));
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
            streams: 0,
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
            streams: 0,
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
fn a_third_is_asked_after_the_second() {
    let (mut lone, [_, _, z]) = hedged();
    let u = lone.peer(4, "u");
    lone.routes(&[
        &["x", "origin"],
        &["y", "origin"],
        &["z", "origin"],
        &["u", "origin"],
    ]);
    lone.outputs();
    lone.after(Duration::from_millis(50));
    assert_eq!(lone.subscribed(), [(4, 0, vec!["origin".into()], at(3, 2))]);
    // No more than that.
    lone.peer(5, "v");
    lone.after(Duration::from_millis(100));
    assert_eq!(lone.subscribed(), []);
    lone.ok(u, 0, &["origin", "u"]);
    lone.open(u, 9, 0, 3, 2);
    lone.frame(u, 9);
    assert_eq!(upstream(&lone), Some("u".into()));
    let mut left = left(&mut lone);
    left.sort_unstable();
    assert_eq!(left, [1, 2, z.0]);
}

#[test]
fn where_the_best_way_leads_over_the_neighbour_in_trouble_another_is_asked_at_once() {
    let (mut lone, x, _) = between();
    lone.peer(3, "z");
    lone.routes(&[&["x", "origin"], &["y", "x", "origin"], &["z", "origin"]]);
    lone.outputs();
    link(&mut lone, x, Event::Suspect(WHY));
    let over = vec!["x".to_owned(), "origin".into()];
    assert_eq!(
        lone.subscribed(),
        [
            (2, 0, over, at(3, 2)),
            (3, 0, vec!["origin".into()], at(3, 2))
        ]
    );
}

#[test]
fn a_move_whose_upstream_falls_into_trouble_is_a_rescue_with_others_beside_it() {
    let (mut lone, x, _) = between();
    let z = lone.peer(3, "z");
    lone.routes(&[&["y", "origin"], &["x", "origin"], &["z", "origin"]]);
    assert_eq!(lone.subscribed().len(), 1);
    assert_eq!((lone.core.stats().moves, lone.core.stats().rescues), (1, 0));
    link(&mut lone, x, Event::Suspect(WHY));
    assert_eq!((lone.core.stats().moves, lone.core.stats().rescues), (0, 1));
    lone.after(Duration::from_millis(50));
    assert_eq!(lone.subscribed(), [(3, 0, vec!["origin".into()], at(3, 2))]);
    lone.ok(z, 0, &["origin", "z"]);
    lone.open(z, 9, 0, 3, 2);
    lone.frame(z, 9);
    assert_eq!(upstream(&lone), Some("z".into()));
    assert_eq!((lone.core.stats().moves, lone.core.stats().rescues), (0, 0));
}

#[test]
fn an_origin_that_is_a_neighbour_itself_is_asked_first() {
    let (mut lone, x, _) = between();
    let origin = lone.peer(3, "origin");
    lone.input(Input::Rtt {
        peer: origin,
        rtt: Duration::ZERO,
    });
    lone.outputs();
    link(&mut lone, x, Event::Suspect(WHY));
    assert_eq!(lone.subscribed(), [(3, 0, vec![], at(3, 2))]);
}
