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
    Driver, Ended, Message, Session, Standing, audit,
    election::{self, Elected},
    log,
};
use crate::{
    backoff::Backoff,
    state::{Call, CallId, Conn, Done, Event, Granted, Input, Now, Output, Refused, State, Ticket},
    store::{Error, LeaseId, Revision, Store, Watch, era},
};

/// Calls on the store under way at once; further ones wait. etcd commits some hundreds together.
const CALLS: usize = 128;
/// Audit records waiting for the store; then the oldest is lost, and that is logged.
const AUDIT_QUEUE: usize = 256;
/// How often gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

struct Term<'a> {
    driver: &'a mut Driver,
    started: Instant,
    state: State,
    watch: Option<Watch>,
    election: (LeaseId, Revision),
    sessions: HashMap<Conn, Session>,
    next: u64,
    claims: HashMap<Ticket, oneshot::Sender<Result<Granted, Refused>>>,
    calls: JoinSet<(CallId, Result<Done, Error>)>,
    permits: Arc<Semaphore>,
    /// Raising the era, by what is wanted.
    eras: JoinSet<Result<u16, Error>>,
    renewal: Option<BoxFuture<'static, (Instant, Result<(), Error>)>>,
    recovery: Option<BoxFuture<'static, Option<Elected>>>,
    audit: VecDeque<Value>,
    audit_next: u64,
    auditing: JoinSet<Result<(), Error>>,
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

    fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            time: self.time(Instant::now()),
            unix_ms: since_epoch.unwrap_or_default().as_millis() as u64,
        }
    }

    fn time(&self, at: Instant) -> Time {
        Time::ZERO + at.saturating_duration_since(self.started)
    }

    fn input(&mut self, input: Input) {
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
            Message::Join {
                node,
                session,
                highest,
                to,
                reply,
            } => {
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
                    node: *node,
                    session,
                    fresh: election::fresh_lease(),
                    highest,
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
            Message::Look(look) => look(&self.state),
        }
    }

    /// Carries out what the state wants.
    fn pump(&mut self) {
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Call(id, call) => self.call(id, call),
                Output::RaiseEra(era) => {
                    let store = self.driver.store.clone();
                    self.eras
                        .spawn(async move { era::at_least(&*store, era).await });
                }
                Output::Push(conn, message) => {
                    let session = self.sessions.get(&conn);
                    if session.is_some_and(|s| s.pushes.try_send(message).is_err()) {
                        let limit = self.driver.limits.session_queue;
                        self.close(conn, Ended::Slow(limit));
                        self.input(Input::Left(conn));
                    }
                }
                Output::Close(conn, why) => self.close(conn, why.into()),
                Output::Claimed(ticket, answer) => {
                    let result = match &answer {
                        Ok(_) => "granted",
                        Err(Refused::Held { .. }) => "held",
                        Err(Refused::Unavailable(_)) => "unavailable",
                        Err(_) => "refused",
                    };
                    metrics::counter!("longspan_claims_total", "result" => result).increment(1);
                    if let Some(reply) = self.claims.remove(&ticket) {
                        let _ = reply.send(answer);
                    }
                }
                Output::Event(event) => self.event(&event),
            }
        }
        self.write_audit();
    }

    fn close(&mut self, conn: Conn, why: Ended) {
        if let Some(session) = self.sessions.remove(&conn) {
            if let Ended::Slow(_) = why {
                metrics::counter!("longspan_rejected_total", "reason" => "slow_session")
                    .increment(1);
            }
            tracing::warn!(%why, "a session is closed");
            let _ = session.close.send(why);
        }
    }

    fn call(&mut self, id: CallId, call: Call) {
        let (store, permits) = (self.driver.store.clone(), self.permits.clone());
        self.calls.spawn(async move {
            let _permit = permits.acquire_owned().await;
            (id, make(&*store, call).await)
        });
    }

    fn event(&mut self, event: &Event) {
        log(event);
        match event {
            Event::TableRefused { .. } => {
                metrics::counter!("longspan_config_nacks_total").increment(1);
            }
            Event::TablesPushed { .. } => {
                let n = self.state.version().n;
                metrics::gauge!("longspan_route_epoch").set(n as f64);
            }
            Event::RouteSwitched(_) => {
                metrics::counter!("longspan_route_switches_total").increment(1);
            }
            _ => {}
        }
        if let Ok(json) = serde_json::to_value(event) {
            // Nobody listening is fine.
            let _ = self.driver.events.send(Arc::new(json));
        }
        let at_ms = self.now().unix_ms;
        if let Some(record) = audit::entry(&self.driver.me.id, at_ms, event) {
            if self.audit.len() >= AUDIT_QUEUE {
                let lost = self.audit.pop_front();
                tracing::warn!(record = ?lost, "an audit record is lost: too many wait");
            }
            self.audit.push_back(record);
        }
    }

    /// One record at a time, in order, while the store is there.
    fn write_audit(&mut self) {
        if self.recovery.is_some() || !self.auditing.is_empty() {
            return;
        }
        if let Some(record) = self.audit.pop_front() {
            let (store, n) = (self.driver.store.clone(), self.audit_next);
            self.audit_next += 1;
            self.auditing
                .spawn(async move { audit::write(&*store, n, &record).await });
        }
    }

    fn gauges(&self) {
        let counts = self.state.counts();
        for (role, count) in ["relay", "edge"].into_iter().zip(counts.nodes) {
            metrics::gauge!("longspan_nodes", "role" => role).set(count as f64);
        }
        metrics::gauge!("longspan_rooms").set(counts.rooms as f64);
        metrics::gauge!("longspan_streams").set(counts.streams as f64);
        metrics::gauge!("longspan_store_up").set(f64::from(u8::from(counts.store_up)));
    }
}

async fn make(store: &dyn Store, call: Call) -> Result<Done, Error> {
    match call {
        Call::Read(key) => {
            let snapshot = store.read(&key, None).await?;
            let entry = snapshot.entries.into_iter().find(|e| *e.key == *key);
            Ok(Done::Entry(entry))
        }
        Call::Commit(txn) => store.commit(txn).await.map(Done::Committed),
        Call::Grant(lease, ttl) => store.grant(lease, ttl).await.map(|()| Done::Lease),
        Call::KeepAlive(lease) => store.keep_alive(lease).await.map(|()| Done::Lease),
        Call::Revoke(lease) => store.revoke(lease).await.map(|()| Done::Lease),
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
