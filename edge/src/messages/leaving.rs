//! Where members are sent when they are to go, and how long they are given for it. Pure.

use std::time::Duration;

/// What a member more adds to the deadline: edges take a thousand joins a second.
const PER_MEMBER: Duration = Duration::from_millis(1);
/// The longest deadline, whatever the number of members: what runs an edge does not wait for ever.
const LONGEST: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// Members are told to go elsewhere.
    Told {
        /// How long they have.
        deadline: Duration,
        /// URLs of other edges, the nearest first; none if none is known.
        alternatives: Vec<String>,
    },
    /// Whoever is still here is closed.
    Over,
}

impl Leaving {
    /// For an edge with so many members, who are given `least`, or `least` and what so many need to
    /// be taken elsewhere, but never more than `most`.
    pub fn told(
        alternatives: Vec<String>,
        members: usize,
        least: Duration,
        most: Duration,
    ) -> Leaving {
        let more = PER_MEMBER.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX));
        // Who is given no time at all is given none.
        let deadline = match least.is_zero() {
            true => Duration::ZERO,
            false => (least + more).min(LONGEST.max(least)).min(most),
        };
        Leaving::Told {
            deadline,
            alternatives,
        }
    }

    /// How long members have.
    pub fn deadline(&self) -> Duration {
        match self {
            Leaving::Told { deadline, .. } => *deadline,
            Leaving::Over => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_members_are_given_longer_but_never_more_than_there_is() {
        let seconds = Duration::from_secs;
        let within = |members, least, most| {
            let leaving = Leaving::told(Vec::new(), members, seconds(least), most);
            leaving.deadline().as_millis()
        };
        let deadline = |members, least| within(members, least, Duration::MAX);
        assert_eq!(deadline(0, 5), 5_000);
        assert_eq!(deadline(2_000, 5), 7_000);
        assert_eq!(deadline(1_000_000, 5), 30_000);
        assert_eq!(deadline(1_000_000, 60), 60_000);
        assert_eq!(deadline(2_000, 0), 0);
        assert_eq!(within(2_000, 5, seconds(6)), 6_000);
        assert_eq!(within(2_000, 5, seconds(1)), 1_000);
    }
}
