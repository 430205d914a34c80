//! The order that came out of a history: against real time, and against the states that were seen.

use super::{
    Law, State, What,
    judge::{At, Judge, Place},
};

impl Judge<'_> {
    /// Goes through the order, place by place.
    pub(super) fn order(&mut self) {
        self.real_time();
        self.publishers();
        self.fold();
    }

    /// What was said after another's ack stands behind it.
    fn real_time(&mut self) {
        // Of all places so far, the message that was said last.
        let mut latest: Option<At> = None;
        for seq in self.seqs() {
            let place = self.places[&seq];
            if let Some(ack) = self.acks.get(&place.mark).copied()
                && let Some(said) = latest
                && self.history[ack].at < self.history[said].at
            {
                let why =
                    format!("{seq} was acked before a message was said that stands before it");
                self.broken(Law::RealTime, why, &[ack, said]);
            }
            let said = self.said.get(&place.mark).copied();
            latest = latest.max(said);
        }
    }

    fn publishers(&mut self) {
        let mut newest = std::collections::HashMap::new();
        for seq in self.seqs() {
            let place = self.places[&seq];
            let before = newest.insert(place.mark.session, place);
            if let Some(before) = before
                && before.mark.n > place.mark.n
            {
                let (n, other) = (place.mark.n, before.mark.n);
                let why = format!("{n} of a session stands at {seq}, behind {other}");
                self.broken(Law::PublishersOrder, why, &[before.first, place.first]);
            }
        }
    }

    /// The state after each place, as far as it can be known, beside the states that were seen.
    fn fold(&mut self) {
        let mut states = std::mem::take(&mut self.states);
        let seq_of = |at: &At| match &self.history[*at].what {
            What::Told { seq, .. } | What::Reads { seq, .. } => *seq,
            _ => 0,
        };
        states.sort_by_key(seq_of);
        let mut states: Vec<(u64, At)> = states.iter().map(|at| (seq_of(at), *at)).collect();
        states.reverse();
        let last = self.places.keys().next_back().copied();
        let last = last.max(states.first().map(|(seq, _)| *seq)).unwrap_or(0);
        let mut known = Some(State::new());
        for seq in 0..=last {
            if seq > 0 {
                known = self.step(seq, known);
            }
            while let Some((_, at)) = states.pop_if(|(of, _)| *of <= seq) {
                known = Some(self.compare(known, at));
            }
        }
    }

    /// The state after the message at `seq`; None where it cannot be known.
    fn step(&mut self, seq: u64, state: Option<State>) -> Option<State> {
        let Some(place) = self.places.get(&seq).copied() else {
            self.verdict.unseen += 1;
            return None;
        };
        let Some(write) = self.write(&place.mark).cloned() else {
            return state;
        };
        let mut state = state?;
        let held = state.get(&write.key).map_or(0, |(revision, _)| *revision);
        if let Some(expected) = write.expected
            && expected != held
        {
            let why = format!(
                "{} expected revision {expected}, {held} was held",
                write.key
            );
            let said = self.said[&place.mark];
            self.broken(Law::CompareAndSet, why, &[said, place.first]);
        }
        match write.deletes {
            true => state.remove(&write.key),
            false => state.insert(write.key, (seq, place.mark)),
        };
        Some(state)
    }

    /// The state as it is known after it was seen.
    fn compare(&mut self, known: Option<State>, at: At) -> State {
        let (What::Told { state, seq, .. } | What::Reads { state, seq, .. }) =
            &self.history[at].what
        else {
            return State::new();
        };
        let Some(known) = known else {
            return state.clone();
        };
        if known != *state {
            let mut keys = known.keys().chain(state.keys());
            let key = keys.find(|key| known.get(*key) != state.get(*key));
            let key = key.cloned().unwrap_or_default();
            let (has, holds) = (known.get(&key), state.get(&key));
            let why = format!(
                "at {seq} the log makes {key} {:?}, the state says {:?}",
                has.map(|(revision, _)| revision),
                holds.map(|(revision, _)| revision)
            );
            let written = has.or(holds).map(|(_, mark)| self.said.get(mark).copied());
            let events: Vec<At> = written.flatten().into_iter().chain([at]).collect();
            self.broken(Law::StateOfTheLog, why, &events);
        }
        known
    }

    /// All places, but the second ones of messages that have two.
    fn seqs(&self) -> Vec<u64> {
        let is_first = |(seq, place): &(&u64, &Place)| self.of.get(&place.mark) == Some(*seq);
        let firsts = self.places.iter().filter(is_first);
        firsts.map(|(seq, _)| *seq).collect()
    }
}
