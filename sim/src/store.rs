//! The store that controllers share, and the network to it: the real
//! [`Engine`](longspan_controller::store::embedded::engine::Engine), whose answers take a while.

use std::time::Duration;

use longspan_controller::{
    state::{Call, CallId, Done, Input, key::ROOT},
    store::{Error, LeaseId},
};

use crate::{
    plane::Event,
    world::{self, World},
};

/// A call to the store takes so long at least, and up to twice that.
const STORE_RTT_US: u64 = 4_000;
impl World {
    /// etcd cannot be reached by anybody.
    pub fn lose_store(&mut self) {
        self.log(format_args!("the store is lost"));
        self.plane.store_up = false;
    }

    /// It can again; its leases begin anew.
    pub fn return_store(&mut self) {
        self.log(format_args!("the store is back"));
        self.plane.store_up = true;
        self.plane.led_since = self.now;
        let leases: Vec<LeaseId> = self.plane.leases.keys().copied().collect();
        for lease in leases {
            let _ = self.plane.engine.keep_alive(self.now, lease);
        }
        self.expire_later();
        self.store_changed();
    }

    pub(crate) fn store_wait(&mut self) -> Duration {
        let wait = STORE_RTT_US + self.dice.below(STORE_RTT_US);
        Duration::from_micros(wait / 2)
    }

    pub(crate) fn store_does(&mut self, c: usize, term: u64, id: CallId, call: Call) {
        let now = self.now;
        let wait = self.store_wait();
        let result = match (self.plane.store_up, call) {
            (false, _) => {
                let timeout = self.plane.limits.store_timeout;
                let lost = Err(Error::Unavailable("no answer in time".into()));
                let event = Event::Called(c, term, id, lost);
                self.after(timeout, world::Event::Plane(event));
                return;
            }
            (_, Call::Read(key)) => self.plane.engine.read(&key, None).map(|snapshot| {
                let mut entries = snapshot.entries.into_iter();
                Done::Entry(entries.find(|e| *e.key == *key))
            }),
            (_, Call::Commit(txn) | Call::Audited(txn, _)) => {
                let leader = self.plane.leader();
                let before = self.plane.engine.revision();
                let done = self.plane.engine.commit(&txn);
                if self.plane.engine.revision() > before {
                    let own = &self.plane.controllers[c].id;
                    let by = leader.map(|(leader, ..)| leader.id);
                    self.laws.commit(own, by.as_ref());
                }
                done.map(Done::Committed)
            }
            (_, Call::Grant(lease, ttl)) => {
                let done = self.plane.engine.grant(now, lease, ttl);
                self.plane.leases.insert(lease, ttl);
                self.expire_later();
                done.map(|()| Done::Lease)
            }
            (_, Call::KeepAlive(lease)) => self
                .plane
                .engine
                .keep_alive(now, lease)
                .map(|()| Done::Lease),
            (_, Call::Revoke(lease)) => {
                self.plane.leases.remove(&lease);
                self.plane.engine.revoke(lease).map(|()| Done::Lease)
            }
        };
        self.store_changed();
        let event = Event::Called(c, term, id, result);
        self.after(wait, world::Event::Plane(event));
    }

    /// Watchers are told a little later.
    pub(crate) fn store_changed(&mut self) {
        let _ = self.plane.engine.take_effects();
        let revision = self.plane.engine.revision();
        for c in 0..self.plane.controllers.len() {
            let controller = &mut self.plane.controllers[c];
            let behind = controller.watch_from.is_some_and(|from| from <= revision);
            if behind && !std::mem::replace(&mut controller.feed_due, true) {
                let event = Event::Feed(c, controller.boot);
                let wait = self.store_wait();
                self.after(wait, world::Event::Plane(event));
            }
        }
    }

    pub(crate) fn feed(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        controller.feed_due = false;
        let Some(from) = controller.watch_from.filter(|_| self.plane.store_up) else {
            return;
        };
        match self.plane.engine.since(ROOT, from) {
            Ok(batches) => {
                controller.watch_from = Some(self.plane.engine.revision() + 1);
                for batch in batches {
                    self.control(c, Input::Changed(batch));
                }
            }
            Err(_) => self.lost(c),
        }
    }

    pub(crate) fn expire_later(&mut self) {
        let due = self.plane.engine.next_expiry();
        if let (Some(at), false) = (due, self.plane.expire_due) {
            self.plane.expire_due = true;
            // Not before its end; etcd looks twice a second.
            let at = at.max(self.now + Duration::from_millis(500));
            self.schedule(at, world::Event::Plane(Event::Expire));
        }
    }
}
