//! The core's surface and its parts. What it does stands beside:
//!
//! * `downstream`: subscriptions of peers: merged, kept waiting, refused.
//! * `upstream`: our subscriptions to peers: asked, confirmed, lost, looked for again.
//! * `moves`: to a better upstream, make-before-break.
//! * `shed`: away from a link that is full, a few at a time.
//! * `life`: what follows from a link's life, without a table's word.
//! * `feed`: groups and frames into the caches, and out of them when they are full or old.
//! * `transmit`: from the caches to peers and to consumers inside this node.
//! * `local`: what this node publishes and consumes itself.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use longspan_proto::{
    ids::{NodeId, TrackId},
    time::Time,
    wire::{EndReason, Message, Role},
};
use longspan_topology::routes::Routes;

use super::{
    Config, Input, LocalKey, Output, PeerKey, Stats, StreamKey, TrackView, Trouble,
    cache::Group,
    failover::{Failover, Failovers},
    peer::Peer,
    receiver::{self, Receiver},
    shed::Shedding,
    slab::Slab,
    track::{self, Finishing, Track, earlier},
};

/// One node's forwarding: see the [module](super).
#[derive(Debug)]
pub struct Forwarder {
    pub(super) config: Config,
    /// Counters only; gauges are filled in by `stats`.
    pub(super) stats: Stats,
    pub(super) peers: HashMap<PeerKey, Peer>,
    /// Connections by node, the newest last: after a heal there may be two for a while.
    pub(super) by_node: HashMap<NodeId, Vec<PeerKey>>,
    pub(super) tracks: Slab<Track>,
    pub(super) by_id: HashMap<TrackId, track::Key>,
    pub(super) receivers: Slab<Receiver>,
    pub(super) locals: HashMap<LocalKey, receiver::Key>,
    pub(super) routes: Arc<Routes>,
    pub(super) cache_bytes: usize,
    pub(super) cache_groups: usize,
    /// Groups that may go, by when they were superseded: all but the newest of each track.
    pub(super) evictable: BTreeSet<(Time, track::Key, u64)>,
    /// Tracks that wait for their move; each once.
    pub(super) move_queue: VecDeque<track::Key>,
    /// Moves under way.
    pub(super) moves: usize,
    /// Tracks whose neighbour is in trouble and that wait for their move; each once.
    pub(super) rescue_queue: VecDeque<track::Key>,
    /// Such moves under way.
    pub(super) rescues: usize,
    pub(super) failovers: Failovers,
    pub(super) shedding: Shedding,
    /// Streams to be reset once what was sent on them has had its time to arrive.
    pub(super) late_resets: VecDeque<(Time, PeerKey, StreamKey)>,
    timers: BTreeSet<(Time, track::Key)>,
    /// Tracks whose timer may have changed since the input began.
    touched: Vec<track::Key>,
    pub(super) outputs: VecDeque<Output>,
}

/// How long after its upstream said "finished" a track's last groups are waited for at the most:
/// they travel on streams of their own and may come later, after a few losses on the longest link
/// perhaps; a stream that was reset may never be heard of.
const FINISH: Duration = Duration::from_secs(5);

