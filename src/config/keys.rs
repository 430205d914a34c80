//! The list of all configuration keys.

use std::fmt;

use clap::ValueEnum;

/// Which process a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A backbone node.
    Relay,
    /// A node near users.
    Edge,
    /// The control plane.
    Controller,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Relay => "relay",
            Role::Edge => "edge",
            Role::Controller => "controller",
        })
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A file or folder; relative to the configuration file.
    Path,
    /// `ip:port`.
    Address,
    /// Several of them.
    Addresses,
    /// Several texts.
    Texts,
    /// A number that may have a fraction.
    Number,
    /// `true` or `false`.
    Flag,
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Path => "path",
            Kind::Address => "ip:port",
            Kind::Addresses => "list of ip:port",
            Kind::Texts => "list of text",
            Kind::Number => "number",
            Kind::Flag => "true or false",
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Section and name.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Which roles have it.
    pub roles: &'static [Role],
    /// What it is if it is not told; `None` and not `required`: nothing.
    pub default: Option<&'static str>,
    /// Must be told (if its section is there, for a section that may be absent).
    pub required: bool,
    /// A SIGHUP is enough to change it.
    pub reloads: bool,
    /// What it means.
    pub doc: &'static str,
}

impl Key {
    /// The environment's variable that sets it.
    pub fn variable(&self) -> String {
        format!("LONGSPAN_{}", self.path.to_uppercase().replace('.', "_"))
    }

    /// The part before the dot.
    pub fn section(&self) -> &'static str {
        self.path.split('.').next().unwrap_or(self.path)
    }
}

const NODES: &[Role] = &[Role::Relay, Role::Edge];
const EDGE: &[Role] = &[Role::Edge];
const CONTROLLER: &[Role] = &[Role::Controller];
const ALL: &[Role] = &[Role::Relay, Role::Edge, Role::Controller];

/// Sections that may be absent as a whole; their required keys count only if they are there.
pub const OPTIONAL_SECTIONS: [(&str, Role); 5] = [
    ("tls", Role::Controller),
    ("lab", Role::Relay),
    ("lab", Role::Edge),
    ("sample", Role::Edge),
    ("auth", Role::Edge),
];

const fn key(path: &'static str, kind: Kind, roles: &'static [Role], doc: &'static str) -> Key {
    Key {
        path,
        kind,
        roles,
        default: None,
        required: false,
        reloads: false,
        doc,
    }
}

impl Key {
    const fn required(self) -> Key {
        Key {
            required: true,
            ..self
        }
    }

    const fn or(self, default: &'static str) -> Key {
        Key {
            default: Some(default),
            ..self
        }
    }

    const fn reloads(self) -> Key {
        Key {
            reloads: true,
            ..self
        }
    }
}

