//! Rooms that move: the driver of a group's [`Mover`], and its calls to other groups.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use longspan_proto::{
    control::{self, move_status},
    ids::{Generation, NodeId, Room, RoomName, Tenant},
    time::Time,
    wire::{
        MAX_VARINT,
        call::{Open, Status, Verb},
        moving::{Arrived, Carry, MAX_NODES, Moved},
        room::Lead,
    },
};
use metrics::counter;
use tokio::sync::mpsc;

use super::{
    super::{
        group::Group,
        machine::{Command, Whereabouts},
        mover::{Input, Output, Stage},
    },
    Life,
    port::{Ask, Place, Port},
    running::Running,
};
use crate::node::{Call, CallError, Handle};

/// A member of another group has said within this whether it leads, or is left: three of the longest
/// round trips on Earth.
const LEAD: Duration = Duration::from_secs(1);
/// Words that wait for a call. A mover has fewer without an answer; a call that takes none is given up.
const WORDS: usize = 64;

/// Calls to other groups, by number.
pub(super) struct Lines {
    handle: Handle,
    port: Arc<Port>,
    group: u64,
    life: Life,
    open: HashMap<u64, mpsc::Sender<Carry>>,
    /// What the mover saw of the machine last: how often something changed, and whether it leads.
    seen: Option<(u64, bool)>,
}

impl Lines {
    pub fn new(handle: Handle, port: Arc<Port>, group: u64, life: Life) -> Lines {
        Lines {
            handle,
            port,
            group,
            life,
            open: HashMap::new(),
            seen: None,
        }
    }

    /// Hangs up everywhere.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    fn open(&mut self, call: u64, room: RoomName, group: u64, node: NodeId) {
        let (words, said) = mpsc::channel(WORDS);
        self.open.insert(call, words);
        let handle = self.handle.clone();
        let mover = ToMover {
            port: self.port.clone(),
            group: self.group,
            life: self.life,
        };
        tokio::spawn(async move {
            let (leader, why) = talk(&handle, &room, group, &node, call, said, &mover).await;
            let why = format!("{node}: {why}");
            mover.tell(Input::Lost { call, leader, why }).await;
        });
    }
}

/// The way to the mover that a call is for.
struct ToMover {
    port: Arc<Port>,
    group: u64,
    life: Life,
}

impl ToMover {
    async fn tell(&self, input: Input) {
        let (group, life) = (self.group, self.life);
        self.port.ask(Ask::Line { group, life, input }).await;
    }
}

/// Calls a member of a group and says what there is to say, until the call is over: who leads instead,
/// if it said so, and why it is over.
async fn talk(
    handle: &Handle,
    room: &RoomName,
    group: u64,
    node: &NodeId,
    call: u64,
    mut said: mpsc::Receiver<Carry>,
    mover: &ToMover,
) -> (Option<NodeId>, String) {
    let reached = tokio::time::timeout(LEAD, reach(handle, room, group, node)).await;
    let line = match reached {
        Ok(Ok(line)) => line,
        Ok(Err(lost)) => return lost,
        Err(_) => return (None, format!("no answer within {LEAD:?}")),
    };
    mover.tell(Input::Called { call }).await;
    let (mut up, mut down) = line.split();
    let broken = |error: CallError| (None, error.to_string());
    loop {
        tokio::select! {
            carry = said.recv() => {
                let Some(carry) = carry else {
                    return (None, "it is not wanted any more".into());
                };
                let mut out = BytesMut::new();
                carry.encode(&mut out);
                if let Err(error) = up.send(out.freeze()).await {
                    return broken(error);
                }
            }
            body = down.recv() => {
                let body = match body {
                    Ok(Some(body)) => body,
                    Ok(None) => return (None, "the call ended".into()),
                    Err(error) => return broken(error),
                };
                match (Lead::decode(body.clone()), Arrived::decode(body)) {
                    (Ok(Some(Lead::Elsewhere { node })), _) => {
                        return (node, "it leads no more".into());
                    }
                    (Ok(None), Ok(Some(arrived))) => {
                        mover.tell(Input::Heard { call, arrived }).await;
                    }
                    _ => return (None, "it said what it may not".into()),
                }
            }
        }
    }
}

