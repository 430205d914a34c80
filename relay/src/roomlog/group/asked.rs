//! What was asked of a leader and is not answered yet.

use std::collections::VecDeque;

use raft::Error;

use super::{
    super::machine::{Command, Entry},
    Group, Output, UNCOMMITTED, Unserved,
};

/// Proposals that wait. When full, the next is answered busy.
const PROPOSALS: usize = 16_384;
/// Reads that wait. When full, the next is answered busy.
const READS: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By rising index.
    proposals: VecDeque<Proposal>,
    /// Not told to Raft yet: this leader has committed nothing of its own.
    early: Vec<u64>,
    /// A quorum is asked whether this is still the leader.
    unconfirmed: Vec<u64>,
    /// May be answered once this entry is applied.
    confirmed: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Proposal {
    index: u64,
    term: u64,
    token: u64,
}

impl Asked {
    /// An entry is applied: who waits for it, if it is his.
    pub fn applied(&mut self, index: u64, term: u64) -> Option<u64> {
        let first = *self.proposals.front()?;
        if first.index != index || first.term != term {
            return None;
        }
        self.proposals.pop_front();
        Some(first.token)
    }

    /// The quorum answered: what was committed when this read was asked goes up to `index`.
    pub fn confirmed(&mut self, context: &[u8], index: u64) {
        let Ok(token) = context.try_into().map(u64::from_be_bytes) else {
            return;
        };
        if let Some(at) = self.unconfirmed.iter().position(|asked| *asked == token) {
            self.unconfirmed.swap_remove(at);
            self.confirmed.push((index, token));
        }
    }

    /// This member leads in this term, or does not lead: those who are left without an answer.
    pub fn role_changed(&mut self, leads: Option<u64>) -> Vec<u64> {
        let mut lost: Vec<u64> = Vec::new();
        self.proposals.retain(|proposal| {
            let kept = leads == Some(proposal.term);
            if !kept {
                lost.push(proposal.token);
            }
            kept
        });
        lost.append(&mut self.early);
        lost.append(&mut self.unconfirmed);
        lost.extend(self.confirmed.drain(..).map(|(_, token)| token));
        lost
    }

    fn reads(&self) -> usize {
        self.early.len() + self.unconfirmed.len() + self.confirmed.len()
    }
}

impl Group {
    pub(super) fn propose(&mut self, token: u64, command: Command, wall: u64) {
        let refused = |result| Output::Done {
            token,
            result: Err(result),
        };
        if !self.leads() || self.node.raft.lead_transferee.is_some() {
            let why = self.elsewhere();
            return self.outputs.push_back(refused(why));
        }
        if self.asked.proposals.len() >= PROPOSALS {
            let busy = Unserved::Busy {
                what: "proposals",
                limit: PROPOSALS as u64,
            };
            return self.outputs.push_back(refused(busy));
        }
        let at = wall.max(self.machine.at());
        let data = Entry { at, command }.encode();
        match self.node.propose(Vec::new(), data.to_vec()) {
            Ok(()) => self.asked.proposals.push_back(Proposal {
                index: self.node.raft.raft_log.last_index(),
                term: self.node.raft.term,
                token,
            }),
            Err(Error::ProposalDropped) => {
                let busy = Unserved::Busy {
                    what: "bytes of entries",
                    limit: UNCOMMITTED,
                };
                self.outputs.push_back(refused(busy));
            }
            Err(_) => {
                let why = self.elsewhere();
                self.outputs.push_back(refused(why));
            }
        }
    }

    fn elsewhere(&self) -> Unserved {
        let leader = self.role().leader;
        Unserved::Elsewhere {
            leader: leader.filter(|leader| *leader != self.config.me),
        }
    }

    pub(super) fn read(&mut self, token: u64) {
        let why = if !self.leads() {
            self.elsewhere()
        } else if self.asked.reads() >= READS {
            Unserved::Busy {
                what: "reads",
                limit: READS as u64,
            }
        } else {
            return self.asked.early.push(token);
        };
        self.outputs.push_back(Output::Done {
            token,
            result: Err(why),
        });
    }

    /// Asks the quorum for the reads that came, once this leader has committed something of its
    /// own. Whether there were any.
    pub(super) fn begin_reads(&mut self) -> bool {
        if !self.serves() || self.halted || self.asked.early.is_empty() {
            return false;
        }
        for token in std::mem::take(&mut self.asked.early) {
            self.asked.unconfirmed.push(token);
            self.node.read_index(token.to_be_bytes().to_vec());
        }
        true
    }

    /// Answers the reads that see all they must.
    pub(super) fn answer_reads(&mut self) {
        let applied = self.node.raft.raft_log.applied;
        let outputs = &mut self.outputs;
        self.asked.confirmed.retain(|(index, token)| {
            let waits = *index > applied;
            if !waits {
                outputs.push_back(Output::Readable { token: *token });
            }
            waits
        });
    }
}
