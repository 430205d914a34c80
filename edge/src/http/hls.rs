//! `/hls/ROOM/STREAM/…`: playlists and segments.

use axum::{
    body::Body,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use super::{ApiError, App, Caller, stream_name};
use crate::{auth::Verb, hls::Name, live::WatchError, metrics::sent};

pub(super) async fn file(
    State(shared): App,
    path: Result<Path<(String, String, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Path((room, stream, file)) = path?;
    let caller = Caller::new(&headers, query.as_deref());
    let access = caller.admit(&shared, &room, Verb::Watch)?;
    let stream = stream_name(&stream)?;
    let name = Name::parse(&file).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "unknown_file",
            format!("{file:?} is neither index.m3u8 nor a segment's name"),
        )
    })?;
    let content: Bytes = match name {
        Name::Playlist => {
            let feed = shared.live.feed(&access.room, &stream).await?;
            // A token that came by the query must stand in the URIs: players ask for segments
            // without the playlist's query.
            let repeated = caller
                .query_token()
                .map(|(name, token)| format!("{name}={token}"));
            let wait = shared.limits.first_segment;
            let playlist = feed.playlist(repeated.as_deref(), wait).await;
            let playlist = playlist.ok_or(WatchError::Silent {
                stream: stream.to_string(),
                seconds: wait.as_secs(),
            })?;
            playlist.into()
        }
        name => {
            let feed = shared.live.running_feed(&access.room, &stream);
            feed.and_then(|feed| feed.get(&name)).ok_or_else(|| {
                ApiError::new(
                    StatusCode::NOT_FOUND,
                    "unknown_segment",
                    format!("{file:?} is not held: it is too old, or was never asked for here"),
                )
            })?
        }
    };
    let caching = match name {
        Name::Playlist => "no-cache",
        // A name never stands for other bytes.
        Name::Init(_) | Name::Segment { .. } => "public, max-age=3600, immutable",
    };
    let headers = [
        (header::CONTENT_TYPE, name.content_type().to_owned()),
        (header::CACHE_CONTROL, caching.to_owned()),
        (header::CONTENT_LENGTH, content.len().to_string()),
    ];
    if method == Method::HEAD {
        return Ok((headers, Body::empty()).into_response());
    }
    sent("hls", content.len());
    Ok((headers, Body::from(content)).into_response())
}
