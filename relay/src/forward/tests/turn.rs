//! A node on a track's way that has lost it asks for it below itself.

use std::time::Duration;

use longspan_proto::wire::{EndReason, Message, Unsubscribe};
use longspan_topology::link::Event;

use super::{
    Lone, PeerKey,
    life::{WHY, at, between, link, upstream},
    nodes,
};

const QUIET: Duration = Duration::from_millis(60);

/// The track comes from x, which has lost it and asks for it here.
fn forsaken() -> (Lone, PeerKey, PeerKey) {
    let (mut lone, x, y) = between();
    lone.after(QUIET);
    lone.asked_with(x, 7, &["origin"], &["x"], at(3, 2), 0);
    (lone, x, y)
}

#[test]
fn the_one_below_goes_around_and_gives_the_track_back_up() {
    let (mut lone, x, y) = forsaken();
    assert_eq!(lone.subscribed(), [(2, 0, vec!["origin".into()], at(3, 2))]);
    lone.ok(y, 0, &["origin", "y"]);
    assert_eq!(lone.ends(), [], "it waits");
    lone.open(y, 9, 0, 3, 2);
    lone.frame(y, 9);
    assert_eq!(upstream(&lone), Some("y".into()));
    let said = lone.said();
    let left = |m: &(u64, Message)| *m == (x.0, Message::Unsubscribe(Unsubscribe { id: 0 }));
    assert!(said.iter().any(left), "{said:?}");
    let chains = said.iter().filter_map(|(peer, m)| match m {
        Message::Ok(ok) if ok.id == 7 => Some((*peer, ok.chain.clone())),
        _ => None,
    });
    assert_eq!(
        chains.collect::<Vec<_>>(),
        [(x.0, nodes(&["origin", "y", "me"]))]
    );
    assert_eq!(lone.sent(x), ["open 3 as 0 from 2", "frame 0"]);
    assert_eq!(lone.core.stats().rescues, 0);
}

#[test]
fn one_that_has_the_track_again_is_not_left() {
    let (mut lone, x, _) = forsaken();
    lone.outputs();
    lone.hear(x, Message::Unsubscribe(Unsubscribe { id: 7 }));
    assert!(matches!(lone.said()[..], [(2, Message::Unsubscribe(_))]));
    lone.after(Duration::from_secs(30));
    assert_eq!(upstream(&lone), Some("x".into()));
    let stats = lone.core.stats();
    assert_eq!((stats.rescues, stats.rescues_spared), (0, 1));
}

#[test]
fn one_that_only_wants_to_move_is_refused() {
    let (mut lone, x, _) = between();
    // Frames still come from it.
    lone.frame(x, 0);
    lone.asked_with(x, 7, &["origin"], &["x"], at(3, 2), 0);
    assert_eq!(lone.ends(), [(1, 7, EndReason::Loop)]);
    assert_eq!(lone.subscribed(), []);
}

#[test]
fn where_no_way_leads_around_it_is_refused() {
    let (mut lone, x, _) = between();
    lone.routes(&[&["x", "origin"], &["y", "x", "origin"]]);
    lone.after(QUIET);
    lone.outputs();
    lone.asked_with(x, 7, &["origin"], &["x"], at(3, 2), 0);
    assert_eq!(lone.ends(), [(1, 7, EndReason::Loop)]);
}

#[test]
fn whoever_waits_for_a_way_that_does_not_come_is_told_in_time() {
    let (mut lone, _, _) = forsaken();
    lone.outputs();
    lone.after(Duration::from_secs(2));
    assert_eq!(lone.ends(), [(1, 7, EndReason::Timeout)]);
    assert_eq!(upstream(&lone), Some("x".into()));
    assert_eq!(lone.core.stats().rescues, 0);
    // Nothing of it is left: a suspicion is answered as ever.
    lone.outputs();
    link(&mut lone, PeerKey(1), Event::Suspect(WHY));
    assert_eq!(lone.subscribed().len(), 1);
}

#[test]
fn a_node_higher_up_the_way_turns_it_as_well_and_is_not_crossed() {
    let mut lone = Lone::new();
    let (x, y, z) = (lone.peer(1, "x"), lone.peer(2, "y"), lone.peer(3, "z"));
    lone.routes(&[&["x", "origin"], &["y", "z", "origin"], &["y", "origin"]]);
    lone.local(1, "origin");
    lone.ok(x, 0, &["origin", "z", "x"]);
    lone.open(x, 0, 0, 3, 0);
    lone.frame(x, 0);
    lone.after(QUIET);
    lone.outputs();
    lone.asked_with(z, 7, &["origin"], &["z"], at(3, 1), 0);
    assert_eq!(
        lone.subscribed(),
        [(y.0, 0, vec!["origin".into()], at(3, 1))]
    );
}
