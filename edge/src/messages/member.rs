//! One member's side of the conversation. Pure: [`Member::receive`] what the member says,
//! [`Member::answer`] what the leader says, [`Member::pull`] what the room has for it, and
//! [`Member::tick`]; do the [`Action`]s in their order.

mod limits;

use std::sync::Arc;

use longspan_proto::{
    ids::{RoomName, SessionId},
    time::Time,
    wire::{
        envelope::{Envelope, MAX_BODY},
        room::{Answer, Request},
    },
};

pub use self::limits::Limits;
use super::{
    leaving::Leaving,
    rate::Rate,
    view::{Batch, Cursor, Next, View},
    wire::{self, Incoming, Invalid, Outgoing, Publish, Resume},
};
use crate::{grants::Grants, metrics::rejected};

/// Ordered and ephemeral messages in one batch, at most.
const BATCH: usize = 128;
/// Bytes in one batch, about.
const BATCH_BYTES: usize = 16 << 10;
/// Bytes in one piece of the state, about.
const STATE_BYTES: usize = 16 << 10;

/// What is to be done for a member.
#[derive(Debug)]
pub enum Action {
    /// Tell the member.
    Send(Outgoing),
    /// Give the member these messages of the room.
    Deliver(Batch),
    /// Ask the leader of the room's log; first, what needs no answer.
    Ask {
        /// What needs no answer.
        lead: Option<Request>,
        /// What does.
        request: Box<Request>,
    },
    /// Send a WebSocket ping.
    Ping,
    /// Messages were missed: count it.
    CountGap,
    /// Close, after what was said before.
    Close {
        /// The WebSocket close code (RFC 6455 §7.4.1).
        code: u16,
        /// Why, for programs.
        slug: &'static str,
        /// Why, in words.
        message: String,
    },
}

/// A policy was violated (RFC 6455 §7.4.1).
pub const CLOSE_POLICY: u16 = 1008;
/// This end is going away.
pub const CLOSE_AWAY: u16 = 1001;

/// See the [module](self).
#[derive(Debug)]
pub struct Member {
    name: Arc<str>,
    room: RoomName,
    grants: Grants,
    limits: Limits,
    phase: Phase,
    since: Time,
    heard: Time,
    pinged: Time,
    rate: Rate,
    unanswered: usize,
    errors: u32,
    gaps: Vec<Time>,
    /// See [`Cursor::skipping`].
    skips: bool,
    /// The highest number that was passed on to the leader.
    passed_on: u64,
    /// Numbers after it that were refused here.
    refused: Option<(u64, u64)>,
    /// Both as they were before the last message was passed on: the room may take no more.
    before: (u64, Option<(u64, u64)>),
}

#[derive(Debug)]
enum Phase {
    /// Nothing was said yet.
    New,
    /// The leader is asked what it holds of the session.
    Asking(Hello),
    /// The room is waited for.
    Waiting(Hello),
    Joined {
        session: SessionId,
        cursor: Cursor,
    },
    Closed,
}

#[derive(Debug, Clone)]
struct Hello {
    session: SessionId,
    resume: Option<Resume>,
    since: Time,
    /// The highest number the leader holds.
    held: u64,
    /// The member was told that the room is not there yet.
    told: bool,
}

impl Hello {
    /// Whether the member claims to have seen what is not known here, of the log there is.
    fn is_ahead_of(&self, view: &View) -> bool {
        self.resume.as_ref().is_some_and(|resume| {
            let same = resume.log.as_ref().is_none_or(|log| *log == view.log());
            same && resume.seq > view.seq()
        })
    }
}

impl Member {
    /// A connection was opened by `name`.
    pub fn new(
        now: Time,
        limits: Limits,
        room: RoomName,
        name: Arc<str>,
        grants: Grants,
    ) -> Member {
        Member {
            name,
            room,
            grants,
            phase: Phase::New,
            since: now,
            heard: now,
            pinged: now,
            rate: Rate::new(limits.rate, limits.burst),
            unanswered: 0,
            errors: 0,
            gaps: Vec::new(),
            skips: false,
            passed_on: 0,
            refused: None,
            before: (0, None),
            limits,
        }
    }

    /// The member is content not to be told of state that is written again while it lags.
    pub fn skipping(self, skips: bool) -> Member {
        Member { skips, ..self }
    }

    /// The name, once the member joined.
    pub fn present(&self) -> Option<&Arc<str>> {
        matches!(self.phase, Phase::Joined { .. }).then_some(&self.name)
    }

    /// The session, once the member joined, and the highest number it is known to have used.
    pub fn session(&self) -> Option<(SessionId, u64)> {
        match &self.phase {
            Phase::Joined { session, .. } => Some((*session, self.passed_on)),
            _ => None,
        }
    }

