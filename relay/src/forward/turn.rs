//! A node on a track's own way asks for the track here: it has lost its upstream, and its best way
//! leads over a node that gets the track from it. Refused, both would starve though a way is there.
//! So the one below looks for a way around the other, which waits, and gets the track from here
//! once it comes that way: the two have turned round.

use std::time::Duration;

use longspan_proto::{ids::NodeId, time::Time};

use super::{
    Forwarder, Trouble, receiver,
    track::{self, Purpose, Track, earlier},
};

/// A track that brought a frame so lately has not been lost above: its subscriber only wants to
/// move. Below the time a suspicion takes, above the time between two pictures.
const QUIET: Duration = Duration::from_millis(60);

impl Forwarder {
    /// Whether this node should take the track around `asker`, and let it wait for that.
    pub(super) fn turns(&self, now: Time, track: &Track, asker: &NodeId) -> bool {
        let quiet = track
            .fed_at
            .is_none_or(|at| now.saturating_since(at) >= QUIET);
        // Tables that disagree for a moment must not chase a track to and fro.
        let settled = track.shift.held.is_none_or(|held| held <= now);
        let free = match &track.standby {
            None => true,
            Some((_, purpose)) => *purpose == Purpose::Rescue,
        };
        let around = |way: &Vec<NodeId>| {
            !self.avoids(way)
                && !way.contains(asker)
                && track.active.as_ref().is_some_and(|a| way[0] != a.node)
        };
        quiet
            && settled
            && free
            && track.finishing.is_none()
            && track.wanted()
            && track.chain.contains(asker)
            && self.ways(track, false).iter().any(around)
    }

    /// Looks for the way around, while the receiver that `asker` wants to be waits.
    pub(super) fn turn(
        &mut self,
        now: Time,
        key: track::Key,
        receiver: receiver::Key,
        asker: NodeId,
    ) {
        let deadline = self.receivers.get(receiver).and_then(|r| r.deadline);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.waiting.push(receiver);
        track.expire = earlier(track.expire, deadline);
        if track.forsaken.is_none() {
            track.forsaken = Some(asker);
            track.trouble.get_or_insert((Trouble::Upstream, now));
            track.shift.attempts = 0;
            track.shift.next = None;
            track.shift.refused.clear();
        }
        self.touch(key);
        self.plan_move(now, key);
        self.start_moves(now);
    }

    /// A receiver that waited is gone: if it was the last that wanted the track to turn, it stays.
    pub(super) fn turn_over(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let Some(asker) = &track.forsaken else {
            return;
        };
        let mut waiting = track.waiting.iter().filter_map(|r| self.receivers.get(*r));
        if waiting.any(|r| r.crossed.contains(asker)) {
            return;
        }
        self.spare_track(now, key);
        self.start_moves(now);
    }
}
