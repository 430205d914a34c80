//! What follows from a link's life, without a route table's word (DESIGN §3, "Self-healing").
//!
//! A suspected neighbour's tracks are asked for elsewhere at once, from the last position seen;
//! they move when they come from there, and stay if the neighbour is heard again before. The
//! verdict takes the legs away, whether another way is known or not. A link that only became worse
//! is left make-before-break. Whoever moved stays a while: nothing flaps.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::{ids::NodeId, time::Time};
use longspan_topology::link::{Event, Life};

use super::{
    Failover, Forwarder, Output, PeerKey, Trouble,
    failover::Tries,
    track::{self, Purpose, Track},
};

impl Forwarder {
    /// The newest connection to a node that is not down.
    pub(super) fn peer_of(&self, node: &NodeId) -> Option<PeerKey> {
        let usable = |key: &&PeerKey| self.peers.get(key).is_some_and(|p| p.life != Life::Down);
        self.by_node.get(node)?.iter().rev().find(usable).copied()
    }

    pub(super) fn link_event(&mut self, now: Time, peer: PeerKey, event: Event) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            self.stats.ignored += 1;
            return;
        };
        let before = entry.life;
        match event {
            Event::Up => {
                entry.life = Life::Up;
                entry.trouble = entry.leaving.then_some((Trouble::Leaving, now));
                self.spare(now, peer);
                if before == Life::Down {
                    self.ways_changed(now);
                }
            }
            Event::Suspect(why) => {
                entry.life = Life::Suspect;
                entry.trouble = Some((why.cause.into(), now));
                self.leave_peer(now, peer);
            }
            Event::Down(why) => {
                entry.life = Life::Down;
                let trouble = *entry.trouble.get_or_insert((why.cause.into(), now));
                let asked = std::mem::take(&mut entry.asked);
                self.lose_legs(now, peer, asked, trouble);
            }
        }
    }

    pub(super) fn link_costs(&mut self, now: Time, peer: PeerKey, extra_us: u64) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            self.stats.ignored += 1;
            return;
        };
        let grew = extra_us > entry.extra_us;
        entry.extra_us = extra_us;
        // What left for another way looks by itself, after its hold time, whether to come back.
        if grew {
            self.leave_peer(now, peer);
        }
    }

    /// The tracks that come from a peer are asked for elsewhere, where that is better.
    pub(super) fn leave_peer(&mut self, now: Time, peer: PeerKey) {
        let Some(entry) = self.peers.get(&peer) else {
            return;
        };
        let (avoided, trouble) = (entry.avoided(), entry.trouble);
        let mut tracks: Vec<_> = entry.asked.values().copied().collect();
        // What is heard and said first, pictures after.
        tracks.sort_by_key(|key| self.tracks.get(*key).map(|t| t.cache.priority()));
        tracks.dedup();
        for key in tracks {
            if !avoided
                && let Some(track) = self.tracks.get_mut(key)
                && track.shift.attempts == 0
            {
                // It was to be looked at later; that was before this.
                track.shift.next = None;
            }
            if avoided {
                self.stop_standby(now, key, peer);
                if let Some(track) = self.tracks.get_mut(key) {
                    track.shift.attempts = 0;
                    track.shift.next = None;
                    track.shift.refused.clear();
                    if track.active.as_ref().is_some_and(|leg| leg.peer == peer) {
                        track.trouble = track.trouble.or(trouble);
                        if let Some((_, purpose @ Purpose::Move)) = &mut track.standby {
                            // It was about to leave anyway, and must now.
                            *purpose = Purpose::Rescue;
                            self.moves -= 1;
                            self.rescues += 1;
                            self.touch(key);
                        }
                    }
                }
            }
            self.plan_move(now, key);
        }
        self.start_moves(now);
    }

    /// What comes from a peer in trouble is not completed from there: whoever lacks it gets it from
    /// the next upstream. Nor is it moved to.
    fn stop_standby(&mut self, now: Time, key: track::Key, peer: PeerKey) {
        let hedges = self.tracks.get(key).map_or(&[][..], |t| &t.hedges);
        let hedge = hedges.iter().find(|leg| leg.peer == peer);
        if let Some(sub) = hedge.map(|leg| leg.sub) {
            self.say_goodbye(peer, sub);
            self.hedge_lost(now, key, (peer, sub), None);
        }
        let standby = self.tracks.get(key).and_then(|t| t.standby.as_ref());
        match standby.filter(|(leg, _)| leg.peer == peer) {
            Some((_, Purpose::Backfill(_))) => {
                if let Some((leg, _)) = self.take_standby(key) {
                    self.unsubscribe_leg(&leg);
                }
            }
            // It may come all the same, and nothing else is known.
            Some((_, Purpose::Rescue)) if !self.could_hedge(key) => {}
            Some(_) => self.fail_standby(now, key),
            None => {}
        }
    }

    /// A suspected peer is heard again: what did not move yet stays.
    fn spare(&mut self, now: Time, peer: PeerKey) {
        let asked = self.peers.get(&peer).map(|p| p.asked.values().copied());
        let tracks: BTreeSet<_> = asked.into_iter().flatten().collect();
        for key in tracks {
            let active = self.tracks.get(key).and_then(|t| t.active.as_ref());
            if active.is_some_and(|leg| leg.peer == peer) {
                self.spare_track(now, key);
            }
        }
        self.start_moves(now);
    }

    /// A track's upstream is in no trouble after all.
    pub(super) fn spare_track(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.trouble = None;
        track.forsaken = None;
        track.tries = Tries::default();
        track.shift.refused.clear();
        let rescue = matches!(track.standby, Some((_, Purpose::Rescue)));
        if rescue && let Some((leg, _)) = self.take_standby(key) {
            self.unsubscribe_leg(&leg);
            self.drop_hedges(key);
            self.stats.rescues_spared += 1;
            self.watch_unfed(now, key);
        }
        self.touch(key);
        self.backfill(now, key);
    }

    /// Subscriptions to a peer that is gone or down.
    pub(super) fn lose_legs(
        &mut self,
        now: Time,
        peer: PeerKey,
        asked: BTreeMap<u64, track::Key>,
        trouble: (Trouble, Time),
    ) {
        let mut legs: Vec<_> = asked.into_iter().collect();
        legs.sort_by_key(|(_, track)| self.tracks.get(*track).map(|t| t.cache.priority()));
        for (sub, key) in legs {
            if let Some(track) = self.tracks.get_mut(key)
                && track.is_active(peer, sub)
            {
                track.trouble = track.trouble.or(Some(trouble));
            }
            // Should it ever hear of it: nobody waits for it here any more.
            self.say_goodbye(peer, sub);
            self.forget_streams(peer, key, sub);
            self.leg_lost(now, key, peer, sub);
        }
        self.start_moves(now);
    }

    /// A track has a confirmed upstream, or its standby feeds: the trouble is over.
    pub(super) fn healed(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.shift.refused.clear();
        track.forsaken = None;
        let tries = std::mem::take(&mut track.tries);
        if let Some((trouble, since)) = track.trouble.take() {
            if let Some(leg) = &track.active {
                let trouble = (trouble, since);
                let failover = Failover::new(now, &track.id, Some(trouble), tries, leg);
                self.failovers.add(failover);
            }
            track.shift.held = Some(now + self.config.hold);
            track.shift.displaced = true;
            let took = now.saturating_since(since);
            self.say(Output::Healed { trouble, took });
        }
    }

    /// The neighbours that tracks would move to if theirs failed: worth knowing well.
    pub fn backups(&self) -> BTreeSet<NodeId> {
        // Many tracks, few pairs of an origin and a neighbour.
        let mut pairs: BTreeMap<(&NodeId, &NodeId), &Track> = BTreeMap::new();
        for (_, track) in self.tracks.iter() {
            if let Some(leg) = &track.active {
                pairs.entry((&track.origin, &leg.node)).or_insert(track);
            }
        }
        let backup = |((_, active), track): ((&NodeId, &NodeId), &Track)| {
            let ways = self.ways(track, false).into_iter();
            let mut others = ways.filter(|way| way.first() != Some(active));
            others.next()?.first().cloned()
        };
        pairs.into_iter().filter_map(backup).collect()
    }
}
