//! The room's messages at the edge: a WebSocket for each member, `GET /rooms/ROOM/messages`
//! (docs/messages.md).
//!
//! Pure: [`wire`] (what is said, in JSON and CBOR), [`member`] (one member's conversation),
//! [`view`] (what is held of a room), [`outbox`] (what the room's home has not answered yet), [`finder`] (which member of a placement
//! group leads).
//! Around them `hub` joins a room to its home, and `socket` a member to its room.

mod backbone;
pub mod finder;
mod hub;
pub mod member;
pub mod outbox;
mod rate;
mod socket;
pub mod view;
pub mod wire;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use longspan_proto::{
    ids::{Room, RoomName},
    time::Time,
};
use longspan_relay::node::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::hub::Hub;
use crate::{
    auth::{Access, Denied},
    rooms::{Rooms, TooMany},
};

pub(crate) use socket::router;

/// Decides whether the bearer of a token (if there is one) may join a room.
pub(crate) type Authorize =
    Arc<dyn Fn(Option<&str>, &Room) -> Result<Access, Denied> + Send + Sync>;

/// What an edge holds of members and their rooms at most. Each is answered with an error that
/// names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Members connected to this edge; one more is refused with 503 `too_many_members`.
    pub members: usize,
    /// Of each member.
    pub member: member::Limits,
    /// Of each room.
    pub view: view::Limits,
    /// Of each room.
    pub outbox: outbox::Limits,
    /// How long a room is followed past its last member, for whoever reconnects.
    pub linger: Duration,
    /// A member who does not take what is sent for so long is closed.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            members: 20_000,
            member: member::Limits::default(),
            view: view::Limits::default(),
            outbox: outbox::Limits::default(),
            linger: Duration::from_secs(30),
            write: Duration::from_secs(20),
        }
    }
}

/// All rooms' messages at one edge.
pub(crate) struct Messages {
    node: Handle,
    rooms: Arc<Rooms>,
    limits: Limits,
    authorize: Authorize,
    started: Instant,
    hubs: Mutex<HashMap<RoomName, Arc<Hub>>>,
    members: AtomicUsize,
    keys: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a member was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Crowded {
    #[error("this edge has {limit} members, the limit; try another")]
    Members { limit: usize },
    #[error(transparent)]
    Rooms(#[from] TooMany),
}

impl Messages {
    /// On top of an edge's node and rooms. What it spawns is in `tasks` and ends with `stop`.
    pub(crate) fn new(
        node: Handle,
        rooms: Arc<Rooms>,
        limits: Limits,
        authorize: Authorize,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Messages {
        describe();
        Messages {
            node,
            rooms,
            limits,
            authorize,
            started: Instant::now(),
            hubs: Mutex::default(),
            members: AtomicUsize::new(0),
            keys: AtomicU64::new(1),
            tasks,
            stop,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Lets a member in: the room's hub, and the member's place at it.
    fn enter(self: &Arc<Self>, name: &RoomName) -> Result<hub::Place, Crowded> {
        let limit = self.limits.members;
        let counted = self
            .members
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |members| {
                (members < limit).then_some(members + 1)
            });
        if counted.is_err() {
            return Err(Crowded::Members { limit });
        }
        let counted = Counted(self.clone());
        let room = self.rooms.get(name)?;
        let mut hubs = self.lock();
        let hub = hubs.entry(name.clone()).or_insert_with(|| {
            let hub = Arc::new(Hub::new(self.node.clone(), room, self.limits));
            let (messages, running) = (self.clone(), hub.clone());
            self.tasks
                .spawn(async move { running.run(&messages).await });
            hub
        });
        // Under the lock: a hub ends only while nobody is in it.
        let key = outbox::MemberKey(self.keys.fetch_add(1, Ordering::Relaxed));
        Ok(hub.enter(key, counted))
    }

    /// Forgets a hub if nobody is in it.
    fn forget(&self, hub: &Hub) -> bool {
        let mut hubs = self.lock();
        let idle = hub.members() == 0;
        if idle {
            hubs.remove(hub.room());
        }
        idle
    }
}

/// A member who is counted.
struct Counted(Arc<Messages>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.members.fetch_sub(1, Ordering::Relaxed);
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_histogram};
    describe_histogram!(
        "longspan_log_ack_seconds",
        Unit::Seconds,
        "From a member's message reaching its edge to the ack of the room's home."
    );
    describe_counter!(
        "longspan_log_gaps_total",
        Unit::Count,
        "Gaps that were told to members."
    );
}
