//! A running `longspan up` and what is done to its edges.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use longspan_proto::ids::Region;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::Fault;
use crate::{
    failure::{Failure, Outcome},
    http::Api,
    up::data_dir,
};

/// How long a backbone may take to be ready, in a debug build on a busy machine.
const READY: Duration = Duration::from_secs(90);
/// The same for its end.
const END: Duration = Duration::from_secs(20);
/// How long an edge may take until it is back.
const HEAL: Duration = Duration::from_secs(40);
/// How often things are looked at that nobody tells.
const LOOK: Duration = Duration::from_millis(50);

/// A backbone of processes; they end with this value.
pub(super) struct World {
    up: Child,
    control: Api,
    pub(super) edges: Vec<Edge>,
    _data: TempDir,
}

/// An edge and where users reach it.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) id: String,
    /// `HOST:PORT`.
    pub(super) http: String,
    /// `HOST:PORT`.
    pub(super) rtmp: String,
    admin: String,
}

impl World {
    pub(super) async fn start(regions: &[Region], profile: &str, sample: bool) -> Outcome<World> {
        let data = tempfile::tempdir().map_err(Failure::failed)?;
        let program = std::env::current_exe().map_err(Failure::failed)?;
        let regions: Vec<&str> = regions.iter().map(Region::as_str).collect();
        let mut command = Command::new(program);
        command
            .args(["up", "-o", "json", "--port-base", "auto"])
            .args(["--profile", profile, "--regions", &regions.join(",")])
            .arg("--data-dir")
            .arg(data.path())
            .args((!sample).then_some("--no-sample"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut up = command.spawn().map_err(Failure::failed)?;
        let stdout = up.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(READY, lines.next_line()).await;
        let line = line
            .map_err(|_| Failure::failed(format!("longspan up is not ready within {READY:?}")))?
            .map_err(Failure::failed)?
            .ok_or_else(|| Failure::failed("longspan up ended; its reason stands above"))?;
        let ready: Value = serde_json::from_str(&line).map_err(Failure::failed)?;
        let running = data_dir::running(data.path())?;
        let edges = ready["regions"].as_array().into_iter().flatten();
        Ok(World {
            up,
            control: Api {
                base: running.control,
                socket: None,
                token: Some(running.admin_token),
                hint: "longspan up has ended",
            },
            edges: edges.map(|region| Edge::new(&region["edge"])).collect(),
            _data: data,
        })
    }

    /// Ends it in order.
    pub(super) async fn end(mut self) {
        if let Some(pid) = self.up.id() {
            // It may have ended by itself.
            let _ = signal(pid, Signal::TERM);
        }
        // Else it is killed when dropped.
        let _ = timeout(END, self.up.wait()).await;
    }

    /// Does it. Returns when it struck.
    pub(super) async fn strike(&self, fault: Fault, edge: &Edge) -> Outcome<Instant> {
        let pid = self.pid(edge).await?;
        let signal_ = match fault {
            Fault::Kill => Signal::KILL,
            Fault::Blackhole => Signal::STOP,
        };
        let struck = Instant::now();
        signal(pid, signal_)?;
        Ok(struck)
    }

    /// Undoes it, and waits until the edge takes users again.
    pub(super) async fn heal(&self, fault: Fault, edge: &Edge) -> Outcome {
        match fault {
            Fault::Kill => {
                let path = format!("/nodes/{}/restart", edge.id);
                self.control.post(&path, &json!({})).await?;
            }
            Fault::Blackhole => signal(self.pid(edge).await?, Signal::CONT)?,
        }
        let url = format!("{}/readyz", edge.admin.trim_end_matches('/'));
        until(&format!("{} is ready", edge.id), async || {
            let answer = crate::http::request(hyper::Method::GET, &url, None, None, HEAL).await;
            answer.is_ok_and(|answer| answer.status.is_success())
        })
        .await
    }

    /// Waits until nothing of the room's stream is at an edge any more.
    pub(super) async fn cold(&self, edge: &Edge, room: &str) -> Outcome {
        let url = format!("http://{}/rooms/{room}", edge.http);
        until(&format!("{} is cold", edge.id), async || {
            let answer = crate::http::request(hyper::Method::GET, &url, None, None, HEAL).await;
            let room = answer.and_then(|answer| {
                serde_json::from_slice::<Value>(&answer.body).map_err(Failure::failed)
            });
            room.is_ok_and(|room| room["streams"][0]["path"].is_null())
        })
        .await
    }

    async fn pid(&self, edge: &Edge) -> Outcome<u32> {
        let nodes = self.control.get("/nodes").await?;
        let nodes = nodes.as_array().cloned().unwrap_or_default();
        let node = nodes.iter().find(|node| node["id"] == edge.id.as_str());
        let pid = node.and_then(|node| node["pid"].as_u64());
        pid.map(|pid| pid as u32)
            .ok_or_else(|| Failure::failed(format!("{} does not run", edge.id)))
    }
}

impl Edge {
    fn new(told: &Value) -> Edge {
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        let host = |key: &str| {
            let url = text(key);
            let host = url.split_once("://").map_or("", |(_, host)| host);
            host.trim_end_matches('/').to_owned()
        };
        Edge {
            id: text("id"),
            http: host("http"),
            rtmp: host("rtmp"),
            admin: text("admin"),
        }
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) -> Outcome {
    let waiting = async {
        while !is().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = timeout(HEAL, waiting).await;
    waited.map_err(|_| Failure::failed(format!("not within {HEAL:?}: {what}")))
}

fn signal(pid: u32, signal: Signal) -> Outcome {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.ok_or_else(|| Failure::failed(format!("{pid} is no process id")))?;
    kill_process(target, signal)
        .map_err(|error| Failure::failed(format!("cannot signal process {pid}: {error}")))
}
