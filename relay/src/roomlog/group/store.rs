//! The log in memory, as Raft reads it, and what of it goes to the disk.

use std::{cell::Cell, collections::VecDeque};

use bytes::{Bytes, BytesMut};
use longspan_proto::wire::{Error, Reader};
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
    util::limit_size,
};

use super::{
    super::{Limits, machine::Machine},
    Persist, Saved,
    guard::possible,
    raft_codec::{get_entry, get_hard, get_snapshot, put_entry, put_hard, put_snapshot},
};

/// See the [module](self).
pub(super) struct Store {
    hard: HardState,
    /// As of what is applied.
    conf: ConfState,
    /// The entry before the first one held: its index and term.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    /// Bytes of entries that came since the log was cut.
    grown: usize,
    /// Never older than `before`: whoever takes it finds the entries after it.
    snapshot: Snapshot,
    /// A member needs a snapshot, and the newest knows nothing of it: Raft would not take it.
    wanted: Cell<bool>,
}

impl Store {
    /// The log and the state machine as the disk remembers them.
    pub fn restore(saved: Saved) -> Result<(Store, Machine), Error> {
        let mut store = Store {
            hard: HardState::default(),
            conf: ConfState::default(),
            before: (0, 0),
            entries: VecDeque::new(),
            grown: 0,
            snapshot: Snapshot::default(),
            wanted: Cell::new(false),
        };
        let mut machine = Machine::new(Limits::default());
        if !saved.hard.is_empty() {
            store.hard = get_hard(&mut Reader::new(saved.hard))?;
        }
        if let Some(snapshot) = saved.snapshot {
            store.snapshot = get_snapshot(&mut Reader::new(snapshot))?;
            machine = Machine::restore(store.snapshot.data.clone())?;
            let meta = store.snapshot.get_metadata();
            store.before = (meta.index, meta.term);
            store.conf = meta.get_conf_state().clone();
            if !possible(&store.conf) {
                return Err(Error::Short { what: "membership" });
            }
        }
        let snapshot = store.before.0;
        for (at, (index, bytes)) in saved.entries.into_iter().enumerate() {
            let entry = get_entry(&mut Reader::new(bytes))?;
            if at == 0 && index <= snapshot {
                // The first entry is kept for its term only.
                store.before = (index, entry.term);
            } else if index == store.last() + 1 && entry.index == index {
                store.entries.push_back(entry);
            } else {
                return Err(Error::Short { what: "log" });
            }
        }
        let (first, last) = (snapshot, store.last());
        if last < first {
            return Err(Error::Short { what: "log" });
        }
        store.hard.commit = store.hard.commit.clamp(first, last);
        Ok((store, machine))
    }

    pub fn conf(&self) -> &ConfState {
        &self.conf
    }

    pub fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    pub fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }

    /// Whether a member waits for a newer snapshot; asked once.
    pub fn snapshot_wanted(&self) -> bool {
        self.wanted.take()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How far the log has grown since it was cut: entries applied, and bytes.
    pub fn since_cut(&self, applied: u64) -> (u64, usize) {
        (applied.saturating_sub(self.snapshot_index()), self.grown)
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    /// Where the entry stands in memory.
    fn at(&self, index: u64) -> usize {
        (index - self.before.0 - 1) as usize
    }

    /// Takes entries; they replace what was at and after the first of them.
    pub fn append(&mut self, entries: Vec<Entry>, persist: &mut Persist) {
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return;
        };
        self.entries.truncate(self.at(first));
        persist.keep.end = persist.keep.end.min(first);
        for entry in entries {
            let mut bytes = BytesMut::new();
            put_entry(&mut bytes, &entry);
            self.grown += bytes.len();
            persist.entries.push((entry.index, bytes.freeze()));
            self.entries.push_back(entry);
        }
    }

    /// Takes a leader's snapshot in place of everything.
    pub fn install(&mut self, snapshot: Snapshot, persist: &mut Persist) {
        let meta = snapshot.get_metadata();
        self.before = (meta.index, meta.term);
        self.conf = meta.get_conf_state().clone();
        self.hard.commit = self.hard.commit.max(meta.index);
        self.entries.clear();
        self.grown = 0;
        let mut bytes = BytesMut::new();
        put_snapshot(&mut bytes, &snapshot);
        persist.snapshot = Some(bytes.freeze());
        persist.keep = 0..0;
        self.snapshot = snapshot;
    }

    /// Takes a snapshot of this member's own, at entry `index`, and lets entries go that are more
    /// than `trail` before it. False if there is one already.
    pub fn cut(&mut self, index: u64, trail: u64, data: Bytes, persist: &mut Persist) -> bool {
        if index <= self.snapshot_index() {
            return false;
        }
        let Ok(term) = self.term(index) else {
            return false;
        };
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = index;
        meta.term = term;
        meta.set_conf_state(self.conf.clone());
        snapshot.data = data;
        let mut bytes = BytesMut::new();
        put_snapshot(&mut bytes, &snapshot);
        persist.snapshot = Some(bytes.freeze());
        self.snapshot = snapshot;
        self.grown = 0;
        if let Some(before) = index.checked_sub(trail).filter(|at| *at > self.before.0)
            && let Ok(term) = self.term(before)
        {
            self.entries.drain(..=self.at(before));
            self.before = (before, term);
        }
        persist.keep.start = self.before.0;
        true
    }

    /// Adds what is always written.
    pub fn finish(&self, persist: &mut Persist) {
        let mut bytes = BytesMut::new();
        put_hard(&mut bytes, &self.hard);
        persist.hard = bytes.freeze();
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let range = self.at(low)..self.at(high);
        let mut entries: Vec<Entry> = self.entries.range(range).cloned().collect();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let (before, term) = self.before;
        if index == before {
            return Ok(term);
        }
        let meta = self.snapshot.get_metadata();
        if index == meta.index {
            return Ok(meta.term);
        }
        if index < before {
            return Err(StorageError::Compacted.into());
        }
        match self.entries.get(self.at(index)) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let meta = self.snapshot.get_metadata();
        let conf = meta.get_conf_state();
        let mut members = conf
            .voters
            .iter()
            .chain(&conf.learners)
            .chain(&conf.voters_outgoing);
        if meta.index == 0 || meta.index < request_index || !members.any(|member| *member == to) {
            self.wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.snapshot.clone())
    }
}
