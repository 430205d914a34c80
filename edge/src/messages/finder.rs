//! Which member of a placement group is asked next for its leader. Pure.

use std::time::Duration;

use longspan_proto::{ids::NodeId, time::Time};

/// A leader that was lost is not taken for one on a fellow's word for so long: the fellow has not
/// noticed yet. The shortest election takes about as long.
const MOURNED: Duration = Duration::from_millis(500);

/// A leader that was lost is left out for so many rounds, unless a member names it: it would most
/// likely not answer, and that takes [`LEAD`](super::backbone) to be known, in which the others find
/// a new leader. The pauses of so many rounds are longer than a short election.
const LEFT_OUT: u32 = 6;

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
    /// How often all were asked since.
    rounds: u32,
}

impl Default for Finder {
    fn default() -> Finder {
        Finder {
            named: None,
            asked: None,
            tries: 0,
            pause: FIRST_PAUSE,
            lost: None,
            rounds: 0,
        }
    }
}

impl Finder {
    /// Whom to ask next: whom a member named, else the one after the last, the likely leader first.
    /// None: there are no members.
    pub fn next(&mut self, members: &[NodeId]) -> Option<NodeId> {
        let next = match self.named.take() {
            Some(named) => named,
            None => self.in_turn(members)?.clone(),
        };
        self.tries += 1;
        self.asked = Some(next.clone());
        Some(next)
    }

    /// The one after the last, leaving out a leader that was just lost.
    fn in_turn<'a>(&self, members: &'a [NodeId]) -> Option<&'a NodeId> {
        let last = self.asked.as_ref();
        let last = last.and_then(|last| members.iter().position(|node| node == last));
        let first = last.map_or(0, |at| at + 1);
        let turns = members.iter().cycle().skip(first).take(members.len());
        let lost = self.lost.as_ref().filter(|_| self.rounds < LEFT_OUT);
        let is_left_out = |node: &&NodeId| lost.is_some_and(|(lost, _)| lost == *node);
        let others = turns.clone().find(|node| !is_left_out(node));
        others.or_else(|| turns.clone().next())
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
            self.rounds = 0;
        }
    }

    /// How long to wait before the next is asked, of so many members; to be drawn between half and
    /// the whole.
    pub fn pause(&mut self, members: usize) -> Option<Duration> {
        if self.tries < members.max(1) {
            return None;
        }
        self.tries = 0;
        self.rounds += 1;
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
    fn a_lost_leader_is_left_out_until_the_others_had_time_to_find_another() {
        let mut finder = Finder::default();
        assert_eq!(next(&mut finder), "a");
        finder.leads();
        finder.fails(at(0), true);
        let mut asked = String::new();
        for _ in 0..20 {
            asked += &next(&mut finder);
            finder.fails(at(0), false);
            if finder.pause(3).is_some() {
                asked += " ";
            }
        }
        assert_eq!(asked, "bcb cbc bcb cbc bcb cbc ab");
        // A member names it: it leads again.
        finder.fails(at(0), true);
        assert_eq!(next(&mut finder), "c");
        finder.elsewhere(at(1_000), Some(id("b")));
        assert_eq!(next(&mut finder), "b");
        // Nobody else is there.
        let mut alone = Finder::default();
        let members = [id("a")];
        assert_eq!(alone.next(&members), Some(id("a")));
        alone.fails(at(0), true);
        assert_eq!(alone.next(&members), Some(id("a")));
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
