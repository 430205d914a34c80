//! A track as this node knows it: where it comes from, what of it is held, who gets it.

use bytes::Bytes;
use longspan_proto::{
    ids::{NodeId, TrackId},
    time::Time,
    wire::{EndReason, Start},
};

use super::{PeerKey, StreamKey, Trouble, cache::Cache, failover::Tries, receiver, slab};

/// A track's key.
pub(super) type Key = slab::Key<Track>;

/// A subscription of ours to a neighbour.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) peer: PeerKey,
    pub(super) node: NodeId,
    /// Our number for it.
    pub(super) sub: u64,
    pub(super) start: Start,
    pub(super) asked_at: Time,
    /// When it is given up unless confirmed.
    pub(super) deadline: Option<Time>,
    pub(super) confirmed_at: Option<Time>,
    /// The nodes the track crosses, the neighbour last; empty until confirmed.
    pub(super) chain: Vec<NodeId>,
    /// It opened a group, or announced one dropped: it has begun to serve.
    pub(super) fed: bool,
    /// How many streams it opened.
    pub(super) opened: u64,
    /// It brought what is held already: a backfill has reached what the active leg brings.
    pub(super) overlaps: bool,
    /// Its open groups.
    pub(super) streams: Vec<StreamKey>,
}

impl Leg {
    pub(super) fn confirmed(&self) -> bool {
        !self.chain.is_empty()
    }

    pub(super) fn is(&self, peer: PeerKey, sub: u64) -> bool {
        self.peer == peer && self.sub == sub
    }
}

/// What a second leg is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It takes over once it is confirmed and feeds.
    Move,
    /// The same, since the active leg's neighbour is in trouble; given up if that is over before.
    Rescue,
    /// It fetches for a newcomer what was before this node began to take the track: the newest
    /// group's start, or what comes after a resumed position. It is given up at this time at the
    /// latest.
    Backfill(Time),
}

impl Purpose {
    pub(super) fn takes_over(self) -> bool {
        matches!(self, Purpose::Move | Purpose::Rescue)
    }
}

/// The search for an upstream.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Since when there is no confirmed upstream; none while there is one.
    pub(super) since: Option<Time>,
    /// Neighbours that were tried in this round.
    pub(super) tried: Vec<NodeId>,
    /// Rounds in which every known way failed.
    pub(super) rounds: u32,
    /// When the next round begins.
    pub(super) next: Option<Time>,
    /// The origin has no such track: the other ways of this round are not tried.
    pub(super) hopeless: bool,
    /// Why the last way failed.
    pub(super) reason: Option<EndReason>,
}

/// The wish for a better upstream.
#[derive(Debug, Default)]
pub(super) struct Shift {
    /// It stands in the queue of moves.
    pub(super) queued: bool,
    /// How often it failed since the last route table.
    pub(super) attempts: u32,
    /// When it is tried again, or looked whether it is better now.
    pub(super) next: Option<Time>,
    /// Neighbours that refused since the trouble began.
    pub(super) refused: Vec<NodeId>,
    /// Until when it stays where it is, unless there is trouble.
    pub(super) held: Option<Time>,
    /// It left the table's way by itself, and looks every hold time whether it may go back.
    pub(super) displaced: bool,
    /// The neighbour whose link it left because that was full, and until when it stays away.
    pub(super) shed: Option<(NodeId, Time)>,
}

/// A track that the upstream said is finished, while its last groups may still be in flight.
#[derive(Debug)]
pub(super) struct Finishing {
    /// When it ends at the latest.
    pub(super) at: Time,
    /// How many streams come on the active leg in all.
    pub(super) streams: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) id: TrackId,
    /// Where it enters the backbone.
    pub(super) origin: NodeId,
    /// This node is the origin.
    pub(super) own: bool,
    /// The group this node published last, and the number of its next frame.
    pub(super) published: Option<(u64, u64)>,
    /// Nothing more comes; receivers are told once they have everything.
    pub(super) ended: Option<(EndReason, String)>,
    /// The nodes it crosses, this node last, as receivers were told; kept while another upstream
    /// is looked for.
    pub(super) chain: Vec<NodeId>,
    pub(super) cache: Cache,
    /// Receivers that are confirmed.
    pub(super) receivers: Vec<receiver::Key>,
    /// Receivers that wait for a confirmed upstream.
    pub(super) waiting: Vec<receiver::Key>,
    /// When the first of those that wait is refused.
    pub(super) expire: Option<Time>,
    pub(super) active: Option<Leg>,
    pub(super) standby: Option<(Leg, Purpose)>,
    /// Other neighbours, asked beside a [`Purpose::Rescue`] that does not answer at once.
    pub(super) hedges: Vec<Leg>,
    /// The way that the last subscriber asked for.
    pub(super) hint: Vec<NodeId>,
    pub(super) rate: u64,
    pub(super) budget_ms: u32,
    pub(super) ticket: Bytes,
    pub(super) search: Search,
    pub(super) shift: Shift,
    /// Why its upstream is, or was, in question, and since when; none once another feeds.
    pub(super) trouble: Option<(Trouble, Time)>,
    pub(super) tries: Tries,
    /// A node on its way has lost it, and asks for it here.
    pub(super) forsaken: Option<NodeId>,
    /// Bytes that the active leg brought, counted while a link to this node is full.
    pub(super) brought: u64,
    /// When the active leg brought a frame last.
    pub(super) fed_at: Option<Time>,
    pub(super) finishing: Option<Finishing>,
    /// When groups that lost their stream are given up.
    pub(super) unfed: Option<Time>,
    /// Without receivers: when it is unsubscribed, then when it is forgotten.
    pub(super) idle: Option<Time>,
    /// The time it stands under in the core's timers.
    pub(super) timer: Option<Time>,
}

