//! A stream through its publishers: from generation to generation, never back.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use longspan_proto::{
    control::RoomState,
    ids::{Generation, NodeId, Stream},
};
use longspan_relay::node::Handle;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::source::{FromSource, Source};
use crate::{
    media::{Catalog, Kind, TrackEvent},
    rooms::{Room, origin},
};

/// How many events of a newer generation are held until its first key frame; when full, viewers
/// move to it without one (and see it from its first key frame nevertheless).
const MAX_HELD: usize = 1_024;

/// How long a stream is waited for whose publisher went before anything came.
const GONE_BEFORE: Duration = Duration::from_millis(500);

/// What comes of following a stream.
#[derive(Debug)]
pub(super) enum Event {
    /// A generation delivers: all that follows is of it.
    Begin {
        /// The publisher's fencing number; higher than those before.
        generation: Generation,
        /// What the stream is made of.
        catalog: Arc<Catalog>,
    },
    /// The stream is made of this from now on.
    Catalog(Arc<Catalog>),
    /// Something happened on a track.
    Track(Kind, TrackEvent),
    /// The way the media takes, origin first, this node last.
    Path(Vec<NodeId>),
    /// Nobody has published for longer than viewers wait.
    Ended,
}

impl Event {
    /// What the room's page tells is another now.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Event::Begin { .. } | Event::Path(_))
    }
}

/// Follows one stream. A newer generation is pulled beside the current one until its first key
/// frame is here; then the current one is left.
pub(super) struct Follow {
    node: Handle,
    room: Arc<Room>,
    state: watch::Receiver<Option<Arc<RoomState>>>,
    stream: Stream,
    budget: Duration,
    grace: Duration,
    current: Option<Source>,
    next: Option<Source>,
    held: VecDeque<Event>,
    /// The highest generation that was ever pulled; nothing up to it is pulled again.
    newest: Option<Generation>,
    /// Something was delivered.
    begun: bool,
    /// The controllers say that somebody publishes it.
    named: bool,
    /// Since when nothing is delivered.
    waiting: Option<Instant>,
    ready: VecDeque<Event>,
}

impl Follow {
    pub(super) fn new(
        node: Handle,
        room: Arc<Room>,
        stream: Stream,
        budget: Duration,
        grace: Duration,
    ) -> Follow {
        let mut state = room.state();
        state.mark_changed();
        Follow {
            node,
            room,
            state,
            stream,
            budget,
            grace,
            current: None,
            next: None,
            held: VecDeque::new(),
            newest: None,
            begun: false,
            named: true,
            waiting: Some(Instant::now()),
            ready: VecDeque::new(),
        }
    }

    /// Whose stream it is.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// The next thing. Nothing is lost if this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            let grace = if self.begun || self.named {
                self.grace
            } else {
                GONE_BEFORE
            };
            let deadline = self.waiting.map(|since| since + grace);
            tokio::select! {
                changed = self.state.changed() => match changed {
                    Ok(()) => self.look(),
                    // Only when the whole node stops.
                    Err(_) => return Event::Ended,
                },
                event = next_of(&mut self.current) => self.on_current(event),
                event = next_of(&mut self.next) => self.on_next(event),
                () = at(deadline) => return Event::Ended,
            }
        }
    }

    /// What the controllers say changed.
    fn look(&mut self) {
        let state = self.state.borrow_and_update().clone();
        let named = state.and_then(|state| origin(&state, &self.stream));
        self.named = named.is_some();
        if let Some(named) = &named
            && self.is_new(named.generation)
        {
            tracing::info!(stream = %self.stream, room = %self.room.name(),
                generation = %named.generation, origin = %named.node, "following");
            self.newest = Some(named.generation);
            self.held.clear();
            self.next = Some(Source::new(
                self.node.clone(),
                self.room.name().clone(),
                self.stream.clone(),
                named.clone(),
                self.budget,
            ));
        }
        self.leave_lost();
    }

    /// Whether to pull a generation: never an older one; the newest again only if it was left
    /// because the controllers did not name it for a while.
    fn is_new(&self, generation: Generation) -> bool {
        let idle = self.current.is_none() && self.next.is_none();
        self.newest
            .is_none_or(|newest| newest < generation || (idle && newest == generation))
    }

    /// A source that broke is tried again only while the controllers name it.
    fn leave_lost(&mut self) {
        let state = self.state.borrow().clone();
        let named = state.and_then(|state| origin(&state, &self.stream));
        let gone = |source: &Option<Source>| {
            source
                .as_ref()
                .is_some_and(|source| source.is_lost() && named.as_ref() != Some(source.origin()))
        };
        if gone(&self.next) {
            self.next = None;
        }
        if gone(&self.current) {
            self.current = None;
        }
        if self.current.is_none() {
            self.waiting.get_or_insert_with(Instant::now);
        }
    }

    fn on_current(&mut self, event: FromSource) {
        match event {
            FromSource::Lost => {
                self.waiting.get_or_insert_with(Instant::now);
                self.leave_lost();
            }
            FromSource::Finished => {
                self.current = None;
                self.waiting = Some(Instant::now());
            }
            FromSource::Catalog(catalog) => self.ready.push_back(Event::Catalog(catalog)),
            FromSource::Path(path) => self.ready.push_back(Event::Path(path)),
            FromSource::Track(kind, event) => {
                self.waiting = None;
                self.ready.push_back(Event::Track(kind, event));
            }
        }
    }

    fn on_next(&mut self, event: FromSource) {
        match event {
            FromSource::Lost => self.leave_lost(),
            FromSource::Finished => self.next = None,
            // Kept by the source itself.
            FromSource::Catalog(_) => {}
            FromSource::Path(path) => self.held.push_back(Event::Path(path)),
            FromSource::Track(kind, event) => {
                let begins = self.can_begin(kind, &event) || self.held.len() >= MAX_HELD;
                self.held.push_back(Event::Track(kind, event));
                if begins {
                    self.advance();
                }
            }
        }
    }

    /// Whether a decoder can begin with this.
    fn can_begin(&self, kind: Kind, event: &TrackEvent) -> bool {
        let catalog = self.next.as_ref().and_then(Source::catalog);
        let leads = match kind {
            Kind::Video => true,
            Kind::Audio => catalog.is_some_and(|catalog| !catalog.has(Kind::Video)),
        };
        leads && matches!(event, TrackEvent::Sample { sample, .. } if sample.key)
    }

    /// Leaves the current generation for the next.
    fn advance(&mut self) {
        let catalog = self.next.as_ref().and_then(Source::catalog).cloned();
        let Some(catalog) = catalog else {
            return;
        };
        let Some(next) = self.next.take() else {
            return;
        };
        let generation = next.origin().generation;
        self.ready.push_back(Event::Begin {
            generation,
            catalog,
        });
        self.ready.append(&mut self.held);
        self.current = Some(next);
        self.begun = true;
        self.waiting = None;
    }
}

async fn next_of(source: &mut Option<Source>) -> FromSource {
    match source {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
