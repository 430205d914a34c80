//! Who gives a room's messages their order, and what is asked of it over the backbone.

use std::time::Duration;

use longspan_proto::{
    ids::{Generation, NodeId, RoomName, Stream, Track, TrackId},
    wire::{
        Start,
        call::{Open, Status, Verb},
        moving::{Came, Moved},
        room::{Lead, Part},
    },
};
use longspan_relay::{
    node::{Call, CallError, Handle, RoomView, Subscription},
    roomlog::{Snapshot, position},
};

use super::view::Log;

/// How long a call may take to be accepted, and a state to come.
const CALL: Duration = Duration::from_secs(5);

/// How long a member of a placement group may take to say whether it leads, before the next one is
/// asked: three of the longest round trips on Earth.
const LEAD: Duration = Duration::from_secs(1);

/// Messages in a state, keys and history together: what a leader may hold by default, twice.
const MAX_STATE: usize = 32 << 10;

/// An ephemeral message that is older than this is worthless.
const EPHEMERAL_BUDGET: Duration = Duration::from_secs(2);

/// Who gives a room's messages their order, and under which generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub node: NodeId,
    pub generation: Generation,
    /// The placement group that it leads.
    pub group: u64,
    /// The room was moved to that group.
    pub came: Option<Came>,
}

/// Why a leader is not of use now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the leader said what it may not: {0}")]
    Broken(String),
    #[error("another member leads the group: {0:?}")]
    Elsewhere(Option<NodeId>),
    #[error("group {} keeps the room now", .0.group)]
    Moved(Moved),
    #[error("the track {track} ended: {why}")]
    Ended { track: &'static str, why: String },
}

/// Which placement group keeps the room's log, as told last; none yet where it has no place.
fn group_of(view: &mut RoomView) -> Option<u64> {
    let group = view.borrow_and_update().as_deref().map(|state| state.group);
    group.filter(|group| *group != 0)
}

/// Which placement group keeps the room's log, once it is known. Waits for ever where no controller
/// tells.
pub(super) async fn group(view: &mut RoomView) -> u64 {
    loop {
        if let Some(group) = group_of(view) {
            return group;
        }
        if view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns once it is another than this.
pub(super) async fn group_changed(known: u64, view: &mut RoomView) {
    loop {
        if group_of(view).is_some_and(|group| group != known) {
            return;
        }
        if view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The nodes that belong to the room's placement group, the likely leader first.
pub(super) fn members(view: &RoomView) -> Vec<NodeId> {
    let state = view.borrow();
    let names = state.iter().flat_map(|state| &state.members);
    names
        .filter_map(|name| {
            NodeId::new(name)
                .inspect_err(|error| tracing::warn!(%error, "a group's member has an odd name"))
                .ok()
        })
        .collect()
}

impl Leader {
    /// Calls a member of a placement group. If it leads, the call, and under which generation.
    pub async fn leading(
        handle: &Handle,
        room: &RoomName,
        verb: Verb,
        node: NodeId,
        group: u64,
    ) -> Result<(Call, Leader), Lost> {
        let mut leader = Leader {
            node,
            generation: Generation::default(),
            group,
            came: None,
        };
        let call = async {
            let mut call = handle.call(&leader.node, leader.open(room, verb)).await?;
            let first = call.recv().await?;
            Ok::<_, CallError>((call, first))
        };
        let called = tokio::time::timeout(LEAD, call).await;
        let (call, first) = match called.map_err(|_| Lost::Timeout(LEAD))? {
            Ok(called) => called,
            Err(CallError::Refused {
                status: Status::Elsewhere,
                message,
                ..
            }) => return Err(Lost::Elsewhere(NodeId::new(&message).ok())),
            Err(error) => return Err(error.into()),
        };
        let first = first.ok_or_else(|| Lost::Broken("it said no generation".into()))?;
        match Lead::decode(first).map_err(|e| Lost::Broken(e.to_string()))? {
            Some(Lead::Under { generation, came }) => {
                (leader.generation, leader.came) = (generation, came);
            }
            Some(Lead::Elsewhere { node }) => return Err(Lost::Elsewhere(node)),
            Some(Lead::Moved(moved)) => return Err(Lost::Moved(moved)),
            None => return Err(Lost::Broken("its first word is no generation".into())),
        }
        Ok((call, leader))
    }

    fn open(&self, room: &RoomName, verb: Verb) -> Open {
        Open {
            verb,
            path: Vec::new(),
            crossed: Vec::new(),
            room: room.clone(),
            generation: self.generation,
            ticket: bytes::Bytes::new(),
            group: self.group,
        }
    }

    /// Which log it is: its places mean nothing in another. A room that is moved takes its log along.
    pub fn id(&self) -> Log {
        match self.came {
            Some(Came { log, .. }) => Log {
                group: log.group,
                era: log.era,
            },
            None => Log {
                group: self.group,
                era: self.generation.era(),
            },
        }
    }

    /// The room's state, and its newest messages; with the log that they are of.
    pub async fn state(&self, handle: &Handle, room: &RoomName) -> Result<(Log, Snapshot), Lost> {
        let node = self.node.clone();
        let (call, leader) = Leader::leading(handle, room, Verb::State, node, self.group).await?;
        let log = leader.id();
        let read = tokio::time::timeout(CALL, read_state(call)).await;
        Ok((log, read.map_err(|_| Lost::Timeout(CALL))??))
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
            track: match self.came {
                Some(came) => track.since_move(came.word),
                None => track,
            },
            generation: self.generation,
        }
    }
}

async fn read_state(mut call: Call) -> Result<Snapshot, Lost> {
    let broken = |e: longspan_proto::wire::Error| Lost::Broken(e.to_string());
    let mut snapshot = Snapshot::default();
    loop {
        let body = call
            .recv()
            .await?
            .ok_or_else(|| Lost::Broken("the state ended early".into()))?;
        match Lead::decode(body.clone()).map_err(broken)? {
            Some(Lead::Elsewhere { node }) => return Err(Lost::Elsewhere(node)),
            Some(Lead::Moved(moved)) => return Err(Lost::Moved(moved)),
            _ => {}
        }
        match Part::decode(body).map_err(broken)? {
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
