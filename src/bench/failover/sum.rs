//! What all trials of one fault found.

use std::time::Duration;

use serde_json::{Value, json};

use super::{guest, trial::Found};
use crate::{bench::report::Distribution, failure::Failure};

/// Failed trials that are told in words; all are counted.
const TOLD: usize = 20;

/// See the [module](self).
#[derive(Default)]
pub struct Sum {
    gap: Distribution,
    beyond: Distribution,
    detect: Distribution,
    moved: Distribution,
    recover: Distribution,
    frames_lost: u64,
    frames_repeated: u64,
    trials: u32,
    failed: u32,
    failures: Vec<String>,
    guest: guest::Sum,
    /// The largest gap beyond the way back, and its story.
    worst: Option<(Duration, Value)>,
}

impl Sum {
    /// Takes one trial in.
    pub fn add(&mut self, found: &Found) {
        let us = |time: Duration| time.as_micros() as u64;
        let beyond = found.gap.saturating_sub(found.backup_rtt);
        self.trials += 1;
        self.gap.record_us(us(found.gap));
        self.beyond.record_us(us(beyond));
        self.moved.record_us(us(found.moved));
        self.recover.record_us(us(found.recover));
        if let Some(detect) = found.detect {
            self.detect.record_us(us(detect));
        }
        self.frames_lost += found.frames_lost;
        self.frames_repeated += found.frames_repeated;
        if let Some(guest) = &found.guest {
            self.guest.add(guest);
        }
        if self.worst.as_ref().is_none_or(|(worst, _)| beyond > *worst) {
            let told = json!({ "place": found.place, "story": found.story });
            self.worst = Some((beyond, told));
        }
    }

    /// A trial that came to nothing.
    pub fn fail(&mut self, failure: &Failure) {
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(failure.to_string());
        }
    }

    /// For the report; `guest` is the guest's command.
    pub fn json(&self, guest: Option<&str>) -> Value {
        let mut told = json!({
            "trials": self.trials,
            "trials_failed": self.failed,
            "failures": self.failures,
            "gap_ms": self.gap.json(),
            "gap_minus_backup_rtt_ms": self.beyond.json(),
            "detect_ms": self.detect.json(),
            "moved_ms": self.moved.json(),
            "recover_ms": self.recover.json(),
            "frames_lost": self.frames_lost,
            "frames_repeated": self.frames_repeated,
            "worst": self.worst.as_ref().map(|(_, told)| told),
        });
        if let Some(command) = guest {
            told["guest"] = self.guest.json(command);
        }
        told
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!(
            "{} trials, gap less the way back {} / {} ms (median, most), {} frames lost, {} failed",
            self.trials,
            self.beyond.json()["p50"],
            self.beyond.json()["max"],
            self.frames_lost,
            self.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(gap_ms: u64, place: &str) -> Found {
        Found {
            place: place.to_owned(),
            gap: Duration::from_millis(gap_ms),
            backup_rtt: Duration::from_millis(100),
            recover: Duration::from_millis(gap_ms),
            moved: Duration::from_millis(gap_ms),
            detect: None,
            frames_lost: 1,
            frames_repeated: 0,
            guest: None,
            story: vec![place.to_owned()],
        }
    }

    #[test]
    fn a_trial_that_fails_is_counted_and_the_others_stay() {
        let mut sum = Sum::default();
        sum.add(&found(300, "a"));
        sum.add(&found(700, "b"));
        sum.fail(&Failure::failed("it broke"));
        sum.add(&found(200, "c"));
        let told = sum.json(None);
        assert_eq!(
            (&told["trials"], &told["trials_failed"]),
            (&json!(3), &json!(1))
        );
        assert_eq!(told["failures"], json!(["it broke"]));
        assert_eq!(told["worst"]["place"], "b");
        assert_eq!(told["frames_lost"], 3);
        assert!(told["gap_minus_backup_rtt_ms"]["max"].as_f64() > Some(599.0));
    }
}
