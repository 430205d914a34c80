//! Who is in a room, as its edges declare it (docs/decisions/presence.md). Pure.
//!
//! Contract: [`Presence::take`] a roster or [`Presence::lapse`] one; then [`Presence::settle`] says
//! how the room's keyed state is to change so that it tells the truth again. Few members have an
//! entry each; of many there is one summary, renewed by [`Presence::count`].

mod encoding;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    ids::SessionId,
    wire::{
        MAX_VARINT,
        envelope::MAX_KEY,
        roster::{MAX_NAMES, Roster, TOPIC},
    },
};

use super::{Refusal, body};

/// Above so many members a room tells a summary, not names (issue: aggregated above 500).
pub(super) const LISTED: usize = 500;
/// A room that tells a summary tells names again at so many: a room at the border does not go to
/// and fro.
const LISTED_AGAIN: usize = 400;
/// Names in a summary.
const SAMPLE: usize = 20;
/// Names kept of all edges together; of a roster above it a sample is kept, and its edge tells it
/// again when fewer are there.
const KEPT: usize = 2 * MAX_NAMES;
/// Edges that one room's members may be at. One more is refused.
pub(super) const MAX_EDGES: usize = 256;

/// See the [module](self).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Presence {
    edges: BTreeMap<SessionId, Told>,
    /// Who has an entry of its own.
    listed: BTreeSet<String>,
    /// What these cost in memory, about.
    listed_bytes: usize,
    /// A summary stands instead.
    crowd: Option<Crowd>,
    /// Since the last summary.
    joins: u64,
    leaves: u64,
    /// Names kept of all edges.
    names: usize,
    /// What the edges' names cost in memory, about.
    bytes: usize,
}

/// What an edge told last.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    version: u64,
    whole: bool,
    /// It told more names than were kept.
    cut: bool,
    count: u64,
    joins: u64,
    leaves: u64,
    names: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Crowd {
    /// When the summary was told, by the log's time in ms.
    told: u64,
    /// Something changed since.
    stale: bool,
}

/// A change of keyed state; an empty body deletes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub key: String,
    pub body: Bytes,
}

impl Presence {
    /// Takes what an edge declares; an older version than it told before changes nothing.
    pub fn take(&mut self, roster: Roster) -> Result<(), Refusal> {
        let before = self.edges.get(&roster.session);
        let known = |told: &Told| match told.cut {
            true => told.version > roster.version,
            false => told.version >= roster.version,
        };
        if before.is_some_and(known) {
            return Ok(());
        }
        if before.is_none() && roster.count > 0 && self.edges.len() >= MAX_EDGES {
            return Err(Refusal::Full {
                what: "edges with members",
                limit: MAX_EDGES,
            });
        }
        let known = before.map_or((0, 0), |told| (told.joins, told.leaves));
        self.joins = sum(self.joins, roster.joins.saturating_sub(known.0));
        self.leaves = sum(self.leaves, roster.leaves.saturating_sub(known.1));
        self.forget(roster.session);
        if roster.count > 0 {
            self.keep(roster);
        }
        self.changed();
        Ok(())
    }

    /// Lets an edge's session go unless it told something newer; whether it went.
    pub fn lapse(&mut self, session: SessionId, version: u64) -> bool {
        let Some(told) = self.edges.get(&session).filter(|t| t.version == version) else {
            return false;
        };
        self.leaves = sum(self.leaves, told.count);
        self.forget(session);
        self.changed();
        true
    }

    fn keep(&mut self, roster: Roster) {
        let mut told = Told {
            version: roster.version,
            whole: roster.whole,
            cut: false,
            count: roster.count,
            joins: roster.joins,
            leaves: roster.leaves,
            names: roster.names,
        };
        if self.names + told.names.len() > KEPT && told.names.len() > SAMPLE {
            told.names.truncate(SAMPLE);
            told.cut = true;
            told.whole = false;
        }
        self.put(roster.session, told);
    }

    fn put(&mut self, session: SessionId, told: Told) {
        self.names += told.names.len();
        self.bytes += told.cost();
        self.edges.insert(session, told);
    }

    fn forget(&mut self, session: SessionId) {
        if let Some(told) = self.edges.remove(&session) {
            self.names -= told.names.len();
            self.bytes -= told.cost();
        }
    }

    fn changed(&mut self) {
        if let Some(crowd) = &mut self.crowd {
            crowd.stale = true;
        }
    }

    /// Which roster of an edge is held whole as it was told; 0: none, it is to be told again.
    pub fn held(&self, session: SessionId) -> u64 {
        let told = self.edges.get(&session).filter(|told| !told.cut);
        told.map_or(0, |told| told.version)
    }

    /// The edges and the versions of their rosters.
    pub fn edges(&self) -> impl Iterator<Item = (SessionId, u64)> {
        self.edges.iter().map(|(id, told)| (*id, told.version))
    }

