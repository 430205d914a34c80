//! From the caches to peers, whenever their connections have room, and to consumers inside this
//! node, at once.

use std::time::Duration;

use longspan_proto::{
    time::Time,
    wire::{GroupDropped, Message, Priority},
};

#[cfg(test)]
use super::peer::Peer;
use super::{
    Forwarder, LocalEvent, Output, PeerKey, StreamKey, Transmit,
    receiver::{self, Dropped, Step, To},
    track,
};

/// A reset discards what is in flight: a group that broke off upstream is reset only after this,
/// when what was sent of it has arrived or never will. The announcement goes at once.
const RESET_AFTER: Duration = Duration::from_secs(2);

impl Forwarder {
    /// What goes on this peer's connection next; `None` until the next [`Output::Ready`].
    pub fn poll_transmit(&mut self, now: Time, key: PeerKey) -> Option<Transmit> {
        loop {
            let peer = self.peers.get_mut(&key)?;
            if let Some(stream) = peer.resets.pop_front() {
                return Some(Transmit::Reset { stream });
            }
            let Some((receiver, class)) = peer.dequeue() else {
                peer.ready_said = false;
                return None;
            };
            let Some(entry) = self.receivers.get_mut(receiver) else {
                continue;
            };
            if !entry.queued.leave(class) {
                continue;
            }
            let Some(track) = self.tracks.get(entry.track) else {
                continue;
            };
            let open_sends = self.config.limits.open_sends;
            let step = entry.step(now, &track.cache, open_sends, || peer.open_stream());
            let ended = track.ended.is_some();
            let next = entry.next_class(&track.cache, open_sends);
            if let Some(next) = next.or(ended.then_some(Priority::Realtime)) {
                peer.enqueue(receiver, &mut entry.queued, next);
            }
            match step {
                Some(Step::Open(header, class)) => {
                    let Some(stream) = entry.stream(header.group) else {
                        continue;
                    };
                    let urgency = urgency(class, header.group);
                    return Some(Transmit::Open {
                        stream,
                        header,
                        urgency,
                    });
                }
                Some(Step::Frame {
                    stream,
                    frame,
                    age_us,
                    ..
                }) => {
                    self.stats.frames_forwarded += 1;
                    return Some(Transmit::Frame {
                        stream,
                        frame,
                        age_us,
                    });
                }
                Some(Step::Finish { stream, .. }) => return Some(Transmit::Finish { stream }),
                Some(Step::Drop(mut dropped)) => {
                    self.count(&dropped);
                    // What was sent of a group that broke off is worth as much as before.
                    if !dropped.stale
                        && let Some(stream) = dropped.stream.take()
                    {
                        self.late_resets.push_back((now + RESET_AFTER, key, stream));
                    }
                    self.announce(receiver, dropped);
                }
                None => self.tell_end(now, receiver),
            }
        }
    }

    /// Entries in a peer's queues.
    #[cfg(test)]
    pub(super) fn queued(&self, peer: PeerKey) -> usize {
        self.peers.get(&peer).map_or(0, Peer::queued)
    }

    fn count(&mut self, dropped: &Dropped) {
        match dropped.stale {
            true => self.stats.groups_stale += 1,
            false => self.stats.groups_broken += 1,
        }
    }

    /// Tells a receiver that the rest of a group does not come.
    pub(super) fn announce(&mut self, receiver: receiver::Key, dropped: Dropped) {
        let Dropped {
            group, from_frame, ..
        } = dropped;
        match self.receivers.get(receiver).map(|r| r.to) {
            Some(To::Peer(peer, id)) => {
                self.say_to(
                    peer,
                    Message::GroupDropped(GroupDropped {
                        id,
                        group,
                        from_frame,
                    }),
                );
                if let Some(stream) = dropped.stream {
                    self.reset(peer, stream);
                }
            }
            Some(To::Local(local)) => {
                let event = LocalEvent::GroupDropped { group, from_frame };
                self.say(Output::Local { local, event });
            }
            None => {}
        }
    }

    /// Resets what is due.
    pub(super) fn reset_late(&mut self, now: Time) {
        while let Some((at, peer, stream)) = self.late_resets.front().copied()
            && at <= now
        {
            self.late_resets.pop_front();
            self.reset(peer, stream);
        }
    }

    fn reset(&mut self, key: PeerKey, stream: StreamKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.resets.push_back(stream);
        if !std::mem::replace(&mut peer.ready_said, true) {
            self.say(Output::Ready { peer: key });
        }
    }

