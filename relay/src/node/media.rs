//! Tracks of this node's own: published into the backbone, and taken from it.

use std::sync::Arc;

use longspan_proto::{
    ids::{NodeId, TrackId},
    wire::{Frame, Start},
};

use crate::{
    engine::Engine,
    forward::{Input, LocalEvent, LocalKey},
    inbox::Inbox,
};

/// The origin's end of a track. Dropping it ends the track.
pub struct Publisher {
    engine: Arc<Engine>,
    track: TrackId,
}

impl Publisher {
    pub(crate) fn new(engine: Arc<Engine>, track: TrackId) -> Publisher {
        engine.handle(Input::Publish {
            track: track.clone(),
        });
        Publisher { engine, track }
    }

    /// Which track it is.
    pub fn id(&self) -> &TrackId {
        &self.track
    }

    /// Begins a group; the one before is complete. `group` is greater than the one before;
    /// `timestamp` is the media time of its first frame in µs, `origin_time` the wall clock in
    /// µs since the Unix epoch.
    pub fn group(&self, group: u64, timestamp: u64, origin_time: u64) {
        self.engine.handle(Input::PublishGroup {
            track: self.track.clone(),
            group,
            timestamp,
            origin_time,
        });
    }

    /// The next frame of the group that was begun last.
    pub fn frame(&self, frame: Frame) {
        self.engine.handle(Input::PublishFrame {
            track: self.track.clone(),
            frame,
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.engine.handle(Input::Unpublish {
            track: self.track.clone(),
        });
    }
}

/// A consumer's end of a track. Dropping it leaves the track.
///
/// At most 1,024 events or 32 MB of payload wait in it; a consumer that lags behind that loses
/// whole groups, the oldest first, each announced by `GroupDropped`.
pub struct Subscription {
    engine: Arc<Engine>,
    local: LocalKey,
    track: TrackId,
    inbox: Arc<Inbox>,
    path: Vec<NodeId>,
}

impl Subscription {
    pub(crate) fn new(engine: Arc<Engine>, track: TrackId, input: Subscribe) -> Subscription {
        let local = LocalKey(engine.number());
        let inbox = Arc::new(Inbox::default());
        engine.subscribe(
            local,
            inbox.clone(),
            Input::Subscribe {
                local,
                track: track.clone(),
                origin: input.origin,
                start: input.start,
                budget_ms: input.budget_ms,
            },
        );
        Subscription {
            engine,
            local,
            track,
            inbox,
            path: Vec::new(),
        }
    }

    /// Which track it is.
    pub fn id(&self) -> &TrackId {
        &self.track
    }

    /// The nodes the track crosses as of the last event taken, the origin first, this node last;
    /// empty before the first confirmation.
    pub fn path(&self) -> &[NodeId] {
        &self.path
    }

    /// The next event; `None` once `End` was taken. Cancel safe.
    pub async fn next(&mut self) -> Option<LocalEvent> {
        let event = self.inbox.next().await;
        if let Some(LocalEvent::Path(path)) = &event {
            self.path.clone_from(path);
        }
        event
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.engine.unsubscribe(self.local);
    }
}

/// What [`Subscription::new`] asks for beside the track.
pub(crate) struct Subscribe {
    pub origin: NodeId,
    pub start: Start,
    pub budget_ms: u32,
}
