//! What the rest of a node sees of its placement groups.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use longspan_proto::{
    control,
    ids::{Generation, NodeId, RoomName, SessionId},
    wire::{
        moving::{Arrived, Came, Moved},
        room::Answer,
    },
};
use metrics::counter;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{
    super::{
        Snapshot,
        disk::Disk,
        group::{Member, Packet, Unserved},
        machine::Command,
        mover,
    },
    Life,
};

/// Packets that were heard and wait for the host. When full, the next is lost, and counted: Raft
/// repeats.
const HEARD: usize = 4_096;

/// What is asked of the host and waits for it. When full, whoever asks waits.
const ASKED: usize = 4_096;

/// A packet that was heard; a large one keeps its place among those that may be in memory.
pub(crate) struct Heard {
    pub packet: Packet,
    pub _place: Option<OwnedSemaphorePermit>,
}

/// Who leads a group, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// This node.
    pub leads: bool,
    pub generation: Generation,
    /// The leader's node, if it is known and another.
    pub elsewhere: Option<NodeId>,
}

/// A room of a group that this node leads, held for a call.
pub(crate) struct Entered {
    pub generation: Generation,
    /// The room began in another group, or was away.
    pub came: Option<Came>,
    pub standing: watch::Receiver<Standing>,
    /// While anybody holds it the room is not forgotten. It ends when the room is gone.
    pub place: watch::Receiver<Place>,
}

/// Whether a room takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It does.
    Here,
    /// It is about to go, or to come.
    Moving,
}

/// A group that this node leads.
pub(crate) struct Led {
    pub generation: Generation,
    pub standing: watch::Receiver<Standing>,
}

/// Why a call to a group is not served.
#[derive(Debug, Clone)]
pub(crate) enum NotHere {
    /// That node leads, or one that has no name here.
    Elsewhere(Option<NodeId>),
    /// Nobody leads now, as far as is known here.
    Leaderless(watch::Receiver<Standing>),
    /// Another group keeps the room.
    Moved(Moved),
    /// The room is about to go to another group, or to come from there.
    Moving(watch::Receiver<Place>),
    /// This node has no part in the group, or can go no further in it.
    Unavailable(String),
}

/// What is asked of the host.
pub(crate) enum Ask {
    /// A call comes to a room.
    Enter {
        group: u64,
        room: RoomName,
        reply: oneshot::Sender<Result<Entered, NotHere>>,
    },
    /// Under the generation that the call was told: do this.
    Do {
        group: u64,
        generation: Generation,
        command: Command,
        reply: oneshot::Sender<Result<Option<Answer>, Unserved>>,
    },
    /// Under the same: an edge's members of the room are still there; which roster of it is held?
    Beat {
        group: u64,
        generation: Generation,
        room: RoomName,
        session: SessionId,
        reply: oneshot::Sender<Result<Option<Answer>, Unserved>>,
    },
    /// A call comes from another group.
    Lead {
        group: u64,
        reply: oneshot::Sender<Result<Led, NotHere>>,
    },
    /// What is there of a room that comes by this move?
    Arrived {
        group: u64,
        room: RoomName,
        word: u64,
        reply: oneshot::Sender<Arrived>,
    },
    /// A call to another group brought something.
    Line {
        group: u64,
        life: Life,
        input: mover::Input,
    },
    /// Under the same: the room's state, as new as anybody has been told of.
    Read {
        group: u64,
        generation: Generation,
        room: RoomName,
        reply: oneshot::Sender<Result<Snapshot, Unserved>>,
    },
}

