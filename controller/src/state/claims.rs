//! Who publishes what: one publisher a stream, under a generation nobody had before.
//!
//! A claim reads the last generation given out, and commits the next one on the condition that no
//! other was given out meanwhile. Claims of one stream go one after another; those of different
//! streams side by side.

use std::collections::{BTreeSet, HashMap, VecDeque};

use longspan_proto::{
    ids::{Generation, NodeId, RoomName, Stream},
    wire::Role,
};

use super::{
    Call, Claim, Done, Granted, Now, Output, Refused, State, Ticket, key::Key, record,
    sync::Purpose,
};
use crate::store::{Entry, Error, Write};

/// How often a claim begins anew because the store changed meanwhile.
const ATTEMPTS: u32 = 5;

type Name = (RoomName, Stream);

/// Claims under way, and what they left in doubt.
#[derive(Debug, Default)]
pub(super) struct Claims {
    slots: HashMap<Name, Slot>,
    /// Claims in all queues.
    waiting: usize,
    /// Generations whose commit may have happened although its publisher was told otherwise (or
    /// has left): their record is deleted when it shows.
    doubted: HashMap<Name, BTreeSet<Generation>>,
    /// The streams each edge holds.
    pub(super) holders: HashMap<NodeId, BTreeSet<Name>>,
}

#[derive(Debug, Default)]
struct Slot {
    queue: VecDeque<(Ticket, Claim)>,
    /// What the first in the queue waits for.
    step: Step,
    attempts: u32,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// The edge's lease is not in the store yet.
    Lease,
    Reading,
    Committing(Granted, Vec<Write>),
    /// Something other than a claim writes the stream's record.
    Occupied,
}

impl Claims {
    pub(super) fn held_by(&self, edge: &NodeId) -> Vec<Name> {
        let held = self.holders.get(edge);
        held.into_iter().flatten().cloned().collect()
    }

    pub(super) fn is_busy(&self, room: &RoomName, stream: &Stream) -> bool {
        let slot = self.slots.get(&(room.clone(), stream.clone()));
        slot.is_some_and(|slot| !matches!(slot.step, Step::Idle))
    }

    pub(super) fn occupy(&mut self, room: &RoomName, stream: &Stream) {
        let slot = self.slots.entry((room.clone(), stream.clone()));
        slot.or_default().step = Step::Occupied;
    }

    pub(super) fn doubt(&mut self, room: RoomName, stream: Stream, generation: Generation) {
        let doubted = self.doubted.entry((room, stream)).or_default();
        doubted.insert(generation);
    }

    pub(super) fn undoubt(&mut self, room: &RoomName, stream: &Stream) {
        self.doubted.remove(&(room.clone(), stream.clone()));
    }

    pub(super) fn is_doubted(&self, room: &RoomName, stream: &Stream, of: Generation) -> bool {
        let doubted = self.doubted.get(&(room.clone(), stream.clone()));
        doubted.is_some_and(|doubted| doubted.contains(&of))
    }
}

impl State {
    pub(super) fn claim(&mut self, now: Now, ticket: Ticket, claim: Claim) {
        let refused = if self.claims.waiting >= self.limits.commits {
            let limit = self.limits.commits;
            Some(Refused::Unavailable(format!(
                "{limit} claims wait for the store, the limit"
            )))
        } else {
            self.refuses(&claim)
        };
        if let Some(refused) = refused {
            self.outputs
                .push_back(Output::Claimed(ticket, Err(refused)));
            return;
        }
        let (room, stream) = (claim.room.clone(), claim.stream.clone());
        let slot = self.claims.slots.entry((room.clone(), stream.clone()));
        slot.or_default().queue.push_back((ticket, claim));
        self.claims.waiting += 1;
        if !self.claims.is_busy(&room, &stream) {
            self.next_claim(now, room, stream);
        }
    }

