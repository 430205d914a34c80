//! `/rooms/ROOM` and `/edges`: what this edge knows, as JSON.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::HeaderMap,
};
use futures_util::future::join_all;
use longspan_proto::{
    control::{RoomState, StreamState},
    ids::{Generation, NodeId, RoomName, Stream},
    wire::Role,
};
use longspan_relay::node::Directory;
use serde_json::{Value, json};

use super::{ApiError, App, Caller};
use crate::{
    auth::Verb,
    edge::Shared,
    live::{WatchError, Watched},
    media::TrackInfo,
    rooms::origin,
};

pub(super) async fn show(
    State(shared): App,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let Path(room) = path?;
    let access = Caller::new(&headers, query.as_deref()).admit(&shared, &room, Verb::Watch)?;
    let name = access.room;
    let room = shared.rooms.get(&name)?;
    let known = room.known(shared.limits.room_wait).await;
    let Some(state) = known else {
        let room = name.room.to_string();
        return Err(WatchError::Unavailable { room }.into());
    };
    let streams = state.streams.iter();
    let streams = join_all(streams.map(|told| describe(&shared, &name, &state, told))).await;
    Ok(Json(json!({
        "room": name.room.as_str(),
        "tenant": name.tenant.as_str(),
        "edge": shared.node.id().as_str(),
        "region": shared.region.as_str(),
        "home": state.home_relay,
        "streams": streams.into_iter().flatten().collect::<Vec<_>>(),
        "viewers": room.viewers(),
        "members": room.members(),
    })))
}

/// A stream as JSON. What it is made of is asked of its publisher's edge if nobody watches here.
async fn describe(
    shared: &Arc<Shared>,
    room: &RoomName,
    state: &RoomState,
    told: &StreamState,
) -> Option<Value> {
    let stream = Stream::new(&told.stream).ok()?;
    let Watched {
        viewers,
        path,
        catalog,
    } = shared.live.watched(room, &stream);
    let catalog = match catalog {
        Some(catalog) => Some(catalog),
        None => {
            let origin = origin(state, &stream)?;
            shared.live.catalog(room, &stream, &origin).await
        }
    };
    let tracks: &[TrackInfo] = catalog.as_ref().map_or(&[], |catalog| &catalog.tracks);
    let path = path.map(|path| steps(&shared.node.directory().borrow(), &path));
    let place = format!("{}/{stream}", room.room);
    let (http, rtmp) = (&shared.http_url, &shared.rtmp_url);
    Some(json!({
        "stream": stream.as_str(),
        "origin": told.origin,
        "generation": Generation(told.generation).to_string(),
        "hls_base": told.hls_base,
        "tracks": tracks,
        "viewers": viewers,
        "path": path,
        "urls": {
            "flv": format!("{http}/live/{place}.flv"),
            "mp4": format!("{http}/live/{place}.mp4"),
            "hls": format!("{http}/hls/{place}/index.m3u8"),
            "rtmp": format!("{rtmp}/live/{place}"),
        },
    }))
}

/// The nodes of a path with their regions, as far as the directory names them.
fn steps(directory: &Directory, path: &[NodeId]) -> Vec<Value> {
    path.iter()
        .map(|node| {
            let region = directory.get(node).map(|info| info.region.as_str());
            json!({ "node": node.as_str(), "region": region })
        })
        .collect()
}

pub(super) async fn edges(State(shared): App) -> Json<Value> {
    let directory = shared.node.directory().borrow().clone();
    let edges = directory
        .nodes
        .values()
        .filter(|node| node.role == Role::Edge && !node.http_url.is_empty());
    let edges: Vec<Value> = edges
        .map(|node| {
            json!({
                "id": node.id.as_str(),
                "region": node.region.as_str(),
                "country": node.country,
                "city": node.city,
                "lat": node.lat,
                "lon": node.lon,
                "http": node.http_url,
                "rtmp": node.rtmp_url,
            })
        })
        .collect();
    Json(edges.into())
}