    /// Where the member stands in the room, once it joined.
    pub fn cursor(&self) -> Option<Cursor> {
        match &self.phase {
            Phase::Joined { cursor, .. } => Some(*cursor),
            _ => None,
        }
    }

    /// The member was given what there was up to here.
    pub fn fed(&mut self, to: Cursor) {
        if let Phase::Joined { cursor, .. } = &mut self.phase {
            *cursor = to;
        }
    }

    /// Anything came from the member, a pong for instance.
    pub fn alive(&mut self, now: Time) {
        self.heard = now;
    }

    /// The member said something.
    pub fn receive(&mut self, now: Time, said: Result<Incoming, Invalid>) -> Vec<Action> {
        self.heard = now;
        match said {
            Err(invalid) => self.refuse(invalid.n, invalid.slug, invalid.message, invalid.limit),
            Ok(Incoming::Ping) if self.rate.allows(now) => vec![Action::Send(Outgoing::Pong)],
            Ok(Incoming::Ping) => self.too_fast(None),
            Ok(Incoming::Hello { session, resume }) => self.hello(now, session, resume),
            Ok(Incoming::Publish(publish)) => self.publish(now, publish),
        }
    }

    fn hello(&mut self, now: Time, session: SessionId, resume: Option<Resume>) -> Vec<Action> {
        if !matches!(self.phase, Phase::New) {
            return self.refuse(
                None,
                "hello_again",
                "hello is said once, at the start of a connection".into(),
                None,
            );
        }
        let hello = Hello {
            session,
            resume,
            since: now,
            held: 0,
            told: false,
        };
        if hello.resume.is_none() {
            // Whoever has seen nothing of the room has no message under way in it either.
            self.phase = Phase::Waiting(hello);
            return Vec::new();
        }
        self.phase = Phase::Asking(hello);
        vec![Action::Ask {
            lead: None,
            request: Box::new(Request::Ask { session }),
        }]
    }

    fn publish(&mut self, now: Time, publish: Publish) -> Vec<Action> {
        let n = publish.n;
        let Phase::Joined { session, .. } = self.phase else {
            let why = "say hello and wait for the welcome first".into();
            return self.refuse(None, "not_joined", why, None);
        };
        let key = publish.key.as_deref();
        if let Err(forbidden) = self.grants.check(publish.class, &publish.topic, key) {
            return self.refuse(Some(n), forbidden.slug(), forbidden.to_string(), None);
        }
        if !self.rate.allows(now) {
            return self.too_fast(Some(n));
        }
        if self.unanswered >= self.limits.unanswered {
            let limit = self.limits.unanswered;
            let why = format!("{limit} messages are not answered yet, the limit; send it later");
            return self.refuse(Some(n), "too_many_unanswered", why, Some(limit as u64));
        }
        self.unanswered += 1;
        self.before = (self.passed_on, self.refused);
        Vec::from([Action::Ask {
            lead: self.pass_over(session, n),
            request: Box::new(Request::Publish(Envelope {
                room: self.room.clone(),
                session,
                n,
                class: publish.class,
                topic: publish.topic,
                key: publish.key,
                expected: publish.expected,
                revision: 0,
                from: self.name.to_string(),
                recipient: None,
                at: 0,
                seq: 0,
                body: publish.body,
            })),
        }])
    }

    /// The numbers below `n` that were refused here, to be told to the leader before it sees `n`:
    /// it would take them for lost.
    fn pass_over(&mut self, session: SessionId, n: u64) -> Option<Request> {
        self.passed_on = self.passed_on.max(n);
        let (first, last) = self.refused.take()?;
        // Those above it may still come, or not.
        self.refused = (last > n).then_some((first.max(n + 1), last));
        let last = last.min(n.saturating_sub(1));
        (first <= last).then_some(Request::PassOver {
            session,
            first,
            last,
        })
    }

    fn too_fast(&mut self, n: Option<u64>) -> Vec<Action> {
        let Limits { rate, burst, .. } = self.limits;
        let why = format!("at most {burst} messages at once and {rate} a second");
        self.refuse(n, "rate_limited", why, Some(rate.into()))
    }

    fn refuse(
        &mut self,
        n: Option<u64>,
        slug: &'static str,
        message: String,
        limit: Option<u64>,
    ) -> Vec<Action> {
        if let Some(n) = n {
            let next = self.refused.map_or(self.passed_on, |(_, last)| last) + 1;
            if n == next {
                let first = self.refused.map_or(n, |(first, _)| first);
                self.refused = Some((first, n));
            }
        }
        rejected(slug);
        let mut actions = vec![Action::Send(Outgoing::Err {
            n,
            error: slug.into(),
            message,
            limit,
        })];
        self.errors += 1;
        if self.errors > self.limits.errors {
            let limit = self.limits.errors;
            actions.push(self.close(
                CLOSE_POLICY,
                "too_many_errors",
                format!("{limit} messages in a row were refused"),
            ));
        }
        actions
    }

