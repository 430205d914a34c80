//! One room at this edge: follows the room's log, passes on what members say, and brings the
//! leader's answers back. The driver of [`View`], of the outbox and of presence.

mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use longspan_proto::{
    ids::RoomName,
    time::Time,
    wire::{
        call::Verb,
        envelope::Envelope,
        room::{Answer, Lead, Request},
        roster,
    },
};
use longspan_relay::{
    forward::LocalEvent,
    node::{Call, CallReceiver, CallSender, Handle, RoomView},
    roomlog::{GROUP, Retention},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::yield_now,
    time::{MissedTickBehavior, interval, sleep},
};

pub(super) use self::state::FromLeader;
use self::state::{Held, Here, State};
use super::{
    Counted, Limits, Messages,
    backbone::{self, Leader, Lost},
    finder::Finder,
    member,
    outbox::{self, MemberKey},
    pace::Pace,
    seat::{Fare, Seat},
    view::{Applied, Cursor, Next, View},
    wire::{self, Encoding},
};
use crate::rooms::{self, Room};

/// How often the clock is looked at: what waits for the leader is given up this much late at most.
const TICK: Duration = Duration::from_millis(250);

/// Answers that wait for a member. A member may have fewer requests under way than this.
const ANSWERS: usize = 256;

/// Members that are fed before the room's other work has its turn: about a millisecond.
const AT_ONCE: usize = 64;

/// Pauses between attempts to reach a leader: the first, and the longest. Doubled each time, drawn
/// between half and the whole so that a leader that comes back is not met by everybody at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whoever led for less than this is to be found as if nobody had.
const LED: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Hub {
    node: Handle,
    room: Arc<Room>,
    limits: Limits,
    state: Mutex<State>,
    /// The view changed; members are to be fed.
    fresh: Notify,
    /// Who leads the room's placement group, once somebody was found.
    leader: watch::Sender<Option<Leader>>,
    /// Something waits to be sent to the leader.
    asked: Notify,
    /// The leader owes an answer for too long: the call is to be opened anew.
    overdue: Notify,
}

/// Why something is not asked of the room's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAsked {
    /// So much waits for it already.
    Busy { limit: usize },
    /// The room's members here have published so much a second.
    TooFast { limit: u32 },
}

/// A member's place in a room; leaves when dropped.
pub(super) struct Place {
    pub hub: Arc<Hub>,
    pub key: MemberKey,
    /// Under which name it is present.
    present: Option<Arc<str>>,
    pub answers: mpsc::Receiver<FromLeader>,
    /// Who writes to it.
    pub seat: Arc<Seat>,
    /// At the edge, and in the room.
    counted: (Counted, rooms::Counted),
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.leave(self.key);
        if let Some(name) = &self.present {
            state.presence.leave(self.counted.0.messages().now(), name);
            self.hub.asked.notify_one();
        }
        state.sessions.retain(|_, held| held.member != self.key);
    }
}

impl Place {
    /// The member joined: the room is told that it is here.
    pub fn is_present(&mut self, name: &Arc<str>) {
        if self.present.is_none() {
            self.present = Some(name.clone());
            self.hub.lock().presence.enter(name.clone());
            self.hub.asked.notify_one();
        }
    }
}

impl Hub {
    pub fn new(node: Handle, room: Arc<Room>, limits: Limits) -> Hub {
        Hub {
            node,
            room,
            limits,
            state: Mutex::new(State::new(&limits)),
            fresh: Notify::new(),
            leader: watch::Sender::new(None),
            asked: Notify::new(),
            overdue: Notify::new(),
        }
    }

    pub fn room(&self) -> &RoomName {
        self.room.name()
    }

