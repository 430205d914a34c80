//! The loop around the pure [`State`]: it decides nothing.

mod audit;
mod election;
mod metrics;
mod outputs;
mod term;

use std::sync::Arc;

use longspan_proto::{
    control::ToNode,
    ids::{Generation, RoomName, Stream},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use audit::read as audit_records;
pub use election::Me;

use crate::{
    backoff::Backoff,
    limits::Limits,
    state::{
        Begun, Change, Changed, Claim, Close, Conn, Event, Granted, Join, KeepRoom, Move,
        PolicyView, Refused, RoomTrace, Said, State, Unchanged, record,
    },
    store::{LeaseId, Store},
};

/// Messages waiting for the loop; further senders wait.
const QUEUE: usize = 4_096;

/// Where this controller stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It cannot tell; why.
    Unknown(Arc<str>),
    /// Another leads.
    Follows(record::Election),
    /// It leads.
    Leads,
}

/// What reaches a node.
#[derive(Debug)]
pub struct Session {
    /// Its bounded queue.
    pub pushes: mpsc::Sender<ToNode>,
    /// Ends it; dropped: ended without a reason.
    pub close: oneshot::Sender<Ended>,
}

/// Why a session was ended from here.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The state's reason.
    #[error("{0}")]
    Closed(#[from] Close),
    /// It does not read what it is told.
    #[error("{0} pushes wait to be read, the limit; read them")]
    Slow(usize),
}

/// What is asked of the loop.
pub enum Message {
    /// A node's session begins.
    Join {
        /// What it says.
        join: Box<Join>,
        /// How to reach it.
        to: Session,
        /// The connection's number.
        reply: oneshot::Sender<Result<Conn, Refused>>,
    },
    /// Its connection ended.
    Left(Conn),
    /// It said something.
    Said(Conn, Said),
    /// A publisher asks for a stream.
    Claim(Claim, oneshot::Sender<Result<Granted, Refused>>),
    /// A publisher gives a stream back.
    Release {
        /// The session of its edge.
        session: LeaseId,
        /// The room.
        room: RoomName,
        /// The stream.
        stream: Stream,
        /// What it was given.
        generation: Generation,
        /// When it is done.
        reply: oneshot::Sender<()>,
    },
    /// An operator asks for something.
    Change(Change, oneshot::Sender<Result<Changed, Unchanged>>),
    /// An operator asks for the ways of a room's tracks.
    Trace(RoomName, oneshot::Sender<Option<RoomTrace>>),
    /// An operator wants a room's log to be kept by another group.
    Move(Move, oneshot::Sender<Result<Begun, Unchanged>>),
    /// An operator wants so much of a room's order kept.
    Keep(KeepRoom, oneshot::Sender<Result<PolicyView, Unchanged>>),
    /// Somebody looks at the state.
    Look(Box<dyn FnOnce(&State) + Send>),
}

/// How the services reach the loop.
#[derive(Clone)]
pub struct Handle {
    /// To the loop.
    pub messages: mpsc::Sender<Message>,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// What happens, as JSON.
    pub events: broadcast::Sender<Arc<serde_json::Value>>,
    /// The store, for what is only read from there.
    pub store: Arc<dyn Store>,
}

impl Handle {
    /// Looks at the state. `None`: this controller does not lead (any more).
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask(|reply| {
            Message::Look(Box::new(move |state: &State| {
                let _ = reply.send(look(state));
            }))
        })
        .await
    }

    /// Asks the loop. `None`: this controller does not lead (any more).
    pub async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        if *self.standing.borrow() != Standing::Leads {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Campaigns, leads, and begins anew when another leads.
pub struct Driver {
    me: Me,
    limits: Limits,
    store: Arc<dyn Store>,
    messages: mpsc::Receiver<Message>,
    standing: watch::Sender<Standing>,
    events: broadcast::Sender<Arc<serde_json::Value>>,
}

impl Driver {
    /// A loop, and how to reach it.
    pub fn new(me: Me, limits: Limits, store: Arc<dyn Store>) -> (Driver, Handle) {
        metrics::describe();
        let (send, messages) = mpsc::channel(QUEUE);
        let (standing, stands) = watch::channel(Standing::Unknown("starting".into()));
        let events = broadcast::Sender::new(limits.events);
        let handle = Handle {
            messages: send,
            standing: stands,
            events: events.clone(),
            store: store.clone(),
        };
        let driver = Driver {
            me,
            limits,
            store,
            messages,
            standing,
            events,
        };
        (driver, handle)
    }

    /// Until `shutdown`. `clear`: see [`Config::clear_leases`](crate::Config::clear_leases).
    pub async fn run(mut self, mut clear: bool, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let won = {
                let store = self.store.clone();
                let ttl = self.limits.election_ttl;
                let campaign = election::campaign(&*store, &self.me, ttl, clear, &self.standing);
                tokio::pin!(campaign);
                loop {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        won = &mut campaign => break won,
                        // Who asks while nobody leads here is answered by the drop.
                        message = self.messages.recv() => if message.is_none() { return },
                    }
                }
            };
            match won {
                Ok(elected) => {
                    clear = false;
                    backoff.reset();
                    term::lead(&mut self, elected, &shutdown).await;
                }
                Err(why) => {
                    tracing::warn!(%why, "no leader can be elected; trying again");
                    let why = why.to_string();
                    self.standing.send_replace(Standing::Unknown(why.into()));
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        }
    }
}

/// How an event reads in the log.
fn log(event: &Event) {
    let text = serde_json::to_string(event).unwrap_or_default();
    match event {
        Event::StoreLost
        | Event::TableRefused { .. }
        | Event::EraRaised { .. }
        | Event::GroupsRestored { .. }
        | Event::GroupsRefused { .. }
        | Event::RoomMoveFailed { .. }
        | Event::DiskRefused { .. } => {
            tracing::warn!(event = %text, "control plane");
        }
        Event::TablesPushed { .. } => tracing::debug!(event = %text, "control plane"),
        _ => tracing::info!(event = %text, "control plane"),
    }
}
