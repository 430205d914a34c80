//! What operators want kept of rooms' orders, and bringing it into a group's log
//! (docs/decisions/room-policy.md). Pure.
//!
//! A controller says what is wished; what holds stands in the machine. Whoever leads compares the two at
//! each look, and proposes what differs. So there is nothing to hand over to the next leader, and a word
//! that is lost is said again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use longspan_proto::{ids::RoomName, time::Time};

use super::{
    Retention,
    machine::{Command, Machine, Whereabouts},
};

/// A proposal that changed nothing is made again after this: it was lost with a leader, or too much
/// waited.
const AGAIN: Duration = Duration::from_secs(1);
/// Proposals of one look; the rest waits for the next, a second later: a leader that hears of all
/// policies at once goes on with messages in between.
const AT_ONCE: usize = 64;

/// What is wished for a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Rises from one wish for a room to the next.
    pub word: u64,
    /// So much, as far as the group's limits allow.
    pub keep: Retention,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Policies {
    wishes: BTreeMap<RoomName, Policy>,
    /// What was proposed last, and when.
    asked: BTreeMap<RoomName, (Retention, Time)>,
}

impl Policies {
    /// What a controller wishes for the group's rooms: all of them. For a room of which a later wish
    /// is known, that one stands: whoever says otherwise leads no more, and does not know it.
    pub fn wish(&mut self, told: Vec<(RoomName, Policy)>) {
        let before = std::mem::take(&mut self.wishes);
        for (room, policy) in told {
            let known = before.get(&room);
            let known = known.filter(|known| known.word > policy.word);
            self.wishes.insert(room, known.copied().unwrap_or(policy));
        }
    }

    /// What is to be put into the log now. `leads`: this member leads, and its machine has all that
    /// leaders before it committed.
    pub fn due(&mut self, now: Time, machine: &Machine, leads: bool) -> Vec<Command> {
        let mut due = Vec::new();
        let mut differ = BTreeSet::new();
        for (room, policy) in self.wishes.iter().filter(|_| leads) {
            // A room that nobody has said anything in is not made for this.
            let Whereabouts::Here = machine.whereabouts(room) else {
                continue;
            };
            let wanted = machine.bounded(policy.keep);
            if machine.room(room).map(|room| room.retention()) == Some(wanted) {
                continue;
            }
            differ.insert(room.clone());
            let asked = self.asked.get(room);
            let waits = asked.is_some_and(|(retention, at)| {
                *retention == wanted && now.saturating_since(*at) < AGAIN
            });
            if waits || due.len() >= AT_ONCE {
                continue;
            }
            self.asked.insert(room.clone(), (wanted, now));
            due.push(Command::Retain {
                room: room.clone(),
                retention: wanted,
            });
        }
        self.asked.retain(|room, _| differ.contains(room));
        due
    }

    /// What holds of each room for which something is wished; none: it is not here.
    pub fn standing(&self, machine: &Machine) -> Vec<(RoomName, Option<Retention>)> {
        let standing = |room: &RoomName| {
            let here = machine.room(room);
            (room.clone(), here.map(|room| room.retention()))
        };
        self.wishes.keys().map(standing).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use longspan_proto::{
        ids::{Room, SessionId, Tenant},
        wire::{
            envelope::{Class, Envelope},
            moving::{LogId, Moved},
        },
    };

    use super::{
        super::{Limits, machine::Entry},
        *,
    };

    fn room(name: &str) -> RoomName {
        RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new(name).unwrap(),
        }
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn apply(machine: &mut Machine, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            machine.apply(Entry { at: 0, command });
        }
    }

    /// Message `n` of the one who talks in each room.
    fn message(name: &str, n: u64) -> Command {
        Command::Publish(Envelope {
            room: room(name),
            session: SessionId([1; 16]),
            n,
            class: Class::Log,
            topic: "t".into(),
            key: None,
            expected: None,
            revision: 0,
            from: "m".into(),
            recipient: None,
            at: 0,
            seq: 0,
            body: Bytes::new(),
        })
    }

    /// Two members that applied the same: twenty messages in `math`.
    fn members() -> [Machine; 2] {
        [(); 2].map(|()| {
            let mut machine = Machine::new(Limits::default());
            apply(&mut machine, (1..=20).map(|n| message("math", n)));
            machine
        })
    }

    fn keep(messages: usize) -> Retention {
        Retention {
            messages,
            ..Retention::ALL
        }
    }

    fn wish(name: &str, word: u64, messages: usize) -> (RoomName, Policy) {
        let keep = keep(messages);
        (room(name), Policy { word, keep })
    }

    fn held(machine: &Machine) -> usize {
        let room = machine.room(&room("math")).unwrap();
        room.snapshot().history.len()
    }

