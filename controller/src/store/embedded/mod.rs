//! The store of one machine: a redb file under a pure engine.
//!
//! One task owns the engine. It takes as many waiting requests as there are, applies them, writes
//! what they changed in one transaction (one flush for all of them), then answers and tells
//! watchers. An answer is never given before its change is on disk.

mod disk;
pub mod engine;

use std::{path::Path, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use longspan_proto::time::Time;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Batch, Error, LeaseId, Revision, Snapshot, Store, Txn, Watch};
use disk::Disk;
use engine::Change;
pub(crate) use engine::Engine;

/// Requests waiting for the task; further callers wait.
const QUEUE: usize = 1_024;
/// Requests written with one flush.
const MAX_TOGETHER: usize = 256;
/// Batches waiting for one watcher. Who lags further is told to read anew.
const WATCH_QUEUE: usize = 4_096;

/// A handle on the store; the store closes when the last one is dropped.
#[derive(Clone)]
pub struct Embedded(mpsc::Sender<Request>);

type Reply<T> = oneshot::Sender<Result<T, Error>>;

enum Request {
    Read(String, Option<Revision>, Reply<Snapshot>),
    Commit(Txn, Reply<Revision>),
    Watch(String, Revision, mpsc::Sender<Result<Batch, Error>>),
    Grant(LeaseId, Duration, Reply<()>),
    KeepAlive(LeaseId, Reply<()>),
    Revoke(LeaseId, Reply<()>),
}