/// All keys of all roles.
pub const KEYS: &[Key] = &[
    key("node.id", Kind::Text, NODES, "the node's name, unique in the backbone, and the name in its certificate").required(),
    key("node.region", Kind::Text, NODES, "where it runs, such as cn-beijing").required(),
    key("node.zone", Kind::Text, NODES, "the data centre inside the region; the region's name if it is not told"),
    key("node.country", Kind::Text, NODES, "ISO 3166-1 alpha-2, such as CN"),
    key("node.city", Kind::Text, NODES, "for people"),
    key("node.lat", Kind::Number, NODES, "degrees north").or("0"),
    key("node.lon", Kind::Number, NODES, "degrees east").or("0"),
    key("quic.listen", Kind::Address, NODES, "UDP address for other nodes").or("0.0.0.0:7443"),
    key("quic.advertise", Kind::Addresses, NODES, "where other nodes reach it, best first; the bound address if it is not told"),
    key("quic.link_capacity_mbps", Kind::Number, NODES, "what each of its links carries each way, in Mbit/s: what congestion control is bounded by, and from where new subscriptions are refused").or("200"),
    key("tls.ca", Kind::Path, ALL, "PEM: who signs nodes' certificates").required(),
    key("tls.cert", Kind::Path, ALL, "PEM: the node's certificate chain").required(),
    key("tls.key", Kind::Path, ALL, "PEM: the certificate's private key").required(),
    key("controller.urls", Kind::Texts, NODES, "the controllers' gRPC, http://host:7440, tried in turn").required(),
    key("controller.id", Kind::Text, CONTROLLER, "the controller's name, unique among controllers").required(),
    key("controller.grpc_listen", Kind::Address, CONTROLLER, "TCP address for nodes").or("127.0.0.1:7440"),
    key("controller.grpc_url", Kind::Text, CONTROLLER, "what other machines write to reach grpc_listen"),
    key("controller.http_listen", Kind::Address, CONTROLLER, "TCP address for operators and the dashboard").or("127.0.0.1:7480"),
    key("store.kind", Kind::Text, CONTROLLER, "embedded (one controller) or etcd").required(),
    key("store.path", Kind::Path, CONTROLLER, "embedded: the database file"),
    key("store.endpoints", Kind::Texts, CONTROLLER, "etcd: http://host:2379 of its members"),
    key("store.clear_leases", Kind::Flag, CONTROLLER, "forget at start what an earlier run's leases hold; only where all nodes start anew together").or("false"),
    key("links.capacity_mbps", Kind::Number, CONTROLLER, "what a link carries each way, in Mbit/s; above 80 % it takes no new track unless nothing else reaches").or("200"),
    key("links.capacities", Kind::Texts, CONTROLLER, "links that carry more or less: \"link FROM TO = MBPS\", \"link FROM TO over NET = MBPS\", \"net NAME = MBPS\", \"region NAME = MBPS\"; the first of these kinds that fits counts"),
    key("admin.listen", Kind::Address, ALL, "private listener: /healthz /readyz /metrics /debug/state").or("127.0.0.1:9090"),
    key("admin.token_file", Kind::Path, CONTROLLER, "file with the bearer token of the operator's API").required(),
    key("data.dir", Kind::Path, NODES, "where the last good route table and the reset key are kept; nothing is kept if it is not told"),
    key("http.listen", Kind::Address, EDGE, "TCP address for browsers and players").required(),
    key("http.public_url", Kind::Text, EDGE, "what users write to reach it; the bound address if it is not told"),
    key("rtmp.listen", Kind::Address, EDGE, "TCP address for encoders").required(),
    key("rtmp.public_url", Kind::Text, EDGE, "what users write to reach it; the bound address if it is not told"),
    key("auth.open", Kind::Flag, EDGE, "rooms may be entered without a token").or("false").reloads(),
    key("auth.jwt_keys", Kind::Path, EDGE, "file of the users' JWT keys, made by `longspan key create`").reloads(),
    key("messages.presence", Kind::Flag, EDGE, "rooms are told who of their members is here").or("true"),
    key("messages.goaway_seconds", Kind::Number, EDGE, "how long members are given to go to another edge when this one stops; a second more for each thousand of them").or("5"),
    key("sample.room", Kind::Text, EDGE, "a lesson that the edge publishes itself: its room").required(),
    key("sample.stream", Kind::Text, EDGE, "its stream").required(),
    key("sample.file", Kind::Path, EDGE, "an FLV file (H.264, AAC); the built-in lesson if it is not told"),
    key("lab.world", Kind::Path, NODES, "the emulated world this node lives in; the real one if it is not told"),
    key("lab.clock_ahead_s", Kind::Number, NODES, "by how many seconds this node's clock, which counts from its start, is ahead").or("0"),
    key("log.level", Kind::Text, ALL, "a filter: error, warn, info, debug, trace, or longspan_relay=debug,info").or("info").reloads(),
    key("log.format", Kind::Text, ALL, "text or json").or("text"),
];

/// The keys of one role.
pub fn of(role: Role) -> impl Iterator<Item = &'static Key> + Clone {
    KEYS.iter().filter(move |key| key.roles.contains(&role))
}