    fn close(&mut self, code: u16, slug: &'static str, message: String) -> Action {
        self.phase = Phase::Closed;
        Action::Close {
            code,
            slug,
            message,
        }
    }

    /// The leader answered something this member asked.
    pub fn answer(&mut self, answer: Answer) -> Vec<Action> {
        let send = match answer {
            Answer::Acked { n, seq, .. } => {
                self.answered(n);
                self.errors = 0;
                Outgoing::Ack {
                    n,
                    seq: (seq > 0).then_some(seq),
                }
            }
            Answer::Refused { n: 0, .. } => {
                self.hold(0);
                Outgoing::Err {
                    n: None,
                    error: "session_expired".into(),
                    message: "the session is not known any more; draw a new one".into(),
                    limit: None,
                }
            }
            Answer::Refused {
                n,
                slug,
                message,
                limit,
                ..
            } => {
                self.answered(n);
                Outgoing::Err {
                    n: Some(n),
                    error: slug,
                    message,
                    limit,
                }
            }
            Answer::Held { n, .. } => {
                self.hold(n);
                return Vec::new();
            }
            // Nothing a member asks for.
            Answer::Present { .. } => return Vec::new(),
        };
        vec![Action::Send(send)]
    }

    /// The leader did not answer in time.
    pub fn unavailable(&mut self, n: u64) -> Vec<Action> {
        if n == 0 {
            // Its messages are answered by what the leader remembers, whatever is said here.
            self.hold(0);
            return Vec::new();
        }
        self.answered(n);
        rejected("unavailable");
        vec![Action::Send(Outgoing::Err {
            n: Some(n),
            error: "unavailable".into(),
            message: "the leader of the room's log does not answer; send it again with the same n"
                .into(),
            limit: None,
        })]
    }

    /// More is waiting for the room's leader than may: the message that was to be passed on last,
    /// and what was to be told before it, were not.
    pub fn busy(&mut self, n: u64, limit: usize) -> Vec<Action> {
        let why = "too much waits for the leader of the room's log; send it again with the same n";
        self.not_passed_on(n, "busy", why.into(), limit as u64)
    }

    /// The same, because the room's members at this edge publish more than they may together.
    pub fn room_too_fast(&mut self, n: u64, limit: u32) -> Vec<Action> {
        let why = format!(
            "the room's members at this edge may publish {limit} messages a second together; send \
             it later with the same n"
        );
        self.not_passed_on(n, "room_rate_limited", why, limit.into())
    }

    fn not_passed_on(
        &mut self,
        n: u64,
        slug: &'static str,
        why: String,
        limit: u64,
    ) -> Vec<Action> {
        self.answered(n);
        (self.passed_on, self.refused) = self.before;
        self.refuse(Some(n), slug, why, Some(limit))
    }

    fn answered(&mut self, _n: u64) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    fn hold(&mut self, n: u64) {
        if let Phase::Asking(hello) = &mut self.phase {
            hello.held = n;
            self.passed_on = n;
            self.phase = Phase::Waiting(hello.clone());
        }
    }

    /// What the room has for the member now, a batch at most: call again until it is empty.
    pub fn pull(&mut self, now: Time, view: &View) -> Vec<Action> {
        match &mut self.phase {
            Phase::Waiting(hello) if view.is_loaded() => {
                let late = now.saturating_since(hello.since) >= self.limits.join;
                if hello.is_ahead_of(view) && !late {
                    // This edge may hear of messages later than the one before it did.
                    return Vec::new();
                }
                let hello = hello.clone();
                self.join(view, hello)
            }
            Phase::Waiting(hello)
                if !hello.told && now.saturating_since(hello.since) >= self.limits.join =>
            {
                hello.told = true;
                vec![Action::Send(Outgoing::Err {
                    n: None,
                    error: "unavailable".into(),
                    message: "the leader of the room's log does not answer; the welcome follows when it does"
                        .into(),
                    limit: None,
                })]
            }
            Phase::Joined { cursor, .. } => match next(view, cursor) {
                Next::Nothing => Vec::new(),
                Next::Events(batch) => vec![Action::Deliver(batch)],
                Next::Gap { from, to } => self.gap(now, view, from, to),
            },
            _ => Vec::new(),
        }
    }

