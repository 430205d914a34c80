//! `longspan room move`: asks for it, and watches until the room is there.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::{Format, output, rooms::Name, wishes::Why};
use crate::{
    failure::{Failure, Kind, Outcome},
    http::Api,
};

/// How often the room is looked at; relays tell of moves once a second.
const EVERY: Duration = Duration::from_millis(250);

/// Lets another placement group keep a room's log; its members go on talking.
#[derive(Debug, Args)]
pub struct Move {
    #[command(flatten)]
    name: Name,
    /// A group of this region; without it and --group the one with the fewest rooms
    #[arg(long, conflicts_with = "group")]
    region: Option<String>,
    /// This group, as `room groups` names it
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    why: Why,
    /// How long to watch
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = output::duration)]
    deadline: Duration,
    /// Returns at once
    #[arg(long)]
    detach: bool,
}

pub async fn run(wish: Move, api: &Api, format: Format) -> Outcome {
    let mut body = wish.why.body();
    if let Some(region) = &wish.region {
        body["region"] = region.as_str().into();
    }
    if let Some(group) = &wish.group {
        body["group"] = group.as_str().into();
    }
    let begun = api.post(&wish.name.path("/move"), &body).await?;
    if wish.detach {
        if format == Format::Json {
            return output::json(&begun);
        }
        let (from, to) = (&begun["from"], &begun["to"]);
        let told = format!("{}: moves from group {from} to {to}\n", wish.name);
        return output::print(&told.replace('"', ""));
    }
    let interrupted = async {
        // A failure to listen is no interruption.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        moved = watch(&wish, &begun, api, format) => moved,
        () = interrupted => Err(Failure::failed(format!(
            "not watched any more; {name} goes on moving: longspan room show {name}",
            name = wish.name
        ))),
    }
}

/// Until it is there or stays, or the deadline.
async fn watch(wish: &Move, begun: &Value, api: &Api, format: Format) -> Outcome {
    let (began, name) = (Instant::now(), &wish.name);
    let mut shown = String::new();
    loop {
        let late = began.elapsed() >= wish.deadline;
        let now = match api.get(&name.path("")).await {
            Ok(room) => match verdict(&room, &begun["word"]) {
                Verdict::Moved if format == Format::Json => return output::json(&room),
                Verdict::Moved => {
                    let (from, to) = (text(&begun["from"]), text(&begun["to"]));
                    let told = format!("{name}: moved from group {from} to {to}\n");
                    return output::print(&told);
                }
                Verdict::Stayed(why) => {
                    let group = text(&room["group"]);
                    return Err(Failure::failed(format!(
                        "{name} stays in group {group}: {why}; nothing is lost, ask again"
                    )));
                }
                Verdict::UnderWay(how) => how,
            },
            // Another controller may be taking over: the move stands in the store.
            Err(why) if why.kind == Kind::Failed => why.to_string(),
            Err(why) => return Err(why),
        };
        if late {
            return Err(Failure::failed(format!(
                "{name} is not there after {} s: {now}; it goes on moving",
                wish.deadline.as_secs()
            )));
        }
        if now != shown {
            if format == Format::Table {
                let seconds = began.elapsed().as_secs_f64();
                output::print(&format!("{seconds:>5.1} s  {now}\n"))?;
            }
            shown = now;
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Moved,
    Stayed(String),
    UnderWay(String),
}

/// What became of the move of this name.
fn verdict(room: &Value, word: &Value) -> Verdict {
    if room["move"]["word"] == *word {
        return Verdict::UnderWay(under_way(room).unwrap_or_default());
    }
    let last = &room["last_move"];
    match last["word"] == *word {
        true if last["failed"].is_null() => Verdict::Moved,
        true => Verdict::Stayed(text(&last["failed"]).to_owned()),
        false => Verdict::UnderWay("the controller does not know of the move yet".into()),
    }
}

/// How far a room's move is, in words; none: it stays where it is.
pub fn under_way(room: &Value) -> Option<String> {
    let moving = room.get("move")?;
    let to = text(&moving["to"]);
    Some(match moving["stage"].as_str() {
        Some("closed") => format!("to group {to}: handed over, publishers are held"),
        _ => format!("to group {to}: its leader is called"),
    })
}

/// How a room's last move ended, in words.
pub fn ended(room: &Value) -> Option<String> {
    let last = room.get("last_move")?;
    let (from, to) = (text(&last["from"]), text(&last["to"]));
    let at = last["ended_ms"].as_u64().map(output::clock);
    let at = at.unwrap_or_default();
    Some(match last["failed"].as_str() {
        None => format!("from group {from} to {to}, {at}"),
        Some(why) => format!("from group {from} to {to} failed, {at}: {why}"),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_verdict_is_about_the_move_that_was_asked_for() {
        let word = json!("1.40");
        let moving = json!({"move": {"word": "1.40", "to": "1.8", "stage": "closed"}});
        assert_eq!(
            verdict(&moving, &word),
            Verdict::UnderWay("to group 1.8: handed over, publishers are held".into())
        );
        let last = |word: &str, failed: Value| json!({"last_move": {"word": word, "from": "1.7", "to": "1.8", "ended_ms": 0, "failed": failed}});
        assert_eq!(verdict(&last("1.40", Value::Null), &word), Verdict::Moved);
        assert_eq!(
            verdict(&last("1.40", json!("no answer")), &word),
            Verdict::Stayed("no answer".into())
        );
        assert!(matches!(
            verdict(&last("1.39", Value::Null), &word),
            Verdict::UnderWay(_)
        ));
        assert!(under_way(&json!({})).is_none() && ended(&json!({})).is_none());
        let told = ended(&last("1.40", json!("no answer"))).unwrap();
        assert!(told.starts_with("from group 1.7 to 1.8 failed"), "{told}");
    }
}
