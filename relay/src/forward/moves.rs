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

use longspan_topology::hysteresis;

use super::{
    Failover, Forwarder, PeerKey, StreamKey, Trouble,
    track::{self, Leg, Purpose, Track},
    upstream::SILENT_STANDBY,
};

/// The pause before a failed move is tried again; doubled each time, at most
/// `Limits::move_attempts` times for one route table.
const MOVE_PAUSE: Duration = Duration::from_millis(250);
/// How long a backfill is fetched at the most.
const BACKFILL_FOR: Duration = Duration::from_secs(3);

/// Where a track should go.
enum Wish {
    /// Nowhere.
    None,
    /// That is to be seen then.
    Later(Time),
    /// Along this way, which is better; or less bad, after this trouble.
    Move(Vec<NodeId>, Option<Trouble>),
    /// Along this way, since its neighbour is in trouble.
    Rescue(Vec<NodeId>),
}

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
                self.plan_move(now, key);
            }
        }
        self.start_moves(now);
    }

    /// Queues a move, if there is a better way. A track that may not move yet looks again later.
    pub(super) fn plan_move(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        if track.shift.queued || track.shift.next.is_some() {
            return;
        }
        let wish = self.better_way(now, track);
        let displaced = track.shift.displaced && self.strays(track);
        let again = now + self.config.hold;
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.shift.displaced = displaced;
        match wish {
            Wish::None if displaced => {
                track.shift.next = Some(again);
                self.touch(key);
            }
            Wish::None => {}
            Wish::Later(at) => {
                track.shift.next = Some(at);
                self.touch(key);
            }
            Wish::Move(..) => {
                track.shift.queued = true;
                self.move_queue.push_back(key);
            }
            Wish::Rescue(_) => {
                track.shift.queued = true;
                self.rescue_queue.push_back(key);
            }
        }
    }

    /// The way a track should take, if its next hop is another than now.
    fn better_way(&self, now: Time, track: &Track) -> Wish {
        let Some(active) = track.active.as_ref().filter(|leg| leg.confirmed()) else {
            return Wish::None;
        };
        if track.standby.is_some() || track.finishing.is_some() || !track.wanted() {
            return Wish::None;
        }
        let avoided =
            self.peers.get(&active.peer).is_some_and(|p| p.avoided()) || track.forsaken.is_some();
        let too_long = track.chain.len() > self.config.hop_limit + 2;
        let elsewhere = |way: &Vec<NodeId>| way.first() != Some(&active.node);
        let mut ways = self.ways(track, false);
        ways.retain(|way| {
            !self.avoids(way) && !track.shift.refused.contains(&way[0]) && track.is_around(way)
        });
        // A full link takes no track that came another way, while there is another way.
        let is_full = |way: &Vec<NodeId>| !self.routes.is_open(&self.config.node, way);
        if avoided || too_long {
            let nearness = self.nearness(track);
            ways.sort_by_key(|way| (is_full(way), nearness(way)));
            return match ways.into_iter().find(elsewhere) {
                Some(way) if avoided => Wish::Rescue(way),
                Some(way) => Wish::Move(way, None),
                None => Wish::None,
            };
        }
        ways.retain(|way| {
            let left = track.shift.shed.as_ref();
            let left = left.is_some_and(|(from, until)| way[0] == *from && now < *until);
            !left && (!is_full(way) || way[0] == active.node)
        });
        let Some(best) = ways.first() else {
            return Wish::None;
        };
        let strays = best.first() != Some(&active.node);
        let wish = match self.costs_more(track, &active.node, &ways) {
            Some(way) if elsewhere(&way) => Wish::Move(way, Some(Trouble::Degraded)),
            // Another is the table's best, but it costs more now.
            Some(_) if strays => Wish::Later(now + self.config.hold),
            Some(_) => Wish::None,
            None if strays => Wish::Move(best.clone(), None),
            None => Wish::None,
        };
        // Before the active leg has brought anything, nobody knows from where another one would have
        // to go on.
        let unknown = match active.fed {
            true => None,
            false => active.confirmed_at.map(|at| at + SILENT_STANDBY),
        };
        match (wish, track.shift.held.max(unknown)) {
            (Wish::Move(..), Some(until)) if until > now => Wish::Later(until),
            (wish, _) => wish,
        }
    }

    /// Whether it comes another way than the table's best.
    fn strays(&self, track: &Track) -> bool {
        let ways = self.routes.ways(&self.config.node, &track.origin);
        let best = ways.first().and_then(|way| way.first());
        let active = track.active.as_ref().map(|leg| &leg.node);
        best.is_some() && active.is_some() && best != active
    }

    pub(super) fn avoids(&self, way: &[NodeId]) -> bool {
        let peer = way.first().and_then(|next| self.peer_of(next));
        let peer = peer.and_then(|peer| self.peers.get(&peer));
        peer.is_none_or(|peer| peer.avoided())
    }

    /// How soon a track may come from a way, in µs, for a rescue: what the table says of it; and what
    /// is measured, if the neighbour is the origin itself. A table would use an edge's standby less
    /// than it could. What is not known comes last.
    pub(super) fn nearness(&self, track: &Track) -> impl Fn(&Vec<NodeId>) -> u64 {
        let told = self.routes.priced(&self.config.node, &track.origin);
        let neighbour = self
            .peer_of(&track.origin)
            .and_then(|key| self.peers.get(&key));
        let direct = neighbour.and_then(|peer| peer.rtt);
        move |way| {
            let of_table = told
                .iter()
                .find(|(_, nodes)| nodes == way)
                .map(|(cost, _)| *cost);
            match (way.len(), direct) {
                (1, Some(rtt)) => rtt.as_micros() as u64 / 2,
                _ => of_table.unwrap_or(u64::MAX),
            }
        }
    }

    /// The best of these ways by what the table says and their first links have come to cost
    /// since; `None` where the table's word alone decides.
    fn costs_more(
        &self,
        track: &Track,
        active: &NodeId,
        ways: &[Vec<NodeId>],
    ) -> Option<Vec<NodeId>> {
        let extra = |node: &NodeId| {
            let peer = self.peer_of(node).and_then(|peer| self.peers.get(&peer));
            peer.map_or(0, |peer| peer.extra_us)
        };
        if ways.iter().all(|way| extra(&way[0]) == 0) {
            return None;
        }
        let told = self.routes.priced(&self.config.node, &track.origin);
        let cost = |way: &Vec<NodeId>| {
            let (told, _) = told.iter().find(|(_, nodes)| nodes == way)?;
            Some(told.saturating_add(extra(&way[0])))
        };
        let priced = ways.iter().filter_map(|way| Some((cost(way)?, way)));
        let (best_cost, best) = priced.clone().min_by_key(|(cost, _)| *cost)?;
        let (present, way) = priced
            .filter(|(_, way)| way.first() == Some(active))
            .min_by_key(|(cost, _)| *cost)?;
        let verdict = hysteresis::judge(Some(present), best_cost, Time::ZERO, None, Duration::ZERO);
        match verdict.moves() {
            true => Some(best.clone()),
            false => Some(way.clone()),
        }
    }

    /// Starts as many of the queued moves as may be under way, the urgent ones first.
    pub(super) fn start_moves(&mut self, now: Time) {
        while self.rescues < self.config.limits.rescues
            && let Some(key) = self.rescue_queue.pop_front()
        {
            self.start_move(now, key);
        }
        while self.moves < self.config.limits.moves
            && let Some(key) = self.move_queue.pop_front()
        {
            self.start_move(now, key);
        }
    }

    fn start_move(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.shift.queued = false;
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let (way, purpose, trouble) = match self.better_way(now, track) {
            Wish::Rescue(way) => (way, Purpose::Rescue, None),
            Wish::Move(way, trouble) => (way, Purpose::Move, trouble),
            Wish::None | Wish::Later(_) => return self.plan_move(now, key),
        };
        // Whether the neighbour or only the link to it is gone is not known: where the best way leads
        // over the neighbour, one around it is asked for as well.
        let doubtful = purpose == Purpose::Rescue && track.is_over(&way);
        let (start, budget_ms) = (self.start_of(track), track.budget_ms);
        if let Some(leg) = self.ask(now, key, &way, start, budget_ms, Vec::new())
            && let Some(track) = self.tracks.get_mut(key)
        {
            track.standby = Some((leg, purpose));
            track.tries.asked(way);
            track.trouble = track.trouble.or(trouble.map(|trouble| (trouble, now)));
            match purpose {
                Purpose::Rescue => self.rescues += 1,
                _ => self.moves += 1,
            }
            self.touch(key);
            if doubtful {
                self.hedge(now, key);
            }
        }
    }

    /// Takes the standby out of a track.
    pub(super) fn take_standby(&mut self, key: track::Key) -> Option<(Leg, Purpose)> {
        let standby = self.tracks.get_mut(key)?.standby.take()?;
        match standby.1 {
            Purpose::Move => self.moves -= 1,
            Purpose::Rescue => self.rescues -= 1,
            Purpose::Backfill(_) => {}
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
        if let Some(track) = self.tracks.get_mut(key)
            && track.trouble.is_none()
        {
            let tries = std::mem::take(&mut track.tries);
            let moved = Failover::new(now, &track.id, None, tries, &leg);
            self.failovers.add(moved);
        }
        let old = self.tracks.get_mut(key).and_then(|t| t.active.replace(leg));
        if let Some(old) = old {
            self.unsubscribe_leg(&old);
        }
        self.drop_hedges(key);
        self.stats.moves_done += 1;
        self.has_upstream(now, key, chain, None);
    }

    /// Gives the standby up and says so.
    pub(super) fn fail_standby(&mut self, now: Time, key: track::Key) {
        if let Some((leg, purpose)) = self.take_standby(key) {
            self.unsubscribe_leg(&leg);
            self.standby_gone(now, key, leg, purpose);
        }
    }

    /// The peer ended the standby, or is gone.
    pub(super) fn standby_lost(&mut self, now: Time, key: track::Key) {
        if let Some((leg, purpose)) = self.take_standby(key) {
            self.release(&leg);
            self.standby_gone(now, key, leg, purpose);
        }
    }

    /// The standby is gone; the active leg stays. A move is tried again later.
    fn standby_gone(&mut self, now: Time, key: track::Key, leg: Leg, purpose: Purpose) {
        let Leg { node, start, .. } = leg;
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
        if purpose.takes_over() {
            self.stats.moves_failed += 1;
            track.tries.refused(&node, track.search.reason.take());
        }
        match purpose {
            Purpose::Move => {
                // A wish for less cost; it is looked at anew.
                track.trouble.take_if(|(why, _)| *why == Trouble::Degraded);
                self.move_pause(now, key);
            }
            Purpose::Rescue if self.promote_hedge(key) => {
                if let Some(track) = self.tracks.get_mut(key) {
                    track.shift.refused.push(node);
                }
                self.hedge(now, key);
            }
            Purpose::Rescue => self.rescue_refused(now, key, node),
            Purpose::Backfill(_) => {}
        }
        self.touch(key);
        self.backfill(now, key);
        self.start_moves(now);
    }

    fn move_pause(&mut self, now: Time, key: track::Key) {
        let attempts = self.config.limits.move_attempts;
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.shift.attempts += 1;
        if track.shift.attempts < attempts {
            let pause = MOVE_PAUSE * 2u32.saturating_pow(track.shift.attempts.min(8) - 1);
            track.shift.next = Some(now + pause);
        }
    }

    /// The next neighbour is asked at once; when all have refused, all again after a pause.
    fn rescue_refused(&mut self, now: Time, key: track::Key, node: NodeId) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.shift.refused.push(node);
        track.shift.next = None;
        self.plan_move(now, key);
        if let Some(track) = self.tracks.get_mut(key)
            && !track.shift.queued
        {
            track.shift.refused.clear();
            self.move_pause(now, key);
        }
    }

    pub(super) fn standby_due(&mut self, now: Time, key: track::Key) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        self.hedges_due(now, key);
        let Some((leg, purpose)) = self.tracks.get(key).and_then(|t| t.standby.as_ref()) else {
            return;
        };
        match purpose {
            _ if purpose.takes_over() && due(leg.deadline) && leg.confirmed() => {
                self.switch(now, key);
            }
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
            self.plan_move(now, key);
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
        if let Some(leg) = self.ask(now, key, &way, start, 0, Vec::new())
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