async fn reach(
    handle: &Handle,
    room: &RoomName,
    group: u64,
    node: &NodeId,
) -> Result<Call, (Option<NodeId>, String)> {
    let open = Open {
        verb: Verb::Move,
        path: Vec::new(),
        crossed: Vec::new(),
        room: room.clone(),
        generation: Generation::default(),
        ticket: bytes::Bytes::new(),
        group,
    };
    let mut call = match handle.call(node, open).await {
        Ok(call) => call,
        Err(CallError::Refused {
            status: Status::Elsewhere,
            message,
            ..
        }) => return Err((NodeId::new(&message).ok(), "another member leads".into())),
        Err(error) => return Err((None, error.to_string())),
    };
    let first = call.recv().await.map_err(|e| (None, e.to_string()))?;
    match first.map(Lead::decode) {
        Some(Ok(Some(Lead::Under { .. }))) => Ok(call),
        Some(Ok(Some(Lead::Elsewhere { node }))) => Err((node, "it leads no more".into())),
        _ => Err((None, "its first word is no generation".into())),
    }
}

impl Running {
    /// Where a room went, if it did.
    pub(super) fn moved(&self, room: &RoomName) -> Option<Moved> {
        match self.group.as_ref()?.machine().whereabouts(room) {
            Whereabouts::Away(moved) => Some(moved.clone()),
            _ => None,
        }
    }

    /// Whether a room takes messages.
    pub(super) fn place(&self, room: &RoomName) -> Place {
        let machine = self.group.as_ref().map(Group::machine);
        match machine.map(|machine| machine.whereabouts(room)) {
            Some(Whereabouts::Here | Whereabouts::Unknown) | None => Place::Here,
            Some(_) => Place::Moving,
        }
    }

    /// Lets the mover know, if the machine or the lead changed or its time has come; whether anything
    /// was put into the log.
    pub(super) fn look_at_moves(&mut self, now: Time) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let saw = (group.machine().moves_changed(), group.serves());
        let is_due = self.mover.poll_timeout().is_some_and(|due| due <= now);
        if self.lines.seen == Some(saw) && !is_due {
            return false;
        }
        if self
            .lines
            .seen
            .replace(saw)
            .is_some_and(|seen| seen.0 != saw.0)
        {
            self.turned = true;
            self.note_places();
        }
        self.move_on(now, Input::Look)
    }

    /// Tells whoever is in a room, or waits for it.
    fn note_places(&mut self) {
        let mut rooms = std::mem::take(&mut self.rooms);
        rooms.retain(|room, place| {
            let now = self.place(room);
            place.send_if_modified(|place| std::mem::replace(place, now) != now);
            // Whoever asked for one that is not here, and left, needs no place.
            now == Place::Here || place.receiver_count() > 0
        });
        self.rooms = rooms;
    }

    /// Gives the mover an input; whether anything was put into the log.
    pub(super) fn move_on(&mut self, now: Time, input: Input) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        self.mover
            .handle(now, group.machine(), group.serves(), input);
        let mut any = false;
        while let Some(output) = self.mover.poll_output() {
            match output {
                Output::Call {
                    call,
                    room,
                    group,
                    node,
                } => self.lines.open(call, room, group, node),
                Output::Say { call, carry } => {
                    let line = self.lines.open.get(&call);
                    if line.is_some_and(|line| line.try_send(carry).is_err()) {
                        // Its task says that the call is over.
                        self.lines.open.remove(&call);
                    }
                }
                Output::End { call } => drop(self.lines.open.remove(&call)),
                Output::Propose(command) => {
                    any = true;
                    self.tell_of(&command);
                    if let Command::Close { room, .. } = &command {
                        self.put_passed(now, &room.clone());
                    }
                    self.put(now, command);
                }
            }
        }
        any
    }

    fn tell_of(&self, command: &Command) {
        let group = self.record().id;
        match command {
            Command::Close { room, to, .. } => {
                tracing::info!(group, %room, to = to.group, word = to.word, "a room is closed to be moved");
            }
            Command::Reopen { room, word } => {
                tracing::warn!(group, %room, word, "a room's move is taken back");
            }
            Command::Gone { room, word } => {
                tracing::info!(group, %room, word, "a room is handed over");
            }
            _ => {}
        }
    }

    /// How far the moves are that a controller told of.
    pub(super) fn stages(&self) -> Vec<control::MoveStatus> {
        let Some(group) = &self.group else {
            return Vec::new();
        };
        let stages = self.mover.stages(group.machine());
        let status = |(room, word, stage): (RoomName, u64, Stage)| {
            let mut status = control::MoveStatus {
                tenant: room.tenant.to_string(),
                room: room.room.to_string(),
                word,
                from: self.record().id,
                ..control::MoveStatus::default()
            };
            let stage = match stage {
                Stage::Waiting => move_status::Stage::Waiting,
                Stage::Closed => move_status::Stage::Closed,
                Stage::Gone => move_status::Stage::Gone,
                Stage::Back(why) => {
                    status.why = why;
                    move_status::Stage::Back
                }
                Stage::Elsewhere(moved) => {
                    (status.group, status.moved) = (moved.group, moved.word);
                    move_status::Stage::Elsewhere
                }
            };
            status.set_stage(stage);
            status
        };
        stages.into_iter().map(status).collect()
    }
}

