//! `longspan up` and its children: started, watched, stopped, none left behind.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::longspan;

/// How long a backbone may take to be ready: an unoptimised build on a busy machine.
const READY: Duration = Duration::from_secs(120);
/// How long anything else may take.
const SOON: Duration = Duration::from_secs(30);

struct Up {
    child: Child,
    data: TempDir,
    ready: Value,
    said: Receiver<String>,
}

impl Up {
    fn start() -> Up {
        let data = tempfile::tempdir().expect("a folder");
        let mut child = longspan(&["up", "-o", "json", "--port-base", "auto"])
            .args(["--regions", "cn-shanghai,hk", "--no-sample", "--data-dir"])
            .arg(data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("longspan runs");
        let said = lines(child.stderr.take().expect("piped"));
        let out = lines(child.stdout.take().expect("piped"));
        let line = out.recv_timeout(READY).unwrap_or_else(|_| {
            let _ = child.kill();
            let said: Vec<String> = said.try_iter().collect();
            panic!("no ready line: {said:?}")
        });
        let ready = serde_json::from_str(&line).expect("JSON");
        Up {
            child,
            data,
            ready,
            said,
        }
    }

    fn longspan(&self, args: &[&str]) -> (i32, String, String) {
        let output = longspan(args)
            .env("LONGSPAN_DATA_DIR", self.data.path())
            .output()
            .expect("longspan runs");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// The processes of all nodes: (id, state, PID).
    fn nodes(&self) -> Vec<(String, String, u32)> {
        let (code, out, errors) = self.longspan(&["lab", "node", "ls", "-o", "json"]);
        assert_eq!(code, 0, "{errors}");
        let nodes: Vec<Value> = serde_json::from_str(&out).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        nodes
            .iter()
            .map(|node| {
                let pid = node["pid"].as_u64().unwrap_or(0) as u32;
                (text(&node["id"]), text(&node["state"]), pid)
            })
            .collect()
    }

    /// A URL of a region's node.
    fn region(&self, region: &str, role: &str, url: &str) -> String {
        let regions = self.ready["regions"].as_array().expect("regions");
        let found = regions.iter().find(|found| found["region"] == region);
        found.expect("the region")[role][url]
            .as_str()
            .expect("a URL")
            .to_owned()
    }

    fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its children end with their standard input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{signal} {pid}");
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !check() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn is_alive(pid: u32) -> bool {
    // A zombie that nobody reaped yet is gone all the same.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
    })
}

fn get(url: &str) -> (u16, String) {
    use std::io::Write;
    let rest = url.strip_prefix("http://").expect("http");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = std::net::TcpStream::connect(host).expect("somebody listens");
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), answer)
}

