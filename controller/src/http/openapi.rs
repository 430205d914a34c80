//! The API's own description (OpenAPI 3.1).

use axum::Json;
use serde_json::{Map, Value, json};

/// (name, where, required, what).
type Parameters = &'static [(&'static str, &'static str, bool, &'static str)];

/// Path, summary, and parameters.
type Verb = (&'static str, &'static str, Parameters);

/// Path, summary, parameters of the path, and fields of the body: (name, type, what).
type Change = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str, &'static str)],
);

/// All changing verbs under `/api/v1`. Every body has `reason` (required), `owner` and, where
/// something is asked for, `ttl_s`.
pub const CHANGES: &[Change] = &[
    (
        "/nodes/{id}/cordon",
        "No path crosses the relay any more; nobody is sent to the edge any more.",
        &[("id", "The relay or edge.")],
        &[],
    ),
    (
        "/nodes/{id}/uncordon",
        "Takes a cordon back.",
        &[("id", "The relay or edge.")],
        &[],
    ),
    (
        "/nodes/{id}/drain",
        "Everything moves away from the relay or edge; its `state` is `drained` when nothing is left.",
        &[("id", "The relay or edge.")],
        &[
            (
                "deadline_s",
                "number",
                "When it should be empty; 600 if not given.",
            ),
            ("dry_run", "boolean", "Only tells what would move."),
            (
                "force",
                "boolean",
                "Also an edge whose members no other edge takes.",
            ),
        ],
    ),
    (
        "/nodes/{id}/undrain",
        "Takes a drain back.",
        &[("id", "The relay or edge.")],
        &[],
    ),
    (
        "/links/{from}/{to}/cordon",
        "No path takes the link in this direction any more.",
        &[("from", "The sending end."), ("to", "The receiving end.")],
        &[("net", "string", "Over which net; all if not given.")],
    ),
    (
        "/links/{from}/{to}/uncordon",
        "Takes a cordon back.",
        &[("from", "The sending end."), ("to", "The receiving end.")],
        &[("net", "string", "As it was cordoned.")],
    ),
    (
        "/links/{from}/{to}/cost",
        "Changes what the link costs beside what is measured; neither number: takes it back.",
        &[("from", "The sending end."), ("to", "The receiving end.")],
        &[
            ("net", "string", "Over which net; all if not given."),
            ("added_ms", "number", "Added to the cost, 0 … 10000 ms."),
            ("factor", "number", "Multiplies the cost, 0.1 … 100."),
        ],
    ),
    (
        "/rooms/{room}/move",
        "Another placement group is to keep the room's log; members notice nothing. The answer names the \
         groups and the move; the room shows how far it is (`move`) and how it ended (`last_move`).",
        &[("room", "The room.")],
        &[
            (
                "region",
                "string",
                "A group of this region; without it and `group` the one with the fewest rooms.",
            ),
            ("group", "string", "This group, `era.counter`."),
        ],
    ),
    (
        "/rooms/{room}/policy",
        "How much of the room's order is kept for whoever comes back. A bound that is not given stays as it was \
         wished before; more than the room's group allows is cut to that. The answer tells what is wished, what \
         holds, and the most there is.",
        &[("room", "The room; it need not be open.")],
        &[
            ("messages", "integer", "At most so many messages."),
            ("bytes", "integer", "What they cost together at most."),
            (
                "age_s",
                "number",
                "How old the oldest may be, by the log's time.",
            ),
            (
                "reset",
                "boolean",
                "Takes all bounds back: the group's own hold.",
            ),
        ],
    ),
    (
        "/routes/pin",
        "Pins the path from a node to a relay.",
        &[],
        &[
            ("from", "string", "Where it begins."),
            ("to", "string", "The relay it leads to."),
            ("via", "array", "The relays between, in order."),
        ],
    ),
    (
        "/routes/unpin",
        "Takes a pin back.",
        &[],
        &[
            ("from", "string", "Where it begins."),
            ("to", "string", "The relay it leads to."),
        ],
    ),
];

