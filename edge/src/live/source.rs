//! One generation of a stream, as this edge pulls it.

use std::{sync::Arc, time::Duration};

use longspan_proto::{
    ids::{NodeId, Position, RoomName, Stream, Track, TrackId},
    wire::{EndReason, Start},
};
use longspan_relay::{
    forward::LocalEvent,
    node::{Handle, Subscription},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    media::{Catalog, GroupStart, Kind, Sample, TrackEvent},
    rooms::Origin,
};

/// The first and the longest wait before a subscription that broke is made anew. It is made for as
/// long as the controllers name this origin.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What comes of a source.
#[derive(Debug)]
pub(super) enum FromSource {
    /// The stream is made of this from now on.
    Catalog(Arc<Catalog>),
    /// Something happened on a track.
    Track(Kind, TrackEvent),
    /// The way the media takes, origin first, this node last.
    Path(Vec<NodeId>),
    /// A subscription broke; it is tried again.
    Lost,
    /// The publisher is done.
    Finished,
}

/// A generation's three tracks. All are subscribed at once: what there is of audio and video waits
/// in its subscription until the catalog is here, so that a stream costs one round trip of the
/// path, not two.
pub(super) struct Source {
    node: Handle,
    room: RoomName,
    stream: Stream,
    origin: Origin,
    budget: Duration,
    catalog: Tracked,
    described: Option<Arc<Catalog>>,
    /// Those that the catalog does not name are left when it is here.
    media: [Option<Tracked>; 2],
    /// The last thing that happened is that a subscription broke.
    lost: bool,
}

