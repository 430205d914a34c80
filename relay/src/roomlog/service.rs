//! The driver of the room log: serves the calls `publish` and `state`, and publishes the tracks
//! `log` and `ephemeral` (WIRE.md, "Room calls").

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use longspan_proto::{
    ids::{Generation, RoomName, SessionId},
    time::Time,
    wire::{
        call::{Status, Verb},
        envelope::Envelope,
        room::{Answer, PART, Part, Request},
        roster::Roster,
    },
};
use metrics::counter;
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Limits, Refusal, Rooms, Snapshot, calls::Calls, host::port::Port, tracks::Tracks};
use crate::node::{Call, CallError, Handle, IncomingCall};

/// Calls served at once: one an edge and room, and state calls, which are short. When full, a
/// call is answered `busy`.
const CALLS: usize = 16_384;

/// How often idle rooms are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Serves until `shutdown`. One a node.
pub(crate) async fn run(
    handle: Handle,
    groups: Option<Arc<Port>>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let groups = groups.map(|port| Arc::new(Calls::new(port)));
    let mut publish = handle.serve(Verb::Publish);
    let mut state = handle.serve(Verb::State);
    let home = Arc::new(Home {
        started: Instant::now(),
        inner: Mutex::new(Inner {
            rooms: Rooms::new(limits),
            held: handle.logs(),
            tracks: Tracks::new(handle),
        }),
    });
    let slots = Arc::new(Semaphore::new(CALLS));
    let tasks = TaskTracker::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let call = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(call) = publish.recv() => call,
            Some(call) = state.recv() => call,
            _ = sweep.tick() => {
                home.sweep();
                continue;
            }
        };
        let slot = slots.clone().try_acquire_owned();
        let (home, groups, shutdown) = (home.clone(), groups.clone(), shutdown.clone());
        tasks.spawn(async move {
            let Ok(_slot) = slot else {
                let why = format!("{CALLS} calls are served here, the limit");
                return call.refuse(Status::Busy, &why).await;
            };
            let serve = async {
                match (call.open().group, groups) {
                    (0, _) => home.serve(call).await,
                    (_, Some(groups)) => groups.serve(call).await,
                    (group, None) => {
                        let why = format!("this node has no part in group {group}");
                        call.refuse(Status::Unavailable, &why).await;
                        Ok(())
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                served = serve => if let Err(error) = served {
                    tracing::debug!(%error, "a room call ended");
                }
            }
        });
    }
    tasks.close();
    tasks.wait().await;
}

struct Home {
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    rooms: Rooms,
    tracks: Tracks,
    /// How many rooms there are, for the controller.
    held: Arc<AtomicU32>,
}

/// Keeps a room from being forgotten.
struct Held<'a> {
    home: &'a Home,
    room: &'a RoomName,
    generation: Generation,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let now = self.home.now();
        let mut inner = self.home.lock();
        inner.rooms.release(now, self.room, self.generation);
    }
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    fn sweep(&self) {
        let now = self.now();
        let mut inner = self.lock();
        inner.rooms.forget_idle(now);
        inner.drop_tracks();
    }

    async fn serve(&self, call: IncomingCall) -> Result<(), CallError> {
        let open = call.open().clone();
        let held = match self.hold(&open.room, open.generation) {
            Ok(held) => held,
            Err(refusal) => {
                rejected(&refusal);
                call.refuse(status(&refusal), &refusal.to_string()).await;
                return Ok(());
            }
        };
        let call = call.accept().await?;
        match open.verb {
            Verb::State => self.state(&held, call).await,
            _ => self.publish(&held, call).await,
        }
    }

    fn hold<'a>(&'a self, room: &'a RoomName, generation: Generation) -> Result<Held<'a>, Refusal> {
        let now = self.now();
        let mut inner = self.lock();
        inner.rooms.hold(now, room, generation)?;
        inner.drop_tracks();
        inner.tracks.begin(room, generation);
        Ok(Held {
            home: self,
            room,
            generation,
        })
    }

    async fn publish(&self, held: &Held<'_>, call: Call) -> Result<(), CallError> {
        let (mut up, mut down) = call.split();
        let mut out = BytesMut::new();
        while let Some(body) = down.recv().await? {
            let request = Request::decode(body).map_err(|e| {
                counter!("longspan_rejected_total", "reason" => "room_request").increment(1);
                CallError::Broken(e.to_string())
            })?;
            if let Some(answer) = self.answer(held, request) {
                answer.encode(&mut out);
                up.send(out.split().freeze()).await?;
            }
        }
        up.finish();
        Ok(())
    }

    fn answer(&self, held: &Held<'_>, request: Request) -> Option<Answer> {
        let now = self.now();
        let mut inner = self.lock();
        let Inner { rooms, tracks, .. } = &mut *inner;
        let room = rooms.get(now, held.room, held.generation);
        match request {
            Request::Publish(message) => {
                let (session, n, class) = (message.session, message.n, message.class);
                let taken = if message.room == *held.room {
                    room.and_then(|room| room.publish(now, wall_ms(), message))
                } else {
                    Err(Refusal::WrongClass("the message is for another room"))
                };
                Some(match taken {
                    Ok(accepted) => {
                        if let Some(message) = accepted.new {
                            tracks.publish(held.room, now, &message);
                            counter!("longspan_log_messages_total", "class" => class.name())
                                .increment(1);
                        } else {
                            counter!("longspan_log_duplicates_total").increment(1);
                        }
                        Answer::Acked {
                            session,
                            n,
                            seq: accepted.seq,
                        }
                    }
                    Err(refusal) => refused(session, n, &refusal),
                })
            }
            // Only placement groups keep it.
            Request::Roster(Roster { session, .. }) | Request::Beat { session } => {
                Some(Answer::Present {
                    session,
                    version: 0,
                })
            }
            Request::PassOver {
                session,
                first,
                last,
            } => {
                if let Ok(room) = room {
                    room.pass_over(now, session, first, last);
                }
                None
            }
            Request::Ask { session } => Some(match room.and_then(|room| room.held(now, session)) {
                Ok(n) => Answer::Held { session, n },
                Err(refusal) => refused(session, 0, &refusal),
            }),
        }
    }

    async fn state(&self, held: &Held<'_>, mut call: Call) -> Result<(), CallError> {
        let now = self.now();
        let snapshot = self
            .lock()
            .rooms
            .get(now, held.room, held.generation)
            .map(|room| room.snapshot());
        let snapshot = snapshot.map_err(|refusal| CallError::Broken(refusal.to_string()))?;
        for part in parts(snapshot) {
            let mut out = BytesMut::new();
            part.encode(&mut out);
            call.send(out.freeze()).await?;
        }
        call.finish();
        Ok(())
    }
}

