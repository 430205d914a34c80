//! The listener for `longspan lab`: what only the one who started the nodes can do to them. `up`
//! has it on loopback with the operator's token, a lab on a Unix socket that only its user reaches.

use std::{
    net::SocketAddr,
    path::Path as FilePath,
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
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind, Outcome, hint};

/// What to do to a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT.
    Thaw,
    /// Ends it if it runs, and starts it again.
    Restart,
}

/// An emulated world with processes in it: that of `up`, or a lab's.
pub trait Emulated: Send + Sync + 'static {
    /// Every process, as `lab node ls` tells it.
    fn nodes(&self) -> Vec<Value>;
    /// Does it, and returns when it is done.
    fn act(&self, id: &str, act: Act) -> impl Future<Output = Outcome> + Send;
    /// The world now.
    fn world(&self) -> World;
    /// Changes the world.
    fn change(&self, change: &Change) -> Outcome;
    /// What each direction has carried, where that is known.
    fn carried(&self) -> Option<Value> {
        None
    }
}

/// A world that a file tells to other processes.
#[derive(Debug)]
pub struct WorldFile {
    path: std::path::PathBuf,
    world: Mutex<World>,
}

impl WorldFile {
    /// Reads it once; from then on only this process changes it.
    pub fn open(path: &FilePath) -> Outcome<WorldFile> {
        Ok(WorldFile {
            path: path.to_owned(),
            world: Mutex::new(World::read(path).map_err(Failure::failed)?),
        })
    }

    /// As it is now.
    pub fn world(&self) -> World {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.clone()
    }

    /// Changes it and writes the file, or neither.
    pub fn change(&self, change: &Change) -> Outcome {
        let mut current = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = current.clone();
        let applied = world.apply(change);
        applied.map_err(|error| refused(&current, &error))?;
        world.write(&self.path).map_err(Failure::failed)?;
        *current = world;
        Ok(())
    }
}

/// Answers on a TCP address to whoever has the token, until `shutdown`.
pub async fn serve(
    address: SocketAddr,
    token: String,
    emulated: Arc<impl Emulated>,
    shutdown: CancellationToken,
) -> Outcome {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {address} (longspan lab): {error}"
        ))
    })?;
    let token: Arc<str> = token.into();
    let router = router(emulated).layer(middleware::from_fn_with_state(token, authorize));
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

/// Answers on a Unix socket for as long as the process lives.
pub fn serve_unix(path: &FilePath, router: Router) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot listen on {}: {error}", path.display()))
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("longspan lab: the control socket ended: {error}");
        }
    });
    Ok(())
}

/// The verbs that every emulated world has.
pub fn router<E: Emulated>(emulated: Arc<E>) -> Router {
    Router::new()
        .route("/nodes", get(nodes::<E>))
        .route("/nodes/{id}/{act}", post(act::<E>))
        .route("/links", get(links::<E>).post(change::<E>))
        .with_state(emulated)
}

async fn authorize(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let same = given.is_some_and(|given| {
        aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), token.as_bytes())
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
pub struct Refusal(Failure);

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

/// What a verb answers.
pub type Answer = Result<Json<Value>, Refusal>;

async fn nodes<E: Emulated>(State(emulated): State<Arc<E>>) -> Json<Value> {
    Json(emulated.nodes().into())
}

async fn act<E: Emulated>(
    State(emulated): State<Arc<E>>,
    Path((id, name)): Path<(String, String)>,
) -> Answer {
    let (act, done) = match name.as_str() {
        "kill" => (Act::Kill, "killed"),
        "stop" => (Act::Freeze, "stopped"),
        "continue" => (Act::Thaw, "continued"),
        "restart" => (Act::Restart, "restarted"),
        _ => return Err(Failure::not_found(format!("no verb {name} for nodes")).into()),
    };
    // In a task of its own: whoever asked may leave, the node shall still come back.
    let node = id.clone();
    let acted = tokio::spawn(async move { emulated.act(&node, act).await });
    acted
        .await
        .map_err(|error| Failure::failed(error.to_string()))??;
    Ok(Json(json!({ "node": id, "done": done })))
}

async fn links<E: Emulated>(State(emulated): State<Arc<E>>) -> Json<Value> {
    let world = emulated.world();
    let ms = |delay: std::time::Duration| delay.as_secs_f64() * 1_000.0;
    let ways = world.ways.iter().map(|way| {
        json!({ "from": way.from, "to": way.to, "net": way.net, "one_way_ms": ms(way.one_way), "profile": way.profile })
    });
    let ways: Value = ways.collect();
    let mut answer = json!({ "links": ways, "faults": world.faults });
    if let Some(carried) = emulated.carried() {
        answer["carried"] = carried;
    }
    Json(answer)
}

async fn change<E: Emulated>(State(emulated): State<Arc<E>>, Json(change): Json<Change>) -> Answer {
    emulated.change(&change)?;
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
pub fn refused(world: &World, error: &ChangeError) -> Failure {
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

#[cfg(test)]
mod tests {
    use longspan_lab::{
        matrix::{Matrix, Split},
        wan::Profile,
        world::{Effect, Everywhere},
    };

    use super::*;

    #[test]
    fn a_change_is_written_or_refused_by_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("world.json");
        let regions = ["cn-shanghai", "hk"].map(|name| name.parse().expect("a region"));
        let everywhere = Everywhere::Same(Profile::clean());
        let matrix = Matrix::bundled();
        let world = World::of_regions(&matrix, Split::Half, &everywhere, &regions, 1);
        world.write(&path).expect("written");
        let file = WorldFile::open(&path).expect("a world");
        file.change(&Change::cut("cn-shanghai", "hk")).expect("cut");
        let written = World::read(&path).expect("a world");
        assert_eq!(written.faults.len(), 2);
        assert_eq!(file.world(), written);

        let told = file.change(&Change::cut("cn-shangai", "hk"));
        let told = told.expect_err("refused");
        assert_eq!(told.kind, Kind::NotFound);
        let text = told.to_string();
        assert!(text.contains("did you mean cn-shanghai"), "{text}");
        let wrong = Effect {
            rate_bits: Some(0),
            ..Effect::default()
        };
        let told = file.change(&Change::lay("hk", "cn-shanghai", wrong));
        assert_eq!(told.expect_err("refused").kind, Kind::Usage);
        let restore = Change::restore("hk", "cn-shanghai");
        file.change(&restore).expect("restored");
        let told = file.change(&restore).expect_err("nothing is there");
        assert_eq!(told.kind, Kind::NotFound);
    }
}
