//! What a drain would do and what it has left to do, in words.

use serde_json::{Value, json};

use crate::{
    cli::{Format, output},
    failure::Outcome,
};

/// What is left at an edge.
pub fn left_at_edge(node: &Value) -> String {
    if node["status"].is_null() {
        return "it has not said yet what it has to do".into();
    }
    let count = |name: &str| node[name].as_u64().unwrap_or_default();
    let some = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let mut words = format!(
        "{}, {}, {}",
        some(count("members"), "member"),
        some(count("viewers"), "viewer"),
        some(count("publishers"), "publisher"),
    );
    if count("publishers") > 0 {
        words.push_str(" (who stay until they end by themselves)");
    }
    let subscriptions = node["status"]["subscriptions"].as_u64().unwrap_or_default();
    if subscriptions > 0 && count("members") + count("viewers") + count("publishers") == 0 {
        words.push_str(&format!(
            "; {} not given back yet (HLS viewers have nothing else)",
            some(subscriptions, "subscription")
        ));
    }
    words
}

/// What is left on a relay.
pub fn left_on_relay(node: &Value) -> String {
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

/// What draining would do.
pub fn plan(plan: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(plan);
    }
    match plan["takers"].is_array() {
        true => output::print(&edge_plan(plan)),
        false => relay_plan(plan, format),
    }
}

fn edge_plan(plan: &Value) -> String {
    let list = |name: &str| output::cell(plan.get(name));
    let mut words = format!(
        "members that are told to go: {}\nedges that take them, the nearest first: {}\n\
         viewers that may stay until the deadline: {}\n\
         publishers that stay until they end by themselves: {}\n",
        list("members"),
        list("takers"),
        list("viewers"),
        list("streams"),
    );
    if let Some(refused) = plan["refused"].as_str() {
        words.push_str(&format!("it would be refused: {refused}\n"));
    }
    words.push_str("nothing was changed\n");
    words
}

fn relay_plan(plan: &Value, format: Format) -> Outcome {
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
        assert_eq!(
            left_on_relay(&node),
            "4 subscriptions, 2 tracks, 1 edges attached"
        );
        assert!(left_on_relay(&json!({"status": null})).contains("not said"));
        let node = json!({"edges": 0, "leads": 1, "groups": [{}, {}], "status": {}});
        assert_eq!(
            left_on_relay(&node),
            "0 subscriptions, 0 tracks, 0 edges attached, in 2 placement groups, 1 of them led"
        );
    }

    #[test]
    fn what_is_left_at_an_edge_is_told_in_words() {
        let node = json!({"members": 12, "viewers": 1, "publishers": 0, "status": {}});
        assert_eq!(left_at_edge(&node), "12 members, 1 viewer, 0 publishers");
        let node = json!({"members": 1, "viewers": 0, "publishers": 2, "status": {
            "subscriptions": 3,
        }});
        assert_eq!(
            left_at_edge(&node),
            "1 member, 0 viewers, 2 publishers (who stay until they end by themselves)"
        );
        let node = json!({"members": 0, "status": { "subscriptions": 1 }});
        let words = left_at_edge(&node);
        assert!(
            words.contains("1 subscription not given back yet"),
            "{words}"
        );
        assert!(left_at_edge(&json!({"status": null})).contains("not said"));
    }

    #[test]
    fn what_draining_an_edge_would_do_is_told_in_words() {
        let plan = json!({
            "members": 12, "viewers": 1, "publishers": 1, "streams": ["default/class/teacher"],
            "takers": ["hk-edge-2", "sg-edge-1"], "refused": null,
        });
        let words = edge_plan(&plan);
        assert!(
            words.contains("nearest first: hk-edge-2, sg-edge-1\n"),
            "{words}"
        );
        assert!(
            words.contains("by themselves: default/class/teacher\n"),
            "{words}"
        );
        assert!(!words.contains("refused"), "{words}");
        let alone = json!({ "takers": [], "refused": "it is the only edge" });
        let words = edge_plan(&alone);
        assert!(
            words.contains("refused: it is the only edge\nnothing was changed"),
            "{words}"
        );
    }
}
