//! Messages of nodes, checked: inside, no invalid name can be written down. Errors name the field.

use std::net::SocketAddr;

use longspan_proto::{
    control::{self, FromNode, from_node},
    ids::{BootId, Generation, Net, NodeId, Room, RoomName, Stream, Tenant},
    wire::Role,
};
use longspan_topology::{
    encoding::{self, Malformed},
    graph::{Link, Metrics},
    routes::{Routes, Version},
};
use tonic::Status;

use crate::{
    routes::Report,
    state::{
        Claim, GroupStatus, HeldGroup, HeldStream, Join, Kept, MoveReport, MoveSaid, PolicyReport,
        Said, Stage, Status as NodeStatus, TracedTrack, record,
    },
};

/// The longest free text of a node (city, URL, version), in bytes.
const MAX_TEXT: usize = 512;
/// Addresses of one node.
const MAX_ADDRESSES: usize = 16;
/// Relays an edge may be attached to.
const MAX_ATTACHED: usize = 8;
/// The longest publisher identity, in bytes (a token's subject).
const MAX_IDENTITY: usize = 256;
/// Streams one node may hold.
const MAX_STREAMS: usize = 4_096;
/// Placement groups one relay may have a part in: a region has at most 64, and each of its relays
/// is in about three. A longer list ends the session.
const MAX_GROUPS: usize = 1_024;
/// Moves of rooms that one relay may tell of. A longer list ends the session.
const MAX_MOVES: usize = 1_024;
/// Policies of rooms that one relay may tell of: as many as it may be told. A longer list ends the
/// session.
const MAX_POLICIES: usize = 4_096;
/// Members, voters or learners of one group: three, and those who come and go.
const MAX_MEMBERS: usize = 16;
/// Above every number and revision that a group reaches; what rises from it does not overflow.
const MAX_RISING: u64 = 1 << 48;
/// Tracks told of one room.
const MAX_TRACED: usize = 4_096;
/// Nodes one track crosses: two edges and the relays between them, with room for what grows.
const MAX_CHAIN: usize = 16;
/// What is kept of a refusal's reason, in bytes.
const MAX_REASON: usize = 1_024;
/// The longest delay that is believed, in µs: an hour. Clocks' offsets are larger and not bounded.
const MAX_DELAY_US: u64 = 3_600_000_000;

type Parsed<T> = Result<T, String>;

pub fn join(join: control::Join) -> Parsed<Join> {
    let node = join.node.ok_or("join.node is missing")?;
    let role = match control::Role::try_from(node.role) {
        Ok(control::Role::Relay) => Role::Relay,
        Ok(control::Role::Edge) => Role::Edge,
        _ => {
            return Err(format!(
                "join.node.role: {} is neither relay nor edge",
                node.role
            ));
        }
    };
    if node.quic_addresses.len() > MAX_ADDRESSES {
        return Err(format!(
            "join.node.quic_addresses: {} addresses; the limit is {MAX_ADDRESSES}",
            node.quic_addresses.len()
        ));
    }
    for address in &node.quic_addresses {
        let parsed: Result<SocketAddr, _> = address.parse();
        parsed.map_err(|_| format!("join.node.quic_addresses: {address:?} is no ip:port"))?;
    }
    let within = |field: &str, value: f64, limit: f64| {
        let ok = value.is_finite() && value.abs() <= limit;
        ok.then_some(value)
            .ok_or_else(|| format!("join.node.{field}: {value} is not within ±{limit}"))
    };
    if join.session < 0 {
        return Err(format!("join.session: {} is negative", join.session));
    }
    let held = join.held.map(|table| match table.base {
        None => encoding::read(&table, &Routes::default()),
        Some(base) => Err(Malformed::OtherBase {
            base: encoding::read_version(base),
            held: Version::default(),
        }),
    });
    if join.streams.len() > MAX_STREAMS {
        return Err(format!(
            "join.streams: {} streams; the limit is {MAX_STREAMS}",
            join.streams.len()
        ));
    }
    if join.groups.len() > MAX_GROUPS {
        return Err(format!(
            "join.groups: {} groups; the limit is {MAX_GROUPS}",
            join.groups.len()
        ));
    }
    Ok(Join {
        node: record::Node {
            id: name("join.node.id", &node.id)?,
            role,
            boot: BootId(node.boot_id),
            region: name("join.node.region", &node.region)?,
            zone: name("join.node.zone", &node.zone)?,
            country: text("join.node.country", node.country)?,
            city: text("join.node.city", node.city)?,
            lat: within("latitude", node.latitude, 90.0)?,
            lon: within("longitude", node.longitude, 180.0)?,
            quic: node.quic_addresses,
            http: text("join.node.http_url", node.http_url)?,
            rtmp: text("join.node.rtmp_url", node.rtmp_url)?,
            admin: text("join.node.admin_url", node.admin_url)?,
            version: text("join.node.version", node.version)?,
            attached: attached("join.node.attached", &node.attached)?,
        },
        held: held
            .transpose()
            .map_err(|why| format!("join.held: {why}"))?,
        streams: join
            .streams
            .into_iter()
            .map(held_stream)
            .collect::<Parsed<_>>()?,
        carries: join.carries,
        disk: join.disk,
        groups: join
            .groups
            .into_iter()
            .map(held_group)
            .collect::<Parsed<_>>()?,
        session: join.session,
        highest: Generation(join.highest_generation),
        table: join
            .table
            .map(|told| version("join.table", Some(told)))
            .transpose()?,
    })
}

