//! What stands in the store: JSON with a schema version `v`. Fields may be added within a
//! version; a record of a newer version is left alone (read as nothing, never overwritten by a
//! soft write).

use longspan_proto::{
    control,
    ids::{BootId, Generation, NodeId, Region, Zone},
    wire::Role,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The schema version written.
pub const VERSION: u32 = 1;

/// Reads a record. `None`: not ours, or newer than this program.
pub fn read<T: DeserializeOwned>(value: &str) -> Option<T> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let versioned: Versioned = serde_json::from_str(value).ok()?;
    (versioned.v <= VERSION)
        .then(|| serde_json::from_str(value).ok())
        .flatten()
}

/// Writes a record.
pub fn write<T: Serialize>(record: &T) -> String {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        v: u32,
        #[serde(flatten)]
        record: &'a T,
    }
    let versioned = Versioned { v: VERSION, record };
    // Plain structs of texts and numbers always serialise.
    serde_json::to_string(&versioned).unwrap_or_default()
}

/// A line of `audit/…`.
pub fn audit<T: Serialize>(at_ms: u64, actor: &str, what: &T) -> serde_json::Value {
    serde_json::json!({"v": VERSION, "at_ms": at_ms, "actor": actor, "what": what})
}

/// `nodes/{id}`: a node as everybody knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// What it is.
    #[serde(with = "role")]
    pub role: Role,
    /// Tells restarts apart (in hex: JSON numbers end at 2^53).
    #[serde(with = "hex")]
    pub boot: BootId,
    /// Where it runs.
    pub region: Region,
    /// Which IDC.
    pub zone: Zone,
    /// ISO 3166-1 alpha-2, or empty.
    pub country: String,
    /// In words.
    pub city: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// Where its QUIC listens, best first.
    pub quic: Vec<String>,
    /// What users reach, for an edge.
    pub http: String,
    /// What users reach, for an edge.
    pub rtmp: String,
    /// Its private listener.
    pub admin: String,
    /// The program's version.
    pub version: String,
    /// The relays an edge is attached to, best first.
    pub attached: Vec<NodeId>,
}

/// `tenants/{tenant}/rooms/{room}`: placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// When the room was made, Unix ms.
    pub created_ms: u64,
    /// The placement group that keeps its log; none: not placed yet.
    #[serde(default, with = "group_id", skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// The move that brought it there; none: it began there.
    #[serde(default, with = "group_id", skip_serializing_if = "Option::is_none")]
    pub moved: Option<Word>,
    /// It is to be kept by another group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// How the last move ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_move: Option<LastMove>,
}

/// Names a move of a room: each is above all earlier ones of the room.
pub type Word = Generation;

/// A room's log is on its way to another group; the group that keeps it carries that out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Which move.
    #[serde(with = "generation")]
    pub word: Word,
    /// The group that shall keep the log.
    #[serde(with = "generation")]
    pub to: GroupId,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asked.
    pub owner: String,
    /// Since when, Unix ms.
    pub since_ms: u64,
}

/// A move that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMove {
    /// Which.
    #[serde(with = "generation")]
    pub word: Word,
    /// Where from.
    #[serde(with = "generation")]
    pub from: GroupId,
    /// Where to.
    #[serde(with = "generation")]
    pub to: GroupId,
    /// When it ended, Unix ms.
    pub ended_ms: u64,
    /// Why the room stayed; none: it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// `tenants/{tenant}/rooms/{room}/policy`: how much of the room's order an operator wants kept. It
/// stands whether or not there is the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which wish: each is above all earlier ones for the room.
    #[serde(with = "generation")]
    pub word: Generation,
    /// How much.
    #[serde(flatten)]
    pub keep: Keep,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asked.
    pub owner: String,
    /// Since when, Unix ms.
    pub since_ms: u64,
}

/// How much of a room's order is to be kept. A bound that is not there is the group's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// At most so many messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// What they cost together at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How old the oldest may be, by the log's time, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

impl Keep {
    /// As nodes are told it.
    pub fn to_control(self) -> control::Retention {
        let Keep {
            messages,
            bytes,
            age_ms,
        } = self;
        control::Retention {
            messages,
            bytes,
            age_ms,
        }
    }
}

