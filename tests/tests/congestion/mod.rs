//! Congestion controllers against one another over an emulated link, in virtual time.
//!
//! * `net`: two endpoints of the QUIC library on `lab`'s model of a link.
//! * `load`: lessons, or as much as goes.
//!
//! Everything random comes from a seed; `longspan bench lessons` measures the same with real
//! processes.

mod load;
mod net;

use std::time::Duration;

use longspan_lab::wan::{Jitter, Loss, Profile, Rate};
use longspan_relay::quic::transport::Controller;

use load::{Bulk, Kind, Lessons};
use net::{Counts, Net};

const ONE_WAY: Duration = Duration::from_millis(100);
/// The target: p99 at most one way and this.
const ALLOWED: Duration = Duration::from_millis(100 + 250);

/// `SIM_SEED` instead of 1: for other losses and jitter.
fn seed() -> u64 {
    let told = std::env::var("SIM_SEED").ok();
    told.and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `internet` with another bottleneck.
fn bottleneck(mbit: u64) -> Profile {
    Profile {
        rate: Some(Rate {
            bits_per_s: mbit * 1_000_000,
            queue: Duration::from_millis(100),
        }),
        ..Profile::internet()
    }
}

#[test]
fn ten_lessons_never_fall_behind_where_cubic_does() {
    let late = |controller| {
        let mut net = Net::new(controller, ONE_WAY, &Profile::internet(), seed());
        let mut lessons = Lessons::new(&mut net, 10);
        let from = net.now;
        lessons.run(&mut net, secs(15));
        let whole = lessons.finish(&mut net, secs(5));
        let share = lessons.later_than(ALLOWED, from, net.now);
        for kind in [Kind::Audio, Kind::Key, Kind::Delta] {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| lessons.quantile(kind, q));
            println!("{controller:?} {kind:?} {p50:?} {p99:?} {max:?}");
        }
        println!("{controller:?}: {:.3} late, {:?}", share, net.counts());
        (whole, share)
    };
    let (whole, share) = late(Controller::Ours);
    assert!(whole && share <= 0.01, "{share} of the frames are late");
    let (_, share) = late(Controller::Cubic);
    assert!(share > 0.2, "Cubic has become good enough: {share} late");
}

#[test]
fn what_a_link_lacks_is_found_without_filling_its_queue() {
    for mbit in [100, 20] {
        let mut net = Net::new(Controller::Ours, ONE_WAY, &bottleneck(mbit), seed());
        let mut bulk = Bulk::new();
        bulk.add(&mut net);
        bulk.run(&mut net, secs(5));
        let before = net.counts();
        let goodput = bulk.run(&mut net, secs(15))[0];
        let counts = net.counts().since(before);
        println!(
            "{mbit}: {goodput:.1}, dropped {:.4}, {:.1} ms waited",
            counts.dropped_share(),
            counts.mean_wait_ms()
        );
        let share = goodput / mbit as f64;
        assert!((0.75..=1.0).contains(&share), "{goodput} of {mbit} Mbit/s");
        assert!(counts.dropped_share() < 0.005, "{counts:?}");
        assert!(counts.mean_wait_ms() < 40.0, "{counts:?}");
    }
}

#[test]
fn two_connections_come_to_share_a_link() {
    for mbit in [100, 20] {
        let mut net = Net::new(Controller::Ours, ONE_WAY, &bottleneck(mbit), seed());
        let mut bulk = Bulk::new();
        bulk.add(&mut net);
        bulk.run(&mut net, secs(5));
        // The second finds the link taken.
        bulk.add(&mut net);
        bulk.run(&mut net, secs(15));
        let before = net.counts();
        let shares = bulk.run(&mut net, secs(20));
        let counts = net.counts().since(before);
        println!(
            "{mbit}: {shares:.1?} {:.4} {:.1} ms",
            counts.dropped_share(),
            counts.mean_wait_ms()
        );
        let (a, b) = (shares[0].min(shares[1]), shares[0].max(shares[1]));
        assert!(b / a < 2.5, "{shares:?}");
        assert!(a + b > 0.75 * mbit as f64, "{shares:?}");
        assert!(counts.dropped_share() < 0.03, "{counts:?}");
    }
}

