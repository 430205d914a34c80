//! Goes through a history once, member by member; `fold` looks at the order that comes out of it.

use std::collections::{BTreeMap, HashMap};

use longspan_proto::time::Time;

use super::{Broken, Event, Law, MAX_KEPT, Mark, Verdict, What, Write};

/// Which laws a history breaks. `history` is in the order in which it happened.
pub fn judge(history: &[Event]) -> Verdict {
    let mut judge = Judge {
        history,
        said: HashMap::new(),
        acks: HashMap::new(),
        refused: HashMap::new(),
        places: BTreeMap::new(),
        of: HashMap::new(),
        members: HashMap::new(),
        marks: Marks::default(),
        states: Vec::new(),
        verdict: Verdict::default(),
    };
    for at in 0..history.len() {
        judge.event(at);
    }
    judge.order();
    judge.given_to_all();
    judge.count();
    judge.verdict
}

/// An index of the history.
pub(super) type At = usize;

pub(super) struct Judge<'a> {
    pub history: &'a [Event],
    pub said: HashMap<Mark, At>,
    /// The first ack of each.
    pub acks: HashMap<Mark, At>,
    refused: HashMap<Mark, At>,
    /// Of each place that anybody saw.
    pub places: BTreeMap<u64, Place>,
    /// The first place that was heard of each message.
    pub of: HashMap<Mark, u64>,
    members: HashMap<u32, Stand>,
    /// Of all members.
    marks: Marks,
    /// Where a state was told or read.
    pub states: Vec<At>,
    pub verdict: Verdict,
}

/// What stands at a place, and where that was heard first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub mark: Mark,
    pub first: At,
}

/// Where a member stands.
#[derive(Debug, Default)]
struct Stand {
    /// The newest message it has, or that a gap or a state stands for.
    seq: Option<u64>,
    /// Where it heard that.
    last: At,
    /// Its edge has said to know less.
    behind: bool,
    marks: Marks,
    stays: Option<At>,
}

/// The newest places that were acked by which time.
#[derive(Debug, Default)]
struct Marks(Vec<(Time, u64, At)>);

impl Marks {
    fn acked(&mut self, time: Time, seq: u64, at: At) {
        if self.0.last().is_none_or(|(_, newest, _)| *newest < seq) {
            self.0.push((time, seq, at));
        }
    }

    /// The newest that was acked before then.
    fn before(&self, time: Time) -> Option<(u64, At)> {
        let count = self.0.partition_point(|(acked, ..)| *acked < time);
        let (_, seq, at) = self.0.get(count.checked_sub(1)?)?;
        Some((*seq, *at))
    }
}

