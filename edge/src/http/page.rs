//! `/classroom/ROOM`: the page, the same for every room.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::header,
    response::{IntoResponse, Response},
};
use longspan_proto::ids::Room;

use super::ApiError;

const PAGE: &str = include_str!("../../../web/dist/index.html");

pub(super) async fn classroom(
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(room) = path?;
    Room::new(&room)?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, PAGE).into_response())
}
