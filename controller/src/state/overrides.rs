//! What operators ask for: cordons, drains, costs, pins (DESIGN §7 `overrides/…`).
//!
//! Each is a record that no lease holds, put in the store in one commit with its line in the
//! audit: so it outlives the controller that took it, and none is without its reason. What has
//! expired counts no more at once, also while the store is away; its record goes when it is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use longspan_proto::{ids::NodeId, time::Time};

use super::{
    Call, Done, Event, Now, Output, State, Ticket,
    io::{Ask, Change, Changed, Unchanged},
    key::{Key, Target},
    record::{self, Wish},
    sync::Purpose,
};
use crate::{
    routes::{self, CostOverride, NodeOverride},
    store::{Compare, Error, Write},
};

/// An expired record that could not be deleted is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// What is in force, and what waits.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    in_force: BTreeMap<Target, record::Override>,
    /// Expired; the store still holds them.
    expired: BTreeSet<Target>,
    due: Option<Time>,
}

impl Overrides {
    /// When something expires.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    pub fn get(&self, target: &Target) -> Option<&record::Override> {
        self.in_force.get(target)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Target, &record::Override)> {
        self.in_force.iter()
    }

    /// What is asked of nodes.
    pub fn of_nodes(&self) -> impl Iterator<Item = (&NodeId, &record::Override)> {
        self.in_force
            .iter()
            .filter_map(|(target, asked)| match target {
                Target::Node(id) => Some((id, asked)),
                _ => None,
            })
    }

    /// What is asked of a node.
    pub fn node(&self, node: &NodeId) -> Option<&record::Override> {
        self.in_force.get(&Target::Node(node.clone()))
    }

    pub fn is_draining(&self, node: &NodeId) -> bool {
        let asked = self.node(node).map(|asked| &asked.what);
        matches!(asked, Some(Wish::Drain { .. }))
    }

    /// As routing takes it.
    fn for_router(&self) -> routes::Overrides {
        let mut all = routes::Overrides::default();
        for (target, asked) in &self.in_force {
            match (target, &asked.what) {
                (Target::Node(id), Wish::Cordon) => {
                    all.nodes.insert(id.clone(), NodeOverride::Cordoned);
                }
                (Target::Node(id), Wish::Drain { .. }) => {
                    all.nodes.insert(id.clone(), NodeOverride::Draining);
                }
                (Target::Cordon(link), Wish::Cordon) => {
                    let key = (link.from.clone(), link.to.clone(), link.net.clone());
                    all.links.entry(key).or_default().cordoned = true;
                }
                (Target::Cost(link), what) => {
                    let cost = match what {
                        Wish::CostAdded { added_us } => CostOverride::Added(*added_us as i64),
                        Wish::CostFactor { factor } => CostOverride::Factor(*factor),
                        _ => continue,
                    };
                    let key = (link.from.clone(), link.to.clone(), link.net.clone());
                    all.links.entry(key).or_default().cost = Some(cost);
                }
                (Target::Pin(from, to), Wish::Pin { nodes }) => {
                    let ends = (from.clone(), to.clone());
                    all.pins.insert(ends, nodes.clone());
                }
                // A record that makes no sense asks for nothing.
                _ => {}
            }
        }
        all
    }
}

impl State {
    /// Everything the store holds, when it is read anew.
    pub(super) fn read_overrides(&mut self, now: Now) {
        let stored = self.mirror.iter().filter_map(|(key, stored)| match key {
            Key::Override(target) => Some((target.clone(), record::read(&stored.value)?)),
            _ => None,
        });
        self.overrides.in_force = stored.collect();
        self.overrides.expired.clear();
        self.overrides_changed(now);
    }

    /// A record was put or is gone, by whomever.
    pub(super) fn override_stored(
        &mut self,
        now: Now,
        target: Target,
        stored: Option<record::Override>,
    ) {
        self.overrides.expired.remove(&target);
        let in_force = &mut self.overrides.in_force;
        let before = match stored.clone() {
            Some(asked) => in_force.insert(target, asked),
            None => in_force.remove(&target),
        };
        if before != stored {
            self.overrides_changed(now);
        }
    }

    /// Carries an operator's wish to the store.
    pub(super) fn change(&mut self, now: Now, ticket: Ticket, change: Change) {
        let answer = match self.judge_change(now, &change) {
            Err(why) => Err(why),
            Ok(None) => Ok(Changed { changed: false }),
            Ok(Some(asked)) => return self.commit_change(now, Some(ticket), change, asked),
        };
        self.outputs.push_back(Output::Changed(ticket, answer));
    }

