//! A client that publishes.

use tokio::time::timeout;

use super::connection::{Closed, Connection};
use crate::{
    auth::Verb,
    clock::wall_micros,
    publish::{Fate, Publication, Refused},
    rtmp::{Event, Input, Target},
};

/// What a publisher whose stream cannot be had is told. Encoders know it, and show the text.
const BAD_NAME: &str = "NetStream.Publish.BadName";
/// What a publisher is told whose token does not allow it.
const DENIED: &str = "NetStream.Publish.Denied";
/// What a publisher is told who cannot go on.
const FAILED: &str = "NetStream.Publish.Failed";
/// What clients are told when the edge stops.
const SHUTDOWN: &str = "NetConnection.Connect.AppShutdown";

impl Connection {
    pub(super) async fn publish(&mut self, target: Target) -> Result<(), Closed> {
        let granted = self.grant(&target, Verb::Publish, DENIED)?;
        let claimed = self
            .shared
            .claim(&granted.access, granted.stream, "rtmp_publish")
            .await;
        let mut publication = claimed.map_err(|refused| {
            let code = match refused {
                Refused::Held(_) | Refused::Reserved(_) => BAD_NAME,
                _ => FAILED,
            };
            self.refuse(code, refused.slug(), refused.to_string())
        })?;
        tracing::info!(peer = %self.peer, client = %target.client,
            generation = %publication.generation(), "RTMP publisher");
        let _ = self.session.handle(Input::Accept);
        let result = self.carry(&mut publication).await;
        publication.release().await;
        result
    }

    /// Carries what the client sends until it is done, or somebody else is.
    async fn carry(&mut self, publication: &mut Publication) -> Result<(), Closed> {
        let idle = self.shared.limits.publisher_idle;
        let stop = self.shared.stop.clone();
        loop {
            if self.take(publication)? {
                return Ok(());
            }
            self.flush().await?;
            tokio::select! {
                read = timeout(idle, self.read()) => match read {
                    Err(_) => {
                        let why = Closed::Idle(idle).to_string();
                        self.refuse(FAILED, "publisher_idle", why);
                        return Err(Closed::Idle(idle));
                    }
                    Ok(read) => match read? {
                        Some(bytes) => self.receive(bytes)?,
                        None => return Ok(()),
                    },
                },
                fate = publication.fate() => match fate {
                    Fate::Superseded(newer) => {
                        let why = format!("The stream is published anew (generation {newer}); \
                            this was generation {}.", publication.generation());
                        return Err(self.refuse(BAD_NAME, "superseded", why));
                    }
                    Fate::Forgotten => self.reclaim(publication).await?,
                },
                () = stop.cancelled() => {
                    let why = "The edge is stopping; publish to another one.".to_owned();
                    return Err(self.refuse(SHUTDOWN, "stopping", why));
                }
            }
        }
    }

    /// Takes a stream again that the controllers lost. While none answers, what runs goes on.
    async fn reclaim(&mut self, publication: &mut Publication) -> Result<(), Closed> {
        match publication.reclaim().await {
            Ok(()) => Ok(()),
            Err(refused @ (Refused::Unavailable(_) | Refused::TooMany { .. })) => {
                tracing::warn!(%refused, "stream not published anew yet");
                Ok(())
            }
            Err(refused) => Err(self.refuse(BAD_NAME, refused.slug(), refused.to_string())),
        }
    }

    /// Takes what the client did; `true` when it is done.
    fn take(&mut self, publication: &mut Publication) -> Result<bool, Closed> {
        while let Some(event) = self.next_event() {
            let taken = match event {
                Event::Closed => return Ok(true),
                Event::Metadata(metadata) => publication.metadata(metadata, wall_micros()),
                Event::Media {
                    kind,
                    timestamp,
                    body,
                } => publication.media(kind, timestamp, body, wall_micros()),
                Event::Publish(_) | Event::Play(_) => Ok(()),
            };
            taken.map_err(|error| self.refuse(FAILED, "media", error.to_string()))?;
        }
        Ok(false)
    }
}
