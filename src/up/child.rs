//! One node as a process of its own. Its standard input is a pipe that only we hold: when it ends
//! (because we say so, or because we are gone, however that came) the node stops.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use longspan_proto::ids::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::{
    process::Command,
    sync::{mpsc, watch},
};

use crate::{
    config::Role,
    failure::{Failure, Outcome},
};

/// This very program, also after its file was replaced by another build (Linux, proc(5)).
const PROGRAM: &str = "/proc/self/exe";

/// Orders waiting for one node's process.
const ORDERS: usize = 4;

/// How a node's process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running {
        /// As this process.
        pid: u32,
    },
    /// It was told to do nothing (SIGSTOP).
    Frozen {
        /// As this process.
        pid: u32,
    },
    /// It was told to end and did.
    Stopped,
    /// It ended without being told.
    Died {
        /// Which process it was.
        pid: u32,
        /// With what.
        how: String,
    },
}

/// A node and its process.
#[derive(Debug, Clone)]
pub struct Child {
    /// The node's name.
    pub id: NodeId,
    /// Its log.
    pub log: PathBuf,
    state: watch::Receiver<State>,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Stop,
    Kill,
    Freeze,
    Thaw,
}

impl State {
    /// Whether there is a process.
    pub fn is_alive(&self) -> bool {
        matches!(self, State::Running { .. } | State::Frozen { .. })
    }
}

impl Child {
    /// Starts the node whose files are in `folder`.
    pub fn spawn(id: NodeId, role: Role, folder: &Path) -> Outcome<Child> {
        let failed =
            |why: &dyn std::fmt::Display| Failure::failed(format!("cannot start {id}: {why}"));
        let log = folder.join("log.txt");
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(|error| failed(&error))?;
        let mut child = Command::new(PROGRAM)
            .arg0("longspan")
            .arg(role.to_string())
            .arg("--config")
            .arg(folder.join("config.toml"))
            .arg("--with-parent")
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(|error| failed(&error))?)
            .stderr(file)
            // Ctrl-C in the terminal is ours alone: nodes end in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let pid = child.id().unwrap_or_default();
        let mut stdin = child.stdin.take();
        let (orders, mut waiting) = mpsc::channel(ORDERS);
        let (tell, state) = watch::channel(State::Running { pid });
        tokio::spawn(async move {
            let (mut told, mut open) = (false, true);
            let ended = loop {
                tokio::select! {
                    ended = child.wait() => break ended,
                    order = waiting.recv(), if open => match order {
                        Some(Order::Freeze) => {
                            if signal(pid, Signal::STOP) {
                                tell.send_replace(State::Frozen { pid });
                            }
                        }
                        Some(Order::Thaw) => {
                            if signal(pid, Signal::CONT) {
                                tell.send_replace(State::Running { pid });
                            }
                        }
                        Some(Order::Stop) => {
                            told = true;
                            drop(stdin.take());
                            // A frozen one would not hear of it.
                            signal(pid, Signal::CONT);
                        }
                        Some(Order::Kill) | None => {
                            // With the last handle gone nobody could stop it later.
                            open = order.is_some();
                            drop(stdin.take());
                            let _ = child.start_kill();
                        }
                    }
                }
            };
            let state = match ended {
                Ok(status) if told && status.success() => State::Stopped,
                Ok(status) => State::Died {
                    pid,
                    how: describe(status),
                },
                Err(error) => State::Died {
                    pid,
                    how: error.to_string(),
                },
            };
            tell.send_replace(state);
        });
        Ok(Child {
            id,
            log,
            state,
            orders,
        })
    }

    /// How it is now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Asks it to end.
    pub fn stop(&self) {
        let _ = self.orders.try_send(Order::Stop);
    }

    /// Ends it, whatever it does.
    pub fn kill(&self) {
        let _ = self.orders.try_send(Order::Kill);
    }

    /// Freezes it or lets it go on; returns when that is done, or it has ended.
    pub async fn freeze(&self, frozen: bool) {
        let order = if frozen { Order::Freeze } else { Order::Thaw };
        let _ = self.orders.send(order).await;
        let mut state = self.state.clone();
        let done =
            |state: &State| !state.is_alive() || matches!(state, State::Frozen { .. }) == frozen;
        let _ = state.wait_for(done).await;
    }

    /// Returns when its process is gone, with how.
    pub async fn ended(&self) -> State {
        let mut state = self.state.clone();
        let ended = state
            .wait_for(|state| !state.is_alive())
            .await
            .map(|state| state.clone());
        ended.unwrap_or(State::Stopped)
    }

    /// The last line of its log.
    pub fn last_words(&self) -> String {
        /// Enough for a few long lines.
        const TAIL: u64 = 8 << 10;
        let tail = || -> std::io::Result<String> {
            use std::io::{Read, Seek, SeekFrom};
            let mut file = std::fs::File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let tail = tail().unwrap_or_default();
        let line = tail.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("nothing in its log").trim().to_owned()
    }
}

/// Only while it has not been waited for: then the number is its own.
fn signal(pid: u32, signal: Signal) -> bool {
    let pid = Pid::from_raw(pid.cast_signed());
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}
