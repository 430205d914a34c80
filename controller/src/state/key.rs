//! Where records stand in the store (DESIGN §7).

use std::fmt;

use longspan_proto::ids::{Net, NodeId, Room, RoomName, Stream, Tenant};

use super::record::{GroupId, read_generation};

/// Everything of ours stands below it.
pub const ROOT: &str = "/longspan/v1/";

/// A key of a record. Names hold no `/`, so a key reads back unambiguously.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `nodes/{id}`; leased.
    Node(NodeId),
    /// `tenants/{tenant}/rooms/{room}`; never leased.
    Room(RoomName),
    /// `tenants/{tenant}/rooms/{room}/policy`; never leased.
    Policy(RoomName),
    /// `tenants/{tenant}/rooms/{room}/streams/{stream}`; leased by the origin edge.
    Stream(RoomName, Stream),
    /// `tenants/{tenant}/rooms/{room}/edges/{edge}`; leased by the edge.
    Edge(RoomName, NodeId),
    /// `generations/{tenant}/{room}/{stream}`; never leased, never deleted.
    Generation(RoomName, Stream),
    /// `groups/{id}`: a placement group; never leased, never deleted.
    Group(GroupId),
    /// `groups/last`: the last group's id; never leased, never deleted.
    LastGroup,
    /// `overrides/…`; never leased.
    Override(Target),
    /// `election`; leased by the leading controller.
    Election,
}

/// What an operator's wish is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// `nodes/{id}`: cordoned, or drained.
    Node(NodeId),
    /// `links/{from}/{to}/{net}/cordon`; the net `*` stands for all.
    Cordon(Link),
    /// `links/{from}/{to}/{net}/cost`.
    Cost(Link),
    /// `pins/{from}/{to}`: the path to take.
    Pin(NodeId, NodeId),
}

/// One direction between two nodes, over one net or over all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The sending end.
    pub from: NodeId,
    /// The receiving end.
    pub to: NodeId,
    /// None: every net.
    pub net: Option<Net>,
}

/// As people read it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(id) => write!(f, "node {id}"),
            Target::Cordon(link) => write!(f, "link {link}"),
            Target::Cost(link) => write!(f, "cost of link {link}"),
            Target::Pin(from, to) => write!(f, "path from {from} to {to}"),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.from, self.to)?;
        match &self.net {
            Some(net) => write!(f, " over {net}"),
            None => Ok(()),
        }
    }
}

/// Stands for all nets in a key; no net has that name.
const ALL_NETS: &str = "*";

impl Key {
    /// Reads a key. `None`: not one of these (`era`, `audit/…`, another's).
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
            ["tenants", t, "rooms", r, "policy"] => Key::Policy(room(t, r)?),
            ["tenants", t, "rooms", r, "streams", s] => {
                Key::Stream(room(t, r)?, Stream::new(s).ok()?)
            }
            ["tenants", t, "rooms", r, "edges", id] => {
                Key::Edge(room(t, r)?, NodeId::new(id).ok()?)
            }
            ["overrides", "nodes", id] => Key::Override(Target::Node(NodeId::new(id).ok()?)),
            ["overrides", "pins", from, to] => {
                let (from, to) = (NodeId::new(from).ok()?, NodeId::new(to).ok()?);
                Key::Override(Target::Pin(from, to))
            }
            ["overrides", "links", from, to, net, kind] => {
                let link = Link {
                    from: NodeId::new(from).ok()?,
                    to: NodeId::new(to).ok()?,
                    net: match net {
                        ALL_NETS => None,
                        net => Some(Net::new(net).ok()?),
                    },
                };
                Key::Override(match kind {
                    "cordon" => Target::Cordon(link),
                    "cost" => Target::Cost(link),
                    _ => return None,
                })
            }
            ["groups", "last"] => Key::LastGroup,
            ["groups", id] => Key::Group(read_generation(id)?),
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
            Key::Policy(name) => {
                room(f, name)?;
                f.write_str("/policy")
            }
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
            Key::Group(id) => write!(f, "{ROOT}groups/{id}"),
            Key::LastGroup => write!(f, "{ROOT}groups/last"),
            Key::Override(Target::Node(id)) => write!(f, "{ROOT}overrides/nodes/{id}"),
            Key::Override(Target::Pin(from, to)) => write!(f, "{ROOT}overrides/pins/{from}/{to}"),
            Key::Override(target @ (Target::Cordon(link) | Target::Cost(link))) => {
                let net = link.net.as_ref().map_or(ALL_NETS, Net::as_str);
                let kind = match target {
                    Target::Cordon(_) => "cordon",
                    _ => "cost",
                };
                let Link { from, to, .. } = link;
                write!(f, "{ROOT}overrides/links/{from}/{to}/{net}/{kind}")
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
            "/longspan/v1/tenants/default/rooms/math.7/policy",
            "/longspan/v1/tenants/default/rooms/math.7/streams/teacher",
            "/longspan/v1/tenants/default/rooms/math.7/edges/hk-edge-1",
            "/longspan/v1/generations/default/math.7/teacher",
            "/longspan/v1/generations/default/math.7/@room",
            "/longspan/v1/groups/1.7",
            "/longspan/v1/groups/last",
            "/longspan/v1/overrides/nodes/hk-relay-1",
            "/longspan/v1/overrides/links/hk-relay-1/sg-relay-1/*/cordon",
            "/longspan/v1/overrides/links/hk-relay-1/sg-relay-1/leased-7/cost",
            "/longspan/v1/overrides/pins/hk-relay-1/sg-relay-1",
            "/longspan/v1/election",
        ] {
            let key = Key::parse(text).unwrap_or_else(|| panic!("{text} is a key"));
            assert_eq!(key.to_string(), text);
        }
        for text in [
            "/longspan/v1/era",
            "/longspan/v1/nodes/UPPER",
            "/longspan/v1/nodes/a/b",
            "/longspan/v1/groups/7",
            "/longspan/v2/nodes/a",
            "/longspan/v1/tenants/t/rooms/r/streams",
            "/longspan/v1/audit/1",
            "/longspan/v1/overrides/links/a/b/*/price",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