/// See the [module](self).
pub(crate) struct Port {
    /// Which file the groups of this node are kept in.
    pub disk: u64,
    heard: mpsc::Sender<Heard>,
    asked: mpsc::Sender<Ask>,
    /// The groups as a controller told them last.
    pub(super) told: watch::Sender<Arc<control::Groups>>,
    /// The rooms that are to move, as a controller told them last.
    pub(super) moves: watch::Sender<Arc<control::Moves>>,
    /// What operators want kept of rooms, as a controller told it last.
    pub(super) policies: watch::Sender<Arc<control::Policies>>,
    /// Which node a member is on.
    fellows: RwLock<HashMap<(u64, Member), NodeId>>,
    status: Mutex<Status>,
    records: Mutex<Vec<control::PlacementGroup>>,
    /// The node is about to stop: others shall lead.
    pub(super) resign: Notify,
    host: Mutex<Option<Start>>,
}

/// What a controller is told of groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// How they are.
    pub groups: Vec<control::GroupStatus>,
    /// Of moves of rooms away from them.
    pub moves: Vec<control::MoveStatus>,
    /// Of what operators want kept of their rooms.
    pub policies: Vec<control::PolicyStatus>,
}

/// What the host begins with.
pub(super) struct Start {
    pub disk: Disk,
    pub heard: mpsc::Receiver<Heard>,
    pub asked: mpsc::Receiver<Ask>,
}

impl Port {
    pub fn new(disk: Disk) -> Port {
        let (heard, from_neighbours) = mpsc::channel(HEARD);
        let (asked, from_calls) = mpsc::channel(ASKED);
        Port {
            disk: disk.id(),
            heard,
            asked,
            told: watch::Sender::default(),
            moves: watch::Sender::default(),
            policies: watch::Sender::default(),
            fellows: RwLock::default(),
            status: Mutex::default(),
            records: Mutex::default(),
            resign: Notify::new(),
            host: Mutex::new(Some(Start {
                disk,
                heard: from_neighbours,
                asked: from_calls,
            })),
        }
    }

    /// For the host, once.
    pub(super) fn start(&self) -> Option<Start> {
        self.host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// A controller told the groups.
    pub fn tell(&self, groups: control::Groups) {
        self.told.send_replace(Arc::new(groups));
    }

    /// A controller told which rooms are to move.
    pub fn tell_moves(&self, moves: control::Moves) {
        self.moves.send_replace(Arc::new(moves));
    }

    /// A controller told what operators want kept of rooms.
    pub fn tell_policies(&self, policies: control::Policies) {
        self.policies.send_replace(Arc::new(policies));
    }

    /// Lets others lead, as far as they can.
    pub fn resign(&self) {
        self.resign.notify_one();
    }

    /// Whether this member is on that node: only it may speak for it.
    pub fn is_fellow(&self, node: &NodeId, group: u64, member: Member) -> bool {
        let fellows = self.fellows.read().unwrap_or_else(PoisonError::into_inner);
        fellows.get(&(group, member)) == Some(node)
    }

    pub(super) fn set_fellows(&self, fellows: HashMap<(u64, Member), NodeId>) {
        *self.fellows.write().unwrap_or_else(PoisonError::into_inner) = fellows;
    }

    /// A neighbour's packet, if it may speak for the member it speaks for.
    pub fn hear(&self, from: &NodeId, packet: Packet, place: Option<OwnedSemaphorePermit>) {
        if !self.is_fellow(from, packet.group, packet.from) {
            return lost("stranger");
        }
        let heard = Heard {
            packet,
            _place: place,
        };
        if self.heard.try_send(heard).is_err() {
            lost("busy");
        }
    }

    /// Asks the host; waits while too much is asked already. If the host is gone, so is whoever
    /// waits for the reply.
    pub async fn ask(&self, ask: Ask) {
        let _ = self.asked.send(ask).await;
    }

    /// How the groups of this node are, moves of rooms away from them, and what they keep of rooms.
    pub fn status(&self) -> Status {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_status(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// The groups this node has a part in, as its disk remembers them.
    pub fn records(&self) -> Vec<control::PlacementGroup> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_records(&self, records: Vec<control::PlacementGroup>) {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner) = records;
    }
}

/// A packet was lost, and why.
pub(crate) fn lost(reason: &'static str) {
    counter!("longspan_log_packets_lost_total", "reason" => reason).increment(1);
}
