//! `longspan route …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Context, Format, output};
use crate::{failure::Outcome, http::escape};

/// Routes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// One node's route table
    Table {
        /// Whose
        node: String,
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
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    match verb {
        Verb::Table { node } => {
            let path = format!("/routes/table?node={}", escape(&node));
            table(&api.get(&path).await?, context.format)
        }
        Verb::Explain { room, from, tenant } => {
            let (room, from, tenant) = (escape(&room), escape(&from), escape(&tenant));
            let path = format!("/routes/explain?room={room}&from={from}&tenant={tenant}");
            explain(&api.get(&path).await?, context.format)
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
                json!({ "to": to, "cost": way["cost_ms"], "way": arrows(&way["nodes"]) })
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
                arrows(&moved["before"]),
                arrows(&moved["after"]),
                output::cell(moved.get("reason"))
            ))?;
        }
        output::print("\n")?;
    }
    Ok(())
}

/// A candidate with the sums of its links' cost terms.
fn candidate(candidate: &Value) -> Value {
    let sum = |term: &str| -> f64 {
        let legs = candidate["legs"].as_array().into_iter().flatten();
        legs.filter_map(|leg| leg[term].as_f64()).sum()
    };
    json!({
        "rank": candidate["rank"],
        "cost": candidate["cost_ms"],
        "delay": sum("delay_ms"),
        "jitter": sum("jitter_ms"),
        "repair": sum("repair_ms"),
        "hops": sum("hop_ms"),
        "way": arrows(&candidate["nodes"]),
        "not_taken": candidate["not_taken"],
    })
}

fn arrows(nodes: &Value) -> String {
    let nodes: Vec<&str> = nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if nodes.is_empty() {
        "nothing".to_owned()
    } else {
        nodes.join(" → ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidates_terms_are_summed_over_its_links() {
        let row = candidate(&json!({
            "rank": "primary", "cost_ms": 30.5, "nodes": ["a", "b"], "not_taken": null,
            "legs": [{"delay_ms": 10.0, "jitter_ms": 1.0}, {"delay_ms": 15.0, "jitter_ms": 2.5}],
        }));
        assert_eq!(row["delay"], 25.0);
        assert_eq!(row["jitter"], 3.5);
        assert_eq!(row["repair"], 0.0);
        assert_eq!(row["way"], "a → b");
    }
}
