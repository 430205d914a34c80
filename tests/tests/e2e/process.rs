//! Child processes that cannot outlive their test.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long a group that was told to end may take, before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A child that is killed when dropped.
pub struct Process {
    child: Child,
    name: String,
    group: bool,
}

impl Process {
    /// Starts a prepared command.
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Process {
            child,
            name: name.to_owned(),
            group: false,
        }
    }

    /// Starts a prepared command in a process group of its own, which is told to end when this is
    /// dropped, and then killed: for programs that start others, or have something to put away.
    pub fn spawn_group(name: &str, command: &mut Command) -> Process {
        let mut process = Process::spawn(name, command.process_group(0));
        process.group = true;
        process
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal by name (`TERM`, `STOP`, …).
    pub fn signal(&self, signal: &str) {
        self::signal(self.id(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait().expect("waitable") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} has not ended within {bound:?}",
                self.name
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waitable").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.group {
            self.end_group();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn end_group(&mut self) {
        let group = format!("-{}", self.child.id());
        let tell = |signal: &str| {
            // It may have ended already: then there is nobody to tell.
            let mut kill = Command::new("kill");
            kill.args([&format!("-{signal}"), "--", &group]);
            let _ = kill.stderr(Stdio::null()).status();
        };
        tell("TERM");
        let deadline = Instant::now() + FAREWELL;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        tell("KILL");
    }
}

/// Sends a signal by name to a process of the test's own.
pub fn signal(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{signal} {pid}");
}

/// Calls `check` until it gives something; panics with `what` after `bound`.
pub async fn eventually<T, F: AsyncFnMut() -> Option<T>>(
    what: &str,
    bound: Duration,
    mut check: F,
) -> T {
    let deadline = Instant::now() + bound;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
    }
}
