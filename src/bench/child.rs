//! A node as a process of its own, so that its CPU and memory are told apart from the load's.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{spec, usage::Usage};
use crate::failure::{Failure, Outcome};

/// How long a child may take to listen; a loaded machine takes a second.
const START: Duration = Duration::from_secs(10);
/// The same until its neighbours are connected: a few round trips around the world.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a child may take to say goodbye before it is killed.
const GOODBYE: Duration = Duration::from_secs(3);

/// Ends with this value, or with this process however that ends.
pub struct Process {
    name: String,
    child: Child,
    said: mpsc::Receiver<String>,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Starts `longspan bench node` on a spec file and waits until it listens.
    pub fn start(name: &str, spec: &Path) -> Outcome<Process> {
        let cannot =
            |why: &dyn std::fmt::Display| Failure::failed(format!("{name} does not start: {why}"));
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut child = Command::new(program)
            .args(["bench", "node", "--spec"])
            .arg(spec)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| cannot(&error))?;
        let stdout = child.stdout.take();
        let (say, said) = mpsc::channel();
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = told.clone();
        thread::spawn(move || {
            let lines = stdout
                .into_iter()
                .flat_map(|stdout| BufReader::new(stdout).lines());
            for line in lines.map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(object @ Value::Object(_)) => lock(&telling).push(object),
                    // Nobody waits for a word any more; what it tells is still taken.
                    _ => drop(say.send(line)),
                }
            }
        });
        let process = Process {
            name: name.to_owned(),
            child,
            said,
            told,
        };
        process.says(spec::LISTENS, START)?;
        Ok(process)
    }

    /// Waits until it is connected to all its neighbours.
    pub fn connected(&self) -> Outcome {
        self.says(spec::CONNECTED, CONNECT)
    }

    fn says(&self, word: &str, bound: Duration) -> Outcome {
        match self.said.recv_timeout(bound) {
            Ok(line) if line == word => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::failed(format!(
                "{}: not within {bound:?}: {word}",
                self.name
            ))),
            _ => Err(Failure::failed(format!(
                "{} ended; its reason stands above",
                self.name
            ))),
        }
    }

    /// What it has told of its links since it was asked last, in order.
    pub fn told(&self) -> Vec<Value> {
        std::mem::take(&mut lock(&self.told))
    }

    /// What it has used so far.
    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of(self.child.id())
            .ok_or_else(|| Failure::failed(format!("{} ended during the run", self.name)))
    }
}

fn lock(told: &Mutex<Vec<Value>>) -> MutexGuard<'_, Vec<Value>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is its sign to leave.
        drop(self.child.stdin.take());
        let deadline = Instant::now() + GOODBYE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