    /// What to store (`Some(None)`: nothing any more), or nothing if it is so already.
    fn judge_change(
        &self,
        now: Now,
        change: &Change,
    ) -> Result<Option<Option<record::Override>>, Unchanged> {
        if !self.store_up {
            let what = "the store cannot be reached, so nothing can be changed now";
            return Err(Unchanged::Unavailable(what.into()));
        }
        let before = self.overrides.get(&change.target);
        let Ask::Set(what) = &change.ask else {
            let why = match (&change.ask, before.map(|before| &before.what)) {
                (_, None) => return Ok(None),
                (Ask::Uncordon, Some(Wish::Drain { .. })) => "draining, not cordoned: undrain it",
                (Ask::Undrain, Some(Wish::Cordon)) => "cordoned, not draining: uncordon it",
                _ => return Ok(Some(None)),
            };
            return Err(Unchanged::Refused(format!("{} is {why}", change.target)));
        };
        self.check_target(&change.target, what)?;
        if let (Target::Node(id), Wish::Drain { .. }) = (&change.target, what)
            && let Some(edge) = self.nodes.get(id).filter(|node| !node.is_relay())
            && !change.force
            && !self.overrides.is_draining(id)
        {
            self.check_edge_drain(edge).map_err(Unchanged::Refused)?;
        }
        let limit = self.limits.overrides;
        if before.is_none() && self.overrides.in_force.len() >= limit {
            let what = "overrides";
            return Err(Unchanged::Refused(format!(
                "{what}: the limit of {limit} is reached"
            )));
        }
        Ok(Some(Some(record::Override {
            what: what.clone(),
            reason: change.reason.clone(),
            owner: change.owner.clone(),
            since_ms: now.unix_ms,
            until_ms: change.ttl.map(|ttl| now.unix_ms + ttl.as_millis() as u64),
        })))
    }

    /// Whether what it names is there, and may be asked for that.
    fn check_target(&self, target: &Target, what: &Wish) -> Result<(), Unchanged> {
        let node = |id: &NodeId| match self.nodes.get(id) {
            Some(node) => Ok(node),
            None => Err(self.no_node(id)),
        };
        match target {
            Target::Node(id) => node(id).map(|_| ()),
            Target::Cordon(link) | Target::Cost(link) => {
                node(&link.from)?;
                node(&link.to)?;
                let links = self.router.links();
                let is_it = |net: &longspan_proto::ids::Net| {
                    link.net.as_ref().is_none_or(|asked| asked == net)
                };
                let mut between = links
                    .iter()
                    .filter(|l| l.from == link.from && l.to == link.to);
                match between.any(|l| is_it(&l.net)) {
                    true => Ok(()),
                    false => Err(Unchanged::NotFound {
                        what: format!("there is no link {link}"),
                        near: None,
                    }),
                }
            }
            Target::Pin(from, to) => {
                node(from)?;
                if !node(to)?.is_relay() {
                    return Err(Unchanged::Refused(format!(
                        "{to} is an edge: paths lead to relays; pin the path to a relay it is \
                         attached to"
                    )));
                }
                let Wish::Pin { nodes } = what else {
                    return Ok(());
                };
                for id in nodes {
                    node(id)?;
                }
                let possible = self.router.check_pin(from, nodes);
                possible.map_err(|why| Unchanged::Refused(why.to_string()))
            }
        }
    }

    /// No such node, and the one that may have been meant.
    pub fn no_node(&self, id: &str) -> Unchanged {
        Unchanged::NotFound {
            what: format!("there is no node {id}"),
            near: super::nearest(id, self.nodes.keys().map(|known| known.as_str())),
        }
    }

    /// No such room, and the one of its tenant that may have been meant.
    pub fn no_room(&self, name: &longspan_proto::ids::RoomName) -> Unchanged {
        let rooms = self.rooms.keys().filter(|room| room.tenant == name.tenant);
        Unchanged::NotFound {
            what: format!("there is no room {name}"),
            near: super::nearest(&name.room, rooms.map(|room| room.room.as_str())),
        }
    }

    fn commit_change(
        &mut self,
        now: Now,
        ticket: Option<Ticket>,
        change: Change,
        asked: Option<record::Override>,
    ) {
        let key = Key::Override(change.target.clone());
        let text = key.to_string();
        let compare = match self.mirror.get(&key) {
            Some(stored) => Compare::Revision(text.clone(), stored.revision),
            None => Compare::Absent(text.clone()),
        };
        let write = match &asked {
            Some(asked) => Write::Put {
                key: text,
                value: record::write(asked),
                lease: None,
            },
            None => Write::Delete(text),
        };
        let event = change.event(asked.as_ref());
        let audit = record::audit(now.unix_ms, &change.actor(), &event);
        let Call::Commit(txn) = self.fenced(vec![compare], vec![write]) else {
            return;
        };
        let writes = txn.writes.clone();
        let made = Made {
            ticket,
            target: change.target,
            asked,
            writes,
            event,
        };
        self.call(Purpose::Change(Box::new(made)), Call::Audited(txn, audit));
    }

