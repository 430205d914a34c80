//! Subscriptions of ours: asked, confirmed, lost, looked for again.
//!
//! A track has one active leg. When it is lost, every known way is tried in turn, from the first
//! position that is still missing. When all failed, peers are told at once (they may know other
//! ways); for this node's own consumers the search goes on with pauses, until its bound.

use longspan_proto::{
    ids::{NodeId, Position},
    time::Time,
    wire::{End, EndReason, Message, Ok, Role, Start, Subscribe, Unsubscribe, Update},
};

use super::{
    Forwarder, LocalEvent, Output, PeerKey,
    receiver::To,
    track::{self, Leg, Purpose, Track},
};

/// The longest chain that is believed. Far above any hop limit: only a broken peer says more.
const MAX_CHAIN: usize = 64;

/// How long a confirmed standby may stay silent before it takes over all the same: a track on
/// which nothing is said now (a catalog) must move too.
pub(super) const SILENT_STANDBY: std::time::Duration = std::time::Duration::from_millis(500);

impl Forwarder {
    /// The ways to a track's origin whose next hop is connected, best first, each without this
    /// node and with the origin last. Suspected neighbours come last. For one that is `looking` for
    /// an upstream, so do those that get the track from here, and then ways over a full link.
    pub(super) fn ways(&self, track: &Track, looking: bool) -> Vec<Vec<NodeId>> {
        let me = &self.config.node;
        let mut ways = self.routes.ways(me, &track.origin);
        if !track.hint.is_empty() {
            // Who is asked for it goes the way that was asked for, as long as it was not tried; whoever
            // has receivers already goes by the table.
            let fresh = track.search.rounds == 0 && track.receivers.is_empty();
            ways.insert(if fresh { 0 } else { ways.len() }, track.hint.clone());
        }
        // Last, without any other relay between, where there is a connection.
        for relay in self.routes.entries(&track.origin) {
            ways.push(vec![relay.clone(), track.origin.clone()]);
        }
        ways.push(vec![track.origin.clone()]);
        ways.retain(|way| {
            let peer = way.first().and_then(|next| self.peer_of(next));
            let peer = peer.and_then(|peer| self.peers.get(&peer));
            peer.is_some_and(|peer| peer.role == Role::Relay || way.len() == 1)
                && !way.contains(me)
                && way.len() <= self.config.hop_limit + 1
        });
        ways.sort_by_key(|way| {
            let peer = way.first().and_then(|next| self.peer_of(next));
            let peer = peer.and_then(|peer| self.peers.get(&peer));
            let gets = |node: &NodeId| {
                let mut nodes = track
                    .receivers
                    .iter()
                    .filter_map(|r| self.receivers.get(*r));
                nodes.any(|r| r.crossed.last() == Some(node))
            };
            let avoided = peer.is_some_and(|peer| peer.avoided());
            let from_here = looking && way.first().is_some_and(gets);
            let full = looking && !self.routes.is_open(me, way);
            (avoided, from_here, full)
        });
        ways
    }

