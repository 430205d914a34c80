//! A client that plays.

use super::connection::{Closed, Connection};
use crate::{
    auth::Verb,
    flv,
    live::{Format, Item, Viewer, WatchError},
    rtmp::{Event, Input, Target},
};

/// What a player is told whose stream is not on.
const NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
/// What a player is told who cannot have it.
const FAILED: &str = "NetStream.Play.Failed";

/// How much is put together for one write, in bytes.
const WRITE: usize = 64 * 1024;

impl Connection {
    pub(super) async fn play(&mut self, target: Target) -> Result<(), Closed> {
        let granted = self.grant(&target, Verb::Watch, FAILED)?;
        let viewer = self.viewer(&granted.access.room, &granted.stream).await;
        let mut viewer = viewer.map_err(|error| {
            let code = match error {
                WatchError::UnknownStream { .. } => NOT_FOUND,
                _ => FAILED,
            };
            self.refuse(code, error.slug(), error.to_string())
        })?;
        let _ = self.session.handle(Input::Accept);
        let stop = self.shared.stop.clone();
        // In ms, of the last piece.
        let mut time = 0;
        loop {
            while let Some(event) = self.next_event() {
                if matches!(event, Event::Closed) {
                    return Ok(());
                }
            }
            viewer.sent(self.unsent());
            self.flush().await?;
            tokio::select! {
                read = self.read() => match read? {
                    Some(bytes) => self.receive(bytes)?,
                    None => return Ok(()),
                },
                item = viewer.next() => {
                    let Some(item) = item else {
                        let _ = self.session.handle(Input::End);
                        continue;
                    };
                    self.send(item, &mut time);
                    self.send_more(&mut viewer, &mut time);
                }
                () = stop.cancelled() => {
                    let _ = self.session.handle(Input::End);
                }
            }
        }
    }

    /// Sends what is here already, up to one good write.
    fn send_more(&mut self, viewer: &mut Viewer, time: &mut u32) {
        let mut queued = 0;
        while queued < WRITE
            && let Some(item) = viewer.try_next()
        {
            if let Item::Piece(piece) = &item {
                queued += piece.bytes.len();
            }
            self.send(item, time);
        }
    }

    fn send(&mut self, item: Item, time: &mut u32) {
        let mut inputs = Vec::new();
        match item {
            Item::Description { description, .. } => {
                let catalog = &description.catalog;
                inputs.push(Input::Metadata(flv::metadata(catalog)));
                let configs = flv::config_bodies(catalog).into_iter();
                inputs.extend(configs.map(|(kind, body)| Input::Media {
                    kind,
                    timestamp: *time,
                    body,
                }));
            }
            Item::Piece(piece) => {
                // RTMP's time wraps at 2^32 ms (§5.3.1.3).
                *time = (piece.timestamp / 1_000) as u32;
                inputs.push(Input::Media {
                    kind: piece.kind,
                    timestamp: *time,
                    body: piece.bytes,
                });
            }
        }
        for input in inputs {
            // Only received bytes can be wrong.
            let _ = self.session.handle(input);
        }
    }

    async fn viewer(
        &mut self,
        room: &longspan_proto::ids::RoomName,
        stream: &longspan_proto::ids::Stream,
    ) -> Result<Viewer, WatchError> {
        let shared = self.shared.clone();
        let viewer = shared.live.watch(room, stream, Format::Rtmp).await?;
        viewer.begin(shared.limits.first_picture, stream).await
    }
}
