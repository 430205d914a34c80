//! The private listener that every process has: is it alive, is it ready, what does it measure.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Role,
    failure::{Failure, Outcome},
};

/// How often histograms are drained: what waits for it grows with what is recorded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Buckets for everything that ends in `_seconds`: from a hop through one relay (tens of µs) over
/// round trips (hundreds of ms) to a failover by time-out.
const SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Whether the process serves; `Err` says why not.
pub type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the process tells of itself.
pub type Debug = Box<dyn Fn() -> Value + Send + Sync>;

/// A bound admin listener. Metrics are recorded from here on.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    metrics: PrometheusHandle,
    role: Role,
}

struct Shared {
    ready: Ready,
    debug: Debug,
    metrics: PrometheusHandle,
    role: Role,
}

impl Admin {
    /// Binds the listener and installs the recorder of metrics, once a process.
    pub async fn bind(address: SocketAddr, role: Role) -> Outcome<Admin> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::failed(format!(
                "cannot listen on {address} (admin): {error}; stop its owner or set another admin.listen"
            ))
        })?;
        let address = listener.local_addr().map_err(Failure::failed)?;
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| Failure::failed(format!("cannot record metrics: {error}")))?;
        metrics::describe_gauge!(
            "longspan_build_info",
            "1, labelled with the program's version"
        );
        metrics::gauge!("longspan_build_info", "version" => env!("CARGO_PKG_VERSION"), "role" => role.to_string())
            .set(1.0);
        metrics::describe_gauge!(
            "longspan_start_time_seconds",
            metrics::Unit::Seconds,
            "when the process started, since the Unix epoch"
        );
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        metrics::gauge!("longspan_start_time_seconds").set(now.as_secs_f64());
        Ok(Admin {
            listener,
            address,
            metrics,
            role,
        })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers until `shutdown`.
    pub async fn run(self, ready: Ready, debug: Debug, shutdown: CancellationToken) {
        let metrics = self.metrics.clone();
        let upkeep = shutdown.clone().run_until_cancelled_owned(async move {
            let mut ticks = interval(UPKEEP);
            loop {
                ticks.tick().await;
                metrics.run_upkeep();
            }
        });
        tokio::spawn(upkeep);
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .route("/debug/state", get(state))
            .fallback(unknown)
            .with_state(Arc::new(Shared {
                ready,
                debug,
                metrics: self.metrics,
                role: self.role,
            }));
        let serve = axum::serve(self.listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        if let Err(error) = serve {
            tracing::error!(%error, "the admin listener ended");
        }
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match (shared.ready)() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.render())
}

async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let ready = (shared.ready)();
    Json(json!({
        "role": shared.role.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "ready": ready.is_ok(),
        "why_not": ready.err(),
        "state": (shared.debug)(),
    }))
}

async fn unknown() -> impl IntoResponse {
    let message = "there are /healthz, /readyz, /metrics and /debug/state";
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "error": "not_found", "message": message })),
    )
}
