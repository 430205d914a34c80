//! Streams that are published here: claimed with a controller, cut into groups, and handed to
//! the node inside this edge.

mod origin;
mod publications;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use longspan_proto::{
    control::RoomState,
    ids::{Generation, Stream},
};
use longspan_relay::node::Handle;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use self::origin::Origin;
pub use self::publications::{Publications, Superseded};
use crate::{
    clock::wall_micros,
    door::GoingAway,
    flv::{Ingest, IngestError, Ingested},
    media::{Catalog, CatalogError, Kind, PayloadError},
    metrics::Session,
    rooms::{Room, TooMany, origin},
};

/// How long giving a stream back may take; after it the edge's lease decides.
const RELEASE_WAIT: Duration = Duration::from_secs(3);

/// How long the controllers may not name a stream that is published here before it is claimed
/// anew: they lost it (a lease ran out while none could be reached), or have not told yet.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);

/// Why a publisher is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another identity publishes it.
    #[error("the stream is taken: {0}")]
    Held(String),
    /// The controllers refuse it.
    #[error("the stream is refused: {0}")]
    Refused(String),
    /// No controller answers.
    #[error("no controller answers, so nobody can begin to publish now: {0}")]
    Unavailable(String),
    /// The name is ours.
    #[error("the stream name {0:?} is reserved: names that begin with @ are Longspan's own")]
    Reserved(String),
    /// As many streams are published here as this edge takes.
    #[error("{limit} streams are published at this edge already, which is its limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// See [`TooMany`].
    #[error(transparent)]
    TooManyRooms(#[from] TooMany),
    /// The edge takes nobody new.
    #[error(transparent)]
    GoingAway(#[from] GoingAway),
}

impl Refused {
    /// For counters.
    pub fn slug(&self) -> &'static str {
        match self {
            Refused::Held(_) => "held",
            Refused::Refused(_) => "claim_refused",
            Refused::Unavailable(_) => "unavailable",
            Refused::Reserved(_) => "reserved_name",
            Refused::TooMany { .. } => "too_many_publishers",
            Refused::TooManyRooms(_) => "too_many_rooms",
            Refused::GoingAway(_) => "going_away",
        }
    }
}

/// Why what a publisher sent cannot be carried; it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A tag that cannot be read, or of a codec that is not carried.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// A sample too large for a frame.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The stream's description is too large.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What becomes of a publication by others' doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A newer generation takes its place.
    Superseded(Generation),
    /// The controllers know nothing of it any more: [claim it anew](Publication::reclaim).
    Forgotten,
}

/// A stream this edge is the origin of, until dropped.
pub struct Publication {
    node: Handle,
    publications: Arc<Publications>,
    room: Arc<Room>,
    stream: Stream,
    identity: String,
    ingest: Ingest,
    described: Option<Catalog>,
    origin: Origin,
    state: watch::Receiver<Option<Arc<RoomState>>>,
    forgotten: Option<Instant>,
    released: bool,
    _session: Session,
}

impl Publication {
    /// Takes a stream for `identity`. If the identity has it already, here or elsewhere, that one
    /// is superseded.
    pub async fn claim(
        node: &Handle,
        publications: &Arc<Publications>,
        room: Arc<Room>,
        stream: Stream,
        identity: &str,
        protocol: &'static str,
    ) -> Result<Publication, Refused> {
        let origin = Origin::claim(node, publications, room.name(), &stream, identity).await?;
        tracing::info!(room = %room.name(), %stream, generation = %origin.generation, protocol,
            "publishing");
        Ok(Publication {
            node: node.clone(),
            publications: publications.clone(),
            state: room.state(),
            room,
            stream,
            identity: identity.to_owned(),
            ingest: Ingest::new(),
            described: None,
            origin,
            forgotten: None,
            released: false,
            _session: Session::new(protocol),
        })
    }

