//! Shedding (DESIGN §4): a link above its share of the capacity gives tracks away, the largest first
//! and at most 5 % of them a second, as long as another way is open. The receiving end does it: it
//! chooses where its tracks come from. Whoever takes them from there notices nothing but a new chain.

use std::time::Duration;

use longspan_proto::{ids::NodeId, time::Time};

use super::{Forwarder, track};

/// How often tracks are chosen. A track's rate is what it brought in that time.
const EVERY: Duration = Duration::from_secs(1);
/// The share of a link's tracks that leave it in that time at most (DESIGN §4). Of fewer than twenty
/// one leaves now and then.
const SHARE: f64 = 0.05;
/// A track that was shed does not come back over that link for so long, unless nothing else reaches:
/// lessons last longer than a peak, and a link that was full is full again when all return.
const STAYS_AWAY: Duration = Duration::from_secs(300);

/// The full links that end at this node, by their sending ends.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    /// When tracks are chosen next; none while no link is full.
    pub(super) next: Option<Time>,
    full: Vec<Full>,
}

#[derive(Debug)]
struct Full {
    from: NodeId,
    /// How many tracks may leave now; whole ones do.
    credit: f64,
}

impl Forwarder {
    /// The table may name other full links.
    pub(super) fn watch_full(&mut self, now: Time) {
        let me = &self.config.node;
        let ends_here = self.routes.full.iter().filter(|(_, to)| to == me);
        let known = std::mem::take(&mut self.shedding.full);
        let mut known = known.into_iter().peekable();
        // Both are in the order of the senders.
        for (from, _) in ends_here {
            while known.next_if(|full| full.from < *from).is_some() {}
            let full = known.next_if(|full| full.from == *from);
            self.shedding.full.push(full.unwrap_or(Full {
                from: from.clone(),
                credit: 0.0,
            }));
        }
        match self.shedding.full.is_empty() {
            true => self.shedding.next = None,
            false if self.shedding.next.is_none() => {
                self.shedding.next = Some(now + EVERY);
                self.count_anew();
            }
            false => {}
        }
    }

    fn count_anew(&mut self) {
        for track in self.tracks.values_mut() {
            track.brought = 0;
        }
    }

    pub(super) fn shed_due(&mut self, now: Time) {
        if self.shedding.next.is_none_or(|at| at > now) {
            return;
        }
        self.shedding.next = Some(now + EVERY);
        let mut full = std::mem::take(&mut self.shedding.full);
        for link in &mut full {
            self.shed_from(now, link);
        }
        self.shedding.full = full;
        self.count_anew();
        self.start_moves(now);
    }

    fn shed_from(&mut self, now: Time, link: &mut Full) {
        let comes_over = |track: &track::Track| {
            let active = track.active.as_ref().filter(|leg| leg.confirmed());
            active.is_some_and(|leg| leg.node == link.from)
        };
        let tracks = self.tracks.iter().filter(|(_, track)| comes_over(track));
        let mut tracks: Vec<(u64, track::Key)> =
            tracks.map(|(key, track)| (track.brought, key)).collect();
        let share = tracks.len() as f64 * SHARE;
        // What is left of a whole track is kept, no more: a link without another way saves nothing up.
        link.credit = link.credit.min(1.0) + share;
        // Largest first; equals in the order they came in.
        tracks.sort_by_key(|(brought, _)| std::cmp::Reverse(*brought));
        for (_, key) in tracks {
            if link.credit < 1.0 {
                break;
            }
            if self.shed(now, key, &link.from) {
                link.credit -= 1.0;
            }
        }
    }

    /// Sends a track another way, if there is one.
    fn shed(&mut self, now: Time, key: track::Key, from: &NodeId) -> bool {
        let Some(track) = self.tracks.get_mut(key) else {
            return false;
        };
        let was = track.shift.shed.replace((from.clone(), now + STAYS_AWAY));
        self.plan_move(now, key);
        let Some(track) = self.tracks.get_mut(key) else {
            return false;
        };
        if !track.shift.queued {
            track.shift.shed = was;
            return false;
        }
        // It looks now and then whether it may go back.
        track.shift.displaced = true;
        self.stats.shed += 1;
        true
    }
}
