//! Groups and frames into the caches, and out of them when they are full or old.

use std::time::Duration;

use longspan_proto::{
    ids::Position,
    time::Time,
    wire::{Frame, GroupDropped, GroupHeader, MAX_FRAME, Priority},
};

use super::{
    Forwarder, Output, PeerKey, StreamKey,
    cache::{Appended, Cache, GROUP_OVERHEAD, Group, Opened, State},
    peer::Incoming,
    track::{self, Purpose, Track, earlier},
};

/// Numbers of groups and frames stay below 2^62: what a varint can carry (RFC 9000 §16).
const NUMBER_LIMIT: u64 = 1 << 62;

/// How long an open group that lost its stream waits for another one. A reset may be the herald
/// of a lost connection, after which the group is resumed elsewhere; a deliberate one is announced.
/// While an upstream has not begun to serve at all, the wait has not begun: what it owes may stand
/// behind what is more urgent on a slow link, and is brought or announced then.
const UNFED_FOR: Duration = Duration::from_secs(1);

impl Forwarder {
    pub(super) fn group_opened(
        &mut self,
        now: Time,
        peer: PeerKey,
        stream: StreamKey,
        header: &GroupHeader,
    ) {
        let Some(entry) = self.peers.get(&peer) else {
            self.stats.ignored += 1;
            return;
        };
        let sub = header.subscription;
        let Some(key) = entry.asked.get(&sub).copied() else {
            if sub >= entry.next_sub {
                return self.disconnect(peer, "a group for a subscription that was never asked");
            }
            return self.stop(peer, stream);
        };
        if entry.incoming.contains_key(&stream) {
            return self.disconnect(peer, "a stream was opened twice");
        }
        if header.group >= NUMBER_LIMIT || header.first_frame >= NUMBER_LIMIT {
            return self.disconnect(peer, "a group or frame number above 2^62");
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let purpose = track.purpose(peer, sub);
        let Some(leg) = track.leg_mut(peer, sub) else {
            return;
        };
        leg.opened += 1;
        if leg.streams.len() >= self.config.limits.open_groups {
            return self.disconnect(peer, "too many groups open on one subscription");
        }
        let same = |other: &StreamKey| entry.incoming.get(other).map(|i| i.group);
        if leg.streams.iter().any(|s| same(s) == Some(header.group)) {
            self.stats.ignored += 1;
            return self.stop(peer, stream);
        }
        let confirmed = leg.confirmed();
        let active = track.active.as_ref();
        let quiet = active.is_none_or(|leg| leg.streams.is_empty());
        if self.open_group(now, key, header) == Opened::Past {
            match purpose {
                Some(Purpose::Backfill(_)) => return self.overlapped(now, key, peer, stream),
                // Nothing is said on it now, so nothing can be missed.
                Some(purpose) if confirmed && purpose.takes_over() && quiet => {
                    self.prefer(key, peer, sub);
                    self.switch(now, key);
                }
                _ => {}
            }
            self.stop(peer, stream);
            return self.finish_if_whole(now, key);
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if let Some(group) = track.cache.get_mut(header.group) {
            group.unfed = None;
        }
        let mut begins = false;
        if let Some(leg) = track.leg_mut(peer, sub) {
            leg.streams.push(stream);
            begins = !std::mem::replace(&mut leg.fed, true);
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            let incoming = Incoming {
                track: key,
                sub,
                group: header.group,
                next: header.first_frame,
            };
            entry.incoming.insert(stream, incoming);
        }
        if begins {
            self.watch_unfed(now, key);
        }
        self.backfill(now, key);
        if header.first_frame > 0 {
            // It goes on: receivers that wait for that are told now, not with its next frame.
            self.notify(now, key, Priority::Realtime);
        }
    }

    pub(super) fn frame(
        &mut self,
        now: Time,
        peer: PeerKey,
        stream: StreamKey,
        frame: Frame,
        age_us: u64,
    ) {
        let entry = self.peers.get_mut(&peer);
        let Some(incoming) = entry.and_then(|p| p.incoming.get_mut(&stream)) else {
            self.stats.frames_unknown += 1;
            return;
        };
        if frame.payload.len() > MAX_FRAME {
            return self.disconnect(peer, "a frame above 1 MB");
        }
        let (key, sub, group, index) =
            (incoming.track, incoming.sub, incoming.group, incoming.next);
        incoming.next += 1;
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        // Before the frame is handed on, so that the new chain goes down before it. A standby that
        // brings what is held already is not there yet: what the old leg has on its way would be
        // missed until it is.
        let purpose = track.purpose(peer, sub);
        if purpose.is_some_and(Purpose::takes_over)
            && track.leg_mut(peer, sub).is_some_and(|leg| leg.confirmed())
            && track.cache.get(group).is_none_or(|g| index == g.end())
        {
            self.prefer(key, peer, sub);
            self.switch(now, key);
            let entry = self.peers.get(&peer);
            if entry.is_none_or(|p| !p.incoming.contains_key(&stream)) {
                // The move was given up instead.
                return;
            }
        }
        if let Some(track) = self.tracks.get_mut(key)
            && track.is_active(peer, sub)
        {
            track.fed_at = Some(now);
            track.brought += frame.payload.len() as u64;
        }
        let appended = self.put_frame(now, key, group, index, frame, age_us);
        let held = self.tracks.get(key).and_then(|t| t.cache.get(group));
        if appended == Appended::Duplicate
            && matches!(purpose, Some(Purpose::Backfill(_)))
            && held.is_some_and(|g| index >= g.first)
        {
            return self.overlapped(now, key, peer, stream);
        }
        if held.is_some_and(|g| g.dropped_at.is_some_and(|at| g.end() >= at)) {
            self.stop(peer, stream);
            self.close_group(now, key, group, State::Broken);
        }
    }

    pub(super) fn group_finished(&mut self, now: Time, peer: PeerKey, stream: StreamKey) {
        let Some(incoming) = self.take_stream(peer, stream) else {
            return;
        };
        let (key, number) = (incoming.track, incoming.group);
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let purpose = track.purpose(peer, incoming.sub);
        if let Some(group) = track.cache.get(number) {
            let state = if group.dropped_at.is_some() {
                State::Broken
            } else if incoming.next > group.end() {
                // It left a hole, which the stream of another leg may be filling up.
                match self.fed(track).contains(&number) {
                    true => State::Open,
                    false => State::Broken,
                }
            } else if incoming.next == group.end() {
                State::Complete
            } else {
                // It claims to be shorter than what is held.
                self.stats.ignored += 1;
                State::Open
            };
            self.close_group(now, key, number, state);
        }
        if matches!(purpose, Some(Purpose::Backfill(_))) {
            self.backfilled(now, key);
        }
        self.watch_unfed(now, key);
        self.finish_if_whole(now, key);
    }

    pub(super) fn group_reset(&mut self, now: Time, peer: PeerKey, stream: StreamKey) {
        let Some(incoming) = self.take_stream(peer, stream) else {
            return;
        };
        let (key, number) = (incoming.track, incoming.group);
        let group = self.tracks.get(key).and_then(|t| t.cache.get(number));
        if group.is_some_and(|g| g.dropped_at.is_some()) {
            self.close_group(now, key, number, State::Broken);
        }
        self.watch_unfed(now, key);
        self.finish_if_whole(now, key);
    }

    pub(super) fn group_dropped(&mut self, now: Time, peer: PeerKey, dropped: &GroupDropped) {
        let entry = self.peers.get(&peer);
        let Some(key) = entry.and_then(|p| p.asked.get(&dropped.id)).copied() else {
            self.stats.ignored += 1;
            return;
        };
        let number = dropped.group;
        if number >= NUMBER_LIMIT || dropped.from_frame >= NUMBER_LIMIT {
            return self.disconnect(peer, "a group or frame number above 2^62");
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        // What the standby lacks the active leg may bring.
        if !track.is_active(peer, dropped.id) {
            return;
        }
        if let Some(leg) = &mut track.active
            && !std::mem::replace(&mut leg.fed, true)
        {
            self.watch_unfed(now, key);
        }
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        if track.cache.get(number).is_none() {
            let header = GroupHeader {
                subscription: dropped.id,
                group: number,
                first_frame: dropped.from_frame,
                timestamp: 0,
                origin_time: 0,
                replay: false,
            };
            self.open_group(now, key, &header);
        }
        let fed = self.tracks.get(key).map(|t| self.fed(t));
        let fed = fed.is_some_and(|fed| fed.contains(&number));
        let group = self
            .tracks
            .get_mut(key)
            .and_then(|t| t.cache.get_mut(number));
        let Some(group) = group.filter(|g| g.state == State::Open) else {
            return;
        };
        group.dropped_at = Some(dropped.from_frame);
        // What was sent of it before may still be on its way, if it has a stream.
        if group.end() >= dropped.from_frame || !fed {
            self.stop_group(peer, dropped.id, key, number);
            self.close_group(now, key, number, State::Broken);
        }
    }

    /// Nothing more is wanted of a group on a leg.
    fn stop_group(&mut self, peer: PeerKey, sub: u64, key: track::Key, number: u64) {
        let Some(entry) = self.peers.get(&peer) else {
            return;
        };
        let leg = self.tracks.get_mut(key).and_then(|t| t.leg_mut(peer, sub));
        let streams = leg.map_or(&[][..], |leg| &leg.streams);
        let of_group = |s: &&StreamKey| entry.incoming.get(s).is_some_and(|i| i.group == number);
        if let Some(stream) = streams.iter().find(of_group).copied() {
            self.stop(peer, stream);
        }
    }

    /// A stream ended: forgets it.
    fn take_stream(&mut self, peer: PeerKey, stream: StreamKey) -> Option<Incoming> {
        let incoming = self.peers.get_mut(&peer)?.incoming.remove(&stream)?;
        let track = self.tracks.get_mut(incoming.track)?;
        if let Some(leg) = track.leg_mut(peer, incoming.sub) {
            leg.streams.retain(|other| *other != stream);
        }
        Some(incoming)
    }

    /// Nothing more is wanted of a stream.
    pub(super) fn stop(&mut self, peer: PeerKey, stream: StreamKey) {
        self.take_stream(peer, stream);
        self.say(Output::Stop { peer, stream });
    }

    /// The groups that have an incoming stream.
    fn fed(&self, track: &Track) -> Vec<u64> {
        let standby = track.standby.as_ref().map(|(leg, _)| leg);
        let legs = track.active.iter().chain(standby).chain(&track.hedges);
        legs.flat_map(|leg| {
            let peer = self.peers.get(&leg.peer);
            let incoming = move |stream| peer.and_then(|p| p.incoming.get(stream));
            leg.streams.iter().filter_map(incoming).map(|i| i.group)
        })
        .collect()
    }

    /// A new upstream has as long as any to go on with the open groups.
    pub(super) fn forgive_unfed(&mut self, key: track::Key) {
        if let Some(track) = self.tracks.get_mut(key) {
            track.cache.iter_mut().for_each(|group| group.unfed = None);
        }
    }

    /// Notes which open groups have lost their stream; they are given up a while later, unless
    /// another stream goes on with them. While there is no upstream they wait for one.
    pub(super) fn watch_unfed(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let begun = track.active.as_ref().is_some_and(|leg| leg.fed);
        if track.own || !track.confirmed() || !begun {
            return;
        }
        let fed = self.fed(track);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let mut due = None;
        for group in track.cache.iter_mut().filter(|g| g.state == State::Open) {
            if fed.contains(&group.number) {
                group.unfed = None;
            } else {
                let since = *group.unfed.get_or_insert(now);
                due = earlier(due, Some(since + UNFED_FOR));
            }
        }
        track.unfed = due;
        self.touch(key);
    }

    /// The wait for another stream is over.
    pub(super) fn break_unfed(&mut self, now: Time, key: track::Key) {
        self.watch_unfed(now, key);
        let begun = |t: &&Track| t.confirmed() && t.active.as_ref().is_some_and(|leg| leg.fed);
        let Some(track) = self.tracks.get(key).filter(begun) else {
            return;
        };
        let over = |g: &&Group| g.unfed.is_some_and(|since| since + UNFED_FOR <= now);
        let open = track.cache.iter().filter(|g| g.state == State::Open);
        let numbers: Vec<_> = open.filter(over).map(|g| g.number).collect();
        for number in numbers {
            self.close_group(now, key, number, State::Broken);
        }
        self.watch_unfed(now, key);
    }

    /// A new upstream said where it starts: what is missing before does not come.
    pub(super) fn break_before(&mut self, now: Time, key: track::Key, first: Position) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let missing = |g: &&Group| {
            let end = Position {
                group: g.number,
                frame: g.end(),
            };
            g.state == State::Open && end < first
        };
        let numbers: Vec<_> = track
            .cache
            .iter()
            .filter(missing)
            .map(|g| g.number)
            .collect();
        for number in numbers {
            self.close_group(now, key, number, State::Broken);
        }
    }

    /// All open groups of a track that ended stay as they are, and may age.
    pub(super) fn close_groups(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        for group in track.cache.iter_mut() {
            if group.state == State::Open {
                group.state = State::Broken;
            }
            if group.superseded.is_none() {
                group.superseded = Some(now);
                self.evictable.insert((now, key, group.number));
            }
        }
    }

    /// A group's state is known now; its receivers are told.
    pub(super) fn close_group(&mut self, now: Time, key: track::Key, number: u64, state: State) {
        let group = self
            .tracks
            .get_mut(key)
            .and_then(|t| t.cache.get_mut(number));
        if let Some(group) = group
            && group.state == State::Open
            && state != State::Open
        {
            group.state = state;
            self.notify(now, key, Priority::Realtime);
        }
    }

    /// A group begins, or goes on, in the cache.
    pub(super) fn open_group(
        &mut self,
        now: Time,
        key: track::Key,
        header: &GroupHeader,
    ) -> Opened {
        let known = |t: &Track| t.cache.get(header.group).is_some();
        if !self.tracks.get(key).is_some_and(known)
            && !self.make_room(now, key, header.group, GROUP_OVERHEAD)
        {
            return Opened::Past;
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return Opened::Past;
        };
        let before = (track.cache.bytes(), track.cache.newest().map(|g| g.number));
        let opened = track.cache.open(now, header);
        if opened != Opened::New {
            return opened;
        }
        self.cache_bytes += track.cache.bytes() - before.0;
        self.cache_groups += 1;
        match before.1 {
            Some(newest) if newest > header.group => {
                self.evictable.insert((now, key, header.group));
                for receiver in self.attached(key) {
                    if let Some(receiver) = self.receivers.get_mut(receiver) {
                        receiver.unsettle(header.group);
                    }
                }
            }
            Some(newest) => {
                self.evictable.insert((now, key, newest));
            }
            None => {}
        }
        let groups = self.config.cache.groups;
        while self.tracks.get(key).is_some_and(|t| t.cache.len() > groups) {
            self.evict(now, key);
        }
        match self.tracks.get(key).and_then(|t| t.cache.get(header.group)) {
            Some(_) => Opened::New,
            None => Opened::Past,
        }
    }

    /// Puts a frame into the cache and hands it on.
    pub(super) fn put_frame(
        &mut self,
        now: Time,
        key: track::Key,
        number: u64,
        index: u64,
        frame: Frame,
        age_us: u64,
    ) -> Appended {
        if !self.make_room(now, key, number, Cache::cost(&frame)) {
            self.stats.frames_cache_full += 1;
            self.close_group(now, key, number, State::Broken);
            return Appended::Gap;
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return Appended::Gap;
        };
        let class = frame.priority;
        let before = track.cache.bytes();
        let appended = track.cache.append(now, number, index, frame, age_us);
        self.cache_bytes += track.cache.bytes() - before;
        match appended {
            Appended::Next => {
                self.stats.frames_received += 1;
                self.notify(now, key, class);
            }
            Appended::Duplicate => self.stats.frames_duplicate += 1,
            Appended::Gap => self.stats.frames_gap += 1,
        }
        appended
    }

    /// Evicts until so many bytes more fit; false if only newest groups are left.
    fn make_room(&mut self, now: Time, key: track::Key, number: u64, cost: usize) -> bool {
        let limit = self.config.cache.track_bytes;
        while let Some(track) = self.tracks.get(key)
            && track.cache.bytes() + cost > limit
        {
            if track.cache.oldest().is_none_or(|g| g.number >= number) {
                return false;
            }
            self.evict(now, key);
        }
        while self.cache_bytes + cost > self.config.cache.node_bytes {
            let Some((_, other, group)) = self.evictable.first().copied() else {
                return false;
            };
            self.evict_to(now, other, group);
        }
        true
    }

    /// Evicts what is older than the bound.
    pub(super) fn evict_old(&mut self, now: Time) {
        while let Some((at, key, group)) = self.evictable.first().copied()
            && at + self.config.cache.max_age <= now
        {
            self.evict_to(now, key, group);
        }
    }

    /// Evicts a group and all older ones of its track.
    fn evict_to(&mut self, now: Time, key: track::Key, number: u64) {
        while let Some(track) = self.tracks.get(key)
            && track.cache.oldest().is_some_and(|g| g.number <= number)
        {
            self.evict(now, key);
        }
    }

    /// Evicts the oldest group of a track; receivers that have not all of it are told.
    fn evict(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let before = track.cache.bytes();
        let Some(group) = track.cache.evict() else {
            return;
        };
        self.cache_bytes -= before - track.cache.bytes();
        self.cache_groups -= 1;
        if let Some(at) = group.superseded {
            self.evictable.remove(&(at, key, group.number));
        }
        for receiver in self.attached(key) {
            let Some(entry) = self.receivers.get_mut(receiver) else {
                continue;
            };
            if let Some(dropped) = entry.evicted(&group) {
                self.stats.groups_evicted += 1;
                self.announce(receiver, dropped);
            }
        }
        if let Some(track) = self.tracks.get(key)
            && track.ended.is_some()
            && track.cache.len() == 0
        {
            // Nothing is left to be taken: the end is told to those that never took it.
            self.notify(now, key, Priority::Realtime);
            for receiver in self.attached(key) {
                self.tell_end(now, receiver);
            }
        }
    }

    /// Forgets what is held of a track that has no confirmed receivers.
    pub(super) fn clear_cache(&mut self, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        for group in track.cache.iter() {
            if let Some(at) = group.superseded {
                self.evictable.remove(&(at, key, group.number));
            }
        }
        self.cache_bytes -= track.cache.bytes();
        self.cache_groups -= track.cache.len();
        track.cache.clear();
        track.unfed = None;
    }
}
