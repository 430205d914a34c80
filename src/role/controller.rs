//! A controller from its configuration.

use std::path::Path;

use longspan_controller::{self as controller, Limits, StoreConfig, Tls, routes::Capacities};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Bound, secret};
use crate::{
    config::{self, Store},
    failure::{Failure, Outcome},
};

pub async fn bind(config: config::Controller, shutdown: CancellationToken) -> Outcome<Bound> {
    let config = convert(config)?;
    let id = config.id.clone();
    let controller = controller::Controller::bind(config)
        .await
        .map_err(Failure::failed)?;
    let (grpc, http) = (controller.grpc_addr(), controller.http_addr());
    tracing::info!(%grpc, %http, "listening");
    let ready = controller.ready();
    Ok(Bound {
        run: Box::pin(controller.run(shutdown)),
        ready: Box::new(move || ready.check()),
        debug: Box::new(
            move || json!({ "id": id, "grpc": grpc.to_string(), "http": http.to_string() }),
        ),
        reload: Box::new(|_| Ok(())),
    })
}

fn convert(config: config::Controller) -> Outcome<controller::Config> {
    let (store, clear_leases) = match config.store {
        Store::Embedded { path, clear_leases } => (StoreConfig::Embedded { path }, clear_leases),
        Store::Etcd {
            endpoints,
            clear_leases,
        } => (StoreConfig::Etcd { endpoints }, clear_leases),
    };
    let config::Links {
        capacity_mbps,
        capacities,
    } = config.links;
    let capacities = Capacities::read(capacity_mbps, &capacities)
        .map_err(|why| Failure::usage(format!("links.capacities: {why}")))?;
    let token_file = config.admin.token_file.unwrap_or_default();
    Ok(controller::Config {
        id: config.controller.id,
        grpc_listen: config.controller.grpc_listen,
        grpc_url: config.controller.grpc_url,
        http_listen: config.controller.http_listen,
        store,
        tls: config.tls.map(|tls| read_tls(&tls)).transpose()?,
        admin_token: secret(&token_file)?,
        clear_leases,
        limits: Limits {
            capacities,
            ..Limits::default()
        },
    })
}

fn read_tls(tls: &config::Tls) -> Outcome<Tls> {
    let read = |file: &Path| {
        std::fs::read(file)
            .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))
    };
    Ok(Tls {
        ca: read(&tls.ca)?,
        cert: read(&tls.cert)?,
        key: read(&tls.key)?,
    })
}
