//! One term of leading: store, nodes and publishers on one side, the pure state on the other.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use longspan_proto::time::Time;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Driver, Message, Session, Standing,
    election::{self, Elected},
};
use crate::{
    backoff::Backoff,
    state::{
        Begun, CallId, Changed, Conn, Done, Granted, Input, Now, PolicyView, Refused, RoomTrace,
        State, Ticket, Unchanged,
    },
    store::{Error, LeaseId, Revision, Watch},
};

/// Calls on the store under way at once; further ones wait. etcd commits some hundreds together.
const CALLS: usize = 128;
/// How often gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Term<'a> {
    pub(super) driver: &'a mut Driver,
    pub(super) started: Instant,
    pub(super) state: State,
    pub(super) watch: Option<Watch>,
    pub(super) election: (LeaseId, Revision),
    pub(super) sessions: HashMap<Conn, Session>,
    pub(super) next: u64,
    pub(super) claims: HashMap<Ticket, oneshot::Sender<Result<Granted, Refused>>>,
    pub(super) changes: HashMap<Ticket, oneshot::Sender<Result<Changed, Unchanged>>>,
    pub(super) traces: HashMap<Ticket, oneshot::Sender<Option<RoomTrace>>>,
    pub(super) moves: HashMap<Ticket, oneshot::Sender<Result<Begun, Unchanged>>>,
    pub(super) keeps: HashMap<Ticket, oneshot::Sender<Result<PolicyView, Unchanged>>>,
    pub(super) calls: JoinSet<(CallId, Result<Done, Error>)>,
    pub(super) permits: Arc<Semaphore>,
    /// Raising the era, by what is wanted.
    pub(super) eras: JoinSet<Result<u16, Error>>,
    pub(super) renewal: Option<BoxFuture<'static, (Instant, Result<(), Error>)>>,
    pub(super) recovery: Option<BoxFuture<'static, Option<Elected>>>,
    pub(super) audit: VecDeque<Value>,
    pub(super) audit_next: u64,
    pub(super) auditing: JoinSet<Result<(), Error>>,
}

/// Leads until another does, or `shutdown`.
pub async fn lead(driver: &mut Driver, elected: Elected, shutdown: &CancellationToken) {
    let mut term = Term {
        started: Instant::now(),
        state: State::new(driver.limits.clone()),
        watch: None,
        election: (elected.lease, elected.revision),
        sessions: HashMap::new(),
        next: 0,
        claims: HashMap::new(),
        changes: HashMap::new(),
        traces: HashMap::new(),
        moves: HashMap::new(),
        keeps: HashMap::new(),
        calls: JoinSet::new(),
        permits: Arc::new(Semaphore::new(CALLS)),
        eras: JoinSet::new(),
        renewal: None,
        recovery: None,
        audit: VecDeque::new(),
        audit_next: 0,
        auditing: JoinSet::new(),
        driver,
    };
    term.begin(elected);
    term.driver.standing.send_replace(Standing::Leads);
    metrics::gauge!("longspan_leader").set(1.0);
    term.run(shutdown).await;
    metrics::gauge!("longspan_leader").set(0.0);
    let ended = "this controller does not lead any more";
    let standing = Standing::Unknown(ended.into());
    term.driver.standing.send_replace(standing);
    if shutdown.is_cancelled() {
        // So that the next one need not wait for it to end.
        let _ = election::end(&*term.driver.store, term.election.0).await;
    }
}

