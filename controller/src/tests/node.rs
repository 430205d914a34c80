//! A node that only speaks to controllers.

use std::collections::BTreeMap;

use longspan_proto::control::{
    self, ClaimRequest, FromNode, LinkReport, ToNode, from_node::Message as Said,
    nodes_client::NodesClient, to_node::Message as Told,
};
use longspan_topology::{encoding, routes::Routes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::soon;

/// A node's session.
pub struct Node {
    pub info: control::Node,
    pub client: NodesClient<Channel>,
    say: mpsc::Sender<FromNode>,
    told: Streaming<ToNode>,
    pub session: i64,
    pub directory: Vec<String>,
    pub draining: Vec<String>,
    pub table: Option<Routes>,
    /// Ways of a room's tracks that it tells when asked.
    pub traced: Vec<control::TracedTrack>,
    pub rooms: BTreeMap<String, control::RoomState>,
    /// The placement groups it was told of last, by id.
    pub groups: BTreeMap<u64, control::PlacementGroup>,
}

pub fn info(id: &str, role: control::Role, boot: u64) -> control::Node {
    control::Node {
        id: id.into(),
        role: role.into(),
        boot_id: boot,
        region: id.split('-').next().unwrap().into(),
        zone: "a".into(),
        quic_addresses: vec!["127.0.0.1:7443".into()],
        ..Default::default()
    }
}

pub async fn client(url: &str) -> NodesClient<Channel> {
    soon(NodesClient::connect(url.to_owned())).await.unwrap()
}

impl Node {
    pub async fn relay(url: &str, id: &str) -> Node {
        Node::join(url, info(id, control::Role::Relay, 1), 0)
            .await
            .unwrap()
    }

    pub async fn edge(url: &str, id: &str) -> Node {
        Node::join(url, info(id, control::Role::Edge, 1), 0)
            .await
            .unwrap()
    }

    pub async fn join(url: &str, info: control::Node, session: i64) -> Result<Node, Status> {
        let client = client(url).await;
        Node::join_by(client, info, session, 0, None).await
    }

    pub async fn join_by(
        client: NodesClient<Channel>,
        info: control::Node,
        session: i64,
        highest_generation: u64,
        table: Option<control::TableVersion>,
    ) -> Result<Node, Status> {
        Node::join_as(
            client,
            control::Join {
                node: Some(info),
                session,
                highest_generation,
                table,
                ..Default::default()
            },
        )
        .await
    }

    pub async fn join_as(
        mut client: NodesClient<Channel>,
        join: control::Join,
    ) -> Result<Node, Status> {
        let (say, said) = mpsc::channel(16);
        let info = join.node.clone().expect("a node");
        let held = join.held.as_ref();
        let held = held.map(|held| encoding::read(held, &Routes::default()).expect("a table"));
        say.send(FromNode {
            message: Some(Said::Join(join)),
        })
        .await
        .unwrap();
        let told = soon(client.session(ReceiverStream::new(said))).await?;
        let mut node = Node {
            info,
            client,
            say,
            told: told.into_inner(),
            session: 0,
            directory: Vec::new(),
            draining: Vec::new(),
            table: held,
            traced: Vec::new(),
            rooms: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        node.until(|node| node.session != 0).await?;
        Ok(node)
    }

    /// Ends the session from the node's side.
    pub async fn leave(self) -> i64 {
        self.session
    }

    pub async fn say(&self, message: Said) {
        assert!(self.try_say(message).await, "the session has ended");
    }

    /// Whether the session still takes it.
    pub async fn try_say(&self, message: Said) -> bool {
        let message = Some(message);
        soon(self.say.send(FromNode { message })).await.is_ok()
    }

    pub async fn heartbeat(&self) {
        self.say(Said::Heartbeat(control::Heartbeat {})).await;
    }

    /// Reports links that end here: (from, one-way ms).
    pub async fn links(&self, links: &[(&str, u64)]) {
        let links = links.iter().map(|(from, ms)| LinkReport {
            from: (*from).into(),
            net: "internet".into(),
            up: true,
            raw_delay_us: (*ms * 1_000) as i64,
            rtt_us: *ms * 2_000,
            ..Default::default()
        });
        let links = links.collect();
        self.say(Said::Links(control::LinkReports { links })).await;
    }

    pub async fn watch(&self, room: &str) {
        self.say(Said::WatchRoom(control::WatchRoom {
            tenant: "default".into(),
            room: room.into(),
            viewers: 1,
            members: 2,
        }))
        .await;
    }

    pub async fn claim(
        &self,
        room: &str,
        stream: &str,
        identity: &str,
    ) -> Result<control::ClaimReply, Status> {
        let request = ClaimRequest {
            session: self.session,
            edge: self.info.id.clone(),
            tenant: "default".into(),
            room: room.into(),
            stream: stream.into(),
            identity: identity.into(),
        };
        let mut client = self.client.clone();
        let reply = soon(client.claim(request)).await?;
        Ok(reply.into_inner())
    }

    /// Takes one message.
    pub async fn next(&mut self) -> Result<(), Status> {
        let told = soon(self.told.message()).await?;
        let told = told.ok_or_else(|| Status::ok("the session ended"))?;
        match told.message.expect("a message") {
            Told::Welcome(welcome) => self.session = welcome.session,
            Told::Directory(directory) => {
                let draining = directory.nodes.iter().filter(|n| n.draining);
                self.draining = draining.map(|n| n.id.clone()).collect();
                self.directory = directory.nodes.into_iter().map(|n| n.id).collect();
            }
            Told::Table(told) => {
                let held = self.table.take().unwrap_or_default();
                let table = encoding::read(&told, &held).expect("a table of what it holds");
                self.table = Some(table);
            }
            Told::Moves(_) | Told::Policies(_) => {}
            Told::Trace(asked) => {
                let tracks = self.traced.clone();
                let id = asked.id;
                self.say(Said::Traced(control::Traced { id, tracks })).await;
            }
            Told::Groups(told) => {
                for group in &told.groups {
                    let before = self.groups.get(&group.id);
                    let age = |g: &control::PlacementGroup| (g.era, g.revision);
                    assert!(before.is_none_or(|before| age(before) <= age(group)));
                }
                self.groups = told.groups.into_iter().map(|g| (g.id, g)).collect();
            }
            Told::Room(room) => {
                let before = self.rooms.insert(room.room.clone(), room.clone());
                if let Some(before) = before {
                    assert!(before.revision <= room.revision, "revisions never decrease");
                }
            }
        }
        Ok(())
    }

    /// Takes messages until something holds.
    pub async fn until(&mut self, holds: impl Fn(&Node) -> bool) -> Result<(), Status> {
        while !holds(self) {
            self.next().await?;
        }
        Ok(())
    }

    /// The first path to a relay: its nodes.
    pub fn path(&self, to: &str) -> Vec<&str> {
        let paths = self.table.iter().filter_map(|table| table.paths.get(to));
        let best = paths.filter_map(|paths| paths.first());
        best.flat_map(|path| path.hops.iter().map(|h| h.node.as_str()))
            .collect()
    }

    pub fn version(&self) -> (u32, u64, u64) {
        let version = self.table.as_ref().map(|table| table.version);
        version.map_or((0, 0, 0), |v| (v.era, v.election, v.n))
    }
}
