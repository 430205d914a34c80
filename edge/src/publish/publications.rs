//! Which streams are published at this edge, so that a publisher who comes back here takes over
//! at once, whatever the controllers say and when.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use longspan_proto::ids::{Generation, RoomName, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Refused;

type Key = (RoomName, Stream);

/// The streams published here.
#[derive(Debug)]
pub struct Publications {
    limit: usize,
    permits: Arc<Semaphore>,
    newest: Mutex<HashMap<Key, watch::Sender<Generation>>>,
}

/// A place for one publisher, not yet of a stream.
#[derive(Debug)]
pub(super) struct Place {
    publications: Arc<Publications>,
    permit: OwnedSemaphorePermit,
}

/// Tells a publisher that a newer one took its stream here.
#[derive(Debug)]
pub struct Superseded {
    publications: Arc<Publications>,
    key: Key,
    own: Generation,
    newest: watch::Receiver<Generation>,
    _permit: OwnedSemaphorePermit,
}

impl Publications {
    /// At most `limit` at once.
    pub fn new(limit: usize) -> Publications {
        Publications {
            limit,
            permits: Arc::new(Semaphore::new(limit)),
            newest: Mutex::default(),
        }
    }

    pub(super) fn reserve(self: &Arc<Publications>) -> Result<Place, Refused> {
        let limit = self.limit;
        let permit = self.permits.clone().try_acquire_owned();
        Ok(Place {
            publications: self.clone(),
            permit: permit.map_err(|_| Refused::TooMany { limit })?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<Generation>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes the place for a stream. Older generations of it here are told.
    pub(super) fn take(self, room: RoomName, stream: Stream, own: Generation) -> Superseded {
        let key = (room, stream);
        let mut table = self.publications.lock();
        let newest = table
            .entry(key.clone())
            .or_insert_with(|| watch::channel(own).0);
        newest.send_if_modified(|newest| {
            let newer = *newest < own;
            *newest = own.max(*newest);
            newer
        });
        let newest = newest.subscribe();
        drop(table);
        Superseded {
            publications: self.publications,
            key,
            own,
            newest,
            _permit: self.permit,
        }
    }
}

impl Superseded {
    /// Waits until a newer generation is published here; returns it.
    pub async fn wait(&mut self) -> Generation {
        let own = self.own;
        let newer = self.newest.wait_for(|newest| *newest > own).await;
        match newer.map(|newest| *newest) {
            Ok(newest) => newest,
            // The sender lives in the table for as long as anybody listens.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Superseded {
    fn drop(&mut self) {
        let mut table = self.publications.lock();
        if let Some(newest) = table.get(&self.key)
            && newest.receiver_count() <= 1
        {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use longspan_proto::ids::{Room, Tenant};

    use super::*;

    fn take(publications: &Arc<Publications>, generation: u64) -> Superseded {
        let room = RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("math").unwrap(),
        };
        let place = publications.reserve().unwrap();
        place.take(
            room,
            Stream::new("teacher").unwrap(),
            Generation(generation),
        )
    }

    #[tokio::test]
    async fn only_the_older_one_is_told() {
        let publications = Arc::new(Publications::new(9));
        let mut old = take(&publications, 1);
        let mut new = take(&publications, 2);
        assert_eq!(old.wait().await, Generation(2));
        assert_eq!(new.wait().now_or_never(), None);
        drop((old, new));
        assert!(publications.lock().is_empty());
    }

    #[tokio::test]
    async fn a_claim_that_was_answered_late_is_superseded_at_once() {
        let publications = Arc::new(Publications::new(9));
        let _new = take(&publications, 2);
        assert_eq!(take(&publications, 1).wait().await, Generation(2));
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let publications = Arc::new(Publications::new(1));
        let first = publications.reserve().unwrap();
        let refused = publications.reserve().unwrap_err();
        assert_eq!(refused, Refused::TooMany { limit: 1 });
        drop(first);
        assert!(publications.reserve().is_ok());
    }
}
