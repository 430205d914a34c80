//! Carrying out what the state wants.

use std::sync::Arc;

use super::{Ended, audit, log, term::Term};
use crate::{
    state::{Call, CallId, Conn, Done, Event, Input, Output, Refused, key::Key},
    store::{Compare, Error, Store, era},
};

/// Audit records waiting for the store; then the oldest is lost, and that is logged.
const AUDIT_QUEUE: usize = 256;

impl Term<'_> {
    /// Carries out what the state wants.
    pub(super) fn pump(&mut self) {
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Call(id, call) => self.call(id, call),
                Output::RaiseEra(era) => {
                    let (store, election) = (self.driver.store.clone(), self.election.1);
                    let leads = Compare::Revision(Key::Election.to_string(), election);
                    self.eras
                        .spawn(async move { era::at_least(&*store, era, Some(leads)).await });
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
                Output::Changed(ticket, answer) => {
                    if let Some(reply) = self.changes.remove(&ticket) {
                        let _ = reply.send(answer);
                    }
                }
                Output::Traced(ticket, answer) => {
                    if let Some(reply) = self.traces.remove(&ticket) {
                        let _ = reply.send(answer.map(|trace| *trace));
                    }
                }
                Output::Moving(ticket, answer) => {
                    if let Some(reply) = self.moves.remove(&ticket) {
                        let _ = reply.send(answer);
                    }
                }
                Output::Kept(ticket, answer) => {
                    if let Some(reply) = self.keeps.remove(&ticket) {
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
        let call = match call {
            Call::Audited(mut txn, record) => {
                txn.writes.extend(audit::writes(self.audit_next, &record));
                self.audit_next += 1;
                Call::Commit(txn)
            }
            call => call,
        };
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
            Event::GroupsRefused { groups, .. } => {
                metrics::counter!("longspan_rejected_total", "reason" => "group")
                    .increment(*groups as u64);
            }
            Event::DiskRefused { .. } => {
                metrics::counter!("longspan_rejected_total", "reason" => "disk").increment(1);
            }
            Event::TablesPushed { .. } => {
                let n = self.state.version().n;
                metrics::gauge!("longspan_route_epoch").set(n as f64);
            }
            Event::RoomMoved { .. } => {
                metrics::counter!("longspan_room_moves_total", "result" => "moved").increment(1);
            }
            Event::RoomMoveFailed { .. } => {
                metrics::counter!("longspan_room_moves_total", "result" => "failed").increment(1);
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

    pub(super) fn gauges(&self) {
        let counts = self.state.counts();
        for (role, count) in ["relay", "edge"].into_iter().zip(counts.nodes) {
            metrics::gauge!("longspan_nodes", "role" => role).set(count as f64);
        }
        metrics::gauge!("longspan_rooms").set(counts.rooms as f64);
        metrics::gauge!("longspan_streams").set(counts.streams as f64);
        let [all, reduced, stopped] = counts.groups;
        metrics::gauge!("longspan_placement_groups").set(all as f64);
        metrics::gauge!("longspan_placement_groups_reduced").set((reduced + stopped) as f64);
        metrics::gauge!("longspan_placement_groups_stopped").set(stopped as f64);
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
        Call::Commit(txn) | Call::Audited(txn, _) => store.commit(txn).await.map(Done::Committed),
        Call::Grant(lease, ttl) => store.grant(lease, ttl).await.map(|()| Done::Lease),
        Call::KeepAlive(lease) => store.keep_alive(lease).await.map(|()| Done::Lease),
        Call::Revoke(lease) => store.revoke(lease).await.map(|()| Done::Lease),
    }
}