    /// Looks for an upstream, unless one is being asked. A peer that waits is not kept waiting
    /// for the pause between two rounds.
    pub(super) fn seek_unless_seeking(&mut self, now: Time, key: track::Key, urgent: bool) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.own || track.active.is_some() || (track.search.next.is_some() && !urgent) {
            return;
        }
        self.seek(now, key);
    }

    /// Asks the best neighbour that was not tried in this round.
    pub(super) fn seek(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.search.since.get_or_insert(now);
        track.search.next = None;
        self.touch(key);
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        // On behalf of the first that waits: its crossed nodes are no way for it.
        let crossed = track.waiting.iter().filter_map(|r| self.receivers.get(*r));
        let crossed = crossed
            .map(|r| r.crossed.clone())
            .next()
            .unwrap_or_default();
        let crossed = if track.receivers.is_empty() {
            crossed
        } else {
            Vec::new()
        };
        let hopeless = track.search.hopeless;
        let way = self.ways(track, true).into_iter().find(|way| {
            let tried = way
                .first()
                .is_none_or(|next| track.search.tried.contains(next));
            !hopeless && !tried && !way.iter().any(|node| crossed.contains(node))
        });
        let Some(way) = way else {
            return self.round_failed(now, key);
        };
        let (start, budget_ms) = (self.start_of(track), track.budget_ms);
        if let Some(leg) = self.ask(now, key, &way, start, budget_ms, crossed)
            && let Some(track) = self.tracks.get_mut(key)
        {
            track.active = Some(leg);
            track.tries.asked(way);
        }
    }

    /// Where a new upstream is to start: where the cache ends, otherwise where the first of the
    /// receivers wants to.
    pub(super) fn start_of(&self, track: &Track) -> Start {
        if let Some(position) = track.cache.resume() {
            return Start::At(position);
        }
        let receivers = track.receivers.iter().chain(&track.waiting);
        let positions = receivers.filter_map(|r| match self.receivers.get(*r)?.start {
            Start::At(position) => Some(position),
            Start::Latest => None,
        });
        positions.min().map_or(Start::Latest, Start::At)
    }

    /// Sends a subscription along a way.
    pub(super) fn ask(
        &mut self,
        now: Time,
        key: track::Key,
        way: &[NodeId],
        start: Start,
        budget_ms: u32,
        mut crossed: Vec<NodeId>,
    ) -> Option<Leg> {
        let (node, path) = way.split_first()?;
        let peer = self.peer_of(node)?;
        let entry = self.peers.get_mut(&peer)?;
        let track = self.tracks.get(key)?;
        let sub = entry.next_sub;
        entry.next_sub += 1;
        entry.asked.insert(sub, key);
        // The origin answers in this peer's round trip; beyond it the path's is not known.
        let measured = entry.rtt.unwrap_or(self.config.rtt);
        let rtt = match path.is_empty() {
            true => measured,
            false => measured.max(self.config.rtt),
        };
        crossed.push(self.config.node.clone());
        let subscribe = Subscribe {
            id: sub,
            track: track.id.clone(),
            path: path.to_vec(),
            crossed,
            start,
            rate: track.rate,
            budget_ms,
            ticket: track.ticket.clone(),
        };
        self.say_to(peer, Message::Subscribe(subscribe));
        Some(Leg {
            peer,
            node: node.clone(),
            sub,
            start,
            asked_at: now,
            deadline: Some(now + rtt + self.config.confirm_margin),
            confirmed_at: None,
            chain: Vec::new(),
            fed: false,
            opened: 0,
            overlaps: false,
            streams: Vec::new(),
        })
    }

    /// Every known way failed.
    fn round_failed(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let reason = track.search.reason.take().unwrap_or(EndReason::Unreachable);
        let pause = self.config.retry_first * 2u32.saturating_pow(track.search.rounds.min(16));
        let pause = pause.min(self.config.retry_max);
        let since = track.search.since.unwrap_or(now);
        track.search.tried.clear();
        track.search.hopeless = false;
        track.search.rounds += 1;
        let over = now.saturating_since(since) >= self.config.retry_for;
        let message = format!("{}: no way to {} left", track.id, track.origin);
        let receivers = track.receivers.iter().chain(&track.waiting).copied();
        for receiver in receivers.collect::<Vec<_>>() {
            let local = self.receivers.get(receiver).map(|r| r.to);
            if over || !matches!(local, Some(To::Local(_))) {
                self.end_receiver(now, receiver, reason, &message);
            }
        }
        if let Some(track) = self.tracks.get_mut(key)
            && track.wanted()
        {
            track.search.next = Some(now + pause);
            self.touch(key);
        }
    }

    /// Something was said about one of our subscriptions: its track. One that was never asked is
    /// a lie; one that is over is late.
    fn asked(&mut self, peer: PeerKey, sub: u64) -> Option<track::Key> {
        let entry = self.peers.get(&peer)?;
        if let Some(key) = entry.asked.get(&sub) {
            return Some(*key);
        }
        if sub >= entry.next_sub {
            self.disconnect(peer, "an answer to a subscription that was never asked");
        }
        None
    }

    /// The chain a peer told, with this node at its end; `None` if it makes no sense.
    fn chain(&mut self, peer: PeerKey, chain: &[NodeId]) -> Option<Vec<NodeId>> {
        let repeated = |(at, node): (usize, &NodeId)| chain[..at].contains(node);
        let entry = self.peers.get(&peer)?;
        if chain.len() > MAX_CHAIN
            || chain.last() != Some(&entry.node)
            || chain.iter().enumerate().any(repeated)
        {
            self.disconnect(
                peer,
                "a chain that is too long, repeats a node or does not end with you",
            );
            return None;
        }
        Some(chain.to_vec())
    }

    pub(super) fn confirmed(&mut self, now: Time, peer: PeerKey, ok: Ok) {
        let Some(key) = self.asked(peer, ok.id) else {
            return;
        };
        let Some(chain) = self.chain(peer, &ok.chain) else {
            return;
        };
        if chain.contains(&self.config.node) {
            return self.leave(now, key, peer, ok.id, EndReason::Loop);
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let active = track.is_active(peer, ok.id);
        let purpose = track.purpose(peer, ok.id);
        let Some(leg) = track.leg_mut(peer, ok.id) else {
            return;
        };
        if leg.confirmed() {
            self.stats.ignored += 1;
            return;
        }
        leg.chain = chain.clone();
        leg.deadline = None;
        leg.confirmed_at = Some(now);
        if purpose.is_some_and(Purpose::takes_over) {
            leg.deadline = Some(now + SILENT_STANDBY);
        }
        self.touch(key);
        if active {
            // It was looked for beside this one, which answered first.
            if let Some(track) = self.tracks.get(key)
                && matches!(track.standby, Some((_, Purpose::Rescue)))
                && let Some((leg, _)) = self.take_standby(key)
            {
                self.unsubscribe_leg(&leg);
                self.drop_hedges(key);
            }
            self.has_upstream(now, key, chain, ok.first);
        }
    }

    /// The active leg is confirmed.
    pub(super) fn has_upstream(
        &mut self,
        now: Time,
        key: track::Key,
        chain: Vec<NodeId>,
        first: Option<Position>,
    ) {
        if let Some(track) = self.tracks.get_mut(key) {
            track.search = Default::default();
            if let Some(leg) = &mut track.active {
                leg.deadline = None;
            }
        }
        self.healed(now, key);
        self.set_chain(key, chain);
        if let Some(first) = first {
            self.break_before(now, key, first);
        }
        self.forgive_unfed(key);
        self.watch_unfed(now, key);
        self.confirm_waiting(now, key);
        self.notify_all(now, key);
        self.plan_move(now, key);
        self.start_moves(now);
    }

    /// Tells the receivers a new way of the track, before anything that came over it.
    pub(super) fn set_chain(&mut self, key: track::Key, mut chain: Vec<NodeId>) {
        chain.push(self.config.node.clone());
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.chain == chain {
            return;
        }
        track.chain = chain.clone();
        for receiver in self.attached(key) {
            match self.receivers.get(receiver).map(|r| r.to) {
                Some(To::Peer(peer, id)) => {
                    let chain = chain.clone();
                    self.say_to(peer, Message::Update(Update { id, chain }));
                }
                Some(To::Local(local)) => {
                    let event = LocalEvent::Path(chain.clone());
                    self.say(Output::Local { local, event });
                }
                None => {}
            }
        }
    }

    pub(super) fn updated(&mut self, now: Time, peer: PeerKey, update: Update) {
        let Some(key) = self.asked(peer, update.id) else {
            return;
        };
        let Some(chain) = self.chain(peer, &update.chain) else {
            return;
        };
        if chain.contains(&self.config.node) {
            return self.leave(now, key, peer, update.id, EndReason::Loop);
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let active = track.is_active(peer, update.id);
        match track.leg_mut(peer, update.id) {
            Some(leg) if leg.confirmed() => leg.chain = chain.clone(),
            _ => {
                self.stats.ignored += 1;
                return;
            }
        }
        if active {
            self.set_chain(key, chain);
            self.plan_move(now, key);
            self.start_moves(now);
        }
    }

    pub(super) fn leg_ended(&mut self, now: Time, peer: PeerKey, end: End) {
        let Some(key) = self.asked(peer, end.id) else {
            return;
        };
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let active = track.is_active(peer, end.id);
        let fed = track
            .leg_mut(peer, end.id)
            .is_some_and(|leg| leg.confirmed());
        match end.reason {
            // Its last groups may still be on their way: the leg stays until they are in.
            EndReason::Finished if active && fed => self.finish(now, key, end.streams),
            EndReason::Finished | EndReason::Superseded if active => {
                if let Some(leg) = track.active.take() {
                    self.release(&leg);
                }
                self.end_track(now, key, end.reason, &end.message);
            }
            reason => {
                if let Some(track) = self.tracks.get_mut(key) {
                    track.search.reason = Some(reason);
                    // The origin itself says so: asking along every other way would only be a
                    // storm. This node's own consumers ask again after the pause.
                    track.search.hopeless |= active && reason == EndReason::NotFound;
                }
                self.leg_refused(now, key, peer, end.id);
            }
        }
    }

    /// Leaves an upstream at once and looks for another.
    fn leave(&mut self, now: Time, key: track::Key, peer: PeerKey, sub: u64, reason: EndReason) {
        if let Some(track) = self.tracks.get_mut(key) {
            track.search.reason = Some(reason);
        }
        self.say_goodbye(peer, sub);
        self.leg_refused(now, key, peer, sub);
    }

    /// A leg is over though its peer is there: another neighbour is tried next.
    fn leg_refused(&mut self, now: Time, key: track::Key, peer: PeerKey, sub: u64) {
        if let Some(node) = self.peers.get(&peer).map(|p| p.node.clone())
            && let Some(track) = self.tracks.get_mut(key)
            && track.is_active(peer, sub)
        {
            track.tries.refused(&node, track.search.reason);
            track.search.tried.push(node);
        }
        self.leg_lost(now, key, peer, sub);
        self.start_moves(now);
    }

    /// A leg is gone, and the peer knows.
    pub(super) fn leg_lost(&mut self, now: Time, key: track::Key, peer: PeerKey, sub: u64) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.is_hedge(peer, sub) {
            let reason = track.search.reason.take();
            return self.hedge_lost(now, key, (peer, sub), reason);
        }
        if track.purpose(peer, sub).is_some() {
            return self.standby_lost(now, key);
        }
        if !track.is_active(peer, sub) {
            return;
        }
        if let Some(leg) = track.active.take() {
            self.stats.upstream_lost += u64::from(leg.confirmed());
            self.release(&leg);
        }
        self.touch(key);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.finishing.is_some() {
            let message = "the track is finished";
            return self.end_track(now, key, EndReason::Finished, message);
        }
        if !track.wanted() {
            if let Some((leg, _)) = self.take_standby(key) {
                self.unsubscribe_leg(&leg);
            }
            self.drop_hedges(key);
            return self.rest(now, key);
        }
        if let Some(hedge) = track.hedges.iter().find(|leg| leg.confirmed()) {
            let (peer, sub) = (hedge.peer, hedge.sub);
            self.prefer(key, peer, sub);
        }
        match self.take_standby(key) {
            // It was about to take over anyway.
            Some((leg, Purpose::Move | Purpose::Rescue)) => {
                let chain = leg.chain.clone();
                if let Some(track) = self.tracks.get_mut(key) {
                    track.search.since.get_or_insert(now);
                    track.active = Some(leg);
                }
                if chain.is_empty() {
                    self.promote_hedge(key);
                } else {
                    self.drop_hedges(key);
                    self.has_upstream(now, key, chain, None);
                }
            }
            Some((leg, Purpose::Backfill(_))) => {
                self.unsubscribe_leg(&leg);
                self.seek(now, key);
            }
            None => self.seek(now, key),
        }
    }

    /// What is due of the legs: confirmations that did not come, pauses that are over.
    pub(super) fn legs_due(&mut self, now: Time, key: track::Key) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if let Some(leg) = track.active.as_ref().filter(|leg| due(leg.deadline)) {
            let (peer, sub) = (leg.peer, leg.sub);
            return self.leave(now, key, peer, sub, EndReason::Timeout);
        }
        self.standby_due(now, key);
        if let Some(track) = self.tracks.get_mut(key)
            && due(track.search.next)
        {
            track.search.next = None;
            if track.active.is_none() && track.wanted() {
                self.seek(now, key);
            }
        }
    }

    /// Unsubscribes a leg that was taken out of its track; what still comes on it is stopped.
    pub(super) fn unsubscribe_leg(&mut self, leg: &Leg) {
        if self.release(leg) {
            self.say_goodbye(leg.peer, leg.sub);
            for stream in &leg.streams {
                self.say(Output::Stop {
                    peer: leg.peer,
                    stream: *stream,
                });
            }
        }
    }

    pub(super) fn say_goodbye(&mut self, peer: PeerKey, sub: u64) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        self.say_to(peer, Message::Unsubscribe(Unsubscribe { id: sub }));
    }

    /// What still comes on a lost leg is of no track.
    pub(super) fn forget_streams(&mut self, peer: PeerKey, key: track::Key, sub: u64) {
        let leg = self.tracks.get_mut(key).and_then(|t| t.leg_mut(peer, sub));
        let streams = leg.map(|leg| std::mem::take(&mut leg.streams));
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        for stream in streams.into_iter().flatten() {
            entry.incoming.remove(&stream);
            self.outputs.push_back(Output::Stop { peer, stream });
        }
    }

    /// Forgets what the peer's entry holds of a leg; false if it is gone already.
    pub(super) fn release(&mut self, leg: &Leg) -> bool {
        let Some(entry) = self.peers.get_mut(&leg.peer) else {
            return false;
        };
        for stream in &leg.streams {
            entry.incoming.remove(stream);
        }
        entry.asked.remove(&leg.sub).is_some()
    }

    /// Unsubscribes whatever the track has.
    pub(super) fn drop_legs(&mut self, now: Time, key: track::Key) {
        let active = self.tracks.get_mut(key).and_then(|t| t.active.take());
        let standby = self.take_standby(key).map(|(leg, _)| leg);
        self.drop_hedges(key);
        for leg in [active, standby].into_iter().flatten() {
            self.unsubscribe_leg(&leg);
        }
        self.touch(key);
        self.start_moves(now);
    }
}
