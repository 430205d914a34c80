//! Where records are kept: one contract, two implementations that pass one suite
//! (`conformance`): [`etcd`] and [`embedded`].

pub mod embedded;
pub mod era;
pub mod etcd;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub mod test_etcd;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// A point in the store's history. Every commit (and every expiry) that changes anything makes
/// the next one; all its changes share it.
pub type Revision = u64;

/// The id of a lease, chosen by whoever grants it; above 0.
pub type LeaseId = i64;

/// The most writes (and compares) in one [`Txn`]: below etcd's default of 128 operations.
pub const MAX_OPERATIONS: usize = 100;

/// The longest value in bytes. etcd refuses requests above 1.5 MB; a record of ours is below 4 KB.
pub const MAX_VALUE: usize = 64 * 1024;

/// A key with what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// What it holds: text, JSON in all our records.
    pub value: Arc<str>,
    /// The revision of its last put.
    pub revision: Revision,
    /// The lease it ends with.
    pub lease: Option<LeaseId>,
}

/// All keys below a prefix at one revision, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's revision when it was read (or the one asked for).
    pub revision: Revision,
    /// The keys.
    pub entries: Vec<Entry>,
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists.
    Present(String),
    /// The key exists and was last put at this revision.
    Revision(String, Revision),
    /// The key exists and holds this.
    Value(String, String),
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets the key. An earlier lease of the key no longer counts.
    Put {
        /// The key.
        key: String,
        /// At most [`MAX_VALUE`].
        value: String,
        /// Deletes the key when this lease ends.
        lease: Option<LeaseId>,
    },
    /// Deletes the key; nothing happens if it does not exist.
    Delete(String),
}

impl Write {
    /// The key it changes.
    pub fn key(&self) -> &str {
        match self {
            Write::Put { key, .. } | Write::Delete(key) => key,
        }
    }
}

/// Writes that happen together, if all compares hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// A key at most once.
    pub writes: Vec<Write>,
}

impl Txn {
    /// Checks the bounds that both stores share.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |why: String| Err(Error::Invalid(why));
        let most = self.compares.len().max(self.writes.len());
        if most > MAX_OPERATIONS {
            return invalid(format!("{most} operations; the limit is {MAX_OPERATIONS}"));
        }
        let mut keys = std::collections::HashSet::new();
        for write in &self.writes {
            if !keys.insert(write.key()) {
                return invalid(format!("{} is written twice", write.key()));
            }
            if let Write::Put { key, value, .. } = write
                && value.len() > MAX_VALUE
            {
                let len = value.len();
                return invalid(format!("{key}: {len} bytes; the limit is {MAX_VALUE}"));
            }
        }
        Ok(())
    }
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was put.
    Put(Entry),
    /// It was deleted, or its lease ended.
    Delete(Arc<str>),
}

/// All events of one revision below the watched prefix; never split, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// What happened; a key at most once.
    pub events: Vec<Event>,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A compare of the commit did not hold; nothing was written.
    #[error("the store has changed meanwhile")]
    Conflict,
    /// There is no such lease (any more); nothing was written.
    #[error("lease {0:x} is not there")]
    LeaseNotFound(LeaseId),
    /// A lease of this id is there already.
    #[error("lease {0:x} is there already")]
    LeaseExists(LeaseId),
    /// History before this revision is forgotten: read anew, then watch from there.
    #[error("the store's history begins at revision {oldest}")]
    Compacted {
        /// The oldest revision that can be read and watched from.
        oldest: Revision,
    },
    /// The revision has not happened yet.
    #[error("the store has not reached that revision")]
    Future,
    /// The request breaks a bound of the contract.
    #[error("refused by the store: {0}")]
    Invalid(String),
    /// The store cannot be reached, or did not answer in time. A commit may have happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// A watch's events in order. Dropping it ends the watch.
pub struct Watch(pub(crate) tokio::sync::mpsc::Receiver<Result<Batch, Error>>);

impl Watch {
    /// The next revision's events. A store that cannot be reached is waited for. `Err`: nothing
    /// more will come; [`Error::Compacted`] asks for a new read, [`Error::Unavailable`] says that
    /// the store was closed.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        let closed = || Err(Error::Unavailable("it was closed".into()));
        self.0.recv().await.unwrap_or_else(closed)
    }
}

/// The contract of both stores. All calls are linearizable: a call sees everything that was
/// answered before it began.
pub trait Store: Send + Sync + 'static {
    /// All keys that begin with `prefix`, as of now or of an earlier revision. [`Error::Compacted`]
    /// or [`Error::Future`] where that revision cannot be told.
    fn read<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Snapshot, Error>>;

    /// Makes all writes at one new revision if all compares hold, and answers that revision; the
    /// current one where the writes change nothing (deletes of what is not there).
    /// [`Error::Conflict`], [`Error::LeaseNotFound`]: nothing was written.
    /// [`Error::Unavailable`]: it may have happened.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>>;

    /// Everything that happens below `prefix` from revision `from` on, including `from`.
    /// A `from` in the future waits for it. Survives a store that goes and comes back.
    fn watch(&self, prefix: &str, from: Revision) -> Watch;

    /// Makes a lease that ends `ttl` (a store may take longer, never shorter) after now or its
    /// last [`keep_alive`](Store::keep_alive), and takes its keys with it, at one revision.
    /// A restart of the store begins a new `ttl`.
    fn grant(&self, lease: LeaseId, ttl: Duration) -> BoxFuture<'_, Result<(), Error>>;

    /// Begins a new `ttl`. [`Error::LeaseNotFound`] if it has ended.
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// Ends a lease at once, with its keys. [`Error::LeaseNotFound`] if it has ended.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;
}
