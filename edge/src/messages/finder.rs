//! Which member of a placement group is asked next for its leader. Pure.

use std::time::Duration;

use longspan_proto::{ids::NodeId, time::Time};

/// A leader that was lost is not taken for one on a fellow's word for so long: the fellow has not
/// noticed yet. The shortest election takes about as long.
const MOURNED: Duration = Duration::from_millis(500);

/// Pauses once every member was asked: the first, and the longest. Doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub struct Finder {
    /// Whom a member named.
    named: Option<NodeId>,
    /// Asked last.
    asked: Option<NodeId>,
    /// Asked since the last pause.
    tries: usize,
    pause: Duration,
    /// Led until then, and does not answer.
    lost: Option<(NodeId, Time)>,
}

impl Default for Finder {
    fn default() -> Finder {
        Finder {
            named: None,
            asked: None,
            tries: 0,
            pause: FIRST_PAUSE,
            lost: None,
        }
    }
}

impl Finder {
    /// Whom to ask next: whom a member named, else the one after the last, the likely leader first.
    /// None: there are no members.
    pub fn next(&mut self, members: &[NodeId]) -> Option<NodeId> {
        let after = || {
            let last = self.asked.as_ref()?;
            members.iter().position(|node| node == last)
        };
        let next = match self.named.take() {
            Some(named) => named,
            None => {
                let at = after().map_or(0, |at| at + 1);
                members.get(at % members.len().max(1))?.clone()
            }
        };
        self.tries += 1;
        self.asked = Some(next.clone());
        Some(next)
    }

    /// It led for a while: what comes is another search.
    pub fn leads(&mut self) {
        self.tries = 0;
        self.pause = FIRST_PAUSE;
        self.lost = None;
    }

    /// It does not lead (any more); who does, if it says so.
    pub fn elsewhere(&mut self, now: Time, leader: Option<NodeId>) {
        let mourned = self
            .lost
            .as_ref()
            .filter(|(_, since)| now.saturating_since(*since) < MOURNED);
        self.named = leader.filter(|leader| {
            Some(leader) != self.asked.as_ref() && mourned.is_none_or(|(lost, _)| lost != leader)
        });
    }

    /// It does not answer, or knows of no leader; `led`: it did lead.
    pub fn fails(&mut self, now: Time, led: bool) {
        if led && let Some(asked) = &self.asked {
            self.lost = Some((asked.clone(), now));
        }
    }

    /// How long to wait before the next is asked, of so many members; to be drawn between half and
    /// the whole.
    pub fn pause(&mut self, members: usize) -> Option<Duration> {
        if self.tries < members.max(1) {
            return None;
        }
        self.tries = 0;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    fn next(finder: &mut Finder) -> String {
        let members = ["a", "b", "c"].map(id);
        finder.next(&members).unwrap().to_string()
    }

    #[test]
    fn the_likely_one_first_then_whom_it_names_then_the_others() {
        let mut finder = Finder::default();
        assert_eq!(finder.next(&[]), None);
        assert_eq!(next(&mut finder), "a");
        finder.elsewhere(at(0), Some(id("c")));
        assert_eq!(next(&mut finder), "c");
        finder.fails(at(0), false);
        assert_eq!(next(&mut finder), "a");
        assert_eq!(next(&mut finder), "b");
        // One that is no member by what is known here: it is to be believed.
        finder.elsewhere(at(0), Some(id("d")));
        assert_eq!(next(&mut finder), "d");
        assert_eq!(next(&mut finder), "a");
    }

    #[test]
    fn a_lost_leader_is_not_asked_again_on_a_fellow_s_word() {
        let mut finder = Finder::default();
        assert_eq!(next(&mut finder), "a");
        finder.leads();
        finder.fails(at(1_000), true);
        assert_eq!(next(&mut finder), "b");
        finder.elsewhere(at(1_010), Some(id("a")));
        assert_eq!(next(&mut finder), "c");
        finder.elsewhere(at(1_600), Some(id("a")));
        assert_eq!(next(&mut finder), "a");
    }

    #[test]
    fn it_pauses_once_all_were_asked_and_longer_each_time() {
        let mut finder = Finder::default();
        let mut pauses = Vec::new();
        for _ in 0..24 {
            next(&mut finder);
            pauses.extend(finder.pause(3).map(|pause| pause.as_millis()));
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        finder.leads();
        next(&mut finder);
        assert_eq!(finder.pause(3), None);
        next(&mut finder);
        next(&mut finder);
        assert_eq!(finder.pause(3), Some(FIRST_PAUSE));
    }
}
