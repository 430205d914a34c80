//! Single faults, told exactly.
//!
//! The diamond: `edge-0` publishes and is linked to `relay-0` and `relay-1`; `edge-1` views and is
//! linked to both too; so is `edge-2`.

use std::time::Duration;

use longspan_lab::wan::{Profile, Rate};
use longspan_proto::{ids::NodeId, wire::Role};
use longspan_relay::forward::Config;
use longspan_sim::{FRAME_EVERY, Layout, Setup, Tables, World};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const SECOND: Duration = ms(1_000);
/// One way of each link of the diamond to the better relay.
const HOP_US: u64 = 20_000;

fn config(node: NodeId, role: Role) -> Config {
    Config::new(node, role)
}

struct Diamond {
    world: World,
    origin: usize,
    edges: [usize; 2],
    /// `edge-1`'s links to `relay-0` (the better) and `relay-1`.
    links: [usize; 2],
}

fn diamond(config: fn(NodeId, Role) -> Config) -> Diamond {
    sized_diamond(config, 50_000_000, 1_000)
}

fn sized_diamond(
    config: fn(NodeId, Role) -> Config,
    bits_per_s: u64,
    frame_size: usize,
) -> Diamond {
    let mut layout = Layout::plain(2, 3);
    let profile = Profile {
        rate: Some(Rate {
            bits_per_s,
            queue: SECOND,
        }),
        ..Profile::default()
    };
    let mut link = |a, b, us: u64| {
        let delay = Duration::from_micros(us);
        layout.link(a, b, [delay, delay], profile.clone())
    };
    let [origin, one, two] = [2, 3, 4];
    for relay in 0..2 {
        let delay = HOP_US + 1_000 * relay as u64;
        link(relay, origin, delay);
    }
    let links = [0, 1].map(|relay| {
        let delay = HOP_US + 1_000 * relay as u64;
        link(relay, one, delay)
    });
    for relay in 0..2 {
        // This one prefers the other relay.
        let delay = HOP_US + 1_000 * (1 - relay as u64) * 5;
        link(relay, two, delay);
    }
    link(0, 1, HOP_US);
    let setup = Setup {
        config,
        frame_size,
        ..Setup::new(1, Tables::ByHand)
    };
    let mut world = World::new(layout, setup);
    world.run(SECOND);
    Diamond {
        world,
        origin,
        edges: [one, two],
        links,
    }
}

/// A viewer at each of the edges, over different relays.
fn watched() -> (Diamond, usize, [usize; 2]) {
    let mut d = diamond(config);
    let slot = d.world.slot(d.origin, false);
    d.world.publish(slot);
    let viewers = d.edges.map(|edge| d.world.view(edge, slot, 0));
    d.world.run(5 * SECOND + ms(130));
    let path = |v: usize| d.world.viewers[v].seen.path[1].to_string();
    assert_eq!(viewers.map(path), ["relay-0", "relay-1"]);
    (d, slot, viewers)
}

#[test]
fn a_cut_link_costs_no_frame() {
    for link in [0, 1] {
        let (mut d, _, [viewer, other]) = watched();
        // First its own link, then the link over which its relay gets the track.
        d.world.cut(if link == 0 { d.links[0] } else { 0 }, None);
        d.world.run(5 * SECOND);
        let seen = &d.world.viewers[viewer].seen;
        assert_eq!(d.world.missing(viewer), 0, "{seen:?}");
        assert_eq!(
            (seen.dropped.len(), d.world.viewers[viewer].returns),
            (0, 0)
        );
        assert_eq!(
            seen.path[seen.path.len() - 2].as_str(),
            ["relay-1", "relay-0"][link]
        );
        // The silence until the ends find out (at most 550 ms), two hops there and two back.
        assert!(
            seen.longest_gap < ms(550) + FRAME_EVERY + ms(100),
            "{:?}",
            seen.longest_gap
        );
        assert_eq!(d.world.missing(other), 0);
    }
}

