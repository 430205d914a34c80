//! Whoever asks one neighbour for a track in trouble, and hears nothing, asks others beside it: what
//! cut the upstream off may have cut that one off as well, or the request was lost. Whichever feeds
//! first stays.

use std::time::Duration;

use longspan_proto::{ids::NodeId, time::Time, wire::EndReason};

use super::{
    Forwarder, PeerKey,
    track::{self, Leg, Purpose, Track},
};

/// A neighbour that has not answered after two probes' time is not waited for alone. Most suspicions
/// that are none are over by then.
const HEDGE_AFTER: Duration = Duration::from_millis(50);

/// Neighbours asked beside the first, one after another. Each may pull the track for nothing.
const HEDGES: usize = 2;

impl Track {
    /// When another neighbour is asked beside the rescue; none: not any more.
    pub(super) fn hedge_due(&self) -> Option<Time> {
        let (leg, purpose) = self.standby.as_ref()?;
        let unanswered = !leg.confirmed() && !self.hedges.iter().any(Leg::confirmed);
        let more = self.hedges.len() < HEDGES;
        let asked = self.hedges.last().unwrap_or(leg).asked_at;
        let last = self.tries.no_hedge.map_or(asked, |at| at.max(asked));
        (*purpose == Purpose::Rescue && unanswered && more).then(|| last + HEDGE_AFTER)
    }

    /// Whether it is one of the hedges.
    pub(super) fn is_hedge(&self, peer: PeerKey, sub: u64) -> bool {
        self.hedges.iter().any(|leg| leg.is(peer, sub))
    }

    fn take_hedge(&mut self, peer: PeerKey, sub: u64) -> Option<Leg> {
        let at = self.hedges.iter().position(|leg| leg.is(peer, sub))?;
        Some(self.hedges.remove(at))
    }
}

impl Forwarder {
    /// A way that begins at a neighbour which is neither in trouble nor asked, nor has refused.
    fn fresh_way(&self, track: &Track) -> Option<Vec<NodeId>> {
        let standby = track.standby.as_ref().map(|(leg, _)| leg);
        let legs = track.active.iter().chain(standby).chain(&track.hedges);
        let asked: Vec<&NodeId> = legs.map(|leg| &leg.node).collect();
        let fresh = |way: &Vec<NodeId>| {
            !self.avoids(way)
                && !asked.contains(&&way[0])
                && !track.shift.refused.contains(&way[0])
                && track.is_around(way)
        };
        let mut ways = self.ways(track, false);
        ways.retain(fresh);
        // It may be the neighbour in trouble itself that is gone, not the link to it.
        let nearness = self.nearness(track);
        ways.sort_by_key(|way| (track.is_over(way), nearness(way)));
        ways.into_iter().next()
    }

    /// Whether another than the standby is asked, or could be.
    pub(super) fn could_hedge(&self, key: track::Key) -> bool {
        let track = self.tracks.get(key);
        track.is_some_and(|track| !track.hedges.is_empty() || self.fresh_way(track).is_some())
    }

    /// Asks another neighbour beside a rescue that does not answer.
    pub(super) fn hedge(&mut self, now: Time, key: track::Key) {
        self.touch(key);
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let way = self.fresh_way(track);
        let (start, budget_ms) = (self.start_of(track), track.budget_ms);
        let leg = way
            .as_ref()
            .and_then(|way| self.ask(now, key, way, start, budget_ms, Vec::new()));
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        match (leg, way) {
            (Some(leg), Some(way)) => {
                track.hedges.push(leg);
                track.tries.asked(way);
            }
            // One that is in trouble itself now may be heard again soon.
            _ => track.tries.no_hedge = Some(now),
        }
    }

    /// What is due of the hedges.
    pub(super) fn hedges_due(&mut self, now: Time, key: track::Key) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        while let Some(track) = self.tracks.get(key)
            && let Some(leg) = track.hedges.iter().find(|leg| due(leg.deadline))
        {
            let (peer, sub, confirmed) = (leg.peer, leg.sub, leg.confirmed());
            if confirmed {
                self.prefer(key, peer, sub);
                return self.switch(now, key);
            }
            self.say_goodbye(peer, sub);
            self.hedge_lost(now, key, (peer, sub), None);
        }
        if due(self.tracks.get(key).and_then(Track::hedge_due)) {
            self.hedge(now, key);
        }
    }

    /// Gives all hedges up.
    pub(super) fn drop_hedges(&mut self, key: track::Key) {
        let hedges = self
            .tracks
            .get_mut(key)
            .map(|t| std::mem::take(&mut t.hedges));
        for leg in hedges.into_iter().flatten() {
            self.unsubscribe_leg(&leg);
        }
    }

    /// A hedge is gone, and its peer knows: the next neighbour is asked in its place.
    pub(super) fn hedge_lost(
        &mut self,
        now: Time,
        key: track::Key,
        (peer, sub): (PeerKey, u64),
        reason: Option<EndReason>,
    ) {
        let hedge = self
            .tracks
            .get_mut(key)
            .and_then(|t| t.take_hedge(peer, sub));
        if let Some(leg) = hedge {
            self.release(&leg);
            if let Some(track) = self.tracks.get_mut(key) {
                track.tries.refused(&leg.node, reason);
                track.shift.refused.push(leg.node);
            }
            self.hedge(now, key);
        }
        self.touch(key);
    }

    /// A hedge takes the place of the standby, which is gone: the one that was asked first.
    pub(super) fn promote_hedge(&mut self, key: track::Key) -> bool {
        let Some(track) = self.tracks.get_mut(key) else {
            return false;
        };
        if track.hedges.is_empty() {
            return false;
        }
        track.standby = Some((track.hedges.remove(0), Purpose::Rescue));
        self.rescues += 1;
        self.touch(key);
        true
    }

    /// Of standby and hedges this one feeds: it is the standby from now on.
    pub(super) fn prefer(&mut self, key: track::Key, peer: PeerKey, sub: u64) {
        if let Some(track) = self.tracks.get_mut(key)
            && let Some((standby, _)) = &mut track.standby
            && let Some(hedge) = track.hedges.iter_mut().find(|leg| leg.is(peer, sub))
        {
            std::mem::swap(standby, hedge);
        }
    }
}
