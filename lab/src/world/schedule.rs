//! Changes of a world over time, as data, and a pure player of them.
//!
//! ```toml
//! [[step]]
//! at_ms = 10000
//! from = "cn-shanghai"
//! to = "hk"
//! one_way = true        # only cn-shanghai → hk; without it both directions
//! net = "line-1"        # only this net; without it every one
//! action = "cut"        # or "restore", { profile = "brownout" }, { delay_ms = 80 },
//!                       # { degrade = { extra_ms = 40, rate_bits = 20000000 } }
//! ```

use std::{collections::VecDeque, time::Duration};

use longspan_proto::{ids::Net, time::Time};
use serde::{Deserialize, Serialize};

use super::{Change, ChangeError, Effect, World};
use crate::wan::{Profile, profile_millis};

/// Steps of one schedule; more are refused. An hour of one change every 100 ms is below it.
pub const MAX_STEPS: usize = 65_536;

/// Changes in the order of their times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The changes.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

/// One change at its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Counted from the schedule's start.
    #[serde(rename = "at_ms", with = "profile_millis")]
    pub at: Duration,
    /// A node, a zone or a region.
    pub from: String,
    /// A node, a zone or a region.
    pub to: String,
    /// Over which net; every one where none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// Only from → to.
    #[serde(default)]
    pub one_way: bool,
    /// What happens.
    pub action: Action,
}

/// What a step does to the directions it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing arrives any more; with `one_way` a one-way blackhole.
    Cut,
    /// What was laid there is taken away.
    Restore,
    /// A named profile instead of the way's.
    Profile(String),
    /// This one-way delay instead of the way's.
    DelayMs(f64),
    /// Anything else.
    Degrade(Effect),
}

/// Why a schedule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no schedule.
    #[error("the schedule is not usable: {0}")]
    Parse(String),
    /// Its times go back.
    #[error("step {step} is at {at:?}, before step {}'s {before:?}", step - 1)]
    Back {
        /// Counted from 1.
        step: usize,
        /// Its time.
        at: Duration,
        /// The time of the one before.
        before: Duration,
    },
    /// A step cannot be done.
    #[error("step {step} (at {at:?}): {why}")]
    Step {
        /// Counted from 1.
        step: usize,
        /// Its time.
        at: Duration,
        /// What is wrong with it.
        why: ChangeError,
    },
    /// It is too long.
    #[error("{0} steps; the limit is {MAX_STEPS}")]
    TooLong(usize),
}

impl Step {
    /// What it does to a world.
    pub fn change(&self) -> Result<Change, ChangeError> {
        let effect = match &self.action {
            Action::Cut => Some(Effect {
                profile: Some(Profile::blackhole()),
                ..Effect::default()
            }),
            Action::Restore => None,
            Action::Profile(name) => Some(Effect {
                profile: Some(
                    Profile::named(name).map_err(|error| ChangeError::Value(error.to_string()))?,
                ),
                ..Effect::default()
            }),
            Action::DelayMs(delay) => Some(Effect {
                delay_ms: Some(*delay),
                ..Effect::default()
            }),
            Action::Degrade(effect) => Some(effect.clone()),
        };
        Ok(Change {
            from: self.from.clone(),
            to: self.to.clone(),
            net: self.net.clone(),
            one_way: self.one_way,
            fault: effect,
        })
    }
}

impl Schedule {
    /// Parses TOML; [`Player::new`] then checks it against a world.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        toml::from_str(text).map_err(|error| ScheduleError::Parse(error.to_string()))
    }
}

/// Plays a schedule. The contract: at [`Player::poll_timeout`] call [`Player::handle_timeout`]
/// with the time then, and apply what it gives, in order.
#[derive(Debug, Clone)]
pub struct Player {
    began: Time,
    left: VecDeque<(Duration, Change)>,
}

impl Player {
    /// Checks that every step can be done, one after the other, in `world`; the schedule's zero is
    /// at `began`.
    pub fn new(schedule: &Schedule, world: &World, began: Time) -> Result<Player, ScheduleError> {
        let mut world = world.clone();
        let mut left = VecDeque::with_capacity(schedule.steps.len());
        if schedule.steps.len() > MAX_STEPS {
            return Err(ScheduleError::TooLong(schedule.steps.len()));
        }
        let mut before = Duration::ZERO;
        for (index, step) in schedule.steps.iter().enumerate() {
            let (number, at) = (index + 1, step.at);
            if at < before {
                return Err(ScheduleError::Back {
                    step: number,
                    at,
                    before,
                });
            }
            before = at;
            let refused = |why| ScheduleError::Step {
                step: number,
                at,
                why,
            };
            let change = step.change().map_err(refused)?;
            world.apply(&change).map_err(refused)?;
            left.push_back((at, change));
        }
        Ok(Player { began, left })
    }

