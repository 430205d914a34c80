//! Changing a world: a fault laid over the directions between two, or taken away again.

use std::time::Duration;

use longspan_proto::ids::Net;
use serde::{Deserialize, Serialize};

use super::{Fault, World};
use crate::wan::{Loss, Profile, Rate, profile_millis};

/// Faults at once; more are refused. Every direction looks through them once when they change.
pub const MAX_FAULTS: usize = 1_024;

/// The queue in front of a bottleneck whose rate alone is told, as in the named profiles.
const QUEUE: Duration = Duration::from_millis(100);

/// What to do to a link, in one direction or in both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A node, a zone (`region/zone`) or a region.
    pub from: String,
    /// A node, a zone or a region.
    pub to: String,
    /// Over which net; every one where none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// Only from → to.
    #[serde(default)]
    pub one_way: bool,
    /// `None` takes the fault away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Effect>,
}

/// What a fault does. What is not told stays as it is without the fault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effect {
    /// Instead of everything else of the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// One way, instead of the matrix's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<f64>,
    /// Added to the delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_ms: Option<f64>,
    /// Loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Bits a second; the queue is 100 ms as in the other profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bits: Option<u64>,
}

/// Why a change was refused. Nothing of it has happened then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nobody is called so.
    #[error("no node, zone or region {0}")]
    Unknown(String),
    /// There is nothing to take away.
    #[error("no fault lies between {from} and {to}")]
    Nothing {
        /// From whom.
        from: String,
        /// To whom.
        to: String,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
    /// There are enough.
    #[error("there are {MAX_FAULTS} faults, the limit; restore some")]
    Full,
}

impl Change {
    /// Nothing arrives any more, in both directions.
    pub fn cut(from: &str, to: &str) -> Change {
        Change::lay(
            from,
            to,
            Effect {
                profile: Some(Profile::blackhole()),
                ..Effect::default()
            },
        )
    }

    /// Both directions become what `effect` says.
    pub fn lay(from: &str, to: &str, effect: Effect) -> Change {
        Change {
            from: from.to_owned(),
            to: to.to_owned(),
            net: None,
            one_way: false,
            fault: Some(effect),
        }
    }

    /// The fault laid between the same two is taken away, in both directions.
    pub fn restore(from: &str, to: &str) -> Change {
        Change {
            fault: None,
            ..Change::lay(from, to, Effect::default())
        }
    }

    /// The same in the direction from → to only.
    pub fn one_way(mut self) -> Change {
        self.one_way = true;
        self
    }

    /// The same over one net only.
    pub fn over(mut self, net: Net) -> Change {
        self.net = Some(net);
        self
    }
}

impl World {
    /// Does all of a change, or nothing.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        let mut faults = self.faults.clone();
        let mut lifted = false;
        let both = [(&change.from, &change.to), (&change.to, &change.from)];
        for (from, to) in both.into_iter().take(if change.one_way { 1 } else { 2 }) {
            for name in [from, to] {
                if !self.knows(name) {
                    return Err(ChangeError::Unknown(name.clone()));
                }
            }
            let before = faults.len();
            faults.retain(|fault| (&fault.from, &fault.to, &fault.net) != (from, to, &change.net));
            lifted |= faults.len() < before;
            if let Some(effect) = &change.fault {
                effect.check()?;
                faults.push(Fault {
                    from: from.clone(),
                    to: to.clone(),
                    net: change.net.clone(),
                    effect: effect.clone(),
                });
            }
        }
        if change.fault.is_none() && !lifted {
            return Err(ChangeError::Nothing {
                from: change.from.clone(),
                to: change.to.clone(),
            });
        }
        if faults.len() > MAX_FAULTS {
            return Err(ChangeError::Full);
        }
        self.faults = faults;
        Ok(())
    }
}

impl Effect {
    /// What a direction becomes that is otherwise `one_way` under `profile`.
    pub(super) fn over(&self, one_way: Duration, profile: Profile) -> (Duration, Profile) {
        let millis = |ms: Option<f64>| ms.and_then(profile_millis::parse);
        let one_way =
            millis(self.delay_ms).unwrap_or(one_way) + millis(self.extra_ms).unwrap_or_default();
        let mut profile = self.profile.clone().unwrap_or(profile);
        if let Some(loss) = self.loss {
            profile.loss = loss;
        }
        if let Some(bits_per_s) = self.rate_bits {
            profile.rate = Some(Rate {
                bits_per_s,
                queue: QUEUE,
            });
        }
        (one_way, profile)
    }

