//! Subscriptions of peers: merged into what this node has, kept waiting until it has it, or
//! refused with the reason.

use std::time::Duration;

use longspan_proto::{
    ids::NodeId,
    time::Time,
    wire::{End, EndReason, Message, Ok, Role, Subscribe},
};

use super::{
    Forwarder, LocalEvent, Output, PeerKey,
    receiver::{self, Receiver, To},
    track::{self, Track, earlier},
};

/// A link that carries more than this share of its capacity takes no subscription, whatever else
/// reaches: the rest is for what varies in those there are, and for repair. It is far above the 80 %
/// from which paths avoid it (DESIGN §4).
const FULL_SHARE: f64 = 0.95;

/// A refusal: why, and the same in words.
type Refusal = (EndReason, String);

/// The longest message of an `End` (`wire::End`).
const MAX_MESSAGE: usize = 256;

impl Forwarder {
    pub(super) fn subscribe(&mut self, now: Time, key: PeerKey, subscribe: Subscribe) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        if peer.serving.contains_key(&subscribe.id) {
            return self.disconnect(key, "a subscription number was used twice");
        }
        if subscribe.crossed.last() != Some(&peer.node) {
            return self.disconnect(
                key,
                "a subscription's crossed nodes do not end with its sender",
            );
        }
        if let Err((reason, message)) = self.consider(now, key, &subscribe) {
            self.refuse(key, subscribe.id, reason, 0, &message);
        }
    }

    fn refuse(&mut self, peer: PeerKey, id: u64, reason: EndReason, streams: u64, message: &str) {
        self.stats.refused.count(reason);
        let mut message = message.to_owned();
        while message.len() > MAX_MESSAGE {
            message.pop();
        }
        self.say_to(
            peer,
            Message::End(End {
                id,
                reason,
                streams,
                message,
            }),
        );
    }

    fn consider(&mut self, now: Time, key: PeerKey, subscribe: &Subscribe) -> Result<(), Refusal> {
        let me = self.config.node.clone();
        let Subscribe { path, crossed, .. } = subscribe;
        let limit = self.config.limits.subscriptions_per_peer;
        let Some(peer) = self.peers.get(&key) else {
            return Ok(());
        };
        if peer.serving.len() >= limit {
            let message = format!("you have {limit} subscriptions here, the most allowed");
            return Err((EndReason::Limit, message));
        }
        let (sent, capacity) = (peer.sent_bps + subscribe.rate, peer.capacity_bps);
        if capacity > 0 && sent as f64 > capacity as f64 * FULL_SHARE {
            let mbps = |bps: u64| bps as f64 / 1e6;
            let message = format!(
                "the link from {me} to {} would carry {:.1} of {:.1} Mbit/s",
                peer.node,
                mbps(sent),
                mbps(capacity)
            );
            return Err((EndReason::OverCapacity, message));
        }
        let twice = path.iter().find(|node| crossed.contains(node));
        let back = [&me]
            .into_iter()
            .find(|me| crossed.contains(me) || path.contains(me));
        if let Some(node) = twice.or(back) {
            return Err((EndReason::Loop, format!("{node} would be crossed twice")));
        }
        self.hops(crossed.len() + 1 + path.len())?;
        if self.config.role == Role::Edge && !path.is_empty() {
            let message = format!("{me} is an edge and forwards nothing");
            return Err((EndReason::Unreachable, message));
        }
        let known = self.by_id.get(&subscribe.track).copied();
        let mut turning = false;
        let track = match known.and_then(|known| Some((known, self.tracks.get(known)?))) {
            Some((known, track)) => {
                if let Some(ended) = &track.ended {
                    return Err(ended.clone());
                }
                if self.config.role == Role::Edge && !track.own {
                    let message = format!("{me} is an edge and only watches {}", track.id);
                    return Err((EndReason::NotFound, message));
                }
                if track.confirmed() {
                    let merges = self.mergeable(track, crossed, subscribe.budget_ms);
                    turning = merges.is_err() && self.turns(now, track, &peer.node);
                    if !turning {
                        merges?;
                    }
                } else if track.active.as_ref().is_some_and(|l| l.node == peer.node) {
                    // Each asks the other. Both refuse and look elsewhere, sooner than a timeout.
                    return Err((EndReason::Loop, format!("{me} asks {} itself", peer.node)));
                }
                known
            }
            None => {
                let Some(origin) = path.last() else {
                    let message = format!("{} is not published here", subscribe.track);
                    return Err((EndReason::NotFound, message));
                };
                if !self.room_for_track() {
                    let limit = self.config.limits.tracks;
                    return Err((EndReason::Limit, format!("this node knows {limit} tracks")));
                }
                self.add_track(subscribe.track.clone(), origin.clone())
            }
        };
        let deadline = now + self.config.rtt + self.config.confirm_margin;
        let budget =
            (subscribe.budget_ms > 0).then(|| Duration::from_millis(subscribe.budget_ms.into()));
        let receiver = self.receivers.insert(Receiver::new(
            track,
            To::Peer(key, subscribe.id),
            subscribe.start,
            budget,
            crossed.clone(),
            Some(deadline),
        ));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.serving.insert(subscribe.id, receiver);
        }
        if let Some(track) = self.tracks.get_mut(track)
            && !track.confirmed()
        {
            if !track.wanted() {
                track.budget_ms = subscribe.budget_ms;
            }
            if let Some(origin) = path.last() {
                track.origin = origin.clone();
                track.hint = path.clone();
            }
            track.rate = track.rate.max(subscribe.rate);
            track.ticket = subscribe.ticket.clone();
        }
        match (turning, crossed.last()) {
            (true, Some(asker)) => self.turn(now, track, receiver, asker.clone()),
            _ => self.admit(now, track, receiver),
        }
        Ok(())
    }

    /// Whether so many nodes from the origin to the first subscriber are allowed.
    fn hops(&self, nodes: usize) -> Result<(), Refusal> {
        let between = nodes.saturating_sub(2);
        let limit = self.config.hop_limit;
        if between > limit {
            let message = format!("{between} nodes between the ends; the limit is {limit}");
            return Err((EndReason::TooManyHops, message));
        }
        Ok(())
    }

    /// Whether a confirmed track may be given to a subscription that crossed these nodes.
    fn mergeable(&self, track: &Track, crossed: &[NodeId], budget_ms: u32) -> Result<(), Refusal> {
        if let Some(node) = track.chain.iter().find(|node| crossed.contains(node)) {
            return Err((EndReason::Loop, format!("{node} would be crossed twice")));
        }
        self.hops(track.chain.len() + crossed.len())?;
        let age_ms = track.cache.least_age_us().unwrap_or(0) / 1_000;
        if budget_ms > 0 && age_ms > u64::from(budget_ms) {
            let message = format!("frames are {age_ms} ms old here; the budget is {budget_ms} ms");
            return Err((EndReason::OverBudget, message));
        }
        Ok(())
    }

    /// Puts a new receiver to those that have the track, or to those that wait for it.
    pub(super) fn admit(&mut self, now: Time, key: track::Key, receiver: receiver::Key) {
        let deadline = self.receivers.get(receiver).and_then(|r| r.deadline);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.idle = None;
        self.touch(key);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.confirmed() {
            self.attach(now, key, receiver);
            self.backfill(now, key);
            return;
        }
        let stale = !track.wanted() && track.active.is_none();
        track.waiting.push(receiver);
        track.expire = earlier(track.expire, deadline);
        if stale
            && self
                .receivers
                .get(receiver)
                .is_some_and(Receiver::wants_latest)
        {
            // What was left here is no longer the latest.
            self.clear_cache(key);
        }
        self.seek_unless_seeking(now, key, deadline.is_some());
    }

    /// Confirms everyone who waits, except whom this upstream does not suit.
    pub(super) fn confirm_waiting(&mut self, now: Time, key: track::Key) {
        let waiting = self.waiting(key);
        if let Some(track) = self.tracks.get_mut(key) {
            track.expire = None;
        }
        for receiver in waiting {
            let (Some(track), Some(entry)) = (self.tracks.get(key), self.receivers.get(receiver))
            else {
                continue;
            };
            let suits = match entry.to {
                To::Local(_) => Ok(()),
                To::Peer(..) => self.mergeable(track, &entry.crossed, 0),
            };
            match suits {
                Ok(()) => {
                    if let Some(track) = self.tracks.get_mut(key) {
                        track.waiting.retain(|other| *other != receiver);
                    }
                    self.attach(now, key, receiver);
                }
                Err((reason, message)) => self.end_receiver(now, receiver, reason, &message),
            }
        }
        self.backfill(now, key);
    }

    /// Confirms a receiver and gives it what is held.
    fn attach(&mut self, now: Time, key: track::Key, receiver: receiver::Key) {
        let (Some(track), Some(entry)) =
            (self.tracks.get_mut(key), self.receivers.get_mut(receiver))
        else {
            return;
        };
        track.receivers.push(receiver);
        let first = entry.attach(&track.cache, !track.own);
        let chain = track.chain.clone();
        match entry.to {
            To::Peer(peer, id) => self.say_to(peer, Message::Ok(Ok { id, chain, first })),
            To::Local(local) => {
                let event = LocalEvent::Path(chain);
                self.say(Output::Local { local, event });
            }
        }
        self.serve(now, receiver);
    }

    pub(super) fn unsubscribe(&mut self, now: Time, peer: PeerKey, id: u64) {
        let serving = self.peers.get(&peer).and_then(|p| p.serving.get(&id));
        match serving.copied() {
            Some(receiver) => self.remove_receiver(now, receiver),
            // It crossed our own end of it, or was never made.
            None => self.stats.ignored += 1,
        }
    }

    pub(super) fn expire_waiting(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.expire.is_none_or(|at| at > now) {
            return;
        }
        track.expire = None;
        let mut next = None;
        for receiver in self.waiting(key) {
            let Some(deadline) = self.receivers.get(receiver).and_then(|r| r.deadline) else {
                continue;
            };
            if deadline <= now {
                let message = "no confirmation from upstream in time";
                self.end_receiver(now, receiver, EndReason::Timeout, message);
            } else {
                next = earlier(next, Some(deadline));
            }
        }
        if let Some(track) = self.tracks.get_mut(key) {
            track.expire = next;
        }
    }

    pub(super) fn waiting(&self, key: track::Key) -> Vec<receiver::Key> {
        self.tracks
            .get(key)
            .map_or(Vec::new(), |t| t.waiting.clone())
    }

    pub(super) fn attached(&self, key: track::Key) -> Vec<receiver::Key> {
        self.tracks
            .get(key)
            .map_or(Vec::new(), |t| t.receivers.clone())
    }

    /// Tells a receiver the end and removes it.
    pub(super) fn end_receiver(
        &mut self,
        now: Time,
        receiver: receiver::Key,
        reason: EndReason,
        message: &str,
    ) {
        let Some(entry) = self.receivers.get(receiver) else {
            return;
        };
        match entry.to {
            To::Peer(peer, id) => {
                let streams = entry.opened();
                self.refuse(peer, id, reason, streams, message);
            }
            To::Local(local) => {
                self.stats.refused.count(reason);
                let event = LocalEvent::End {
                    reason,
                    message: message.to_owned(),
                };
                self.say(Output::Local { local, event });
            }
        }
        self.remove_receiver(now, receiver);
    }

    /// Removes a receiver without a word.
    pub(super) fn remove_receiver(&mut self, now: Time, key: receiver::Key) {
        let Some(receiver) = self.receivers.remove(key) else {
            return;
        };
        match receiver.to {
            To::Local(local) => {
                self.locals.remove(&local);
            }
            To::Peer(peer, id) => {
                let mut ready = false;
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.serving.remove(&id);
                    peer.resets.extend(receiver.streams());
                    ready = !peer.resets.is_empty() && !peer.ready_said;
                    peer.ready_said |= ready;
                }
                if ready {
                    self.say(Output::Ready { peer });
                }
            }
        }
        if let Some(track) = self.tracks.get_mut(receiver.track) {
            track.receivers.retain(|other| *other != key);
            track.waiting.retain(|other| *other != key);
            self.turn_over(now, receiver.track);
            self.rest(now, receiver.track);
        }
    }
}
