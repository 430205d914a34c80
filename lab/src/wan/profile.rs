//! Named kinds of links (see `lab/data/README.md` for the figures' sources).

use std::str::FromStr;

use super::{Jitter, Loss, Model};

/// A kind of link, laid over a one-way delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// The delay ± 2 %, nothing lost, no rate.
    Clean,
    /// Exponential jitter with a mean of 2 % of the round trip, 0.3 % lost in bursts of 4,
    /// 200 Mbit/s with a queue of 100 ms.
    Internet,
    /// As `internet` with 15 % lost: only for directions into China.
    ChinaInbound,
    /// Everything is lost.
    Blackhole,
    /// 80 ms more, 15 % lost in bursts of 4, 20 Mbit/s.
    Brownout,
}

/// A profile that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {0}; known are clean, internet, china-inbound, blackhole, brownout")]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;
    fn from_str(s: &str) -> Result<Profile, UnknownProfile> {
        Ok(match s {
            "clean" => Profile::Clean,
            "internet" => Profile::Internet,
            "china-inbound" => Profile::ChinaInbound,
            "blackhole" => Profile::Blackhole,
            "brownout" => Profile::Brownout,
            _ => return Err(UnknownProfile(s.to_owned())),
        })
    }
}

impl Profile {
    /// The model of one direction with this one-way delay.
    pub fn model(self, delay_ms: f64) -> Model {
        let internet = Model {
            delay_ms,
            jitter: Jitter::ExponentialMs(0.02 * 2.0 * delay_ms),
            loss: Loss::Bursts {
                mean: 0.003,
                length: 4.0,
            },
            rate_mbit: Some(200.0),
            queue_ms: 100.0,
            reorders: false,
        };
        match self {
            Profile::Clean => Model {
                jitter: Jitter::Uniform(0.02),
                loss: Loss::Bernoulli(0.0),
                rate_mbit: None,
                ..internet
            },
            Profile::Internet => internet,
            Profile::ChinaInbound => Model {
                loss: Loss::Bursts {
                    mean: 0.15,
                    length: 4.0,
                },
                ..internet
            },
            Profile::Blackhole => Model {
                loss: Loss::Bernoulli(1.0),
                ..internet
            },
            Profile::Brownout => Model {
                delay_ms: delay_ms + 80.0,
                loss: Loss::Bursts {
                    mean: 0.15,
                    length: 4.0,
                },
                rate_mbit: Some(20.0),
                ..internet
            },
        }
    }
}
