//! When silence is suspicious, and when it is a verdict (DESIGN §3, "Self-healing").
//!
//! A suspicion is cheap and early: probes go every few ms and the standby is subscribed. A verdict
//! waits for fifteen unanswered probes and for a silence that the link's own loss explains less
//! often than once a day ([`down_probes`]). Both exist for either direction: nothing is heard any
//! more (`Silence`), or the other end, though heard, says that it does not hear us (`OneWay`).

use std::time::Duration;

use super::Loss;

/// Whether the other end of a link lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Heard of lately, and hears us.
    Up,
    /// Silent for longer than usual: probe faster, make the standby ready.
    Suspect,
    /// Silent for too long and too many probes.
    Down,
}

/// Which direction is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing comes from the other end.
    Silence,
    /// It is heard, but does not hear this end.
    OneWay,
}

impl Cause {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Silence => "silence",
            Cause::OneWay => "one_way",
        }
    }
}

/// What a suspicion or a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Why {
    /// Which direction.
    pub cause: Cause,
    /// How long nothing was heard (`Silence`), or since when nothing of this end's was (`OneWay`).
    pub silence: Duration,
    /// Probes of this end that should have been answered by now and were not.
    pub unanswered: u32,
}

/// The life of a link changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is well again.
    Up,
    /// It is suspected.
    Suspect(Why),
    /// The verdict.
    Down(Why),
}

/// Fewest probes in a row that are missing when a silence becomes suspicious, at the other end's
/// announced cadence; and the most, on a link whose own loss makes such gaps all the time.
pub const SUSPECT_PROBES: u32 = 3;
/// See [`SUSPECT_PROBES`].
pub const SUSPECT_PROBES_MOST: u32 = 8;
/// How often a day a link's own loss may be suspected: every 20 s. Each time costs the standby's
/// bytes of one round trip.
const SUSPICIONS_PER_DAY: f64 = 4_320.0;
/// The shortest suspicious silence, allowance not counted: a sender that probes every 5 ms is not
/// suspected for three of those.
pub const SUSPECT_LEAST: Duration = Duration::from_millis(75);
/// Own probes in a row that the other end did not hear, for a suspicion. One more than above:
/// moving away early gains less here, since what it sends still arrives.
pub const ONE_WAY_PROBES: u32 = 4;
/// Fewest unanswered probes for a verdict (DESIGN §3).
pub const DOWN_PROBES: u32 = 15;
/// Most that a verdict waits for, whatever was measured: at 5 ms a second of silence.
pub const DOWN_PROBES_MOST: u32 = 200;
/// Round trips in a row after which a link that was down is trusted again, over at least
/// [`RECOVERED_FOR`]: one that comes and goes faster stays down.
pub const RECOVERED_PROBES: u32 = 5;
/// See [`RECOVERED_PROBES`].
pub const RECOVERED_FOR: Duration = Duration::from_secs(1);
/// How often a day a link's own loss may look like its end.
const ALARMS_PER_DAY: f64 = 1.0;
/// What a link is taken to lose at least, however young or clean: the profile `internet`.
const LEAST_LOSS: f64 = 0.003;
const LEAST_BURST: f64 = 4.0;

/// How many probes in a row must be missing until the link's own loss is the rarer explanation.
///
/// A burst (in the model of Gilbert and Elliott: in it everything is lost) begins at `rate · p / b`
/// a second, where `rate` is probes a second in the usual cadence, `p` the share lost and `b` the
/// mean burst in probes. Its length is geometric: it loses k or more with (1 − 1/b)^(k−1). So
///
/// ```text
/// 86,400 s · rate · (p/b) · (1 − 1/b)^(k−1) ≤ 1   ⇒   k ≥ 1 + ln(86,400 · rate · p/b) / −ln(1 − 1/b)
/// ```
///
/// Whether a burst ends after so many packets or after so much time is not known. So `b` is the
/// larger of what was counted and of what its duration holds at the spacing of the suspicion.
pub fn down_probes(loss: &Loss, usual: Duration, suspicious: Duration) -> u32 {
    let spacing = suspicious.as_secs_f64().max(1e-3);
    let burst = loss.burst().max(loss.lasts().as_secs_f64() / spacing);
    run(loss.mean().max(loss.lately()), burst, usual, ALARMS_PER_DAY)
        .clamp(DOWN_PROBES, DOWN_PROBES_MOST)
}