    /// Why a claim cannot be granted now.
    fn refuses(&self, claim: &Claim) -> Option<Refused> {
        if claim.stream.is_reserved() {
            return Some(Refused::Reserved(claim.stream.clone()));
        }
        let node = self.nodes.get(&claim.edge);
        if node.is_none_or(|n| n.lease != claim.session || n.info.role != Role::Edge) {
            return Some(Refused::NoSession {
                session: claim.session,
                edge: claim.edge.clone(),
            });
        }
        if !self.rooms.contains_key(&claim.room) && self.rooms.len() >= self.limits.rooms {
            return Some(Refused::Limit {
                what: "rooms",
                limit: self.limits.rooms,
            });
        }
        if let Some(room) = self.rooms.get(&claim.room) {
            let held = room.streams.get(&claim.stream);
            if let Some(held) = held
                && held.record.identity != claim.identity
            {
                return Some(Refused::Held {
                    room: claim.room.clone(),
                    stream: claim.stream.clone(),
                    origin: held.record.origin.clone(),
                });
            }
            if held.is_none() && room.streams.len() >= self.limits.streams_per_room {
                return Some(Refused::Limit {
                    what: "streams in one room",
                    limit: self.limits.streams_per_room,
                });
            }
        }
        (!self.store_up).then(|| {
            let what = "the store cannot be reached, so no stream can be claimed now";
            Refused::Unavailable(what.into())
        })
    }

    /// Goes on with the first claim of a stream's queue.
    pub(super) fn next_claim(&mut self, _now: Now, room: RoomName, stream: Stream) {
        let name = (room.clone(), stream.clone());
        loop {
            let Some(slot) = self.claims.slots.get_mut(&name) else {
                return;
            };
            slot.step = Step::Idle;
            slot.attempts = 0;
            let Some((ticket, claim)) = slot.queue.front().cloned() else {
                self.claims.slots.remove(&name);
                return;
            };
            match self.refuses(&claim) {
                None => break,
                Some(refused) => {
                    self.outputs
                        .push_back(Output::Claimed(ticket, Err(refused)));
                    self.pop_claim(&name);
                }
            }
        }
        self.read_generation(room, stream);
    }

    fn pop_claim(&mut self, name: &Name) {
        if let Some(slot) = self.claims.slots.get_mut(name)
            && slot.queue.pop_front().is_some()
        {
            self.claims.waiting -= 1;
        }
    }

    /// The first step: what was given out last?
    fn read_generation(&mut self, room: RoomName, stream: Stream) {
        let name = (room.clone(), stream.clone());
        let Some(slot) = self.claims.slots.get_mut(&name) else {
            return;
        };
        let Some((_, claim)) = slot.queue.front() else {
            return;
        };
        let edge = claim.edge.clone();
        if !self.nodes.get(&edge).is_some_and(|n| n.granted) {
            slot.step = Step::Lease;
            self.sync(&edge);
            return;
        }
        slot.step = Step::Reading;
        let key = Key::Generation(room.clone(), stream.clone()).to_string();
        self.call(Purpose::Claim(room, stream), Call::Read(key));
    }

    /// Claims that waited for this edge's lease go on.
    pub(super) fn lease_is_there(&mut self, _now: Now, edge: &NodeId) {
        if !self.nodes.get(edge).is_some_and(|n| n.granted) {
            return;
        }
        let waits = |slot: &Slot| {
            let first = slot.queue.front();
            matches!(slot.step, Step::Lease) && first.is_some_and(|(_, c)| c.edge == *edge)
        };
        let slots = self.claims.slots.iter().filter(|(_, slot)| waits(slot));
        let names: Vec<Name> = slots.map(|(name, _)| name.clone()).collect();
        for (room, stream) in names {
            self.read_generation(room, stream);
        }
    }

