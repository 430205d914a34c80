//! What a hub holds of its room, behind its lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use longspan_proto::{
    ids::SessionId,
    time::Time,
    wire::room::{Answer, Request},
};
use tokio::sync::mpsc;

use super::super::{
    Limits,
    outbox::{Done, MemberKey, Outbox},
    presence::Reporter,
    rate::Rate,
    seat::Seat,
    view::View,
};

/// Requests of members, as they are written; the edge's own word; when there may be more.
pub(super) type Polled = (Option<Vec<bytes::Bytes>>, Option<Request>, Option<Time>);

pub(super) struct State {
    pub view: View,
    pub outbox: Outbox,
    pub presence: Reporter,
    /// What this edge's members of the room publish together.
    pub rate: Rate,
    /// In the order in which they came, as their connections lie in memory.
    members: BTreeMap<MemberKey, Here>,
    /// The seats of all of them; none since somebody came or went. To list them for each message was a fifteenth of
    /// what an edge with 500 members did.
    seats: Option<Arc<[Arc<Seat>]>>,
    pub sessions: HashMap<SessionId, Held>,
}

/// What this edge knows the leader to hold of a member's session. Told to a leader of a newer
/// generation, which knows nothing.
pub(super) struct Held {
    pub member: MemberKey,
    pub n: u64,
    /// The message of this number is in no log: it was ephemeral.
    pub passed: bool,
}

/// A member at this edge.
pub(super) struct Here {
    pub answers: mpsc::Sender<FromLeader>,
    pub seat: Arc<Seat>,
}

/// What a member hears of its requests.
#[derive(Debug)]
pub(in super::super) enum FromLeader {
    /// The answer.
    Answer(Answer),
    /// None came in time; n is 0 for the question what is held.
    Unavailable { n: u64 },
}

impl State {
    /// Nobody is here, and nothing is known.
    pub fn new(limits: &Limits) -> State {
        State {
            view: View::new(limits.view),
            outbox: Outbox::new(limits.outbox),
            presence: Reporter::new(SessionId(rand::random())),
            rate: Rate::new(limits.room_rate, limits.room_burst),
            members: BTreeMap::new(),
            seats: None,
            sessions: HashMap::new(),
        }
    }

    pub fn enter(&mut self, key: MemberKey, here: Here) {
        self.members.insert(key, here);
        self.seats = None;
    }

    pub fn leave(&mut self, key: MemberKey) {
        self.members.remove(&key);
        self.seats = None;
    }

    /// How many members are here.
    pub fn here(&self) -> usize {
        self.members.len()
    }

    /// The seats of all members here.
    pub fn seats(&mut self) -> Arc<[Arc<Seat>]> {
        let list = || {
            self.members
                .values()
                .map(|here| here.seat.clone())
                .collect()
        };
        self.seats.get_or_insert_with(list).clone()
    }

    /// A request is done: its member hears of it.
    pub fn done(&mut self, now: Time, done: Option<Done>, answer: Answer) {
        let held = match &answer {
            Answer::Acked { session, n, seq } => Some((session, *n, *seq == 0)),
            Answer::Held { session, n } => Some((session, *n, false)),
            Answer::Refused { .. } | Answer::Present { .. } => None,
        };
        if let Some((session, n, passed)) = held
            && let Some(held) = self.sessions.get_mut(session)
            && n > held.n
        {
            held.n = n;
            held.passed = passed;
        }
        let Some(done) = done else {
            return;
        };
        if matches!(answer, Answer::Acked { .. }) {
            metrics::histogram!("longspan_log_ack_seconds")
                .record(now.saturating_since(done.since).as_secs_f64());
        }
        self.tell(done.member, FromLeader::Answer(answer));
    }

    /// What is to be sent to the leader now, and when to look again.
    pub fn poll_send(&mut self, now: Time, presence: bool) -> Polled {
        let requests = self.outbox.poll_send();
        match presence {
            true => {
                let roster = self.presence.poll(now);
                (requests, roster, self.presence.poll_timeout())
            }
            false => (requests, None, None),
        }
    }

    /// How many members the room has, as far as is known.
    pub fn size(&self) -> u64 {
        let here = self.here() as u64;
        self.presence.crowd().map_or(here, |crowd| crowd.max(here))
    }

    pub fn notice_crowd(&mut self) {
        let crowd = self.view.crowd();
        self.presence.counted(crowd);
    }

    pub fn tell(&self, member: MemberKey, news: FromLeader) {
        if let Some(here) = self.members.get(&member)
            && here.answers.try_send(news).is_err()
        {
            // A member has fewer requests under way than its queue is long.
            tracing::error!("an answer to a member was lost: its queue is full or gone");
        }
    }

    /// What a leader that knows nothing of this edge's sessions is to be told.
    pub fn introductions(&self, of: impl Fn(&Held) -> bool) -> Vec<Request> {
        self.sessions
            .iter()
            .filter(|(_, held)| of(held))
            .map(|(session, held)| Request::PassOver {
                session: *session,
                first: 1,
                last: held.n,
            })
            .collect()
    }
}