#[test]
fn a_suspected_link_is_left_before_it_fails() {
    let (mut d, _, [viewer, _]) = watched();
    d.world.suspect(d.links[0], 1, true);
    // As long as the old one is ahead the other waits, but not longer than half a second.
    d.world.run(ms(800));
    let seen = &d.world.viewers[viewer].seen;
    assert_eq!(seen.path[1].as_str(), "relay-1");
    d.world.cut(d.links[0], None);
    d.world.run(3 * SECOND);
    let seen = &d.world.viewers[viewer].seen;
    assert_eq!(
        (d.world.missing(viewer), seen.dropped.len()),
        (0, 0),
        "{seen:?}"
    );
    assert!(
        seen.longest_gap <= FRAME_EVERY + ms(50),
        "{:?}",
        seen.longest_gap
    );
    let stats = d.world.stats(d.edges[0]);
    assert_eq!((stats.moves_done, stats.upstream_lost), (1, 0));
}

#[test]
fn better_tables_move_tracks_make_before_break_and_a_few_at_once() {
    fn config(node: NodeId, role: Role) -> Config {
        let mut config = Config::new(node, role);
        config.limits.moves = 2;
        config
    }
    let mut d = diamond(config);
    let slots: Vec<_> = (0..20).map(|_| d.world.slot(d.origin, false)).collect();
    let viewers: Vec<_> = slots
        .into_iter()
        .map(|slot| {
            d.world.publish(slot);
            d.world.view(d.edges[0], slot, 0)
        })
        .collect();
    d.world.run(3 * SECOND);
    // The other relay is better by the new tables.
    let worse = d.links[0];
    d.world
        .tables(&|_, link| if link == worse { 900 } else { 100 });
    let mut most = 0;
    // Two at once, and each has half a second to be as far as the old one.
    for _ in 0..600 {
        d.world.run(ms(10));
        most = most.max(d.world.stats(d.edges[0]).moves);
    }
    assert_eq!(most, 2);
    assert_eq!(d.world.stats(d.edges[0]).moves_done, 20);
    for viewer in viewers {
        let seen = &d.world.viewers[viewer].seen;
        assert_eq!(seen.path[1].as_str(), "relay-1");
        assert_eq!((d.world.missing(viewer), seen.dropped.len()), (0, 0));
        assert!(
            seen.longest_gap <= FRAME_EVERY + ms(50),
            "{:?}",
            seen.longest_gap
        );
    }
}

#[test]
fn a_full_link_gives_a_few_tracks_away_and_loses_no_frame() {
    let mut d = diamond(config);
    let slots: Vec<_> = (0..40).map(|_| d.world.slot(d.origin, false)).collect();
    let viewers: Vec<_> = slots
        .into_iter()
        .map(|slot| {
            d.world.publish(slot);
            d.world.view(d.edges[0], slot, 0)
        })
        .collect();
    d.world.run(3 * SECOND);
    let over_the_other = |d: &Diamond| {
        let path = |v: &&usize| d.world.viewers[**v].seen.path[1].as_str() == "relay-1";
        viewers.iter().filter(path).count()
    };
    assert_eq!(over_the_other(&d), 0);
    let relay = 0;
    d.world.tables_with_full(&[(relay, d.edges[0])]);
    let mut before = 0;
    for _ in 0..10 {
        d.world.run(SECOND);
        let now = over_the_other(&d);
        assert!(now - before <= 2, "{before} then {now}");
        before = now;
    }
    let left = over_the_other(&d);
    assert!((14..=20).contains(&left), "{left}");
    d.world.tables_with_full(&[]);
    d.world.run(5 * SECOND);
    assert!(over_the_other(&d) - left <= 2, "those under way at most");
    for viewer in &viewers {
        let seen = &d.world.viewers[*viewer].seen;
        assert_eq!((d.world.missing(*viewer), seen.dropped.len()), (0, 0));
        let gap = seen.longest_gap;
        assert!(gap <= FRAME_EVERY + ms(50), "{gap:?}");
    }
}

