//! `longspan room …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Context, Format, Watch, output};
use crate::{failure::Outcome, http::escape};

/// Rooms.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All rooms
    Ls(Watch),
    /// One room: its streams, where they enter, the edges that serve it
    Show(Name),
    /// The ways of a room's streams, from where they enter to every edge that serves it
    Trace {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        watch: Watch,
    },
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

impl Name {
    fn path(&self) -> String {
        format!(
            "/rooms/{}?tenant={}",
            escape(&self.room),
            escape(&self.tenant)
        )
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
        Verb::Show(name) => show(&api.get(&name.path()).await?, context.format),
        Verb::Trace { name, watch } => {
            let show = async || {
                let ways = trace(&api.get(&name.path()).await?);
                let columns = [("STREAM", "/stream"), ("EDGE", "/edge"), ("WAY", "/way")];
                output::list(context.format, &ways, &columns)
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
            ("HOME", "/home"),
        ],
    )
}

fn show(room: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(room);
    }
    let list = |name: &str| room[name].as_array().cloned().unwrap_or_default();
    let head = json!({
        "room": room["room"], "tenant": room["tenant"],
        "home": room["home"], "home generation": room["home_generation"],
    });
    output::object(format, &head)?;
    output::print("\n")?;
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

/// One item for each stream and edge.
fn trace(room: &Value) -> Vec<Value> {
    let edges = room["edges"].as_array().into_iter().flatten();
    let ways = edges.flat_map(|edge| {
        let ways = edge["ways"].as_array().into_iter().flatten();
        ways.map(|way| {
            let crossed: Vec<&str> = way["path"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let shown = if crossed.is_empty() {
                "no way now".to_owned()
            } else {
                crossed.join(" → ")
            };
            json!({ "stream": way["stream"], "edge": edge["edge"], "path": way["path"], "way": shown })
        })
    });
    ways.collect()
}

fn names(items: &Value, field: &str) -> Value {
    let items = items.as_array().into_iter().flatten();
    items.map(|item| item[field].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_a_line_for_each_stream_and_edge() {
        let room = json!({"edges": [
            {"edge": "sg-edge-1", "ways": [
                {"stream": "teacher", "path": ["hk-edge-1", "hk-relay-1", "sg-relay-1", "sg-edge-1"]},
                {"stream": "screen", "path": []},
            ]},
            {"edge": "hk-edge-1", "ways": []},
        ]});
        let ways = trace(&room);
        assert_eq!(ways.len(), 2);
        assert_eq!(
            ways[0]["way"],
            "hk-edge-1 → hk-relay-1 → sg-relay-1 → sg-edge-1"
        );
        assert_eq!(ways[1]["way"], "no way now");
        assert_eq!(
            names(&room["edges"], "edge"),
            json!(["sg-edge-1", "hk-edge-1"])
        );
    }
}
