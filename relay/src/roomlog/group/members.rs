//! Who belongs to the group: brought step by step to what is wanted. A newcomer learns first; when
//! it has caught up it takes the place of a voter that is not wanted, in one joint change, so that
//! at no moment fewer than before can be lost. The driver waits before it wants anything because
//! somebody is silent: a blip costs no member.

use std::collections::BTreeMap;

use raft::{
    ProgressState, SnapshotStatus,
    eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry},
};

use super::{
    Group, MAX_MEMBERS, Member,
    raft_codec::{get_change, put_change},
};

/// A learner that lacks at most so many entries has caught up.
const CAUGHT_UP: u64 = 256;
/// A snapshot that was sent and not answered for so many ticks (ten elections) is sent again.
const SNAPSHOT_PATIENCE: u32 = 100;

#[derive(Debug, Default)]
pub(super) struct Members {
    wanted: Option<Vec<Member>>,
    /// Ticks since a snapshot was sent.
    sent: BTreeMap<u64, u32>,
}

impl Members {
    /// Nobody is not a wish; nor are more than a group may have.
    pub fn want(&mut self, wanted: Vec<Member>) {
        if !wanted.is_empty() && wanted.len() <= MAX_MEMBERS / 2 {
            self.wanted = Some(wanted);
        }
    }
}

impl Group {
    /// A leader's care for the others, at each tick.
    pub(super) fn tend_members(&mut self) {
        if !self.leads() {
            self.members.sent.clear();
            return;
        }
        self.repeat_snapshots();
        let raft = &self.node.raft;
        let settled = raft.commit_to_current_term()
            && !raft.has_pending_conf()
            && raft.lead_transferee.is_none();
        if settled && let Some(step) = self.next_step() {
            match step {
                Step::Change(changes) => self.propose_change(changes),
                Step::HandOver(to) => self.node.transfer_leader(to.0),
            }
        }
    }

    /// A snapshot may be lost on its way; Raft waits for a word about it.
    fn repeat_snapshots(&mut self) {
        let sending: Vec<u64> = self
            .node
            .raft
            .prs()
            .iter()
            .filter(|(_, progress)| progress.state == ProgressState::Snapshot)
            .map(|(id, _)| *id)
            .collect();
        self.members.sent.retain(|id, _| sending.contains(id));
        for id in sending {
            let ticks = self.members.sent.entry(id).or_default();
            *ticks += 1;
            if *ticks >= SNAPSHOT_PATIENCE {
                self.members.sent.remove(&id);
                self.node.report_snapshot(id, SnapshotStatus::Failure);
            }
        }
    }

    fn next_step(&self) -> Option<Step> {
        if !self.node.store().conf().voters_outgoing.is_empty() {
            // Raft leaves a joint membership of itself, unless the leader changed on the way in.
            return Some(Step::Change(Vec::new()));
        }
        let wanted = self.members.wanted.as_ref()?;
        let (voters, learners) = self.voters();
        if let Some(learner) = learners.iter().find(|id| !wanted.contains(id)) {
            return Some(Step::Change(vec![single(
                *learner,
                ConfChangeType::RemoveNode,
            )]));
        }
        let belongs = |id: &&Member| voters.contains(id) || learners.contains(id);
        if let Some(new) = wanted.iter().find(|id| !belongs(id)) {
            return Some(Step::Change(vec![single(
                *new,
                ConfChangeType::AddLearnerNode,
            )]));
        }
        let spare = voters.iter().find(|id| !wanted.contains(id)).copied();
        let ready = learners.iter().find(|id| self.has_caught_up(**id)).copied();
        let waiting = !learners.is_empty();
        let mut changes = match (ready, spare) {
            (Some(new), _) => vec![single(new, ConfChangeType::AddNode)],
            (None, Some(spare)) if !waiting && self.can_spare(spare) => Vec::new(),
            _ => return None,
        };
        if let Some(spare) = spare {
            if spare == self.config.me {
                return self.successor(wanted).map(Step::HandOver);
            }
            changes.push(single(spare, ConfChangeType::RemoveNode));
        }
        Some(Step::Change(changes))
    }

    fn has_caught_up(&self, member: Member) -> bool {
        let committed = self.node.raft.raft_log.committed;
        let progress = self.node.raft.prs().get(member.0);
        progress.is_some_and(|progress| {
            // Of a newcomer nothing matches before it has taken a snapshot.
            progress.recent_active
                && progress.matched > 0
                && progress.matched + CAUGHT_UP >= committed
        })
    }

    /// Whether the other voters could go on without this one: more than half of them are heard. Fewer
    /// members forgive fewer losses, so nobody is let go without a successor while one of the rest is away.
    fn can_spare(&self, spare: Member) -> bool {
        let (voters, _) = self.voters();
        let heard = |id: &Member| {
            let progress = self.node.raft.prs().get(id.0);
            *id == self.config.me || progress.is_some_and(|progress| progress.recent_active)
        };
        let rest: Vec<Member> = voters.into_iter().filter(|id| *id != spare).collect();
        rest.iter().filter(|id| heard(id)).count() > rest.len() / 2
    }

    /// The voter, of these, that is best prepared to lead.
    fn successor(&self, among: &[Member]) -> Option<Member> {
        let (voters, _) = self.voters();
        voters
            .into_iter()
            .filter(|id| *id != self.config.me && among.contains(id))
            .filter_map(|id| Some((self.node.raft.prs().get(id.0)?, id)))
            .filter(|(progress, _)| progress.recent_active)
            .max_by_key(|(progress, id)| (progress.matched, std::cmp::Reverse(*id)))
            .map(|(_, id)| id)
    }

    /// Lets another lead.
    pub(super) fn resign(&mut self) {
        let (voters, _) = self.voters();
        if self.leads()
            && let Some(to) = self.successor(&voters)
        {
            self.node.transfer_leader(to.0);
        }
    }

    /// A leader may find that it is no member any more: an earlier leader's wish, which it had to
    /// carry out. Raft 0.7 would go on leading and stop the process at the next commit.
    pub(super) fn step_down_if_removed(&mut self) {
        let conf = self.node.store().conf();
        let me = self.config.me.0;
        if self.leads() && !conf.voters.contains(&me) && !conf.voters_outgoing.contains(&me) {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    fn propose_change(&mut self, changes: Vec<ConfChangeSingle>) {
        let change = ConfChangeV2 {
            changes: changes.into(),
            ..ConfChangeV2::default()
        };
        // The members read it from the context. A refusal is tried again at the next tick.
        let context = put_change(&change).to_vec();
        let _ = self.node.propose_conf_change(context, change);
    }

    /// A change is committed.
    pub(super) fn change_members(&mut self, entry: &Entry) {
        let index = entry.index;
        let change = match get_change(entry.context.clone()) {
            Ok(change) => change,
            Err(error) => return self.halt(format!("change {index} cannot be read: {error}")),
        };
        match self.node.apply_conf_change(&change) {
            Ok(conf) => self.node.mut_store().set_conf(conf),
            Err(error) => return self.halt(format!("change {index} cannot be made: {error}")),
        }
        let conf = self.node.store().conf();
        let ids = [&conf.voters, &conf.learners, &conf.voters_outgoing];
        let ids: Vec<u64> = ids.into_iter().flatten().copied().collect();
        self.timing.keep(|member| ids.contains(&member.0));
        self.heard.retain(|member, _| ids.contains(&member.0));
    }
}

enum Step {
    Change(Vec<ConfChangeSingle>),
    HandOver(Member),
}

fn single(member: Member, change_type: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle {
        change_type,
        node_id: member.0,
        ..ConfChangeSingle::default()
    }
}
