//! [`Law::Fed`](super::Law::Fed): what a subscriber is promised, and when.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use longspan_lab::wan::{Jitter, Loss, Profile};
use longspan_proto::time::Time;
use longspan_topology::paths::MAX_INTERMEDIATES;

use super::{Law, broken};
use crate::{World, world::Tables};

/// After the last fault every subscriber is fed again within this: a verdict (1 s at most), the
/// longest pause between two rounds of a search (1 s), an unanswered subscription (750 ms) at each
/// of a few hops, a viewer's own pause before it asks again, a new table (report, computation, and
/// a wait for a connection).
pub const FED_WITHIN: Duration = Duration::from_secs(7);
/// A controller that led for so long has settled (10 s), and its tables have had the time above.
const LED_FOR: Duration = Duration::from_secs(17);
/// Without a controller a node falls back on the ways of its own table. It tries them one after the
/// other, as does each node on them; within the bound that is promised for the best ones only.
const PROMISED_WAYS: usize = 2;
/// Between two frames, at most, where no link is full.
const FED: Duration = Duration::from_millis(1_500);

/// For each node that is reached from one, the one before it on the way.
type Reached = Vec<Option<usize>>;

impl World {
    /// [`Law::Fed`]: whoever can be reached, and whose publisher is there for long enough, has had
    /// a frame lately. `since`: when the last fault began or ended.
    pub fn fed(&self, since: Time) {
        if self.now.saturating_since(since) < FED_WITHIN {
            return;
        }
        let long_ago = |at: Time| self.now.saturating_since(at) >= FED_WITHIN;
        let within = self.fed_within();
        let mut reached = BTreeMap::new();
        for (at, viewer) in self.viewers.iter().enumerate() {
            let slot = &self.slots[viewer.slot];
            let is_due = !viewer.gone
                && slot.live
                && long_ago(slot.since)
                && long_ago(viewer.since)
                && self.reaches(viewer.node, slot.edge, viewer.slot, &mut reached);
            if is_due {
                self.is_fed(at, within);
            }
        }
    }

    /// [`Law::Fed`] after everything was repaired, and long after: everyone, without exception.
    pub fn all_fed(&self) {
        let within = self.fed_within();
        for at in 0..self.viewers.len() {
            if !self.viewers[at].gone {
                self.is_fed(at, within);
                self.is_told(at);
            }
        }
    }

    /// [`Law::DropsAnnounced`].
    fn is_told(&self, at: usize) {
        let seen = &self.viewers[at].seen;
        let untold = seen.untold();
        holds!(
            Law::DropsAnnounced,
            untold.is_none(),
            "viewer {at} at {} heard nothing of group {untold:?}: {seen}",
            self.layout.name(self.viewers[at].node)
        );
    }

    /// Whoever is fed has had a frame within this: a link that is full drops old video.
    fn fed_within(&self) -> Duration {
        if self.is_narrow() { FED * 4 } else { FED }
    }

    fn is_fed(&self, at: usize, within: Duration) {
        let viewer = &self.viewers[at];
        let slot = &self.slots[viewer.slot];
        let seen = &viewer.seen;
        // Whoever wants nothing old is told what was dropped.
        let last = match viewer.budget_ms {
            0 => seen.last_frame,
            _ => seen.last_word,
        };
        let last = last.filter(|_| seen.track == self.track(viewer.slot));
        // A catalog is said once.
        let is_fed = match slot.catalog {
            true => {
                let is_due = self.now.saturating_since(slot.said) >= within;
                !is_due || (last >= Some(slot.said) && seen.dropped.is_empty())
            }
            false => last.is_some_and(|last| self.now.saturating_since(last) < within),
        };
        holds!(
            Law::Fed,
            is_fed,
            "viewer {at} at {} of stream {} at {} starves since {last:?}: {seen}{}",
            self.layout.name(viewer.node),
            viewer.slot,
            self.layout.name(slot.edge),
            self.trail(at)
        );
    }