    #[test]
    fn a_wish_is_proposed_once_and_clamped_to_what_the_group_allows() {
        let [mut machine, _] = members();
        let mut policies = Policies::default();
        assert!(policies.due(at(0), &machine, true).is_empty());
        policies.wish(vec![wish("math", 1, 10)]);
        let due = policies.due(at(0), &machine, true);
        let most = machine.most();
        let wanted = Retention {
            messages: 10,
            ..most
        };
        let retain = vec![Command::Retain {
            room: room("math"),
            retention: wanted,
        }];
        assert_eq!(due, retain);
        // On its way.
        assert!(policies.due(at(999), &machine, true).is_empty());
        assert_eq!(policies.due(at(1_000), &machine, true), retain);
        // Another wish does not wait for it.
        policies.wish(vec![wish("math", 2, 5)]);
        assert_eq!(policies.due(at(1_001), &machine, true).len(), 1);
        policies.wish(vec![wish("math", 3, 10)]);
        assert_eq!(policies.due(at(1_002), &machine, true), retain);
        apply(&mut machine, retain);
        assert_eq!(held(&machine), 10);
        assert!(
            policies.due(at(9_000), &machine, true).is_empty(),
            "it holds"
        );
        assert_eq!(policies.standing(&machine), [(room("math"), Some(wanted))]);

        // More than there is: the most there is, and nothing more to be said.
        policies.wish(vec![wish("math", 4, 1 << 40)]);
        let due = policies.due(at(9_001), &machine, true);
        apply(&mut machine, due);
        assert_eq!(
            policies.standing(&machine),
            [(room("math"), Some(most))],
            "the limit"
        );
        assert!(policies.due(at(99_000), &machine, true).is_empty());
    }

    #[test]
    fn the_next_leader_proposes_what_was_lost_with_the_one_before() {
        let [a, mut b] = members();
        let mut policies = [Policies::default(), Policies::default()];
        for policies in &mut policies {
            policies.wish(vec![wish("math", 1, 10)]);
        }
        let [of_a, of_b] = &mut policies;
        assert_eq!(of_a.due(at(0), &a, true).len(), 1, "it is lost");
        assert!(of_b.due(at(0), &b, false).is_empty(), "it does not lead");
        let due = of_b.due(at(1), &b, true);
        assert_eq!(due.len(), 1);
        apply(&mut b, due);
        assert_eq!(held(&b), 10);
        // Back in the lead, with the log of the other.
        assert!(of_a.due(at(2), &b, true).is_empty());
        // One that was told nothing yet changes nothing.
        assert!(Policies::default().due(at(3), &b, true).is_empty());
    }

    #[test]
    fn a_wish_withdrawn_before_it_was_proposed_changes_nothing() {
        let [mut machine, _] = members();
        let mut policies = Policies::default();
        policies.wish(vec![wish("math", 1, 10)]);
        // Back to all there is; then no wish any more.
        policies.wish(vec![(
            room("math"),
            Policy {
                word: 2,
                keep: Retention::ALL,
            },
        )]);
        assert!(policies.due(at(0), &machine, true).is_empty());
        policies.wish(vec![wish("math", 3, 10)]);
        let due = policies.due(at(1), &machine, true);
        policies.wish(Vec::new());
        // What is not named stays.
        apply(&mut machine, due);
        assert!(policies.due(at(9_000), &machine, true).is_empty());
        assert_eq!(held(&machine), 10);
        assert!(policies.standing(&machine).is_empty());
    }

    #[test]
    fn whoever_leads_no_more_and_does_not_know_it_takes_no_wish_back() {
        let [mut machine, _] = members();
        let mut policies = Policies::default();
        policies.wish(vec![wish("math", 7, 5)]);
        // The same relay hears a controller that was deposed.
        policies.wish(vec![wish("math", 6, 10), wish("art", 6, 10)]);
        let due = policies.due(at(0), &machine, true);
        apply(&mut machine, due);
        assert_eq!(held(&machine), 5);
        policies.wish(vec![wish("math", 8, 10)]);
        assert_eq!(policies.due(at(1), &machine, true).len(), 1);
    }

    #[test]
    fn a_room_that_is_not_here_is_not_made_for_a_wish() {
        let [mut machine, _] = members();
        let mut policies = Policies::default();
        policies.wish(vec![wish("art", 1, 10)]);
        assert!(policies.due(at(0), &machine, true).is_empty());
        assert_eq!(policies.standing(&machine), [(room("art"), None)]);
        apply(&mut machine, [message("art", 1)]);
        let due = policies.due(at(1), &machine, true);
        assert_eq!(due.len(), 1, "it opened");
        apply(&mut machine, due);

        // About to leave: the group it comes to is told too.
        policies.wish(vec![wish("math", 2, 10)]);
        let to = Moved {
            word: 1,
            group: 2,
            nodes: vec!["relay-9".parse().unwrap()],
        };
        let close = Command::Close {
            room: room("math"),
            to,
            log: LogId { group: 1, era: 1 },
        };
        apply(&mut machine, [close]);
        assert!(policies.due(at(2), &machine, true).is_empty());
    }

    #[test]
    fn many_are_proposed_a_few_at_a_time() {
        let mut machine = Machine::new(Limits::default());
        let names: Vec<String> = (0..200).map(|n| format!("room-{n}")).collect();
        apply(&mut machine, names.iter().map(|name| message(name, 1)));
        let mut policies = Policies::default();
        policies.wish(names.iter().map(|name| wish(name, 1, 10)).collect());
        let mut looks = Vec::new();
        for second in 0..5 {
            let due = policies.due(at(second * 500), &machine, true);
            looks.push(due.len());
            apply(&mut machine, due);
        }
        assert_eq!(looks, [AT_ONCE, AT_ONCE, AT_ONCE, 200 - 3 * AT_ONCE, 0]);
    }
}