#[test]
fn many_viewers_are_one_subscription_upstream() {
    let mut d = diamond(config);
    let slot = d.world.slot(d.origin, false);
    d.world.publish(slot);
    let viewers: Vec<_> = (0..30).map(|_| d.world.view(d.edges[0], slot, 0)).collect();
    d.world.run(4 * SECOND);
    let subscriptions = |node| d.world.stats(node).subscriptions;
    assert_eq!(
        (subscriptions(d.origin), subscriptions(0), subscriptions(1)),
        (1, 1, 0)
    );
    for viewer in viewers {
        assert_eq!(d.world.missing(viewer), 0);
        assert!(d.world.viewers[viewer].seen.frames >= 15);
    }
}

#[test]
fn a_newcomer_starts_at_once_from_the_nearest_cache() {
    let mut d = diamond(config);
    let slot = d.world.slot(d.origin, false);
    d.world.publish(slot);
    d.world.view(d.edges[0], slot, 0);
    d.world.run(3 * SECOND + ms(500));
    let before = d.world.stats(d.edges[0]).frames_received;
    let late = d.world.view(d.edges[0], slot, 0);
    let seen = &d.world.viewers[late].seen;
    // Without a word to anyone, from the start of the newest group.
    assert!((1..=5).contains(&seen.frames), "{seen:?}");
    assert_eq!(d.world.stats(d.edges[0]).frames_received, before);
}

#[test]
fn tables_that_point_at_each_other_starve_nobody() {
    let (mut d, _, viewers) = watched();
    // relay-0 believes its own link to the origin useless, and relay-1 does of its own.
    d.world
        .tables(&|node, link| if node == link && node < 2 { 2_000 } else { 100 });
    d.world.run(20 * SECOND);
    for viewer in viewers {
        let seen = &d.world.viewers[viewer].seen;
        assert_eq!(
            (d.world.missing(viewer), d.world.viewers[viewer].returns),
            (0, 0)
        );
        assert!(seen.longest_gap < ms(1_500), "{:?}", seen.longest_gap);
    }
    d.world.tables(&|_, _| 100);
    d.world.run(5 * SECOND);
    for viewer in viewers {
        assert_eq!(d.world.viewers[viewer].seen.path.len(), 3);
    }
}

#[test]
fn a_newcomer_gets_a_catalog_from_a_relay_that_was_resumed_after_it() {
    let mut d = diamond(config);
    let slot = d.world.slot(d.origin, true);
    d.world.publish(slot);
    d.world.view(d.edges[0], slot, 0);
    d.world.run(2 * SECOND);
    // relay-1 is asked for what comes after the catalog, for a viewer that has it.
    d.world.cut(d.links[0], None);
    d.world.run(2 * SECOND);
    let late = d.world.view(d.edges[1], slot, 0);
    // The connection that is down is given up after 20 s; until then its end may come back.
    d.world.run(30 * SECOND);
    assert_eq!(d.world.viewers[late].seen.frames, 1);
    let relay = d.world.stats(1);
    assert_eq!(
        (relay.subscriptions, d.world.stats(d.origin).subscriptions),
        (2, 1)
    );
}

#[test]
fn a_quiet_group_goes_on_after_a_resume() {
    // A log's group may be silent for minutes; losing the upstream meanwhile must not end it.
    let mut d = diamond(config);
    let slot = d.world.slot(d.origin, true);
    d.world.publish(slot);
    let viewer = d.world.view(d.edges[0], slot, 0);
    d.world.run(2 * SECOND);
    d.world.cut(d.links[0], None);
    d.world.run(30 * SECOND);
    d.world.say_more(slot);
    d.world.run(SECOND);
    let seen = &d.world.viewers[viewer].seen;
    assert_eq!((seen.frames, seen.dropped.len()), (2, 0), "{seen:?}");
}

