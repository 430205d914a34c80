//! The clocks the pure parts are told.

use std::time::{SystemTime, UNIX_EPOCH};

use longspan_proto::time::Time;
use tokio::time::Instant;

/// This process's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// One that begins now.
    pub(crate) fn new() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time::from_micros(self.0.elapsed().as_micros() as u64)
    }

    /// When it will be `time`.
    pub(crate) fn instant(self, time: Time) -> Instant {
        self.0 + time.saturating_since(Time::ZERO)
    }
}

/// The wall clock in µs since the Unix epoch; 0 before it.
pub(crate) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// The wall clock in seconds since the Unix epoch.
pub(crate) fn wall_seconds() -> u64 {
    wall_micros() / 1_000_000
}
