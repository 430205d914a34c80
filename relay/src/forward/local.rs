//! What this node publishes and consumes itself.

use longspan_proto::{
    ids::{NodeId, TrackId},
    time::Time,
    wire::{EndReason, Frame, GroupHeader, MAX_FRAME, Start},
};

use super::{
    Forwarder, LocalEvent, LocalKey, Output,
    cache::{Opened, State},
    receiver::{Receiver, To},
    track::{self, Track},
};

impl Forwarder {
    pub(super) fn publish(&mut self, now: Time, id: TrackId) {
        let ended = |t: &Track| t.ended.is_some();
        let held = self.by_id.get(&id).copied();
        let key = match held {
            Some(key) if self.tracks.get(key).is_some_and(ended) => {
                // A generation is never published twice; whoever does starts afresh.
                for receiver in self.attached(key) {
                    self.end_receiver(now, receiver, EndReason::Finished, "published again");
                }
                self.forget(key);
                self.add_track(id, self.config.node.clone())
            }
            Some(key) => key,
            None => self.add_track(id, self.config.node.clone()),
        };
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        if track.own {
            self.stats.ignored += 1;
            return;
        }
        self.drop_legs(now, key);
        if let Some(track) = self.tracks.get_mut(key) {
            track.own = true;
            track.origin = self.config.node.clone();
            track.search = Default::default();
            track.idle = None;
        }
        self.touch(key);
        self.set_chain(key, Vec::new());
        self.confirm_waiting(now, key);
    }

    pub(super) fn publish_group(
        &mut self,
        now: Time,
        id: &TrackId,
        group: u64,
        timestamp: u64,
        origin_time: u64,
    ) {
        let Some((key, published)) = self.own_track(id) else {
            return;
        };
        if published.is_some_and(|(last, _)| group <= last) {
            self.stats.ignored += 1;
            return;
        }
        if let Some((last, _)) = published {
            self.close_group(now, key, last, State::Complete);
        }
        let header = GroupHeader {
            subscription: 0,
            group,
            first_frame: 0,
            timestamp,
            origin_time,
            replay: false,
        };
        if self.open_group(now, key, &header) == Opened::New
            && let Some(track) = self.tracks.get_mut(key)
        {
            track.published = Some((group, 0));
        }
    }

    pub(super) fn publish_frame(&mut self, now: Time, id: &TrackId, frame: Frame) {
        let Some((key, published)) = self.own_track(id) else {
            return;
        };
        let Some((group, index)) = published.filter(|_| frame.payload.len() <= MAX_FRAME) else {
            self.stats.ignored += 1;
            return;
        };
        if let Some(track) = self.tracks.get_mut(key) {
            track.published = Some((group, index + 1));
        }
        self.put_frame(now, key, group, index, frame, 0);
    }

    pub(super) fn unpublish(&mut self, now: Time, id: &TrackId) {
        let Some((key, published)) = self.own_track(id) else {
            return;
        };
        if let Some((group, _)) = published {
            self.close_group(now, key, group, State::Complete);
        }
        self.end_track(now, key, EndReason::Finished, "the publisher finished");
    }

    fn own_track(&mut self, id: &TrackId) -> Option<(track::Key, Option<(u64, u64)>)> {
        let found = self.by_id.get(id).and_then(|key| {
            let track = self.tracks.get(*key)?;
            (track.own && track.ended.is_none()).then_some((*key, track.published))
        });
        if found.is_none() {
            self.stats.ignored += 1;
        }
        found
    }

    pub(super) fn subscribe_local(
        &mut self,
        now: Time,
        local: LocalKey,
        id: TrackId,
        origin: NodeId,
        start: Start,
        budget_ms: u32,
    ) {
        if self.locals.contains_key(&local) {
            self.stats.ignored += 1;
            return;
        }
        let known = self.by_id.get(&id).copied();
        let room = known.is_some() || self.room_for_track();
        let refusal = match known.and_then(|key| self.tracks.get(key)) {
            Some(track) => track.ended.clone(),
            None if origin == self.config.node => {
                Some((EndReason::NotFound, format!("{id} is not published here")))
            }
            None if !room => Some((
                EndReason::Limit,
                format!("this node knows {} tracks", self.config.limits.tracks),
            )),
            None => None,
        };
        if let Some((reason, message)) = refusal {
            self.stats.refused.count(reason);
            let event = LocalEvent::End { reason, message };
            self.say(Output::Local { local, event });
            return;
        }
        let key = match known {
            Some(key) => key,
            None => self.add_track(id, origin.clone()),
        };
        let receiver = Receiver::new(key, To::Local(local), start, None, Vec::new(), None);
        let receiver = self.receivers.insert(receiver);
        self.locals.insert(local, receiver);
        if let Some(track) = self.tracks.get_mut(key)
            && !track.confirmed()
        {
            track.origin = origin;
            if !track.wanted() {
                track.budget_ms = budget_ms;
            }
        }
        self.admit(now, key, receiver);
    }

    pub(super) fn unsubscribe_local(&mut self, now: Time, local: LocalKey) {
        match self.locals.get(&local).copied() {
            Some(receiver) => self.remove_receiver(now, receiver),
            None => self.stats.ignored += 1,
        }
    }

    pub(super) fn add_track(&mut self, id: TrackId, origin: NodeId) -> track::Key {
        let key = self.tracks.insert(Track::new(id.clone(), origin));
        self.by_id.insert(id, key);
        key
    }
}