impl Forwarder {
    /// A node without peers and tracks.
    pub fn new(config: Config) -> Forwarder {
        Forwarder {
            config,
            stats: Stats::default(),
            peers: HashMap::new(),
            by_node: HashMap::new(),
            tracks: Slab::new(),
            by_id: HashMap::new(),
            receivers: Slab::new(),
            locals: HashMap::new(),
            routes: Arc::new(Routes::default()),
            cache_bytes: 0,
            cache_groups: 0,
            evictable: BTreeSet::new(),
            move_queue: VecDeque::new(),
            moves: 0,
            rescue_queue: VecDeque::new(),
            rescues: 0,
            failovers: Failovers::default(),
            shedding: Shedding::default(),
            late_resets: VecDeque::new(),
            timers: BTreeSet::new(),
            touched: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::PeerUp { peer, node, role } => self.peer_up(now, peer, node, role),
            Input::PeerDown { peer } => self.peer_down(now, peer),
            Input::Control { peer, message } => self.control(now, peer, message),
            Input::GroupOpened {
                peer,
                stream,
                header,
            } => self.group_opened(now, peer, stream, &header),
            Input::Frame {
                peer,
                stream,
                frame,
                age_us,
            } => self.frame(now, peer, stream, frame, age_us),
            Input::GroupFinished { peer, stream } => self.group_finished(now, peer, stream),
            Input::GroupReset { peer, stream } => self.group_reset(now, peer, stream),
            Input::Routes(routes) => {
                self.routes = routes;
                self.watch_full(now);
                self.ways_changed(now);
            }
            Input::Rtt { peer, rtt } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.rtt = Some(rtt);
                }
            }
            Input::Link { peer, event } => self.link_event(now, peer, event),
            Input::Cost { peer, extra_us } => self.link_costs(now, peer, extra_us),
            Input::Load {
                peer,
                sent_bps,
                capacity_bps,
            } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    (peer.sent_bps, peer.capacity_bps) = (sent_bps, capacity_bps);
                }
            }
            Input::Publish { track } => self.publish(now, track),
            Input::PublishGroup {
                track,
                group,
                timestamp,
                origin_time,
            } => self.publish_group(now, &track, group, timestamp, origin_time),
            Input::PublishFrame { track, frame } => self.publish_frame(now, &track, frame),
            Input::Unpublish { track } => self.unpublish(now, &track),
            Input::Subscribe {
                local,
                track,
                origin,
                start,
                budget_ms,
            } => self.subscribe_local(now, local, track, origin, start, budget_ms),
            Input::Unsubscribe { local } => self.unsubscribe_local(now, local),
        }
        self.rearm();
    }

    /// What is to be done next; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let track = self.timers.first().map(|(at, _)| *at);
        let oldest = self.evictable.first().map(|(at, ..)| *at);
        let reset = self.late_resets.front().map(|(at, ..)| *at);
        let evict = oldest.map(|at| at + self.config.cache.max_age);
        earlier(earlier(track, evict), earlier(reset, self.shedding.next))
    }

    /// Does what is due. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Time) {
        self.evict_old(now);
        self.reset_late(now);
        self.shed_due(now);
        while let Some((at, key)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(track) = self.tracks.get_mut(key) {
                track.timer = None;
                self.track_due(now, key);
                self.touch(key);
            }
        }
        self.rearm();
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        Stats {
            tracks: self.tracks.len(),
            subscriptions: self.receivers.len(),
            cache_bytes: self.cache_bytes,
            cache_groups: self.cache_groups,
            peers: self.peers.len(),
            moves: self.moves,
            rescues: self.rescues,
            ..self.stats.clone()
        }
    }

    /// The last tracks that left their upstream for another, oldest first.
    pub fn failovers(&self) -> impl Iterator<Item = &Failover> {
        self.failovers.iter()
    }

    /// Every track as it stands.
    pub fn tracks(&self) -> Vec<TrackView> {
        self.tracks.iter().map(|(_, track)| view(track)).collect()
    }

    /// One track as it stands.
    pub fn track(&self, id: &TrackId) -> Option<TrackView> {
        let key = self.by_id.get(id)?;
        self.tracks.get(*key).map(view)
    }

    fn control(&mut self, now: Time, peer: PeerKey, message: Message) {
        if !self.peers.contains_key(&peer) {
            self.stats.ignored += 1;
            return;
        }
        match message {
            Message::Hello(_) => self.disconnect(peer, "a second hello"),
            Message::Subscribe(subscribe) => self.subscribe(now, peer, subscribe),
            Message::Ok(ok) => self.confirmed(now, peer, ok),
            Message::Update(update) => self.updated(now, peer, update),
            Message::End(end) => self.leg_ended(now, peer, end),
            Message::Unsubscribe(unsubscribe) => self.unsubscribe(now, peer, unsubscribe.id),
            Message::GroupDropped(dropped) => self.group_dropped(now, peer, &dropped),
            Message::GoAway { .. } => {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.leaving = true;
                    entry.trouble.get_or_insert((Trouble::Leaving, now));
                    self.leave_peer(now, peer);
                }
            }
        }
    }

    fn peer_up(&mut self, now: Time, peer: PeerKey, node: NodeId, role: Role) {
        if node == self.config.node || self.peers.contains_key(&peer) {
            self.stats.ignored += 1;
            return;
        }
        self.by_node.entry(node.clone()).or_default().push(peer);
        self.peers.insert(peer, Peer::new(node, role));
        self.ways_changed(now);
    }

    fn peer_down(&mut self, now: Time, key: PeerKey) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        if let Some(connections) = self.by_node.get_mut(&peer.node) {
            connections.retain(|other| *other != key);
            if connections.is_empty() {
                self.by_node.remove(&peer.node);
            }
        }
        for receiver in peer.serving.into_values() {
            self.remove_receiver(now, receiver);
        }
        let trouble = peer.trouble.unwrap_or((Trouble::Closed, now));
        self.lose_legs(now, key, peer.asked, trouble);
    }

    /// The peer broke the protocol. Its connection is closed by the driver; until then nothing
    /// more is believed of what it says.
    pub(super) fn disconnect(&mut self, peer: PeerKey, reason: &str) {
        self.stats.disconnects += 1;
        self.say(Output::Disconnect {
            peer,
            reason: reason.to_owned(),
        });
    }

    pub(super) fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn say_to(&mut self, peer: PeerKey, message: Message) {
        self.say(Output::Control { peer, message });
    }

    /// The track's timer is set anew before the input is done.
    pub(super) fn touch(&mut self, key: track::Key) {
        self.touched.push(key);
    }

    fn rearm(&mut self) {
        while let Some(key) = self.touched.pop() {
            let Some(track) = self.tracks.get_mut(key) else {
                continue;
            };
            let due = track.due();
            if due == track.timer {
                continue;
            }
            if let Some(at) = track.timer {
                self.timers.remove(&(at, key));
            }
            if let Some(at) = due {
                self.timers.insert((at, key));
            }
            track.timer = due;
        }
    }

    fn track_due(&mut self, now: Time, key: track::Key) {
        self.expire_waiting(now, key);
        self.legs_due(now, key);
        self.shift_due(now, key);
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if due(track.unfed) {
            track.unfed = None;
            self.break_unfed(now, key);
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if let Some(finishing) = &track.finishing
            && finishing.at <= now
        {
            return self.end_track(now, key, EndReason::Finished, "the track is finished");
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if due(track.idle) {
            track.idle = None;
            self.idle_due(now, key);
        }
    }

    /// The upstream said that the track is finished: it ends here when its last groups are in.
    pub(super) fn finish(&mut self, now: Time, key: track::Key, streams: u64) {
        if let Some(track) = self.tracks.get_mut(key) {
            track.finishing = Some(Finishing {
                at: now + FINISH,
                streams,
            });
            self.touch(key);
        }
        self.finish_if_whole(now, key);
    }

    /// Ends a track that its upstream said is finished, once all of its streams have come and ended.
    pub(super) fn finish_if_whole(&mut self, now: Time, key: track::Key) {
        let whole = self.tracks.get(key).is_some_and(|track| {
            let leg = track.active.as_ref();
            track
                .finishing
                .as_ref()
                .zip(leg)
                .is_some_and(|(finishing, leg)| {
                    leg.opened >= finishing.streams && leg.streams.is_empty()
                })
        });
        if whole {
            self.end_track(now, key, EndReason::Finished, "the track is finished");
        }
    }

    /// Nothing more comes: receivers get what is held and are told the end.
    pub(super) fn end_track(
        &mut self,
        now: Time,
        key: track::Key,
        reason: EndReason,
        message: &str,
    ) {
        self.drop_legs(now, key);
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        track.finishing = None;
        track.search = Default::default();
        track.ended = Some((reason, message.to_owned()));
        self.close_groups(now, key);
        for receiver in self.waiting(key) {
            self.end_receiver(now, receiver, reason, message);
        }
        self.notify(now, key, longspan_proto::wire::Priority::Realtime);
        self.forget_unwanted(key);
    }

    /// Forgets a track that ended when its last receiver is gone.
    pub(super) fn forget_unwanted(&mut self, key: track::Key) {
        if let Some(track) = self.tracks.get(key)
            && track.ended.is_some()
            && !track.wanted()
        {
            self.forget(key);
        }
    }

    /// Drops a track, which has neither receivers nor legs, and its cache.
    pub(super) fn forget(&mut self, key: track::Key) {
        self.clear_cache(key);
        let Some(track) = self.tracks.remove(key) else {
            return;
        };
        self.by_id.remove(&track.id);
        if let Some(at) = track.timer {
            self.timers.remove(&(at, key));
        }
    }

    /// The track lost its last receiver, or an unwanted track its upstream.
    pub(super) fn rest(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.wanted() || track.own && track.ended.is_none() {
            return;
        }
        if track.ended.is_some() {
            self.forget_unwanted(key);
            return;
        }
        if track.is_idle() {
            track.search = Default::default();
            track.idle = Some(now + self.config.cache.max_age);
        } else {
            track.idle = Some(now + self.config.linger);
        }
        self.touch(key);
    }

    /// The linger is over: unsubscribe. The cache's age is over: forget.
    fn idle_due(&mut self, now: Time, key: track::Key) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        if track.wanted() || track.own {
            return;
        }
        if track.is_idle() {
            self.forget(key);
            return;
        }
        self.drop_legs(now, key);
        match self.tracks.get(key) {
            Some(track) if track.cache.len() == 0 => self.forget(key),
            _ => self.rest(now, key),
        }
    }

    /// Makes room for a track by forgetting those that are only held in case they are wanted
    /// again; whether there is room.
    pub(super) fn room_for_track(&mut self) -> bool {
        if self.tracks.len() >= self.config.limits.tracks {
            let idle: Vec<_> = self.tracks.iter().filter(|(_, t)| t.is_idle()).collect();
            let idle: Vec<_> = idle.into_iter().map(|(key, _)| key).collect();
            for key in idle {
                self.forget(key);
            }
        }
        self.tracks.len() < self.config.limits.tracks
    }
}

fn view(track: &Track) -> TrackView {
    TrackView {
        track: track.id.clone(),
        chain: match track.confirmed() {
            true => track.chain.clone(),
            false => Vec::new(),
        },
        moving_to: track.standby.as_ref().map(|(leg, _)| leg.node.clone()),
        receivers: track.receivers.len() + track.waiting.len(),
        bytes: track.cache.bytes(),
        groups: track.cache.len(),
        last: track.cache.last(),
        held: track.cache.iter().map(Group::view).collect(),
    }
}
