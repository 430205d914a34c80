//! `longspan up` as a test sees it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{http, process::Process};

/// How long a whole backbone may take to be ready, in a debug build on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// The binary that was built beside this test.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().expect("a path");
    let folder = exe.ancestors().find(|p| p.join("longspan").is_file());
    folder
        .expect("cargo build has made the longspan binary")
        .join("longspan")
}

/// A running `longspan up`.
pub struct Backbone {
    pub process: Process,
    pub info: Value,
    pub data: TempDir,
}

/// One region's addresses.
#[derive(Clone, Debug)]
pub struct Region {
    pub relay: String,
    pub relay_admin: String,
    pub edge: String,
    pub http: String,
    pub rtmp: String,
}

impl Backbone {
    /// Starts it with free ports and a data directory of its own, and waits until it is ready.
    pub fn start(args: &[&str]) -> Backbone {
        Backbone::start_with(args, &[])
    }

    /// The same with more in the environment of all its processes.
    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Backbone {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(binary());
        command
            .args(["up", "-o", "json", "--port-base", "auto", "--data-dir"])
            .arg(data.path())
            .args(args)
            .envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::spawn("longspan up", &mut command);
        let stdout = process.child().stdout.take().expect("piped");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let line = receive
            .recv_timeout(READY)
            .unwrap_or_else(|_| panic!("no ready line within {READY:?}"));
        let info: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(info["ready"], true);
        Backbone {
            process,
            info,
            data,
        }
    }

    /// The addresses of a region.
    pub fn region(&self, name: &str) -> Region {
        let regions = self.info["regions"].as_array().expect("regions");
        let region = regions
            .iter()
            .find(|r| r["region"] == name)
            .unwrap_or_else(|| panic!("no region {name}"));
        let text = |value: &Value| {
            value
                .as_str()
                .expect("text")
                .trim_end_matches('/')
                .to_owned()
        };
        Region {
            relay: text(&region["relay"]["id"]),
            relay_admin: text(&region["relay"]["admin"]),
            edge: text(&region["edge"]["id"]),
            http: text(&region["edge"]["http"]),
            rtmp: text(&region["edge"]["rtmp"]),
        }
    }

    /// GET on the controller's operator API.
    pub async fn api(&self, path: &str) -> Value {
        let base = self.info["dashboard"]
            .as_str()
            .expect("dashboard")
            .trim_end_matches('/');
        let token = self.info["admin_token"].as_str().expect("admin_token");
        http::get_as(&format!("{base}{path}"), Some(token))
            .await
            .expect("the controller answers")
            .json()
    }

    /// Runs an operator's command against this backbone; gives its exit code, stdout, stderr.
    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(binary())
            .args(args)
            .env("LONGSPAN_DATA_DIR", self.data.path())
            .stdin(Stdio::null())
            .output()
            .expect("longspan runs");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// The room as an edge tells it.
    pub async fn room(&self, region: &str, room: &str) -> Value {
        let url = format!("{}/rooms/{room}", self.region(region).http);
        http::get(&url).await.expect("the edge answers").json()
    }

    /// The regions a stream crosses on its way to an edge, without repeats; empty if it is not there.
    pub async fn path(&self, region: &str, room: &str, stream: &str) -> Vec<String> {
        let told = self.room(region, room).await;
        let streams = told["streams"].as_array().cloned().unwrap_or_default();
        let path = streams
            .iter()
            .find(|s| s["stream"] == stream)
            .and_then(|s| s["path"].as_array().cloned());
        let mut regions: Vec<String> = path
            .into_iter()
            .flatten()
            .map(|hop| hop["region"].as_str().unwrap_or_default().to_owned())
            .collect();
        regions.dedup();
        regions
    }

    /// The process id of a node.
    pub fn child(&self, node: &str) -> u32 {
        let parent = self.process.id().to_string();
        let found = std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| {
                let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                // The second field, the name, is in brackets and may hold anything.
                let (_, rest) = stat.rsplit_once(") ")?;
                let ours = rest.split(' ').nth(1) == Some(&parent);
                let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
                (ours && command.contains(node)).then_some(pid)
            });
        found
            .last()
            .unwrap_or_else(|| panic!("no process of {node}"))
    }

    /// Where its children's logs and files are.
    pub fn data(&self) -> &Path {
        self.data.path()
    }
}

impl Drop for Backbone {
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal("TERM");
            self.process.wait(Duration::from_secs(15));
        }
    }
}
