//! What tells a process to stop or to read its configuration again.

use std::io::Read;

use tokio::{
    signal::unix::{Signal as Stream, SignalKind, signal},
    sync::oneshot,
};

use crate::failure::{Failure, Outcome};

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT, or the parent is gone.
    Stop,
    /// SIGHUP.
    Reload,
}

/// All of them.
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    parent: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// Begins to listen; `with_parent`: also for the end of standard input.
    pub fn new(with_parent: bool) -> Outcome<Signals> {
        let listen = |kind| signal(kind).map_err(Failure::failed);
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            parent: with_parent.then(watch_stdin),
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        let parent = async {
            match &mut self.parent {
                Some(parent) => {
                    let _ = parent.await;
                }
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
            () = parent => {
                self.parent = None;
                Signal::Stop
            }
        };
        signal
    }
}

/// A thread, because a blocked read of standard input would hold up tokio's shutdown.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (gone, parent) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while std::io::stdin()
            .read(&mut buffer)
            .is_ok_and(|read| read > 0)
        {}
        let _ = gone.send(());
    });
    parent
}