/// So many lessons through 10 s of brownout: the counts meanwhile, the share of frames
/// later than 2 s during it, and the share that is late from 3 s after it.
fn brownout(controller: Controller, count: u64) -> (Counts, f64, f64) {
    let mut net = Net::new(controller, ONE_WAY, &Profile::internet(), seed());
    let mut lessons = Lessons::new(&mut net, count);
    lessons.run(&mut net, secs(5));
    // 80 ms more each way, 15 % loss, 20 Mbit/s: with repeats 5 lessons ask for 14.7.
    net.change(ONE_WAY, &Profile::brownout());
    let (began, before) = (net.now, net.counts());
    lessons.run(&mut net, secs(10));
    let counts = net.counts().since(before);
    let healed = net.now;
    net.change(ONE_WAY, &Profile::internet());
    lessons.run(&mut net, secs(5));
    lessons.finish(&mut net, secs(5));
    let during = lessons.later_than(secs(2), began, healed);
    let after = lessons.later_than(ALLOWED, healed + secs(3), net.now);
    println!(
        "{controller:?}, {count} lessons: {during:.3} late, {after:.3} after it; {:.3} dropped, {:.1} ms waited",
        counts.dropped_share(),
        counts.mean_wait_ms()
    );
    (counts, during, after)
}

#[test]
fn a_brownout_costs_what_it_takes_and_no_more() {
    let (counts, during, after) = brownout(Controller::Ours, 5);
    assert!(counts.dropped_share() < 0.02, "{counts:?}");
    assert!(during < 0.10, "{during} later than 2 s");
    assert!(after <= 0.01, "{after} late after it healed");
    // Of 25 Mbit/s with repeats 29.4 are asked for; what the link does not carry waits at the
    // sender, where it can be chosen.
    let (counts, ..) = brownout(Controller::Ours, 10);
    assert!(counts.dropped_share() < 0.15, "{counts:?}");
}

#[test]
fn a_longer_route_is_not_taken_for_a_queue() {
    let mut net = Net::new(Controller::Ours, ONE_WAY, &Profile::internet(), seed());
    let mut lessons = Lessons::new(&mut net, 10);
    lessons.run(&mut net, secs(5));
    net.change(ONE_WAY + Duration::from_millis(40), &Profile::internet());
    let changed = net.now;
    lessons.run(&mut net, secs(8));
    assert!(lessons.finish(&mut net, secs(5)), "frames are missing");
    let longer = ALLOWED + Duration::from_millis(40 + 80);
    let at_first = lessons.later_than(
        longer + Duration::from_millis(300),
        changed,
        changed + secs(2),
    );
    let later = lessons.later_than(longer, changed + secs(2), net.now);
    println!("{at_first} {later}");
    assert!(at_first <= 0.01, "{at_first}");
    assert!(later <= 0.01, "{later}");
}

#[test]
fn heavy_loss_that_is_not_congestion_takes_nothing_away() {
    let lossy = Profile {
        jitter: Jitter::Exponential { share_of_rtt: 0.02 },
        loss: Loss::GilbertElliott {
            mean: 0.15,
            burst: 4.0,
        },
        ..Profile::internet()
    };
    let mut net = Net::new(Controller::Ours, ONE_WAY, &lossy, seed());
    let mut lessons = Lessons::new(&mut net, 10);
    let from = net.now;
    lessons.run(&mut net, secs(10));
    assert!(lessons.finish(&mut net, secs(5)), "frames are missing");
    // Two repairs, each a round trip and a little.
    let late = lessons.later_than(ALLOWED + Duration::from_millis(450), from, net.now);
    println!("{late} {:?}", net.counts());
    assert!(late < 0.05, "{late}");
}

/// Why the library's controllers are not taken (docs/decisions/congestion.md): loss-based ones
/// take every burst of loss for a full link, and BBR fills a queue with far more than the link
/// carries. Fails when the library has become good enough.
#[test]
fn none_of_the_librarys_controllers_is_both_fast_and_careful() {
    let bulk = |controller| {
        let mut net = Net::new(controller, ONE_WAY, &bottleneck(100), seed());
        let mut bulk = Bulk::new();
        bulk.add(&mut net);
        bulk.run(&mut net, secs(3));
        let before = net.counts();
        let goodput = bulk.run(&mut net, secs(6))[0];
        let dropped = net.counts().since(before).dropped_share();
        println!("{controller:?} at 100 Mbit/s: {goodput:.1} Mbit/s, {dropped:.4} dropped");
        (goodput, dropped)
    };
    let (cubic, _) = bulk(Controller::Cubic);
    assert!(cubic < 40.0, "Cubic: {cubic} of 100 Mbit/s");
    let (_, bbr) = bulk(Controller::Bbr);
    assert!(bbr > 0.2, "BBR: {bbr} dropped");
}

#[test]
fn a_seed_repeats_a_run() {
    let run = || {
        let mut net = Net::new(Controller::Ours, ONE_WAY, &Profile::internet(), 7);
        let mut lessons = Lessons::new(&mut net, 2);
        lessons.run(&mut net, secs(2));
        (
            net.counts().packets,
            net.counts().lost,
            lessons.quantile(Kind::Delta, 1.0),
        )
    };
    assert_eq!(run(), run());
}
