//! A room's home, and what is asked of it over the backbone.

use std::time::Duration;

use longspan_proto::{
    control::RoomState,
    ids::{Generation, NodeId, RoomName, Stream, Track, TrackId},
    wire::{
        Start,
        call::{Open, Verb},
        room::Part,
    },
};
use longspan_relay::{
    node::{Call, CallError, Handle, RoomView, Subscription},
    roomlog::{Snapshot, position},
};

/// How long a call may take to be accepted, and a state to come.
const CALL: Duration = Duration::from_secs(5);

/// Messages in a state, keys and history together: what a home may hold by default, twice.
const MAX_STATE: usize = 32 << 10;

/// An ephemeral message that is older than this is worthless.
const EPHEMERAL_BUDGET: Duration = Duration::from_secs(2);

/// Who gives a room's messages their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    pub node: NodeId,
    pub generation: Generation,
}

/// Why a home is not of use now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the home said what it may not: {0}")]
    Broken(String),
    #[error("the track {track} ended: {why}")]
    Ended { track: &'static str, why: String },
}

impl Home {
    fn of(state: &RoomState) -> Option<Home> {
        if state.home_relay.is_empty() {
            return None;
        }
        let node = NodeId::new(&state.home_relay)
            .inspect_err(|error| tracing::warn!(%error, "a room's home has an odd name"))
            .ok()?;
        Some(Home {
            node,
            generation: Generation(state.home_generation),
        })
    }

    /// The room's home, once it is known. Waits for ever where no controller tells.
    pub async fn known(view: &mut RoomView) -> Home {
        loop {
            let home = view.borrow_and_update().as_deref().and_then(Home::of);
            if let Some(home) = home {
                return home;
            }
            if view.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns once the room's home is another.
    pub async fn changed(&self, view: &mut RoomView) {
        loop {
            let home = view.borrow_and_update().as_deref().and_then(Home::of);
            if home.is_some_and(|home| home != *self) {
                return;
            }
            if view.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Opens a call.
    pub async fn call(&self, handle: &Handle, room: &RoomName, verb: Verb) -> Result<Call, Lost> {
        let open = Open {
            verb,
            path: Vec::new(),
            crossed: Vec::new(),
            room: room.clone(),
            generation: self.generation,
            ticket: bytes::Bytes::new(),
            group: 0,
        };
        tokio::time::timeout(CALL, handle.call(&self.node, open))
            .await
            .map_err(|_| Lost::Timeout(CALL))?
            .map_err(Lost::from)
    }

    /// The room's state, and its newest messages.
    pub async fn state(&self, handle: &Handle, room: &RoomName) -> Result<Snapshot, Lost> {
        let call = self.call(handle, room, Verb::State).await?;
        tokio::time::timeout(CALL, read_state(call))
            .await
            .map_err(|_| Lost::Timeout(CALL))?
    }

    /// The room's ordered messages after `seq`.
    pub fn log(&self, handle: &Handle, room: &RoomName, seq: u64) -> Subscription {
        handle.subscribe(
            self.track(room, Track::log()),
            self.node.clone(),
            Start::At(position(seq + 1)),
            Duration::ZERO,
        )
    }

    /// The room's other messages, from now on.
    pub fn ephemeral(&self, handle: &Handle, room: &RoomName) -> Subscription {
        handle.subscribe(
            self.track(room, Track::ephemeral()),
            self.node.clone(),
            Start::Latest,
            EPHEMERAL_BUDGET,
        )
    }

    fn track(&self, room: &RoomName, track: Track) -> TrackId {
        TrackId {
            room: room.clone(),
            stream: Stream::room(),
            track,
            generation: self.generation,
        }
    }
}

async fn read_state(mut call: Call) -> Result<Snapshot, Lost> {
    let mut snapshot = Snapshot {
        seq: 0,
        at: 0,
        keys: Vec::new(),
        history: Vec::new(),
    };
    loop {
        let body = call
            .recv()
            .await?
            .ok_or_else(|| Lost::Broken("the state ended early".into()))?;
        match Part::decode(body).map_err(|e| Lost::Broken(e.to_string()))? {
            Part::Begin { seq, at } => (snapshot.seq, snapshot.at) = (seq, at),
            Part::Keys(keys) => snapshot.keys.extend(keys),
            Part::History(history) => snapshot.history.extend(history),
            Part::End => break,
        }
        let messages = snapshot.keys.len() + snapshot.history.len();
        if messages > MAX_STATE {
            return Err(Lost::Broken(format!(
                "a state of {messages} messages; the limit is {MAX_STATE}"
            )));
        }
    }
    let whole = snapshot
        .history
        .windows(2)
        .all(|pair| pair[0].seq + 1 == pair[1].seq);
    let last = snapshot
        .history
        .last()
        .is_none_or(|m| m.seq == snapshot.seq);
    if !whole || !last {
        return Err(Lost::Broken("the state's history has a hole".into()));
    }
    Ok(snapshot)
}
