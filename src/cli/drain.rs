//! `longspan node drain`: asks for it, and watches until the relay is empty.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context, Format, output,
    wishes::{Ttl, Who},
};
use crate::{
    failure::{Failure, Outcome},
    http::{Api, escape},
};

/// How often the relay is looked at; it tells what it has to do once a second.
const EVERY: Duration = Duration::from_secs(1);

/// Takes a relay out of service: everything moves away, make before break.
#[derive(Debug, Args)]
pub struct Drain {
    /// The relay
    id: String,
    /// Why; it stands in the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    ttl: Ttl,
    /// When it should be empty
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = output::duration)]
    deadline: Duration,
    /// Only tells what would move
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Returns at once
    #[arg(long)]
    detach: bool,
}

pub async fn run(drain: Drain, context: &Context) -> Outcome {
    let api = context.api()?;
    let path = format!("/nodes/{}", escape(&drain.id));
    if drain.dry_run {
        let plan = api
            .post(&format!("{path}/drain"), &json!({ "dry_run": true }))
            .await?;
        return told(&plan, context.format);
    }
    let mut body = drain.who.body(drain.reason.as_deref());
    body["deadline_s"] = drain.deadline.as_secs_f64().into();
    drain.ttl.put(&mut body);
    let answer = api.post(&format!("{path}/drain"), &body).await?;
    if drain.detach {
        return super::wishes::done(context.format, &answer, "draining");
    }
    let interrupted = async {
        // A failure to listen is no interruption.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        emptied = watch(&api, &path, &drain, context.format) => emptied,
        () = interrupted => Err(Failure::failed(format!(
            "not watched any more; {id} goes on draining: longspan node show {id}, or take it back \
             with longspan node undrain {id}",
            id = drain.id
        ))),
    }
}

/// Until it is empty, or the deadline.
async fn watch(api: &Api, path: &str, drain: &Drain, format: Format) -> Outcome {
    let (began, id) = (Instant::now(), &drain.id);
    let mut shown = String::new();
    loop {
        let late = began.elapsed() >= drain.deadline;
        let left = match api.get(path).await {
            Ok(node) => {
                if node["override"]["kind"] != "drain" {
                    return Err(Failure::failed(format!("{id}: the drain was taken back")));
                }
                let state = node["state"].as_str().unwrap_or("?");
                match state {
                    "drained" if format == Format::Json => return output::json(&node),
                    "drained" => {
                        return output::print(&format!("{id}: drained, nothing is left on it\n"));
                    }
                    "down" => format!("{id} is down"),
                    _ => left(&node),
                }
            }
            // Another controller may be taking over: the drain stands in the store.
            Err(why) if why.kind == crate::failure::Kind::Failed => why.to_string(),
            Err(why) => return Err(why),
        };
        if late {
            return Err(Failure::failed(format!(
                "{id} is not empty after {} s: {left}; it goes on draining",
                drain.deadline.as_secs()
            )));
        }
        if left != shown {
            if format == Format::Table {
                let seconds = began.elapsed().as_secs();
                output::print(&format!("{seconds:>4} s  {left}\n"))?;
            }
            shown = left;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What is left on the relay, in words.
fn left(node: &Value) -> String {
    let status = &node["status"];
    if status.is_null() {
        return "it has not said yet what it has to do".into();
    }
    let count = |name: &str| status[name].as_u64().unwrap_or_default();
    let mut words = format!(
        "{} subscriptions, {} tracks, {} edges attached",
        count("subscriptions"),
        count("tracks"),
        node["edges"].as_u64().unwrap_or_default()
    );
    let groups = node["groups"].as_array().map_or(0, Vec::len);
    if groups > 0 {
        let leads = node["leads"].as_u64().unwrap_or_default();
        words.push_str(&format!(
            ", in {groups} placement groups, {leads} of them led"
        ));
    }
    words
}

fn told(plan: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(plan);
    }
    let list = |name: &str| plan[name].as_array().cloned().unwrap_or_default();
    let rows = |name: &str, what: &str| -> Vec<Value> {
        let moves = list(name).into_iter();
        moves
            .map(|m| {
                json!({
                    "what": what, "from": m["from"], "to": m["to"],
                    "now": output::arrows(&m["before"]), "then": output::arrows(&m["after"]),
                })
            })
            .collect()
    };
    let mut all = rows("paths", "moves");
    all.extend(rows("stay", "stays"));
    let columns = [
        ("PATH", "/what"),
        ("FROM", "/from"),
        ("TO", "/to"),
        ("NOW", "/now"),
        ("THEN", "/then"),
    ];
    output::list(format, &all, &columns)?;
    output::print(&format!(
        "\nedges that attach elsewhere: {}\nplacement groups in which another takes its place: {}\nnothing was changed\n",
        output::cell(plan.get("edges")),
        list("groups").len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_words() {
        let node = json!({"edges": 1, "status": {
            "subscriptions": 4, "tracks": 2, "edges": 2, "relays": 3,
        }});
        assert_eq!(left(&node), "4 subscriptions, 2 tracks, 1 edges attached");
        assert!(left(&json!({"status": null})).contains("not said"));
        let node = json!({"edges": 0, "leads": 1, "groups": [{}, {}], "status": {}});
        assert_eq!(
            left(&node),
            "0 subscriptions, 0 tracks, 0 edges attached, in 2 placement groups, 1 of them led"
        );
    }
}
