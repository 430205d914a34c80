//! Child processes that cannot outlive their test.

use std::{
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

/// A child that is killed when dropped.
pub struct Process {
    child: Child,
    name: String,
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
        }
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
        let _ = self.child.kill();
        let _ = self.child.wait();
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
