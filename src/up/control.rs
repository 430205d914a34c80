//! The listener for `longspan lab`: what only the one who started the nodes can do to them.
//! On loopback, with the operator's token.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use longspan_lab::world::{Change, ChangeError, World};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::nodes::Nodes;
use crate::failure::{Failure, Kind, Outcome, hint};

struct Shared {
    nodes: Nodes,
    world: Mutex<World>,
    file: PathBuf,
    token: String,
}

/// Answers until `shutdown`.
pub async fn serve(
    address: SocketAddr,
    token: String,
    nodes: Nodes,
    world_file: PathBuf,
    shutdown: CancellationToken,
) -> Outcome {
    let world = World::read(&world_file).map_err(Failure::failed)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {address} (longspan lab): {error}"
        ))
    })?;
    let shared = Arc::new(Shared {
        nodes,
        world: Mutex::new(world),
        file: world_file,
        token,
    });
    let router = Router::new()
        .route("/nodes", get(nodes_list))
        .route("/nodes/{id}/kill", post(kill))
        .route("/nodes/{id}/restart", post(restart))
        .route("/links", get(links).post(change))
        .layer(middleware::from_fn_with_state(shared.clone(), authorize))
        .with_state(shared);
    tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        if let Err(error) = served {
            eprintln!("longspan up: the listener for longspan lab ended: {error}");
        }
    });
    Ok(())
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let same = given.is_some_and(|given| {
        aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), shared.token.as_bytes())
            .is_ok()
    });
    if same {
        next.run(request).await
    } else {
        let body =
            json!({ "error": "unauthorized", "message": "the admin token is missing or wrong" });
        (StatusCode::UNAUTHORIZED, Json(body)).into_response()
    }
}

/// A failure as HTTP.
struct Refusal(Failure);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, slug) = match self.0.kind {
            Kind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
            Kind::Usage => (StatusCode::BAD_REQUEST, "bad_request"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Kind::Refused => (StatusCode::CONFLICT, "refused"),
        };
        let body = json!({ "error": slug, "message": self.0.to_string() });
        (status, Json(body)).into_response()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal(failure)
    }
}

type Answer = Result<Json<Value>, Refusal>;

async fn nodes_list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let nodes = shared.nodes.list().into_iter().map(|(spec, log, state)| {
        let mut node = serde_json::to_value(&state).unwrap_or_default();
        node["id"] = spec.id.to_string().into();
        node["role"] = spec.role.to_string().into();
        node["region"] = spec.region.to_string().into();
        node["log"] = log.to_string_lossy().into();
        node
    });
    Json(nodes.collect())
}

async fn kill(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    shared.nodes.kill(&id).await?;
    Ok(Json(json!({ "node": id, "done": "killed" })))
}

async fn restart(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    // In a task of its own: whoever asked may leave, the node shall still come back.
    let (nodes, node) = (shared.nodes.clone(), id.clone());
    let restarted = tokio::spawn(async move { nodes.restart(&node).await });
    restarted
        .await
        .map_err(|error| Failure::failed(error.to_string()))??;
    Ok(Json(json!({ "node": id, "done": "restarted" })))
}

async fn links(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
    let ms = |delay: std::time::Duration| delay.as_secs_f64() * 1_000.0;
    let ways = world.ways.iter().map(|way| {
        json!({ "from": way.from, "to": way.to, "net": way.net, "one_way_ms": ms(way.one_way), "profile": way.profile })
    });
    let ways: Value = ways.collect();
    Json(json!({ "links": ways, "faults": world.faults }))
}

async fn change(State(shared): State<Arc<Shared>>, Json(change): Json<Change>) -> Answer {
    let mut current = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = current.clone();
    world
        .apply(&change)
        .map_err(|error| refused(&world, &error))?;
    world.write(&shared.file).map_err(Failure::failed)?;
    *current = world;
    let Change {
        from,
        to,
        net,
        one_way,
        fault,
    } = change;
    Ok(Json(json!({
        "from": from,
        "to": to,
        "net": net,
        "one_way": one_way,
        "restored": fault.is_none(),
    })))
}

/// A refused change as a failure, with the nearest name where one is unknown.
fn refused(world: &World, error: &ChangeError) -> Failure {
    match error {
        ChangeError::Unknown(name) => {
            let names = world.names();
            let hint = hint(name, names.iter().map(String::as_str));
            Failure::not_found(format!("{error}{hint}"))
        }
        ChangeError::Nothing { .. } => Failure::not_found(error),
        ChangeError::Value(_) => Failure::usage(error),
        ChangeError::Full => Failure::refused(error),
    }
}
