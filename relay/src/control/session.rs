//! One stream of words with one controller.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use longspan_proto::{
    LEADER_METADATA,
    control::{
        self, Attached, FromNode, Heartbeat, Join, LinkReports, NodeStatus, TableAck, TableNack,
        ToNode, Traced, UnwatchRoom, WatchRoom, from_node, nodes_client::NodesClient, to_node,
    },
    ids::RoomName,
    wire::Role,
};
use longspan_topology::{encoding, routes::Version};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{Current, connect::chain, status, table};
use crate::{
    node::{Directory, NodeInfo, room::Change},
    shared::Shared,
};

/// Words that wait to be sent. A controller that lets them wait for [`STALLED`] is left.
const QUEUE: usize = 256;
const STALLED: Duration = Duration::from_secs(5);
/// A controller answers a Join within this. One that is stopped takes the connection and says nothing:
/// with the longest pause (2 s) after it, a node is with the next one before that has settled (10 s).
const WELCOME: Duration = Duration::from_secs(2);
/// New counts of a room are told at most so often.
const COUNTS: Duration = Duration::from_secs(1);
/// What the node has to do is told so often, when it changed.
const STATUS: Duration = Duration::from_secs(1);
/// Streams told when joining: what a controller takes. An edge is the origin of far fewer.
const STREAMS: usize = 4_096;
/// The largest message taken: a directory of some thousand nodes.
const MAX_MESSAGE: usize = 16 << 20;

/// How a session ended.
pub(super) struct Over {
    /// The controller had said Welcome.
    pub stood: bool,
    pub why: String,
    /// The controller that leads, where this one does not and says who does.
    pub leader: Option<String>,
}

/// Why talking ended.
#[derive(Default)]
struct Ended {
    why: String,
    leader: Option<String>,
}

impl From<String> for Ended {
    fn from(why: String) -> Ended {
        Ended { why, leader: None }
    }
}

impl From<&str> for Ended {
    fn from(why: &str) -> Ended {
        why.to_owned().into()
    }
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Ended {
        let leader = status.metadata().get(LEADER_METADATA);
        let leader = leader.and_then(|url| url.to_str().ok()).map(str::to_owned);
        let why = match status.message() {
            "" => chain(&status),
            message => message.to_owned(),
        };
        Ended { why, leader }
    }
}

/// The session as it stands.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    say: mpsc::Sender<FromNode>,
    /// When each room was last told.
    told: HashMap<RoomName, Instant>,
    attached: Option<Vec<String>>,
    status: Option<NodeStatus>,
}

/// Holds a session until it breaks; `id` is the node's, kept from one to the next.
pub(super) async fn hold(shared: &Arc<Shared>, channel: Channel, id: &mut i64) -> Over {
    let mut stood = false;
    let ended = match talk(shared, channel, id, &mut stood).await {
        Ok(()) => "the controller ended it".into(),
        Err(ended) => ended,
    };
    Over {
        stood,
        why: ended.why,
        leader: ended.leader,
    }
}

