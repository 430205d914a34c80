//! What makes publishing exactly-once: per session the highest number held, and the last acks.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{BufMut, BytesMut};
use longspan_proto::{
    ids::SessionId,
    time::Time,
    wire::{
        Error, Reader, Writer,
        envelope::{Class, Envelope},
    },
};

use super::{Limits, Refusal};

#[derive(Debug)]
struct Session {
    /// The highest number that was acked or passed over: none up to it is ever taken again.
    held: u64,
    /// The highest number that was seen; above `held` only after refusals.
    seen: u64,
    /// The last acks, by rising n.
    acks: VecDeque<Ack>,
    /// Compare-and-sets above `held` that found another revision: sent again, they find the same.
    conflicts: VecDeque<Conflict>,
    used: Time,
}

impl Session {
    /// Forgets conflicts that `held` has passed; how many.
    fn settle(&mut self) -> usize {
        let before = self.conflicts.len();
        self.conflicts.retain(|conflict| conflict.n > self.held);
        before - self.conflicts.len()
    }
}

#[derive(Debug)]
struct Ack {
    n: u64,
    seq: u64,
    digest: u64,
}

#[derive(Debug)]
struct Conflict {
    n: u64,
    revision: u64,
    digest: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: HashMap<SessionId, Session>,
    /// By last use, so that the oldest is found without a walk.
    by_use: BTreeSet<(Time, SessionId)>,
    ended: BTreeMap<SessionId, u64>,
    ended_order: BTreeMap<u64, SessionId>,
    ended_count: u64,
    /// Acks and conflicts of all of them.
    acks: usize,
}

impl Sessions {
    /// A message comes. `Ok(None)`: it is the session's next; `Ok(Some(seq))`: it was taken
    /// before, at this place.
    pub fn enter(
        &mut self,
        limits: &Limits,
        now: Time,
        id: SessionId,
        n: u64,
        digest: u64,
    ) -> Result<Option<u64>, Refusal> {
        self.expire(limits, now);
        if n == 0 {
            return Err(Refusal::WentBack { n, held: 0 });
        }
        if !self.by_id.contains_key(&id) {
            if self.ended.contains_key(&id) {
                return Err(Refusal::SessionExpired);
            }
            if n != 1 {
                return Err(Refusal::Jumped { n, expected: 1 });
            }
            self.begin(limits, now, id)?;
        }
        self.touch(now, id);
        let Some(session) = self.by_id.get_mut(&id) else {
            return Err(Refusal::SessionExpired);
        };
        if n > session.seen + 1 {
            return Err(Refusal::Jumped {
                n,
                expected: session.seen + 1,
            });
        }
        if n > session.held {
            session.seen = session.seen.max(n);
            return Ok(None);
        }
        match session.acks.binary_search_by_key(&n, |ack| ack.n) {
            Ok(at) if session.acks[at].digest == digest => Ok(Some(session.acks[at].seq)),
            Ok(at) => Err(Refusal::Reused {
                n,
                seq: session.acks[at].seq,
            }),
            Err(_) => Err(Refusal::WentBack {
                n,
                held: session.held,
            }),
        }
    }

    /// Which revision this very message found when it was refused before; None: it was not, or by
    /// now it is not known any more. A copy that was late may not do what its publisher believes
    /// not done.
    pub fn conflicted(&self, id: SessionId, n: u64, digest: u64) -> Option<u64> {
        let session = self.by_id.get(&id)?;
        let mut conflicts = session.conflicts.iter();
        let found = conflicts.find(|conflict| (conflict.n, conflict.digest) == (n, digest));
        found.map(|conflict| conflict.revision)
    }

