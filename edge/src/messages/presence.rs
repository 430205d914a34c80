//! Who of a room's members is at this edge, and when the room's log is told so
//! (docs/decisions/presence.md). Pure.
//!
//! Contract: tell it who comes and goes, what the log answers and how large the room is; send what
//! [`Reporter::poll`] gives, again at [`Reporter::poll_timeout`]. The newest roster is the truth:
//! until the log is known to hold it, it is told again.

use std::{
    collections::{BTreeMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};

use longspan_proto::{
    ids::SessionId,
    time::Time,
    wire::{
        room::Request,
        roster::{MAX_NAMES, MAX_NAMES_BYTES, Roster},
    },
};

/// Somebody whose connection is gone stays for so long: whoever reconnects never left. The client
/// pauses for less before it tries again.
const GRACE: Duration = Duration::from_secs(3);

/// Between two rosters: comings and goings in between are told together.
const PACE: Duration = Duration::from_millis(500);
/// The same in a room whose members are only counted.
const PACE_COUNTED: Duration = Duration::from_secs(1);

/// Between two signs of life. The leader lets an edge go that is silent for three of them.
const BEAT: Duration = Duration::from_secs(2);

/// In a room of so many members or fewer, names are told; in one that is counted already, before it
/// comes down to where they are listed again (400).
const NAMED: u64 = MAX_NAMES as u64;
const NAMED_AGAIN: u64 = 450;

/// Names in a roster that are only a sample.
const SAMPLE: usize = 20;

/// See the [module](self).
#[derive(Debug)]
pub struct Reporter {
    session: SessionId,
    here: BTreeMap<Arc<str>, Here>,
    /// Who has no connection any more, and since when; those of them who came back, too.
    going: VecDeque<(Time, Arc<str>)>,
    /// Which names are the sample: as good as drawn, and the same from one roster to the next.
    draw: RandomState,
    joins: u64,
    leaves: u64,
    /// Of the newest roster made; 0: none was.
    version: u64,
    /// It named everybody.
    whole: bool,
    made: Time,
    /// Somebody came or went since.
    changed: bool,
    /// The version that the log holds, as far as is known.
    held: u64,
    /// When it was told anything last on this call; None: nothing yet.
    told: Option<Time>,
    /// That was a sign of life.
    beat: bool,
    /// How many the room counts, where it counts.
    crowd: Option<u64>,
}

#[derive(Debug)]
struct Here {
    connections: usize,
    /// Since when there is none.
    gone: Option<Time>,
}

impl Reporter {
    /// Nobody is here yet. The session is drawn at random, for this run of this edge and this room.
    pub fn new(session: SessionId) -> Reporter {
        Reporter {
            session,
            here: BTreeMap::new(),
            going: VecDeque::new(),
            draw: RandomState::new(),
            joins: 0,
            leaves: 0,
            version: 0,
            whole: true,
            made: Time::ZERO,
            changed: false,
            held: 0,
            told: None,
            beat: false,
            crowd: None,
        }
    }

    /// A member joined, over one more connection.
    pub fn enter(&mut self, name: Arc<str>) {
        let new = !self.here.contains_key(&name);
        let here = self.here.entry(name).or_insert(Here {
            connections: 0,
            gone: None,
        });
        here.connections += 1;
        here.gone = None;
        if new {
            self.joins += 1;
            self.changed = true;
        }
    }

    /// One of a member's connections is gone.
    pub fn leave(&mut self, now: Time, name: &Arc<str>) {
        if let Some(here) = self.here.get_mut(name) {
            here.connections = here.connections.saturating_sub(1);
            if here.connections == 0 {
                here.gone = Some(now);
                self.going.push_back((now, name.clone()));
            }
        }
    }

    /// Another call is open, perhaps to another leader: what it knows is asked at once.
    pub fn connected(&mut self) {
        self.told = None;
    }

    /// The log holds this version; 0: none.
    pub fn answered(&mut self, version: u64) {
        self.held = version;
        // To a sign of life: it let this edge go, and is told at once who is here. A roster that it
        // cannot keep is told again at leisure.
        if version != self.version && !self.is_stale() && std::mem::take(&mut self.beat) {
            self.told = None;
        }
    }

    /// The room has so many members that they are counted; None: they are named.
    pub fn counted(&mut self, crowd: Option<u64>) {
        self.crowd = crowd;
    }

    /// What it was told last.
    pub fn crowd(&self) -> Option<u64> {
        self.crowd
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: Time) -> Option<Request> {
        self.let_go(now);
        let stale = self.is_stale();
        if stale && now >= self.paced() {
            self.version += 1;
            self.made = now;
            self.whole = self.names_all();
            self.changed = false;
            return Some(self.tell(now));
        }
        // A roster that is stale is not told again: a newer one follows.
        if self.is_idle() || now < self.beaten() {
            return None;
        }
        match self.held == self.version || stale {
            true => {
                self.told = Some(now);
                self.beat = true;
                let session = self.session;
                Some(Request::Beat { session })
            }
            false => Some(self.tell(now)),
        }
    }

    /// When [`Reporter::poll`] may have more.
    pub fn poll_timeout(&self) -> Option<Time> {
        let gone = self.going.front().map(|(gone, _)| *gone + GRACE);
        let paced = self.is_stale().then(|| self.paced());
        let beaten = (!self.is_idle()).then(|| self.beaten());
        [gone, paced, beaten].into_iter().flatten().min()
    }

    /// Whether the log knows that nobody is here, or never heard of anybody.
    fn is_idle(&self) -> bool {
        let known = self.version == 0 || self.held == self.version;
        self.here.is_empty() && known
    }

    fn let_go(&mut self, now: Time) {
        while let Some((gone, name)) = self.going.front()
            && now >= *gone + GRACE
        {
            if self
                .here
                .get(name)
                .is_some_and(|here| here.gone == Some(*gone))
            {
                self.here.remove(name);
                self.leaves += 1;
                self.changed = true;
            }
            self.going.pop_front();
        }
    }

    /// Whether the newest roster is not what would be told now.
    fn is_stale(&self) -> bool {
        let told_otherwise = || self.version > 0 && self.whole != self.names_all();
        self.changed || (!self.here.is_empty() && told_otherwise())
    }

    fn paced(&self) -> Time {
        let pace = match self.crowd {
            None => PACE,
            Some(_) => PACE_COUNTED,
        };
        match self.version {
            0 => Time::ZERO,
            _ => self.made + pace,
        }
    }

    fn beaten(&self) -> Time {
        self.told.map_or(Time::ZERO, |told| told + BEAT)
    }

    /// Whether a roster is to name everybody who is here.
    fn names_all(&self) -> bool {
        let limit = match self.crowd {
            None => NAMED,
            Some(_) => NAMED_AGAIN,
        };
        let many = self.here.len() as u64 > NAMED || self.crowd.is_some_and(|crowd| crowd > limit);
        // Bytes are looked at last: few rooms have names that long.
        !many && self.here.keys().map(|name| name.len()).sum::<usize>() <= MAX_NAMES_BYTES
    }

    fn tell(&mut self, now: Time) -> Request {
        self.told = Some(now);
        self.beat = false;
        let mut drawn: Vec<(u64, &Arc<str>)> = self
            .here
            .keys()
            .map(|name| (self.draw.hash_one(name), name))
            .collect();
        drawn.sort_unstable();
        let names = match self.whole {
            true => drawn.len(),
            false => SAMPLE,
        };
        Request::Roster(Roster {
            session: self.session,
            version: self.version,
            whole: self.whole,
            count: self.here.len() as u64,
            joins: self.joins,
            leaves: self.leaves,
            names: drawn
                .iter()
                .take(names)
                .map(|(_, n)| n.to_string())
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests;
