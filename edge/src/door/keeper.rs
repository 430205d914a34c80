//! When the door is open, closes, and is shut. Pure: told what the directory says, and the time.

use std::time::Duration;

use longspan_proto::time::Time;

/// Who may come and who may stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Door {
    /// Whoever may comes in.
    #[default]
    Open,
    /// An operator drains the edge: nobody new; those who are here are to go, and have time.
    Draining,
    /// The time is over: only publishers stay.
    Over,
    /// The edge stops: nobody new, and soon nobody at all.
    Stopping,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Keeper {
    /// Until when those who are here may stay, while an operator drains the edge.
    until: Option<Time>,
    is_over: bool,
    stops: bool,
}

impl Keeper {
    /// The directory says this of the edge: none, or how long those who are here may stay.
    pub fn told(&mut self, now: Time, left: Option<Duration>) {
        self.until = left.map(|left| now + left);
        self.handle_timeout(now);
    }

    /// The edge stops.
    pub fn stop(&mut self) {
        self.stops = true;
    }

    /// Who may come and stay now.
    pub fn door(&self) -> Door {
        match self.until {
            _ if self.stops => Door::Stopping,
            None => Door::Open,
            Some(_) if self.is_over => Door::Over,
            Some(_) => Door::Draining,
        }
    }

    /// When [`Keeper::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.until.filter(|_| !self.is_over && !self.stops)
    }

    /// Looks at the clock.
    pub fn handle_timeout(&mut self, now: Time) {
        self.is_over = self.until.is_some_and(|until| until <= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn left(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_drain_gives_time_and_ends_it_and_is_taken_back() {
        let mut keeper = Keeper::default();
        keeper.told(at(1), None);
        assert_eq!((keeper.door(), keeper.poll_timeout()), (Door::Open, None));
        keeper.told(at(2), left(60));
        assert_eq!(keeper.door(), Door::Draining);
        assert_eq!(keeper.poll_timeout(), Some(at(62)));
        // The directory is told again, for other reasons.
        keeper.told(at(32), left(30));
        assert_eq!(keeper.poll_timeout(), Some(at(62)));
        keeper.handle_timeout(at(61));
        assert_eq!(keeper.door(), Door::Draining);
        keeper.handle_timeout(at(62));
        assert_eq!((keeper.door(), keeper.poll_timeout()), (Door::Over, None));
        keeper.told(at(70), left(0));
        assert_eq!(keeper.door(), Door::Over);
        keeper.told(at(71), None);
        assert_eq!(keeper.door(), Door::Open);
    }

    #[test]
    fn another_deadline_counts_from_when_it_is_told() {
        let mut keeper = Keeper::default();
        keeper.told(at(0), left(10));
        keeper.told(at(5), left(100));
        keeper.handle_timeout(at(10));
        assert_eq!(keeper.door(), Door::Draining);
        keeper.told(at(11), left(0));
        assert_eq!(keeper.door(), Door::Over);
        // More time after all: who is left may stay.
        keeper.told(at(12), left(10));
        assert_eq!(keeper.door(), Door::Draining);
    }

    #[test]
    fn an_edge_that_stops_is_not_opened_again() {
        let mut keeper = Keeper::default();
        keeper.told(at(0), left(10));
        keeper.stop();
        assert_eq!(keeper.door(), Door::Stopping);
        keeper.told(at(1), None);
        keeper.handle_timeout(at(20));
        assert_eq!(keeper.door(), Door::Stopping);
        assert_eq!(keeper.poll_timeout(), None);
    }
}