    /// The store is back: what was under way begins anew, and its commits are in doubt.
    pub(super) fn resume_claims(&mut self, now: Now) {
        let names: Vec<Name> = self.claims.slots.keys().cloned().collect();
        for (room, stream) in names {
            let slot = self.claims.slots.get(&(room.clone(), stream.clone()));
            if let Some(Step::Committing(granted, _)) = slot.map(|slot| &slot.step) {
                let generation = granted.generation;
                self.claims.doubt(room.clone(), stream.clone(), generation);
            }
            self.next_claim(now, room, stream);
        }
    }

    pub(super) fn claim_step(
        &mut self,
        now: Now,
        room: RoomName,
        stream: Stream,
        result: Result<Done, Error>,
    ) {
        let name = (room.clone(), stream.clone());
        let Some(slot) = self.claims.slots.get_mut(&name) else {
            return;
        };
        let Some((ticket, claim)) = slot.queue.front().cloned() else {
            return;
        };
        let step = std::mem::take(&mut slot.step);
        slot.attempts += 1;
        let again = slot.attempts < ATTEMPTS * 2;
        let answer = match (step, result) {
            (Step::Reading, Ok(Done::Entry(entry))) => {
                match self.commit_next(now, &claim, entry.as_ref()) {
                    Ok(()) => return,
                    Err(refused) => Err(refused),
                }
            }
            (Step::Committing(granted, writes), Ok(Done::Committed(revision))) => {
                self.mirror_writes(&writes, revision);
                self.hold(now, &claim, granted);
                Ok(granted)
            }
            (Step::Committing(..), Err(Error::Conflict)) if again => {
                self.read_generation(room, stream);
                return;
            }
            (Step::Committing(..), Err(Error::LeaseNotFound(_))) if again => {
                self.lease_lost(&claim.edge);
                self.read_generation(room, stream);
                return;
            }
            (Step::Committing(granted, _), Err(error)) => {
                if matches!(error, Error::Unavailable(_)) {
                    self.claims
                        .doubt(room.clone(), stream.clone(), granted.generation);
                }
                Err(unavailable(&error))
            }
            (_, Err(error)) => Err(unavailable(&error)),
            _ => Err(Refused::Unavailable("the claim was interrupted".into())),
        };
        self.outputs.push_back(Output::Claimed(ticket, answer));
        self.pop_claim(&name);
        self.next_claim(now, room, stream);
    }

    /// The second step: the next generation, if nobody was faster.
    fn commit_next(
        &mut self,
        now: Now,
        claim: &Claim,
        entry: Option<&Entry>,
    ) -> Result<(), Refused> {
        let (room, stream) = (claim.room.clone(), claim.stream.clone());
        let held = self.rooms.get(&room).and_then(|r| r.streams.get(&stream));
        let held = held.map(|h| record::Issued {
            generation: h.record.generation,
            hls_base: h.record.hls_base,
        });
        let key = Key::Generation(room.clone(), stream.clone()).to_string();
        let (compare, last) = self.last_issued(key.clone(), entry, held)?;
        let issued = self.next_issued(last, now.unix_ms / 1_000);
        let granted = Granted {
            generation: issued.generation,
            hls_base: issued.hls_base,
        };
        let record = record::Stream {
            origin: claim.edge.clone(),
            generation: granted.generation,
            hls_base: granted.hls_base,
            identity: claim.identity.clone(),
            claimed_ms: now.unix_ms,
        };
        let writes = vec![
            Write::Put {
                key,
                value: record::write(&issued),
                lease: None,
            },
            Write::Put {
                key: Key::Stream(room.clone(), stream.clone()).to_string(),
                value: record::write(&record),
                lease: Some(claim.session),
            },
        ];
        if let Some(slot) = self.claims.slots.get_mut(&(room.clone(), stream.clone())) {
            slot.step = Step::Committing(granted, writes.clone());
        }
        let call = self.fenced(vec![compare], writes);
        self.call(Purpose::Claim(room, stream), call);
        Ok(())
    }
}

fn unavailable(error: &Error) -> Refused {
    Refused::Unavailable(format!("the stream cannot be claimed now: {error}"))
}
