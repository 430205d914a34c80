//! The room's messages at the edge: a WebSocket for each member, `GET /rooms/ROOM/messages`
//! (docs/messages.md).
//!
//! Pure: [`wire`] (what is said, in JSON and CBOR), [`member`] (one member's conversation),
//! [`view`] (what is held of a room), [`outbox`] (what the leader of the room's log has not answered yet), [`finder`] (which member of a placement
//! group leads), [`presence`] (who is here, and when the room is told so), [`pace`] (when members
//! are woken), [`leaving`] (where they are sent).
//! Around them `hub` joins a room to the leader of its log, and `socket` a member to its room; `seat` says which of
//! the two writes to the member.

mod backbone;
pub mod finder;
mod hub;
pub mod leaving;
pub mod member;
pub mod outbox;
pub mod pace;
pub mod presence;
mod rate;
mod seat;
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
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{hub::Hub, leaving::Leaving, seat::Seat};
use crate::{
    auth::{Access, Denied},
    door::{Door, Doors, GoingAway},
    rooms::{Rooms, TooMany},
};

pub(crate) use socket::router;

/// How often an edge that is about to stop looks whether its members are gone.
const LOOK: Duration = Duration::from_millis(20);

/// What members are given at least of the time that an edge has that is drained. Not
/// [`Limits::goaway`], which may be nothing: whoever drains an edge does not wait for it.
const DRAIN: Duration = Duration::from_secs(5);

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
    /// Messages a second that this edge's members of a room publish together in the long run; one
    /// more is answered `room_rate_limited`. Each of them goes to every member.
    pub room_rate: u32,
    /// The same at once.
    pub room_burst: u32,
    /// Whether rooms are told who of their members is here.
    pub presence: bool,
    /// How long members are given to go elsewhere before the edge stops; and a second for every
    /// thousand of them, so that the others are not overrun.
    pub goaway: Duration,
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
            room_rate: 1_000,
            room_burst: 2_000,
            presence: true,
            goaway: Duration::from_secs(5),
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
    doors: Arc<Doors>,
    /// Set while members are to go elsewhere.
    leaving: watch::Sender<Option<Leaving>>,
}

/// Why a member was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Crowded {
    #[error("this edge has {limit} members, the limit; try another")]
    Members { limit: usize },
    #[error(transparent)]
    Leaving(#[from] GoingAway),
    #[error(transparent)]
    Rooms(#[from] TooMany),
}

impl Messages {
    /// On top of an edge's node and rooms, behind its door. What it spawns is in `tasks` and ends
    /// with `stop`.
    pub(crate) fn new(
        node: Handle,
        rooms: Arc<Rooms>,
        limits: Limits,
        authorize: Authorize,
        doors: Arc<Doors>,
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
            doors,
            leaving: watch::Sender::new(None),
        }
    }

    /// Tells members what the edge's door means for them. Never returns.
    pub(crate) async fn heed(&self) {
        let mut door = self.doors.watch();
        loop {
            let now = *door.borrow_and_update();
            let leaving = match now {
                Door::Open => None,
                Door::Draining => {
                    let least = self.limits.goaway.max(DRAIN);
                    Some(self.go(least, self.doors.left()))
                }
                Door::Over => Some(Leaving::Over),
                // See `leave`.
                Door::Stopping => return std::future::pending().await,
            };
            self.leaving.send_replace(leaving);
            let _ = door.changed().await;
        }
    }

    /// The edge stops: tells members to go elsewhere, and waits until they are gone, or were given
    /// time enough.
    pub(crate) async fn leave(&self) {
        let leaving = self.go(self.limits.goaway, Duration::MAX);
        let deadline = leaving.deadline();
        self.leaving.send_replace(Some(leaving));
        let gone = async {
            while self.members.load(Ordering::Relaxed) > 0 {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(deadline, gone).await;
    }

    fn go(&self, least: Duration, most: Duration) -> Leaving {
        let members = self.members.load(Ordering::Relaxed);
        let leaving = Leaving::told(self.doors.others(), members, least, most);
        tracing::info!(members, ?leaving, "members are told to go");
        leaving
    }

    /// How long a room is followed past its last member: nobody comes back to an edge that takes
    /// nobody.
    fn linger(&self) -> Duration {
        match self.doors.is_open() {
            true => self.limits.linger,
            false => Duration::ZERO,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Lets a member in: the room's hub, and the member's place at it.
    fn enter(self: &Arc<Self>, name: &RoomName, seat: Seat) -> Result<hub::Place, Crowded> {
        self.doors.enter()?;
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
        Ok(hub.enter(key, counted, seat))
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

impl Counted {
    fn messages(&self) -> &Messages {
        &self.0
    }
}

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
        "From a member's message reaching its edge to the ack of the leader of the room's log."
    );
    describe_counter!(
        "longspan_log_gaps_total",
        Unit::Count,
        "Gaps that were told to members."
    );
}
