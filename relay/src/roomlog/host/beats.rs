//! Which edges with members in a group's rooms were heard of, by its leader's own clock. Pure.
//!
//! A time of the log would not do: it is some leader's wall clock, and another's may be ahead by
//! more than an edge may be silent. So a leader begins to listen when it begins to lead, and says
//! in the log whom it has not heard.

use std::{collections::HashMap, time::Duration};

use longspan_proto::{
    ids::{RoomName, SessionId},
    time::Time,
};

use super::super::machine::{Command, Machine};

/// An edge that is silent for longer has no members any more. Edges are heard every 2 s; with the
/// second between two looks and the time to commit, a dead one's members are gone within 10 s
/// (issue: presence).
const SILENCE: Duration = Duration::from_secs(6);

/// How often many members are counted, at most.
const COUNT: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Beats {
    heard: HashMap<(RoomName, SessionId), Time>,
    counted: Time,
}

impl Beats {
    /// An edge's session in a room was heard.
    pub fn heard(&mut self, now: Time, room: RoomName, session: SessionId) {
        self.heard.insert((room, session), now);
    }

    /// What is to be put into the log now.
    pub fn due(&mut self, now: Time, machine: &Machine) -> Vec<Command> {
        let mut due = Vec::new();
        let mut alive = HashMap::new();
        let count = now.saturating_since(self.counted) >= COUNT;
        if count {
            self.counted = now;
        }
        for (name, room) in machine.rooms() {
            for (session, version) in room.edges() {
                let of = (name.clone(), session);
                let heard = self.heard.get(&of).copied().unwrap_or(now);
                if now.saturating_since(heard) >= SILENCE {
                    due.push(Command::Lapse {
                        room: name.clone(),
                        session,
                        version,
                    });
                }
                alive.insert(of, heard);
            }
            if count && room.is_count_stale() {
                due.push(Command::Count { room: name.clone() });
            }
        }
        self.heard = alive;
        due
    }
}

#[cfg(test)]
mod tests {
    use longspan_proto::{
        ids::{Room, Tenant},
        wire::roster::Roster,
    };

    use super::{
        super::super::{Limits, machine::Entry},
        *,
    };

    fn room() -> RoomName {
        RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("math").unwrap(),
        }
    }

    fn machine(counts: &[u64]) -> Machine {
        let mut machine = Machine::new(Limits::default());
        for (id, count) in (1..).zip(counts) {
            let roster = Roster {
                session: SessionId([id; 16]),
                version: 7,
                whole: *count < 500,
                count: *count,
                joins: *count,
                leaves: 0,
                names: (0..*count.min(&20)).map(|n| format!("m{n}")).collect(),
            };
            let command = Command::Roster {
                room: room(),
                roster,
            };
            machine.apply(Entry { at: 0, command });
        }
        machine
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn lapse(id: u8) -> Command {
        Command::Lapse {
            room: room(),
            session: SessionId([id; 16]),
            version: 7,
        }
    }

    #[test]
    fn whoever_is_silent_for_long_lapses_and_a_new_leader_listens_first() {
        let machine = machine(&[1, 2]);
        let mut beats = Beats::default();
        // Leads for long already when it looks for the first time.
        assert!(beats.due(at(100), &machine).is_empty());
        beats.heard(at(101), room(), SessionId([1; 16]));
        assert!(beats.due(at(105), &machine).is_empty());
        assert_eq!(beats.due(at(106), &machine), [lapse(2)]);
        // Not committed yet: asked again.
        assert_eq!(beats.due(at(107), &machine), [lapse(1), lapse(2)]);
    }

    #[test]
    fn sessions_that_are_gone_are_forgotten() {
        let mut beats = Beats::default();
        for id in 0..100 {
            beats.heard(at(1), room(), SessionId([id; 16]));
        }
        beats.due(at(1), &machine(&[1]));
        assert_eq!(beats.heard.len(), 1);
    }

    #[test]
    fn many_are_counted_every_other_second_and_only_if_something_changed() {
        let mut machine = machine(&[600, 10]);
        let mut beats = Beats::default();
        let command = Command::Count { room: room() };
        let mut counts = 0;
        for second in 10..20 {
            for id in [1, 2] {
                beats.heard(at(second), room(), SessionId([id; 16]));
            }
            for due in beats.due(at(second), &machine) {
                assert_eq!(due, command);
                let entry = Entry {
                    at: second * 1_000,
                    command: due,
                };
                assert_eq!(machine.apply(entry).published.len(), 1);
                counts += 1;
            }
        }
        assert_eq!(counts, 1, "the second edge's ten are told once");
    }
}
