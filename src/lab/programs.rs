//! Programs that run on a lab's hosts under names of their own.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use longspan_lab::tun::{Lab, Process};
use longspan_proto::ids::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::control::Act;
use crate::failure::{Failure, Outcome, hint};

/// Programs under a name at once; more are refused.
pub const MAX_PROGRAMS: usize = 1_024;

/// How long a program that is restarted has to end; then it is killed.
const END: Duration = Duration::from_secs(3);

/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name in the lab.
    pub id: NodeId,
    /// On which host.
    pub host: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
}

/// All named programs of a lab.
#[derive(Debug)]
pub struct Programs {
    lab: Arc<Lab>,
    logs: PathBuf,
    running: Mutex<BTreeMap<NodeId, Running>>,
}

#[derive(Debug, Clone)]
struct Running {
    program: Program,
    process: Arc<Process>,
    frozen: bool,
}

impl Programs {
    /// None yet; their output goes to files in `logs`.
    pub fn new(lab: Arc<Lab>, logs: PathBuf) -> Programs {
        Programs {
            lab,
            logs,
            running: Mutex::default(),
        }
    }

    /// Starts one. Its name must be free: unknown, or that of one that has ended.
    pub fn start(&self, program: Program) -> Outcome<Value> {
        let mut running = self.lock();
        if running.len() >= MAX_PROGRAMS && !running.contains_key(&program.id) {
            return Err(Failure::refused(format!(
                "there are {MAX_PROGRAMS} programs, the limit"
            )));
        }
        if let Some(before) = running.get(&program.id)
            && before.process.ended().map_err(Failure::failed)?.is_none()
        {
            return Err(Failure::refused(format!("{} runs already", program.id)));
        }
        let [name, arguments @ ..] = &program.command[..] else {
            return Err(Failure::usage(format!("{} has no command", program.id)));
        };
        let mut command = Command::new(name);
        command.args(arguments).current_dir(&program.folder);
        let host = self.lab.host(&program.host).map_err(|error| {
            let names: Vec<&str> = self
                .lab
                .hosts()
                .map(|(host, _)| host.name().as_str())
                .collect();
            Failure::not_found(format!("{error}{}", hint(&program.host, names)))
        })?;
        let log = self.log(&program.id);
        let process = host.spawn(command, &log).map_err(Failure::failed)?;
        let (id, pid) = (program.id.clone(), process.pid());
        running.insert(
            id.clone(),
            Running {
                program,
                process: Arc::new(process),
                frozen: false,
            },
        );
        Ok(json!({ "node": id, "done": "started", "pid": pid, "log": log }))
    }

    /// Every one, as `lab node ls` tells it.
    pub fn list(&self) -> Vec<Value> {
        let world = self.lab.world();
        let running = self.lock();
        let told = running.values().map(|entry| {
            let Program {
                id, host, command, ..
            } = &entry.program;
            let region = world.nodes.get(host.as_str()).map(|placed| &placed.region);
            let mut told = json!({
                "id": id,
                "host": host,
                "region": region,
                "role": command[0],
                "command": command,
                "pid": entry.process.pid(),
                "log": self.log(id),
            });
            told["state"] = match entry.process.ended() {
                Ok(None) if entry.frozen => "frozen".into(),
                Ok(None) => "running".into(),
                Ok(Some(status)) => {
                    told["how"] = describe(status).into();
                    "ended".into()
                }
                Err(error) => {
                    told["how"] = error.to_string().into();
                    "ended".into()
                }
            };
            told
        });
        told.collect()
    }

    /// Does something to one.
    pub async fn act(&self, id: &str, act: Act) -> Outcome {
        let running = self.find(id)?;
        let failed = |error: io::Error| Failure::refused(format!("{id}: {error}"));
        let process = &running.process;
        match act {
            Act::Kill => {
                process.kill().map_err(failed)?;
                self.wait(process, None).await.map_err(failed)
            }
            Act::Freeze | Act::Thaw => {
                let frozen = act == Act::Freeze;
                let done = if frozen {
                    process.freeze()
                } else {
                    process.thaw()
                };
                done.map_err(failed)?;
                if let Some(running) = self.lock().get_mut(id) {
                    running.frozen = frozen;
                }
                Ok(())
            }
            Act::Restart => {
                if process.ended().map_err(failed)?.is_none() {
                    // Frozen, it would not see that it shall end.
                    let _ = process.terminate().and_then(|()| process.thaw());
                    self.wait(process, Some(END)).await.map_err(failed)?;
                }
                self.start(running.program).map(drop)
            }
        }
    }

    /// Returns when it has ended; kills it after `patience`.
    async fn wait(&self, process: &Process, patience: Option<Duration>) -> io::Result<()> {
        let mut until = patience.map(|patience| Instant::now() + patience);
        while process.ended()?.is_none() {
            if until.is_some_and(|until| Instant::now() >= until) {
                let _ = process.kill();
                until = None;
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn log(&self, id: &NodeId) -> PathBuf {
        self.logs.join(format!("{id}.txt"))
    }

    fn find(&self, id: &str) -> Outcome<Running> {
        let running = self.lock();
        running.get(id).cloned().ok_or_else(|| {
            let known: Vec<&str> = running.keys().map(NodeId::as_str).collect();
            let hint = hint(id, known.iter().copied());
            Failure::not_found(format!(
                "no program {id}{hint}; there are: {}",
                known.join(", ")
            ))
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}