/// How many probes in a row must be missing for a suspicion: three, and more where the link's own
/// loss would be suspected all the time. The arithmetic is that of [`down_probes`].
pub fn suspect_probes(loss: &Loss, usual: Duration) -> u32 {
    run(loss.long_run(), loss.burst(), usual, SUSPICIONS_PER_DAY)
        .clamp(SUSPECT_PROBES, SUSPECT_PROBES_MOST)
}

/// The run of lost probes that is rarer than so often a day.
fn run(loss: f64, burst: f64, usual: Duration, per_day: f64) -> u32 {
    const DAY_S: f64 = 86_400.0;
    let burst = burst.max(LEAST_BURST);
    let rate = 1.0 / usual.as_secs_f64().max(1e-3);
    let bursts = DAY_S * rate * loss.max(LEAST_LOSS) / burst;
    let k = 1.0 + (bursts / per_day).ln() / -(1.0 - 1.0 / burst).ln();
    k.ceil().max(0.0) as u32
}

/// What was seen, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// How long nothing was heard.
    pub quiet: Duration,
    /// Own probes sent in that silence whose answers are overdue.
    pub unanswered: u32,
    /// Own probes that the newest probe heard should know of, and does not.
    pub unheard: u32,
    /// How old the oldest of these is.
    pub deaf_for: Duration,
    /// Round trips in a row, all begun after the verdict; and over how long.
    pub round_trips: u32,
    /// See `round_trips`.
    pub well_for: Duration,
}

/// From where on it is too much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub quiet: Duration,
    pub unanswered: u32,
    pub unheard: u32,
}

/// Turns evidence into life.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    life: Life,
}

impl Detector {
    pub fn new() -> Detector {
        Detector { life: Life::Up }
    }

    pub fn life(&self) -> Life {
        self.life
    }

    /// What changes with this evidence; `None`: nothing.
    pub fn judge(&mut self, seen: Evidence, limits: Limits) -> Option<Event> {
        let silent = (seen.quiet >= limits.quiet).then_some(Why {
            cause: Cause::Silence,
            silence: seen.quiet,
            unanswered: seen.unanswered,
        });
        let deaf = (seen.unheard >= ONE_WAY_PROBES).then_some(Why {
            cause: Cause::OneWay,
            silence: seen.deaf_for,
            unanswered: seen.unheard,
        });
        let event = match (self.life, silent.or(deaf)) {
            (Life::Up, None) => return None,
            (Life::Up, Some(why)) => Event::Suspect(why),
            (Life::Suspect, None) => Event::Up,
            (Life::Suspect, Some(_)) => {
                let lost = silent.filter(|why| why.unanswered >= limits.unanswered);
                let unheard = deaf.filter(|why| why.unanswered >= limits.unheard);
                Event::Down(lost.or(unheard)?)
            }
            (Life::Down, _)
                if seen.round_trips >= RECOVERED_PROBES && seen.well_for >= RECOVERED_FOR =>
            {
                Event::Up
            }
            (Life::Down, _) => return None,
        };
        self.life = match event {
            Event::Up => Life::Up,
            Event::Suspect(_) => Life::Suspect,
            Event::Down(_) => Life::Down,
        };
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        quiet: Duration::from_millis(90),
        unanswered: 29,
        unheard: 31,
    };

    fn seen(quiet_ms: u64, unanswered: u32, unheard: u32, round_trips: u32) -> Evidence {
        Evidence {
            quiet: Duration::from_millis(quiet_ms),
            unanswered,
            unheard,
            deaf_for: Duration::ZERO,
            round_trips,
            well_for: RECOVERED_FOR,
        }
    }