/// All reading verbs under `/api/v1`.
pub const VERBS: &[Verb] = &[
    (
        "/nodes",
        "All nodes, with the tables they were pushed, took and refused.",
        &[],
    ),
    (
        "/nodes/{id}",
        "One node.",
        &[("id", "path", true, "The node.")],
    ),
    (
        "/overrides",
        "What operators ask for now: cordons, drains, costs, pins.",
        &[],
    ),
    (
        "/links",
        "All links in each direction, as measured by their receiving ends.",
        &[],
    ),
    (
        "/rooms",
        "All rooms: streams, origins, generations, placement group, edges.",
        &[("tenant", "query", false, "Only this tenant's rooms.")],
    ),
    (
        "/rooms/{room}",
        "One room, with the way each stream takes to each edge, and who keeps its log.",
        &[
            ("room", "path", true, "The room."),
            (
                "tenant",
                "query",
                false,
                "Whose room; `default` if not given.",
            ),
        ],
    ),
    (
        "/rooms/{room}/trace",
        "The ways of the room's tracks to its edges: by the tables, and as the nodes say.",
        &[
            ("room", "path", true, "The room."),
            (
                "tenant",
                "query",
                false,
                "Whose room; `default` if not given.",
            ),
        ],
    ),
    (
        "/rooms/{room}/policy",
        "How much of the room's order operators want kept, what holds, and the most there is.",
        &[
            ("room", "path", true, "The room."),
            (
                "tenant",
                "query",
                false,
                "Whose room; `default` if not given.",
            ),
        ],
    ),
    (
        "/policies",
        "The same of all rooms for which operators wish something.",
        &[("tenant", "query", false, "Only this tenant's rooms.")],
    ),
    (
        "/groups",
        "All placement groups: their members, who leads, whether any is missing, and why nothing is \
         done about it.",
        &[],
    ),
    (
        "/routes/table",
        "One node's table: for each relay the best path and a backup.",
        &[("node", "query", true, "The node.")],
    ),
    (
        "/routes/explain",
        "Why the streams of a room take the way they take: candidates, cost terms, recent moves.",
        &[
            ("room", "query", true, "The room."),
            (
                "from",
                "query",
                true,
                "A node, or a region that has an edge.",
            ),
            (
                "tenant",
                "query",
                false,
                "Whose room; `default` if not given.",
            ),
        ],
    ),
    (
        "/topology",
        "Nodes, links and the best paths in one answer.",
        &[],
    ),
    (
        "/audit",
        "Who changed what, the newest first.",
        &[(
            "limit",
            "query",
            false,
            "At most this many; 100 if not given, 1000 at most.",
        )],
    ),
    (
        "/events",
        "What happens, as server-sent events; each is a JSON object with its kind in `t`.",
        &[],
    ),
];

/// The document.
pub async fn document() -> Json<Value> {
    let failure = json!({
        "description": "An error: `error` is a slug, `message` says what and why.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}},
    });
    let reads = VERBS.iter().map(|(path, summary, parameters)| {
        let content = match *path {
            "/events" => "text/event-stream",
            _ => "application/json",
        };
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, place, required, what)| parameter(name, place, *required, what))
            .collect();
        let verb = json!({"get": {
            "summary": summary,
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {content: {}}}, "default": failure},
        }});
        (format!("/api/v1{path}"), verb)
    });
    let changes = CHANGES.iter().map(|(path, summary, parameters, fields)| {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, what)| parameter(name, "path", true, what))
            .collect();
        let ttl = (
            "ttl_s",
            "number",
            "After this it counts no more; never if not given.",
        );
        let asks = !path.ends_with("/uncordon")
            && !path.ends_with("/undrain")
            && !path.ends_with("/unpin")
            && !path.ends_with("/move")
            && !path.ends_with("/policy");
        let common = [
            ("reason", "string", "Why; stands in the audit."),
            ("owner", "string", "Who asks; stands in the audit."),
        ];
        let fields = common.iter().chain(asks.then_some(&ttl)).chain(*fields);
        let properties: Map<String, Value> = fields
            .map(|(name, kind, what)| {
                (
                    (*name).to_owned(),
                    json!({"type": kind, "description": what}),
                )
            })
            .collect();
        let schema = json!({"type": "object", "required": ["reason"], "properties": properties});
        let verb = json!({"post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
            "responses": {
                "200": {"description": "Done; `changed` is false if it was so already."},
                "404": failure, "409": failure, "default": failure,
            },
        }});
        (format!("/api/v1{path}"), verb)
    });
    let mut paths: Map<String, Value> = Map::new();
    for (path, verb) in reads.chain(changes) {
        // Some paths are read and changed.
        let known = paths.entry(path).or_insert_with(|| json!({}));
        if let (Some(known), Value::Object(verb)) = (known.as_object_mut(), verb) {
            known.extend(verb);
        }
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {"title": "Longspan controller", "version": env!("CARGO_PKG_VERSION")},
        "security": [{"admin": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Failure": {
                "type": "object",
                "required": ["error", "message"],
                "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
            }},
        },
    }))
}

fn parameter(name: &str, place: &str, required: bool, what: &str) -> Value {
    json!({"name": name, "in": place, "required": required, "description": what,
           "schema": {"type": "string"}})
}
