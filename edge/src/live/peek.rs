//! What a stream is made of, asked without watching it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use longspan_proto::{
    ids::{Generation, RoomName, Stream, Track, TrackId},
    wire::Start,
};
use longspan_relay::{forward::LocalEvent, node::Handle};
use tokio::time::{Instant, timeout};

use crate::{media::Catalog, rooms::Origin};

/// How long a catalog may take to come: the longest path and a lost packet.
const WAIT: Duration = Duration::from_secs(1);

/// How long an answer is good for. A catalog rarely changes, and then the generation mostly does.
const FRESH: Duration = Duration::from_secs(10);

/// How many answers are kept; when full, all are forgotten.
const KEPT: usize = 4_096;

/// The answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Peeks {
    kept: Mutex<HashMap<(RoomName, Stream), Kept>>,
}

#[derive(Debug)]
struct Kept {
    generation: Generation,
    /// `None`: it did not come in time.
    catalog: Option<Arc<Catalog>>,
    at: Instant,
}

impl Peeks {
    pub(super) async fn catalog(
        &self,
        node: &Handle,
        room: &RoomName,
        stream: &Stream,
        origin: &Origin,
    ) -> Option<Arc<Catalog>> {
        let key = (room.clone(), stream.clone());
        if let Some(kept) = self.lock().get(&key)
            && kept.generation == origin.generation
            && kept.at.elapsed() < FRESH
        {
            return kept.catalog.clone();
        }
        let catalog = timeout(WAIT, ask(node, room, stream, origin)).await;
        let catalog = catalog.ok().flatten().map(Arc::new);
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        let answer = Kept {
            generation: origin.generation,
            catalog: catalog.clone(),
            at: Instant::now(),
        };
        kept.insert(key, answer);
        catalog
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(RoomName, Stream), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(node: &Handle, room: &RoomName, stream: &Stream, origin: &Origin) -> Option<Catalog> {
    let track = TrackId {
        room: room.clone(),
        stream: stream.clone(),
        track: Track::new("catalog").ok()?,
        generation: origin.generation,
    };
    let mut asked = node.subscribe(track, origin.node.clone(), Start::Latest, Duration::ZERO);
    loop {
        match asked.next().await? {
            LocalEvent::Frame { frame, .. } => return Catalog::decode(&frame.payload).ok(),
            LocalEvent::End { .. } => return None,
            _ => {}
        }
    }
}
