//! What every changing verb says, and `longspan override …`, `longspan audit …`.

use std::{env, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Context, Format, Watch, output};
use crate::failure::Outcome;

/// Why and who; both stand in the audit.
#[derive(Debug, Args)]
pub struct Why {
    /// Why; it stands in the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    who: Who,
}

/// Who asks.
#[derive(Debug, Args)]
pub struct Who {
    /// Who asks; it stands in the audit. $USER if it is not told
    #[arg(long, value_name = "NAME", env = "LONGSPAN_OPERATOR")]
    owner: Option<String>,
}

impl Why {
    /// As the API takes it.
    pub fn body(&self) -> Value {
        self.who.body(Some(&self.reason))
    }
}

impl Who {
    pub fn body(&self, reason: Option<&str>) -> Value {
        let owner = self.owner.clone().or_else(|| env::var("USER").ok());
        json!({ "reason": reason, "owner": owner })
    }
}

/// For how long.
#[derive(Debug, Clone, Copy, Args)]
pub struct Ttl {
    /// It counts no more after this time, such as 30m or 8h; without it, until it is taken back
    #[arg(long, value_name = "TIME", value_parser = output::duration)]
    ttl: Option<Duration>,
}

impl Ttl {
    pub fn put(self, body: &mut Value) {
        if let Some(ttl) = self.ttl {
            body["ttl_s"] = ttl.as_secs_f64().into();
        }
    }
}

/// Says what a change did.
pub fn done(format: Format, answer: &Value, said: &str) -> Outcome {
    if format == Format::Json {
        return output::json(answer);
    }
    let target = output::cell(answer.get("target"));
    match answer["changed"] == false {
        true => output::print(&format!("{target}: {said} already\n")),
        false => output::print(&format!("{target}: {said}\n")),
    }
}

/// What operators ask for.
#[derive(Debug, Subcommand)]
pub enum Override {
    /// All cordons, drains, costs and pins in force
    Ls(Watch),
}

/// Who changed what.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest records first
    Ls {
        /// At most this many, up to 1000
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        watch: Watch,
    },
}

pub async fn overrides(Override::Ls(watch): Override, context: &Context) -> Outcome {
    let api = context.api()?;
    let columns = [
        ("ABOUT", "/target"),
        ("KIND", "/kind"),
        ("ASKED", "/asked"),
        ("UNTIL", "/until"),
        ("OWNER", "/owner"),
        ("REASON", "/reason"),
    ];
    let show = async || {
        let mut items = output::items(api.get("/overrides").await?);
        if context.format == Format::Table {
            for item in &mut items {
                item["asked"] = asked(item).into();
                item["until"] = item["until_ms"].as_u64().map(output::clock).into();
            }
        }
        output::list(context.format, &items, &columns)
    };
    watch.repeat(show).await
}

pub async fn audit(Audit::Ls { limit, watch }: Audit, context: &Context) -> Outcome {
    let api = context.api()?;
    let columns = [
        ("AT", "/at"),
        ("ACTOR", "/actor"),
        ("WHAT", "/t"),
        ("ABOUT", "/about"),
        ("REASON", "/what/reason"),
    ];
    let show = async || {
        let mut items = output::items(api.get(&format!("/audit?limit={limit}")).await?);
        if context.format == Format::Table {
            for item in &mut items {
                let kind = item["what"]["what"]["kind"].as_str();
                let t = item["what"]["t"].as_str().unwrap_or("?");
                let t = kind.map_or_else(|| t.to_owned(), |kind| format!("{t} {kind}"));
                item["about"] = about(&item["what"]).into();
                item["at"] = item["at_ms"].as_u64().map(output::clock).into();
                item["t"] = t.into();
            }
        }
        output::list(context.format, &items, &columns)
    };
    watch.repeat(show).await
}

/// The number or the path that is asked for.
fn asked(item: &Value) -> String {
    match item["kind"].as_str() {
        Some("cost_added") => {
            let us = item["added_us"].as_u64().unwrap_or_default();
            format!("+{} ms", us as f64 / 1_000.0)
        }
        Some("cost_factor") => format!("× {}", output::cell(item.get("factor"))),
        Some("pin") => output::arrows(&item["nodes"]),
        Some("drain") => item["deadline_ms"]
            .as_u64()
            .map_or_else(String::new, |at| format!("empty by {}", output::clock(at))),
        _ => String::new(),
    }
}

/// What a record is about.
fn about(what: &Value) -> String {
    let names = ["target", "room", "stream", "relay", "origin", "from", "to"];
    let named = names.iter().filter_map(|name| what[*name].as_str());
    named.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_told_with_its_unit() {
        let added = json!({"kind": "cost_added", "added_us": 20_500});
        assert_eq!(asked(&added), "+20.5 ms");
        assert_eq!(asked(&json!({"kind": "cost_factor", "factor": 2.0})), "× 2");
        assert_eq!(asked(&json!({"kind": "pin", "nodes": ["a", "b"]})), "a → b");
        assert_eq!(asked(&json!({"kind": "cordon"})), "");
        assert_eq!(
            about(&json!({"t": "override_set", "target": "node a"})),
            "node a"
        );
    }
}
