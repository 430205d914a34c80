//! The changing verbs: POST only, each with its reason; every change stands in the audit.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use longspan_proto::ids::{Net, NodeId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    App, Failure,
    api::{Params, parsed, room_name},
};
use crate::{
    driver::Message,
    state::{
        Ask, Change, KeepRoom, Move, Unchanged, Where,
        key::{Link, Target},
        record::{Keep, Wish, read_generation},
    },
};

/// The longest body of a change, in bytes.
pub const MAX_BODY: usize = 16 * 1_024;
/// The longest reason and the longest owner, in bytes.
const MAX_REASON: usize = 512;
const MAX_OWNER: usize = 128;
/// A wish lasts at least this long; a shorter one is a slip of the pen …
const MIN_TTL: Duration = Duration::from_secs(1);
/// … and at most this: what shall stay longer belongs into the configuration.
const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3_600);
/// When a drain should be done, unless told (INTERFACES: 10 min), and at most.
const DEADLINE: Duration = Duration::from_secs(600);
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3_600);
/// The most that can be added to a link's cost, in ms: above any path there is.
const MAX_ADDED_MS: f64 = 10_000.0;
/// What a link's cost can be multiplied by.
const FACTORS: std::ops::RangeInclusive<f64> = 0.1..=100.0;
/// Messages, bytes and seconds that can be wished for: any number that JSON can say without loss, and
/// ten years. What a group keeps of a room is far less, and its leader says how much.
const MAX_KEPT: u64 = (1 << 53) - 1;
const MAX_AGE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Nodes of a pinned path, its end included, that are read at all.
const MAX_PIN: usize = 16;

type Answer = Result<Json<Value>, Failure>;

/// What every change says.
#[derive(Debug, Deserialize)]
struct Why {
    reason: Option<String>,
    owner: Option<String>,
    ttl_s: Option<f64>,
}

impl Why {
    /// Why, and who.
    fn words(&self) -> Result<(String, String), Failure> {
        let reason = self.reason.as_deref().unwrap_or_default();
        let reason = within("reason", reason.trim(), MAX_REASON)?;
        if reason.is_empty() {
            return Err(Failure::bad(
                "reason is missing: say why, it goes into the audit",
            ));
        }
        let owner = self.owner.as_deref().unwrap_or_default();
        let owner = match within("owner", owner.trim(), MAX_OWNER)? {
            "" => "unnamed",
            owner => owner,
        };
        Ok((reason.to_owned(), owner.to_owned()))
    }

