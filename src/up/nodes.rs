//! All children together: start in order, wait until ready, report deaths, stop in order.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::Method;
use longspan_proto::ids::{NodeId, Region};
use tokio::time::{Instant, sleep, timeout};

use super::child::{Child, State};
use crate::{
    config::Role,
    failure::{Failure, Outcome},
    http,
};

/// How long a whole backbone may take to be ready: an unoptimised build on two busy cores needs
/// about a third of it.
const READY: Duration = Duration::from_secs(90);

/// How often a node that is not ready is asked again.
const ASK: Duration = Duration::from_millis(100);

/// How long nothing is said about a node that is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the nodes of each kind may take to stop; what is left then is killed. Edges give their
/// streams back and their sessions an end (2 s), and close their connections as relays do (0.6 s, at
/// most 2 s); all together takes no longer than 5 s.
const STOP: [(Role, Duration); 3] = [
    (Role::Edge, Duration::from_millis(3_000)),
    (Role::Relay, Duration::from_millis(1_300)),
    (Role::Controller, Duration::from_millis(700)),
];

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The node's name.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// Where it runs.
    pub region: Region,
    /// Its private listener.
    pub admin: SocketAddr,
    /// Its files.
    pub folder: PathBuf,
}

/// A node and the process it has now.
#[derive(Debug, Clone)]
struct Entry {
    spec: Spec,
    child: Child,
}

/// All nodes of a backbone.
#[derive(Debug, Clone)]
pub struct Nodes(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    /// Nodes somebody has just asked to end: their end is no news.
    expected: BTreeSet<NodeId>,
    stopping: bool,
    /// How this program is called.
    command: String,
}

