//! What an edge's members of a room have said and the leader of the room's log has not answered yet. Pure.
//!
//! The order is kept over reconnects: everything unanswered is sent again, and the leader answers
//! what it knows already with its first place.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    ids::SessionId,
    time::Time,
    wire::{
        room::{Answer, Request},
        roster::Roster,
    },
};

/// How much a room's members may have unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests; a further one is answered `busy`.
    pub requests: usize,
    /// Their bytes; a further one is answered `busy`.
    pub bytes: usize,
    /// After this long a request is answered `unavailable`: twice the longest election.
    pub patience: Duration,
    /// A call that brings no answer for so long is opened anew, to whoever leads by then.
    pub stuck: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            requests: 4_096,
            bytes: 4 << 20,
            patience: Duration::from_secs(6),
            stuck: Duration::from_secs(2),
        }
    }
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey(pub u64);

/// As many requests wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// The limit.
    pub limit: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    waiting: VecDeque<Waiting>,
    /// How many of them, from the front, were sent on the present call.
    sent: usize,
    bytes: usize,
    /// When the present call was opened, or brought an answer last.
    alive: Time,
}

#[derive(Debug)]
struct Waiting {
    member: MemberKey,
    session: SessionId,
    /// 0: the question what is held.
    n: u64,
    written: Vec<Bytes>,
    since: Time,
}

/// A request that was answered, or given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Who waits for it.
    pub member: MemberKey,
    /// The session.
    pub session: SessionId,
    /// The number; 0: the question what is held.
    pub n: u64,
    /// When it was made.
    pub since: Time,
}

impl Outbox {
    /// Nothing waits.
    pub fn new(limits: Limits) -> Outbox {
        Outbox {
            limits,
            waiting: VecDeque::new(),
            sent: 0,
            bytes: 0,
            alive: Time::ZERO,
        }
    }

    /// Takes what a member asks: one request that is answered, and before it what is not.
    pub fn push(
        &mut self,
        now: Time,
        member: MemberKey,
        lead: Option<Request>,
        request: &Request,
    ) -> Result<(), Full> {
        let (session, n) = match request {
            Request::Publish(message) => (message.session, message.n),
            Request::Ask { session }
            | Request::PassOver { session, .. }
            | Request::Roster(Roster { session, .. })
            | Request::Beat { session } => (*session, 0),
        };
        let written: Vec<Bytes> = lead.iter().chain([request]).map(written).collect();
        let size: usize = written.iter().map(Bytes::len).sum();
        if self.waiting.len() >= self.limits.requests {
            return Err(Full {
                limit: self.limits.requests,
            });
        }
        if self.bytes + size > self.limits.bytes {
            return Err(Full {
                limit: self.limits.bytes,
            });
        }
        self.bytes += size;
        self.waiting.push_back(Waiting {
            member,
            session,
            n,
            written,
            since: now,
        });
        Ok(())
    }

    /// A call is open: everything that waits is sent on it.
    pub fn connected(&mut self, now: Time) {
        self.sent = 0;
        self.alive = now;
    }

    /// The present call brought something.
    pub fn alive(&mut self, now: Time) {
        self.alive = now;
    }

    /// Whether something was sent on the present call and nothing has come on it for too long.
    pub fn is_stuck(&self, now: Time) -> bool {
        let sent = self.waiting.front().filter(|_| self.sent > 0);
        sent.is_some_and(|first| {
            now.saturating_since(self.alive.max(first.since)) >= self.limits.stuck
        })
    }

    /// What is to be sent next.
    pub fn poll_send(&mut self) -> Option<Vec<Bytes>> {
        let next = self.waiting.get(self.sent)?;
        self.sent += 1;
        Some(next.written.clone())
    }

    /// The leader answered; whom this is for. Nobody, if it was given up.
    pub fn answered(&mut self, answer: &Answer) -> Option<Done> {
        let (session, n) = match answer {
            Answer::Acked { session, n, .. } | Answer::Refused { session, n, .. } => (*session, *n),
            Answer::Held { session, .. } => (*session, 0),
            // Nobody waits for it here.
            Answer::Present { .. } => return None,
        };
        self.take(session, n)
    }

    /// A message was seen in the log: it has its place, whether its ack comes or not.
    pub fn seen(&mut self, session: SessionId, n: u64) -> Option<Done> {
        self.take(session, n)
    }

    fn take(&mut self, session: SessionId, n: u64) -> Option<Done> {
        let at = self
            .waiting
            .iter()
            .position(|waiting| waiting.session == session && waiting.n == n)?;
        self.remove(at)
    }

