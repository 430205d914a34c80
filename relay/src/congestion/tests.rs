use super::*;

const MTU: u16 = 1_452;
const RTT: Duration = Duration::from_millis(200);
/// 200 Mbit/s for 200 ms and the 50 ms of queue that are allowed.
const CEILING: u64 = 6_250_000;
/// Round trips reach back from here.
const BEGAN: Time = Time::from_micros(10_000_000);

fn config() -> Config {
    Config {
        capacity: 200_000_000,
        floor: 128 << 10,
    }
}

/// A window and the moment it is in.
struct Lone {
    window: Window,
    now: Time,
    rtt: Duration,
}

impl Lone {
    /// Its first round trip is measured.
    fn new() -> Lone {
        let mut lone = Lone {
            window: Window::new(config(), BEGAN, MTU),
            now: BEGAN,
            rtt: RTT,
        };
        lone.round(100_000, RTT);
        lone
    }

    /// A round in which `bytes` bytes are acknowledged after `rtt`, in 100 packets.
    fn round(&mut self, bytes: u64, rtt: Duration) {
        self.rounds(1, bytes, rtt);
    }

    fn rounds(&mut self, count: usize, bytes: u64, rtt: Duration) {
        self.rtt = rtt;
        for _ in 0..100 * count {
            self.now = self.now + rtt / 100;
            self.window.handle_sent(self.now);
            let sent = self.now - rtt;
            self.window
                .handle_ack(self.now, sent, bytes / 100, rtt, true);
            self.window.handle_acks_end(self.now);
        }
    }

    fn bytes(&self) -> u64 {
        self.window.bytes()
    }
}

#[test]
fn it_is_the_floor_before_the_first_round_trip_and_the_capacity_after() {
    let window = Window::new(config(), Time::ZERO, MTU);
    assert_eq!(window.bytes(), config().floor);
    let mut lone = Lone::new();
    assert_eq!(lone.bytes(), CEILING);
    // And stays there, however little is wanted.
    lone.rounds(50, 20_000, RTT);
    assert_eq!(lone.bytes(), CEILING);
}

#[test]
fn a_short_link_keeps_the_floor() {
    let mut lone = Lone::new();
    lone.rounds(300, 10_000, Duration::from_micros(100));
    assert_eq!(lone.bytes(), config().floor);
}

#[test]
fn a_standing_queue_just_above_the_target_reduces_and_one_just_below_does_not() {
    let mut below = Lone::new();
    below.rounds(10, 600_000, RTT + Duration::from_millis(49));
    assert_eq!(below.bytes(), CEILING);

    let mut above = Lone::new();
    above.rounds(2, 600_000, RTT + Duration::from_millis(52));
    let delivered = 600_000.0 * 200.0 / 252.0;
    // Half of it may stand while it is seen whether it yields.
    let expected = (delivered * 226.0 / 200.0) as u64;
    assert!(
        above.bytes().abs_diff(expected) < expected / 20,
        "{}",
        above.bytes()
    );
}

#[test]
fn one_quick_packet_shows_that_no_queue_stands() {
    let mut lone = Lone::new();
    for _ in 0..10 {
        // Of each round one packet is as quick as ever.
        let sent = lone.now - RTT;
        lone.window.handle_ack(lone.now, sent, 1_200, RTT, true);
        lone.rounds(1, 600_000, RTT + Duration::from_millis(100));
    }
    assert_eq!(lone.bytes(), CEILING);
}

#[test]
fn a_reduction_waits_for_its_effect() {
    let mut lone = Lone::new();
    lone.round(600_000, RTT + Duration::from_millis(80));
    let reduced = lone.bytes();
    assert!(reduced < CEILING);
    // What was sent before is acknowledged in the next round.
    lone.round(300_000, RTT + Duration::from_millis(80));
    assert_eq!(lone.bytes(), reduced);
}

#[test]
fn a_queue_that_yields_is_followed_by_growth_up_to_the_capacity() {
    let mut lone = Lone::new();
    lone.rounds(2, 600_000, RTT + Duration::from_millis(60));
    let tried = lone.bytes();
    // It has yielded: the rest of the queue goes, too.
    lone.rounds(1, 500_000, RTT);
    let reduced = lone.bytes();
    assert!(reduced < tried, "{reduced} {tried}");
    lone.rounds(3, 500_000, RTT);
    let grown = lone.bytes();
    let step = (CEILING as f64 * STEP) as u64;
    assert!(
        grown > reduced && grown <= reduced + 4 * step,
        "{reduced} {grown}"
    );
    lone.rounds(30, 500_000, RTT);
    assert_eq!(lone.bytes(), CEILING);
}