#[test]
fn a_backbone_starts_tells_of_a_death_and_leaves_nothing_behind() {
    let mut up = Up::start();
    let ready = up.ready.clone();
    assert_eq!(ready["ready"], true);
    let regions = ready["regions"].as_array().expect("regions");
    assert_eq!(regions.len(), 2);
    for region in regions {
        for admin in [&region["relay"]["admin"], &region["edge"]["admin"]] {
            let admin = admin.as_str().expect("a URL");
            assert_eq!(get(&format!("{admin}/readyz")).0, 200);
            assert_eq!(get(&format!("{admin}/nothing")).0, 404);
            let (_, metrics) = get(&format!("{admin}/metrics"));
            assert!(metrics.contains("longspan_build_info"), "{metrics}");
        }
    }
    let nodes = up.nodes();
    assert_eq!(nodes.len(), 5);
    assert!(
        nodes.iter().all(|(_, state, _)| state == "running"),
        "{nodes:?}"
    );

    // The operator's verbs find it by its data directory.
    let (code, out, errors) = up.longspan(&["node", "ls"]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        out.contains("hk-relay-1") && out.contains("cn-shanghai-edge-1"),
        "{out}"
    );

    // Another one in the same directory is refused, naming it and the PID.
    let (code, _, errors) = up.longspan(&["up", "--port-base", "auto"]);
    assert_eq!(code, 4, "{errors}");
    let (pid, dir) = (
        up.child.id().to_string(),
        up.data.path().to_str().expect("text"),
    );
    assert!(errors.contains(&pid) && errors.contains(dir), "{errors}");

    // A node that dies is shown, not hidden; it can be started again.
    let (_, _, killed) = &nodes[3];
    let victim = nodes[3].0.as_str();
    kill(*killed, "KILL");
    eventually("the death is told", || {
        up.said
            .try_iter()
            .any(|line| line.contains(victim) && line.contains("signal 9"))
    });
    let died = |nodes: Vec<(String, String, u32)>| {
        nodes
            .iter()
            .any(|(id, state, _)| id == victim && state == "died")
    };
    assert!(died(up.nodes()));
    let (code, _, errors) = up.longspan(&["lab", "node", "kill", victim]);
    assert_eq!(code, 4, "{errors}");
    let (code, _, errors) = up.longspan(&["lab", "node", "restart", victim]);
    assert_eq!(code, 0, "{errors}");
    assert!(!died(up.nodes()));
    let (code, _, errors) = up.longspan(&["lab", "node", "kill", "hk-relay-9"]);
    assert_eq!(code, 3, "{errors}");

    // A frozen one is shown as such, keeps its process, and goes on.
    let state = |up: &Up| {
        let nodes = up.nodes().into_iter();
        let mut found = nodes.filter(|(id, _, _)| id == victim);
        found.next().map(|(_, state, pid)| (state, pid))
    };
    let before = state(&up).expect("the node");
    let (code, _, errors) = up.longspan(&["lab", "node", "stop", victim]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(state(&up), Some(("frozen".to_owned(), before.1)));
    // T: stopped (proc(5)).
    let stat = fs::read_to_string(format!("/proc/{}/stat", before.1)).expect("it is there");
    assert!(stat.contains(") T "), "{stat}");
    let (code, _, errors) = up.longspan(&["lab", "node", "continue", victim]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(state(&up), Some(before));

    // Ctrl-C: everything ends within five seconds, in order, and nothing is left.
    let pids: Vec<u32> = up.nodes().iter().map(|(_, _, pid)| *pid).collect();
    let began = Instant::now();
    up.signal("INT");
    let status = up.child.wait().expect("it ends");
    // What it promises, and a margin for a machine that does other things too.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(status.success(), "{status}");
    for pid in pids {
        assert!(!is_alive(pid), "PID {pid} is left behind");
    }
    assert!(!up.data.path().join("up.json").exists());
}

#[test]
fn faults_are_laid_and_lifted_while_it_runs() {
    let up = Up::start();
    let world = |up: &Up| -> Value {
        let file = fs::read(up.data.path().join("world.json")).expect("a world");
        serde_json::from_slice(&file).expect("JSON")
    };
    let (code, _, errors) = up.longspan(&[
        "lab",
        "link",
        "degrade",
        "cn-shanghai",
        "hk",
        "--delay",
        "300ms",
    ]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(world(&up)["faults"].as_array().map(Vec::len), Some(2));
    let (code, _, errors) = up.longspan(&["lab", "link", "cut", "cn-shanghai", "hk", "--one-way"]);
    assert_eq!(code, 0, "{errors}");
    let (code, out, errors) = up.longspan(&["lab", "link", "ls"]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        out.lines().filter(|line| line.starts_with("fault")).count() == 2,
        "{out}"
    );
    let (code, _, errors) = up.longspan(&["lab", "link", "restore", "cn-shanghai", "hk"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(world(&up)["faults"].as_array().map(Vec::len), Some(0));
    let (code, _, errors) = up.longspan(&["lab", "link", "restore", "cn-shanghai", "hk"]);
    assert_eq!(code, 3, "{errors}");
    let (code, _, errors) = up.longspan(&["lab", "link", "cut", "cn-shangai", "hk"]);
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("did you mean cn-shanghai"), "{errors}");
}

#[test]
fn a_node_reads_its_configuration_again_or_keeps_the_last_good_one() {
    let up = Up::start();
    let folder = up.data.path().join("nodes/hk-edge-1");
    let edge = up.nodes().into_iter().find(|(id, ..)| id == "hk-edge-1");
    let (_, _, pid) = edge.expect("an edge");
    let file = folder.join("config.toml");
    let good = fs::read_to_string(&file).expect("a configuration");
    let reload = |text: &str, wanted: &str| {
        fs::write(&file, text).expect("written");
        kill(pid, "HUP");
        eventually(wanted, || {
            fs::read_to_string(folder.join("log.txt")).is_ok_and(|log| log.contains(wanted))
        });
    };
    reload(
        &format!("{good}\n[log]\nlevle = \"debug\"\n"),
        "keeping the last good configuration",
    );
    reload(
        &format!("{good}\n[log]\nlevel = \"debug,h2=info\"\n"),
        "configuration reloaded",
    );
    reload(&good.replace("Hong Kong", "Kowloon"), "it takes a restart");

    // Keys are read again: a token that nobody could know before opens a room now.
    let edge = up.region("hk", "edge", "http");
    let keys = up.data.path().join("jwt-keys.toml");
    let (code, _, errors) = up.longspan(&[
        "key",
        "create",
        "--id",
        "school",
        "--file",
        keys.to_str().expect("text"),
    ]);
    assert_eq!(code, 0, "{errors}");
    let mint = [
        "key", "token", "--id", "school", "--room", "math", "--ttl", "1h",
    ];
    let (code, token, errors) = up.longspan(&mint);
    assert_eq!(code, 0, "{errors}");
    let room = format!("{edge}/rooms/math?token={}", token.trim());
    assert_eq!(get(&room).0, 401);
    kill(pid, "HUP");
    eventually("the new key is known", || get(&room).0 == 200);
}

#[test]
fn nodes_die_with_it_even_if_it_is_killed() {
    let up = Up::start();
    let pids: Vec<u32> = up.nodes().iter().map(|(_, _, pid)| *pid).collect();
    assert_eq!(pids.len(), 5);
    up.signal("KILL");
    eventually("all nodes have ended", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
    assert!(Path::new(up.data.path()).exists());
}
