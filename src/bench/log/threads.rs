//! Threads for members, and who says something in time beside them.

use std::time::Duration;

use rustix::process::setpriority_process;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::failure::{Failure, Outcome};

/// The priority of whoever gives way to everybody (setpriority(2)).
const NICEST: i32 = 19;
/// A timer of tokio's is more than 1 ms late at times, and what a message took is counted from when it
/// was due: so the timer is set so much earlier, and the kernel's own (50 µs) does the rest.
const EARLY: Duration = Duration::from_millis(3);

/// The calling thread gives way to all others: members share the cores with the nodes, and elsewhere have
/// cores of their own.
pub fn give_way() {
    // Of the thread, not of the process. Without it, figures are worse, not wrong.
    let _ = setpriority_process(None, NICEST);
}

/// Threads that give way, in which members come in.
pub struct Threads(Option<Runtime>);

impl Threads {
    /// Starts them.
    pub fn start() -> Outcome<Threads> {
        let threads = Builder::new_multi_thread()
            .enable_all()
            .thread_name("members")
            .on_thread_start(give_way)
            .build();
        Ok(Threads(Some(threads.map_err(Failure::failed)?)))
    }

    /// Lets a task run there, as one of `tasks`.
    pub fn spawn<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        if let Some(threads) = &self.0 {
            tasks.spawn_on(task, threads.handle());
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Not waited for: a runtime must not be, inside another.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// Waits until then, and hardly longer. Blocks its thread at the end.
pub async fn until(then: Instant) {
    sleep_until(then - EARLY).await;
    std::thread::sleep(then.saturating_duration_since(Instant::now()));
}