/// Names a placement group; shown as `era.counter` like a generation, never given twice.
pub type GroupId = Generation;

/// `groups/{id}`: relays that keep the logs of rooms together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Whose rooms are placed in it.
    pub region: Region,
    /// Raised when the group is made anew because most of its members are gone for good.
    pub era: u16,
    /// Rises with each change of this record within an era.
    pub revision: u64,
    /// Who shall belong to it.
    pub members: Vec<Member>,
    /// The members that it began with.
    pub born: Vec<u64>,
    /// Whose place another takes; they belong to it until the group itself says that they do not.
    pub leaving: Vec<Member>,
    /// The number of the next new member.
    pub next: u64,
}

impl Group {
    /// Which of two records of one group is the newer.
    pub fn age(&self) -> (u16, u64) {
        (self.era, self.revision)
    }

    /// Members, and those who leave.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.leaving)
    }
}

/// A part in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Not 0; never given twice in a group.
    pub number: u64,
    /// The relay.
    pub node: NodeId,
    /// Which file of it: a relay that lost the file is another member.
    #[serde(with = "hex_u64")]
    pub disk: u64,
}

/// `groups/last`: the last id given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGroup {
    /// The id.
    #[serde(with = "generation")]
    pub id: GroupId,
}

/// `…/streams/{stream}`: who holds a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// The edge its publisher is at.
    pub origin: NodeId,
    /// The fencing number.
    #[serde(with = "generation")]
    pub generation: Generation,
    /// The HLS media sequence number of group 0.
    pub hls_base: u64,
    /// Who publishes; empty: the anonymous publisher of an open room.
    pub identity: String,
    /// When it was claimed, Unix ms.
    pub claimed_ms: u64,
}

/// `…/edges/{edge}`: an edge serves the room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Since when, Unix ms.
    pub since_ms: u64,
}

/// `generations/…`: the last one given out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    /// The last generation.
    #[serde(with = "generation")]
    pub generation: Generation,
    /// Its HLS base; the next one's is higher.
    pub hls_base: u64,
}

/// `overrides/…`: what an operator asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// What.
    #[serde(flatten)]
    pub what: Wish,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asked.
    pub owner: String,
    /// Since when, Unix ms.
    pub since_ms: u64,
    /// Until when, Unix ms; none: until it is taken back.
    pub until_ms: Option<u64>,
}

/// What an operator can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wish {
    /// No path crosses the relay, or takes the link; nobody is sent to the edge.
    Cordon,
    /// No path crosses the relay while there is another way; what crosses it now moves away. The
    /// edge takes nobody new, and sends those who are there elsewhere.
    Drain {
        /// When it should be empty, Unix ms.
        deadline_ms: u64,
    },
    /// The link costs this much more than is measured.
    CostAdded {
        /// In µs.
        added_us: u64,
    },
    /// The link costs this many times what is measured.
    CostFactor {
        /// 0.1 … 100.
        factor: f64,
    },
    /// The path to take.
    Pin {
        /// The nodes after the first, the last included.
        nodes: Vec<NodeId>,
    },
}

/// `election`: who leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Election {
    /// The controller.
    pub id: NodeId,
    /// Where nodes reach it.
    pub url: String,
    /// Where operators reach it, if that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
}

/// `"era.counter"`, as everywhere an operator reads it.
mod generation {
    use longspan_proto::ids::Generation;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(g: &Generation, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(g)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Generation, D::Error> {
        let text = String::deserialize(d)?;
        let parsed = super::read_generation(&text);
        parsed.ok_or_else(|| D::Error::custom(format!("{text:?} is no era.counter")))
    }
}

/// Reads `era.counter`.
pub fn read_generation(text: &str) -> Option<Generation> {
    let (era, counter) = text.split_once('.')?;
    let counter: u64 = counter.parse().ok()?;
    (counter < 1 << 48).then_some(Generation::new(era.parse().ok()?, counter))
}

/// The same where there may be none.
mod group_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::GroupId;

    pub fn serialize<S: Serializer>(id: &Option<GroupId>, s: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => s.collect_str(id),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<GroupId>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else {
            return Ok(None);
        };
        let parsed = super::read_generation(&text).map(Some);
        parsed.ok_or_else(|| D::Error::custom(format!("{text:?} is no era.counter")))
    }
}