    fn change(self, target: Target, ask: Ask) -> Result<Change, Failure> {
        let (reason, owner) = self.words()?;
        let ttl = self.ttl_s.map(|s| seconds("ttl_s", s, MIN_TTL, MAX_TTL));
        let ttl = ttl.transpose()?;
        if ttl.is_some() && !matches!(ask, Ask::Set(_)) {
            return Err(Failure::bad(
                "ttl_s: what is taken back has no time to live",
            ));
        }
        Ok(Change {
            target,
            ask,
            reason,
            owner,
            ttl,
            force: false,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeBody {
    reason: Option<String>,
    owner: Option<String>,
    ttl_s: Option<f64>,
    deadline_s: Option<f64>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

/// `POST /nodes/ID/cordon|uncordon|drain|undrain`
pub async fn node(
    State(app): State<App>,
    Path((id, verb)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let id: NodeId = parsed(&id)?;
    let verb = one_of(&verb, &["cordon", "uncordon", "drain", "undrain"])?;
    let body: NodeBody = read(&body)?;
    if verb != "drain" && (body.dry_run || body.force || body.deadline_s.is_some()) {
        return Err(Failure::bad(
            "dry_run, force and deadline_s belong to drain only",
        ));
    }
    if body.dry_run {
        let plan = app.look(move |state| match state.is_edge(&id) {
            true => state.view_edge_drain(&id).map(|plan| json!(plan)),
            false => state.view_drain(&id).map(|plan| json!(plan)),
        });
        return Ok(Json(plan.await?.map_err(failure)?));
    }
    let deadline = match body.deadline_s {
        None => DEADLINE,
        Some(s) => seconds("deadline_s", s, MIN_TTL, MAX_DEADLINE)?,
    };
    let ask = match verb {
        "cordon" => Ask::Set(Wish::Cordon),
        "uncordon" => Ask::Uncordon,
        "drain" => Ask::Set(Wish::Drain {
            deadline_ms: unix_ms() + deadline.as_millis() as u64,
        }),
        _ => Ask::Undrain,
    };
    let why = Why {
        reason: body.reason,
        owner: body.owner,
        ttl_s: body.ttl_s,
    };
    let mut change = why.change(Target::Node(id), ask)?;
    change.force = body.force;
    apply(&app, change).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkBody {
    reason: Option<String>,
    owner: Option<String>,
    ttl_s: Option<f64>,
    net: Option<String>,
    added_ms: Option<f64>,
    factor: Option<f64>,
}

/// `POST /links/A/B/cordon|uncordon|cost`; a cost that names neither number is taken back.
pub async fn link(
    State(app): State<App>,
    Path((from, to, verb)): Path<(String, String, String)>,
    body: Bytes,
) -> Answer {
    let body: LinkBody = read(&body)?;
    let verb = one_of(&verb, &["cordon", "uncordon", "cost"])?;
    let link = Link {
        from: parsed(&from)?,
        to: parsed(&to)?,
        net: body.net.as_deref().map(parsed::<Net>).transpose()?,
    };
    if verb != "cost" && (body.added_ms.is_some() || body.factor.is_some()) {
        return Err(Failure::bad("added_ms and factor belong to cost only"));
    }
    let (target, ask) = match verb {
        "cordon" => (Target::Cordon(link), Ask::Set(Wish::Cordon)),
        "uncordon" => (Target::Cordon(link), Ask::Uncordon),
        _ => (Target::Cost(link), cost(body.added_ms, body.factor)?),
    };
    let why = Why {
        reason: body.reason,
        owner: body.owner,
        ttl_s: body.ttl_s,
    };
    apply(&app, why.change(target, ask)?).await
}

fn cost(added_ms: Option<f64>, factor: Option<f64>) -> Result<Ask, Failure> {
    match (added_ms, factor) {
        (None, None) => Ok(Ask::Clear),
        (Some(_), Some(_)) => Err(Failure::bad(
            "added_ms and factor: a cost is changed by one of them",
        )),
        (Some(ms), None) if (0.0..=MAX_ADDED_MS).contains(&ms) => {
            let added_us = (ms * 1_000.0) as u64;
            Ok(Ask::Set(Wish::CostAdded { added_us }))
        }
        (Some(ms), None) => Err(Failure::bad(format!(
            "added_ms: {ms} is not within 0 … {MAX_ADDED_MS}"
        ))),
        (None, Some(factor)) if FACTORS.contains(&factor) => {
            Ok(Ask::Set(Wish::CostFactor { factor }))
        }
        (None, Some(factor)) => Err(Failure::bad(format!(
            "factor: {factor} is not within {} … {}",
            FACTORS.start(),
            FACTORS.end()
        ))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinBody {
    reason: Option<String>,
    owner: Option<String>,
    ttl_s: Option<f64>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    via: Vec<String>,
}

/// `POST /routes/pin|unpin`: the path from a node to a relay, over `via` in this order.
pub async fn pin(State(app): State<App>, Path(verb): Path<String>, body: Bytes) -> Answer {
    let body: PinBody = read(&body)?;
    let verb = one_of(&verb, &["pin", "unpin"])?;
    let end = |name: &str, value: Option<String>| {
        let value = value.ok_or_else(|| Failure::bad(format!("{name} is missing")))?;
        parsed::<NodeId>(&value)
    };
    let (from, to) = (end("from", body.from)?, end("to", body.to)?);
    if body.via.len() >= MAX_PIN {
        return Err(Failure::bad(format!(
            "via: {} nodes; no path is that long",
            body.via.len()
        )));
    }
    let via = body.via.iter().map(|node| parsed(node));
    let mut nodes: Vec<NodeId> = via.collect::<Result<_, _>>()?;
    nodes.push(to.clone());
    let ask = match verb {
        "pin" => Ask::Set(Wish::Pin { nodes }),
        _ => Ask::Clear,
    };
    let why = Why {
        reason: body.reason,
        owner: body.owner,
        ttl_s: body.ttl_s,
    };
    apply(&app, why.change(Target::Pin(from, to), ask)?).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    reason: Option<String>,
    owner: Option<String>,
    region: Option<String>,
    group: Option<String>,
}

/// `POST /rooms/ROOM/move`: another placement group is to keep the room's log.
pub async fn move_room(
    State(app): State<App>,
    Path(room): Path<String>,
    params: Params,
    body: Bytes,
) -> Answer {
    let room = room_name(&room, &params)?;
    let body: MoveBody = read(&body)?;
    let to = match (body.region, body.group) {
        (None, None) => Where::Any,
        (Some(region), None) => Where::Region(parsed(&region)?),
        (None, Some(group)) => match read_generation(&group) {
            Some(group) => Where::Group(group),
            None => {
                return Err(Failure::bad(format!(
                    "group: {group:?} is no era.counter, as groups are named"
                )));
            }
        },
        (Some(_), Some(_)) => {
            return Err(Failure::bad(
                "region and group: a target is named by one of them",
            ));
        }
    };
    let why = Why {
        reason: body.reason,
        owner: body.owner,
        ttl_s: None,
    };
    let (reason, owner) = why.words()?;
    let wish = Move {
        room,
        to,
        reason,
        owner,
    };
    let begun = app.handle.ask(|reply| Message::Move(wish, reply)).await;
    let begun = begun.ok_or_else(|| app.not_leading())?;
    let begun = begun.map_err(failure)?;
    Ok(Json(json!(begun)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepBody {
    reason: Option<String>,
    owner: Option<String>,
    messages: Option<u64>,
    bytes: Option<u64>,
    age_s: Option<f64>,
    #[serde(default)]
    reset: bool,
}

/// `POST /rooms/ROOM/policy`: how much of the room's order is kept.
pub async fn keep_room(
    State(app): State<App>,
    Path(room): Path<String>,
    params: Params,
    body: Bytes,
) -> Answer {
    let room = room_name(&room, &params)?;
    let body: KeepBody = read(&body)?;
    for (name, value) in [("messages", body.messages), ("bytes", body.bytes)] {
        if let Some(value) = value.filter(|value| *value > MAX_KEPT) {
            return Err(Failure::bad(format!(
                "{name}: {value} is not within 0 … {MAX_KEPT}"
            )));
        }
    }
    let age = body.age_s;
    let age = age.map(|s| seconds("age_s", s, Duration::ZERO, MAX_AGE));
    let keep = Keep {
        messages: body.messages,
        bytes: body.bytes,
        age_ms: age.transpose()?.map(|age| age.as_millis() as u64),
    };
    let keep = match (body.reset, keep == Keep::default()) {
        (true, true) => None,
        (false, false) => Some(keep),
        (true, false) => {
            return Err(Failure::bad(
                "reset: it takes all bounds back; name none of them with it",
            ));
        }
        (false, true) => {
            return Err(Failure::bad(
                "nothing is asked: name messages, bytes or age_s, or reset",
            ));
        }
    };
    let why = Why {
        reason: body.reason,
        owner: body.owner,
        ttl_s: None,
    };
    let (reason, owner) = why.words()?;
    let wish = KeepRoom {
        room,
        keep,
        reason,
        owner,
    };
    let kept = app.handle.ask(|reply| Message::Keep(wish, reply)).await;
    let kept = kept.ok_or_else(|| app.not_leading())?;
    Ok(Json(json!(kept.map_err(failure)?)))
}

async fn apply(app: &App, change: Change) -> Answer {
    let target = change.target.to_string();
    let made = app.handle.ask(|reply| Message::Change(change, reply)).await;
    let made = made.ok_or_else(|| app.not_leading())?;
    let made = made.map_err(failure)?;
    Ok(Json(json!({"target": target, "changed": made.changed})))
}

/// As HTTP says it.
pub fn failure(why: Unchanged) -> Failure {
    match why {
        Unchanged::NotFound { what, near } => {
            let hint = near.map(|near| format!(" (did you mean {near}?)"));
            Failure::not_found(format!("{what}{}", hint.unwrap_or_default()))
        }
        Unchanged::Refused(why) => Failure::new(StatusCode::CONFLICT, "refused", why),
        Unchanged::Unavailable(why) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why)
        }
    }
}

/// An empty body is an empty object: what is missing is named then.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|e| Failure::bad(format!("the body: {e}")))
}

fn one_of<'a>(verb: &str, known: &[&'a str]) -> Result<&'a str, Failure> {
    let found = known.iter().find(|known| **known == verb);
    found.copied().ok_or_else(|| {
        let known = known.join(", ");
        Failure::not_found(format!("there is no verb {verb}; there are {known}"))
    })
}

fn within<'a>(name: &str, text: &'a str, limit: usize) -> Result<&'a str, Failure> {
    let len = text.len();
    if len > limit {
        return Err(Failure::bad(format!(
            "{name} is {len} bytes long; the limit is {limit}"
        )));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(odd) => Err(Failure::bad(format!("{name} holds {odd:?}"))),
        None => Ok(text),
    }
}

fn seconds(name: &str, value: f64, min: Duration, max: Duration) -> Result<Duration, Failure> {
    let (least, most) = (min.as_secs_f64(), max.as_secs_f64());
    match (least..=most).contains(&value) {
        true => Ok(Duration::from_secs_f64(value)),
        false => Err(Failure::bad(format!(
            "{name}: {value} is not within {least} … {most}"
        ))),
    }
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}
