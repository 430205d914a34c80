//! What a member's disk holds.

use std::{collections::BTreeMap, ops::Range};

use bytes::{Bytes, BytesMut};
use raft::eraftpb::{ConfState, HardState, Snapshot};

use super::{
    super::{Limits, machine::Machine},
    Member,
    raft_codec::{put_hard, put_snapshot},
};

/// What is to be written: in the order of numbers, each whole or not at all.
/// [`Saved::write`] says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persist {
    /// Rises by one.
    pub number: u64,
    /// Takes the place of the one before: term, vote, commit.
    pub hard: Bytes,
    /// Takes the place of the one before.
    pub snapshot: Option<Bytes>,
    /// Of the entries held, only those in this range stay.
    pub keep: Range<u64>,
    /// Then these are added: index and content.
    pub entries: Vec<(u64, Bytes)>,
}

impl Default for Persist {
    fn default() -> Persist {
        Persist {
            number: 0,
            hard: Bytes::new(),
            snapshot: None,
            keep: 0..u64::MAX,
            entries: Vec::new(),
        }
    }
}

/// All that is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Term, vote, commit; empty: none yet.
    pub hard: Bytes,
    /// The newest snapshot.
    pub snapshot: Option<Bytes>,
    /// The entries, without a hole.
    pub entries: BTreeMap<u64, Bytes>,
}

impl Saved {
    /// A member of a group that begins with these members and limits: the same for each of them.
    /// Whoever joins later begins with nothing ([`Saved::default`]) and is told by the leader.
    pub fn born(voters: &[Member], limits: Limits) -> Saved {
        let mut ids: Vec<u64> = voters.iter().map(|voter| voter.0).collect();
        ids.sort_unstable();
        let mut snapshot = Snapshot::default();
        // Above the index of who has nothing: a newcomer cannot do without this snapshot.
        let meta = snapshot.mut_metadata();
        meta.index = 1;
        meta.term = 1;
        meta.set_conf_state(ConfState {
            voters: ids,
            ..ConfState::default()
        });
        snapshot.data = Machine::new(limits).snapshot();
        let hard = HardState {
            term: 1,
            commit: 1,
            ..HardState::default()
        };
        let (mut hard_bytes, mut snapshot_bytes) = (BytesMut::new(), BytesMut::new());
        put_hard(&mut hard_bytes, &hard);
        put_snapshot(&mut snapshot_bytes, &snapshot);
        Saved {
            hard: hard_bytes.freeze(),
            snapshot: Some(snapshot_bytes.freeze()),
            entries: BTreeMap::new(),
        }
    }

    /// What the disk holds once this is written.
    pub fn write(&mut self, persist: &Persist) {
        self.hard = persist.hard.clone();
        if let Some(snapshot) = &persist.snapshot {
            self.snapshot = Some(snapshot.clone());
        }
        let keep = &persist.keep;
        self.entries.retain(|index, _| keep.contains(index));
        self.entries.extend(persist.entries.iter().cloned());
    }
}
