//! The ways of a room's tracks as the nodes themselves say, beside those of the tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use longspan_proto::{
    control::{self, ToNode, to_node},
    ids::{Generation, NodeId, RoomName, Stream, Track},
    time::Time,
};
use serde::Serialize;

use super::{Now, Output, State, Ticket, TracedTrack};

/// How long the edges have to answer. The farthest answers within half a second; one that does not
/// is shown as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Traces under way.
#[derive(Debug, Default)]
pub(super) struct Traces(BTreeMap<Ticket, Asked>);

#[derive(Debug)]
struct Asked {
    room: RoomName,
    waiting: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, Vec<TracedTrack>>,
    due: Time,
}

impl Traces {
    /// When the next one is answered with what is there.
    pub fn due(&self) -> Option<Time> {
        self.0.values().map(|asked| asked.due).min()
    }
}

/// The ways of a room's tracks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoomTrace {
    /// The room.
    pub room: String,
    /// Whose it is.
    pub tenant: String,
    /// Its streams, and `@room` (its messages) where its group has a leader.
    pub streams: Vec<StreamTrace>,
}

/// The ways of one stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamTrace {
    /// Its name.
    pub stream: Stream,
    /// Where it enters.
    pub origin: NodeId,
    /// `era.counter`.
    pub generation: String,
    /// To each edge that serves the room.
    pub edges: Vec<EdgeTrace>,
}

/// The way of one stream to one edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeTrace {
    /// The edge.
    pub edge: NodeId,
    /// By the tables: the origin first, the edge last; empty: there is no way now.
    pub table: Vec<NodeId>,
    /// As the nodes say; tracks that take the same way stand together.
    pub actual: Vec<Way>,
    /// How the two compare.
    pub verdict: Verdict,
}

/// The way some tracks take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// The nodes they cross, the origin first, the edge last; empty while none is confirmed.
    pub nodes: Vec<NodeId>,
    /// The tracks.
    pub tracks: Vec<Track>,
    /// Their receivers at the edge.
    pub receivers: u32,
}

/// Tables and nodes compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All tracks go as the tables say.
    AsTold,
    /// Some track goes another way: an edge merged it from a neighbour that has it already, or
    /// nodes have moved it before the tables did.
    Otherwise,
    /// The edge pulls no track of it now: nobody watches.
    NotPulled,
    /// The edge has no session, or did not answer.
    Silent,
}

impl State {
    /// Asks the room's edges, and answers when all have told, or after [`PATIENCE`].
    pub(super) fn trace(&mut self, now: Now, ticket: Ticket, room: RoomName) {
        let Some(known) = self.rooms.get(&room) else {
            self.outputs.push_back(Output::Traced(ticket, None));
            return;
        };
        let edges = known.edges.keys().filter_map(|edge| {
            let conn = self.nodes.get(edge)?.conn?;
            Some((edge.clone(), conn))
        });
        let mut edges: Vec<_> = edges.collect();
        if self.traces.0.len() >= self.limits.traces {
            edges.clear();
        }
        for (_, conn) in &edges {
            let trace = control::Trace {
                id: ticket,
                tenant: room.tenant.to_string(),
                room: room.room.to_string(),
            };
            let message = Some(to_node::Message::Trace(trace));
            self.outputs
                .push_back(Output::Push(*conn, ToNode { message }));
        }
        let asked = Asked {
            room,
            waiting: edges.into_iter().map(|(edge, _)| edge).collect(),
            told: BTreeMap::new(),
            due: now.time + PATIENCE,
        };
        self.traces.0.insert(ticket, asked);
        self.answer_trace(ticket);
    }

    /// An edge answered.
    pub(super) fn traced(&mut self, edge: &NodeId, ticket: Ticket, tracks: Vec<TracedTrack>) {
        if let Some(asked) = self.traces.0.get_mut(&ticket)
            && asked.waiting.remove(edge)
        {
            asked.told.insert(edge.clone(), tracks);
            self.answer_trace(ticket);
        }
    }

    /// Answers those that have waited long enough.
    pub(super) fn end_traces(&mut self, now: Now) {
        let over = self
            .traces
            .0
            .iter_mut()
            .filter(|(_, asked)| asked.due <= now.time);
        let over: Vec<Ticket> = over
            .map(|(ticket, asked)| {
                asked.waiting.clear();
                *ticket
            })
            .collect();
        for ticket in over {
            self.answer_trace(ticket);
        }
    }

    fn answer_trace(&mut self, ticket: Ticket) {
        let is_complete = |asked: &Asked| asked.waiting.is_empty();
        if !self.traces.0.get(&ticket).is_some_and(is_complete) {
            return;
        }
        let Some(asked) = self.traces.0.remove(&ticket) else {
            return;
        };
        let trace = self.room_trace(&asked.room, &asked.told);
        let trace = trace.map(Box::new);
        self.outputs.push_back(Output::Traced(ticket, trace));
    }

    fn room_trace(
        &self,
        name: &RoomName,
        told: &BTreeMap<NodeId, Vec<TracedTrack>>,
    ) -> Option<RoomTrace> {
        let room = self.rooms.get(name)?;
        let published = room.streams.iter().map(|(stream, held)| {
            let record = &held.record;
            (stream.clone(), &record.origin, record.generation)
        });
        let leader = room.group.and_then(|group| self.group_leader(group));
        let messages = leader.map(|(leader, generation)| (Stream::room(), leader, generation));
        let streams = published
            .chain(messages)
            .map(|(stream, origin, generation)| {
                let edges = room.edges.keys().filter(|edge| *edge != origin);
                let edges = edges.map(|edge| {
                    let table = self.way(edge, origin);
                    let told = told.get(edge);
                    let actual = told.map(|tracks| ways(tracks, &stream, generation));
                    EdgeTrace {
                        edge: edge.clone(),
                        verdict: compare(&table, actual.as_deref()),
                        table,
                        actual: actual.unwrap_or_default(),
                    }
                });
                StreamTrace {
                    edges: edges.collect(),
                    stream,
                    origin: origin.clone(),
                    generation: generation.to_string(),
                }
            });
        Some(RoomTrace {
            room: name.room.to_string(),
            tenant: name.tenant.to_string(),
            streams: streams.collect(),
        })
    }
}

/// The ways of one stream's tracks, those of an older generation left out.
fn ways(tracks: &[TracedTrack], stream: &Stream, generation: Generation) -> Vec<Way> {
    let mut ways: BTreeMap<&[NodeId], Way> = BTreeMap::new();
    let of_stream = tracks
        .iter()
        .filter(|track| track.stream == *stream && track.generation == generation);
    for track in of_stream {
        let way = ways.entry(&track.chain).or_insert_with(|| Way {
            nodes: track.chain.clone(),
            tracks: Vec::new(),
            receivers: 0,
        });
        way.tracks.push(track.track.clone());
        way.receivers += track.receivers;
    }
    ways.into_values().collect()
}

fn compare(table: &[NodeId], actual: Option<&[Way]>) -> Verdict {
    match actual {
        None => Verdict::Silent,
        Some([]) => Verdict::NotPulled,
        Some(ways) if ways.iter().all(|way| way.nodes == table) => Verdict::AsTold,
        Some(_) => Verdict::Otherwise,
    }
}