    #[test]
    fn silence_is_suspected_then_a_verdict_just_at_its_limits() {
        let mut link = Detector::new();
        assert_eq!(link.judge(seen(89, 50, 0, 0), LIMITS), None);
        assert!(matches!(
            link.judge(seen(90, 50, 0, 0), LIMITS),
            Some(Event::Suspect(Why {
                cause: Cause::Silence,
                ..
            }))
        ));
        assert_eq!(link.judge(seen(5_000, 28, 0, 0), LIMITS), None);
        assert!(matches!(
            link.judge(seen(5_000, 29, 0, 0), LIMITS),
            Some(Event::Down(Why { unanswered: 29, .. }))
        ));
    }

    #[test]
    fn any_sign_of_life_ends_a_suspicion_but_not_a_verdict() {
        let mut link = Detector::new();
        link.judge(seen(90, 0, 0, 0), LIMITS);
        assert_eq!(link.judge(seen(0, 0, 0, 0), LIMITS), Some(Event::Up));
        link.judge(seen(90, 0, 0, 0), LIMITS);
        link.judge(seen(500, 29, 0, 0), LIMITS);
        assert_eq!(link.judge(seen(0, 0, 0, 4), LIMITS), None);
        let short = Evidence {
            well_for: RECOVERED_FOR - Duration::from_millis(1),
            ..seen(0, 0, 0, 9)
        };
        assert_eq!(link.judge(short, LIMITS), None);
        assert_eq!(link.judge(seen(0, 0, 0, 5), LIMITS), Some(Event::Up));
    }

    #[test]
    fn a_deaf_peer_is_suspected_though_it_is_heard() {
        let mut link = Detector::new();
        assert_eq!(link.judge(seen(0, 0, 3, 0), LIMITS), None);
        let Some(Event::Suspect(why)) = link.judge(seen(0, 0, 4, 0), LIMITS) else {
            panic!("not suspected");
        };
        assert_eq!(why.cause, Cause::OneWay);
        assert_eq!(link.judge(seen(0, 0, 30, 0), LIMITS), None);
        assert!(matches!(
            link.judge(seen(0, 0, 31, 0), LIMITS),
            Some(Event::Down(Why {
                cause: Cause::OneWay,
                ..
            }))
        ));
    }

    const USUAL: Duration = Duration::from_millis(25);
    const FAST: Duration = Duration::from_millis(5);

    #[test]
    fn a_clean_link_is_judged_as_if_it_were_the_internet() {
        // 1 + ln(86,400 · 40 · 0.003 / 4) / -ln(3/4) = 28.3.
        assert_eq!(down_probes(&Loss::default(), USUAL, FAST), 29);
    }

    #[test]
    fn a_bad_link_is_given_more_and_never_more_than_the_bound() {
        let mut inbound = Loss::default();
        for _ in 0..100 {
            inbound.count(4, 23, Duration::from_millis(200));
        }
        assert!((0.1..0.2).contains(&inbound.mean()));
        // 15 % in bursts of 4: ln grows by ln(50), 3.9 / 0.288 = 14 more.
        let k = down_probes(&inbound, USUAL, FAST);
        assert!((40..=46).contains(&k), "{k}");
        let mut slow = Loss::default();
        for _ in 0..100 {
            slow.count(4, 12, USUAL);
        }
        // 100 ms are 20 probes of 5 ms.
        let k = down_probes(&slow, USUAL, FAST);
        assert!((110..=DOWN_PROBES_MOST).contains(&k), "{k}");
        let mut awful = Loss::default();
        for _ in 0..100 {
            awful.count(32, 1, USUAL);
        }
        assert_eq!(down_probes(&awful, USUAL, FAST), DOWN_PROBES_MOST);
    }

    #[test]
    fn a_clean_link_is_suspected_after_three_probes_and_a_bad_one_after_more() {
        assert_eq!(suspect_probes(&Loss::default(), USUAL), SUSPECT_PROBES);
        let mut inbound = Loss::default();
        for _ in 0..100 {
            inbound.count(4, 23, USUAL);
        }
        assert_eq!(suspect_probes(&inbound, USUAL), SUSPECT_PROBES_MOST);
    }

    #[test]
    fn fifteen_probes_are_the_least_however_rare_they_are() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(down_probes(&Loss::default(), hour, FAST), DOWN_PROBES);
    }
}