#[test]
fn a_delay_that_does_not_yield_is_the_new_one() {
    let mut lone = Lone::new();
    let longer = RTT + Duration::from_millis(80);
    lone.rounds(2, 875_000, longer);
    assert!(lone.bytes() < CEILING / 5);
    lone.rounds(30, 875_000, longer);
    // 60 ms are allowed on top of 280.
    assert_eq!(lone.bytes(), 8_500_000);
}

#[test]
fn usual_loss_is_borne_and_excess_must_last() {
    let mut lone = Lone::new();
    let lossy = |lone: &mut Lone, lost: u64| {
        lone.window.handle_loss(lost);
        lone.round(200_000, RTT);
    };
    // A sixth in each round.
    (0..20).for_each(|_| lossy(&mut lone, 40_000));
    assert_eq!(lone.bytes(), CEILING);
    // Once three quarters: the link was away for a moment.
    lossy(&mut lone, 600_000);
    lossy(&mut lone, 40_000);
    assert_eq!(lone.bytes(), CEILING);
    lossy(&mut lone, 600_000);
    lossy(&mut lone, 600_000);
    assert!(lone.bytes() < CEILING / 5, "{}", lone.bytes());
}

#[test]
fn loss_that_does_not_yield_is_the_new_usual_one() {
    let mut lone = Lone::new();
    for _ in 0..40 {
        lone.window.handle_loss(133_000);
        lone.round(200_000, RTT);
    }
    // 40 % all along.
    assert_eq!(lone.bytes(), CEILING);
}

#[test]
fn a_mark_reduces_once_a_round() {
    let mut lone = Lone::new();
    lone.rounds(2, 500_000, RTT);
    lone.window.handle_mark(lone.now);
    lone.round(500_000, RTT);
    let reduced = lone.bytes();
    assert!(reduced < CEILING / 5);
    // Sent before the reduction.
    lone.window.handle_mark(lone.now - RTT);
    lone.rounds(2, 500_000, RTT);
    assert!(lone.bytes() >= reduced);
}

#[test]
fn silence_halves_and_again_gives_up_the_floor_until_something_comes() {
    let mut lone = Lone::new();
    lone.rounds(3, 600_000, RTT);
    lone.window.handle_silence(lone.now);
    assert!(lone.bytes().abs_diff(300_000) < 5_000, "{}", lone.bytes());
    for _ in 0..10 {
        lone.window.handle_silence(lone.now);
    }
    assert!(lone.window.floor == MIN_PACKETS * u64::from(MTU));
    lone.rounds(30, 600_000, RTT);
    assert_eq!(lone.bytes(), CEILING);
    assert_eq!(lone.window.floor, config().floor);
}

#[test]
fn a_pause_is_not_taken_for_a_slow_link() {
    let mut lone = Lone::new();
    lone.rounds(3, 600_000, RTT);
    lone.now = lone.now + Duration::from_secs(30);
    lone.rounds(2, 600_000, RTT + Duration::from_millis(80));
    // The rate of the rounds beside the pause, not the pause's.
    assert!(lone.bytes() > 350_000, "{}", lone.bytes());
}

#[test]
fn a_larger_packet_raises_the_least_window() {
    let mut lone = Lone::new();
    lone.window.floor = 0;
    lone.window.share = 0.0;
    lone.window.handle_mtu(9_000);
    assert_eq!(lone.bytes(), 90_000);
}

#[test]
fn it_never_leaves_its_bounds_whatever_happens() {
    use proptest::prelude::*;
    let event = (0u8..6, 0u64..2_000_000, 1u64..3_000);
    proptest!(|(events in prop::collection::vec(event, 1..400))| {
        let mut window = Window::new(config(), Time::ZERO, MTU);
        let mut now = Time::ZERO;
        for (kind, bytes, ms) in events {
            let rtt = Duration::from_millis(ms);
            now = now + Duration::from_millis(ms % 97);
            match kind {
                0 => window.handle_sent(now),
                1 | 2 => {
                    window.handle_ack(now, now - rtt, bytes, rtt, bytes % 2 == 0);
                    window.handle_acks_end(now);
                }
                3 => window.handle_loss(bytes),
                4 => window.handle_mark(now - rtt),
                _ => window.handle_silence(now),
            }
            let ceiling = window.ceiling().unwrap_or_default() as u64;
            prop_assert!(window.bytes() >= MIN_PACKETS * u64::from(MTU));
            prop_assert!(window.bytes() <= ceiling.max(config().floor));
        }
    });
}
