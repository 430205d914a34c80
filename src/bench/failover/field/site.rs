//! One region: its host, its relay, its edges.

use std::{future::Future, path::Path, process::Command, time::Duration};

use hyper::Method;
use longspan_lab::tun::{Host, Process};
use longspan_proto::ids::Region;
use longspan_relay::node::Handle;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    failure::{Failure, Outcome},
    http,
    up::plan::Area,
};

/// How long a node may take to answer on its private listener.
const ANSWER: Duration = Duration::from_secs(2);

/// One region.
pub struct Site {
    /// Who and where.
    pub area: Area,
    pub(super) edges: Option<Edges>,
    pub(super) host: Host,
    /// Its threads belong to the host: so do the sockets that are opened on it. Always there until
    /// it is dropped.
    pub(super) runtime: Option<Runtime>,
    pub(super) on: tokio::runtime::Handle,
    pub(super) relay: Option<Process>,
}

/// What uses a relay.
pub(super) struct Edges {
    /// The bench's own, in this process.
    pub(super) node: Handle,
    /// None: it was killed.
    pub(super) process: Option<Process>,
    pub(super) _stop: tokio_util::sync::DropGuard,
}

impl Site {
    pub(super) fn has(&self, node: &str) -> bool {
        node == self.area.relay.id.as_str()
            || node == self.area.edge.id.as_str()
            || node == bench_edge(&self.area.region)
    }

    /// The bench's own edge there.
    pub fn node(&self) -> Outcome<&Handle> {
        let edges = self.edges.as_ref();
        edges
            .map(|edges| &edges.node)
            .ok_or_else(|| Failure::failed(format!("{} has no edge", self.area.region)))
    }

    /// Does something with the host's network.
    pub async fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Outcome<T> {
        self.on.spawn(work).await.map_err(Failure::failed)
    }

    /// Starts a program on the host, its output in `log`.
    pub fn spawn(&self, command: Command, log: &Path) -> Outcome<Process> {
        self.host.spawn(command, log).map_err(Failure::failed)
    }

    /// The relay's process, unless it was killed.
    pub fn relay(&self) -> Outcome<&Process> {
        let id = &self.area.relay.id;
        self.relay
            .as_ref()
            .ok_or_else(|| Failure::failed(format!("{id} does not run")))
    }

    /// SIGKILL.
    pub fn kill_relay(&mut self) {
        self.relay = None;
    }

    /// The edge's process, unless it was killed.
    pub fn edge(&self) -> Outcome<&Process> {
        let process = self.edges.as_ref().and_then(|edges| edges.process.as_ref());
        let id = &self.area.edge.id;
        process.ok_or_else(|| Failure::failed(format!("{id} does not run")))
    }

    /// SIGKILL.
    pub fn kill_edge(&mut self) {
        if let Some(edges) = &mut self.edges {
            edges.process = None;
        }
    }

    /// Starts something on the host's network; it ends with the site.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.on.spawn(work)
    }

    /// What the relay tells of itself; None while it does not answer.
    pub async fn debug(&self) -> Option<Value> {
        let body = self.ask("/debug/state").await?;
        serde_json::from_str(&body).ok()
    }

    /// The sum and the count of one of the relay's histograms, over all labels.
    pub async fn histogram(&self, name: &str) -> Option<(f64, f64)> {
        let text = self.ask("/metrics").await?;
        let sum = |suffix: &str| -> f64 {
            let name = format!("{name}{suffix}");
            text.lines()
                .filter(|line| line.split([' ', '{']).next() == Some(&name))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        Some((sum("_sum"), sum("_count")))
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let url = format!("http://{}{path}", self.area.relay.admin);
        let answer = self
            .there(async move { http::request(Method::GET, &url, None, None, ANSWER).await })
            .await;
        let answer = answer.ok()?.ok()?;
        String::from_utf8(answer.body.to_vec()).ok()
    }
}

impl Drop for Site {
    /// A runtime may not be waited for by a task of another.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The bench's own edge in a region.
pub fn bench_edge(region: &Region) -> String {
    format!("{region}-bench")
}
