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

use super::{App, Failure, changes::failure};
use crate::{
    driver::{Message, audit_records},
    state::{AskedLink, GroupView, NodeView, PolicyView, RoomTrace, RoomView, Unchanged},
};

/// Audit records told at once unless asked otherwise, and at most.
const AUDIT_DEFAULT: usize = 100;
const AUDIT_MAX: usize = 1_000;

pub type Params = Query<HashMap<String, String>>;
type Answer<T> = Result<Json<T>, Failure>;

impl App {
    /// Looks at the state.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&crate::state::State) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let seen = self.handle.look(look).await;
        seen.ok_or_else(|| self.not_leading())
    }

    /// There is no such room, and the one that may have been meant.
    async fn no_room(&self, name: RoomName) -> Failure {
        let seen = self.look(move |state| failure(state.no_room(&name))).await;
        seen.unwrap_or_else(|why| why)
    }
}

pub async fn nodes(State(app): State<App>) -> Answer<Vec<NodeView>> {
    app.look(|state| state.view_nodes()).await.map(Json)
}

pub async fn node(State(app): State<App>, Path(id): Path<String>) -> Answer<NodeView> {
    let seen = app.look(move |state| {
        let node = state
            .view_nodes()
            .into_iter()
            .find(|node| *node.info.id == *id);
        node.ok_or_else(|| state.no_node(&id))
    });
    seen.await?.map(Json).map_err(failure)
}

pub async fn links(State(app): State<App>) -> Answer<Vec<AskedLink>> {
    app.look(|state| state.view_links()).await.map(Json)
}

pub async fn overrides(State(app): State<App>) -> Answer<Vec<Value>> {
    let seen = app.look(|state| {
        let wishes = state.wishes().map(|(target, asked)| {
            let mut shown = json!(asked);
            shown["target"] = target.to_string().into();
            shown
        });
        wishes.collect()
    });
    seen.await.map(Json)
}

pub async fn trace(
    State(app): State<App>,
    Path(room): Path<String>,
    params: Params,
) -> Answer<RoomTrace> {
    let name = room_name(&room, &params)?;
    let asked = name.clone();
    let traced = app.handle.ask(|reply| Message::Trace(asked, reply)).await;
    match traced.ok_or_else(|| app.not_leading())? {
        Some(trace) => Ok(Json(trace)),
        None => Err(app.no_room(name).await),
    }
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
    match seen {
        Some(seen) => Ok(Json(seen)),
        None => Err(app.no_room(name).await),
    }
}

pub async fn policy(
    State(app): State<App>,
    Path(room): Path<String>,
    params: Params,
) -> Answer<PolicyView> {
    let name = room_name(&room, &params)?;
    let seen = app.look(move |state| state.view_policy(&name)).await?;
    seen.map(Json).map_err(failure)
}

pub async fn policies(State(app): State<App>, params: Params) -> Answer<Vec<PolicyView>> {
    let tenant = params.get("tenant").map(|tenant| parsed::<Tenant>(tenant));
    let tenant = tenant.transpose()?;
    app.look(move |state| state.view_policies(tenant.as_ref()))
        .await
        .map(Json)
}

pub async fn groups(State(app): State<App>) -> Answer<Vec<GroupView>> {
    app.look(|state| state.view_groups()).await.map(Json)
}

pub async fn table(State(app): State<App>, params: Params) -> Answer<Value> {
    let node: NodeId = parsed(required(&params, "node")?)?;
    let asked = node.clone();
    let seen = app.look(move |state| {
        let Some(table) = state.router().table(&asked) else {
            return Err(match state.knows(&asked) {
                true => Failure::not_found(format!("there is no table of {asked} yet")),
                false => failure(state.no_node(&asked)),
            });
        };
        Ok((state.view_version(), routes(table)))
    });
    let (version, routes) = seen.await??;
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
    let Some((explained, at)) = seen else {
        let near = app.look({
            let from = from.clone();
            move |state| match state.no_node(&from) {
                Unchanged::NotFound { near, .. } => near,
                _ => None,
            }
        });
        let what = format!("{from} is neither a node nor a region with an edge");
        let near = near.await?;
        return Err(failure(Unchanged::NotFound { what, near }));
    };
    let Some(explained) = explained else {
        return Err(app.no_room(name).await);
    };
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

pub fn parsed<T: std::str::FromStr<Err = NameError>>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|e: NameError| Failure::bad(e.to_string()))
}

pub fn room_name(room: &str, params: &Params) -> Result<RoomName, Failure> {
    let room: Room = parsed(room)?;
    let tenant = match params.get("tenant") {
        Some(tenant) => parsed(tenant)?,
        None => Tenant::default_tenant(),
    };
    Ok(RoomName { tenant, room })
}
