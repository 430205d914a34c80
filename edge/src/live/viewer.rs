//! One viewer of a stream: a cursor into what its hub shares.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use longspan_proto::ids::Stream;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout},
};

use super::{
    WatchError,
    hub::Hub,
    ring::Cursor,
    stage::{Description, Format, Outlet, Piece, Tail},
};
use crate::{clock::Clock, metrics::Session, rooms::Counted};

/// How much a viewer takes at a time, in bytes. What it took stays in memory while it stalls.
const BATCH: usize = 128 * 1024;

/// What a viewer is to be sent next.
#[derive(Debug)]
pub enum Item {
    /// What must be known before the next piece.
    Description {
        /// See there.
        description: Arc<Description>,
        /// Nothing was sent before.
        first: bool,
    },
    /// A piece of the stream.
    Piece(Piece),
}

impl Item {
    /// The bytes to send, for formats that are files.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Item::Description { description, first } if first => description.first.clone(),
            Item::Description { description, .. } => description.again.clone(),
            Item::Piece(piece) => piece.bytes,
        }
    }
}

/// One viewer. It counts as one until dropped.
pub struct Viewer {
    clock: Clock,
    outlet: Arc<Outlet>,
    cursor: Cursor,
    tail: watch::Receiver<Tail>,
    taken: VecDeque<Piece>,
    described: Option<Arc<Description>>,
    session: Session,
    joined: Option<Instant>,
    _in_hub: InHub,
    in_room: Counted,
    _permit: OwnedSemaphorePermit,
}

/// Counts a viewer in its hub.
struct InHub(Arc<Hub>);

impl Drop for InHub {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Viewer {
    /// `hub` was joined for `outlet`.
    pub(super) fn new(
        clock: Clock,
        hub: Arc<Hub>,
        outlet: Arc<Outlet>,
        format: Format,
        in_room: Counted,
        permit: OwnedSemaphorePermit,
    ) -> Viewer {
        Viewer {
            clock,
            cursor: outlet.newcomer(),
            tail: outlet.tail(),
            outlet,
            taken: VecDeque::new(),
            described: None,
            session: Session::new(format.name()),
            joined: Some(Instant::now()),
            _in_hub: InHub(hub),
            in_room,
            _permit: permit,
        }
    }

    /// Waits until there is something to send.
    pub async fn begin(mut self, wait: Duration, stream: &Stream) -> Result<Viewer, WatchError> {
        let stream = stream.to_string();
        match timeout(wait, self.fill()).await {
            Ok(true) => Ok(self),
            // It ended before it began.
            Ok(false) => Err(WatchError::UnknownStream {
                room: self.in_room.room().name().room.to_string(),
                stream,
            }),
            Err(_) => Err(WatchError::Silent {
                stream,
                seconds: wait.as_secs(),
            }),
        }
    }

    /// The next thing to send; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Item> {
        if !self.fill().await {
            return None;
        }
        Some(self.take())
    }

    /// The next thing to send, if it is here already.
    pub fn try_next(&mut self) -> Option<Item> {
        self.read();
        (!self.taken.is_empty()).then(|| self.take())
    }

    /// Bytes that were sent, for the metrics.
    pub fn sent(&self, bytes: usize) {
        self.session.sent(bytes);
    }

    fn take(&mut self) -> Item {
        let known = self.described.as_ref();
        let next = &self.taken[0].description;
        if !known.is_some_and(|known| Arc::ptr_eq(known, next)) {
            let description = next.clone();
            let first = self.described.replace(description.clone()).is_none();
            return Item::Description { description, first };
        }
        if let Some(joined) = self.joined.take() {
            self.session.first_frame(joined.elapsed());
        }
        Item::Piece(self.taken.pop_front().expect("it was looked at above"))
    }

    /// Whether there is a piece to send; waits for one. `false`: there will be none.
    async fn fill(&mut self) -> bool {
        loop {
            let closed = self.tail.borrow_and_update().closed;
            self.read();
            if !self.taken.is_empty() {
                return true;
            }
            if closed || self.tail.changed().await.is_err() {
                return false;
            }
        }
    }

    fn read(&mut self) {
        if self.taken.is_empty() {
            let now = self.clock.now();
            let skipped = self
                .outlet
                .read(&mut self.cursor, now, BATCH, &mut self.taken);
            self.session.skipped(skipped);
        }
    }
}
