//! Watches.

use std::sync::Arc;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;

use super::{
    Etcd,
    convert::{entry, range_end, text},
};
use crate::{
    backoff::Backoff,
    store::{Batch, Error, Event, Revision},
};

/// A watch that outlives etcd's outages: it begins again after the last revision it told.
pub struct Watcher {
    pub etcd: Etcd,
    pub prefix: Arc<str>,
    pub next: Revision,
    pub batches: mpsc::Sender<Result<Batch, Error>>,
}

impl Watcher {
    /// Until nobody listens, or too much was forgotten.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.batches.is_closed() {
            let before = self.next;
            match self.follow().await {
                Ok(()) => return,
                Err(Error::Compacted { oldest }) => {
                    let _ = self.batches.send(Err(Error::Compacted { oldest })).await;
                    return;
                }
                Err(why) => tracing::debug!(%why, "watching etcd again"),
            }
            if self.next != before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Tells events until the stream breaks (`Err`) or nobody listens any more (`Ok`).
    async fn follow(&mut self) -> Result<(), Error> {
        let options = WatchOptions::new()
            .with_range(range_end(&self.prefix))
            .with_start_revision(self.next as i64);
        let mut client = self.etcd.client.clone();
        let key = self.prefix.as_bytes().to_vec();
        let opening = async move { client.watch(key, Some(options)).await };
        let mut stream: WatchStream = self.etcd.once(opening).await?;
        loop {
            let answer = tokio::select! {
                () = self.batches.closed() => return Ok(()),
                answer = stream.message() => answer.map_err(|e| self.etcd.told(&e))?,
            };
            let Some(answer) = answer else {
                return Err(Error::Unavailable("etcd ended the watch".into()));
            };
            if answer.compact_revision() > 0 {
                let oldest = answer.compact_revision() as Revision;
                return Err(Error::Compacted { oldest });
            }
            if answer.canceled() {
                return Err(Error::Unavailable(answer.cancel_reason().to_owned()));
            }
            for batch in batches(&answer) {
                self.next = batch.revision + 1;
                if self.batches.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// etcd orders events by revision and never splits a revision over two answers (unless asked to).
fn batches(answer: &WatchResponse) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for event in answer.events() {
        let Some(kv) = event.kv() else { continue };
        let revision = kv.mod_revision() as Revision;
        let event = match event.event_type() {
            EventType::Put => Event::Put(entry(kv)),
            EventType::Delete => Event::Delete(text(kv.key())),
        };
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(event),
            _ => batches.push(Batch {
                revision,
                events: vec![event],
            }),
        }
    }
    batches
}