async fn talk(
    shared: &Arc<Shared>,
    channel: Channel,
    id: &mut i64,
    stood: &mut bool,
) -> Result<(), Ended> {
    let mut client = NodesClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (say, said) = mpsc::channel(QUEUE);
    let mut session = Session {
        shared,
        say,
        told: HashMap::new(),
        attached: None,
        status: None,
    };
    let node = NodeInfo {
        attached: Vec::new(),
        ..NodeInfo::of(&shared.config)
    };
    let held = *shared.control.held.borrow();
    let routes = shared.routes.borrow().clone();
    let has_table = routes.version != Version::default();
    let streams = shared.control.held_streams(STREAMS);
    let groups = shared.groups.as_ref();
    session
        .say(from_node::Message::Join(Join {
            node: Some(node.to_control()),
            session: *id,
            highest_generation: shared.rooms.highest_generation(),
            table: held.map(encoding::version),
            held: has_table.then(|| encoding::whole(&routes)),
            streams,
            disk: groups.map_or(0, |port| port.disk),
            groups: groups.map_or_else(Vec::new, |port| port.records()),
            carries: shared.engine.view(|core| core.stats().tracks) > 0,
        }))
        .await?;
    let opened = client.session(ReceiverStream::new(said));
    let mut words = tokio::time::timeout(WELCOME, opened)
        .await
        .map_err(|_| format!("no answer within {WELCOME:?}"))??
        .into_inner();
    let first = tokio::time::timeout(WELCOME, words.message())
        .await
        .map_err(|_| format!("no welcome within {WELCOME:?}"))??;
    let Some(to_node::Message::Welcome(welcome)) = first.and_then(|first| first.message) else {
        return Err("its first word is no welcome".into());
    };
    *stood = true;
    *id = welcome.session;
    tracing::info!(session = welcome.session, "a controller welcomes this node");
    shared.control.current.send_replace(Some(Current {
        client,
        id: welcome.session,
    }));

    let mut heartbeat = ticks(Duration::from_millis(
        u64::from(welcome.ttl_ms.max(300)) / 3,
    ));
    let mut counts = ticks(COUNTS);
    let mut status = ticks(STATUS);
    let mut reports = shared.reports.subscribe();
    reports.mark_changed();
    let mut peers = shared.peers.changes();
    session.attached().await?;
    for change in shared.rooms.all() {
        session.tell(change).await?;
    }
    loop {
        tokio::select! {
            word = words.message() => match word? {
                Some(ToNode { message }) => session.hear(message).await?,
                None => return Ok(()),
            },
            _ = heartbeat.tick() => {
                session.say(from_node::Message::Heartbeat(Heartbeat {})).await?;
            }
            Ok(()) = reports.changed() => {
                let links = reports.borrow_and_update().to_vec();
                session.say(from_node::Message::Links(LinkReports { links })).await?;
            }
            Ok(()) = peers.changed() => session.attached().await?,
            () = shared.rooms.changed.notified() => session.rooms().await?,
            _ = counts.tick() => session.rooms().await?,
            _ = status.tick() => session.status().await?,
            () = shared.stop.cancelled() => return Err("this node is shutting down".into()),
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Session<'_> {
    async fn say(&self, message: from_node::Message) -> Result<(), String> {
        let word = FromNode {
            message: Some(message),
        };
        match self.say.send_timeout(word, STALLED).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(format!("it took no word for {STALLED:?}"))
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err("the stream broke".into()),
        }
    }

    async fn hear(&mut self, word: Option<to_node::Message>) -> Result<(), String> {
        match word {
            // Of a newer controller.
            None => {}
            Some(to_node::Message::Welcome(_)) => return Err("a second welcome".into()),
            Some(to_node::Message::Directory(told)) => {
                self.shared.control.last_good.keep_directory(&told);
                let directory = Directory::from_control(told);
                self.shared.directory.send_replace(Arc::new(directory));
                // Which relay is the best hangs on who drains.
                self.attached().await?;
            }
            Some(to_node::Message::Table(told)) => self.table(told).await?,
            Some(to_node::Message::Room(told)) => self.shared.rooms.told(told),
            Some(to_node::Message::Groups(groups)) => {
                // A relay without a disk has no part in any.
                if let Some(port) = &self.shared.groups {
                    port.tell(groups);
                }
            }
            Some(to_node::Message::Moves(moves)) => {
                if let Some(port) = &self.shared.groups {
                    port.tell_moves(moves);
                }
            }
            Some(to_node::Message::Policies(policies)) => {
                if let Some(port) = &self.shared.groups {
                    port.tell_policies(policies);
                }
            }
            Some(to_node::Message::Trace(asked)) => {
                let traced = Traced {
                    id: asked.id,
                    tracks: status::traced(self.shared, &asked),
                };
                self.say(from_node::Message::Traced(traced)).await?;
            }
        }
        Ok(())
    }

    async fn table(&mut self, told: control::Table) -> Result<(), String> {
        let directory = self.shared.directory.borrow().clone();
        let version = told.version;
        let held = *self.shared.control.held.borrow();
        let in_use = self.shared.routes.borrow().clone();
        let me = (&self.shared.config.node, self.shared.config.role);
        match table::parse(&told, me, &directory, &in_use, held) {
            Ok(routes) => {
                self.shared.control.held.send_replace(Some(routes.version));
                self.shared.control.last_good.keep_table(&routes);
                self.shared.routes.send_replace(Arc::new(routes));
                self.say(from_node::Message::TableAck(TableAck { version }))
                    .await
            }
            Err(why) => {
                let reason = why.to_string();
                tracing::warn!(?version, reason, "a table is refused, the one held stays");
                metrics::counter!("longspan_config_nacks_total").increment(1);
                let nack = TableNack {
                    version,
                    reason,
                    send_whole: why.wants_whole(),
                };
                self.say(from_node::Message::TableNack(nack)).await
            }
        }
    }

    /// Tells what the node has to do, where that changed.
    async fn status(&mut self) -> Result<(), String> {
        let status = status::status(self.shared);
        if self.status.as_ref() == Some(&status) {
            return Ok(());
        }
        self.status = Some(status.clone());
        self.say(from_node::Message::Status(status)).await
    }

    /// Tells the relays an edge is attached to, where that changed.
    async fn attached(&mut self) -> Result<(), String> {
        if self.shared.config.role != Role::Edge {
            return Ok(());
        }
        let relays = self.shared.attached();
        let relays: Vec<String> = relays.iter().map(ToString::to_string).collect();
        if self.attached.as_ref() == Some(&relays) {
            return Ok(());
        }
        self.attached = Some(relays.clone());
        self.say(from_node::Message::Attached(Attached { relays }))
            .await
    }

    /// Tells what changed of the rooms, new counts not too often.
    async fn rooms(&mut self) -> Result<(), String> {
        let hold: BTreeSet<RoomName> = self
            .told
            .iter()
            .filter(|(_, at)| at.elapsed() < COUNTS)
            .map(|(room, _)| room.clone())
            .collect();
        for change in self.shared.rooms.take_changes(&hold) {
            self.tell(change).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, change: Change) -> Result<(), String> {
        let word = match change {
            Change::Watch {
                room,
                viewers,
                members,
            } => {
                self.told.insert(room.clone(), Instant::now());
                from_node::Message::WatchRoom(WatchRoom {
                    tenant: room.tenant.to_string(),
                    room: room.room.to_string(),
                    viewers,
                    members,
                })
            }
            Change::Unwatch(room) => {
                self.told.remove(&room);
                from_node::Message::UnwatchRoom(UnwatchRoom {
                    tenant: room.tenant.to_string(),
                    room: room.room.to_string(),
                })
            }
        };
        self.say(word).await
    }
}
