//! What another member may say. Raft takes members at their word and stops the process where they
//! contradict what is known; here it is looked at before.

use raft::eraftpb::{ConfState, Message, MessageType};

use super::{Group, Machine, Packet};

/// A term must fit into a generation's counter.
const LAST_TERM: u64 = (1 << 48) - 1;

impl Group {
    /// Whether an honest member could have said this. Reads a leader's state.
    pub(super) fn plausible(&mut self, packet: &Packet) -> bool {
        let message = &packet.message;
        let log = &self.node.raft.raft_log;
        if message.from != packet.from.0 || message.to != packet.to.0 || message.term > LAST_TERM {
            return false;
        }
        match message.get_msg_type() {
            MessageType::MsgAppend => self.continues(message),
            MessageType::MsgHeartbeat => message.commit <= log.last_index(),
            MessageType::MsgAppendResponse => {
                message.reject
                    || message.term < self.node.raft.term
                    || message.index <= log.last_index()
            }
            MessageType::MsgSnapshot => self.reads(message),
            MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgTimeoutNow => true,
            // Orders of a member to itself, and what a follower would pass on to a leader: here
            // whoever asks is sent to the leader.
            _ => false,
        }
    }

    /// Entries follow each other, and none is another than one that is committed.
    fn continues(&self, message: &Message) -> bool {
        let log = &self.node.raft.raft_log;
        // What is committed here is in every later leader's log.
        if message.index >= log.committed && message.log_term < log.commit_info().1 {
            return false;
        }
        let expected = message.index.saturating_add(1)..;
        message.entries.iter().zip(expected).all(|(entry, index)| {
            let known = index <= log.committed && index >= log.first_index();
            entry.index == index
                && entry.term <= message.term
                && (!known || log.term(index).ok() == Some(entry.term))
        })
    }

    fn reads(&mut self, message: &Message) -> bool {
        let meta = message.get_snapshot().get_metadata();
        let raft = &self.node.raft;
        if meta.index <= raft.raft_log.committed || message.term < raft.term {
            // Raft answers that itself.
            return meta.index > 0;
        }
        if !possible(meta.get_conf_state()) {
            return false;
        }
        match Machine::restore(message.get_snapshot().data.clone()) {
            Ok(machine) => {
                self.incoming = Some((meta.index, machine));
                true
            }
            Err(_) => false,
        }
    }
}

/// Whether there can be such a membership: somebody votes, and nobody is two things at once.
pub(super) fn possible(conf: &ConfState) -> bool {
    let voters = conf.voters.iter().chain(&conf.voters_outgoing);
    !conf.voters.is_empty()
        && voters.clone().all(|id| *id != 0)
        && conf
            .learners
            .iter()
            .all(|id| *id != 0 && !voters.clone().any(|voter| voter == id))
        && conf
            .learners_next
            .iter()
            .all(|id| conf.voters_outgoing.contains(id))
        && (conf.learners_next.is_empty() || !conf.voters_outgoing.is_empty())
        && (!conf.auto_leave || !conf.voters_outgoing.is_empty())
        && distinct(&conf.voters)
        && distinct(&conf.voters_outgoing)
        && distinct(&conf.learners)
}

fn distinct(ids: &[u64]) -> bool {
    (1..ids.len()).all(|at| !ids[..at].contains(&ids[at]))
}
