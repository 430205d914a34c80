//! The listener for `longspan lab`: what only the one who started the nodes can do to them.
//! On loopback, with the operator's token.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use longspan_lab::{
    wan::Profile,
    world::{Fault, Who, World},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::nodes::Nodes;
use crate::failure::{Failure, Kind, Outcome, hint};

/// Faults at once; more are refused. Every packet's lane looks through them once when they change.
const MAX_FAULTS: usize = 1_024;

/// What to do to a link, in one direction or in both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A node or a region.
    pub from: String,
    /// A node or a region.
    pub to: String,
    /// Only from → to.
    pub one_way: bool,
    /// `None` takes the fault away.
    pub fault: Option<Effect>,
}

/// What a fault does. What is not told stays as it is without the fault.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Instead of everything else of the profile.
    pub profile: Option<Profile>,
    /// One way, instead of the matrix's.
    pub delay_ms: Option<f64>,
    /// Added to the delay.
    pub extra_ms: Option<f64>,
    /// Loss.
    pub loss: Option<longspan_lab::wan::Loss>,
    /// Bits a second; the queue is 100 ms as in the other profiles.
    pub rate_bits: Option<u64>,
}

struct Shared {
    nodes: Nodes,
    world: Mutex<World>,
    file: PathBuf,
    token: String,
}

/// Answers until `shutdown`.
pub async fn serve(
    address: SocketAddr,
    token: String,
    nodes: Nodes,
    world_file: PathBuf,
    shutdown: CancellationToken,
) -> Outcome {
    let world = World::read(&world_file).map_err(Failure::failed)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {address} (longspan lab): {error}"
        ))
    })?;
    let shared = Arc::new(Shared {
        nodes,
        world: Mutex::new(world),
        file: world_file,
        token,
    });
    let router = Router::new()
        .route("/nodes", get(nodes_list))
        .route("/nodes/{id}/kill", post(kill))
        .route("/nodes/{id}/restart", post(restart))
        .route("/links", get(links).post(change))
        .layer(middleware::from_fn_with_state(shared.clone(), authorize))
        .with_state(shared);
    tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        if let Err(error) = served {
            eprintln!("longspan up: the listener for longspan lab ended: {error}");
        }
    });
    Ok(())
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let same = given.is_some_and(|given| {
        aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), shared.token.as_bytes())
            .is_ok()
    });
    if same {
        next.run(request).await
    } else {
        let body =
            json!({ "error": "unauthorized", "message": "the admin token is missing or wrong" });
        (StatusCode::UNAUTHORIZED, Json(body)).into_response()
    }
}

/// A failure as HTTP.
struct Refusal(Failure);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, slug) = match self.0.kind {
            Kind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
            Kind::Usage => (StatusCode::BAD_REQUEST, "bad_request"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Kind::Refused => (StatusCode::CONFLICT, "refused"),
        };
        let body = json!({ "error": slug, "message": self.0.to_string() });
        (status, Json(body)).into_response()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal(failure)
    }
}

type Answer = Result<Json<Value>, Refusal>;

async fn nodes_list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let nodes = shared.nodes.list().into_iter().map(|(spec, log, state)| {
        let mut node = serde_json::to_value(&state).unwrap_or_default();
        node["id"] = spec.id.to_string().into();
        node["role"] = spec.role.to_string().into();
        node["region"] = spec.region.to_string().into();
        node["log"] = log.to_string_lossy().into();
        node
    });
    Json(nodes.collect())
}

async fn kill(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    shared.nodes.kill(&id).await?;
    Ok(Json(json!({ "node": id, "done": "killed" })))
}

async fn restart(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    // In a task of its own: whoever asked may leave, the node shall still come back.
    let (nodes, node) = (shared.nodes.clone(), id.clone());
    let restarted = tokio::spawn(async move { nodes.restart(&node).await });
    restarted
        .await
        .map_err(|error| Failure::failed(error.to_string()))??;
    Ok(Json(json!({ "node": id, "done": "restarted" })))
}

async fn links(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
    let ms = |delay: std::time::Duration| delay.as_secs_f64() * 1_000.0;
    let ways = world.ways.iter().map(|way| {
        json!({ "from": way.from, "to": way.to, "one_way_ms": ms(way.one_way), "profile": way.profile })
    });
    let ways: Value = ways.collect();
    Json(json!({ "links": ways, "faults": world.faults }))
}

async fn change(State(shared): State<Arc<Shared>>, Json(change): Json<Change>) -> Answer {
    let mut current = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = current.clone();
    apply(&mut world, &change)?;
    world.write(&shared.file).map_err(Failure::failed)?;
    *current = world;
    let Change {
        from,
        to,
        one_way,
        fault,
    } = change;
    Ok(Json(
        json!({ "from": from, "to": to, "one_way": one_way, "restored": fault.is_none() }),
    ))
}

