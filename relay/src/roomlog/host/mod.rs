//! The placement groups of a node: the driver of [`Group`]. One task owns them all, one thread
//! writes for them all.
//!
//! * `beats`: pure: which edges were heard of.
//! * `enter`: who is let in to its rooms.
//! * `moves`: rooms that move: a group's [`Mover`](super::mover::Mover) and its calls.
//! * `policies`: what operators want kept of rooms: a group's [`Policies`](super::policy::Policies).
//! * `record`: pure: what a group's record asks of this node.
//! * `running`: one group: where its outputs go.
//! * `writer`: the disk's thread.
//! * [`port`]: what the rest of the node sees.

mod beats;
mod enter;
mod moves;
mod policies;
pub(crate) mod port;
mod record;
mod running;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use longspan_proto::{
    control::{self, PlacementGroup},
    time::Time,
};
use metrics::counter;
use prost::Message;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use self::{
    port::{Ask, Heard, NotHere, Port, Start, Status},
    record::{Held, Record, Step},
    running::{Places, Running},
    writer::{Life, Writer, Written},
};
use super::{
    Limits,
    disk::{Disk, DiskError},
    group::{Group, Input, Member, Saved, Unserved},
    mover::Input::Wishes,
};
use crate::{node::Handle, shared::Shared};

/// How often what needs no hurry is looked at: status, drain, removal.
const TICK: Duration = Duration::from_secs(1);
/// How often rooms that nobody is in are looked for, and numbers of ephemeral messages put into the
/// log.
const SWEEP: u64 = 10;

/// See the [module](self).
pub(crate) struct Host {
    shared: Arc<Shared>,
    port: Arc<Port>,
    handle: Handle,
    writer: Writer,
    groups: BTreeMap<u64, Running>,
    /// Of groups this node had a part in, and of those it is told of.
    ended: BTreeMap<u64, (Record, Option<Member>)>,
    lives: u64,
    ticks: u64,
}

/// Serves a node's groups until it stops. Once a node.
pub(crate) async fn run(shared: Arc<Shared>, port: Arc<Port>) {
    let Some(Start { disk, heard, asked }) = port.start() else {
        return;
    };
    let parts = match remembered(&disk) {
        Ok(parts) => parts,
        Err(error) => {
            tracing::error!(%error, "this node takes no part in placement groups");
            return;
        }
    };
    let (writer, written) = Writer::start(disk);
    let mut host = Host {
        handle: Handle::new(shared.clone()),
        port,
        writer,
        groups: BTreeMap::new(),
        ended: BTreeMap::new(),
        lives: 0,
        ticks: 0,
        shared,
    };
    for (record, member, ended, saved) in parts {
        match member {
            Some(member) => host.start(record, member, ended, saved).await,
            None => drop(host.ended.insert(record.id, (record, ended))),
        }
    }
    host.tell();
    host.work(heard, asked, written).await;
    host.groups.clear();
    host.writer.close().await;
}

type Remembered = (Record, Option<Member>, Option<Member>, Saved);

fn remembered(disk: &Disk) -> Result<Vec<Remembered>, DiskError> {
    let mut parts = Vec::new();
    for part in disk.parts()? {
        let record = PlacementGroup::decode(&part.record[..]).map_err(|e| e.to_string());
        match record.and_then(Record::parse) {
            Ok(record) => {
                let saved = disk.load(part.group)?;
                parts.push((record, part.member, part.ended, saved));
            }
            Err(why) => tracing::error!(part.group, why, "a remembered group is not understood"),
        }
    }
    Ok(parts)
}

impl Host {
    fn now(&self) -> Time {
        self.shared.engine.clock().now()
    }

