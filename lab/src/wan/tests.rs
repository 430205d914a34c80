use super::*;

const ONE_WAY: Duration = Duration::from_millis(100);
const SEED: u64 = 7;
const PACKETS: u64 = 200_000;

/// One packet of 1,200 bytes a millisecond.
fn run(profile: Profile) -> Vec<(Time, Verdict)> {
    let mut direction = Direction::new(ONE_WAY, profile, SEED);
    (0..PACKETS)
        .map(|n| Time::from_micros(n * 1_000))
        .map(|now| (now, direction.send(now, 1_200)))
        .collect()
}

fn lost(verdicts: &[(Time, Verdict)]) -> f64 {
    let lost = verdicts
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Drop(_)));
    lost.count() as f64 / verdicts.len() as f64
}

fn bursts(verdicts: &[(Time, Verdict)]) -> f64 {
    let mut bursts = 0.0;
    let mut lost = 0.0;
    let mut before = false;
    for (_, verdict) in verdicts {
        let now = matches!(verdict, Verdict::Drop(_));
        lost += f64::from(u8::from(now));
        bursts += f64::from(u8::from(now && !before));
        before = now;
    }
    lost / bursts
}

fn delays(verdicts: &[(Time, Verdict)]) -> Vec<f64> {
    let delivered = verdicts.iter().filter_map(|(now, verdict)| match verdict {
        Verdict::Deliver(at) => Some(at.saturating_since(*now).as_secs_f64() * 1_000.0),
        Verdict::Drop(_) => None,
    });
    delivered.collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn near(value: f64, wanted: f64, by: f64) {
    assert!(
        (value - wanted).abs() <= by,
        "{value} is not {wanted} ± {by}"
    );
}

#[test]
fn the_same_seed_gives_the_same_verdicts() {
    assert_eq!(run(Profile::internet()), run(Profile::internet()));
    let mut other = Direction::new(ONE_WAY, Profile::internet(), SEED + 1);
    let other: Vec<_> = (0..PACKETS)
        .map(|n| Time::from_micros(n * 1_000))
        .map(|now| (now, other.send(now, 1_200)))
        .collect();
    assert_ne!(run(Profile::internet()), other);
}

#[test]
fn clean_stays_within_two_percent_and_loses_nothing() {
    let verdicts = run(Profile::clean());
    assert_eq!(lost(&verdicts), 0.0);
    let delays = delays(&verdicts);
    assert!(
        delays
            .iter()
            .all(|delay| (97.999..=102.001).contains(delay))
    );
    // Above 100: what would overtake is held back.
    near(mean(&delays), 100.4, 0.4);
}

#[test]
fn internet_jitter_has_its_mean_where_nothing_is_held_back() {
    let mut direction = Direction::new(
        ONE_WAY,
        Profile {
            loss: Loss::None,
            ..Profile::internet()
        },
        SEED,
    );
    // Packets a second apart cannot overtake one another.
    let delays: Vec<f64> = (0..20_000)
        .map(|n| Time::from_micros(n * 1_000_000))
        .map(|now| match direction.send(now, 1_200) {
            Verdict::Deliver(at) => at.saturating_since(now).as_secs_f64() * 1_000.0,
            Verdict::Drop(reason) => panic!("{reason:?}"),
        })
        .collect();
    near(mean(&delays), 104.0, 0.2);
    assert!(delays.iter().all(|delay| *delay >= 100.0));
}

#[test]
fn losses_have_their_mean_and_their_bursts() {
    let internet = run(Profile::internet());
    near(lost(&internet), 0.003, 0.001);
    near(bursts(&internet), 4.0, 0.8);

    let brownout = run(Profile::brownout());
    near(lost(&brownout), 0.15, 0.01);
    near(bursts(&brownout), 4.0, 0.2);
    assert!(delays(&brownout).iter().all(|delay| *delay >= 180.0));

    let bernoulli = run(Profile {
        loss: Loss::Bernoulli { mean: 0.1 },
        ..Profile::default()
    });
    near(lost(&bernoulli), 0.1, 0.005);
    // Independent losses: 1 / (1 − 0.1).
    near(bursts(&bernoulli), 1.11, 0.03);

    assert_eq!(lost(&run(Profile::blackhole())), 1.0);
}

#[test]
fn china_inbound_ramps_between_nothing_and_its_peak() {
    let loss = Profile::china_inbound().loss;
    let minutes: Vec<f64> = (0..60)
        .map(|minute| loss.mean(Time::from_micros(minute * 60_000_000)))
        .collect();
    near(mean(&minutes), 0.15, 0.001);
    near(minutes[0], 0.15, 0.001);
    near(minutes.iter().copied().fold(0.0, f64::max), 0.40, 0.002);
    near(minutes.iter().copied().fold(1.0, f64::min), 0.0, 0.002);

    // Over a whole period of packets too.
    let mut direction = Direction::new(ONE_WAY, Profile::china_inbound(), SEED);
    let drops = (0..360_000)
        .filter(|n| {
            let now = Time::from_micros(n * 10_000);
            matches!(direction.send(now, 100), Verdict::Drop(_))
        })
        .count();
    near(drops as f64 / 360_000.0, 0.15, 0.01);
}

#[test]
fn deliveries_keep_their_order_unless_told_otherwise() {
    let disorder = |verdicts: &[(Time, Verdict)]| {
        let at = verdicts.iter().filter_map(|(_, verdict)| match verdict {
            Verdict::Deliver(at) => Some(*at),
            Verdict::Drop(_) => None,
        });
        let at: Vec<Time> = at.collect();
        at.windows(2).filter(|pair| pair[1] < pair[0]).count()
    };
    assert_eq!(disorder(&run(Profile::internet())), 0);
    assert!(
        disorder(&run(Profile {
            reorder: true,
            ..Profile::internet()
        })) > 1_000
    );
}

#[test]
fn order_holds_across_a_change_to_a_shorter_delay() {
    let mut direction = Direction::new(ONE_WAY, Profile::default(), SEED);
    let first = direction.send(Time::ZERO, 100);
    direction.change(Duration::from_millis(1), Profile::default());
    let second = direction.send(Time::from_micros(1_000), 100);
    assert_eq!(first, Verdict::Deliver(Time::from_micros(100_000)));
    assert_eq!(second, first);
    let later = direction.send(Time::from_micros(200_000), 100);
    assert_eq!(later, Verdict::Deliver(Time::from_micros(201_000)));
}

#[test]
fn a_bottleneck_delays_then_drops() {
    let rate = Rate {
        bits_per_s: 8_000_000,
        queue: Duration::from_millis(10),
    };
    let profile = Profile {
        rate: Some(rate),
        ..Profile::default()
    };
    let mut direction = Direction::new(ONE_WAY, profile, SEED);
    // 1,000 bytes take 1 ms; the eleventh after the first waits 10 ms, the next would wait 11.
    let burst: Vec<Verdict> = (0..13).map(|_| direction.send(Time::ZERO, 1_000)).collect();
    for (n, verdict) in burst.iter().enumerate().take(11) {
        let at = Time::from_micros(101_000 + 1_000 * n as u64);
        assert_eq!(*verdict, Verdict::Deliver(at));
    }
    assert_eq!(burst[11], Verdict::Drop(Reason::QueueFull));
    assert_eq!(burst[12], Verdict::Drop(Reason::QueueFull));
    // A millisecond later there is room for one again.
    let now = Time::from_micros(1_000);
    assert!(matches!(direction.send(now, 1_000), Verdict::Deliver(_)));
    assert!(matches!(direction.send(now, 1_000), Verdict::Drop(_)));
}

#[test]
fn profiles_that_cannot_be_are_refused() {
    for name in Profile::NAMES {
        let profile = Profile::named(name).expect("a profile");
        profile.check().expect("a sound profile");
        let text = toml::to_string(&profile).expect("it can be written");
        assert_eq!(toml::from_str::<Profile>(&text).expect(&text), profile);
    }
    let unknown = Profile::named("cleen").expect_err("refused").to_string();
    assert!(unknown.contains("\"cleen\"") && unknown.contains("china-inbound"));
    let refused = |text: &str| {
        let profile: Profile = toml::from_str(text).expect("it parses");
        profile.check().expect_err("refused").to_string()
    };
    assert!(refused("loss = { kind = 'bernoulli', mean = 1.5 }").contains("1.5"));
    assert!(refused("loss = { kind = 'gilbert-elliott', mean = 0.9, burst = 2 }").contains("9.0"));
    assert!(refused("rate = { bits_per_s = 0, queue_ms = 5 }").contains("bits_per_s"));
    assert!(refused("jitter = { kind = 'uniform', share = -1 }").contains("-1"));
    assert!(toml::from_str::<Profile>("extra_delay_ms = -3").is_err());
    assert!(toml::from_str::<Profile>("delay = 3").is_err());
}

#[test]
fn a_small_packet_on_a_fast_link_takes_its_time_too() {
    let rate = Rate {
        bits_per_s: 10_000_000_000,
        queue: Duration::from_secs(1),
    };
    let profile = Profile {
        rate: Some(rate),
        ..Profile::default()
    };
    let mut direction = Direction::new(Duration::ZERO, profile, SEED);
    // 100 bytes at 10 Gbit/s take 80 ns; a million of them 80 ms.
    let last = (0..1_000_000)
        .map(|_| direction.send(Time::ZERO, 100))
        .last();
    assert_eq!(last, Some(Verdict::Deliver(Time::from_micros(80_000))));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Packets of one case: with fewer the statistics below would need wider bounds.
    const CASE: u64 = 40_000;

    fn direction(profile: &Profile, seed: u64) -> impl FnMut(u64) -> (Time, Verdict) {
        profile.check().expect("a sound profile");
        let mut direction = Direction::new(ONE_WAY, profile.clone(), seed);
        move |micros| {
            let now = Time::from_micros(micros);
            (now, direction.send(now, 1_000))
        }
    }

    fn bursty() -> impl Strategy<Value = Loss> {
        let ranges = (0.01..0.5_f64, 1.0..20.0_f64);
        ranges
            .prop_filter("reachable", |(mean, burst)| mean / (1.0 - mean) <= *burst)
            .prop_map(|(mean, burst)| Loss::GilbertElliott { mean, burst })
    }

    fn any_loss() -> impl Strategy<Value = Loss> {
        prop_oneof![
            Just(Loss::None),
            (0.0..=1.0_f64).prop_map(|mean| Loss::Bernoulli { mean }),
            bursty(),
        ]
    }

    fn any_jitter() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::None),
            (0.0..=1.0_f64).prop_map(|share| Jitter::Uniform { share }),
            (0.0..0.3_f64).prop_map(|share_of_rtt| Jitter::Exponential { share_of_rtt }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn independent_losses_have_their_mean(mean in 0.0..=1.0_f64, seed: u64) {
            let profile = Profile { loss: Loss::Bernoulli { mean }, ..Profile::default() };
            let verdicts: Vec<_> = (0..CASE).map(direction(&profile, seed)).collect();
            // Six standard deviations: a false alarm in 5 · 10⁸ cases.
            let by = 6.0 * (mean * (1.0 - mean) / CASE as f64).sqrt();
            prop_assert!((lost(&verdicts) - mean).abs() <= by + 1e-12);
        }

        #[test]
        fn bursts_have_their_mean_and_their_length(loss in bursty(), seed: u64) {
            let Loss::GilbertElliott { mean, burst } = loss else { unreachable!() };
            let profile = Profile { loss, ..Profile::default() };
            let verdicts: Vec<_> = (0..CASE).map(direction(&profile, seed)).collect();
            // Bursts are geometric: about CASE · mean / burst of them, each deviating by its mean.
            let count = CASE as f64 * mean / burst;
            let relative = 7.0 / count.sqrt();
            prop_assert!((bursts(&verdicts) / burst - 1.0).abs() <= relative);
            prop_assert!((lost(&verdicts) / mean - 1.0).abs() <= 2.0 * relative);
        }

        #[test]
        fn jitter_has_its_mean_where_packets_are_far_apart(
            share_of_rtt in 0.001..0.2_f64, seed: u64,
        ) {
            let jitter = Jitter::Exponential { share_of_rtt };
            let profile = Profile { jitter, ..Profile::default() };
            let every = 60_000_000;
            let packets = (0..CASE / 4).map(|n| n * every);
            let verdicts: Vec<_> = packets.map(direction(&profile, seed)).collect();
            let wanted = 200.0 * share_of_rtt;
            let found = mean(&delays(&verdicts)) - 100.0;
            prop_assert!((found / wanted - 1.0).abs() <= 6.0 / ((CASE / 4) as f64).sqrt());
        }

        #[test]
        fn a_full_link_delivers_its_rate(kbit in 100..1_000_000_u64, over in 1.1..4.0_f64, seed: u64) {
            let rate = Rate { bits_per_s: kbit * 1_000, queue: Duration::from_millis(50) };
            let profile = Profile { rate: Some(rate), ..Profile::default() };
            let every = 8_000.0 * 1e6 / (rate.bits_per_s as f64 * over);
            let packets = (0..CASE).map(|n| (n as f64 * every) as u64);
            let verdicts: Vec<_> = packets.map(direction(&profile, seed)).collect();
            let delivered: Vec<Time> = verdicts
                .iter()
                .filter_map(|(_, verdict)| match verdict {
                    Verdict::Deliver(at) => Some(*at),
                    Verdict::Drop(_) => None,
                })
                .collect();
            let (first, last) = (delivered[0], delivered[delivered.len() - 1]);
            let took = last.saturating_since(first).as_secs_f64();
            let bits = (delivered.len() - 1) as f64 * 8_000.0;
            // Times are whole microseconds, and so is the error at both ends.
            prop_assert!((bits / took / rate.bits_per_s as f64 - 1.0).abs() < 0.001);
            // Nobody waits longer than the queue, and then its own time on the link.
            let own = 8_000.0 / rate.bits_per_s as f64 * 1_000.0;
            let longest = delays(&verdicts).iter().copied().fold(0.0, f64::max);
            prop_assert!(longest <= 150.0 + own + 0.01, "{longest}");
        }

        #[test]
        fn nothing_overtakes_or_arrives_early(
            loss in any_loss(), jitter in any_jitter(), limited: bool, seed: u64,
            changes in proptest::collection::vec((0..1_000_u64, 0..300_u64), 0..8),
        ) {
            let rate = limited.then_some(Rate {
                bits_per_s: 5_000_000,
                queue: Duration::from_millis(20),
            });
            let profile = Profile { loss, jitter, rate, ..Profile::default() };
            let mut direction = Direction::new(ONE_WAY, profile.clone(), seed);
            let mut last = Time::ZERO;
            for n in 0..1_000 {
                for (_, delay) in changes.iter().filter(|(at, _)| *at == n) {
                    direction.change(Duration::from_millis(*delay), profile.clone());
                }
                let now = Time::from_micros(n * 500);
                if let Verdict::Deliver(at) = direction.send(now, 1_000) {
                    prop_assert!(at >= last && at >= now);
                    last = at;
                }
            }
        }
    }
}
