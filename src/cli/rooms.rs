//! `longspan room …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Context, Format, Watch,
    moves::{self, Move},
    output,
    policies::{self, Policy},
};
use crate::{failure::Outcome, http::escape};

/// Rooms.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All rooms
    Ls(Watch),
    /// One room: its streams, where they enter, the edges that serve it
    Show {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        watch: Watch,
    },
    /// The placement groups that keep the logs of rooms: who belongs to them, and what is wrong
    Groups(Watch),
    /// The ways of a room's streams to every edge that serves it: by the tables, and as the nodes
    /// themselves say
    Trace {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        watch: Watch,
    },
    /// Lets another placement group keep a room's log, while its members talk
    Move(Move),
    /// How much of a room's order is kept for whoever comes back
    Policy(Policy),
}

/// Which room.
#[derive(Debug, clap::Args)]
pub struct Name {
    /// Its name
    room: String,
    /// Whose it is
    #[arg(long, default_value = "default")]
    tenant: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.room)
    }
}

impl Name {
    /// Of the room, or of what is below it.
    pub fn path(&self, below: &str) -> String {
        let (room, tenant) = (escape(&self.room), escape(&self.tenant));
        format!("/rooms/{room}{below}?tenant={tenant}")
    }
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    match verb {
        Verb::Ls(watch) => {
            let show = async || {
                let rooms = output::items(api.get("/rooms").await?);
                ls(rooms, context.format)
            };
            watch.repeat(show).await
        }
        Verb::Show { name, watch } => {
            let path = name.path("");
            let show = async || show(&api.get(&path).await?, context.format);
            watch.repeat(show).await
        }
        Verb::Groups(watch) => {
            let show = async || {
                let items = output::items(api.get("/groups").await?);
                groups(items, context.format)
            };
            watch.repeat(show).await
        }
        Verb::Move(wish) => moves::run(wish, &api, context.format).await,
        Verb::Policy(policy) => policies::run(policy, &api, context.format).await,
        Verb::Trace { name, watch } => {
            let path = name.path("/trace");
            let show = async || {
                let answer = api.get(&path).await?;
                if context.format == Format::Json {
                    return output::json(&answer);
                }
                let columns = [
                    ("STREAM", "/stream"),
                    ("EDGE", "/edge"),
                    ("TRACKS", "/tracks"),
                    ("WAY NOW", "/now"),
                    ("BY THE TABLES", "/table"),
                ];
                output::list(context.format, &trace(&answer), &columns)
            };
            watch.repeat(show).await
        }
    }
}

fn ls(mut rooms: Vec<Value>, format: Format) -> Outcome {
    if format == Format::Table {
        for room in &mut rooms {
            room["streams"] = names(&room["streams"], "stream");
            room["edges"] = names(&room["edges"], "edge");
        }
    }
    output::list(
        format,
        &rooms,
        &[
            ("ROOM", "/room"),
            ("TENANT", "/tenant"),
            ("STREAMS", "/streams"),
            ("EDGES", "/edges"),
            ("GROUP", "/group"),
        ],
    )
}

fn groups(mut groups: Vec<Value>, format: Format) -> Outcome {
    if format == Format::Table {
        for group in &mut groups {
            group["relays"] = relays(group).into();
        }
    }
    output::list(
        format,
        &groups,
        &[
            ("GROUP", "/group"),
            ("REGION", "/region"),
            ("STATE", "/state"),
            ("LEADER", "/leader"),
            ("MEMBERS", "/relays"),
            ("ROOMS", "/rooms"),
            ("WHAT IS UNDER WAY", "/waits"),
        ],
    )
}