    /// `Err` names a value that cannot be.
    pub fn check(&self) -> Result<(), ChangeError> {
        let (_, profile) = self.over(Duration::ZERO, Profile::default());
        profile
            .check()
            .map_err(|error| ChangeError::Value(error.to_string()))?;
        for (what, ms) in [("delay", self.delay_ms), ("further delay", self.extra_ms)] {
            // NaN lies in no range.
            if let Some(ms) = ms.filter(|ms| !(0.0..=MAX_DELAY_MS).contains(ms)) {
                return Err(ChangeError::Value(format!(
                    "a {what} of {ms} ms; it must lie in 0 … {MAX_DELAY_MS}"
                )));
            }
        }
        Ok(())
    }
}

/// The longest delay of a fault, in ms: beyond a minute nothing distinguishes it from a cut.
const MAX_DELAY_MS: f64 = 60_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        matrix::{Matrix, Split},
        world::{Everywhere, Who},
    };

    fn world() -> World {
        let regions = ["cn-shanghai", "hk", "sg"].map(|name| name.parse().expect("a region"));
        let everywhere = Everywhere::Same(Profile::clean());
        World::of_regions(&Matrix::bundled(), Split::Half, &everywhere, &regions, 1)
    }

    #[test]
    fn a_fault_lies_over_both_directions_until_it_is_lifted() {
        let mut world = world();
        let slower = Effect {
            extra_ms: Some(100.0),
            ..Effect::default()
        };
        let slower = Change::lay("cn-shanghai", "hk", slower);
        world.apply(&slower).expect("laid");
        // 19 ms is half the matrix's round trip; told twice it is not added twice.
        world.apply(&slower).expect("laid again");
        assert_eq!(world.faults.len(), 2);
        let between = |world: &World, from: &str, to: &str| {
            let who = |name: &str| Who::in_region(name.parse().expect("a region"));
            world.between(&who(from), &who(to), &Net::internet())
        };
        let slow = (Duration::from_millis(119), Profile::clean());
        assert_eq!(between(&world, "cn-shanghai", "hk"), slow);
        assert_eq!(between(&world, "hk", "cn-shanghai"), slow);
        let restore = Change::restore("hk", "cn-shanghai");
        world.apply(&restore).expect("lifted");
        assert!(world.faults.is_empty());
        let again = world.apply(&restore).expect_err("nothing lies there");
        assert_eq!(
            again.to_string(),
            "no fault lies between hk and cn-shanghai"
        );
    }

    #[test]
    fn a_fault_of_one_net_leaves_the_others() {
        let mut world = world();
        let line: Net = "line-1".parse().expect("a net");
        world
            .apply(&Change::cut("hk", "sg").over(line.clone()))
            .expect("cut");
        assert_eq!(world.faults.len(), 2);
        assert_eq!(world.faults[0].net, Some(line));
        assert!(world.apply(&Change::restore("hk", "sg")).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
        let mut world = world();
        let refused = |world: &mut World, effect: Effect| {
            let told = world.apply(&Change::lay("sg", "hk", effect));
            told.expect_err("refused").to_string()
        };
        let told = world.apply(&Change::cut("cn-shangai", "hk"));
        assert_eq!(told, Err(ChangeError::Unknown("cn-shangai".to_owned())));
        let wrong = Effect {
            rate_bits: Some(0),
            ..Effect::default()
        };
        assert!(refused(&mut world, wrong).contains("bits_per_s is 0"));
        for delay in [-1.0, 60_001.0, f64::NAN] {
            let wrong = Effect {
                delay_ms: Some(delay),
                ..Effect::default()
            };
            let told = refused(&mut world, wrong);
            assert!(told.contains(&format!("a delay of {delay} ms")), "{told}");
        }
        assert!(world.faults.is_empty());
    }

    #[test]
    fn faults_are_bounded() {
        let mut world = world();
        for n in 0..MAX_FAULTS / 2 {
            let net = format!("line-{n}").parse().expect("a net");
            world
                .apply(&Change::cut("hk", "sg").over(net))
                .expect("cut");
        }
        let told = world.apply(&Change::cut("hk", "sg"));
        assert_eq!(told, Err(ChangeError::Full));
        assert_eq!(world.faults.len(), MAX_FAULTS);
    }
}
