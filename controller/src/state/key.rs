//! Where records stand in the store (DESIGN §7).

use std::fmt;

use longspan_proto::ids::{NodeId, Room, RoomName, Stream, Tenant};

/// Everything of ours stands below it.
pub const ROOT: &str = "/longspan/v1/";

/// A key of a record. Names hold no `/`, so a key reads back unambiguously.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `nodes/{id}`; leased.
    Node(NodeId),
    /// `tenants/{tenant}/rooms/{room}`; never leased.
    Room(RoomName),
    /// `tenants/{tenant}/rooms/{room}/streams/{stream}`; leased by the origin edge.
    Stream(RoomName, Stream),
    /// `tenants/{tenant}/rooms/{room}/edges/{edge}`; leased by the edge.
    Edge(RoomName, NodeId),
    /// `generations/{tenant}/{room}/{stream}`; never leased, never deleted. The room's home has
    /// the stream `@room`.
    Generation(RoomName, Stream),
    /// `election`; leased by the leading controller.
    Election,
}

impl Key {
    /// Reads a key. `None`: not one of these (`era`, `audit/…`, `overrides/…`, another's).
    pub fn parse(key: &str) -> Option<Key> {
        let parts: Vec<&str> = key.strip_prefix(ROOT)?.split('/').collect();
        let room = |tenant: &str, room: &str| {
            Some(RoomName {
                tenant: Tenant::new(tenant).ok()?,
                room: Room::new(room).ok()?,
            })
        };
        Some(match parts[..] {
            ["election"] => Key::Election,
            ["nodes", id] => Key::Node(NodeId::new(id).ok()?),
            ["tenants", t, "rooms", r] => Key::Room(room(t, r)?),
            ["tenants", t, "rooms", r, "streams", s] => {
                Key::Stream(room(t, r)?, Stream::new(s).ok()?)
            }
            ["tenants", t, "rooms", r, "edges", id] => {
                Key::Edge(room(t, r)?, NodeId::new(id).ok()?)
            }
            ["generations", t, r, s] => Key::Generation(room(t, r)?, Stream::new(s).ok()?),
            _ => return None,
        })
    }
}

/// As it stands in the store.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = |f: &mut fmt::Formatter<'_>, room: &RoomName| {
            write!(f, "{ROOT}tenants/{}/rooms/{}", room.tenant, room.room)
        };
        match self {
            Key::Node(id) => write!(f, "{ROOT}nodes/{id}"),
            Key::Room(name) => room(f, name),
            Key::Stream(name, stream) => {
                room(f, name)?;
                write!(f, "/streams/{stream}")
            }
            Key::Edge(name, edge) => {
                room(f, name)?;
                write!(f, "/edges/{edge}")
            }
            Key::Generation(name, stream) => {
                write!(
                    f,
                    "{ROOT}generations/{}/{}/{stream}",
                    name.tenant, name.room
                )
            }
            Key::Election => write!(f, "{ROOT}election"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_where_the_design_says_and_read_back() {
        for text in [
            "/longspan/v1/nodes/hk-relay-1",
            "/longspan/v1/tenants/default/rooms/math.7",
            "/longspan/v1/tenants/default/rooms/math.7/streams/teacher",
            "/longspan/v1/tenants/default/rooms/math.7/edges/hk-edge-1",
            "/longspan/v1/generations/default/math.7/teacher",
            "/longspan/v1/generations/default/math.7/@room",
            "/longspan/v1/election",
        ] {
            let key = Key::parse(text).unwrap_or_else(|| panic!("{text} is a key"));
            assert_eq!(key.to_string(), text);
        }
        for text in [
            "/longspan/v1/era",
            "/longspan/v1/nodes/UPPER",
            "/longspan/v1/nodes/a/b",
            "/longspan/v2/nodes/a",
            "/longspan/v1/tenants/t/rooms/r/streams",
            "/longspan/v1/audit/1",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