    async fn work(
        &mut self,
        mut heard: mpsc::Receiver<Heard>,
        mut asked: mpsc::Receiver<Ask>,
        mut written: mpsc::UnboundedReceiver<Written>,
    ) {
        let (port, stop) = (self.port.clone(), self.shared.stop.clone());
        let mut told = port.told.subscribe();
        told.mark_changed();
        let mut moves = port.moves.subscribe();
        moves.mark_changed();
        let mut policies = port.policies.subscribe();
        policies.mark_changed();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.groups.values().filter_map(Running::poll_timeout).min();
            let due = due.map(|due| self.shared.engine.clock().instant(due));
            let timeout = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = written.recv() => self.written(done).await,
                Some(heard) = heard.recv() => self.hear(heard).await,
                Some(ask) = asked.recv() => self.ask(ask).await,
                () = timeout => self.timeouts().await,
                Ok(()) = told.changed() => {
                    let groups = told.borrow_and_update().clone();
                    self.told(groups.groups.clone()).await;
                }
                Ok(()) = moves.changed() => {
                    let moves = moves.borrow_and_update().clone();
                    self.wish(&moves).await;
                }
                Ok(()) = policies.changed() => {
                    let policies = policies.borrow_and_update().clone();
                    self.heed_policies(&policies).await;
                }
                () = port.resign.notified() => self.resign().await,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    async fn hear(&mut self, heard: Heard) {
        let group = heard.packet.group;
        self.input(group, Input::Packet(heard.packet)).await;
    }

    async fn input(&mut self, group: u64, input: Input) {
        let now = self.now();
        if let Some(running) = self.groups.get_mut(&group) {
            running.handle(now, input);
            self.settle(group).await;
        }
    }

    /// Puts a group's outputs in their places.
    async fn settle(&mut self, group: u64) {
        let now = self.now();
        let Some(running) = self.groups.get_mut(&group) else {
            return;
        };
        let peers = &self.shared.peers;
        let places = Places { peers, now };
        for persist in running.settle(&places) {
            self.writer.write(group, running.life, persist).await;
        }
        if running.has_turned() {
            self.tell();
        }
    }

    async fn timeouts(&mut self) {
        let now = self.now();
        let due: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, running)| running.poll_timeout().is_some_and(|due| due <= now))
            .map(|(group, _)| *group)
            .collect();
        for group in due {
            if let Some(running) = self.groups.get_mut(&group) {
                running.handle_timeout(now);
            }
            self.settle(group).await;
        }
    }

    async fn written(&mut self, written: Written) {
        match written {
            Written::Safe(safe) => {
                for (group, life, number) in safe {
                    if self
                        .groups
                        .get(&group)
                        .is_some_and(|running| running.life == life)
                    {
                        self.input(group, Input::Persisted(number)).await;
                    }
                }
            }
            Written::Failed(error) => {
                for running in self.groups.values_mut() {
                    running.halt(error.to_string());
                }
            }
        }
    }

    async fn ask(&mut self, ask: Ask) {
        let now = self.now();
        let group = match &ask {
            Ask::Enter { group, .. }
            | Ask::Do { group, .. }
            | Ask::Beat { group, .. }
            | Ask::Lead { group, .. }
            | Ask::Arrived { group, .. }
            | Ask::Line { group, .. }
            | Ask::Read { group, .. } => *group,
        };
        let Some(running) = self.groups.get_mut(&group) else {
            // Whoever asked may be gone.
            match ask {
                Ask::Enter { reply, .. } => {
                    let why = format!("{} has no part in group {group}", self.handle.id());
                    let _ = reply.send(Err(NotHere::Unavailable(why)));
                }
                Ask::Lead { reply, .. } => {
                    let why = format!("{} has no part in group {group}", self.handle.id());
                    let _ = reply.send(Err(NotHere::Unavailable(why)));
                }
                // Whoever waits sees that nobody will answer.
                Ask::Arrived { .. } | Ask::Line { .. } => {}
                Ask::Do { reply, .. } | Ask::Beat { reply, .. } => {
                    let _ = reply.send(Err(Unserved::Elsewhere { leader: None }));
                }
                Ask::Read { reply, .. } => {
                    let _ = reply.send(Err(Unserved::Elsewhere { leader: None }));
                }
            }
            return;
        };
        running.ask(now, ask);
        self.settle(group).await;
    }

    /// The groups as a controller tells them, whole.
    async fn told(&mut self, groups: Vec<PlacementGroup>) {
        for told in groups {
            let id = told.id;
            match Record::parse(told) {
                Ok(record) => self.take(record).await,
                Err(why) => {
                    counter!("longspan_rejected_total", "reason" => "placement_group").increment(1);
                    tracing::warn!(group = id, why, "a placement group makes no sense");
                }
            }
        }
        self.tell();
    }

    async fn take(&mut self, record: Record) {
        let id = record.id;
        let held = match (self.groups.get(&id), self.ended.get(&id)) {
            (Some(running), _) => Some(Held {
                record: running.record(),
                member: Some(running.me()),
                ended: running.ended(),
            }),
            (None, Some((record, ended))) => Some(Held {
                record,
                member: None,
                ended: *ended,
            }),
            (None, None) => None,
        };
        let bytes = record.told.encode_to_vec();
        match record.step(self.handle.id(), self.port.disk, held) {
            Step::Nothing => {}
            Step::Go => {
                if self
                    .writer
                    .change(move |disk| disk.record(id, &bytes))
                    .await
                    && let Some(running) = self.groups.get_mut(&id)
                {
                    running.renew(record);
                    self.want(id).await;
                }
            }
            Step::Leave => self.leave(id, Some(record)).await,
            Step::Begin { member, born } => {
                let ended = self.groups.remove(&id).map(|running| running.me());
                let ended = ended.or(self.ended.remove(&id).and_then(|(_, ended)| ended));
                let saved = match born {
                    // The same limits at every member, whatever a node is configured with.
                    true => Saved::born(&record.born, Limits::default()),
                    false => Saved::default(),
                };
                tracing::info!(
                    group = id,
                    member = member.0,
                    born,
                    "takes part in a placement group"
                );
                let begun = saved.clone();
                let begin = move |disk: &Disk| disk.begin(id, &bytes, member, &begun);
                if self.writer.change(begin).await {
                    self.start(record, member, ended, saved).await;
                }
            }
        }
    }

    async fn start(&mut self, record: Record, me: Member, ended: Option<Member>, saved: Saved) {
        let id = record.id;
        self.lives += 1;
        let config = super::group::Config {
            group: id,
            era: record.era,
            me,
            seed: rand::random(),
            cut: super::group::Cut::default(),
        };
        match Group::new(self.now(), config, saved) {
            Ok(group) => {
                let life = Life(self.lives);
                let node = (self.handle.clone(), self.port.clone());
                let running = Running::new(record, me, ended, life, group, node);
                self.groups.insert(id, running);
                self.want(id).await;
                let moves = self.port.moves.borrow().clone();
                self.wish(&moves).await;
                let policies = self.port.policies.borrow().clone();
                self.heed_policies(&policies).await;
            }
            Err(error) => {
                counter!("longspan_log_halted_total").increment(1);
                tracing::error!(group = id, %error, "what the disk holds of a group cannot be read");
                let life = Life(self.lives);
                let why = format!("what the disk holds cannot be read: {error}");
                let node = (self.handle.clone(), self.port.clone());
                let running = Running::halted(record, me, ended, life, why, node);
                self.groups.insert(id, running);
            }
        }
    }

    /// The group is to have the members that its record names.
    async fn want(&mut self, group: u64) {
        if let Some(running) = self.groups.get(&group) {
            let wanted = running.record().members.iter().map(|fellow| fellow.number);
            let wanted = wanted.collect();
            self.input(group, Input::Members(wanted)).await;
        }
    }

    /// The rooms that are to move, as a controller tells them, whole.
    async fn wish(&mut self, moves: &control::Moves) {
        let mut wishes = moves::parse(moves);
        let now = self.now();
        let groups: Vec<u64> = self.groups.keys().copied().collect();
        for group in groups {
            if let Some(running) = self.groups.get_mut(&group) {
                let of = wishes.remove(&group).unwrap_or_default();
                running.move_on(now, Wishes(of));
            }
            self.settle(group).await;
        }
    }

    /// What operators want kept of rooms, as a controller tells it, whole.
    async fn heed_policies(&mut self, policies: &control::Policies) {
        let mut wishes = policies::parse(policies);
        let now = self.now();
        let groups: Vec<u64> = self.groups.keys().copied().collect();
        for group in groups {
            if let Some(running) = self.groups.get_mut(&group) {
                let of = wishes.remove(&group).unwrap_or_default();
                running.heed_policies(now, of);
            }
            self.settle(group).await;
        }
    }

    async fn leave(&mut self, group: u64, record: Option<Record>) {
        let Some(running) = self.groups.remove(&group) else {
            return;
        };
        tracing::info!(
            group,
            member = running.me().0,
            "has no part in a placement group any more"
        );
        let (member, held) = (running.me(), running.record().clone());
        let record = record.unwrap_or(held);
        let bytes = record.told.encode_to_vec();
        self.ended.insert(group, (record, Some(member)));
        self.writer
            .change(move |disk| {
                disk.record(group, &bytes)?;
                disk.end(group)
            })
            .await;
    }

    async fn resign(&mut self) {
        let groups: Vec<u64> = self.groups.keys().copied().collect();
        for group in groups {
            self.input(group, Input::Resign).await;
        }
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        let me = self.handle.id().clone();
        let draining = self
            .shared
            .directory
            .borrow()
            .get(&me)
            .is_some_and(|me| me.draining);
        if draining {
            self.resign().await;
        }
        let removed = self
            .groups
            .iter()
            .filter(|(_, running)| running.is_removed());
        let removed: Vec<u64> = removed.map(|(group, _)| *group).collect();
        for group in removed {
            self.leave(group, None).await;
        }
        let now = self.now();
        let groups: Vec<u64> = self.groups.keys().copied().collect();
        for group in groups {
            if let Some(running) = self.groups.get_mut(&group)
                && (running.watch_edges(now) | running.look_at_policies(now))
            {
                self.settle(group).await;
            }
        }
        if self.ticks.is_multiple_of(SWEEP) {
            let (now, idle) = (self.now(), self.shared.config.room_idle);
            let groups: Vec<u64> = self.groups.keys().copied().collect();
            for group in groups {
                if let Some(running) = self.groups.get_mut(&group) {
                    running.sweep(now, idle);
                }
                self.settle(group).await;
            }
        }
        self.tell();
    }

    /// Tells the rest of the node how things are.
    fn tell(&self) {
        let mut fellows = HashMap::new();
        for (id, running) in &self.groups {
            for fellow in running.record().fellows() {
                fellows.insert((*id, fellow.number), fellow.node.clone());
            }
        }
        self.port.set_fellows(fellows);
        let running = self.groups.values();
        self.port.set_status(Status {
            groups: running.clone().map(Running::status).collect(),
            moves: running.clone().flat_map(Running::stages).collect(),
            policies: running.flat_map(Running::kept).collect(),
        });
        let records = self
            .groups
            .values()
            .map(|running| running.record().told.clone());
        self.port.set_records(records.collect());
    }
}

fn wall_ms() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis() as u64)
}