    /// Gives up what waited too long.
    pub fn expire(&mut self, now: Time) -> Vec<Done> {
        let mut done = Vec::new();
        while let Some(first) = self.waiting.front()
            && now.saturating_since(first.since) >= self.limits.patience
        {
            done.extend(self.remove(0));
        }
        done
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn remove(&mut self, at: usize) -> Option<Done> {
        let waiting = self.waiting.remove(at)?;
        if at < self.sent {
            self.sent -= 1;
        }
        self.bytes -= waiting.written.iter().map(Bytes::len).sum::<usize>();
        Some(Done {
            member: waiting.member,
            session: waiting.session,
            n: waiting.n,
            since: waiting.since,
        })
    }
}

/// A request as it is sent.
pub fn written(request: &Request) -> Bytes {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(id: u8) -> Request {
        Request::Ask {
            session: SessionId([id; 16]),
        }
    }

    fn held(id: u8) -> Answer {
        Answer::Held {
            session: SessionId([id; 16]),
            n: 7,
        }
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn outbox() -> Outbox {
        Outbox::new(Limits {
            requests: 3,
            patience: Duration::from_secs(1),
            stuck: Duration::from_secs(1),
            ..Limits::default()
        })
    }

    fn push(outbox: &mut Outbox, ms: u64, id: u8) -> Result<(), Full> {
        outbox.push(at(ms), MemberKey(id.into()), None, &ask(id))
    }

    fn send(outbox: &mut Outbox) -> Vec<u8> {
        std::iter::from_fn(|| outbox.poll_send())
            .map(|written| written[0][1])
            .collect()
    }

    #[test]
    fn what_is_unanswered_is_sent_again_in_order() {
        let mut outbox = outbox();
        for id in 1..=3 {
            push(&mut outbox, 0, id).unwrap();
        }
        assert_eq!(send(&mut outbox), [1, 2, 3]);
        assert_eq!(outbox.answered(&held(1)).unwrap().member, MemberKey(1));
        assert_eq!(outbox.answered(&held(1)), None);
        assert!(send(&mut outbox).is_empty());
        push(&mut outbox, 0, 4).unwrap();
        outbox.connected(at(0));
        assert_eq!(send(&mut outbox), [2, 3, 4]);
        assert_eq!(outbox.len(), 3);
    }

    #[test]
    fn what_waits_too_long_is_given_up_and_its_late_answer_is_for_nobody() {
        let mut outbox = outbox();
        push(&mut outbox, 0, 1).unwrap();
        push(&mut outbox, 500, 2).unwrap();
        assert_eq!(send(&mut outbox), [1, 2]);
        assert!(outbox.expire(at(999)).is_empty());
        assert_eq!(outbox.expire(at(1_000))[0].member, MemberKey(1));
        assert_eq!(outbox.answered(&held(1)), None);
        push(&mut outbox, 1_000, 3).unwrap();
        assert_eq!(send(&mut outbox), [3]);
    }

    #[test]
    fn a_call_that_brings_nothing_is_stuck() {
        let mut outbox = outbox();
        outbox.connected(at(0));
        assert!(!outbox.is_stuck(at(9_000)), "nothing is asked");
        push(&mut outbox, 100, 1).unwrap();
        assert!(!outbox.is_stuck(at(9_000)), "nothing was sent");
        send(&mut outbox);
        assert!(!outbox.is_stuck(at(1_099)));
        assert!(outbox.is_stuck(at(1_100)));
        outbox.alive(at(1_000));
        assert!(!outbox.is_stuck(at(1_999)));
        outbox.connected(at(2_000));
        assert!(!outbox.is_stuck(at(9_000)), "it is to be sent anew");
    }

    #[test]
    fn it_is_bounded_in_requests_and_bytes() {
        let mut outbox = outbox();
        for id in 1..=3 {
            push(&mut outbox, 0, id).unwrap();
        }
        assert_eq!(push(&mut outbox, 0, 4), Err(Full { limit: 3 }));
        let mut small = Outbox::new(Limits {
            bytes: 40,
            ..Limits::default()
        });
        push(&mut small, 0, 1).unwrap();
        push(&mut small, 0, 2).unwrap();
        assert_eq!(push(&mut small, 0, 3), Err(Full { limit: 40 }));
        small.answered(&held(1)).unwrap();
        push(&mut small, 0, 3).unwrap();
    }
}