impl Inner {
    fn drop_tracks(&mut self) {
        for (room, generation) in self.rooms.take_dropped() {
            self.tracks.end(&room, generation);
        }
        let held = u32::try_from(self.rooms.len()).unwrap_or(u32::MAX);
        self.held.store(held, Ordering::Relaxed);
    }
}

pub(super) fn parts(snapshot: Snapshot) -> impl Iterator<Item = Part> {
    let begin = Part::Begin {
        seq: snapshot.seq,
        at: snapshot.at,
    };
    std::iter::once(begin)
        .chain(cut(snapshot.keys).map(Part::Keys))
        .chain(cut(snapshot.history).map(Part::History))
        .chain(std::iter::once(Part::End))
}

/// Runs of messages of at most [`PART`] bytes, about, and one message at least.
fn cut(messages: Vec<Envelope>) -> impl Iterator<Item = Vec<Envelope>> {
    /// An envelope without its body, about.
    const HEAD: usize = 512;
    let mut rest = messages.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut part = vec![rest.next()?];
        let mut bytes = HEAD + part[0].body.len();
        while let Some(next) = rest.next_if(|next| bytes + HEAD + next.body.len() <= PART) {
            bytes += HEAD + next.body.len();
            part.push(next);
        }
        Some(part)
    })
}

fn refused(session: SessionId, n: u64, refusal: &Refusal) -> Answer {
    rejected(refusal);
    refusal.answer(session, n)
}

pub(super) fn rejected(refusal: &Refusal) {
    counter!("longspan_rejected_total", "reason" => refusal.slug()).increment(1);
}

fn status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::StaleGeneration { .. } => Status::StaleGeneration,
        _ => Status::Limit,
    }
}

fn wall_ms() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use longspan_proto::{
        ids::{Room, Tenant},
        wire::envelope::Class,
    };

    use super::*;

    fn message(seq: u64, body: usize) -> Envelope {
        Envelope {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("math").unwrap(),
            },
            session: SessionId([1; 16]),
            n: seq,
            class: Class::Log,
            topic: "chat".into(),
            key: None,
            expected: None,
            revision: 0,
            from: "m".into(),
            recipient: None,
            at: 0,
            seq,
            body: Bytes::from(vec![0; body]),
        }
    }

    #[test]
    fn parts_are_cut_and_nothing_is_left_out() {
        let history: Vec<Envelope> = (1..=20).map(|seq| message(seq, 16 << 10)).collect();
        let keys = vec![message(3, 10)];
        let all: Vec<Part> = parts(Snapshot {
            seq: 20,
            at: 7,
            keys: keys.clone(),
            history: history.clone(),
        })
        .collect();
        assert_eq!(all[0], Part::Begin { seq: 20, at: 7 });
        assert_eq!(all[1], Part::Keys(keys));
        assert_eq!(all.last(), Some(&Part::End));
        let mut got = Vec::new();
        for part in &all[2..all.len() - 1] {
            let mut out = BytesMut::new();
            part.encode(&mut out);
            assert!(out.len() <= PART);
            let Part::History(messages) = part else {
                panic!("{part:?} after the keys")
            };
            got.extend(messages.clone());
        }
        assert_eq!(got, history);
    }
}
