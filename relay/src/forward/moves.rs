//! Moves to a better upstream: make before break. The new leg is asked from the first position
//! that is missing; once it is confirmed and feeds, it takes over and the old one is left.
//!
//! The same second leg fetches for newcomers what was before a track was resumed (`Backfill`).

use std::time::Duration;

use longspan_proto::{
    ids::{NodeId, Position},
    time::Time,
    wire::Start,
};

use super::{
    Forwarder, PeerKey, StreamKey,
    track::{self, Leg, Purpose, Track},
};

/// The pause before a failed move is tried again; doubled each time, at most
/// `Limits::move_attempts` times for one route table.
const MOVE_PAUSE: Duration = Duration::from_millis(250);
/// How long that is fetched at the most.
const BACKFILL_FOR: Duration = Duration::from_secs(3);

impl Forwarder {
    /// Tables or neighbours changed: searches go on at once, and tracks move where it is better.
    pub(super) fn ways_changed(&mut self, now: Time) {
        let keys: Vec<_> = self.tracks.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(track) = self.tracks.get_mut(key) else {
                continue;
            };
            if track.own || track.ended.is_some() {
                continue;
            }
            if track.active.is_none() {
                if track.wanted() {
                    track.search.tried.clear();
                    self.seek(now, key);
                }
            } else {
                track.shift.attempts = 0;
                self.plan_move(key);
            }
        }
        self.start_moves(now);
    }

    /// The tracks that come from a peer leave it, if it is to be avoided.
    pub(super) fn leave_peer(&mut self, now: Time, peer: PeerKey) {
        let tracks = self.peers.get(&peer).map(|p| p.asked.values().copied());
        let mut tracks: Vec<_> = tracks.into_iter().flatten().collect();
        tracks.sort_by_key(|key| self.tracks.get(*key).map(|t| t.cache.priority()));
        for key in tracks {
            if let Some(track) = self.tracks.get_mut(key) {
                track.shift.attempts = 0;
            }
            self.plan_move(key);
        }
        self.start_moves(now);
    }

    /// Queues a move, if there is a better way.
    pub(super) fn plan_move(&mut self, key: track::Key) {
        if let Some(track) = self.tracks.get(key)
            && !track.shift.queued
            && track.shift.next.is_none()
            && self.better_way(track).is_some()
            && let Some(track) = self.tracks.get_mut(key)
        {
            track.shift.queued = true;
            self.move_queue.push_back(key);
        }
    }

    /// The way a track should take, if its next hop is another than now.
    fn better_way(&self, track: &Track) -> Option<Vec<NodeId>> {
        let active = track.active.as_ref().filter(|leg| leg.confirmed())?;
        if track.standby.is_some() || track.finishing.is_some() || !track.wanted() {
            return None;
        }
        let avoided = self.peers.get(&active.peer).is_some_and(|p| p.avoided());
        let too_long = track.chain.len() > self.config.hop_limit + 2;
        let mut ways = self.ways(track, false);
        if avoided || too_long {
            ways.retain(|way| way.first() != Some(&active.node));
        }
        let way = ways.into_iter().next()?;
        let next = way.first()?;
        let peer = self.peer_of(next).and_then(|peer| self.peers.get(&peer))?;
        (*next != active.node && !peer.avoided()).then_some(way)
    }

    /// Starts as many of the queued moves as may be under way.
    pub(super) fn start_moves(&mut self, now: Time) {
        while self.moves < self.config.limits.moves
            && let Some(key) = self.move_queue.pop_front()
        {
            let Some(track) = self.tracks.get_mut(key) else {
                continue;
            };
            track.shift.queued = false;
            let Some(track) = self.tracks.get(key) else {
                continue;
            };
            let Some(way) = self.better_way(track) else {
                continue;
            };
            let (start, budget_ms) = (self.start_of(track), track.budget_ms);
            if let Some(leg) = self.ask(now, key, way, start, budget_ms, Vec::new())
                && let Some(track) = self.tracks.get_mut(key)
            {
                track.standby = Some((leg, Purpose::Move));
                self.moves += 1;
                self.touch(key);
            }
        }
    }

    /// Takes the standby out of a track.
    pub(super) fn take_standby(&mut self, key: track::Key) -> Option<(Leg, Purpose)> {
        let standby = self.tracks.get_mut(key)?.standby.take()?;
        if standby.1 == Purpose::Move {
            self.moves -= 1;
        }
        Some(standby)
    }

    /// The standby feeds: it takes over.
    pub(super) fn switch(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let Some((leg, _)) = &track.standby else {
            return;
        };
        // It gets the track from here by now: each would take it from the other.
        let mut receivers = track
            .receivers
            .iter()
            .filter_map(|r| self.receivers.get(*r));
        if receivers.any(|r| r.crossed.last() == Some(&leg.node)) {
            return self.fail_standby(now, key);
        }
        let Some((leg, _)) = self.take_standby(key) else {
            return;
        };
        let chain = leg.chain.clone();
        let old = self.tracks.get_mut(key).and_then(|t| t.active.replace(leg));
        if let Some(old) = old {
            self.unsubscribe_leg(&old);
        }
        self.stats.moves_done += 1;
        self.has_upstream(now, key, chain, None);
    }

    /// Gives the standby up and says so.
    fn fail_standby(&mut self, now: Time, key: track::Key) {
        if let Some((leg, purpose)) = self.take_standby(key) {
            self.unsubscribe_leg(&leg);
            self.standby_gone(now, key, leg.start, purpose);
        }
    }

    /// The peer ended the standby, or is gone.
    pub(super) fn standby_lost(&mut self, now: Time, key: track::Key) {
        if let Some((leg, purpose)) = self.take_standby(key) {
            self.release(&leg);
            self.standby_gone(now, key, leg.start, purpose);
        }
    }

    /// The standby is gone; the active leg stays. A move is tried again later.
    fn standby_gone(&mut self, now: Time, key: track::Key, start: Start, purpose: Purpose) {
        if let Purpose::Backfill(_) = purpose {
            for receiver in self.attached(key) {
                if let Some(receiver) = self.receivers.get_mut(receiver) {
                    receiver.filled(start);
                }
            }
            self.notify_all(now, key);
        }
        self.watch_unfed(now, key);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if purpose == Purpose::Move {
            self.stats.moves_failed += 1;
            track.shift.attempts += 1;
            if track.shift.attempts < self.config.limits.move_attempts {
                let pause = MOVE_PAUSE * 2u32.saturating_pow(track.shift.attempts.min(8) - 1);
                track.shift.next = Some(now + pause);
            }
        }
        self.touch(key);
        self.backfill(now, key);
        self.start_moves(now);
    }

    pub(super) fn standby_due(&mut self, now: Time, key: track::Key) {
        let Some((leg, purpose)) = self.tracks.get(key).and_then(|t| t.standby.as_ref()) else {
            return;
        };
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        match purpose {
            Purpose::Move if due(leg.deadline) && leg.confirmed() => self.switch(now, key),
            Purpose::Backfill(until) if *until <= now => self.fail_standby(now, key),
            _ if due(leg.deadline) => self.fail_standby(now, key),
            _ => {}
        }
    }

    pub(super) fn shift_due(&mut self, now: Time, key: track::Key) {
        if let Some(track) = self.tracks.get_mut(key)
            && track.shift.next.is_some_and(|at| at <= now)
        {
            track.shift.next = None;
            self.plan_move(key);
            self.start_moves(now);
        }
    }

    /// A newcomer wants what was before this node began to take the track: the newest group from
    /// its start, or the rest after a position it resumes at. It is fetched from the same
    /// upstream, beside the active leg.
    pub(super) fn backfill(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let Some(active) = track.active.as_ref().filter(|leg| leg.confirmed()) else {
            return;
        };
        if track.standby.is_some() || track.finishing.is_some() {
            return;
        }
        let receivers = track
            .receivers
            .iter()
            .filter_map(|r| self.receivers.get(*r));
        let starts = receivers.filter_map(|r| r.lacks(&track.cache));
        let start = starts.min_by_key(|start| match start {
            Start::At(position) => (0, *position),
            Start::Latest => (1, Position::default()),
        });
        let Some(start) = start else {
            return;
        };
        if start == Start::Latest && active.start == Start::Latest {
            // It is what the active leg begins with.
            return;
        }
        let mut way = active.chain.clone();
        way.reverse();
        // Without a budget: it is old by nature, and wanted in order.
        if let Some(leg) = self.ask(now, key, way, start, 0, Vec::new())
            && let Some(track) = self.tracks.get_mut(key)
        {
            track.standby = Some((leg, Purpose::Backfill(now + BACKFILL_FOR)));
            self.touch(key);
        }
    }

    /// A stream of the backfill brought what is held already: no more of it is wanted.
    pub(super) fn overlapped(
        &mut self,
        now: Time,
        key: track::Key,
        peer: PeerKey,
        stream: StreamKey,
    ) {
        self.stop(peer, stream);
        let standby = self.tracks.get_mut(key).and_then(|t| t.standby.as_mut());
        if let Some((leg, Purpose::Backfill(_))) = standby {
            leg.overlaps = true;
        }
        self.backfilled(now, key);
    }

    /// Ends the backfill if it brought what was missing.
    pub(super) fn backfilled(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let Some((leg, Purpose::Backfill(_))) = &track.standby else {
            return;
        };
        let newest = leg.start == Start::Latest && track.cache.latest().is_some();
        if leg.streams.is_empty() && (leg.overlaps || newest) {
            self.fail_standby(now, key);
        }
    }
}
