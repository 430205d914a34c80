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
    pub(super) generation: Generation,
    pub(super) hls_base: u64,
    grouper: Option<Grouper>,
    catalog: Publisher,
    catalogs: u64,
    /// There from the beginning, so that whoever hears of the stream can subscribe at once and
    /// has the first key frame when it comes, not a round trip after the catalog.
    media: [Publisher; 2],
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
            generation,
            hls_base: claim.hls_base,
            grouper: None,
            catalog: node.publish(track_id(room, stream, track, generation)),
            catalogs: 0,
            media: Kind::ALL
                .map(|kind| node.publish(track_id(room, stream, kind.track(), generation))),
            configs: [None, None],
            superseded: place.take(room.clone(), stream.clone(), generation),
        })
    }

    /// Publishes the next version of the catalog.
    pub(super) fn describe(&mut self, catalog: &Catalog, wall: u64) -> Result<(), CatalogError> {
        let payload = catalog.encode()?;
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
        let track = &self.media[sample.kind as usize];
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
