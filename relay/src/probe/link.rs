//! One connection's prober behind a lock, with its key.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use longspan_proto::{
    ids::BootId,
    time::Time,
    wire::{
        self,
        probe::{Key, Probe},
    },
};
use longspan_topology::{
    cost,
    graph::Metrics,
    link::{Baseline, Cadence, Event, Input, Life, Prober, drift::Drift},
};
use tokio::sync::{Notify, watch};

/// What is known now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub life: Life,
    /// `None` before the first round trip.
    pub metrics: Option<Metrics>,
}

struct State {
    prober: Prober,
    drift: Drift,
}

/// See the [module](self).
pub(crate) struct Link {
    key: Key,
    state: Mutex<State>,
    /// Something is due earlier than was said, or happened.
    news: Notify,
    life: watch::Sender<Life>,
}

impl Link {
    pub fn new(key: Key, me: BootId, peer: BootId, now: Time) -> Link {
        Link {
            key,
            state: Mutex::new(State {
                prober: Prober::new(now, me, peer, Cadence::default()),
                drift: Drift::default(),
            }),
            news: Notify::new(),
            life: watch::Sender::new(Life::Up),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A datagram came from the peer's address.
    pub fn arrived(&self, now: Time, datagram: &[u8]) -> Result<(), wire::Error> {
        let probe = Probe::decode(datagram, &self.key)?;
        let what = "probe's boot id";
        self.handle(now, Input::Probe(probe))
            .map_err(|_| wire::Error::Forged { what })
    }

    /// Something else happened to the link.
    pub fn feed(&self, now: Time, input: Input) {
        // Only probes can be foreign.
        let _ = self.handle(now, input);
    }

    fn handle(&self, now: Time, input: Input) -> Result<(), longspan_topology::link::Foreign> {
        let mut state = self.lock();
        let before = (state.prober.poll_timeout(), state.prober.life());
        let done = state.prober.handle(now, input);
        let after = (state.prober.poll_timeout(), state.prober.life());
        drop(state);
        if after.1 != before.1 || after.0 < before.0 {
            self.news.notify_one();
        }
        done
    }

    /// Does what is due; when to be called next.
    pub fn timeout(&self, now: Time) {
        self.lock().prober.handle_timeout(now);
    }

    /// When [`Link::timeout`] is due.
    pub fn due(&self) -> Option<Time> {
        self.lock().prober.poll_timeout()
    }

    /// Waits until something may be due earlier.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The driver should look again.
    pub fn wake(&self) {
        self.news.notify_one();
    }

    /// The next probe to send.
    pub fn probe(&self, now: Time) -> Option<Bytes> {
        let probe = self.lock().prober.poll_probe(now)?;
        Some(probe.encode(&self.key))
    }

    /// What changed; whoever watches the life is told.
    pub fn event(&self) -> Option<Event> {
        let mut state = self.lock();
        let event = state.prober.poll_event()?;
        self.life.send_replace(state.prober.life());
        Some(event)
    }

    /// The link's life, and its changes.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    pub fn is_down(&self) -> bool {
        *self.life.borrow() == Life::Down
    }

    /// Waits until the link is down.
    pub async fn down(&self) {
        is_down(self.life()).await;
    }

    /// `None` before the first round trip.
    pub fn baseline(&self) -> Option<Baseline> {
        self.lock().prober.baseline()
    }

    pub fn measured(&self) -> Measured {
        let state = self.lock();
        Measured {
            life: state.prober.life(),
            metrics: state.prober.metrics(),
        }
    }

    /// A route table arrived.
    pub fn told(&self, now: Time) {
        self.lock().drift.told(now);
    }

    /// By how much the link costs more than the table knows, in µs.
    pub fn extra_us(&self, now: Time) -> u64 {
        let mut state = self.lock();
        let metrics = state.prober.metrics();
        let cost = metrics.map(|metrics| cost::terms(&metrics).total());
        state.drift.costs(now, cost);
        state.drift.extra_us()
    }
}

/// Waits until a link is down; forever, if it never is.
async fn is_down(mut life: watch::Receiver<Life>) {
    if life.wait_for(|life| *life == Life::Down).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
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
        let probe = a.probe(at(0)).unwrap();
        b.arrived(at(30), &probe).unwrap();
        let back = b.probe(at(50)).unwrap();
        a.arrived(at(80), &back).unwrap();
        assert_eq!(a.baseline().unwrap().rtt_us, 60_000);
    }

    #[test]
    fn a_forged_or_foreign_probe_is_refused() {
        let (a, b) = pair();
        let mut probe = b.probe(at(1)).unwrap().to_vec();
        probe[12] ^= 1;
        assert!(a.arrived(at(2), &probe).is_err());
        let own = a.probe(at(1)).unwrap();
        assert!(a.arrived(at(2), &own).is_err(), "reflected");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_is_told() {
        let (a, _) = pair();
        for ms in (0..3_000).step_by(5) {
            a.timeout(at(ms));
            while a.probe(at(ms)).is_some() {}
            while a.event().is_some() {}
        }
        assert!(a.is_down());
        a.down().await;
    }
}