    /// Whether there is a summary that does not tell the truth any more.
    pub fn is_stale(&self) -> bool {
        self.crowd.as_ref().is_some_and(|crowd| crowd.stale)
    }

    /// What it costs in memory, about, in bytes.
    pub fn cost(&self) -> usize {
        self.bytes + self.listed_bytes
    }

    /// The members now: of those who are at two edges one, as long as all names are known.
    fn size(&self) -> usize {
        if self.edges.values().all(|told| told.whole) {
            return self.everybody().len();
        }
        let all = self.edges.values().map(|told| told.count).fold(0, sum);
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    fn everybody(&self) -> BTreeSet<&String> {
        self.edges.values().flat_map(|told| &told.names).collect()
    }

    /// How keyed state is to change, at the log's time `at` in ms.
    pub fn settle(&mut self, at: u64) -> Vec<Change> {
        let limit = match self.crowd {
            None => LISTED,
            Some(_) => LISTED_AGAIN,
        };
        let whole = self.edges.values().all(|told| told.whole);
        if !whole || self.size() > limit {
            return self.settle_crowd(at);
        }
        let mut changes = Vec::new();
        if self.crowd.take().is_some() {
            changes.push(Change::gone(TOPIC.into()));
        }
        let now: BTreeSet<String> = self.everybody().into_iter().cloned().collect();
        let gone = self.listed.difference(&now).map(|name| key(name));
        changes.extend(gone.map(Change::gone));
        changes.extend(now.difference(&self.listed).map(|name| Change {
            key: key(name),
            body: body::member(name),
        }));
        self.list(now);
        changes
    }

    fn settle_crowd(&mut self, at: u64) -> Vec<Change> {
        if self.crowd.is_some() {
            return Vec::new();
        }
        (self.joins, self.leaves) = (0, 0);
        self.crowd = Some(Crowd {
            told: at,
            stale: true,
        });
        // The summary first: whoever reads along is never told that nobody is there.
        let mut changes: Vec<Change> = self.count(at).into_iter().collect();
        let gone = std::mem::take(&mut self.listed);
        self.listed_bytes = 0;
        changes.extend(gone.iter().map(|name| Change::gone(key(name))));
        changes
    }

    fn list(&mut self, names: BTreeSet<String>) {
        const ENTRY: usize = 64;
        self.listed_bytes = names.iter().map(|name| ENTRY + name.len()).sum();
        self.listed = names;
    }

    /// Renews the summary, if there is one and it is stale.
    pub fn count(&mut self, at: u64) -> Option<Change> {
        let (size, sample) = (self.size(), self.sample());
        let crowd = self.crowd.as_mut().filter(|crowd| crowd.stale)?;
        let past_ms = at.saturating_sub(crowd.told).max(1_000);
        // Rounded to the nearest.
        let per_second =
            |count: u64| count.saturating_mul(1_000).saturating_add(past_ms / 2) / past_ms;
        let body = body::Summary {
            count: size as u64,
            joins: per_second(self.joins),
            leaves: per_second(self.leaves),
            sample,
        };
        *crowd = Crowd {
            told: at,
            stale: false,
        };
        (self.joins, self.leaves) = (0, 0);
        Some(Change {
            key: TOPIC.into(),
            body: body.encode(),
        })
    }

    /// Some of them: of each edge in turn its next.
    fn sample(&self) -> Vec<String> {
        let mut sample: Vec<String> = Vec::new();
        let longest = self.edges.values().map(|told| told.names.len()).max();
        for place in 0..longest.unwrap_or(0).min(SAMPLE) {
            for name in self.edges.values().filter_map(|told| told.names.get(place)) {
                if sample.len() < SAMPLE && !sample.contains(name) {
                    sample.push(name.clone());
                }
            }
        }
        sample
    }

    /// Appends it.
    pub fn encode(&self, out: &mut BytesMut) {
        encoding::encode(self, out);
    }
}

impl Told {
    fn cost(&self) -> usize {
        const FIXED: usize = 128;
        const NAME: usize = 24;
        FIXED
            + self
                .names
                .iter()
                .map(|name| NAME + name.len())
                .sum::<usize>()
    }
}

impl Change {
    fn gone(key: String) -> Change {
        Change {
            key,
            body: Bytes::new(),
        }
    }
}

/// What an edge tells may be anything.
fn sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b).min(MAX_VARINT)
}

/// A member's key. A name that is too long for one is cut, and told apart by its digest.
fn key(name: &str) -> String {
    let whole = format!("{TOPIC}/{name}");
    if whole.len() <= MAX_KEY {
        return whole;
    }
    let tail = format!("~{:016x}", super::sessions::fnv([name.as_bytes()]));
    let mut end = MAX_KEY - tail.len();
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &whole[..end])
}

#[cfg(test)]
mod tests;
