//! The API's own description (OpenAPI 3.1).

use axum::Json;
use serde_json::{Map, Value, json};

/// Path, summary, and parameters: (name, where, required, what).
type Verb = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str, bool, &'static str)],
);

/// All verbs under `/api/v1`.
pub const VERBS: &[Verb] = &[
    (
        "/nodes",
        "All nodes, with the tables they were pushed, took and refused.",
        &[],
    ),
    (
        "/links",
        "All links in each direction, as measured by their receiving ends.",
        &[],
    ),
    (
        "/rooms",
        "All rooms: streams, origins, generations, home relay, edges.",
        &[("tenant", "query", false, "Only this tenant's rooms.")],
    ),
    (
        "/rooms/{room}",
        "One room, with the way each stream takes to each edge.",
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
    let paths: Map<String, Value> = VERBS
        .iter()
        .map(|(path, summary, parameters)| {
            let content = match *path {
                "/events" => "text/event-stream",
                _ => "application/json",
            };
            let parameters: Vec<Value> = parameters
                .iter()
                .map(|(name, place, required, what)| {
                    json!({"name": name, "in": place, "required": required, "description": what,
                           "schema": {"type": "string"}})
                })
                .collect();
            let verb = json!({"get": {
                "summary": summary,
                "parameters": parameters,
                "responses": {"200": {"description": "OK", "content": {content: {}}}, "default": failure},
            }});
            (format!("/api/v1{path}"), verb)
        })
        .collect();
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
