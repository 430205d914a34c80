//! A real etcd for tests, on free ports, killed when dropped.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Error, Store, etcd::Etcd};

/// How long one call may take; short, so that outages show soon.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The etcd programs to test with: `LONGSPAN_TEST_ETCD` (else the system's), and a second of
/// another version in `LONGSPAN_TEST_ETCD_35`.
pub fn programs() -> Vec<String> {
    let first = std::env::var("LONGSPAN_TEST_ETCD").unwrap_or_else(|_| "/usr/bin/etcd".into());
    let second = std::env::var("LONGSPAN_TEST_ETCD_35").ok();
    std::iter::once(first).chain(second).collect()
}

/// A running etcd.
pub struct Server {
    program: String,
    data: tempfile::TempDir,
    client: String,
    peer: String,
    child: Option<Child>,
}

impl Server {
    /// Starts it, and waits until it answers.
    pub async fn start(program: &str) -> Server {
        let url = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let mut server = Server {
            program: program.into(),
            data: tempfile::tempdir().expect("a temporary directory"),
            client: url(),
            peer: url(),
            child: None,
        };
        server.run();
        server.answers().await;
        server
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        self.client.clone()
    }

    /// A store on it.
    pub async fn store(&self) -> Etcd {
        let etcd = Etcd::open(&[self.endpoint()], TIMEOUT).await;
        etcd.expect("a valid endpoint")
    }

    /// Starts the process on the same data and ports.
    pub fn run(&mut self) {
        let log = self.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(log);
        let child = Command::new(&self.program)
            .args(["--name", "test", "--log-level", "error"])
            .arg("--data-dir")
            .arg(self.path().join("data"))
            .args(["--listen-client-urls", &self.client])
            .args(["--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer])
            .args(["--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &format!("test={}", self.peer)])
            // Flushes cost what the disk costs; tests do not pull plugs.
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("{}: {e}", self.program)));
    }

    fn path(&self) -> &Path {
        self.data.path()
    }

    /// Waits until it answers.
    pub async fn answers(&self) {
        let store = self.store().await;
        for _ in 0..100 {
            match store.read("/", None).await {
                Ok(_) => return,
                Err(Error::Unavailable(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let log = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
        panic!("etcd does not answer: {log}");
    }

    /// Kills the process; its data stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `kill -SIGNAL`: `STOP` makes it hang, `CONT` go on.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let done = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