    /// Takes the stream again, under the next generation. What is published goes on there.
    pub async fn reclaim(&mut self) -> Result<(), Refused> {
        let (node, room) = (&self.node, self.room.name());
        let (stream, identity) = (&self.stream, &self.identity);
        self.forgotten = None;
        self.origin = Origin::claim(node, &self.publications, room, stream, identity).await?;
        tracing::warn!(%room, %stream, generation = %self.origin.generation,
            "the controllers had forgotten the stream; published anew");
        if let Some(catalog) = self.described.take()
            && let Err(error) = self.describe(catalog, wall_micros())
        {
            tracing::warn!(%error, "a catalog that was good before is not");
        }
        Ok(())
    }

    /// The fencing number it has.
    pub fn generation(&self) -> Generation {
        self.origin.generation
    }

    /// `onMetaData` came.
    pub fn metadata(
        &mut self,
        metadata: serde_json::Map<String, serde_json::Value>,
        wall: u64,
    ) -> Result<(), MediaError> {
        let ingested = self.ingest.metadata(metadata);
        self.take(ingested, wall)
    }

    /// A tag body came; `timestamp` in ms, wrapping at 2^32; `wall` is the wall clock in µs since
    /// the Unix epoch.
    pub fn media(
        &mut self,
        kind: Kind,
        timestamp: u32,
        body: Bytes,
        wall: u64,
    ) -> Result<(), MediaError> {
        let ingested = self.ingest.media(kind, timestamp, body)?;
        self.take(ingested, wall)
    }

    /// Waits until others decide about it.
    pub async fn fate(&mut self) -> Fate {
        let (stream, own) = (&self.stream, self.origin.generation);
        let (state, forgotten) = (&mut self.state, &mut self.forgotten);
        let told = async {
            loop {
                let named = named(&state.borrow_and_update(), stream);
                match named {
                    Some(newer) if newer > own => return Fate::Superseded(newer),
                    Some(older) if older < own => {
                        let since = *forgotten.get_or_insert_with(Instant::now);
                        tokio::select! {
                            Ok(()) = state.changed() => {}
                            () = sleep_until(since + FORGOTTEN_AFTER) => return Fate::Forgotten,
                        }
                    }
                    _ => {
                        *forgotten = None;
                        if state.changed().await.is_err() {
                            // The node stops, and soon we do.
                            return std::future::pending().await;
                        }
                    }
                }
            }
        };
        tokio::select! {
            newest = self.origin.superseded.wait() => Fate::Superseded(newest),
            fate = told => fate,
        }
    }

    /// Gives the stream back.
    pub async fn release(mut self) {
        self.released = true;
        let (room, generation) = (self.room.name(), self.origin.generation);
        let released = self.node.release(room, &self.stream, generation);
        // If it was not taken back, the claim ends with this node's lease.
        match timeout(RELEASE_WAIT, released).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(stream = %self.stream, %why, "not given back"),
            Err(_) => tracing::warn!(stream = %self.stream, "not given back in time"),
        }
    }

    fn take(&mut self, ingested: Vec<Ingested>, wall: u64) -> Result<(), MediaError> {
        for item in ingested {
            match item {
                Ingested::Catalog(catalog) => self.describe(catalog, wall)?,
                Ingested::Sample(sample) => self.origin.take(sample, wall)?,
            }
        }
        Ok(())
    }

    fn describe(&mut self, mut catalog: Catalog, wall: u64) -> Result<(), MediaError> {
        catalog.hls_base = self.origin.hls_base;
        self.origin.describe(&catalog, wall)?;
        self.described = Some(catalog);
        Ok(())
    }
}

/// The generation the controllers name for a stream, the lowest if they name none; `None` before
/// they said anything of its room.
fn named(state: &Option<Arc<RoomState>>, stream: &Stream) -> Option<Generation> {
    let state = state.as_deref()?;
    Some(origin(state, stream).map_or(Generation(0), |named| named.generation))
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let (node, room, stream) = (
            self.node.clone(),
            self.room.name().clone(),
            self.stream.clone(),
        );
        let generation = self.origin.generation;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let released = node.release(&room, &stream, generation);
                let _ = timeout(RELEASE_WAIT, released).await;
            });
        }
    }
}