fn apply(world: &mut World, change: &Change) -> Outcome {
    for name in [&change.from, &change.to] {
        if !world.knows(name) {
            return Err(Failure::not_found(format!(
                "no node or region {name}{}",
                hint(name, world.names())
            )));
        }
    }
    let directions = [(&change.from, &change.to), (&change.to, &change.from)];
    let count = if change.one_way { 1 } else { 2 };
    let mut lifted = false;
    for (from, to) in directions.into_iter().take(count) {
        match &change.fault {
            None => lifted |= world.lift(from, to),
            Some(effect) => {
                let fault = effect.fault(world, from, to)?;
                world.lay(fault);
            }
        }
    }
    if change.fault.is_none() && !lifted {
        return Err(Failure::not_found(format!(
            "no fault lies between {} and {}",
            change.from, change.to
        )));
    }
    if world.faults.len() > MAX_FAULTS {
        return Err(Failure::refused(format!(
            "there are {MAX_FAULTS} faults, the limit; restore some"
        )));
    }
    Ok(())
}

impl Effect {
    /// The whole of what one direction becomes.
    fn fault(&self, world: &World, from: &str, to: &str) -> Outcome<Fault> {
        let mut bare = world.clone();
        bare.faults.clear();
        let who = |name: &str| {
            bare.nodes.iter().find_map(|(node, placed)| {
                let who = Who {
                    node: Some(node.clone()),
                    region: placed.region.clone(),
                };
                who.is(name).then_some(who)
            })
        };
        let (Some(here), Some(there)) = (who(from), who(to)) else {
            return Err(Failure::not_found(format!(
                "no node or region {from} or {to}"
            )));
        };
        let (one_way, way) = bare.between(&here, &there);
        let mut profile = self.profile.clone().unwrap_or(way);
        if let Some(loss) = self.loss {
            profile.loss = loss;
        }
        if let Some(bits_per_s) = self.rate_bits {
            let queue = std::time::Duration::from_millis(100);
            profile.rate = Some(longspan_lab::wan::Rate { bits_per_s, queue });
        }
        profile.check().map_err(Failure::usage)?;
        let delay = self.delay_ms.unwrap_or(one_way.as_secs_f64() * 1_000.0);
        let delay = delay + self.extra_ms.unwrap_or(0.0);
        if !(0.0..=60_000.0).contains(&delay) {
            return Err(Failure::usage(format!(
                "a delay of {delay} ms; it must lie in 0 … 60000"
            )));
        }
        Ok(Fault {
            from: from.to_owned(),
            to: to.to_owned(),
            one_way_ms: Some(delay),
            profile: Some(profile),
        })
    }
}

#[cfg(test)]
mod tests {
    use longspan_lab::{
        matrix::Matrix,
        world::{Everywhere, Placed},
    };

    use super::*;

    fn world() -> World {
        let nodes = ["cn-shanghai", "hk", "sg"].map(|region| {
            let placed = Placed {
                region: region.parse().expect("a region"),
                addrs: Vec::new(),
            };
            let id = format!("{region}-relay-1");
            (id.parse().expect("a node"), placed)
        });
        let everywhere = Everywhere::Same(Profile::clean());
        World::new(&Matrix::bundled(), &everywhere, nodes.into(), 1)
    }

    fn change(from: &str, to: &str, fault: Option<Effect>) -> Change {
        Change {
            from: from.to_owned(),
            to: to.to_owned(),
            one_way: false,
            fault,
        }
    }

    #[test]
    fn a_fault_lies_over_both_directions_until_it_is_lifted() {
        let mut world = world();
        let slower = Effect {
            extra_ms: Some(100.0),
            ..Effect::default()
        };
        let slower = change("cn-shanghai", "hk-relay-1", Some(slower));
        apply(&mut world, &slower).expect("laid");
        // 19 ms is half the matrix's round trip; told twice it is not added twice.
        apply(&mut world, &slower).expect("laid again");
        assert_eq!(world.faults.len(), 2);
        assert_eq!(world.faults[0].one_way_ms, Some(119.0));
        assert_eq!(world.faults[1].profile, Some(Profile::clean()));
        let restore = change("hk-relay-1", "cn-shanghai", None);
        apply(&mut world, &restore).expect("lifted");
        assert!(world.faults.is_empty());
        let again = apply(&mut world, &restore).expect_err("nothing lies there");
        assert_eq!(again.kind, Kind::NotFound);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let mut world = world();
        let told = apply(&mut world, &change("cn-shangai", "hk", None)).expect_err("refused");
        assert!(
            told.to_string().contains("did you mean cn-shanghai"),
            "{told}"
        );
        let wrong = Effect {
            rate_bits: Some(0),
            ..Effect::default()
        };
        let told = apply(&mut world, &change("sg", "hk", Some(wrong))).expect_err("refused");
        assert_eq!(told.kind, Kind::Usage);
        let wrong = Effect {
            delay_ms: Some(-1.0),
            ..Effect::default()
        };
        let told = apply(&mut world, &change("sg", "hk", Some(wrong))).expect_err("refused");
        assert!(told.to_string().contains("-1"), "{told}");
        assert!(world.faults.is_empty());
    }
}
