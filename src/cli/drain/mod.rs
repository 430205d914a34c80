//! `longspan node drain`: asks for it, and watches until the relay or edge is empty.

mod words;

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{
    Context, Format, output,
    wishes::{Ttl, Who},
};
use crate::{
    failure::{Failure, Outcome},
    http::{Api, escape},
};

/// How often the node is looked at; it tells what it has to do once a second.
const EVERY: Duration = Duration::from_secs(1);

/// An edge closes at the deadline who did not go; that they are gone is known so much later at most.
const CLOSING: Duration = Duration::from_secs(10);

/// Takes a relay or an edge out of service.
///
/// Everything moves away from a relay, make before break. An edge takes nobody new, tells its members
/// where else to go, and at the deadline closes members and viewers who are still there; publishers
/// stay until they end by themselves.
#[derive(Debug, Args)]
pub struct Drain {
    /// The relay or edge
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
    /// Also an edge whose members no other edge takes
    #[arg(long)]
    force: bool,
}

pub async fn run(drain: Drain, context: &Context) -> Outcome {
    let api = context.api()?;
    let path = format!("/nodes/{}", escape(&drain.id));
    if drain.dry_run {
        let plan = api
            .post(&format!("{path}/drain"), &json!({ "dry_run": true }))
            .await?;
        return words::plan(&plan, context.format);
    }
    let mut body = drain.who.body(drain.reason.as_deref());
    body["deadline_s"] = drain.deadline.as_secs_f64().into();
    drain.ttl.put(&mut body);
    if drain.force {
        body["force"] = true.into();
    }
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
    let mut time = drain.deadline;
    loop {
        let late = began.elapsed() >= time;
        let left = match api.get(path).await {
            Ok(node) => {
                if node["override"]["kind"] != "drain" {
                    return Err(Failure::failed(format!("{id}: the drain was taken back")));
                }
                let is_edge = node["role"] == "edge";
                if is_edge {
                    time = drain.deadline + CLOSING;
                }
                match node["state"].as_str().unwrap_or("?") {
                    "drained" if format == Format::Json => return output::json(&node),
                    "drained" if is_edge => return output::print(&format!("{id} is empty\n")),
                    "drained" => {
                        return output::print(&format!("{id}: drained, nothing is left on it\n"));
                    }
                    "down" => format!("{id} is down"),
                    _ if is_edge => words::left_at_edge(&node),
                    _ => words::left_on_relay(&node),
                }
            }
            // Another controller may be taking over: the drain stands in the store.
            Err(why) if why.kind == crate::failure::Kind::Failed => why.to_string(),
            Err(why) => return Err(why),
        };
        if late {
            return Err(Failure::failed(format!(
                "{id} is not empty after {} s: {left}; it goes on draining",
                time.as_secs()
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