    pub fn members(&self) -> usize {
        self.lock().here()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member comes.
    pub fn enter(self: &Arc<Self>, key: MemberKey, counted: Counted, seat: Seat) -> Place {
        let (sender, answers) = mpsc::channel(ANSWERS);
        let seat = Arc::new(seat);
        let here = Here {
            answers: sender,
            seat: seat.clone(),
        };
        self.lock().enter(key, here);
        Place {
            hub: self.clone(),
            key,
            present: None,
            answers,
            seat,
            counted: (counted, self.room.member()),
        }
    }

    /// Looks at the room.
    pub fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.lock().view)
    }

    /// Asks the leader something for a member.
    pub fn ask(
        &self,
        now: Time,
        key: MemberKey,
        lead: Option<Request>,
        request: &Request,
    ) -> Result<(), NotAsked> {
        let mut state = self.lock();
        if matches!(request, Request::Publish(_)) && !state.rate.allows(now) {
            let limit = self.limits.room_rate;
            return Err(NotAsked::TooFast { limit });
        }
        let pushed = state.outbox.push(now, key, lead, request);
        pushed.map_err(|full| NotAsked::Busy { limit: full.limit })?;
        let session = match request {
            Request::Publish(message) => message.session,
            Request::Ask { session } | Request::PassOver { session, .. } => *session,
            // The hub's own words, which no member asks for.
            Request::Roster(_) | Request::Beat { .. } => return Ok(()),
        };
        let held = state.sessions.entry(session).or_insert(Held {
            member: key,
            n: 0,
            passed: false,
        });
        held.member = key;
        drop(state);
        self.asked.notify_one();
        Ok(())
    }

    /// Serves the room until nobody is in it any more.
    pub async fn run(&self, messages: &Messages) {
        let told = self.room.state();
        tokio::select! {
            () = self.heed_policy(told.clone()) => {}
            () = self.follow(messages, told.clone()) => {}
            () = self.publish(messages, told) => {}
            () = self.keep_time(messages) => {}
            () = self.feed(messages) => {}
            () = messages.stop.cancelled() => {}
        }
    }

    /// Lets whoever comes back have as much of the order as operators want kept.
    async fn heed_policy(&self, mut room: RoomView) {
        loop {
            let told = room.borrow_and_update().as_ref().and_then(|room| room.keep);
            let kept = told.as_ref().map_or(Retention::ALL, Retention::told);
            self.lock().view.keep(kept);
            if room.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Gives up what waits too long, and returns when nobody has been here for a while.
    async fn keep_time(&self, messages: &Messages) {
        let mut idle = Duration::ZERO;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut state = self.lock();
            let stuck = state.outbox.is_stuck(messages.now());
            let given_up = state.outbox.expire(messages.now());
            for done in &given_up {
                state.tell(done.member, FromLeader::Unavailable { n: done.n });
            }
            let empty = state.here() == 0;
            drop(state);
            if stuck {
                self.overdue.notify_one();
            }
            idle = if empty { idle + TICK } else { Duration::ZERO };
            if idle >= messages.linger() && messages.forget(self) {
                return;
            }
        }
    }

    /// Feeds the members with what is new, in batches where it is much.
    async fn feed(&self, messages: &Messages) {
        let mut pace = Pace::default();
        loop {
            self.fresh.notified().await;
            let now = messages.now();
            let (here, room) = {
                let state = self.lock();
                (state.here(), state.size())
            };
            let wait = pace.wake(now, here, room).saturating_since(now);
            if !wait.is_zero() {
                sleep(wait).await;
            }
            let seats = self.lock().seats();
            for some in seats.chunks(AT_ONCE) {
                some.iter().for_each(|seat| seat.fetch());
                // Most stand at the same place. What came since the last of them is for these.
                let mut fares: Vec<((Cursor, Encoding), Fare)> = Vec::new();
                for seat in some {
                    seat.feed(|cursor, encoding| {
                        let at = (cursor, encoding);
                        if let Some((_, fare)) = fares.iter().find(|(of, _)| *of == at) {
                            return fare.clone();
                        }
                        let fare = self.fare(cursor, encoding);
                        fares.push((at, fare.clone()));
                        fare
                    });
                }
                yield_now().await;
            }
        }
    }

    /// What is next for whoever stands there.
    fn fare(&self, mut cursor: Cursor, encoding: Encoding) -> Fare {
        match self.view(|view| member::next(view, &mut cursor)) {
            Next::Nothing => Fare::Nothing,
            Next::Gap { .. } => Fare::Own,
            Next::Events(batch) => {
                let written = wire::batch(encoding, &batch.events, batch.skipped);
                Fare::Frame(cursor, wire::framed(encoding, &written))
            }
        }
    }

    /// Keeps the view up to date, whatever becomes of leaders.
    async fn follow(&self, messages: &Messages, mut room: RoomView) {
        let mut pause = Pause::default();
        loop {
            let group = backbone::group(&mut room).await;
            let follow = async {
                loop {
                    self.follow_group(messages, group, &mut pause).await;
                }
            };
            tokio::select! {
                () = backbone::group_changed(group, &mut room) => {}
                () = follow => {}
            }
        }
    }

    /// Follows the log at whoever leads, from one leader to the next.
    async fn follow_group(&self, messages: &Messages, group: u64, pause: &mut Pause) {
        let mut leading = self.leader.subscribe();
        let found = leading.wait_for(|it| it.as_ref().is_some_and(|it| it.group == group));
        let Some(leader) = found.await.ok().and_then(|it| it.clone()) else {
            return std::future::pending().await;
        };
        let lost = tokio::select! {
            Ok(()) = leading.changed() => {
                *pause = Pause::default();
                return;
            }
            lost = self.follow_at(messages, &leader, pause) => lost,
        };
        tracing::debug!(room = %self.room(), leader = %leader.node, %lost, "the log is followed anew");
        tokio::select! {
            Ok(()) = leading.changed() => *pause = Pause::default(),
            () = pause.wait() => {}
        }
    }

    async fn follow_at(&self, messages: &Messages, leader: &Leader, pause: &mut Pause) -> Lost {
        match self.follow_until_lost(messages, leader, pause).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn follow_until_lost(
        &self,
        messages: &Messages,
        leader: &Leader,
        pause: &mut Pause,
    ) -> Result<std::convert::Infallible, Lost> {
        // Under another leader a group's log goes on where it was.
        let known = self.view(|view| view.is_of(leader.id()).then(|| view.seq()));
        let seq = match known {
            Some(seq) => seq,
            None => self.load(leader).await?,
        };
        let mut log = leader.log(&self.node, self.room(), seq);
        let mut ephemeral = leader.ephemeral(&self.node, self.room());
        loop {
            tokio::select! {
                event = log.next() => match event {
                    // A place whose message the leader does not retain.
                    Some(LocalEvent::Frame { group, index, frame }) if frame.payload.is_empty() => {
                        if group * GROUP + index + 1 > self.view(View::seq) {
                            self.load(leader).await?;
                        }
                    }
                    Some(LocalEvent::Frame { frame, .. }) => {
                        let message = read(frame.payload)?;
                        if self.apply(messages, message) == Applied::Hole {
                            self.load(leader).await?;
                        } else {
                            *pause = Pause::default();
                        }
                    }
                    Some(LocalEvent::GroupDropped { .. }) => {
                        self.load(leader).await?;
                    }
                    event => ended("log", event)?,
                },
                event = ephemeral.next() => match event {
                    // What a cache repeats is of no use any more.
                    Some(LocalEvent::Frame { frame, .. }) if !frame.flags.replay => {
                        let message = read(frame.payload)?;
                        self.lock().view.apply_ephemeral(message);
                        self.fresh.notify_one();
                    }
                    event => ended("ephemeral", event)?,
                },
            }
        }
    }

    /// Takes the leader's state; the newest message it includes.
    async fn load(&self, leader: &Leader) -> Result<u64, Lost> {
        let (log, snapshot) = leader.state(&self.node, self.room()).await?;
        {
            let mut state = self.lock();
            state.view.load(log, snapshot);
            state.notice_crowd();
        }
        let seq = self.view(View::seq);
        self.fresh.notify_one();
        Ok(seq)
    }

    fn apply(&self, messages: &Messages, message: Envelope) -> Applied {
        let (session, n, seq) = (message.session, message.n, message.seq);
        let is_summary = message.key.as_deref() == Some(roster::TOPIC);
        let mut state = self.lock();
        let applied = state.view.apply(message);
        if is_summary {
            state.notice_crowd();
        }
        if applied == Applied::New && state.sessions.contains_key(&session) {
            // Seen in the log: it has its place, also if the leader is lost before its ack comes.
            let done = state.outbox.seen(session, n);
            let answer = Answer::Acked { session, n, seq };
            state.done(messages.now(), done, answer);
        }
        drop(state);
        if applied == Applied::New {
            self.fresh.notify_one();
        }
        applied
    }

    /// Keeps a call to the leader open and passes on what members say.
    async fn publish(&self, messages: &Messages, mut room: RoomView) {
        loop {
            let group = backbone::group(&mut room).await;
            let mut view = room.clone();
            tokio::select! {
                () = backbone::group_changed(group, &mut view) => {}
                () = self.publish_group(messages, group, &room) => {}
            }
        }
    }

    /// Finds the leader, and the next one, for as long as the group keeps the room.
    async fn publish_group(&self, messages: &Messages, group: u64, room: &RoomView) {
        let mut finder = Finder::default();
        loop {
            let members = backbone::members(room);
            if let Some(node) = finder.next(&members) {
                let (node_, verb) = (node.clone(), Verb::Publish);
                let called = Leader::leading(&self.node, self.room(), verb, node_, group).await;
                let lost = match called {
                    Ok((call, now)) => {
                        self.leader.send_if_modified(|leader| {
                            let other = leader.as_ref() != Some(&now);
                            *leader = Some(now);
                            other
                        });
                        let began = messages.now();
                        let talked = self.talk_to_leader(messages, call).await;
                        if messages.now().saturating_since(began) >= LED {
                            finder.leads();
                        }
                        finder.fails(messages.now(), true);
                        talked.err()
                    }
                    Err(lost) => Some(lost),
                };
                match &lost {
                    Some(Lost::Elsewhere(leader)) => {
                        finder.elsewhere(messages.now(), leader.clone())
                    }
                    // Which group the room is in changes then, unless a later move is known.
                    Some(Lost::Moved(moved)) => self.node.room_moved(self.room(), moved),
                    _ => {}
                }
                if let Some(lost) = lost {
                    tracing::debug!(room = %self.room(), member = %node, %lost, "another member is asked");
                }
            }
            if let Some(pause) = finder.pause(members.len()) {
                sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            }
        }
    }

    async fn talk_to_leader(&self, messages: &Messages, call: Call) -> Result<(), Lost> {
        let (mut up, mut down) = call.split();
        let passed = self.lock().introductions(|held| held.passed);
        for request in passed {
            up.send(outbox::written(&request)).await?;
        }
        self.talk(messages, &mut up, &mut down, &mut Pause::default())
            .await
    }

    async fn talk(
        &self,
        messages: &Messages,
        up: &mut CallSender,
        down: &mut CallReceiver,
        pause: &mut Pause,
    ) -> Result<(), Lost> {
        {
            let mut state = self.lock();
            state.outbox.connected(messages.now());
            state.presence.connected();
        }
        let lost = tokio::select! {
            lost = self.send(messages, up) => lost,
            lost = self.receive(messages, down, pause) => lost,
            () = self.overdue.notified() => Err(Lost::Timeout(self.limits.outbox.stuck)),
        };
        // Nothing is sent on a call now: none is stuck.
        self.lock().outbox.connected(messages.now());
        lost
    }

    async fn send(&self, messages: &Messages, up: &mut CallSender) -> Result<(), Lost> {
        loop {
            let now = messages.now();
            let (requests, roster, due) = self.lock().poll_send(now, self.limits.presence);
            let nothing = requests.is_none() && roster.is_none();
            let roster = roster.iter().map(outbox::written);
            for request in requests.into_iter().flatten().chain(roster) {
                up.send(request).await?;
            }
            if nothing {
                let wait = due.map(|due| due.saturating_since(now));
                tokio::select! {
                    () = self.asked.notified() => {}
                    () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                }
            }
        }
    }

    async fn receive(
        &self,
        messages: &Messages,
        down: &mut CallReceiver,
        pause: &mut Pause,
    ) -> Result<(), Lost> {
        while let Some(body) = down.recv().await? {
            let broken = |e: longspan_proto::wire::Error| Lost::Broken(e.to_string());
            match Lead::decode(body.clone()).map_err(broken)? {
                Some(Lead::Elsewhere { node }) => return Err(Lost::Elsewhere(node)),
                Some(Lead::Moved(moved)) => return Err(Lost::Moved(moved)),
                _ => {}
            }
            let answer = Answer::decode(body).map_err(broken)?;
            *pause = Pause::default();
            if let Answer::Present { version, .. } = answer {
                // Says nothing of messages: a leader that gives them no place is left.
                self.lock().presence.answered(version);
                self.asked.notify_one();
                continue;
            }
            let mut state = self.lock();
            state.outbox.alive(messages.now());
            let done = state.outbox.answered(&answer);
            state.done(messages.now(), done, answer);
        }
        Ok(())
    }
}

fn read(payload: bytes::Bytes) -> Result<Envelope, Lost> {
    Envelope::decode(payload).map_err(|e| Lost::Broken(e.to_string()))
}

/// Whether an event means that a track is over.
fn ended(track: &'static str, event: Option<LocalEvent>) -> Result<(), Lost> {
    let why = match event {
        None => "nothing more comes".into(),
        Some(LocalEvent::End { reason, message }) => format!("{reason:?} {message}"),
        Some(_) => return Ok(()),
    };
    Err(Lost::Ended { track, why })
}

/// How long to wait before the next attempt.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Pause {
        Pause(FIRST_PAUSE)
    }
}

impl Pause {
    async fn wait(&mut self) {
        sleep(self.0.mul_f64(rand::random_range(0.5..=1.0))).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}