impl Nodes {
    /// None yet; `command` is how this program is called, for hints.
    pub fn new(command: String) -> Nodes {
        Nodes(Arc::new(Mutex::new(Inner {
            command,
            ..Inner::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts these and returns when all are ready. What is said about progress goes to stderr.
    pub async fn start(&self, what: &str, specs: Vec<Spec>) -> Outcome {
        let began = Instant::now();
        let count = specs.len();
        for spec in &specs {
            self.spawn(spec)?;
        }
        for (index, spec) in specs.iter().enumerate() {
            let left = READY.saturating_sub(began.elapsed());
            self.wait_ready(spec, left).await?;
            if (index + 1) % 4 == 0 && index + 1 < count {
                eprintln!("longspan up: {} of {count} {what} ready", index + 1);
            }
        }
        eprintln!(
            "longspan up: {what} ready after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Everything now: name, role, region, log, state.
    pub fn list(&self) -> Vec<(Spec, PathBuf, State)> {
        let entries = self.lock().entries.clone();
        let told = entries.into_iter().map(|entry| {
            let state = entry.child.state();
            (entry.spec, entry.child.log, state)
        });
        told.collect()
    }

    /// Ends a node's process at once; it is reported like any other death.
    pub async fn kill(&self, id: &str) -> Outcome {
        let child = self.find(id)?.child;
        if child.state().is_alive() {
            child.kill();
            child.ended().await;
            Ok(())
        } else {
            Err(Failure::refused(format!("{id} does not run")))
        }
    }

    /// Freezes a node's process or lets it go on.
    pub async fn freeze(&self, id: &str, frozen: bool) -> Outcome {
        let child = self.find(id)?.child;
        if child.state().is_alive() {
            child.freeze(frozen).await;
            Ok(())
        } else {
            Err(Failure::refused(format!("{id} does not run")))
        }
    }

    /// Stops a node if it runs, starts it again and waits until it is ready.
    pub async fn restart(&self, id: &str) -> Outcome {
        let Entry { spec, child } = self.find(id)?;
        self.lock().expected.insert(spec.id.clone());
        child.stop();
        if timeout(STOP[0].1, child.ended()).await.is_err() {
            child.kill();
            child.ended().await;
        }
        self.spawn(&spec)?;
        self.wait_ready(&spec, READY).await
    }

    /// Stops all: edges, then relays, then the controller. `Err`: some did not end well.
    pub async fn stop(&self) -> Outcome {
        let entries = {
            let mut inner = self.lock();
            inner.stopping = true;
            inner.entries.clone()
        };
        let mut unwell = Vec::new();
        for (role, within) in STOP {
            let began = Instant::now();
            // Others ended before, and that was told then.
            let alive = |entry: &&Entry| entry.child.state().is_alive();
            let of_role = entries.iter().filter(|entry| entry.spec.role == role);
            let of_role: Vec<&Entry> = of_role.filter(alive).collect();
            of_role.iter().for_each(|entry| entry.child.stop());
            for Entry { spec, child } in of_role {
                let left = within.saturating_sub(began.elapsed());
                match timeout(left, child.ended()).await {
                    Ok(State::Died { how, .. }) => unwell.push(format!("{} ({how})", spec.id)),
                    Ok(_) => {}
                    Err(_) => {
                        eprintln!("longspan up: {} does not stop; killing it", spec.id);
                        child.kill();
                        child.ended().await;
                        unwell.push(format!("{} (killed after {within:?})", spec.id));
                    }
                }
            }
        }
        match unwell.is_empty() {
            true => Ok(()),
            false => Err(Failure::failed(format!(
                "not every node ended well: {}",
                unwell.join(", ")
            ))),
        }
    }

    fn find(&self, id: &str) -> Outcome<Entry> {
        let inner = self.lock();
        let found = inner
            .entries
            .iter()
            .find(|entry| entry.spec.id.as_str() == id);
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = inner
                .entries
                .iter()
                .map(|entry| entry.spec.id.as_str())
                .collect();
            let hint = crate::failure::hint(id, known.iter().copied());
            Failure::not_found(format!(
                "no node {id}{hint}; there are {}",
                known.join(", ")
            ))
        })
    }

    fn spawn(&self, spec: &Spec) -> Outcome {
        let child = Child::spawn(spec.id.clone(), spec.role, &spec.folder)?;
        let mut inner = self.lock();
        inner.expected.remove(&spec.id);
        inner.entries.retain(|entry| entry.spec.id != spec.id);
        inner.entries.push(Entry {
            spec: spec.clone(),
            child: child.clone(),
        });
        drop(inner);
        tokio::spawn(self.clone().report(child));
        Ok(())
    }

    /// Says on stderr that a node died.
    async fn report(self, child: Child) {
        let State::Died { pid, how } = child.ended().await else {
            return;
        };
        let inner = self.lock();
        if inner.stopping || inner.expected.contains(&child.id) {
            return;
        }
        eprintln!(
            "longspan up: {} (PID {pid}) died: {how}; its log: {}; start it again: {} lab node restart {}",
            child.id,
            child.log.display(),
            inner.command,
            child.id
        );
    }

    async fn wait_ready(&self, spec: &Spec, within: Duration) -> Outcome {
        let child = self.find(&spec.id)?.child;
        let mut why = "it does not answer".to_owned();
        let ready = async {
            let url = format!("http://{}/readyz", spec.admin);
            let mut said = Instant::now();
            loop {
                match http::request(Method::GET, &url, None, None, Duration::from_secs(2)).await {
                    Ok(answer) if answer.status.is_success() => return,
                    Ok(answer) => {
                        why = String::from_utf8_lossy(&answer.body).trim().to_owned();
                    }
                    Err(_) => {}
                }
                if said.elapsed() >= PATIENCE {
                    eprintln!("longspan up: {} is not ready yet: {why}", spec.id);
                    said = Instant::now();
                }
                sleep(ASK).await;
            }
        };
        let ended = tokio::select! {
            ready = timeout(within, ready) => match ready {
                Ok(()) => return Ok(()),
                Err(_) => None,
            },
            state = child.ended() => Some(state),
        };
        let log = child.log.display().to_string();
        Err(Failure::failed(match ended {
            Some(State::Died { how, .. }) => format!(
                "{} ended while starting ({how}): {}; its log: {log}",
                spec.id,
                child.last_words()
            ),
            Some(_) => format!("{} ended while starting; its log: {log}", spec.id),
            None => format!(
                "{} is not ready after {} s: {why}; its log: {log}",
                spec.id,
                within.as_secs()
            ),
        }))
    }
}
