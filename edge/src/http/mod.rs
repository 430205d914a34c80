//! The edge's HTTP: live files, HLS, rooms as JSON, the classroom page, and the room's messages.

mod connection;
mod error;
mod hls;
mod live;
mod page;
mod room;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use longspan_proto::ids::{Room, Stream};

use self::connection::Stalling;
pub(crate) use self::error::ApiError;
use crate::{
    auth::{Access, Verb},
    clock::wall_seconds,
    edge::Shared,
    gateway::{Accepted, Listener},
    line::Owned,
};

/// How much of a connection's output hyper may hold, in bytes, beside one piece of a stream. What
/// a client does not take stays in the shared ring beyond that.
const WRITE_BUFFER: usize = 64 * 1024;

/// How long connections may take to end after the edge was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// All routes. `messages` are the room's messages.
pub(crate) fn router(shared: Arc<Shared>, messages: Router) -> Router {
    Router::new()
        .route("/live/{room}/{file}", get(live::file))
        .route("/hls/{room}/{stream}/{file}", get(hls::file))
        .route("/rooms/{room}", get(room::show))
        .route("/rooms/{room}/events", get(room::events))
        .route("/edges", get(room::edges))
        .route("/classroom/{room}", get(page::classroom))
        .with_state(shared)
        .merge(messages)
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn(cors))
}

/// Accepts connections until the edge stops.
pub(crate) async fn serve(shared: Arc<Shared>, listener: Listener, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(shared.limits.setup)
        .max_buf_size(WRITE_BUFFER);
    while let Some(accepted) = listener.accept(&shared.stop).await {
        let Accepted { tcp, peer, permit } = accepted;
        let owned = Owned::new(tcp);
        let line = owned.line().clone();
        let io = TokioIo::new(Stalling::new(owned, shared.limits.stall));
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(line.clone());
            router.call(request)
        });
        let connection = http.serve_connection(io, service).with_upgrades();
        let stop = shared.stop.clone();
        shared.tasks.spawn(async move {
            let _permit = permit;
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    match tokio::time::timeout(DRAIN, connection).await {
                        Ok(result) => result,
                        Err(_) => return,
                    }
                }
            };
            if let Err(error) = result {
                // Clients leave as they like, and say so by breaking the connection.
                tracing::debug!(%peer, %error, "HTTP connection broke");
            }
        });
    }
}

/// Any page may read what an edge serves: tokens, not origins, decide who sees what. Answers
/// preflights itself.
async fn cors(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    if preflight {
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Range"),
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        ];
        for (name, value) in allowed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

async fn unknown_path(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown_path",
        format!(
            "there is nothing at {:?}; see /live/ROOM/STREAM.flv, /hls/ROOM/STREAM/index.m3u8, \
             /rooms/ROOM, /rooms/ROOM/events, /rooms/ROOM/messages, /edges and /classroom/ROOM",
            request.uri().path()
        ),
    )
}

async fn unknown_method(method: Method) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unknown_method",
        format!("{method} is not possible here; GET, HEAD and OPTIONS are"),
    )
}

/// Who asks, and for what.
pub(crate) struct Caller<'a> {
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(headers: &'a HeaderMap, query: Option<&'a str>) -> Caller<'a> {
        Caller { headers, query }
    }

    /// `Authorization: Bearer`, else `token` or `jwt` in the query. No form of a token needs
    /// percent-encoding.
    pub(crate) fn token(&self) -> Option<&'a str> {
        let header = self.headers.get(header::AUTHORIZATION);
        let bearer = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        bearer.or_else(|| self.query_token().map(|(_, token)| token))
    }

    /// `skips=1` in the query: a member that need not be told of state that is written again. Not a
    /// word of the conversation: edges refuse words that they do not know, and ignore queries.
    pub(crate) fn skips(&self) -> bool {
        let pairs = self.query.into_iter().flat_map(|query| query.split('&'));
        pairs.into_iter().any(|pair| pair == "skips=1")
    }

    /// The token in the query, and the name it has there.
    fn query_token(&self) -> Option<(&'a str, &'a str)> {
        self.query?
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| matches!(*name, "token" | "jwt"))
    }

    /// Whether the caller may do this in a room.
    pub(crate) fn admit(
        &self,
        shared: &Shared,
        room: &str,
        verb: Verb,
    ) -> Result<Access, ApiError> {
        let room = Room::new(room)?;
        let admitted = shared.auth.admit(self.token(), &room, verb, wall_seconds());
        Ok(admitted?)
    }
}

fn stream_name(name: &str) -> Result<Stream, ApiError> {
    Ok(Stream::new(name)?)
}

type App = State<Arc<Shared>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(headers: &[(header::HeaderName, &str)], query: Option<&str>) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect();
        Caller::new(&headers, query).token().map(str::to_owned)
    }

    #[test]
    fn a_token_comes_by_header_or_query() {
        let bearer = [(header::AUTHORIZATION, "Bearer a.b.c")];
        assert_eq!(token(&bearer, Some("token=x")).as_deref(), Some("a.b.c"));
        assert_eq!(token(&[], Some("v=1&token=x.y")).as_deref(), Some("x.y"));
        assert_eq!(token(&[], Some("jwt=x.y")).as_deref(), Some("x.y"));
        let basic = [(header::AUTHORIZATION, "Basic dTpw")];
        assert_eq!(token(&basic, None), None);
        assert_eq!(token(&[], Some("tokens=1")), None);
    }
}