impl Track {
    pub(super) fn new(id: TrackId, origin: NodeId) -> Track {
        Track {
            id,
            origin,
            own: false,
            published: None,
            ended: None,
            chain: Vec::new(),
            cache: Cache::default(),
            receivers: Vec::new(),
            waiting: Vec::new(),
            expire: None,
            active: None,
            standby: None,
            hedges: Vec::new(),
            hint: Vec::new(),
            rate: 0,
            budget_ms: 0,
            ticket: Bytes::new(),
            search: Search::default(),
            shift: Shift::default(),
            trouble: None,
            tries: Tries::default(),
            forsaken: None,
            brought: 0,
            fed_at: None,
            finishing: None,
            unfed: None,
            idle: None,
            timer: None,
        }
    }

    /// Whether this node has it: it is its own, or comes from a confirmed upstream.
    pub(super) fn confirmed(&self) -> bool {
        self.own || self.active.as_ref().is_some_and(Leg::confirmed)
    }

    pub(super) fn wanted(&self) -> bool {
        !self.receivers.is_empty() || !self.waiting.is_empty()
    }

    /// Nothing comes and nobody wants it.
    pub(super) fn is_idle(&self) -> bool {
        !self.own && !self.wanted() && self.active.is_none() && self.standby.is_none()
    }

    pub(super) fn leg_mut(&mut self, peer: PeerKey, sub: u64) -> Option<&mut Leg> {
        let standby = self.standby.as_mut().map(|(leg, _)| leg);
        let hedges = self.hedges.iter_mut();
        let mut legs = self.active.iter_mut().chain(standby).chain(hedges);
        legs.find(|leg| leg.is(peer, sub))
    }

    /// Whether it is the active leg.
    pub(super) fn is_active(&self, peer: PeerKey, sub: u64) -> bool {
        self.active.as_ref().is_some_and(|leg| leg.is(peer, sub))
    }

    /// The purpose of the standby or of a hedge, if it is this one.
    pub(super) fn purpose(&self, peer: PeerKey, sub: u64) -> Option<Purpose> {
        if self.is_hedge(peer, sub) {
            return Some(Purpose::Rescue);
        }
        let (leg, purpose) = self.standby.as_ref()?;
        leg.is(peer, sub).then_some(*purpose)
    }

    /// Whether a way leads over the neighbour that the track comes from.
    pub(super) fn is_over(&self, way: &[NodeId]) -> bool {
        self.active
            .as_ref()
            .is_some_and(|leg| way.contains(&leg.node))
    }

    /// Whether a way does not lead over a node that has lost the track.
    pub(super) fn is_around(&self, way: &[NodeId]) -> bool {
        self.forsaken
            .as_ref()
            .is_none_or(|node| !way.contains(node))
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Time> {
        let active = self.active.as_ref().and_then(|leg| leg.deadline);
        let standby = self.standby.as_ref().and_then(|(leg, purpose)| {
            let backfill = match purpose {
                Purpose::Backfill(until) => Some(*until),
                Purpose::Move | Purpose::Rescue => None,
            };
            earlier(leg.deadline, backfill)
        });
        let hedges = self.hedges.iter().filter_map(|leg| leg.deadline).min();
        let finishing = self.finishing.as_ref().map(|f| f.at);
        [
            active,
            standby,
            hedges,
            self.hedge_due(),
            self.expire,
            self.search.next,
            self.shift.next,
            finishing,
            self.unfed,
            self.idle,
        ]
        .into_iter()
        .fold(None, earlier)
    }
}

/// The earlier of two times, where `None` is never.
pub(super) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
