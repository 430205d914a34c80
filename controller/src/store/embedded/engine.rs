//! The embedded store's pure core: keys, history, leases. Time is an argument; what must be on
//! disk before an answer is given comes out as [`Effects`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use longspan_proto::time::Time;
use serde::{Deserialize, Serialize};

use super::super::{Batch, Compare, Entry, Error, Event, LeaseId, Revision, Snapshot, Txn, Write};

/// How much history is kept for reads and watches from an earlier revision: changes, and bytes of
/// their keys and values. Beyond either the oldest revisions are forgotten.
pub const HISTORY_CHANGES: usize = 10_000;
/// See [`HISTORY_CHANGES`].
pub const HISTORY_BYTES: usize = 16 << 20;

/// What one revision did to one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub revision: Revision,
    /// To what.
    pub key: Arc<str>,
    /// What was there.
    pub before: Option<Entry>,
    /// What is there since.
    pub after: Option<Entry>,
}

impl Change {
    fn size(&self) -> usize {
        let of = |e: &Option<Entry>| e.as_ref().map_or(0, |e| e.value.len());
        self.key.len() + of(&self.before) + of(&self.after)
    }

    fn event(&self) -> Event {
        match &self.after {
            Some(entry) => Event::Put(entry.clone()),
            None => Event::Delete(self.key.clone()),
        }
    }
}

/// What must be on disk before the answers are given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// In order.
    pub changes: Vec<Change>,
    /// Leases made (with their TTL) and ended.
    pub leases: Vec<(LeaseId, Option<Duration>)>,
}

impl Effects {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.leases.is_empty()
    }
}

struct Lease {
    ttl: Duration,
    ends: Time,
    keys: BTreeSet<Arc<str>>,
}

/// Everything the store holds.
pub struct Engine {
    revision: Revision,
    /// The oldest revision that can be told.
    oldest: Revision,
    entries: BTreeMap<Arc<str>, Entry>,
    history: VecDeque<Change>,
    history_bytes: usize,
    leases: BTreeMap<LeaseId, Lease>,
    effects: Effects,
}

impl Engine {
    /// From what the disk holds. Leases begin a new TTL at `now`.
    pub fn new(
        now: Time,
        revision: Revision,
        oldest: Revision,
        entries: impl IntoIterator<Item = Entry>,
        history: impl IntoIterator<Item = Change>,
        leases: impl IntoIterator<Item = (LeaseId, Duration)>,
    ) -> Engine {
        let mut engine = Engine {
            revision: revision.max(1),
            oldest: oldest.max(1),
            entries: BTreeMap::new(),
            history: history.into_iter().collect(),
            history_bytes: 0,
            leases: BTreeMap::new(),
            effects: Effects::default(),
        };
        engine.history_bytes = engine.history.iter().map(Change::size).sum();
        for (id, ttl) in leases {
            engine.leases.insert(id, lease(now, ttl));
        }
        for entry in entries {
            if let Some(lease) = entry.lease.and_then(|id| engine.leases.get_mut(&id)) {
                lease.keys.insert(entry.key.clone());
            }
            engine.entries.insert(entry.key.clone(), entry);
        }
        engine
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be told.
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// What to write since this was last asked.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// See [`Store::read`](super::super::Store::read).
    pub fn read(&self, prefix: &str, at: Option<Revision>) -> Result<Snapshot, Error> {
        let revision = at.unwrap_or(self.revision);
        if revision > self.revision {
            return Err(Error::Future);
        }
        if revision < self.oldest {
            return Err(Error::Compacted {
                oldest: self.oldest,
            });
        }
        let mut found: BTreeMap<&str, &Entry> = self
            .entries
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (&**key, entry))
            .collect();
        let later = self.history.iter().rev();
        for change in later.take_while(|change| change.revision > revision) {
            if change.key.starts_with(prefix) {
                match &change.before {
                    Some(entry) => found.insert(&change.key, entry),
                    None => found.remove(&*change.key),
                };
            }
        }
        Ok(Snapshot {
            revision,
            entries: found.into_values().cloned().collect(),
        })
    }