pub fn said(message: FromNode, max_links: usize) -> Parsed<Said> {
    use from_node::Message as M;
    Ok(match message.message.ok_or("a message holds nothing")? {
        M::Join(_) => return Err("join came a second time".into()),
        M::Heartbeat(_) => Said::Heartbeat,
        M::Links(links) => {
            let count = links.links.len();
            if count > max_links {
                return Err(format!("links: {count} reports; the limit is {max_links}"));
            }
            Said::Links(links.links.into_iter().map(link).collect::<Parsed<_>>()?)
        }
        M::TableAck(ack) => Said::Ack(version("table_ack.version", ack.version)?),
        M::TableNack(mut nack) => {
            let end = nack.reason.floor_char_boundary(MAX_REASON);
            nack.reason.truncate(end);
            Said::Nack {
                version: version("table_nack.version", nack.version)?,
                reason: nack.reason,
                send_whole: nack.send_whole,
            }
        }
        M::Attached(told) => Said::Attached(attached("attached.relays", &told.relays)?),
        M::WatchRoom(watch) => Said::Watch {
            room: room("watch_room", &watch.tenant, &watch.room)?,
            viewers: watch.viewers,
            members: watch.members,
        },
        M::UnwatchRoom(watch) => Said::Unwatch(room("unwatch_room", &watch.tenant, &watch.room)?),
        M::Status(status) => {
            let count = status.groups.len();
            if count > MAX_GROUPS {
                return Err(format!(
                    "status.groups: {count} groups; the limit is {MAX_GROUPS}"
                ));
            }
            let groups = status.groups.into_iter().map(group_status);
            let groups = groups.collect::<Parsed<_>>()?;
            let count = status.moves.len();
            if count > MAX_MOVES {
                return Err(format!(
                    "status.moves: {count} moves; the limit is {MAX_MOVES}"
                ));
            }
            let moves = status.moves.into_iter().map(move_report);
            let moves = moves.collect::<Parsed<_>>()?;
            let count = status.policies.len();
            if count > MAX_POLICIES {
                return Err(format!(
                    "status.policies: {count} policies; the limit is {MAX_POLICIES}"
                ));
            }
            let policies = status.policies.iter().map(policy_report);
            let policies = policies.collect::<Parsed<_>>()?;
            let status = NodeStatus {
                subscriptions: status.subscriptions,
                tracks: status.tracks,
                relays: status.relays,
                edges: status.edges,
            };
            Said::Status(status, groups, moves, policies)
        }
        M::Traced(traced) => {
            let count = traced.tracks.len();
            if count > MAX_TRACED {
                return Err(format!("traced: {count} tracks; the limit is {MAX_TRACED}"));
            }
            let tracks = traced.tracks.into_iter().map(traced_track);
            Said::Traced(traced.id, tracks.collect::<Parsed<_>>()?)
        }
    })
}

fn held_stream(held: control::HeldStream) -> Parsed<HeldStream> {
    identity(&held.identity)?;
    Ok(HeldStream {
        room: room("join.streams", &held.tenant, &held.room)?,
        stream: name("join.streams.stream", &held.stream)?,
        generation: Generation(held.generation),
        hls_base: held.hls_base,
        identity: held.identity,
    })
}