impl Source {
    pub(super) fn new(
        node: Handle,
        room: RoomName,
        stream: Stream,
        origin: Origin,
        budget: Duration,
    ) -> Source {
        let name = Track::new("catalog").expect("a constant of letters");
        let catalog = Tracked::new(&room, &stream, &origin, name);
        let media = Kind::ALL.map(|kind| {
            let mut track = Tracked::new(&room, &stream, &origin, kind.track());
            track.subscribe(&node, &origin.node, budget);
            Some(track)
        });
        Source {
            node,
            room,
            stream,
            origin,
            budget,
            catalog,
            described: None,
            media,
            lost: false,
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the stream is made of, once that came.
    pub(super) fn catalog(&self) -> Option<&Arc<Catalog>> {
        self.described.as_ref()
    }

    /// Whether nothing came since a subscription broke.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// The next thing. Nothing is lost if this is dropped while it waits.
    pub(super) async fn next(&mut self) -> FromSource {
        loop {
            let (node, budget, origin) = (&self.node, self.budget, &self.origin.node);
            let [video, audio] = &mut self.media;
            let described = self.described.is_some();
            // A catalog is never too old.
            let (kind, event) = tokio::select! {
                event = self.catalog.next(node, origin, Duration::ZERO) => (None, event),
                event = next_of(video, node, origin, budget), if described => (Some(Kind::Video), event),
                event = next_of(audio, node, origin, budget), if described => (Some(Kind::Audio), event),
            };
            if let Some(event) = self.translate(kind, event) {
                self.lost = matches!(event, FromSource::Lost);
                return event;
            }
        }
    }

    fn translate(&mut self, kind: Option<Kind>, event: LocalEvent) -> Option<FromSource> {
        if let LocalEvent::End { reason, message } = event {
            return self.ended(kind, reason, &message);
        }
        let Some(kind) = kind else {
            return match event {
                LocalEvent::Frame { frame, .. } => self.describe(&frame.payload),
                _ => None,
            };
        };
        let event = match event {
            LocalEvent::Path(path) => {
                let tells = kind == Kind::Video || self.media[0].is_none();
                return tells.then_some(FromSource::Path(path));
            }
            LocalEvent::Group(header) => TrackEvent::Group(GroupStart {
                group: header.group,
                first_index: header.first_frame,
                timestamp: header.timestamp,
                origin_time: header.origin_time,
            }),
            LocalEvent::Frame {
                group,
                index,
                frame,
            } => match Sample::from_frame(kind, &frame) {
                Ok(sample) => TrackEvent::Sample {
                    group,
                    index,
                    sample,
                },
                Err(error) => {
                    metrics::counter!("longspan_frames_dropped_total", "reason" => "payload")
                        .increment(1);
                    tracing::warn!(%error, stream = %self.stream, "frame carries no sample");
                    TrackEvent::Dropped { group }
                }
            },
            LocalEvent::GroupEnd { group } => TrackEvent::End { group },
            LocalEvent::GroupDropped { group, .. } => TrackEvent::Dropped { group },
            LocalEvent::End { .. } => return None,
        };
        Some(FromSource::Track(kind, event))
    }

    fn describe(&mut self, payload: &[u8]) -> Option<FromSource> {
        let catalog = match Catalog::decode(payload) {
            Ok(catalog) => Arc::new(catalog),
            Err(error) => {
                tracing::warn!(%error, stream = %self.stream, "catalog refused");
                return None;
            }
        };
        for kind in Kind::ALL {
            let track = &mut self.media[kind as usize];
            if !catalog.has(kind) {
                *track = None;
            } else if track.is_none() {
                let tracked = Tracked::new(&self.room, &self.stream, &self.origin, kind.track());
                *track = Some(tracked);
            }
        }
        self.described = Some(catalog.clone());
        Some(FromSource::Catalog(catalog))
    }

    fn ended(
        &mut self,
        kind: Option<Kind>,
        reason: EndReason,
        message: &str,
    ) -> Option<FromSource> {
        let track = match kind {
            None => Some(&mut self.catalog),
            Some(kind) => self.media[kind as usize].as_mut(),
        };
        if !matches!(reason, EndReason::Finished | EndReason::Superseded) {
            tracing::debug!(?reason, message, stream = %self.stream, "subscription broke");
            return Some(FromSource::Lost);
        }
        track?.done = true;
        // Without a catalog nobody could tell what the other tracks are.
        let media = self.described.is_none() || self.media.iter().flatten().all(|track| track.done);
        let done = self.catalog.done && media;
        done.then_some(FromSource::Finished)
    }
}

/// One track, subscribed again from where it broke.
struct Tracked {
    track: TrackId,
    subscription: Option<Subscription>,
    /// The position after the last frame that came.
    resume: Option<Position>,
    retry_at: Instant,
    backoff: Duration,
    done: bool,
}

impl Tracked {
    fn new(room: &RoomName, stream: &Stream, origin: &Origin, track: Track) -> Tracked {
        Tracked {
            track: TrackId {
                room: room.clone(),
                stream: stream.clone(),
                track,
                generation: origin.generation,
            },
            subscription: None,
            resume: None,
            retry_at: Instant::now(),
            backoff: RETRY.0,
            done: false,
        }
    }

    /// The subscription, made if there is none.
    fn subscribe(&mut self, node: &Handle, origin: &NodeId, budget: Duration) -> &mut Subscription {
        self.subscription.get_or_insert_with(|| {
            let start = self.resume.map_or(Start::Latest, Start::At);
            node.subscribe(self.track.clone(), origin.clone(), start, budget)
        })
    }

    async fn next(&mut self, node: &Handle, origin: &NodeId, budget: Duration) -> LocalEvent {
        if self.done {
            return std::future::pending().await;
        }
        if self.subscription.is_none() {
            sleep_until(self.retry_at).await;
        }
        let subscription = self.subscribe(node, origin, budget);
        let event = subscription.next().await.unwrap_or(LocalEvent::End {
            reason: EndReason::Unreachable,
            message: "the node stopped".to_owned(),
        });
        match &event {
            LocalEvent::Group(header) => {
                self.backoff = RETRY.0;
                self.resumes_at(header.group, header.first_frame);
            }
            LocalEvent::Frame { group, index, .. } => self.resumes_at(*group, index + 1),
            LocalEvent::GroupEnd { group } | LocalEvent::GroupDropped { group, .. } => {
                self.resumes_at(group + 1, 0);
            }
            LocalEvent::End { .. } => {
                self.subscription = None;
                self.retry_at = Instant::now() + self.backoff;
                self.backoff = (self.backoff * 2).min(RETRY.1);
            }
            LocalEvent::Path(_) => {}
        }
        event
    }

    /// Groups may overlap: only the newest counts.
    fn resumes_at(&mut self, group: u64, frame: u64) {
        let position = Position { group, frame };
        if self.resume.is_none_or(|known| known < position) {
            self.resume = Some(position);
        }
    }
}

async fn next_of(
    track: &mut Option<Tracked>,
    node: &Handle,
    origin: &NodeId,
    budget: Duration,
) -> LocalEvent {
    match track {
        Some(track) => track.next(node, origin, budget).await,
        None => std::future::pending().await,
    }
}
