//! What goes into a member and what comes out of it.

use longspan_proto::{
    ids::{Generation, RoomName},
    wire::{envelope::Envelope, room::Answer},
};

use super::{super::machine::Command, Packet, Persist};

/// A member of a group. Never given twice: a relay that lost its disk comes back as another one.
/// Not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(pub u64);

/// What a member is and belongs to.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which group it is.
    pub group: u64,
    /// Whose fencing numbers it gives: raised when a group is made anew.
    pub era: u16,
    /// Which member this is.
    pub me: Member,
    /// Spreads elections. Any number; members should have different ones.
    pub seed: u64,
    /// When the log is cut.
    pub cut: Cut,
}

/// When a log is cut: a snapshot of the machine takes the place of the entries before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Once it has grown by so many entries since it was cut last, or
    pub entries: u64,
    /// by so many bytes.
    pub bytes: usize,
    /// Entries before the cut that stay: a member that was away for a moment needs no snapshot.
    pub trail: u64,
}

impl Default for Cut {
    fn default() -> Cut {
        Cut {
            entries: 4_096,
            bytes: 8 << 20,
            trail: 1_024,
        }
    }
}

/// What happens to a member.
#[derive(Debug)]
pub enum Input {
    /// Another member says something.
    Packet(Packet),
    /// What was to be written up to this number is on the disk, synced.
    Persisted(u64),
    /// Put this into the log. Answered by [`Output::Done`].
    Propose {
        /// The asker's mark.
        token: u64,
        /// This.
        command: Command,
        /// The wall clock: ms since the Unix epoch.
        wall: u64,
    },
    /// The asker wants to read the machine, and not see less than anybody has been told by now.
    /// Answered by [`Output::Readable`] or [`Output::Done`].
    Read {
        /// The asker's mark.
        token: u64,
    },
    /// Let another member lead, the one best prepared: this one is drained.
    Resign,
    /// The group is to have these members, and no others. It is brought there step by step.
    Members(Vec<Member>),
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Bring this to another member, or lose it.
    Send(Packet),
    /// Write this.
    Persist(Persist),
    /// A proposal's answer, or why it has none. None for a command that is not answered.
    Done {
        /// The asker's mark.
        token: u64,
        /// The answer.
        result: Result<Option<Answer>, Unserved>,
    },
    /// The asker may read now.
    Readable {
        /// The asker's mark.
        token: u64,
    },
    /// The next message in the order of its room. At every member, each once in a life; after a
    /// restart those come again that are in the log.
    Published(Envelope),
    /// A room is gone.
    Forgotten(RoomName),
    /// The whole state was replaced by a leader's: messages may be left out before it.
    Replaced,
    /// Somebody else leads, or leads anew.
    Role(Role),
    /// This member can go no further: it would part ways with the others.
    Halted {
        /// Why.
        why: String,
    },
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The leader, if one is known.
    pub leader: Option<Member>,
    /// Its fencing number.
    pub generation: Generation,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// Another member leads, if any does.
    #[error("this member does not lead its group")]
    Elsewhere {
        /// The leader, if one is known.
        leader: Option<Member>,
    },
    /// Too much waits already.
    #[error("{limit} {what} wait already")]
    Busy {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The room is about to move to another group, or did: it was not done here. To be asked again,
    /// wherever the room is.
    #[error("the room is moved to another group")]
    Moving,
    /// It may have been done, or may be yet: the leader changed meanwhile. Safe to send again.
    #[error("the leader changed before it was known to be done")]
    Unknown,
}