impl Embedded {
    /// Opens the file at `path`, making it if it is not there. The error names it.
    pub async fn open(path: &Path) -> Result<Embedded, String> {
        let path = path.to_owned();
        let started = Instant::now();
        let opened = tokio::task::spawn_blocking(move || {
            let disk = Disk::open(&path)?;
            let engine = disk.load(Time::ZERO);
            let engine = engine.map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>((disk, engine))
        });
        let (disk, engine) = opened.await.map_err(|e| e.to_string())??;
        let (requests, queue) = mpsc::channel(QUEUE);
        let task = Task {
            started,
            disk,
            engine,
            watchers: Vec::new(),
        };
        tokio::spawn(task.run(queue));
        Ok(Embedded(requests))
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let closed = || Error::Unavailable("the embedded store has stopped".into());
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(request(reply)).await;
        sent.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Store for Embedded {
    fn read<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Snapshot, Error>> {
        self.ask(move |reply| Request::Read(prefix.into(), at, reply))
            .boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        self.ask(|reply| Request::Commit(txn, reply)).boxed()
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (batches, watch) = mpsc::channel(WATCH_QUEUE);
        let request = Request::Watch(prefix.into(), from, batches);
        let requests = self.0.clone();
        tokio::spawn(async move { requests.send(request).await });
        Watch(watch)
    }

    fn grant(&self, lease: LeaseId, ttl: Duration) -> BoxFuture<'_, Result<(), Error>> {
        self.ask(move |reply| Request::Grant(lease, ttl, reply))
            .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.ask(move |reply| Request::KeepAlive(lease, reply))
            .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.ask(move |reply| Request::Revoke(lease, reply)).boxed()
    }
}

struct Watcher {
    prefix: String,
    /// The first revision it has not been told of.
    next: Revision,
    batches: mpsc::Sender<Result<Batch, Error>>,
}

struct Task {
    started: Instant,
    disk: Disk,
    engine: Engine,
    watchers: Vec<Watcher>,
}

/// An answer held back until the disk has what it tells.
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::new();
        loop {
            let expiry = self.engine.next_expiry();
            let expiry = expiry.map(|at| self.started + at.saturating_since(Time::ZERO));
            let timer = async {
                match expiry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                taken = queue.recv_many(&mut requests, MAX_TOGETHER) => if taken == 0 { return },
                () = timer => {}
            }
            self.engine.expire(self.now());
            let requests = requests.drain(..);
            let answers: Vec<Answer> = requests.filter_map(|r| self.apply(r)).collect();
            let written = self.flush().await;
            for answer in answers {
                answer(written.clone());
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    fn apply(&mut self, request: Request) -> Option<Answer> {
        let now = self.now();
        match request {
            Request::Read(prefix, at, reply) => Some(held(self.engine.read(&prefix, at), reply)),
            Request::Commit(txn, reply) => Some(held(self.engine.commit(&txn), reply)),
            Request::Grant(id, ttl, reply) => Some(held(self.engine.grant(now, id, ttl), reply)),
            Request::KeepAlive(id, reply) => Some(held(self.engine.keep_alive(now, id), reply)),
            Request::Revoke(id, reply) => Some(held(self.engine.revoke(id), reply)),
            Request::Watch(prefix, from, batches) => {
                // Told only after the flush: its past may hold this round's changes.
                self.watchers.push(Watcher {
                    prefix,
                    next: from,
                    batches,
                });
                None
            }
        }
    }

    /// Makes the disk hold what the engine holds, then tells watchers. If the disk fails, the
    /// engine goes back to what the disk holds and every answer of the round is `Unavailable`.
    async fn flush(&mut self) -> Result<(), Error> {
        let effects = self.engine.take_effects();
        if !effects.is_empty() {
            let changes = effects.changes.clone();
            let (revision, oldest) = (self.engine.revision(), self.engine.oldest());
            if let Err(why) = self.disk.write(effects, revision, oldest).await {
                tracing::error!(%why, "the embedded store cannot write");
                match self.disk.load(self.now()) {
                    Ok(engine) => self.engine = engine,
                    Err(why) => tracing::error!(%why, "the embedded store cannot read"),
                }
                return Err(Error::Unavailable(why));
            }
            self.tell(&changes);
        }
        self.tell(&[]);
        Ok(())
    }

    /// Tells watchers: those that are up to date of `changes`, those that are behind (new ones)
    /// of the past.
    fn tell(&mut self, changes: &[Change]) {
        let current = self.engine.revision();
        let first = changes.first().map_or(current + 1, |c| c.revision);
        let engine = &self.engine;
        self.watchers.retain_mut(|watcher| {
            if watcher.next > current {
                return !watcher.batches.is_closed();
            }
            let due = if watcher.next >= first {
                let due = changes.iter().filter(|c| c.revision >= watcher.next);
                Ok(engine::batches(due, &watcher.prefix))
            } else {
                engine.since(&watcher.prefix, watcher.next)
            };
            watcher.next = current + 1;
            let due = match due {
                Ok(due) => due,
                Err(error) => {
                    let _ = watcher.batches.try_send(Err(error));
                    return false;
                }
            };
            let oldest = engine.revision();
            due.into_iter().all(|batch| {
                // One place stays free for the word that it lagged.
                if watcher.batches.capacity() > 1 {
                    return watcher.batches.try_send(Ok(batch)).is_ok();
                }
                let lagged = Error::Compacted { oldest };
                let _ = watcher.batches.try_send(Err(lagged));
                false
            })
        });
    }
}

fn held<T: Send + 'static>(result: Result<T, Error>, reply: Reply<T>) -> Answer {
    Box::new(move |written| {
        let _ = reply.send(written.and(result));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Write;

    fn put(key: &str, lease: Option<LeaseId>) -> Txn {
        let put = Write::Put {
            key: key.into(),
            value: "{}".into(),
            lease,
        };
        Txn {
            compares: vec![],
            writes: vec![put],
        }
    }

    /// Waits until the task of a dropped store has let go of its file.
    async fn reopen(path: &Path) -> Embedded {
        let mut tries = 0;
        loop {
            match Embedded::open(path).await {
                Ok(store) => return store,
                Err(why) => assert!(tries < 1_000, "{why}"),
            }
            tries += 1;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_restart_keeps_keys_history_revision_and_leases() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = Embedded::open(&path).await.unwrap();
        store.grant(9, Duration::from_secs(60)).await.unwrap();
        let first = store.commit(put("a", None)).await.unwrap();
        let second = store.commit(put("b", Some(9))).await.unwrap();
        let before = store.read("", None).await.unwrap();
        drop(store);

        let store = reopen(&path).await;
        assert_eq!(store.read("", None).await.unwrap(), before);
        assert_eq!(
            store.read("", Some(first)).await.unwrap().entries.len(),
            1,
            "the past is there too"
        );
        let mut watch = store.watch("", first);
        assert_eq!(watch.next().await.unwrap().revision, first);
        assert_eq!(watch.next().await.unwrap().revision, second);
        store.revoke(9).await.unwrap();
        assert_eq!(
            watch.next().await.unwrap().events,
            [super::super::Event::Delete("b".into())]
        );
        assert_eq!(store.commit(put("c", None)).await.unwrap(), second + 2);
    }

    #[tokio::test]
    async fn a_second_process_is_told_that_the_file_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let _store = Embedded::open(&path).await.unwrap();
        let why = Embedded::open(&path).await.err().expect("refused");
        assert!(why.contains("store.redb") && why.contains("open"), "{why}");
    }
}
