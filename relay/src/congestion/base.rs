//! The link's own round trip: the least that was seen lately.

use std::time::Duration;

use longspan_proto::time::Time;

/// Half of how long a round trip is remembered. Longer than any reduction takes to drain a queue,
/// so that an empty link is seen in between.
const HALF: Duration = Duration::from_secs(10);

/// The least of the current half and of the one before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    since: Time,
    current: Option<Duration>,
    before: Option<Duration>,
}

impl Base {
    pub fn get(&self) -> Option<Duration> {
        self.before.into_iter().chain(self.current).min()
    }

    pub fn add(&mut self, now: Time, rtt: Duration) {
        if now.saturating_since(self.since) > HALF && self.current.is_some() {
            self.since = now;
            self.before = self.current.take();
        }
        self.current = Some(self.current.map_or(rtt, |least| least.min(rtt)));
    }

    /// The link has become another one.
    pub fn set(&mut self, now: Time, rtt: Duration) {
        *self = Base {
            since: now,
            current: Some(rtt),
            before: None,
        };
    }
}
