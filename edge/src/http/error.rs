//! Errors as clients see them: `{"error":"slug","message":"…","limit":…,"alternatives":[…]}`.

use axum::{
    Json,
    extract::rejection::PathRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use longspan_proto::ids::NameError;
use serde_json::json;

use crate::{auth::Denied, door::GoingAway, live::WatchError, metrics::rejected, rooms::TooMany};

/// A refusal. Counted by its slug when it is sent.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: &'static str,
    message: String,
    limit: Option<usize>,
    /// URLs of edges to ask instead.
    alternatives: Option<Vec<String>>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, error: &'static str, message: String) -> ApiError {
        ApiError {
            status,
            error,
            message,
            limit: None,
            alternatives: None,
        }
    }

    pub(crate) fn with_limit(self, limit: usize) -> ApiError {
        ApiError {
            limit: Some(limit),
            ..self
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        rejected(self.error);
        let mut body = json!({ "error": self.error, "message": self.message });
        if let Some(limit) = self.limit {
            body["limit"] = limit.into();
        }
        if let Some(alternatives) = self.alternatives {
            body["alternatives"] = alternatives.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        // A player that asks again shall be answered anew.
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        response
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_name", error.to_string())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> ApiError {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_path",
            rejection.body_text(),
        )
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        let status = match denied {
            Denied::Missing | Denied::Invalid(_) => StatusCode::UNAUTHORIZED,
            Denied::Forbidden(_) => StatusCode::FORBIDDEN,
        };
        ApiError::new(status, denied.slug(), denied.to_string())
    }
}

impl From<GoingAway> for ApiError {
    fn from(away: GoingAway) -> ApiError {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let refused = ApiError::new(status, "going_away", away.to_string());
        ApiError {
            alternatives: Some(away.alternatives),
            ..refused
        }
    }
}

impl From<TooMany> for ApiError {
    fn from(error: TooMany) -> ApiError {
        WatchError::from(error).into()
    }
}

impl From<WatchError> for ApiError {
    fn from(error: WatchError) -> ApiError {
        if let WatchError::GoingAway(away) = error {
            return away.into();
        }
        let (status, limit) = match &error {
            WatchError::UnknownStream { .. } => (StatusCode::NOT_FOUND, None),
            WatchError::Silent { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            WatchError::Unavailable { .. } | WatchError::Stopping | WatchError::GoingAway(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, None)
            }
            WatchError::TooManyViewers { limit }
            | WatchError::TooManyStreams { limit }
            | WatchError::TooManyRooms(TooMany { limit }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(*limit))
            }
        };
        let refused = ApiError::new(status, error.slug(), error.to_string());
        match limit {
            Some(limit) => refused.with_limit(limit),
            None => refused,
        }
    }
}
