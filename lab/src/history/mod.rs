//! What the members of a room said and heard, and whether it keeps the laws of a room log (DESIGN
//! §5, §8.1). Pure.
//!
//! Whoever drives members (a simulation, a bench) writes down what each says and hears, in the order
//! in which it happens and under one clock. [`judge`] looks at all of it at the end, and names each
//! [`Law`] that is broken with the events that show it.
//!
//! It is about one room with one log, from its first message. Places that nobody saw are not held
//! against anybody; what a state was there is taken from the next one that is told.

mod fold;
mod judge;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use longspan_proto::{ids::SessionId, time::Time};

pub use judge::judge;

/// Broken laws that are kept with their events; more are only counted.
pub const MAX_KEPT: usize = 64;

/// A message, as its publisher names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The publisher's session.
    pub session: SessionId,
    /// Its number there.
    pub n: u64,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = u128::from_be_bytes(self.session.0);
        write!(f, "{session:032x}/{}", self.n)
    }
}

/// What a message does to the room's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which key.
    pub key: Arc<str>,
    /// Only if the key has this revision; 0: only if there is none.
    pub expected: Option<u64>,
    /// It takes the key away.
    pub deletes: bool,
}

/// By key: the revision, which is the place of the message that wrote it, and that message.
pub type State = BTreeMap<Arc<str>, (u64, Mark)>;

/// Something that a member says or hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// Who, by a number of the driver's.
    pub member: u32,
    /// What.
    pub what: What,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Is about to say a message for the first time. That it says it again is not told.
    Says {
        /// The message.
        mark: Mark,
        /// A `state` message.
        write: Option<Write>,
    },
    /// Hears that its message has a place.
    Acked {
        /// The message.
        mark: Mark,
        /// The place.
        seq: u64,
    },
    /// Hears that its message was not taken and will not be.
    Refused {
        /// The message.
        mark: Mark,
    },
    /// Is given a message of the log.
    Gets {
        /// Its place.
        seq: u64,
        /// The message.
        mark: Mark,
    },
    /// Is welcomed without a state: it has seen everything up to `seq`.
    Resumes {
        /// The place.
        seq: u64,
    },
    /// Is told that messages will not come.
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Is told that its edge knows less than the member does; the state as it is there follows.
    Behind,
    /// Is given the whole state; what comes after `seq` follows.
    Told {
        /// When its connection began: what was acked to it before is to be in the state.
        asked: Time,
        /// The place at which the state is true.
        seq: u64,
        /// The state.
        state: State,
    },
    /// Reads the state at the leader.
    Reads {
        /// When it asked: what was acked to anybody before is to be in the state.
        asked: Time,
        /// The place at which the state is true.
        seq: u64,
        /// The state.
        state: State,
    },
    /// Forgets everything: another begins.
    Leaves,
    /// Was there to the end, with enough time to be given everything.
    Stays,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// What is heard was said before.
    Said,
    /// A place holds the same message for everybody.
    OneOrder,
    /// A message has one place.
    Once,
    /// An acked message stands where its ack says.
    AcksAreTrue,
    /// A refused message stands nowhere.
    RefusalsAreTrue,
    /// What is said after another's ack stands behind it.
    RealTime,
    /// The messages of a session stand in the order of their numbers.
    PublishersOrder,
    /// Nothing is skipped but inside a gap that was told.
    NothingSkipped,
    /// Nothing is given twice.
    NothingRepeated,
    /// Whoever stays is given everything that was acked.
    AllGiven,
    /// A compare-and-set is made on the revision it expects.
    CompareAndSet,
    /// A state is what the log up to its place makes it.
    StateOfTheLog,
    /// A state holds what was acked to its reader before it asked.
    ReadYourWrites,
    /// A state read at the leader holds what was acked to anybody before it was asked for.
    FreshReads,
}

/// A law that is broken, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub law: Law,
    /// In words.
    pub why: String,
    /// In the order of their times.
    pub events: Vec<Event>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.why)?;
        for event in &self.events {
            write!(f, "\n  {event}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { at, member, what } = self;
        write!(f, "{at:?} member {member}: {what:?}")
    }
}

/// What a history comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that were said.
    pub said: u64,
    /// Messages that were acked.
    pub acked: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages whose publisher never heard what became of them.
    pub unanswered: u64,
    /// Messages given to members.
    pub given: u64,
    /// Gaps told to members.
    pub gaps: u64,
    /// Times that a member was told to know more than its edge.
    pub behind: u64,
    /// States told or read that were compared with the log.
    pub states: u64,
    /// Places between the first and the last that nobody saw.
    pub unseen: u64,
    /// How often each law was broken.
    pub count: BTreeMap<Law, u64>,
    /// The first [`MAX_KEPT`].
    pub broken: Vec<Broken>,
}

impl Verdict {
    /// Whether no law is broken.
    pub fn is_sound(&self) -> bool {
        self.count.is_empty()
    }

    /// Acked messages that somebody did not get though it should have.
    pub fn lost(&self) -> u64 {
        self.sum(&[Law::AcksAreTrue, Law::NothingSkipped, Law::AllGiven])
    }

    /// Messages that were taken or given twice.
    pub fn repeated(&self) -> u64 {
        self.sum(&[Law::Once, Law::NothingRepeated])
    }

    /// Messages out of order.
    pub fn reordered(&self) -> u64 {
        self.sum(&[Law::OneOrder, Law::RealTime, Law::PublishersOrder])
    }

    fn sum(&self, laws: &[Law]) -> u64 {
        laws.iter().filter_map(|law| self.count.get(law)).sum()
    }
}
