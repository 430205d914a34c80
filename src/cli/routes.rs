//! `longspan route …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Context, Format, Watch, output,
    wishes::{Ttl, Why, done},
};
use crate::{failure::Outcome, http::escape};

/// Routes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// One node's route table
    Table {
        /// Whose
        node: String,
        #[command(flatten)]
        watch: Watch,
    },
    /// Pins the path by which a node gets what comes from a relay
    Pin {
        /// Who gets it: an edge or a relay
        from: String,
        /// The relay it comes from
        to: String,
        /// The relays between, the one next to FROM first; without it, the direct link
        #[arg(long, value_name = "RELAY,…", value_delimiter = ',')]
        via: Vec<String>,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        ttl: Ttl,
    },
    /// Takes a pin back
    Unpin {
        /// Where it begins
        from: String,
        /// The relay it leads to
        to: String,
        #[command(flatten)]
        why: Why,
    },
    /// Why a room's streams take the way they take: candidates, their cost, why not the others
    Explain {
        /// The room
        room: String,
        /// Seen from this edge, or from the edge of this region
        #[arg(long, value_name = "EDGE|REGION")]
        from: String,
        /// Whose room it is
        #[arg(long, default_value = "default")]
        tenant: String,
        #[command(flatten)]
        watch: Watch,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    match verb {
        Verb::Table { node, watch } => {
            let path = format!("/routes/table?node={}", escape(&node));
            let show = async || table(&api.get(&path).await?, context.format);
            watch.repeat(show).await
        }
        Verb::Pin {
            from,
            to,
            via,
            why,
            ttl,
        } => {
            let mut body = why.body();
            ttl.put(&mut body);
            body["from"] = from.into();
            body["to"] = to.into();
            body["via"] = via.into();
            done(
                context.format,
                &api.post("/routes/pin", &body).await?,
                "pinned",
            )
        }
        Verb::Unpin { from, to, why } => {
            let mut body = why.body();
            body["from"] = from.into();
            body["to"] = to.into();
            let answer = api.post("/routes/unpin", &body).await?;
            done(context.format, &answer, "not pinned")
        }
        Verb::Explain {
            room,
            from,
            tenant,
            watch,
        } => {
            let (room, from, tenant) = (escape(&room), escape(&from), escape(&tenant));
            let path = format!("/routes/explain?room={room}&from={from}&tenant={tenant}");
            let show = async || explain(&api.get(&path).await?, context.format);
            watch.repeat(show).await
        }
    }
}

fn table(answer: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(answer);
    }
    output::print(&format!(
        "{}, table {}\n\n",
        output::cell(answer.get("node")),
        output::cell(answer.get("version"))
    ))?;
    let routes = answer["routes"].as_object().into_iter().flatten();
    let rows: Vec<Value> = routes
        .flat_map(|(to, ways)| {
            let ways = ways.as_array().into_iter().flatten();
            ways.map(move |way| {
                json!({ "to": to, "cost": way["cost_ms"], "way": output::arrows(&way["nodes"]) })
            })
        })
        .collect();
    output::list(
        format,
        &rows,
        &[("TO", "/to"), ("COST MS", "/cost"), ("WAY", "/way")],
    )
}

fn explain(answer: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(answer);
    }
    for stream in answer["streams"].as_array().into_iter().flatten() {
        let why = &stream["why"];
        output::print(&format!(
            "{}: from {} to {}\n\n",
            output::cell(stream.get("stream")),
            output::cell(why.get("from")),
            output::cell(why.get("origin"))
        ))?;
        let candidates = why["candidates"].as_array().into_iter().flatten();
        let rows: Vec<Value> = candidates.map(candidate).collect();
        output::list(
            format,
            &rows,
            &[
                ("RANK", "/rank"),
                ("COST MS", "/cost"),
                ("DELAY", "/delay"),
                ("JITTER", "/jitter"),
                ("REPAIR", "/repair"),
                ("HOPS", "/hops"),
                ("WAY", "/way"),
                ("NOT TAKEN", "/not_taken"),
            ],
        )?;
        for moved in why["moves"].as_array().into_iter().flatten() {
            output::print(&format!(
                "moved from {} to {}: {}\n",
                output::arrows(&moved["before"]),
                output::arrows(&moved["after"]),
                output::cell(moved.get("reason"))
            ))?;
        }
        output::print("\n")?;
    }
    Ok(())
}

/// A candidate with the sums of its links' cost terms; their jitters add in quadrature.
fn candidate(candidate: &Value) -> Value {
    let sum = |term: &str| -> f64 {
        let legs = candidate["legs"].as_array().into_iter().flatten();
        legs.filter_map(|leg| leg[term].as_f64()).sum()
    };
    json!({
        "rank": candidate["rank"],
        "cost": candidate["cost_ms"],
        "delay": sum("delay_ms"),
        "jitter": candidate["jitter_ms"],
        "repair": sum("repair_ms"),
        "hops": sum("hop_ms"),
        "way": output::arrows(&candidate["nodes"]),
        "not_taken": candidate["not_taken"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidates_terms_are_summed_over_its_links() {
        let row = candidate(&json!({
            "rank": "primary", "cost_ms": 30.5, "jitter_ms": 2.7, "nodes": ["a", "b"], "not_taken": null,
            "legs": [{"delay_ms": 10.0, "jitter_ms": 1.0}, {"delay_ms": 15.0, "jitter_ms": 2.5}],
        }));
        assert_eq!(row["delay"], 25.0);
        assert_eq!(row["jitter"], 2.7);
        assert_eq!(row["repair"], 0.0);
        assert_eq!(row["way"], "a → b");
    }
}
