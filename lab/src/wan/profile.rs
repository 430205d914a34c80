//! What is laid over a link's delay, and the profiles that have names.

use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{loss::Loss, unit};

/// How one direction treats packets, beside its base delay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Added to the base delay.
    #[serde(rename = "extra_delay_ms", with = "millis")]
    pub extra_delay: Duration,
    /// How delays vary.
    pub jitter: Jitter,
    /// Which packets are lost.
    pub loss: Loss,
    /// The bottleneck; `None`: as fast as wanted.
    pub rate: Option<Rate>,
    /// Whether a packet may overtake another.
    pub reorder: bool,
}

/// How delays vary from packet to packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// Evenly between minus and plus this share of the one-way delay.
    Uniform {
        /// The share.
        share: f64,
    },
    /// Exponentially, only upwards, with a mean of this share of the round-trip time (twice the
    /// one-way delay).
    Exponential {
        /// The share.
        share_of_rtt: f64,
    },
}

impl Jitter {
    /// Seconds to add to a delay, given the base one-way delay.
    pub(super) fn draw(&self, one_way: Duration, rng: &mut impl Rng) -> f64 {
        let one_way = one_way.as_secs_f64();
        match *self {
            Jitter::None => 0.0,
            Jitter::Uniform { share } => one_way * share * (2.0 * unit(rng) - 1.0),
            Jitter::Exponential { share_of_rtt } => {
                // 1 − unit lies in (0, 1]: its logarithm is finite.
                2.0 * one_way * share_of_rtt * -(1.0 - unit(rng)).ln()
            }
        }
    }
}

/// A bottleneck with a queue in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Bits of payload a second.
    pub bits_per_s: u64,
    /// The longest a packet waits; one that would wait longer is dropped.
    #[serde(rename = "queue_ms", with = "millis")]
    pub queue: Duration,
}

impl Rate {
    /// How long so many bytes take to leave, in nanoseconds.
    pub(super) fn nanos_for(self, bytes: usize) -> u64 {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits_per_s.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Why a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No profile has this name.
    #[error("profile {0:?} is not known; known are {known}", known = Profile::NAMES.join(", "))]
    Unknown(String),
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
}

/// 0.3 % in bursts of 4: the public internet in ordinary hours.
const INTERNET_LOSS: Loss = Loss::GilbertElliott {
    mean: 0.003,
    burst: 4.0,
};

const INTERNET_JITTER: Jitter = Jitter::Exponential { share_of_rtt: 0.02 };

impl Profile {
    /// The profiles that have names (lab/data/README.md gives the sources of their figures).
    pub const NAMES: [&str; 5] = [
        "clean",
        "internet",
        "china-inbound",
        "blackhole",
        "brownout",
    ];

    /// A profile by name.
    pub fn named(name: &str) -> Result<Profile, ProfileError> {
        match name {
            "clean" => Ok(Profile::clean()),
            "internet" => Ok(Profile::internet()),
            "china-inbound" => Ok(Profile::china_inbound()),
            "blackhole" => Ok(Profile::blackhole()),
            "brownout" => Ok(Profile::brownout()),
            _ => Err(ProfileError::Unknown(name.to_owned())),
        }
    }

    /// Jitter of ±2 %, no loss, any rate.
    pub fn clean() -> Profile {
        Profile {
            jitter: Jitter::Uniform { share: 0.02 },
            ..Profile::default()
        }
    }

    /// Exponential jitter, 0.3 % loss in bursts, 200 Mbit/s behind a queue of 100 ms.
    pub fn internet() -> Profile {
        Profile {
            jitter: INTERNET_JITTER,
            loss: INTERNET_LOSS,
            rate: Some(Rate {
                bits_per_s: 200_000_000,
                queue: Duration::from_millis(100),
            }),
            ..Profile::default()
        }
    }

    /// As `internet`, with the loss of foreign → Chinese links by day: 15 % on average, peaks of
    /// 40 %, half an hour up and half an hour down. Lay it over one direction; the other one is
    /// [`Profile::internet`].
    pub fn china_inbound() -> Profile {
        Profile {
            loss: Loss::Ramps {
                peak: 0.40,
                burst: 4.0,
                period_s: 3_600.0,
            },
            ..Profile::internet()
        }
    }

    /// Nothing arrives. Over both directions or over one.
    pub fn blackhole() -> Profile {
        Profile {
            loss: Loss::All,
            ..Profile::default()
        }
    }

    /// 80 ms more, 15 % loss in bursts of 4, 20 Mbit/s.
    pub fn brownout() -> Profile {
        Profile {
            extra_delay: Duration::from_millis(80),
            loss: Loss::GilbertElliott {
                mean: 0.15,
                burst: 4.0,
            },
            rate: Some(Rate {
                bits_per_s: 20_000_000,
                queue: Duration::from_millis(100),
            }),
            ..Profile::internet()
        }
    }

    /// `Err` names a value that cannot be.
    pub fn check(&self) -> Result<(), ProfileError> {
        let share = match self.jitter {
            Jitter::None => 0.0,
            Jitter::Uniform { share } => share,
            Jitter::Exponential { share_of_rtt } => share_of_rtt,
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(ProfileError::Value(format!(
                "the jitter's share is {share}; it must lie in 0 … 1"
            )));
        }
        if self.rate.is_some_and(|rate| rate.bits_per_s == 0) {
            return Err(ProfileError::Value(
                "rate.bits_per_s is 0; take the profile blackhole instead".to_owned(),
            ));
        }
        self.loss.check().map_err(ProfileError::Value)
    }
}

/// Durations as a number of milliseconds, so that a person can write them.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_secs_f64() * 1_000.0)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Duration, D::Error> {
        let ms = f64::deserialize(from)?;
        parse(ms).ok_or_else(|| D::Error::custom(format!("{ms} is no delay in milliseconds")))
    }

    /// At most an hour: beyond that it is a mistake of unit.
    pub fn parse(ms: f64) -> Option<Duration> {
        (0.0..=3_600_000.0)
            .contains(&ms)
            .then(|| Duration::from_secs_f64(ms / 1_000.0))
    }
}
