//! When a room's members are fed what is new: at once while that is seldom, in batches where it would
//! cost too much. Pure.

use std::time::Duration;

use longspan_proto::time::Time;

/// Members fed a second in one room at one edge, in the long run: at about 10 µs for each write a
/// quarter of a core, and of a large room a twentieth. In between it falls with the square of the
/// room's size, which is what everybody talking to everybody costs.
const FED: u64 = 25_000;
const FED_IN_LARGE: u64 = 5_000;

/// Times in a row that nobody waits for, as many intervals as that were silent before.
const BURST: u32 = 5;

const NANOS: u64 = 1_000_000_000;

/// The longest wait: in a room where people talk to each other, and in a large one.
const INTERACTIVE: Duration = Duration::from_millis(50);
const LARGE: Duration = Duration::from_millis(200);

/// In a room of more members than this nobody notices.
pub const LARGE_ROOM: u64 = 1_000;

/// See the [module](self): a rate with a burst, as `rate`, that says when.
#[derive(Debug, Default)]
pub struct Pace {
    due: Time,
}

impl Pace {
    /// When `here` members are to be woken for what is new now, of a room of `room`; counts it.
    pub fn wake(&mut self, now: Time, here: usize, room: u64) -> Time {
        let longest = match room > LARGE_ROOM {
            true => LARGE,
            false => INTERACTIVE,
        };
        let interval = Duration::from_nanos(NANOS / fed(room))
            .saturating_mul(u32::try_from(here).unwrap_or(u32::MAX))
            .min(longest);
        let burst = interval * (BURST - 1);
        // What was counted while the room was larger makes nobody wait longer than now is right.
        let at = now.max(self.due - burst).min(now + longest);
        self.due = self.due.min(at + burst).max(at) + interval;
        at
    }
}

/// Members fed a second in a room of so many.
fn fed(room: u64) -> u64 {
    let over = room.clamp(LARGE_ROOM, 10 * LARGE_ROOM);
    (FED * LARGE_ROOM * LARGE_ROOM / (over * over)).max(FED_IN_LARGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn what_is_seldom_is_told_at_once() {
        // Twenty a second to 500 members, two at a time.
        let mut pace = Pace::default();
        for n in 0..200 {
            let now = at(n / 2 * 100);
            assert_eq!(pace.wake(now, 500, 1_000), now);
        }
    }

    #[test]
    fn what_comes_all_the_time_is_told_in_batches() {
        let wakes = |here, room| {
            let (mut pace, mut now, mut wakes) = (Pace::default(), at(0), 0);
            while now < at(10_000) {
                now = pace.wake(now, here, room);
                wakes += 1;
            }
            wakes
        };
        assert_eq!(wakes(500, 500), 10 * 50 + 5, "25,000 members fed a second");
        assert_eq!(wakes(5_000, 1_000), 10 * 20 + 5, "every 50 ms");
        assert_eq!(wakes(5_000, 1_001), 10 * 5 + 5, "every 200 ms");
        assert_eq!(wakes(100, 5_000), 10 * 50 + 5, "a few of a large room");
        // One more member turns nothing over.
        assert_eq!(wakes(500, 1_000), wakes(500, 1_001));
        assert_eq!(
            wakes(500, 2_000),
            10 * 12 + 10,
            "6,250 members fed a second"
        );
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_the_longest(news in prop::collection::vec((0u64..300, 0usize..20_000, 0u64..20_000), 1..200)) {
            let (mut pace, mut now) = (Pace::default(), at(5_000));
            for (later, here, room) in news {
                now = now + Duration::from_millis(later);
                let told = pace.wake(now, here, room);
                let longest = if room > LARGE_ROOM { LARGE } else { INTERACTIVE };
                prop_assert!(told >= now);
                prop_assert!(told.saturating_since(now) <= longest);
                now = told;
            }
        }
    }
}