impl Term<'_> {
    async fn run(&mut self, shutdown: &CancellationToken) {
        let mut renew = tokio::time::interval(self.driver.limits.election_ttl / 3);
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        loop {
            self.pump();
            let timeout = self.state.poll_timeout();
            let timeout = timeout.map(|at| self.started + at.saturating_since(Time::ZERO));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                recovered = optional(&mut self.recovery) => {
                    self.recovery = None;
                    match recovered {
                        Some(elected) => self.begin(elected),
                        None => return,
                    }
                }
                (at, told) = optional(&mut self.renewal) => {
                    self.renewal = None;
                    self.renewed(at, told);
                }
                Some(Ok((id, result))) = self.calls.join_next() => {
                    self.lost_if_unavailable(&result);
                    self.input(Input::Called(id, result));
                }
                Some(Ok(result)) = self.eras.join_next() => match result {
                    Ok(era) => self.input(Input::Era(era)),
                    // Wanted again when the next node joins.
                    Err(why) => tracing::warn!(%why, "the store's era is not raised"),
                },
                Some(Ok(result)) = self.auditing.join_next() => {
                    if let Err(why) = result {
                        tracing::warn!(%why, "an audit record is lost");
                    }
                }
                batch = next(&mut self.watch) => match batch {
                    Ok(batch) => self.input(Input::Changed(batch)),
                    // Too far behind, or gone: all is read anew.
                    Err(why) => self.recover(&why),
                },
                message = self.driver.messages.recv() => match message {
                    Some(message) => self.message(message),
                    None => return,
                },
                () = until(timeout) => {
                    let now = self.now();
                    self.state.handle_timeout(now);
                }
                _ = renew.tick() => self.renew(),
                _ = gauges.tick() => self.gauges(),
            }
        }
    }

    pub(super) fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            time: self.time(Instant::now()),
            unix_ms: since_epoch.unwrap_or_default().as_millis() as u64,
        }
    }

    fn time(&self, at: Instant) -> Time {
        Time::ZERO + at.saturating_duration_since(self.started)
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = self.now();
        self.state.handle(now, input);
    }

    fn begin(&mut self, elected: Elected) {
        // Calls from before tell nothing that the snapshot does not: late timeouts among them
        // would only look like another loss.
        self.calls = JoinSet::new();
        self.renewal = None;
        self.election = (elected.lease, elected.revision);
        self.watch = Some(elected.watch);
        self.audit_next = self.audit_next.max(elected.audit_next);
        let at = self.time(elected.renewed);
        self.input(Input::Renewed(at));
        self.input(Input::Leading {
            election: elected.revision,
            era: elected.era,
            snapshot: elected.snapshot,
        });
    }

    fn renew(&mut self) {
        if self.renewal.is_some() || self.recovery.is_some() {
            return;
        }
        let (store, lease) = (self.driver.store.clone(), self.election.0);
        self.renewal = Some(Box::pin(async move {
            let at = Instant::now();
            (at, store.keep_alive(lease).await)
        }));
    }

    fn renewed(&mut self, at: Instant, told: Result<(), Error>) {
        match told {
            Ok(()) => {
                let at = self.time(at);
                self.input(Input::Renewed(at));
            }
            Err(why) => self.recover(&why),
        }
    }

    fn lost_if_unavailable(&mut self, result: &Result<Done, Error>) {
        if let Err(why @ Error::Unavailable(_)) = result {
            self.recover(why);
        }
    }

    /// Asks the store with backoff whether it is back, and who leads.
    fn recover(&mut self, why: &Error) {
        self.watch = None;
        if self.recovery.is_some() {
            return;
        }
        tracing::warn!(%why, "the store is lost; what runs goes on, trying again with backoff");
        self.input(Input::StoreLost);
        let (store, me) = (self.driver.store.clone(), self.driver.me.clone());
        let (ttl, election) = (self.driver.limits.election_ttl, self.election);
        self.recovery = Some(Box::pin(async move {
            let mut backoff = Backoff::default();
            loop {
                tokio::time::sleep(backoff.next()).await;
                match election::resume(&*store, &me, ttl, election).await {
                    Ok(elected) => return elected,
                    Err(why) => tracing::debug!(%why, "the store is not back yet"),
                }
            }
        }));
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Join { join, to, reply } => {
                let limit = self.driver.limits.sessions;
                if self.sessions.len() >= limit {
                    let what = "sessions at one controller";
                    let _ = reply.send(Err(Refused::Limit { what, limit }));
                    return;
                }
                self.next += 1;
                let conn = self.next;
                if reply.send(Ok(conn)).is_err() {
                    return;
                }
                self.sessions.insert(conn, to);
                self.input(Input::Joined {
                    conn,
                    fresh: election::fresh_lease(),
                    join,
                });
            }
            Message::Left(conn) => {
                self.sessions.remove(&conn);
                self.input(Input::Left(conn));
            }
            Message::Said(conn, said) => self.input(Input::Said(conn, said)),
            Message::Claim(claim, reply) => {
                self.next += 1;
                self.claims.insert(self.next, reply);
                self.input(Input::Claim(self.next, claim));
            }
            Message::Release {
                session,
                room,
                stream,
                generation,
                reply,
            } => {
                self.input(Input::Release {
                    session,
                    room,
                    stream,
                    generation,
                });
                let _ = reply.send(());
            }
            Message::Change(change, reply) => {
                self.next += 1;
                self.changes.insert(self.next, reply);
                self.input(Input::Change(self.next, change));
            }
            Message::Trace(room, reply) => {
                self.next += 1;
                self.traces.insert(self.next, reply);
                self.input(Input::Trace(self.next, room));
            }
            Message::Move(wish, reply) => {
                self.next += 1;
                self.moves.insert(self.next, reply);
                self.input(Input::Move(self.next, wish));
            }
            Message::Keep(wish, reply) => {
                self.next += 1;
                self.keeps.insert(self.next, reply);
                self.input(Input::Keep(self.next, wish));
            }
            Message::Look(look) => look(&self.state),
        }
    }
}

/// Waits for a future that may not be there.
async fn optional<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn next(watch: &mut Option<Watch>) -> Result<crate::store::Batch, Error> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
