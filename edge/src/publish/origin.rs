//! One generation of a stream that is published here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use longspan_proto::{
    ids::{Generation, RoomName, Stream, Track, TrackId},
    wire::{Flags, Frame, Priority},
};
use longspan_relay::node::{ClaimError, Handle, Publisher};
use tokio::time::timeout;

use super::{Publications, Refused, Superseded};
use crate::media::{Catalog, CatalogError, Cut, Grouper, Kind, PayloadError, Sample};

/// How long a controller may take to answer a claim. The node tries the others meanwhile.
const CLAIM_WAIT: Duration = Duration::from_secs(10);

/// One generation's tracks.
pub(super) struct Origin {
    room: RoomName,
    stream: Stream,
    pub(super) generation: Generation,
    pub(super) hls_base: u64,
    grouper: Option<Grouper>,
    catalog: Publisher,
    catalogs: u64,
    media: [Option<Publisher>; 2],
    /// Decoder configs that no sample of this generation has carried yet.
    configs: [Option<Bytes>; 2],
    pub(super) superseded: Superseded,
}

impl Origin {
    pub(super) async fn claim(
        node: &Handle,
        publications: &Arc<Publications>,
        room: &RoomName,
        stream: &Stream,
        identity: &str,
    ) -> Result<Origin, Refused> {
        if stream.is_reserved() {
            return Err(Refused::Reserved(stream.to_string()));
        }
        let place = publications.reserve()?;
        let asked = node.claim(room, stream, identity);
        let claim = match timeout(CLAIM_WAIT, asked).await {
            Ok(Ok(claim)) => claim,
            Ok(Err(ClaimError::Held { message })) => return Err(Refused::Held(message)),
            Ok(Err(ClaimError::Refused { message })) => return Err(Refused::Refused(message)),
            Ok(Err(ClaimError::Unavailable(why))) => return Err(Refused::Unavailable(why)),
            Err(_) => {
                let why = format!("none did within {} s", CLAIM_WAIT.as_secs());
                return Err(Refused::Unavailable(why));
            }
        };
        let generation = claim.generation;
        let track = Track::new("catalog").expect("a constant of letters");
        Ok(Origin {
            room: room.clone(),
            stream: stream.clone(),
            generation,
            hls_base: claim.hls_base,
            grouper: None,
            catalog: node.publish(track_id(room, stream, track, generation)),
            catalogs: 0,
            media: [None, None],
            configs: [None, None],
            superseded: place.take(room.clone(), stream.clone(), generation),
        })
    }

    /// Publishes the next version of the catalog, and the tracks that are new in it.
    pub(super) fn describe(
        &mut self,
        node: &Handle,
        catalog: &Catalog,
        wall: u64,
    ) -> Result<(), CatalogError> {
        let payload = catalog.encode()?;
        for kind in Kind::ALL {
            let track = &mut self.media[kind as usize];
            if catalog.has(kind) && track.is_none() {
                let (room, stream) = (&self.room, &self.stream);
                let id = track_id(room, stream, kind.track(), self.generation);
                *track = Some(node.publish(id));
            }
        }
        if self.grouper.is_none() {
            self.grouper = Some(Grouper::new(catalog.has(Kind::Video)));
            self.configs = [
                catalog.video().map(|video| video.config.clone()),
                catalog.audio().map(|audio| audio.config.clone()),
            ];
        }
        self.catalog.group(self.catalogs, 0, wall);
        self.catalogs += 1;
        let flags = Flags {
            key: true,
            ..Flags::default()
        };
        self.catalog.frame(Frame {
            timestamp: 0,
            flags,
            priority: Priority::State,
            payload,
        });
        Ok(())
    }

    /// Publishes a sample.
    pub(super) fn take(&mut self, mut sample: Sample, wall: u64) -> Result<(), PayloadError> {
        let config = self.configs[sample.kind as usize].take();
        sample.config = sample.config.or(config);
        let Some(grouper) = &mut self.grouper else {
            return Ok(());
        };
        let Some(track) = &self.media[sample.kind as usize] else {
            return Ok(());
        };
        for cut in grouper.push(sample, wall)? {
            match cut {
                Cut::Group {
                    group,
                    timestamp,
                    origin_time,
                    ..
                } => track.group(group, timestamp, origin_time),
                Cut::Frame { frame, .. } => track.frame(frame),
            }
        }
        Ok(())
    }
}

fn track_id(room: &RoomName, stream: &Stream, track: Track, generation: Generation) -> TrackId {
    TrackId {
        room: room.clone(),
        stream: stream.clone(),
        track,
        generation,
    }
}