fn held_group(held: control::PlacementGroup) -> Parsed<HeldGroup> {
    let id = group_id("join.groups", held.id)?;
    let era = u16::try_from(held.era).map_err(|_| {
        format!(
            "join.groups: era {} of group {id}; the limit is 65535",
            held.era
        )
    })?;
    if held.revision >= MAX_RISING {
        let revision = held.revision;
        return Err(format!(
            "join.groups: revision {revision} of group {id}; the limit is {MAX_RISING}"
        ));
    }
    if held.members.is_empty() {
        return Err(format!("join.groups: group {id} has no members"));
    }
    numbers("join.groups.born", &held.born)?;
    let count = held.members.len().max(held.leaving.len());
    if count > MAX_MEMBERS {
        return Err(format!(
            "join.groups: {count} members of group {id}; the limit is {MAX_MEMBERS}"
        ));
    }
    let member = |told: control::GroupMember| {
        Ok(record::Member {
            number: told.number,
            node: name("join.groups.members.node", &told.node)?,
            disk: told.disk,
        })
    };
    let members: Vec<record::Member> = held
        .members
        .into_iter()
        .map(member)
        .collect::<Parsed<_>>()?;
    let leaving: Vec<record::Member> = held
        .leaving
        .into_iter()
        .map(member)
        .collect::<Parsed<_>>()?;
    let told: Vec<u64> = members.iter().chain(&leaving).map(|m| m.number).collect();
    numbers("join.groups.members.number", &told)?;
    Ok(HeldGroup {
        id,
        era,
        revision: held.revision,
        members,
        born: held.born,
        leaving,
    })
}

fn group_status(mut told: control::GroupStatus) -> Parsed<GroupStatus> {
    let id = group_id("status.groups", told.id)?;
    numbers("status.groups.voters", &told.voters)?;
    numbers("status.groups.learners", &told.learners)?;
    let end = told.halted.floor_char_boundary(MAX_REASON);
    told.halted.truncate(end);
    Ok(GroupStatus {
        id,
        number: told.number,
        leader: told.leader,
        generation: Generation(told.generation),
        voters: told.voters,
        learners: told.learners,
        applied: told.applied,
        rooms: told.rooms,
        halted: told.halted,
        most: told.most.as_ref().and_then(kept),
    })
}

fn policy_report(told: &control::PolicyStatus) -> Parsed<PolicyReport> {
    Ok(PolicyReport {
        room: room("status.policies", &told.tenant, &told.room)?,
        group: group_id("status.policies.group", told.group)?,
        keeps: told.keeps.as_ref().and_then(kept),
    })
}

/// A relay says all of it.
fn kept(told: &control::Retention) -> Option<Kept> {
    Some(Kept {
        messages: told.messages?,
        bytes: told.bytes?,
        age_ms: told.age_ms?,
    })
}

fn move_report(told: control::MoveStatus) -> Parsed<MoveReport> {
    use control::move_status::Stage as S;
    let end = told.why.floor_char_boundary(MAX_REASON);
    Ok(MoveReport {
        room: room("status.moves", &told.tenant, &told.room)?,
        word: group_id("status.moves.word", told.word)?,
        from: group_id("status.moves.from", told.from)?,
        said: match told.stage() {
            S::Gone => MoveSaid::Gone,
            S::Back => MoveSaid::Back(told.why[..end].to_owned()),
            S::Elsewhere => MoveSaid::Elsewhere {
                group: group_id("status.moves.group", told.group)?,
                word: group_id("status.moves.moved", told.moved)?,
            },
            S::Closed => MoveSaid::Stage(Stage::Closed),
            S::Waiting | S::Unspecified => MoveSaid::Stage(Stage::Waiting),
        },
    })
}

fn group_id(field: &str, id: u64) -> Parsed<Generation> {
    match id {
        0 => Err(format!("{field}.id: 0 is no group")),
        id => Ok(Generation(id)),
    }
}

/// Numbers of members: few, none of them 0, none twice.
fn numbers(field: &str, told: &[u64]) -> Parsed<()> {
    const MOST: usize = 2 * MAX_MEMBERS;
    if told.len() > MOST {
        let count = told.len();
        return Err(format!("{field}: {count} numbers; the limit is {MOST}"));
    }
    let mut sorted = told.to_vec();
    sorted.sort_unstable();
    if let Some(number) = sorted.iter().find(|n| **n == 0 || **n >= MAX_RISING) {
        return Err(format!("{field}: {number} is no member's number"));
    }
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{field}: {} is named twice", pair[0])),
        None => Ok(()),
    }
}

fn traced_track(told: control::TracedTrack) -> Parsed<TracedTrack> {
    if told.chain.len() > MAX_CHAIN {
        let nodes = told.chain.len();
        return Err(format!(
            "traced.chain: {nodes} nodes; the limit is {MAX_CHAIN}"
        ));
    }
    let chain = told.chain.iter().map(|node| name("traced.chain", node));
    Ok(TracedTrack {
        stream: name("traced.stream", &told.stream)?,
        track: name("traced.track", &told.track)?,
        generation: Generation(told.generation),
        chain: chain.collect::<Parsed<_>>()?,
        receivers: told.receivers,
    })
}

