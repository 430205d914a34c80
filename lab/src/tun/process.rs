//! A program in a host.

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A program in a host, with its output in a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    child: Mutex<Child>,
}

impl Process {
    /// Starts it from the calling thread, so in that thread's network namespace. Standard output
    /// and error go to the end of `log`.
    pub(super) fn spawn(mut command: Command, log: &Path) -> io::Result<Process> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Process {
            pid: child.id(),
            child: Mutex::new(child),
        })
    }

    /// Its process, as the lab sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// SIGTERM: asks it to end.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGSTOP: it does nothing until it is thawed, and its peers are not told.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.lock().try_wait()
    }

    /// Signals it unless it has ended: until its end is read here the number is its own.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut child = self.lock();
        if child.try_wait()?.is_some() {
            return Err(io::Error::other("it has ended"));
        }
        kill(Pid::from_raw(self.pid.cast_signed()), signal).map_err(io::Error::from)
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.lock();
        let _ = child.kill();
        let _ = child.wait();
    }
}