    /// When the next change is due; `None` after the last one.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.left.front().map(|(at, _)| self.began + *at)
    }

    /// The next change, if it is due at `now`. Call it until it gives `None`.
    pub fn handle_timeout(&mut self, now: Time) -> Option<Change> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.left.pop_front().map(|(_, change)| change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        matrix::{Matrix, Split},
        wan::Loss,
        world::{Everywhere, Who},
    };

    fn world() -> World {
        let regions = ["cn-shanghai", "hk"].map(|name| name.parse().expect("a region"));
        let everywhere = Everywhere::Same(Profile::clean());
        World::of_regions(&Matrix::bundled(), Split::Half, &everywhere, &regions, 1)
    }

    fn refused(text: &str) -> String {
        let schedule = Schedule::parse(text).expect("it parses");
        let player = Player::new(&schedule, &world(), Time::ZERO);
        player.expect_err("refused").to_string()
    }

    const LINE: &str = "from = 'cn-shanghai'\nto = 'hk'";

    #[test]
    fn every_action_happens_at_its_time() {
        let actions = [
            "'cut'",
            "'restore'",
            "{ profile = 'brownout' }",
            "{ delay_ms = 80 }",
            "{ degrade = { loss = { kind = 'bernoulli', mean = 0.5 } } }",
        ];
        let text: String = actions
            .iter()
            .enumerate()
            .map(|(n, action)| {
                format!(
                    "[[step]]\nat_ms = {}\n{LINE}\none_way = true\naction = {action}\n",
                    n * 1_000
                )
            })
            .collect();
        let schedule = Schedule::parse(&text).expect("a schedule");
        let again = toml::to_string(&schedule).expect("it can be written");
        assert_eq!(Schedule::parse(&again).expect("it comes back"), schedule);

        let mut world = world();
        let began = Time::from_micros(5_000_000);
        let mut player = Player::new(&schedule, &world, began).expect("it can be played");
        let who = |region: &str| Who::in_region(region.parse().expect("a region"));
        let (here, there, net) = (who("cn-shanghai"), who("hk"), Net::internet());
        let mut seen = Vec::new();
        while let Some(at) = player.poll_timeout() {
            assert_eq!(at, began + Duration::from_secs(seen.len() as u64));
            assert_eq!(player.handle_timeout(at - Duration::from_micros(1)), None);
            while let Some(change) = player.handle_timeout(at) {
                world.apply(&change).expect("it was checked");
            }
            seen.push(world.between(&here, &there, &net));
        }
        let way = Duration::from_millis(19);
        let half = Profile {
            loss: Loss::Bernoulli { mean: 0.5 },
            ..Profile::clean()
        };
        let wanted = [
            (way, Profile::blackhole()),
            (way, Profile::clean()),
            (way, Profile::brownout()),
            (Duration::from_millis(80), Profile::clean()),
            (way, half),
        ];
        assert_eq!(seen, wanted);
        assert_eq!(world.between(&there, &here, &net), (way, Profile::clean()));
    }

    #[test]
    fn what_cannot_be_played_is_refused_naming_the_step() {
        let step = |at: u64, rest: &str| format!("[[step]]\nat_ms = {at}\n{rest}\n");
        let cut = format!("{LINE}\naction = 'cut'");
        let back = step(2_000, &cut) + &step(1_000, &cut);
        assert_eq!(refused(&back), "step 2 is at 1s, before step 1's 2s");
        let unknown = step(10, "from = 'cn-shangai'\nto = 'hk'\naction = 'cut'");
        assert_eq!(
            refused(&unknown),
            "step 1 (at 10ms): no node, zone or region cn-shangai"
        );
        let nothing = step(10, &format!("{LINE}\naction = 'restore'"));
        assert!(refused(&nothing).contains("no fault lies between"));
        let profile = step(10, &format!("{LINE}\naction = {{ profile = 'brown' }}"));
        assert!(refused(&profile).contains("\"brown\" is not known"));
        let negative = step(10, &format!("{LINE}\naction = {{ delay_ms = -4 }}"));
        assert!(refused(&negative).contains("a delay of -4 ms"));
        let told = Schedule::parse("[[step]]\nat_ms = -1").expect_err("refused");
        assert!(told.to_string().contains("-1"), "{told}");
        assert!(Schedule::parse("[[steps]]").is_err());
    }
}
