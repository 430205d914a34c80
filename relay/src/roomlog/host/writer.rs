//! The thread that writes: whatever waits goes into one transaction, with one sync.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::super::{
    disk::{Disk, DiskError},
    group::Persist,
};

/// Writes that wait. When full, the host waits, and with it every group of this node: a disk that is
/// so slow must not lead.
const WRITES: usize = 4_096;

/// Writes in one transaction; more wait for the next.
const BATCH: usize = 1_024;

/// Which life of a group a write is of: one that was begun anew counts from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life(pub u64);

/// What became of writes.
#[derive(Debug)]
pub(super) enum Written {
    /// These are safe: group, life, number.
    Safe(Vec<(u64, Life, u64)>),
    /// The disk did not do what it should. Nothing is written any more.
    Failed(DiskError),
}

type Change = Box<dyn FnOnce(&Disk) -> Result<(), DiskError> + Send>;

enum Job {
    Write(u64, Life, Persist),
    Change(Change, oneshot::Sender<()>),
}

/// See the [module](self).
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Begins; what is safe, or that nothing is any more, comes out of the receiver. It waits there
    /// for at most as many writes as wait to be written.
    pub fn start(disk: Disk) -> (Writer, mpsc::UnboundedReceiver<Written>) {
        let (jobs, waiting) = mpsc::channel(WRITES);
        let (tell, told) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            if let Err(error) = work(&disk, waiting, &tell) {
                // Whoever listened is gone: so is the node.
                let _ = tell.send(Written::Failed(error));
            }
        });
        (Writer { jobs, thread }, told)
    }

    /// Writes this after all that was to be written before.
    pub async fn write(&self, group: u64, life: Life, persist: Persist) {
        // If the thread has ended, it told why.
        let _ = self.jobs.send(Job::Write(group, life, persist)).await;
    }

    /// Makes a change and waits until it is safe; false: the disk failed.
    pub async fn change(
        &self,
        change: impl FnOnce(&Disk) -> Result<(), DiskError> + Send + 'static,
    ) -> bool {
        let (done, safe) = oneshot::channel();
        let _ = self.jobs.send(Job::Change(Box::new(change), done)).await;
        safe.await.is_ok()
    }

    /// Writes what waits and closes the file.
    pub async fn close(self) {
        drop(self.jobs);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

fn work(
    disk: &Disk,
    mut jobs: mpsc::Receiver<Job>,
    tell: &mpsc::UnboundedSender<Written>,
) -> Result<(), DiskError> {
    let mut next = jobs.blocking_recv();
    while let Some(job) = next.take() {
        match job {
            Job::Change(change, done) => {
                change(disk)?;
                let _ = done.send(());
            }
            Job::Write(group, life, persist) => {
                let mut batch = vec![(group, life, persist)];
                while batch.len() < BATCH {
                    match jobs.try_recv() {
                        Ok(Job::Write(group, life, persist)) => batch.push((group, life, persist)),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                disk.write(batch.iter().map(|(group, _, persist)| (*group, persist)))?;
                let safe = batch
                    .iter()
                    .map(|(group, life, p)| (*group, *life, p.number));
                let _ = tell.send(Written::Safe(safe.collect()));
            }
        }
        if next.is_none() {
            next = jobs.blocking_recv();
        }
    }
    Ok(())
}