    /// The message that entered last found another revision than it expected.
    pub fn refused(&mut self, limits: &Limits, id: SessionId, n: u64, revision: u64, digest: u64) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.conflicts.push_back(Conflict {
                n,
                revision,
                digest,
            });
            self.acks += 1;
            if session.conflicts.len() > limits.acks {
                session.conflicts.pop_front();
                self.acks -= 1;
            }
        }
    }

    /// The message that entered last was taken.
    pub fn acked(&mut self, limits: &Limits, id: SessionId, n: u64, seq: u64, digest: u64) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.held = n;
            self.acks -= session.settle();
            session.acks.push_back(Ack { n, seq, digest });
            if session.acks.len() > limits.acks {
                session.acks.pop_front();
            } else {
                self.acks += 1;
            }
        }
    }

    /// See [`super::Room::pass_over`].
    pub fn pass_over(&mut self, limits: &Limits, now: Time, id: SessionId, first: u64, last: u64) {
        self.expire(limits, now);
        if !self.by_id.contains_key(&id)
            && (first != 1 || self.ended.contains_key(&id) || self.begin(limits, now, id).is_err())
        {
            return;
        }
        self.touch(now, id);
        if let Some(session) = self.by_id.get_mut(&id)
            && first <= session.seen + 1
        {
            session.held = session.held.max(last);
            session.seen = session.seen.max(last);
            self.acks -= session.settle();
        }
    }

    /// See [`super::Room::held`].
    pub fn held(&mut self, limits: &Limits, now: Time, id: SessionId) -> Result<u64, Refusal> {
        self.expire(limits, now);
        if self.ended.contains_key(&id) {
            return Err(Refusal::SessionExpired);
        }
        self.touch(now, id);
        Ok(self.by_id.get(&id).map_or(0, |session| session.held))
    }

    /// See [`super::Room::peek_held`].
    pub fn peek_held(&self, id: SessionId) -> u64 {
        self.by_id.get(&id).map_or(0, |session| session.held)
    }

    /// What they cost in memory, about, in bytes.
    pub fn cost(&self) -> usize {
        const FIXED: usize = 160;
        const ID: usize = 64;
        self.by_id.len() * FIXED + self.acks * size_of::<Ack>() + self.ended.len() * ID
    }

    /// Appends them by last use, then id: whoever reads them back lets them expire in this order.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(self.by_use.len() as u64);
        for (used, id) in &self.by_use {
            let Some(session) = self.by_id.get(id) else {
                continue;
            };
            out.put_slice(&id.0);
            out.varint(session.held);
            out.varint(session.seen);
            out.varint(used.as_micros());
            out.varint(session.acks.len() as u64);
            for ack in &session.acks {
                out.varint(ack.n);
                out.varint(ack.seq);
                out.put_u64(ack.digest);
            }
            out.varint(session.conflicts.len() as u64);
            for conflict in &session.conflicts {
                out.varint(conflict.n);
                out.varint(conflict.revision);
                out.put_u64(conflict.digest);
            }
        }
        out.varint(self.ended_order.len() as u64);
        for id in self.ended_order.values() {
            out.put_slice(&id.0);
        }
    }

    /// Reads what [`Sessions::encode`] wrote.
    pub fn decode(limits: &Limits, r: &mut Reader) -> Result<Sessions, Error> {
        let mut sessions = Sessions::default();
        for _ in 0..r.varint_up_to("sessions", limits.sessions as u64)? {
            let id = SessionId(r.array("session")?);
            let (held, seen) = (r.varint("held")?, r.varint("seen")?);
            let used = Time::from_micros(r.varint("used")?);
            let mut acks = VecDeque::new();
            for _ in 0..r.varint_up_to("acks", limits.acks as u64)? {
                acks.push_back(Ack {
                    n: r.varint("ack's n")?,
                    seq: r.varint("ack's seq")?,
                    digest: u64::from_be_bytes(r.array("digest")?),
                });
            }
            let mut conflicts = VecDeque::new();
            for _ in 0..r.varint_up_to("conflicts", limits.acks as u64)? {
                conflicts.push_back(Conflict {
                    n: r.varint("conflict's n")?,
                    revision: r.varint("conflict's revision")?,
                    digest: u64::from_be_bytes(r.array("digest")?),
                });
            }
            let session = Session {
                held,
                seen,
                acks,
                conflicts,
                used,
            };
            sessions.acks += session.acks.len() + session.conflicts.len();
            sessions.by_use.insert((used, id));
            sessions.by_id.insert(id, session);
        }
        for _ in 0..r.varint_up_to("ended sessions", limits.ended_sessions as u64)? {
            sessions.end(SessionId(r.array("session")?));
        }
        Ok(sessions)
    }

    fn begin(&mut self, limits: &Limits, now: Time, id: SessionId) -> Result<(), Refusal> {
        if self.by_id.len() >= limits.sessions {
            return Err(Refusal::Full {
                what: "sessions",
                limit: limits.sessions,
            });
        }
        let session = Session {
            held: 0,
            seen: 0,
            acks: VecDeque::new(),
            conflicts: VecDeque::new(),
            used: now,
        };
        self.by_id.insert(id, session);
        self.by_use.insert((now, id));
        Ok(())
    }

    fn touch(&mut self, now: Time, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id) {
            self.by_use.remove(&(session.used, id));
            session.used = now;
            self.by_use.insert((now, id));
        }
    }

    /// Forgets sessions past their time; their ids stay for a while.
    fn expire(&mut self, limits: &Limits, now: Time) {
        while let Some(&(used, id)) = self.by_use.first() {
            if now.saturating_since(used) <= limits.session_idle {
                break;
            }
            self.by_use.pop_first();
            let gone = self.by_id.remove(&id);
            self.acks -= gone.map_or(0, |session| session.acks.len() + session.conflicts.len());
            self.end(id);
            if self.ended.len() > limits.ended_sessions
                && let Some((_, oldest)) = self.ended_order.pop_first()
            {
                self.ended.remove(&oldest);
            }
        }
    }

    fn end(&mut self, id: SessionId) {
        self.ended_count += 1;
        self.ended.insert(id, self.ended_count);
        self.ended_order.insert(self.ended_count, id);
    }
}

/// Tells a resend from another message under the same number: FNV-1a, 64 bits, over what the
/// publisher wrote. Written out because it must be the same in every version of a replica; not
/// meant against an adversary, who could only fool himself.
pub(super) fn digest(message: &Envelope) -> u64 {
    let class = [match message.class {
        Class::Log => 1,
        Class::State => 2,
        Class::Ephemeral => 3,
    }];
    let key = message.key.as_deref().unwrap_or_default();
    let expected = message.expected.map_or(u64::MAX, |e| e).to_be_bytes();
    let parts: [&[u8]; 5] = [
        &class,
        message.topic.as_bytes(),
        key.as_bytes(),
        &expected,
        &message.body,
    ];
    fnv(parts)
}

/// FNV-1a, 64 bits, over the parts and their lengths.
pub(super) fn fnv<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for part in parts {
        let length = (part.len() as u64).to_be_bytes();
        for byte in length.iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    hash
}