#[test]
fn a_resume_at_a_relay_that_began_later_is_filled_up_from_its_upstream() {
    let mut d = diamond(config);
    let slot = d.world.slot(d.origin, true);
    d.world.publish(slot);
    // Both over relay-0 at first.
    let [first, second] = d.edges.map(|edge| {
        let links = d.world.layout.links.iter();
        let to_other = links.clone().position(|l| (l.a, l.b) == (1, edge));
        d.world
            .tables(&|_, link| if Some(link) == to_other { 2_000 } else { 100 });
        d.world.view(edge, slot, 0)
    });
    d.world.run(2 * SECOND);
    d.world.say_more(slot);
    d.world.run(SECOND);
    // The first is cut off and misses two frames; the second has them and goes on over relay-1.
    d.world.cut(d.links[0], None);
    d.world.cut(d.links[1], None);
    for _ in 0..2 {
        d.world.say_more(slot);
    }
    d.world.run(SECOND);
    let to_second = d
        .world
        .layout
        .links
        .iter()
        .position(|l| (l.a, l.b) == (0, d.edges[1]));
    d.world.cut(to_second.expect("a link"), None);
    d.world.run(2 * SECOND);
    let path = |d: &Diamond, v: usize| d.world.viewers[v].seen.path[1].to_string();
    assert_eq!(path(&d, second), "relay-1");
    d.world.heal(d.links[1]);
    d.world.run(3 * SECOND);
    d.world.say_more(slot);
    d.world.run(SECOND);
    assert_eq!(path(&d, first), "relay-1");
    for viewer in [first, second] {
        let seen = &d.world.viewers[viewer].seen;
        assert_eq!((seen.frames, seen.dropped.len()), (5, 0), "{seen:?}");
    }
    // And the second subscription that fetched it is over.
    d.world.run(30 * SECOND);
    assert_eq!(d.world.stats(d.origin).subscriptions, 1);
}

#[test]
fn a_slow_link_costs_old_video_and_no_sound() {
    let mut d = sized_diamond(config, 340_000, 4_000);
    // Slot 0 is sound; the others are video, together more than the link can carry.
    let slots = [0; 3].map(|_| d.world.slot(d.origin, false));
    let viewers = slots.map(|slot| {
        d.world.publish(slot);
        d.world.view(d.edges[0], slot, 1_000)
    });
    d.world.run(20 * SECOND);
    let seen = |v: usize| &d.world.viewers[viewers[v]].seen;
    assert_eq!((d.world.missing(viewers[0]), seen(0).dropped.len()), (0, 0));
    assert!(seen(0).longest_gap < ms(700), "{:?}", seen(0).longest_gap);
    let dropped = seen(1).dropped.len() + seen(2).dropped.len();
    assert!(dropped > 5, "{dropped}");
    // What of the video is seen is not old: it goes on to the end.
    for viewer in [1, 2] {
        let last = seen(viewer)
            .last_frame
            .map(|at| d.world.now.saturating_since(at));
        assert!(last.is_some_and(|last| last < 2 * SECOND), "{last:?}");
    }
}

#[test]
fn a_track_nobody_wants_is_left_and_forgotten() {
    let (mut d, _, viewers) = watched();
    for viewer in viewers {
        d.world.leave(viewer);
    }
    d.world.run(ms(1_900));
    assert_eq!(d.world.stats(d.edges[0]).tracks, 1);
    let received = d.world.stats(0).frames_received;
    assert!(received > 0);
    d.world.run(ms(2_500));
    let left = d.world.stats(0).frames_received;
    d.world.run(3 * SECOND);
    assert_eq!(d.world.stats(0).frames_received, left);
    d.world.run(12 * SECOND);
    for node in [0, 1, d.edges[0], d.edges[1]] {
        let stats = d.world.stats(node);
        assert_eq!(
            (stats.tracks, stats.cache_bytes, stats.subscriptions),
            (0, 0, 0)
        );
    }
}