mod hex_u64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{number:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let text = String::deserialize(d)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

mod hex {
    use longspan_proto::ids::BootId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(boot: &BootId, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{:016x}", boot.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BootId, D::Error> {
        let text = String::deserialize(d)?;
        u64::from_str_radix(&text, 16)
            .map(BootId)
            .map_err(D::Error::custom)
    }
}

mod role {
    use longspan_proto::wire::Role;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(role: &Role, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(super::role_name(*role))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Role, D::Error> {
        match &*String::deserialize(d)? {
            "relay" => Ok(Role::Relay),
            "edge" => Ok(Role::Edge),
            other => Err(D::Error::custom(format!("{other:?} is no role"))),
        }
    }
}

/// `relay` or `edge`.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Relay => "relay",
        Role::Edge => "edge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What operators see in `etcdctl get --prefix /longspan/v1/`.
    #[test]
    fn records_are_golden_and_newer_ones_are_left_alone() {
        let stream = Stream {
            origin: NodeId::new("hk-edge-1").unwrap(),
            generation: Generation::new(1, 7),
            hls_base: 1_700_000_000,
            identity: "ann".into(),
            claimed_ms: 1_700_000_000_000,
        };
        let text = write(&stream);
        assert_eq!(
            text,
            r#"{"v":1,"origin":"hk-edge-1","generation":"1.7","hls_base":1700000000,"identity":"ann","claimed_ms":1700000000000}"#
        );
        assert_eq!(read::<Stream>(&text), Some(stream));
        assert_eq!(read::<Stream>(&text.replace("\"v\":1", "\"v\":2")), None);
        assert_eq!(read::<Stream>(&text.replace("1.7", "7")), None);
        assert_eq!(read::<Stream>("nonsense"), None);
    }

    #[test]
    fn a_group_reads_back_and_a_room_of_before_has_none() {
        let group = Group {
            region: "hk".parse().unwrap(),
            era: 1,
            revision: 2,
            members: vec![Member {
                number: 4,
                node: NodeId::new("hk-relay-1").unwrap(),
                disk: u64::MAX,
            }],
            born: vec![1, 2, 3],
            leaving: Vec::new(),
            next: 5,
        };
        let text = write(&group);
        assert_eq!(
            text,
            r#"{"v":1,"region":"hk","era":1,"revision":2,"members":[{"number":4,"node":"hk-relay-1","disk":"ffffffffffffffff"}],"born":[1,2,3],"leaving":[],"next":5}"#
        );
        assert_eq!(read::<Group>(&text), Some(group));
        let before = r#"{"v":1,"created_ms":5}"#;
        let room: Room = read(before).unwrap();
        assert_eq!(room.group, None);
        assert_eq!(write(&room), before);
        let placed = Room {
            group: Some(Generation::new(2, 7)),
            ..room
        };
        assert!(write(&placed).ends_with(r#""group":"2.7"}"#));
        assert_eq!(read::<Room>(&write(&placed)), Some(placed.clone()));
        let (from, to, word) = (
            Generation::new(2, 7),
            Generation::new(2, 8),
            Generation::new(1, 40),
        );
        let moving = Room {
            moving: Some(Moving {
                word,
                to,
                reason: "new disks".into(),
                owner: "ann".into(),
                since_ms: 9,
            }),
            ..placed
        };
        assert_eq!(
            write(&moving),
            r#"{"v":1,"created_ms":5,"group":"2.7","moving":{"word":"1.40","to":"2.8","reason":"new disks","owner":"ann","since_ms":9}}"#
        );
        let moved = Room {
            group: Some(to),
            moved: Some(word),
            moving: None,
            last_move: Some(LastMove {
                word,
                from,
                to,
                ended_ms: 11,
                failed: None,
            }),
            ..moving
        };
        assert_eq!(
            write(&moved),
            r#"{"v":1,"created_ms":5,"group":"2.8","moved":"1.40","last_move":{"word":"1.40","from":"2.7","to":"2.8","ended_ms":11}}"#
        );
        assert_eq!(read::<Room>(&write(&moved)), Some(moved));
    }
}