/// What a controller wishes, by the group that keeps the room. What makes no sense is left out, and
/// counted.
pub(super) fn parse(moves: &control::Moves) -> BTreeMap<u64, Vec<(RoomName, Moved)>> {
    let mut wishes: BTreeMap<u64, Vec<(RoomName, Moved)>> = BTreeMap::new();
    for told in &moves.moves {
        match one(told) {
            Ok(wish) => wishes.entry(told.from).or_default().push(wish),
            Err(why) => {
                counter!("longspan_rejected_total", "reason" => "room_move").increment(1);
                tracing::warn!(told.room, why, "a room's move makes no sense");
            }
        }
    }
    wishes
}

fn one(told: &control::RoomMove) -> Result<(RoomName, Moved), String> {
    let odd = |error: longspan_proto::ids::NameError| error.to_string();
    if told.word == 0 || told.to == 0 || told.word.max(told.to) > MAX_VARINT {
        return Err(format!(
            "its number {} or group {} is 0 or above {MAX_VARINT}",
            told.word, told.to
        ));
    }
    if told.nodes.is_empty() || told.nodes.len() > MAX_NODES {
        let count = told.nodes.len();
        return Err(format!("{count} nodes; there are 1 … {MAX_NODES}"));
    }
    let room = RoomName {
        tenant: Tenant::new(&told.tenant).map_err(odd)?,
        room: Room::new(&told.room).map_err(odd)?,
    };
    let nodes = told.nodes.iter().map(|node| NodeId::new(node));
    let moved = Moved {
        word: told.word,
        group: told.to,
        nodes: nodes.collect::<Result<_, _>>().map_err(odd)?,
    };
    Ok((room, moved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_wish_is_left_out() {
        let good = control::RoomMove {
            tenant: "default".into(),
            room: "math".into(),
            word: 7,
            from: 1,
            to: 2,
            nodes: vec!["relay-4".into()],
        };
        let refused = |change: &dyn Fn(&mut control::RoomMove)| {
            let mut told = good.clone();
            change(&mut told);
            let moves = vec![told, good.clone()];
            let wishes = parse(&control::Moves { moves });
            assert!(wishes[&1].iter().any(|(room, _)| *room.room == *"math"));
            wishes[&1].len() == 1
        };
        assert!(refused(&|told| told.word = 0));
        assert!(refused(&|told| told.word = u64::MAX));
        assert!(refused(&|told| told.to = 0));
        assert!(refused(&|told| told.nodes.clear()));
        assert!(refused(&|told| told.nodes = vec!["relay-4".into(); 17]));
        assert!(refused(&|told| told.nodes[0] = "Not A Name".into()));
        assert!(refused(&|told| told.tenant = String::new()));
        assert!(!refused(&|_| {}));
    }
}