fn identity(identity: &str) -> Parsed<()> {
    let len = identity.len();
    match len <= MAX_IDENTITY {
        true => Ok(()),
        false => Err(format!(
            "identity is {len} bytes long; the limit is {MAX_IDENTITY}"
        )),
    }
}

pub fn claim(claim: control::ClaimRequest) -> Parsed<Claim> {
    identity(&claim.identity)?;
    Ok(Claim {
        session: claim.session,
        edge: name("edge", &claim.edge)?,
        room: room("claim", &claim.tenant, &claim.room)?,
        stream: name("stream", &claim.stream)?,
        identity: claim.identity,
    })
}

pub fn release(release: &control::ReleaseRequest) -> Parsed<(RoomName, Stream)> {
    let room = room("release", &release.tenant, &release.room)?;
    Ok((room, name("stream", &release.stream)?))
}

/// With certificates, a node is who its certificate says.
pub fn certified(
    certificates: Option<&[rustls::pki_types::CertificateDer<'static>]>,
    id: &NodeId,
) -> Result<(), Status> {
    let Some(chain) = certificates else {
        // Without TLS: loopback only, see `Config::tls`.
        return Ok(());
    };
    let denied = |why: String| {
        metrics::counter!("longspan_rejected_total", "reason" => "certificate").increment(1);
        Status::permission_denied(why)
    };
    let leaf = chain.first();
    let leaf = leaf.ok_or_else(|| denied(format!("{id} shows no certificate")))?;
    let certificate = webpki::EndEntityCert::try_from(leaf)
        .map_err(|e| denied(format!("{id} shows a certificate that cannot be read: {e}")))?;
    let name = rustls::pki_types::ServerName::try_from(id.as_str())
        .map_err(|_| denied(format!("{id} cannot be the name of a certificate")))?;
    certificate
        .verify_is_valid_for_subject_name(&name)
        .map_err(|_| denied(format!("the certificate shown is not {id}'s")))
}

fn name<T: std::str::FromStr<Err = longspan_proto::ids::NameError>>(
    field: &str,
    value: &str,
) -> Parsed<T> {
    value.parse().map_err(|e| format!("{field}: {e}"))
}

fn text(field: &str, value: String) -> Parsed<String> {
    match value.len() {
        0..=MAX_TEXT => Ok(value),
        len => Err(format!(
            "{field} is {len} bytes long; the limit is {MAX_TEXT}"
        )),
    }
}

fn attached(field: &str, relays: &[String]) -> Parsed<Vec<NodeId>> {
    if relays.len() > MAX_ATTACHED {
        return Err(format!(
            "{field}: {} relays; the limit is {MAX_ATTACHED}",
            relays.len()
        ));
    }
    relays.iter().map(|relay| name(field, relay)).collect()
}

fn room(field: &str, tenant: &str, room: &str) -> Parsed<RoomName> {
    let tenant: Tenant = name(&format!("{field}.tenant"), tenant)?;
    let room: Room = name(&format!("{field}.room"), room)?;
    Ok(RoomName { tenant, room })
}

fn version(field: &str, version: Option<control::TableVersion>) -> Parsed<Version> {
    let version = version.ok_or_else(|| format!("{field} is missing"))?;
    Ok(encoding::read_version(version))
}

fn link(report: control::LinkReport) -> Parsed<Report> {
    let from: NodeId = name("links.from", &report.from)?;
    let net: Net = name("links.net", &report.net)?;
    let bounded = |field: &str, value: u64| {
        let ok = value <= MAX_DELAY_US;
        ok.then_some(value)
            .ok_or_else(|| format!("links.{field}: {value} µs from {from} is over an hour"))
    };
    if !(0.0..=1.0).contains(&report.loss) {
        return Err(format!(
            "links.loss: {} from {from} is not within 0 … 1",
            report.loss
        ));
    }
    // Sums of a path's raw delays must not overflow; clocks begin at their process's start.
    if report.raw_delay_us.unsigned_abs() > i64::MAX as u64 / 1_024 {
        return Err(format!(
            "links.raw_delay_us: {} from {from} is no clock difference",
            report.raw_delay_us
        ));
    }
    let metrics = Metrics {
        raw_delay_us: report.raw_delay_us,
        rtt_us: bounded("rtt_us", report.rtt_us)?,
        jitter_p95_us: bounded("jitter_p95_us", report.jitter_p95_us)?,
        loss: report.loss,
    };
    let link = Link {
        net,
        up: report.up,
        metrics,
    };
    let rate_bps = report.rate_bps;
    Ok(Report {
        from,
        link,
        rate_bps,
    })
}