impl Judge<'_> {
    pub fn broken(&mut self, law: Law, why: String, events: &[At]) {
        *self.verdict.count.entry(law).or_default() += 1;
        if self.verdict.broken.len() < MAX_KEPT {
            let mut events = events.to_vec();
            events.sort_unstable();
            events.dedup();
            let events = events.iter().map(|at| self.history[*at].clone());
            let events = events.collect();
            self.verdict.broken.push(Broken { law, why, events });
        }
    }

    fn event(&mut self, at: At) {
        let Event {
            at: time,
            member,
            what,
        } = &self.history[at];
        let stand = self.members.entry(*member).or_default();
        match what {
            What::Says { mark, .. } => {
                if let Some(first) = self.said.insert(*mark, at) {
                    let why = format!("{mark:?} is said for the first time twice");
                    self.broken(Law::Said, why, &[first, at]);
                }
            }
            What::Acked { mark, seq } => {
                stand.marks.acked(*time, *seq, at);
                self.marks.acked(*time, *seq, at);
                self.stands(*mark, *seq, at);
                self.acks.entry(*mark).or_insert(at);
            }
            What::Refused { mark } => {
                if let Some(seq) = self.of.get(mark) {
                    let (why, place) = (format!("it stands at {seq}"), self.places[seq].first);
                    self.broken(Law::RefusalsAreTrue, why, &[place, at]);
                }
                self.refused.insert(*mark, at);
            }
            What::Gets { seq, mark } => {
                self.verdict.given += 1;
                self.stands(*mark, *seq, at);
                self.goes_on(*member, *seq, at);
            }
            What::Resumes { seq } => self.jumps(*member, *seq, at),
            What::Gap { from, to } => {
                self.verdict.gaps += 1;
                self.jumps(*member, from.saturating_sub(1), at);
                let stand = self.members.entry(*member).or_default();
                if to < from && !stand.behind {
                    let why = format!("a gap from {from} to {to} goes backwards");
                    self.broken(Law::NothingRepeated, why, &[at]);
                }
                let stand = self.members.entry(*member).or_default();
                (stand.seq, stand.last) = (Some(*to), at);
            }
            What::Behind => {
                self.verdict.behind += 1;
                stand.behind = true;
            }
            What::Told { asked, seq, state } => {
                let own = stand.marks.before(*asked).filter(|_| !stand.behind);
                self.fresh(Law::ReadYourWrites, own, *seq, at);
                self.jumps(*member, *seq, at);
                self.members.entry(*member).or_default().behind = false;
                self.state(at, state.values().copied());
            }
            What::Reads { asked, seq, state } => {
                let all = self.marks.before(*asked);
                self.fresh(Law::FreshReads, all, *seq, at);
                self.state(at, state.values().copied());
            }
            What::Leaves => *stand = Stand::default(),
            What::Stays => stand.stays = Some(at),
        }
    }

    /// Somebody hears that a message stands at a place.
    fn stands(&mut self, mark: Mark, seq: u64, at: At) {
        if !self.said.contains_key(&mark) {
            let why = format!("nobody has said {mark:?}");
            self.broken(Law::Said, why, &[at]);
        }
        if let Some(refused) = self.refused.get(&mark).copied() {
            let why = format!("it is said to stand at {seq}");
            self.broken(Law::RefusalsAreTrue, why, &[refused, at]);
        }
        let first = *self.places.entry(seq).or_insert(Place { mark, first: at });
        if first.mark != mark {
            let is_ack = |at: At| matches!(self.history[at].what, What::Acked { .. });
            let law = match is_ack(first.first) || is_ack(at) {
                true => Law::AcksAreTrue,
                false => Law::OneOrder,
            };
            let why = format!("two messages stand at {seq}");
            return self.broken(law, why, &[first.first, at]);
        }
        let other = *self.of.entry(mark).or_insert(seq);
        if other != seq {
            let (why, first) = (
                format!("it stands at {other} and at {seq}"),
                self.places[&other].first,
            );
            self.broken(Law::Once, why, &[first, at]);
        }
    }

    /// A member gets the message of a place.
    fn goes_on(&mut self, member: u32, seq: u64, at: At) {
        let stand = self.members.entry(member).or_default();
        let (before, last) = (stand.seq, stand.last);
        (stand.seq, stand.last) = (Some(seq), at);
        match before {
            None => {
                let why = format!("{seq} is given before there is a place to go on from");
                self.broken(Law::NothingSkipped, why, &[at]);
            }
            Some(before) if seq <= before => {
                let why = format!("{seq} is given after {before}");
                self.broken(Law::NothingRepeated, why, &[last, at]);
            }
            Some(before) if seq > before + 1 => {
                let why = format!("{seq} is given after {before}");
                self.broken(Law::NothingSkipped, why, &[last, at]);
            }
            Some(_) => {}
        }
    }

    /// A member is told where it stands: where it stood, unless its edge knows less, or it comes.
    fn jumps(&mut self, member: u32, seq: u64, at: At) {
        let stand = self.members.entry(member).or_default();
        let (before, last, behind) = (stand.seq, stand.last, stand.behind);
        (stand.seq, stand.last) = (Some(seq), at);
        match before {
            Some(before) if seq > before => {
                let why = format!("it stood at {before} and is to go on from {seq}");
                self.broken(Law::NothingSkipped, why, &[last, at]);
            }
            Some(before) if seq < before && !behind => {
                let why = format!("it stood at {before} and is to go on from {seq}");
                self.broken(Law::NothingRepeated, why, &[last, at]);
            }
            _ => {}
        }
    }

    fn fresh(&mut self, law: Law, acked: Option<(u64, At)>, seq: u64, at: At) {
        if let Some((acked, ack)) = acked
            && acked > seq
        {
            let why = format!("a state of {seq}, asked for after {acked} was acked");
            self.broken(law, why, &[ack, at]);
        }
    }

    fn state(&mut self, at: At, state: impl Iterator<Item = (u64, Mark)>) {
        self.verdict.states += 1;
        for (revision, mark) in state {
            self.stands(mark, revision, at);
        }
        self.states.push(at);
    }

    pub fn write(&self, mark: &Mark) -> Option<&Write> {
        match &self.history[*self.said.get(mark)?].what {
            What::Says { write, .. } => write.as_ref(),
            _ => None,
        }
    }

    /// Whoever stays has everything that was acked.
    fn given_to_all(&mut self) {
        let mut stays: Vec<(u32, u64, At)> = Vec::new();
        for (member, stand) in &self.members {
            if let Some(at) = stand.stays {
                stays.push((*member, stand.seq.unwrap_or(0), at));
            }
        }
        stays.sort_unstable();
        for (member, seq, at) in stays {
            let next = self
                .marks
                .0
                .iter()
                .find(|(_, acked, _)| *acked > seq)
                .copied();
            if let Some((_, acked, ack)) = next {
                let why = format!("member {member} stands at {seq} in the end, {acked} was acked");
                self.broken(Law::AllGiven, why, &[ack, at]);
            }
        }
    }

    fn count(&mut self) {
        let answered =
            |mark: &&Mark| self.acks.contains_key(mark) || self.refused.contains_key(mark);
        let verdict = &mut self.verdict;
        verdict.said = self.said.len() as u64;
        verdict.acked = self.acks.len() as u64;
        verdict.refused = self.refused.len() as u64;
        verdict.unanswered = verdict.said - self.said.keys().filter(answered).count() as u64;
    }
}
