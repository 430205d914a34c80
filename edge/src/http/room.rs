//! `/rooms/ROOM`, the same as events, and `/edges`: what this edge knows, as JSON.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream as Events, future::join_all, stream};
use longspan_proto::{
    control::{RoomState, StreamState},
    ids::{Generation, NodeId, RoomName, Stream},
};
use longspan_relay::node::Directory;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ApiError, App, Caller};
use crate::{
    auth::Verb,
    door::others,
    edge::Shared,
    live::{WatchError, Watched},
    media::TrackInfo,
    rooms::{Room, origin},
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
    Ok(Json(tell(&shared, &room, &state).await))
}

/// `/rooms/ROOM/events`: the same as `/rooms/ROOM`, as server-sent events (WHATWG HTML §9.2): at
/// once, and again whenever it changed. Another path or generation is told at once, counts once a
/// second.
pub(super) async fn events(
    State(shared): App,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Sse<impl Events<Item = Result<Event, Infallible>>>, ApiError> {
    let Path(room) = path?;
    let access = Caller::new(&headers, query.as_deref()).admit(&shared, &room, Verb::Watch)?;
    let watching = Watching {
        room: shared.rooms.get(&access.room)?,
        shared,
        told: Value::Null,
    };
    let events = stream::unfold(watching, async |mut watching| {
        let told = watching.next().await?;
        let event = Event::default().event("room").data(told.to_string());
        Some((Ok(event), watching))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// How often counts are looked at, and how soon after one event the next may follow.
const COUNTS: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// Somebody who is told of a room.
struct Watching {
    shared: Arc<Shared>,
    room: Arc<Room>,
    /// What was told last.
    told: Value,
}

impl Watching {
    /// What is to be told next; `None` when the edge stops.
    async fn next(&mut self) -> Option<Value> {
        let stop = self.shared.stop.clone();
        stop.run_until_cancelled(self.change()).await
    }

    async fn change(&mut self) -> Value {
        let (mut state, mut changes) = (self.room.state(), self.room.changes());
        if !self.told.is_null() {
            sleep(PAUSE).await;
        }
        loop {
            let known = state.borrow_and_update().clone();
            changes.mark_unchanged();
            if let Some(known) = known {
                let now = tell(&self.shared, &self.room, &known).await;
                if now != self.told {
                    self.told.clone_from(&now);
                    return now;
                }
            }
            tokio::select! {
                Ok(()) = state.changed() => {}
                Ok(()) = changes.changed() => {}
                () = sleep(COUNTS) => {}
            }
        }
    }
}

/// A room as JSON.
async fn tell(shared: &Arc<Shared>, room: &Room, state: &RoomState) -> Value {
    let name = room.name();
    let streams = state.streams.iter();
    let streams = join_all(streams.map(|told| describe(shared, name, state, told))).await;
    json!({
        "room": name.room.as_str(),
        "tenant": name.tenant.as_str(),
        "edge": shared.node.id().as_str(),
        "region": shared.region.as_str(),
        "streams": streams.into_iter().flatten().collect::<Vec<_>>(),
        "viewers": room.viewers(),
        "members": room.members(),
    })
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
    let edges = others::listed(&directory).into_iter();
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
