//! `/live/ROOM/STREAM.flv` and `.mp4`: files without an end.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::{ApiError, App, Caller, stream_name};
use crate::{
    auth::Verb,
    live::{Format, Viewer},
};

pub(super) async fn file(
    State(shared): App,
    path: Result<Path<(String, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Path((room, file)) = path?;
    let (stream, format, content_type) = split(&file)?;
    let stream = stream_name(stream)?;
    let access = Caller::new(&headers, query.as_deref()).admit(&shared, &room, Verb::Watch)?;
    let body = if method == Method::HEAD {
        shared.live.find(&access.room, &stream).await?;
        Body::empty()
    } else {
        let viewer = shared.live.watch(&access.room, &stream, format).await?;
        body(viewer.begin(shared.limits.first_picture, &stream).await?)
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

fn split(file: &str) -> Result<(&str, Format, &'static str), ApiError> {
    if let Some(stream) = file.strip_suffix(".flv") {
        return Ok((stream, Format::Flv, "video/x-flv"));
    }
    if let Some(stream) = file.strip_suffix(".mp4") {
        return Ok((stream, Format::Mp4, "video/mp4"));
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown_format",
        format!("{file:?} ends in no format this edge serves live: .flv and .mp4"),
    ))
}

fn body(viewer: Viewer) -> Body {
    let pieces = stream::unfold(viewer, |mut viewer| async move {
        let bytes = viewer.next().await?.into_bytes();
        viewer.sent(bytes.len());
        Some((Ok::<_, Infallible>(bytes), viewer))
    });
    Body::from_stream(pieces)
}