/// The relays of a group, with what is not as it should be about each.
fn relays(group: &Value) -> String {
    let members = group["members"].as_array().into_iter().flatten();
    let told = members.map(|member| {
        let mut notes = Vec::new();
        if member["leaving"] == true {
            notes.push("leaves".to_owned());
        } else if member["role"] == "learner" || member["role"] == "none" {
            notes.push("no vote yet".to_owned());
        }
        match member["standing"].as_str() {
            Some("here") | None => {}
            Some(standing) => notes.push(standing.replace('_', " ")),
        }
        if let Some(why) = member["halted"].as_str() {
            notes.push(format!("halted: {why}"));
        }
        let node = member["node"].as_str().unwrap_or("?");
        match notes.is_empty() {
            true => node.to_owned(),
            false => format!("{node} ({})", notes.join(", ")),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

fn show(room: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(room);
    }
    let list = |name: &str| room[name].as_array().cloned().unwrap_or_default();
    let mut head = json!({
        "room": room["room"], "tenant": room["tenant"],
        "group": room["group"],
    });
    if let Some(under_way) = moves::under_way(room) {
        head["moves"] = under_way.into();
    }
    if let Some(ended) = moves::ended(room) {
        head["last move"] = ended.into();
    }
    output::object(format, &head)?;
    output::print("\n")?;
    if let Some(group) = room.get("placement") {
        placement(group, format)?;
    }
    output::list(
        format,
        &list("streams"),
        &[
            ("STREAM", "/stream"),
            ("ENTERS AT", "/origin"),
            ("GENERATION", "/generation"),
            ("HLS BASE", "/hls_base"),
        ],
    )?;
    output::print("\n")?;
    output::list(
        format,
        &list("edges"),
        &[
            ("EDGE", "/edge"),
            ("VIEWERS", "/viewers"),
            ("MEMBERS", "/members"),
        ],
    )
}

/// Who keeps the room's log.
fn placement(group: &Value, format: Format) -> Outcome {
    let mut head = json!({ "log is": group["state"], "led by": group["leader"] });
    if let Some(waits) = group["waits"].as_str() {
        head["under way"] = waits.into();
    }
    output::object(format, &head)?;
    output::print("\n")?;
    let members = group["members"].as_array().cloned().unwrap_or_default();
    output::list(
        format,
        &members,
        &[
            ("MEMBER", "/number"),
            ("RELAY", "/node"),
            ("ROLE", "/role"),
            ("STANDING", "/standing"),
            ("LEAVES", "/leaving"),
            ("APPLIED", "/applied"),
            ("HALTED", "/halted"),
        ],
    )?;
    output::print("\n")
}

/// One item for each stream, edge, and way that some of its tracks take.
fn trace(answer: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let way = |nodes: &Value| match list(nodes).is_empty() {
        true => "no way now".to_owned(),
        false => output::arrows(nodes),
    };
    let mut rows = Vec::new();
    for stream in list(&answer["streams"]) {
        for edge in list(&stream["edges"]) {
            let verdict = edge["verdict"].as_str().unwrap_or("?");
            let table = match verdict {
                "as_told" => "the same".to_owned(),
                _ => way(&edge["table"]),
            };
            let row = |tracks: Value, now: String| {
                json!({
                    "stream": stream["stream"], "edge": edge["edge"],
                    "tracks": tracks, "now": now, "table": table,
                })
            };
            let actual = list(&edge["actual"]);
            if actual.is_empty() {
                let now = match verdict {
                    "silent" => "the edge does not answer",
                    _ => "nobody watches",
                };
                rows.push(row(Value::Null, now.to_owned()));
            }
            rows.extend(
                actual
                    .iter()
                    .map(|actual| row(actual["tracks"].clone(), way(&actual["nodes"]))),
            );
        }
    }
    rows
}

fn names(items: &Value, field: &str) -> Value {
    let items = items.as_array().into_iter().flatten();
    items.map(|item| item[field].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_s_relays_are_told_with_what_is_wrong() {
        let group = json!({"members": [
            {"node": "hk-relay-1", "role": "leader", "standing": "here", "leaving": false},
            {"node": "hk-relay-2", "role": "voter", "standing": "gone", "leaving": true},
            {"node": "hk-relay-3", "role": "learner", "standing": "here", "leaving": false,
             "halted": "entry 7"},
        ]});
        assert_eq!(
            relays(&group),
            "hk-relay-1, hk-relay-2 (leaves, gone), hk-relay-3 (no vote yet, halted: entry 7)"
        );
        assert_eq!(relays(&json!({})), "");
    }

    #[test]
    fn a_trace_has_a_line_for_each_stream_edge_and_way() {
        let answer = json!({"streams": [{"stream": "teacher", "edges": [
            {"edge": "sg-edge-1", "verdict": "as_told",
             "table": ["hk-edge-1", "hk-relay-1", "sg-edge-1"],
             "actual": [{"tracks": ["audio", "video"], "nodes": ["hk-edge-1", "hk-relay-1", "sg-edge-1"]}]},
            {"edge": "us-edge-1", "verdict": "not_pulled", "table": ["hk-edge-1", "us-edge-1"], "actual": []},
            {"edge": "de-edge-1", "verdict": "silent", "table": [], "actual": []},
        ]}]});
        let rows = trace(&answer);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0]["now"], "hk-edge-1 → hk-relay-1 → sg-edge-1");
        assert_eq!(rows[0]["table"], "the same");
        assert_eq!(rows[1]["now"], "nobody watches");
        assert_eq!(rows[1]["table"], "hk-edge-1 → us-edge-1");
        assert_eq!(rows[2]["table"], "no way now");
        assert_eq!(names(&answer["streams"], "stream"), json!(["teacher"]));
    }
}