    fn join(&mut self, view: &View, hello: Hello) -> Vec<Action> {
        let log = view.log();
        let ahead = hello.is_ahead_of(view);
        let (cursor, state) = match &hello.resume {
            None => (view.now(), view.state(STATE_BYTES)),
            Some(resume) if ahead || resume.log.as_ref().is_some_and(|of| *of != log) => {
                (view.lost(resume.seq), Vec::new())
            }
            Some(resume) => (view.after(resume.seq), Vec::new()),
        };
        let mut actions = Vec::new();
        if ahead {
            let newest = view.seq();
            actions.push(Action::Send(Outgoing::Err {
                n: None,
                error: "resume_ahead".into(),
                message: format!("the newest message is {newest}; the state follows"),
                limit: Some(newest),
            }));
        }
        self.phase = Phase::Joined {
            session: hello.session,
            cursor: cursor.skipping(self.skips),
        };
        let seq = hello.resume.map_or(view.seq(), |resume| resume.seq);
        let mut pieces = state.into_iter();
        let first = pieces.next();
        let welcome = Outgoing::Welcome {
            member: self.name.clone(),
            log: log.clone(),
            seq,
            n: hello.held,
            state: first,
            more: pieces.len() > 0,
            limits: wire::Limits {
                body: MAX_BODY,
                rate: self.limits.rate,
                burst: self.limits.burst,
                unanswered: self.limits.unanswered,
            },
        };
        actions.push(Action::Send(welcome));
        push_state(&mut actions, &log, view.seq(), pieces);
        actions
    }

    fn gap(&mut self, now: Time, view: &View, from: u64, to: u64) -> Vec<Action> {
        let window = self.limits.gap_window;
        self.gaps.retain(|at| now.saturating_since(*at) < window);
        self.gaps.push(now);
        if self.gaps.len() > self.limits.gaps as usize {
            let message = format!(
                "{} times within {} s the room's messages could not be kept for this connection",
                self.gaps.len(),
                window.as_secs()
            );
            return vec![
                Action::CountGap,
                self.close(CLOSE_POLICY, "too_slow", message),
            ];
        }
        let log = view.log();
        let mut actions = vec![
            Action::CountGap,
            Action::Send(Outgoing::Gap {
                from,
                to,
                log: log.clone(),
            }),
        ];
        push_state(
            &mut actions,
            &log,
            view.seq(),
            view.state(STATE_BYTES).into_iter(),
        );
        actions
    }

    /// The member is to go elsewhere.
    pub fn goaway(&mut self, leaving: &Leaving) -> Vec<Action> {
        match leaving {
            Leaving::Told {
                deadline,
                alternatives,
            } => vec![Action::Send(Outgoing::Goaway {
                deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
                alternatives: alternatives.clone(),
            })],
            Leaving::Over => {
                let why = "this edge is drained, and the time to go is over".into();
                vec![self.close(CLOSE_AWAY, "going_away", why)]
            }
        }
    }

    /// When the clock is to be looked at: [`Member::tick`], and what the room has.
    pub fn poll_timeout(&self) -> Time {
        let spoken_to = self.heard.max(self.pinged) + self.limits.keepalive;
        let next = spoken_to.min(self.heard + self.limits.idle);
        match &self.phase {
            Phase::New => next.min(self.since + self.limits.hello),
            Phase::Waiting(hello) if !hello.told => next.min(hello.since + self.limits.join),
            _ => next,
        }
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: Time) -> Vec<Action> {
        let silent = now.saturating_since(self.heard);
        if matches!(self.phase, Phase::New) && now.saturating_since(self.since) >= self.limits.hello
        {
            let message = format!("no hello within {} s", self.limits.hello.as_secs());
            return vec![self.close(CLOSE_POLICY, "hello_timeout", message)];
        }
        if silent >= self.limits.idle {
            let message = format!("nothing was heard for {} s", self.limits.idle.as_secs());
            return vec![self.close(CLOSE_POLICY, "idle", message)];
        }
        let last = self.heard.max(self.pinged);
        if now.saturating_since(last) >= self.limits.keepalive {
            self.pinged = now;
            return vec![Action::Ping];
        }
        Vec::new()
    }
}

/// What the room has next for whoever stands at `cursor`: a batch at most.
pub(super) fn next(view: &View, cursor: &mut Cursor) -> Next {
    view.next(cursor, BATCH, BATCH_BYTES)
}

fn push_state(
    actions: &mut Vec<Action>,
    log: &str,
    seq: u64,
    mut pieces: impl ExactSizeIterator<Item = std::collections::BTreeMap<String, wire::StateEntry>>,
) {
    while let Some(state) = pieces.next() {
        actions.push(Action::Send(Outgoing::State {
            log: log.to_owned(),
            seq,
            state,
            more: pieces.len() > 0,
        }));
    }
}
