//! What is to be changed about a group: at most one replacement at a time, and nothing while the
//! group cannot carry it out.

use std::collections::BTreeSet;

use longspan_proto::ids::NodeId;

use super::{Backbone, Loads, MEMBERS, Site, Wanted, choose};
use crate::state::record::{Group, Member};

/// Members that leave a group at most: newcomers that are lost before the group says a word of them. Then
/// the last of them is waited for.
const MAX_LEAVING: usize = 8;

/// How it stands with a member's relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is there, with the disk that the member is kept in.
    Here,
    /// Its lease has ended, not long ago.
    Away,
    /// It is there, and an operator takes it out of service.
    Draining,
    /// Its lease has ended, and it did not come back in time.
    Gone,
    /// It is there with another disk: the member is no more.
    OtherDisk,
}

impl Standing {
    /// Whether the member can vote.
    pub fn is_alive(self) -> bool {
        matches!(self, Standing::Here | Standing::Draining)
    }

    /// Whether another is to take its place.
    fn is_over(self) -> bool {
        self >= Standing::Draining
    }

    fn reason(self) -> &'static str {
        match self {
            Standing::Here => "is there",
            Standing::Away | Standing::Gone => "is gone",
            Standing::Draining => "is draining",
            Standing::OtherDisk => "has lost its disk",
        }
    }
}

/// What the group's leader says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Which member leads.
    pub leader: u64,
    /// Who has a vote.
    pub voters: BTreeSet<u64>,
    /// Who is being told, and has none yet.
    pub learners: BTreeSet<u64>,
}

impl Report {
    /// Whether a member belongs to the group, as the group itself sees it.
    pub fn has(&self, number: u64) -> bool {
        self.voters.contains(&number) || self.learners.contains(&number)
    }
}

/// All that is known of a group.
pub struct Facts<'a> {
    /// Its record.
    pub group: &'a Group,
    /// How it stands with a member's relay.
    pub standing: &'a dyn Fn(&Member) -> Standing,
    /// What its leader says; none: nobody says that he leads.
    pub report: Option<&'a Report>,
    /// The relays there are.
    pub backbone: &'a Backbone<'a>,
    /// The parts they have.
    pub loads: &'a Loads,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Nothing now, and why.
    Wait(String),
    /// This record is to take the place of the one before, and why.
    Change(Box<Group>, String),
}

/// The next step. The record it gives has a higher revision, and a number that is new in it was
/// never given before.
pub fn next(facts: &Facts<'_>, wanted: Wanted<'_>) -> Step {
    let Facts { group, report, .. } = facts;
    let Some(report) = report else {
        return facts.without_leader();
    };
    let (left, leave): (Vec<Member>, Vec<Member>) = {
        let all = group.leaving.iter().cloned();
        all.partition(|m| facts.is_informed(report) && !report.has(m.number))
    };
    if !left.is_empty() {
        let left = left.iter().map(|m| format!("{} at {}", m.number, m.node));
        let why = format!(
            "members that have left: {}",
            left.collect::<Vec<_>>().join(", ")
        );
        let mut group = facts.changed();
        group.leaving = leave;
        return Step::Change(Box::new(group), why);
    }
    if !facts.has_majority(report) {
        // Its leader does not know yet that it is alone.
        return facts.without_leader();
    }
    let named: BTreeSet<u64> = group.all().map(|m| m.number).collect();
    let is_voter = |member: &&Member| report.voters.contains(&member.number);
    let newcomer = group.members.iter().find(|member| !is_voter(member));
    let stranger = report
        .voters
        .union(&report.learners)
        .find(|n| !named.contains(n));
    // The record is older than the group; some relay has the newer one on its disk.
    if let Some(stranger) = stranger {
        return Step::Wait(format!("the group still has member {stranger}, of before"));
    }
    if let Some(newcomer) = newcomer {
        return facts.help(newcomer, wanted);
    }
    if let Some(leaving) = group.leaving.first() {
        if let Some(recall) = facts.recall(report) {
            return recall;
        }
        return Step::Wait(format!(
            "member {} at {} leaves",
            leaving.number, leaving.node
        ));
    }
    facts.mend(wanted)
}

