//! What operators reach: JSON under `/api/v1/`, and the dashboard at `/`.
//!
//! Everything under `/api/v1/` but its own description needs the admin token. Nothing changes over
//! GET.

mod api;
mod auth;
mod changes;
mod events;
mod openapi;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{Method, StatusCode, Uri, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::driver::{Handle, Standing};

/// The page, as it is built from `web/src`.
const PAGE: &str = include_str!("../../../web/dist/index.html");

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    handle: Handle,
    token: Arc<str>,
    shutdown: CancellationToken,
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    #[serde(skip)]
    status: StatusCode,
    error: &'static str,
    message: String,
    /// Whom to ask instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
}

impl Failure {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            status,
            error,
            message: message.into(),
            leader: None,
        }
    }

    fn bad(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(&self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl App {
    /// In front of this loop.
    pub fn new(handle: Handle, token: &str, shutdown: CancellationToken) -> App {
        App {
            handle,
            token: token.into(),
            shutdown,
        }
    }

    /// Why the state cannot be looked at.
    fn not_leading(&self) -> Failure {
        let unavailable =
            |message| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        match &*self.handle.standing.borrow() {
            Standing::Leads => unavailable("this controller is stopping".to_owned()),
            Standing::Follows(leader) => Failure {
                leader: leader.http.clone(),
                ..unavailable(format!("controller {} leads; ask it", leader.id))
            },
            Standing::Unknown(why) => unavailable(format!("nobody leads: {why}")),
        }
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/nodes", get(api::nodes))
        .route("/nodes/{id}", get(api::node))
        .route("/nodes/{id}/{verb}", post(changes::node))
        .route("/links", get(api::links))
        .route("/links/{from}/{to}/{verb}", post(changes::link))
        .route("/rooms", get(api::rooms))
        .route("/rooms/{room}", get(api::room))
        .route("/rooms/{room}/trace", get(api::trace))
        .route("/rooms/{room}/move", post(changes::move_room))
        .route(
            "/rooms/{room}/policy",
            get(api::policy).post(changes::keep_room),
        )
        .route("/policies", get(api::policies))
        .route("/groups", get(api::groups))
        .route("/routes/table", get(api::table))
        .route("/routes/explain", get(api::explain))
        .route("/routes/{verb}", post(changes::pin))
        .route("/overrides", get(api::overrides))
        .route("/topology", get(api::topology))
        .route("/audit", get(api::audit))
        .route("/events", get(events::events))
        .layer(DefaultBodyLimit::max(changes::MAX_BODY))
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::guard));
    let api = Router::new()
        .route("/openapi.json", get(openapi::document))
        .merge(guarded);
    Router::new()
        .route("/", get(page))
        .route("/index.html", get(page))
        .nest("/api/v1", api)
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// Serves until `shutdown`.
pub async fn serve(app: App, listener: TcpListener) -> std::io::Result<()> {
    let shutdown = app.shutdown.clone();
    axum::serve(listener, router(app))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn page(State(_): State<App>) -> Response {
    ([(header::CACHE_CONTROL, "no-cache")], Html(PAGE)).into_response()
}

async fn missing(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{method} is not served at {}", uri.path());
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}