    /// Something of this class is new in a track's cache.
    pub(super) fn notify(&mut self, now: Time, key: track::Key, class: Priority) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        // Not before the chain is known and told.
        if !track.confirmed() && track.ended.is_none() {
            return;
        }
        let mut locals = Vec::new();
        for key in &track.receivers {
            let Some(receiver) = self.receivers.get_mut(*key) else {
                continue;
            };
            // Where it begins is settled by the first frame that comes, not by when it is asked.
            receiver.resolve(&track.cache);
            match receiver.to {
                To::Peer(peer, _) => {
                    let Some(entry) = self.peers.get_mut(&peer) else {
                        continue;
                    };
                    if entry.enqueue(*key, &mut receiver.queued, class) {
                        self.outputs.push_back(Output::Ready { peer });
                    }
                }
                To::Local(_) => locals.push(*key),
            }
        }
        for receiver in locals {
            if self.deliver(now, receiver) {
                self.tell_end(now, receiver);
            }
        }
    }

    /// Whatever a track holds may be new to its receivers.
    pub(super) fn notify_all(&mut self, now: Time, key: track::Key) {
        self.notify(now, key, Priority::Realtime);
    }

    /// Gives a receiver what is held for it.
    pub(super) fn serve(&mut self, now: Time, key: receiver::Key) {
        let Some(receiver) = self.receivers.get_mut(key) else {
            return;
        };
        let To::Peer(peer, _) = receiver.to else {
            if self.deliver(now, key) {
                self.tell_end(now, key);
            }
            return;
        };
        let Some(track) = self.tracks.get(receiver.track) else {
            return;
        };
        let class = receiver.next_class(&track.cache, self.config.limits.open_sends);
        let Some(class) = class else {
            return;
        };
        let ready = match self.peers.get_mut(&peer) {
            Some(entry) => {
                let ready = entry.enqueue(key, &mut receiver.queued, class);
                let receivers = &self.receivers;
                entry.sweep(|key| receivers.get(key).is_some());
                ready
            }
            None => false,
        };
        if ready {
            self.say(Output::Ready { peer });
        }
    }

    /// Hands a consumer inside this node everything there is; whether its track has ended.
    fn deliver(&mut self, now: Time, key: receiver::Key) -> bool {
        loop {
            let Some(receiver) = self.receivers.get_mut(key) else {
                return false;
            };
            let To::Local(local) = receiver.to else {
                return false;
            };
            let Some(track) = self.tracks.get(receiver.track) else {
                return false;
            };
            // It has no streams; nothing bounds what it may have open.
            let step = receiver.step(now, &track.cache, usize::MAX, || StreamKey(0));
            let event = match step {
                None => return track.ended.is_some(),
                Some(Step::Open(header, _)) => LocalEvent::Group(header),
                Some(Step::Frame {
                    group,
                    index,
                    frame,
                    ..
                }) => {
                    self.stats.frames_local += 1;
                    LocalEvent::Frame {
                        group,
                        index,
                        frame,
                    }
                }
                Some(Step::Finish { group, .. }) => LocalEvent::GroupEnd { group },
                Some(Step::Drop(dropped)) => {
                    self.count(&dropped);
                    LocalEvent::GroupDropped {
                        group: dropped.group,
                        from_frame: dropped.from_frame,
                    }
                }
            };
            self.say(Output::Local { local, event });
        }
    }

    /// A receiver has everything of a track that ended: it is told so, and gone.
    pub(super) fn tell_end(&mut self, now: Time, receiver: receiver::Key) {
        let entry = self.receivers.get(receiver);
        let track = entry.and_then(|entry| self.tracks.get(entry.track));
        if let Some((reason, message)) = track.and_then(|track| track.ended.clone()) {
            self.end_receiver(now, receiver, reason, &message);
        }
    }
}

/// The priority of a frame's stream for quinn while the frame is sent: by class first; within a class newer groups of video go
/// first, and older ones of what is never dropped. The lowest 24 bits of the group's number
/// decide: at a group a second they repeat after half a year.
pub(crate) fn urgency(class: Priority, group: u64) -> i32 {
    const BITS: u32 = 24;
    let mask = (1 << BITS) - 1;
    let recent = (group & mask) as i32;
    let order = match class {
        Priority::Realtime | Priority::State => mask as i32 - recent,
        Priority::VideoKey | Priority::VideoDelta => recent,
    };
    ((3 - class as i32) << BITS) | order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_is_by_class_then_by_age() {
        let video = |group| urgency(Priority::VideoKey, group);
        let audio = |group| urgency(Priority::Realtime, group);
        assert!(video(8) > video(7));
        assert!(audio(7) > audio(8));
        assert!(audio(u64::MAX) > video(u64::MAX));
        assert!(video(0) > urgency(Priority::VideoDelta, u64::MAX));
        let in_order = [
            Priority::Realtime,
            Priority::State,
            Priority::VideoKey,
            Priority::VideoDelta,
        ];
        let of_one_group = in_order.map(|class| urgency(class, 5));
        assert!(of_one_group.is_sorted_by(|a, b| a > b), "{of_one_group:?}");
    }
}