impl Facts<'_> {
    /// Whether the leader knew this record when it said what it says: only then does a member that it
    /// does not name belong to the group no more, and not just as little as before. It did if it names
    /// the member that came last, or if all is as the record wants it. A member who had a vote when
    /// he was given up is named until he has left.
    fn is_informed(&self, report: &Report) -> bool {
        let members: BTreeSet<u64> = self.group.members.iter().map(|m| m.number).collect();
        let last = self.group.next.saturating_sub(1);
        let has_last = members.contains(&last) && report.has(last);
        has_last || (report.voters == members && report.learners.is_empty())
    }

    /// Whether most of those who vote are alive.
    fn has_majority(&self, report: &Report) -> bool {
        let voters = self
            .group
            .all()
            .filter(|m| report.voters.contains(&m.number));
        let alive = voters.filter(|m| (self.standing)(m).is_alive());
        alive.count() * 2 > report.voters.len()
    }

    /// Nobody leads: the group can carry out nothing.
    fn without_leader(&self) -> Step {
        let members = &self.group.members;
        let lost = members.iter().filter(|m| !(self.standing)(m).is_alive());
        let lost: Vec<String> = lost
            .map(|m| format!("{} {}", m.node, (self.standing)(m).reason()))
            .collect();
        if lost.len() * 2 >= members.len() {
            return Step::Wait(format!(
                "{} of {} members are lost ({}): nothing can be done until one is back",
                lost.len(),
                members.len(),
                lost.join(", ")
            ));
        }
        Step::Wait("no member says that it leads".into())
    }

    /// Somebody is to become a voter, and is not yet. If his relay is over before, another is to.
    fn help(&self, newcomer: &Member, wanted: Wanted<'_>) -> Step {
        let standing = (self.standing)(newcomer);
        if !standing.is_over() || self.group.leaving.len() >= MAX_LEAVING {
            return Step::Wait(format!(
                "member {} at {} joins",
                newcomer.number, newcomer.node
            ));
        }
        self.replace(newcomer, standing, wanted)
            .unwrap_or_else(|| self.nobody(newcomer, standing))
    }

    /// Somebody leaves for whom nobody comes, and meanwhile so many of the others were lost that they
    /// would be too few: he stays, as the member he is.
    fn recall(&self, report: &Report) -> Option<Step> {
        let alive = |m: &&Member| (self.standing)(m).is_alive();
        let members = &self.group.members;
        let are_enough = members.iter().filter(alive).count() * 2 > members.len();
        if are_enough || members.len() >= MEMBERS {
            return None;
        }
        let votes = |m: &&Member| report.voters.contains(&m.number);
        let stays = self.group.leaving.iter().filter(alive).find(votes)?.clone();
        let mut group = self.changed();
        group.leaving.retain(|m| m.number != stays.number);
        let why = format!(
            "member {} at {} stays: too few of the others are there",
            stays.number, stays.node
        );
        group.members.push(stays);
        Some(Step::Change(Box::new(group), why))
    }

    /// All are voters: whoever is over is replaced, the worst first; if nobody is, a group that is
    /// too small grows.
    fn mend(&self, wanted: Wanted<'_>) -> Step {
        let members = &self.group.members;
        let mut over: Vec<(Standing, &Member)> = members
            .iter()
            .map(|member| ((self.standing)(member), member))
            .filter(|(standing, _)| standing.is_over())
            .collect();
        over.sort_by_key(|(standing, member)| (std::cmp::Reverse(*standing), member.number));
        if over.is_empty() {
            return self.grow(wanted).unwrap_or(Step::Rest);
        }
        let mut steps = over
            .iter()
            .filter_map(|(standing, member)| self.replace(member, *standing, wanted));
        let (standing, member) = over[0];
        steps
            .next()
            .unwrap_or_else(|| self.nobody(member, standing))
    }

    fn nobody(&self, member: &Member, standing: Standing) -> Step {
        Step::Wait(format!(
            "{} {}, and there is no other relay to take its place",
            member.node,
            standing.reason()
        ))
    }

    /// Another takes a member's place. Where there is no other, one that drains leaves all the same:
    /// two that stay survive what three survive one of whom is switched off.
    fn replace(&self, member: &Member, standing: Standing, wanted: Wanted<'_>) -> Option<Step> {
        let mut group = self.changed();
        group.members.retain(|m| m.number != member.number);
        group.leaving.push(member.clone());
        let why = format!("{} {}", member.node, standing.reason());
        let why = match self.newcomer(&group, &member.node, wanted) {
            Some((node, disk)) => {
                let why = format!("{why}: {node} takes the place of member {}", member.number);
                self.add(&mut group, node, disk);
                why
            }
            None if standing == Standing::Draining => {
                let stay = group.members.len();
                let alive = group
                    .members
                    .iter()
                    .filter(|m| (self.standing)(m).is_alive());
                if alive.count() * 2 <= stay {
                    return None;
                }
                format!(
                    "{why}: member {} leaves, and nobody is there for it",
                    member.number
                )
            }
            None => return None,
        };
        Some(Step::Change(Box::new(group), why))
    }

    fn grow(&self, wanted: Wanted<'_>) -> Option<Step> {
        if self.group.members.len() >= MEMBERS {
            return None;
        }
        let mut group = self.changed();
        let site = self.choose(&group, wanted)?;
        let why = format!("it had {} members: {} joins", group.members.len(), site.id);
        self.add(&mut group, site.id.clone(), site.free?);
        Some(Step::Change(Box::new(group), why))
    }

    /// Who takes the place of a member of `node`: that very relay, if it is free and has another
    /// disk; else the one that fits best.
    fn newcomer(&self, group: &Group, node: &NodeId, wanted: Wanted<'_>) -> Option<(NodeId, u64)> {
        let is_known = |disk| self.group.all().any(|m| m.node == *node && m.disk == disk);
        let again = self.backbone.site(node).and_then(|site| site.free);
        if let Some(disk) = again.filter(|disk| !is_known(*disk)) {
            return Some((node.clone(), disk));
        }
        let site = self.choose(group, wanted)?;
        Some((site.id.clone(), site.free?))
    }

    /// Who fits beside those who stay. Those who leave are there still: not one of them.
    fn choose(&self, group: &Group, wanted: Wanted<'_>) -> Option<&Site> {
        let names = |members: &[Member]| -> Vec<NodeId> {
            members.iter().map(|member| member.node.clone()).collect()
        };
        let (others, barred) = (names(&group.members), names(&group.leaving));
        choose(self.backbone, wanted, &others, &barred, self.loads)
    }

    fn add(&self, group: &mut Group, node: NodeId, disk: u64) {
        let number = group.next;
        group.next += 1;
        group.members.push(Member { number, node, disk });
    }

    fn changed(&self) -> Group {
        let mut group = self.group.clone();
        group.revision += 1;
        group
    }
}