    /// See [`Store::commit`](super::super::Store::commit).
    pub fn commit(&mut self, txn: &Txn) -> Result<Revision, Error> {
        txn.check()?;
        let holds = |compare: &Compare| match compare {
            Compare::Absent(key) => !self.entries.contains_key(&**key),
            Compare::Present(key) => self.entries.contains_key(&**key),
            Compare::Revision(key, revision) => {
                let entry = self.entries.get(&**key);
                entry.is_some_and(|e| e.revision == *revision)
            }
            Compare::Value(key, value) => {
                let entry = self.entries.get(&**key);
                entry.is_some_and(|e| *e.value == **value)
            }
        };
        if !txn.compares.iter().all(holds) {
            return Err(Error::Conflict);
        }
        for write in &txn.writes {
            if let Write::Put {
                lease: Some(id), ..
            } = write
                && !self.leases.contains_key(id)
            {
                return Err(Error::LeaseNotFound(*id));
            }
        }
        let revision = self.revision + 1;
        for write in &txn.writes {
            match write {
                Write::Put { key, value, lease } => {
                    let entry = Entry {
                        key: key.as_str().into(),
                        value: value.as_str().into(),
                        revision,
                        lease: *lease,
                    };
                    self.change(revision, entry.key.clone(), Some(entry));
                }
                Write::Delete(key) => self.change(revision, key.as_str().into(), None),
            }
        }
        self.trim();
        Ok(self.revision)
    }

    /// What happened below `prefix` from `from` on, up to now.
    pub fn since(&self, prefix: &str, from: Revision) -> Result<Vec<Batch>, Error> {
        if from < self.oldest {
            return Err(Error::Compacted {
                oldest: self.oldest,
            });
        }
        let first = self.history.partition_point(|c| c.revision < from);
        Ok(batches(self.history.iter().skip(first), prefix))
    }

    /// See [`Store::grant`](super::super::Store::grant).
    pub fn grant(&mut self, now: Time, id: LeaseId, ttl: Duration) -> Result<(), Error> {
        if id <= 0 {
            return Err(Error::Invalid(format!("lease id {id} is not above 0")));
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists(id));
        }
        self.leases.insert(id, lease(now, ttl));
        self.effects.leases.push((id, Some(ttl)));
        Ok(())
    }

    /// See [`Store::keep_alive`](super::super::Store::keep_alive).
    pub fn keep_alive(&mut self, now: Time, id: LeaseId) -> Result<(), Error> {
        match self.leases.get_mut(&id) {
            Some(lease) if lease.ends > now => {
                lease.ends = now + lease.ttl;
                Ok(())
            }
            _ => Err(Error::LeaseNotFound(id)),
        }
    }

    /// See [`Store::revoke`](super::super::Store::revoke).
    pub fn revoke(&mut self, id: LeaseId) -> Result<(), Error> {
        let lease = self.leases.remove(&id).ok_or(Error::LeaseNotFound(id))?;
        self.effects.leases.push((id, None));
        let revision = self.revision + 1;
        for key in lease.keys {
            self.change(revision, key, None);
        }
        self.trim();
        Ok(())
    }

    /// When [`expire`](Engine::expire) has something to do.
    pub fn next_expiry(&self) -> Option<Time> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// Ends the leases whose time has come.
    pub fn expire(&mut self, now: Time) {
        let over = self.leases.iter().filter(|(_, l)| l.ends <= now);
        let over: Vec<LeaseId> = over.map(|(id, _)| *id).collect();
        for id in over {
            let _ = self.revoke(id);
        }
    }

    fn change(&mut self, revision: Revision, key: Arc<str>, after: Option<Entry>) {
        let before = self.entries.remove(&key);
        if before.is_none() && after.is_none() {
            return;
        }
        let lease_of = |e: &Option<Entry>| e.as_ref().and_then(|e| e.lease);
        if let Some(lease) = lease_of(&before).and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(&key);
        }
        if let Some(lease) = lease_of(&after).and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
        if let Some(entry) = &after {
            self.entries.insert(key.clone(), entry.clone());
        }
        let change = Change {
            revision,
            key,
            before,
            after,
        };
        self.revision = revision;
        self.history_bytes += change.size();
        self.effects.changes.push(change.clone());
        self.history.push_back(change);
    }

    /// Forgets whole revisions until the history is within its bounds.
    fn trim(&mut self) {
        while self.history.len() > HISTORY_CHANGES || self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.front().map(|c| c.revision) else {
                return;
            };
            while self.history.front().is_some_and(|c| c.revision == oldest) {
                let gone = self.history.pop_front();
                self.history_bytes -= gone.map_or(0, |c| c.size());
            }
            self.oldest = oldest + 1;
        }
    }
}

