//! What one connection's probes tell of its link.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use longspan_proto::{
    ids::BootId,
    time::Time,
    wire::{
        self,
        probe::{Echo, Key, Probe},
    },
};
use longspan_topology::{
    estimator::{Detector, Estimator, Life},
    graph::Metrics,
};

/// Silence that, with fifteen unanswered probes, means the link is down; suspicion comes at a
/// quarter of it.
const SILENCE: Duration = Duration::from_secs(2);

/// What ages are measured against (WIRE.md, "Clocks").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// The smallest clock difference of the recent probes, in µs.
    pub raw_us: i64,
    /// The smoothed round trip, in µs.
    pub rtt_us: u64,
}

/// What is known now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub life: Life,
    /// `None` before the first round trip.
    pub metrics: Option<Metrics>,
}

struct State {
    estimator: Estimator,
    detector: Detector,
    baseline: Option<Baseline>,
    /// Numbers the probes sent.
    seq: u32,
    /// The newest probe heard, and when.
    newest: Option<(u32, Time, Time)>,
    heard: u32,
    /// The last own probe whose echo was taken.
    echoed: Option<u32>,
    /// Packets of the session received, when last asked.
    packets: u64,
}

/// See the [module](self).
pub(crate) struct Link {
    key: Key,
    me: BootId,
    peer: BootId,
    state: Mutex<State>,
}

impl Link {
    pub fn new(key: Key, me: BootId, peer: BootId, now: Time) -> Link {
        Link {
            key,
            me,
            peer,
            state: Mutex::new(State {
                estimator: Estimator::default(),
                detector: Detector::new(now),
                baseline: None,
                seq: 0,
                newest: None,
                heard: 0,
                echoed: None,
                packets: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next probe to send.
    pub fn probe(&self, now: Time) -> Bytes {
        let mut state = self.lock();
        let probe = Probe {
            boot: self.me,
            seq: state.seq,
            sent: now,
            echo: state.newest.map(|(seq, sent, arrived)| Echo {
                seq,
                sent,
                held_us: now
                    .saturating_since(arrived)
                    .as_micros()
                    .try_into()
                    .unwrap_or(u32::MAX),
            }),
            heard: state.heard,
        };
        state.seq = state.seq.wrapping_add(1);
        state.detector.probed();
        probe.encode(&self.key)
    }

    /// A datagram came from the peer's address.
    pub fn arrived(&self, now: Time, datagram: &[u8]) -> Result<(), wire::Error> {
        let probe = Probe::decode(datagram, &self.key)?;
        if probe.boot != self.peer {
            return Err(wire::Error::Forged {
                what: "probe's boot id",
            });
        }
        let mut state = self.lock();
        state.detector.heard(now);
        state.heard = state.heard.wrapping_add(1);
        let newer = state
            .newest
            .is_none_or(|(seq, ..)| probe.seq.wrapping_sub(seq).wrapping_sub(1) < u32::MAX / 2);
        if newer {
            state.newest = Some((probe.seq, probe.sent, now));
        }
        // The same echo again says nothing new.
        let echo = probe.echo.filter(|echo| state.echoed != Some(echo.seq));
        let rtt_us = echo.map(|echo| {
            state.echoed = Some(echo.seq);
            let held = Duration::from_micros(echo.held_us.into());
            let away = now.saturating_since(echo.sent).saturating_sub(held);
            away.as_micros() as u64
        });
        let raw_us = now.as_micros() as i64 - probe.sent.as_micros() as i64;
        state.estimator.arrived(probe.seq, raw_us, rtt_us);
        if let (Some(raw_us), Some(rtt_us)) = (state.estimator.floor_us(), state.estimator.rtt_us())
        {
            state.baseline = Some(Baseline { raw_us, rtt_us });
        }
        Ok(())
    }

    /// The session has received so many packets: if more than before, the link lives.
    pub fn packets(&self, now: Time, packets: u64) {
        let mut state = self.lock();
        if packets != state.packets {
            state.packets = packets;
            state.detector.heard(now);
        }
    }

    /// `None` before the first round trip.
    pub fn baseline(&self) -> Option<Baseline> {
        self.lock().baseline
    }

    pub fn measured(&self, now: Time) -> Measured {
        let state = self.lock();
        Measured {
            life: state.detector.life(now, SILENCE),
            metrics: state.estimator.metrics(),
        }
    }
}

#[cfg(test)]
mod tests {
    use longspan_topology::estimator::DOWN_PROBES;

    use super::*;

    const A: BootId = BootId(1);
    const B: BootId = BootId(2);

    fn pair() -> (Link, Link) {
        let key = || Key::new(&[9; 32]);
        (
            Link::new(key(), A, B, Time::ZERO),
            Link::new(key(), B, A, Time::ZERO),
        )
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn a_round_trip_is_measured_without_what_the_other_side_held() {
        let (a, b) = pair();
        // b's clock is an hour ahead; 30 ms there, 50 ms back, 400 ms held.
        let hour = 3_600_000;
        let probe = a.probe(at(1_000));
        b.arrived(at(hour + 1_030), &probe).unwrap();
        let back = b.probe(at(hour + 1_430));
        a.arrived(at(1_480), &back).unwrap();
        let base = a.baseline().unwrap();
        assert_eq!(base.rtt_us, 80_000);
        assert_eq!(base.raw_us, 50_000 - hour as i64 * 1_000);
    }

    #[test]
    fn a_forged_or_foreign_probe_is_refused() {
        let (a, b) = pair();
        let mut probe = b.probe(at(1)).to_vec();
        probe[12] ^= 1;
        assert!(a.arrived(at(2), &probe).is_err());
        let own = a.probe(at(1));
        assert!(a.arrived(at(2), &own).is_err(), "reflected");
    }

    #[test]
    fn silence_alone_or_probes_alone_are_no_verdict() {
        let (a, b) = pair();
        for _ in 0..DOWN_PROBES {
            a.probe(at(0));
        }
        assert_eq!(a.measured(at(1_999)).life, Life::Suspect);
        assert_eq!(a.measured(at(2_000)).life, Life::Down);
        a.arrived(at(2_001), &b.probe(at(0))).unwrap();
        assert_eq!(a.measured(at(9_000)).life, Life::Up);
    }

    #[test]
    fn any_packet_counts_as_life() {
        let (a, _) = pair();
        for _ in 0..DOWN_PROBES {
            a.probe(at(0));
        }
        a.packets(at(2_500), 7);
        assert_eq!(a.measured(at(2_600)).life, Life::Up);
    }
}
