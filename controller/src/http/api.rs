//! The reading verbs.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use longspan_proto::ids::{NameError, NodeId, Region, Room, RoomName, Tenant};
use serde::Serialize;
use serde_json::{Value, json};

use super::{App, Failure};
use crate::{
    driver::audit_records,
    routes::LinkView,
    state::{NodeView, RoomView},
};

/// Audit records told at once unless asked otherwise, and at most.
const AUDIT_DEFAULT: usize = 100;
const AUDIT_MAX: usize = 1_000;

type Params = Query<HashMap<String, String>>;
type Answer<T> = Result<Json<T>, Failure>;

impl App {
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&crate::state::State) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let seen = self.handle.look(look).await;
        seen.ok_or_else(|| self.not_leading())
    }
}

pub async fn nodes(State(app): State<App>) -> Answer<Vec<NodeView>> {
    app.look(|state| state.view_nodes()).await.map(Json)
}

pub async fn links(State(app): State<App>) -> Answer<Vec<LinkView>> {
    app.look(|state| state.router().links()).await.map(Json)
}

pub async fn rooms(State(app): State<App>, params: Params) -> Answer<Vec<RoomView>> {
    let tenant = params.get("tenant").cloned();
    let mut rooms = app.look(|state| state.view_rooms()).await?;
    rooms.retain(|room| tenant.as_ref().is_none_or(|tenant| room.tenant == *tenant));
    Ok(Json(rooms))
}

pub async fn room(
    State(app): State<App>,
    Path(room): Path<String>,
    params: Params,
) -> Answer<RoomView> {
    let name = room_name(&room, &params)?;
    let asked = name.clone();
    let seen = app.look(move |state| state.view_room(&asked)).await?;
    seen.map(Json).ok_or_else(|| no_room(&name))
}

pub async fn table(State(app): State<App>, params: Params) -> Answer<Value> {
    let node: NodeId = parsed(required(&params, "node")?)?;
    let asked = node.clone();
    let seen = app.look(move |state| {
        let table = state.router().table(&asked)?;
        Some((state.view_version(), routes(table)))
    });
    let (version, routes) = seen
        .await?
        .ok_or_else(|| Failure::not_found(format!("there is no table of {node}")))?;
    Ok(Json(
        json!({"node": node, "version": version, "routes": routes}),
    ))
}

#[derive(Serialize)]
struct Way {
    nodes: Vec<NodeId>,
    nets: Vec<String>,
    cost_ms: f64,
}

fn routes(table: &crate::routes::Table) -> BTreeMap<NodeId, Vec<Way>> {
    let ways = |paths: &Vec<longspan_topology::routes::Path>| {
        let way = |path: &longspan_topology::routes::Path| Way {
            nodes: path.hops.iter().map(|h| h.node.clone()).collect(),
            nets: path.hops.iter().map(|h| h.net.to_string()).collect(),
            cost_ms: path.cost_us as f64 / 1_000.0,
        };
        paths.iter().map(way).collect()
    };
    let paths = table.paths.iter();
    paths.map(|(to, paths)| (to.clone(), ways(paths))).collect()
}

pub async fn explain(State(app): State<App>, params: Params) -> Answer<Value> {
    let name = room_name(required(&params, "room")?, &params)?;
    let from = required(&params, "from")?.to_owned();
    let node: NodeId = parsed(&from)?;
    let asked = name.clone();
    let seen = app.look(move |state| {
        let at = match state.knows(&node) {
            true => Some(node.clone()),
            // A region stands for the first edge in it.
            false => {
                let region = Region::new(&node).ok()?;
                state.edge_in(&region)
            }
        };
        Some(at.map(|at| (state.view_explained(&asked, &at), at)))
    });
    let seen = seen.await?.flatten();
    let (explained, at) = seen.ok_or_else(|| {
        Failure::not_found(format!(
            "{from} is neither a node nor a region with an edge"
        ))
    })?;
    let explained = explained.ok_or_else(|| no_room(&name))?;
    let streams: Vec<Value> = explained
        .into_iter()
        .map(|(stream, why)| json!({"stream": stream, "why": why}))
        .collect();
    Ok(Json(
        json!({"room": name.room, "tenant": name.tenant, "from": at, "streams": streams}),
    ))
}

pub async fn topology(State(app): State<App>) -> Answer<Value> {
    let seen = app.look(|state| {
        let mut routes: BTreeMap<NodeId, BTreeMap<NodeId, Vec<NodeId>>> = BTreeMap::new();
        for (from, table) in state.router().tables() {
            let best = table.paths.iter().filter_map(|(to, paths)| {
                let hops = &paths.first()?.hops;
                Some((to.clone(), hops.iter().map(|h| h.node.clone()).collect()))
            });
            routes.insert(from.clone(), best.collect());
        }
        json!({
            "version": state.view_version(),
            "nodes": state.view_nodes(),
            "links": state.router().links(),
            "routes": routes,
        })
    });
    seen.await.map(Json)
}

pub async fn audit(State(app): State<App>, params: Params) -> Answer<Vec<Value>> {
    let limit = match params.get("limit") {
        None => AUDIT_DEFAULT,
        Some(text) => match text.parse() {
            Ok(limit @ 1..=AUDIT_MAX) => limit,
            _ => {
                let message = format!("limit: {text:?} is not a number from 1 to {AUDIT_MAX}");
                return Err(Failure::bad(message));
            }
        },
    };
    let read = audit_records(&*app.handle.store, limit).await;
    read.map(Json).map_err(|why| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Failure::new(status, "unavailable", why.to_string())
    })
}

fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, Failure> {
    let value = params.get(name).map(String::as_str);
    value.ok_or_else(|| Failure::bad(format!("the parameter {name} is missing")))
}

fn parsed<T: std::str::FromStr<Err = NameError>>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|e: NameError| Failure::bad(e.to_string()))
}

fn room_name(room: &str, params: &Params) -> Result<RoomName, Failure> {
    let room: Room = parsed(room)?;
    let tenant = match params.get("tenant") {
        Some(tenant) => parsed(tenant)?,
        None => Tenant::default_tenant(),
    };
    Ok(RoomName { tenant, room })
}

fn no_room(name: &RoomName) -> Failure {
    Failure::not_found(format!("there is no room {name}"))
}
