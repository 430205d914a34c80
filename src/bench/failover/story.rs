//! Where a long gap went: what the nodes say they did, on the clock of the fault.

use std::time::Instant;

use longspan_proto::ids::NodeId;
use serde_json::Value;

use super::field::Field;

/// What relays and the bench's edges did to a stream's tracks since `at`, in order of time.
pub async fn tell(field: &Field, stream: &str, at: Instant) -> Vec<String> {
    let mut steps = Vec::new();
    for site in &field.sites {
        let relay = site.debug().await.map(|debug| debug["state"].clone());
        let asked = at.elapsed().as_secs_f64() * 1_000.0;
        let edge = site.node().ok().map(|node| node.debug());
        for state in relay.into_iter().chain(edge) {
            steps.extend(failovers(&state, stream, asked));
        }
    }
    steps.sort_by(|a: &(f64, String), b| a.0.total_cmp(&b.0));
    steps.into_iter().map(|(_, step)| step).collect()
}

/// What a relay weighs when it looks for another way to an origin: the table's ways, and what the
/// links to its neighbours have come to cost since.
pub async fn weighed(field: &Field, relay: &NodeId, origin: &NodeId) -> String {
    let debug = match field.site_of(relay) {
        Some(site) => site.debug().await.unwrap_or_default(),
        None => Value::Null,
    };
    let state = &debug["state"];
    let peers = state["peers"].as_array().into_iter().flatten();
    let beyond: Vec<String> = peers
        .filter(|peer| peer["beyond_table_us"].as_u64() > Some(0) || peer["life"] != "up")
        .map(|peer| {
            format!(
                "{} {} +{} µs",
                peer["node"], peer["life"], peer["beyond_table_us"]
            )
        })
        .collect();
    let ways = &state["table"]["paths"][origin.as_str()];
    format!("{relay} knows {ways}; {}", beyond.join(", "))
}

/// Those of one node that began since the fault, `elapsed` ms ago; each with when.
fn failovers(state: &Value, stream: &str, elapsed: f64) -> Vec<(f64, String)> {
    let node = state["node"].as_str().unwrap_or_default();
    let all = state["failovers"].as_array().into_iter().flatten();
    let of_stream = all.filter_map(|failover| {
        let track = failover["track"].as_str()?;
        let since = elapsed - failover["ago_ms"].as_f64()?;
        if !track.contains(stream) || since < 0.0 {
            return None;
        }
        let after = |what: &str| {
            let ms = failover[what].as_f64().map(|after| since + after);
            ms.map_or("never".to_owned(), |ms| format!("{ms:.0}"))
        };
        let refused = failover["refused"].as_array().into_iter().flatten();
        let refused: String = refused
            .filter_map(|refused| Some(format!("; refused by {}", refused.as_str()?)))
            .collect();
        let asked = failover["asked"].as_array().into_iter().flatten();
        let way = |way: &Value| {
            let nodes = way.as_array().into_iter().flatten();
            let nodes: Vec<&str> = nodes.filter_map(Value::as_str).collect();
            nodes.join(" ")
        };
        let asked: Vec<String> = asked.map(way).collect();
        let name = track.rsplit('/').next().unwrap_or(track);
        let told = format!(
            "{node}: {name}: {} at {since:.0} ms, asked for {}; {} at {}, confirmed at {}, taken at {}{refused}",
            failover["trouble"].as_str().unwrap_or("the table's word"),
            asked.join(" or "),
            failover["to"].as_str().unwrap_or_default(),
            after("asked_after_ms"),
            after("confirmed_after_ms"),
            after("taken_after_ms"),
        );
        Some((since, told))
    });
    of_stream.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_told_on_the_clock_of_the_fault() {
        let failover = |track: &str, ago_ms: f64| {
            json!({
                "track": track, "trouble": "silence", "to": "b", "asked": [["c", "o"], ["b", "o"]], "refused": ["c: Loop"], "ago_ms": ago_ms,
                "asked_after_ms": 1.0, "confirmed_after_ms": null, "taken_after_ms": 50.0,
            })
        };
        let state = json!({ "node": "a", "failovers": [
            failover("default/room/s1/video", 900.0),
            failover("default/room/s1/audio", 1_100.0),
            failover("default/room/s2/video", 900.0),
        ]});
        let told = failovers(&state, "s1", 1_000.0);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            told[0].1,
            "a: video: silence at 100 ms, asked for c o or b o; b at 101, confirmed at never, taken at 150; refused by c: Loop"
        );
    }
}