    pub(super) fn change_made(&mut self, now: Now, made: Made, result: Result<Done, Error>) {
        let answer = match result {
            Ok(Done::Committed(revision)) => {
                self.mirror_writes(&made.writes, revision);
                self.override_stored(now, made.target, made.asked);
                self.event(made.event);
                Ok(Changed { changed: true })
            }
            Err(Error::Conflict) => Err(Unchanged::Refused(format!(
                "{} was changed by another at the same moment; look, and ask again",
                made.target
            ))),
            Err(why) if made.ticket.is_none() => {
                tracing::debug!(%why, "an expired override is not deleted yet");
                self.overrides.expired.insert(made.target);
                self.overrides.due = Some(now.time + RETRY);
                return;
            }
            Err(why) => Err(Unchanged::Unavailable(format!(
                "{why}; whether {} was changed is not known",
                made.target
            ))),
            Ok(_) => return,
        };
        if let Some(ticket) = made.ticket {
            self.outputs.push_back(Output::Changed(ticket, answer));
        }
    }

    /// Tells routing and nodes what is in force, and sees when it changes by itself.
    fn overrides_changed(&mut self, now: Now) {
        let over = |asked: &record::Override| asked.until_ms.is_some_and(|at| at <= now.unix_ms);
        let in_force = &mut self.overrides.in_force;
        let ended: Vec<Target> = in_force
            .iter()
            .filter(|(_, asked)| over(asked))
            .map(|(target, _)| target.clone())
            .collect();
        for target in ended {
            in_force.remove(&target);
            self.overrides.expired.insert(target);
        }
        let next = in_force.values().filter_map(|asked| asked.until_ms).min();
        let wait = |at: u64| Duration::from_millis(at.saturating_sub(now.unix_ms));
        self.overrides.due = next.map(|at| now.time + wait(at));
        if !self.overrides.expired.is_empty() {
            self.overrides.due = Some(now.time);
        }
        self.router
            .set_overrides(now.time, self.overrides.for_router());
        // Who drains stands in the directory.
        self.membership_changed(now);
    }

    /// Does what is due: what has expired counts no more, and its records go.
    pub(super) fn expire_overrides(&mut self, now: Now) {
        if self.overrides.due.is_none_or(|due| due > now.time) {
            return;
        }
        if self.overrides.expired.is_empty() {
            self.overrides_changed(now);
        }
        let expired = std::mem::take(&mut self.overrides.expired);
        let next = self
            .overrides
            .in_force
            .values()
            .filter_map(|asked| asked.until_ms);
        let wait = |at: u64| Duration::from_millis(at.saturating_sub(now.unix_ms));
        self.overrides.due = next.min().map(|at| now.time + wait(at));
        for target in expired {
            if !self.mirror.contains_key(&Key::Override(target.clone())) {
                continue;
            }
            if self.store_up {
                self.commit_change(now, None, Change::expiry(target), None);
            } else {
                // Read anew when the store is back.
                self.overrides.expired.insert(target);
            }
        }
    }
}

/// A change whose commit was made.
#[derive(Debug)]
pub(super) struct Made {
    ticket: Option<Ticket>,
    target: Target,
    asked: Option<record::Override>,
    writes: Vec<Write>,
    event: Event,
}

impl Change {
    fn expiry(target: Target) -> Change {
        Change {
            target,
            ask: Ask::Clear,
            reason: "its time is over".into(),
            owner: String::new(),
            ttl: None,
            force: false,
        }
    }

    fn actor(&self) -> String {
        match &*self.owner {
            "" => "the clock".into(),
            owner => format!("operator {owner}"),
        }
    }

    fn event(&self, asked: Option<&record::Override>) -> Event {
        let target = self.target.to_string();
        let (reason, owner) = (self.reason.clone(), self.owner.clone());
        match asked {
            Some(asked) => Event::OverrideSet {
                target,
                what: asked.what.clone(),
                reason,
                owner,
                until_ms: asked.until_ms,
            },
            None => Event::OverrideEnded {
                target,
                reason,
                owner,
            },
        }
    }
}