    /// How far a viewer's track comes along its path: for who looks for the fault.
    fn trail(&self, viewer: usize) -> String {
        let seen = &self.viewers[viewer].seen;
        let path: Vec<usize> = seen.path.iter().map(|n| self.layout.index(n)).collect();
        let (from, to) = (
            self.viewers[viewer].node,
            self.slots[self.viewers[viewer].slot].edge,
        );
        let ways = self.nodes[from].ways(self.layout.name(from), self.layout.name(to));
        let mut trail = format!("\n  its ways: {ways:?}\n  within reach, backwards:");
        // How long the connections have stood, too: one that is new may be in no table yet.
        let (mut at, reached) = (to, self.reached(from));
        while let Some(next) = reached[at].filter(|next| *next != at) {
            let conn = self.link_of(at, next).and_then(|l| self.links[l].conns[0]);
            let conn = conn.and_then(|id| self.conns[id as usize].as_deref());
            let stands = conn.map(|conn| self.now.saturating_since(conn.halves[0].opened));
            let _ = write!(trail, " {} ({stands:?})", self.layout.name(at));
            at = next;
        }
        for (at, node) in path.iter().enumerate() {
            let core = self.nodes[*node].core.as_ref();
            let track = core.and_then(|core| core.track(&seen.track));
            let last = track.map(|t| (t.last, t.receivers, t.chain.len()));
            let _ = write!(trail, "\n  {}: {last:?}", self.layout.name(*node));
            let Some(next) = path.get(at + 1) else { break };
            let Some(link) = self.link_of(*node, *next) else {
                continue;
            };
            let side = usize::from(self.layout.links[link].b == *node);
            let conn = self.links[link].conns[side];
            let conn = conn.and_then(|id| self.conns[id as usize].as_deref());
            let pipe = conn.map(|conn| &conn.pipes[side]);
            let _ = write!(trail, " → {:?} {pipe:?}", self.links[link].conns);
        }
        trail
    }

    /// Whether links lose nothing and delays do not vary: elsewhere a loss may look like an end now
    /// and then, and costs go up and down.
    pub(crate) fn is_steady(&self) -> bool {
        let steady = |profile: &Profile| match profile.jitter {
            Jitter::None => profile.loss == Loss::None,
            Jitter::Uniform { share } => share < 0.01 && profile.loss == Loss::None,
            Jitter::Exponential { .. } => false,
        };
        !self.is_narrow() && self.layout.links.iter().all(|link| steady(&link.profile))
    }

    fn is_narrow(&self) -> bool {
        let rate = |link: &crate::Link| link.profile.rate.map_or(u64::MAX, |r| r.bits_per_s);
        self.layout.links.iter().any(|link| rate(link) < 1_000_000)
    }

    /// Whether the law promises a viewer at `from` the tracks of `to`. Where a controller has led for
    /// long enough: connections over at most three relays between two get through. Otherwise: one
    /// of the best ways of its own table does, and it knows the stream.
    /// `reached`: what is known already, by place.
    fn reaches(
        &self,
        from: usize,
        to: usize,
        slot: usize,
        reached: &mut BTreeMap<usize, Reached>,
    ) -> bool {
        match self.setup.tables != Tables::ByHand && self.has_been_led(LED_FOR) {
            true => {
                let reached = reached.entry(from).or_insert_with(|| self.reached(from));
                reached[to].is_some()
            }
            false => {
                let since = self.knows_since(from, slot);
                let long_ago = self.now.saturating_since(since) >= FED_WITHIN;
                self.knows(from, slot) && long_ago && self.has_own_way(from, to)
            }
        }
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.alive(node) && !self.nodes[node].stopped
    }

    /// Which nodes packets get through to over at most three relays, over connections that stand.
    fn reached(&self, from: usize) -> Reached {
        let mut reached = vec![None; self.nodes.len()];
        if !self.runs(from) {
            return reached;
        }
        let stands = |link: usize| self.is_up(link, 0) && self.is_up(link, 1);
        reached[from] = Some(from);
        let mut last = vec![from];
        for _ in 0..MAX_INTERMEDIATES + 2 {
            let mut next = Vec::new();
            for a in &last {
                for at in &self.links_of[*a] {
                    let link = &self.layout.links[*at];
                    let b = link.a + link.b - a;
                    if reached[b].is_none() && self.runs(b) && self.is_open(*at) && stands(*at) {
                        reached[b] = Some(*a);
                        if !self.layout.is_edge(b) {
                            next.push(b);
                        }
                    }
                }
            }
            last = next;
        }
        reached
    }

    /// Whether some way of a node's own table to an edge gets through.
    fn has_own_way(&self, from: usize, to: usize) -> bool {
        if !self.runs(from) {
            return false;
        }
        let ways = self.nodes[from].ways(self.layout.name(from), self.layout.name(to));
        ways.iter().take(PROMISED_WAYS).any(|way| {
            let mut at = from;
            way.iter().all(|node| {
                let next = self.layout.index(node);
                let link = self.link_of(at, next);
                at = next;
                let runs = self.alive(next) && !self.nodes[next].stopped;
                runs && link.is_some_and(|l| self.is_open(l))
            })
        })
    }
}