fn lease(now: Time, ttl: Duration) -> Lease {
    Lease {
        ttl,
        ends: now + ttl,
        keys: BTreeSet::new(),
    }
}

/// Groups changes (ordered by revision) into batches of what stands below `prefix`.
pub fn batches<'a>(changes: impl Iterator<Item = &'a Change>, prefix: &str) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for change in changes.filter(|c| c.key.starts_with(prefix)) {
        match batches.last_mut() {
            Some(batch) if batch.revision == change.revision => batch.events.push(change.event()),
            _ => batches.push(Batch {
                revision: change.revision,
                events: vec![change.event()],
            }),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        Engine::new(Time::ZERO, 0, 0, [], [], [])
    }

    fn put(key: &str, value: &str, lease: Option<LeaseId>) -> Txn {
        Txn {
            compares: vec![],
            writes: vec![Write::Put {
                key: key.into(),
                value: value.into(),
                lease,
            }],
        }
    }

    fn seconds(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    #[test]
    fn a_lease_ends_exactly_at_its_ttl_and_takes_its_keys_at_one_revision() {
        let mut store = engine();
        store.grant(Time::ZERO, 7, Duration::from_secs(15)).unwrap();
        store.commit(&put("a", "1", Some(7))).unwrap();
        store.commit(&put("b", "2", Some(7))).unwrap();
        store.keep_alive(seconds(10), 7).unwrap();
        assert_eq!(store.next_expiry(), Some(seconds(25)));
        store.expire(seconds(24));
        assert_eq!(store.read("", None).unwrap().entries.len(), 2);
        store.expire(seconds(25));
        let now = store.read("", None).unwrap();
        assert!(now.entries.is_empty());
        let last = store.since("", now.revision).unwrap();
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].events.len(), 2);
        assert_eq!(
            store.keep_alive(seconds(25), 7),
            Err(Error::LeaseNotFound(7))
        );
    }

    #[test]
    fn history_is_bounded_and_says_where_it_begins() {
        let mut store = engine();
        for n in 0..HISTORY_CHANGES + 5 {
            store.commit(&put("a", &n.to_string(), None)).unwrap();
        }
        let oldest = store.oldest();
        assert_eq!(
            store.revision() - oldest,
            HISTORY_CHANGES as u64 - 1,
            "as many revisions as there are changes"
        );
        assert_eq!(
            store.read("", Some(oldest - 1)),
            Err(Error::Compacted { oldest })
        );
        assert!(store.read("", Some(oldest)).is_ok());
        assert_eq!(store.since("", oldest).unwrap().len(), HISTORY_CHANGES);
        let big = "x".repeat(60 * 1024);
        for _ in 0..300 {
            store.commit(&put("big", &big, None)).unwrap();
        }
        assert!(store.history_bytes <= HISTORY_BYTES);
        assert!(store.oldest() > oldest);
    }
}
