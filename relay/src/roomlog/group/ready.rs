//! What Raft has ready: to be said, written, applied.

use longspan_proto::time::Time;
use raft::{
    StateRole,
    eraftpb::{self, EntryType},
};

use super::{
    super::machine::{Entry, Machine},
    Group, Output, Persist, Unserved,
};

/// What waits for the disk.
pub(super) struct Write {
    number: u64,
    /// Raft's number for it.
    ready: Option<u64>,
    /// What may be said once it is written.
    messages: Vec<eraftpb::Message>,
    /// A snapshot that was taken over goes up to here.
    installed: Option<u64>,
}

impl Group {
    /// Does what Raft has ready.
    pub(super) fn pump(&mut self, now: Time) {
        loop {
            while self.node.has_ready() && !self.halted {
                self.step(now);
            }
            if self.node.store().snapshot_wanted() {
                self.cut();
            }
            if !self.begin_reads() {
                break;
            }
        }
        self.notice_role();
        self.answer_reads();
        self.cut_if_long();
    }

    fn step(&mut self, now: Time) {
        let mut ready = self.node.ready();
        let messages = ready.take_messages();
        self.send(now, messages);
        for read in ready.take_read_states() {
            self.asked.confirmed(&read.request_ctx, read.index);
        }
        if let Some(hard) = ready.hs() {
            self.node.mut_store().set_hard(hard.clone());
        }
        let mut persist = Persist::default();
        let mut installed = None;
        if ready.snapshot().get_metadata().index > 0 {
            let snapshot = ready.snapshot().clone();
            installed = Some(snapshot.get_metadata().index);
            self.install(snapshot, &mut persist);
        }
        let entries = ready.take_entries();
        self.node.mut_store().append(entries, &mut persist);
        let committed = ready.take_committed_entries();
        self.apply(committed);

        let must_sync = ready.must_sync();
        let number = ready.number();
        let messages = ready.take_persisted_messages();
        self.node.advance_append_async(ready);
        if !self.installing && installed.is_none() {
            self.node.advance_apply();
        }
        self.step_down_if_removed();
        self.installing |= installed.is_some();
        if must_sync {
            self.write(persist, Some(number), messages, installed);
        } else if self.writes.is_empty() {
            self.node.on_persist_ready(number);
            self.send(now, messages);
        } else {
            // Said after all that was to be written before it.
            self.writes.push_back(Write {
                number: self.written,
                ready: Some(number),
                messages,
                installed: None,
            });
        }
    }

    fn write(
        &mut self,
        mut persist: Persist,
        ready: Option<u64>,
        messages: Vec<eraftpb::Message>,
        installed: Option<u64>,
    ) {
        self.written += 1;
        persist.number = self.written;
        self.node.mut_store().finish(&mut persist);
        self.outputs.push_back(Output::Persist(persist));
        self.writes.push_back(Write {
            number: self.written,
            ready,
            messages,
            installed,
        });
    }

    pub(super) fn persisted(&mut self, now: Time, number: u64) {
        while let Some(write) = self.writes.front()
            && write.number <= number
            && let Some(write) = self.writes.pop_front()
        {
            self.send(now, write.messages);
            if let Some(ready) = write.ready {
                self.node.on_persist_ready(ready);
            }
            if let Some(index) = write.installed {
                self.node.advance_apply_to(index);
                self.installing = self.writes.iter().any(|write| write.installed.is_some());
            }
        }
    }

    /// Takes over a leader's state.
    fn install(&mut self, snapshot: eraftpb::Snapshot, persist: &mut Persist) {
        let index = snapshot.get_metadata().index;
        let machine = match self.incoming.take() {
            Some((read, machine)) if read == index => Ok(machine),
            _ => Machine::restore(snapshot.data.clone()),
        };
        match machine {
            Ok(machine) => self.machine = machine,
            Err(error) => return self.halt(format!("a leader's state cannot be read: {error}")),
        }
        self.node.mut_store().install(snapshot, persist);
        self.outputs.push_back(Output::Replaced);
    }

    fn apply(&mut self, entries: Vec<eraftpb::Entry>) {
        for entry in entries {
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.change_members(&entry);
                continue;
            }
            let (index, term) = (entry.index, entry.term);
            if entry.data.is_empty() {
                // The first entry of a leader.
                continue;
            }
            let entry = match Entry::decode(entry.data) {
                Ok(entry) => entry,
                Err(error) => return self.halt(format!("entry {index} cannot be read: {error}")),
            };
            let outcome = self.machine.apply(entry);
            for message in outcome.published {
                self.outputs.push_back(Output::Published(message));
            }
            if let Some(room) = outcome.forgotten {
                self.outputs.push_back(Output::Forgotten(room));
            }
            if let Some(token) = self.asked.applied(index, term) {
                let result = match outcome.shut {
                    true => Err(Unserved::Moving),
                    false => Ok(outcome.answer),
                };
                self.outputs.push_back(Output::Done { token, result });
            }
        }
    }

    pub(super) fn halt(&mut self, why: String) {
        self.halted = true;
        self.outputs.push_back(Output::Halted { why });
    }

    /// Tells of another leader, or another term.
    fn notice_role(&mut self) {
        let role = self.role();
        if self.role == Some(role) {
            return;
        }
        self.role = Some(role);
        if self.node.raft.state == StateRole::Candidate {
            self.retry_soon();
        }
        self.outputs.push_back(Output::Role(role));
        let (mine, term) = (self.leads(), self.node.raft.term);
        for token in self.asked.role_changed(mine.then_some(term)) {
            let result = Err(Unserved::Unknown);
            self.outputs.push_back(Output::Done { token, result });
        }
    }

    /// Puts a snapshot of what is applied in the place of the entries before it, but for a trail.
    fn cut_if_long(&mut self) {
        let cut = self.config.cut;
        let applied = self.node.raft.raft_log.applied;
        let (entries, bytes) = self.node.store().since_cut(applied);
        let long = entries >= cut.entries || bytes >= cut.bytes;
        if long {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.installing || self.halted {
            return;
        }
        let applied = self.node.raft.raft_log.applied;
        let data = self.machine.snapshot();
        let mut persist = Persist::default();
        let trail = self.config.cut.trail;
        let store = self.node.mut_store();
        if store.cut(applied, trail, data, &mut persist) {
            self.write(persist, None, Vec::new(), None);
        }
    }
}
