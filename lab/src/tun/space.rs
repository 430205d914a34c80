//! A space of its own for a lab: mount, process and network namespaces, so that what runs in it
//! sees and reaches nothing else, and ends with it, however it ends.
//!
//! ```text
//!   outer (the caller's process)          waits; passes signals on
//!   └─ init (PID 1 of the space)          killed by the kernel when outer dies; takes in orphans
//!      └─ inner (the lab), and all it starts: killed by the kernel when init dies
//! ```
//!
//! Whoever has the right (root) needs no user namespace; anybody else gets one, as its root.

use std::{
    env, fs, io,
    ops::ControlFlow,
    os::unix::process::{ExitStatusExt, parent_id},
    path::Path,
    process::{Child, Command, ExitStatus},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getegid, geteuid},
};

use super::Error;

/// Set for the inner process.
const INSIDE: &str = "LONGSPAN_LAB_INSIDE";

/// Tells init who its parent is.
const OUTER: &str = "LONGSPAN_LAB_OUTER";

/// Whether this process is in a space.
pub fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Whether this process is the inner one of a space, the child of its init. Ask before the first
/// thread is started: the signals that init takes for itself are let through again here, since a
/// process starts with those blocked that its parent blocks (execve(2)).
pub fn is_inner() -> bool {
    let inner = inside() && parent_id() == 1;
    if inner {
        let _ = passed_on().thread_unblock();
    }
    inner
}

/// Makes a space, runs `init` in it (which calls [`init`]) and waits for it. Call it before the
/// process has a second thread: the kernel refuses it afterwards. SIGTERM and SIGHUP are passed
/// on; SIGINT is not, because a terminal sends it to all of them.
pub fn enter(mut init: Command) -> Result<ExitStatus, Error> {
    needs()?;
    let outside = fs::read_link("/proc/self").map_err(|error| {
        Error::Missing(format!(
            "cannot read /proc/self: {error}; a lab needs /proc"
        ))
    })?;
    separate()?;
    let signals = passed_on();
    signals
        .thread_block()
        .map_err(|error| Error::Missing(format!("cannot block signals: {error}")))?;
    let mut child = init
        .env(OUTER, outside)
        .spawn()
        .map_err(|error| Error::Missing(format!("cannot start the lab's init: {error}")))?;
    loop {
        match wait_signal(&signals) {
            Signal::SIGCHLD => {
                if let Ok(Some(status)) = child.try_wait() {
                    return Ok(status);
                }
            }
            Signal::SIGINT => {}
            other => pass_on(&child, other),
        }
    }
}

/// PID 1 of the space: runs `inner`, takes in orphans, and ends with the exit code of `inner`.
pub fn init(mut inner: Command) -> Result<u8, Error> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: Errno| Error::Missing(format!("{what}: {error}"))
    };
    // From here on the kernel ends this process, and so all of them, with the outer one; unless it
    // ended before.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("cannot follow the parent's death"))?;
    let parent = env::var(OUTER).ok();
    if std::process::id() != 1 || parent.is_none() || parent != parent_outside() {
        return Err(Error::Missing(
            "this is a part of longspan lab; it is not called by hand".to_owned(),
        ));
    }
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    // Below, so that the mount is not seen outside. In a chroot the root is no mount point.
    let _ = mount(none, "/", none, private, none);
    mount(none, "/proc", none, private, none).map_err(failed("cannot make /proc private"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(failed(
        "cannot mount a /proc of the lab's own (in a container /proc must not be masked)",
    ))?;
    let signals = passed_on();
    signals
        .thread_block()
        .map_err(failed("cannot block signals"))?;
    let child = inner
        .env(INSIDE, "1")
        .env_remove(OUTER)
        .spawn()
        .map_err(|error| Error::Missing(format!("cannot start the lab: {error}")))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    loop {
        match wait_signal(&signals) {
            Signal::SIGCHLD => {
                if let ControlFlow::Break(code) = reap(pid) {
                    return Ok(code);
                }
            }
            Signal::SIGINT => {}
            other => pass_on(&child, other),
        }
    }
}

/// Moves this thread into a host's network namespace (see [`Host::namespace`](super::Host)). For
/// processes of the same space.
pub fn join_host(namespace: &Path) -> Result<(), Error> {
    let file = fs::File::open(namespace)
        .map_err(|error| Error::Missing(format!("cannot open {}: {error}", namespace.display())))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .map_err(|error| Error::Missing(format!("cannot enter {}: {error}", namespace.display())))
}

/// Moves this process into the space that the process `outer` made, and into one host there. What
/// it starts then ends with the space. Only for a process without other threads.
pub fn join(outer: u32, namespace: &Path) -> Result<(), Error> {
    let gone = |why: &dyn std::fmt::Display| {
        Error::Missing(format!("cannot enter the lab of PID {outer}: {why}"))
    };
    let children = format!("/proc/{outer}/task/{outer}/children");
    let children = fs::read_to_string(&children).map_err(|error| gone(&error))?;
    let init = children.split_whitespace().next();
    let init = init.ok_or_else(|| gone(&"it has no init"))?;
    // Opened before the first is entered: then /proc and rights are different ones.
    let mut joined = Vec::new();
    for (name, kind) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{name}"));
        // One may not enter the user namespace in which one is.
        if of(init).map_err(|error| gone(&error))? != of("self").map_err(|error| gone(&error))? {
            let file = fs::File::open(format!("/proc/{init}/ns/{name}"));
            joined.push((file.map_err(|error| gone(&error))?, kind));
        }
    }
    let folder = env::current_dir();
    for (file, kind) in joined {
        setns(file, kind).map_err(|error| gone(&error))?;
    }
    // Entering a mount namespace leads to its root.
    if let Ok(folder) = folder {
        let _ = env::set_current_dir(folder);
    }
    join_host(namespace)
}

/// The exit code of a process as a shell tells it.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What a lab takes from the system, asked for before anything is changed.
fn needs() -> Result<(), Error> {
    const TUN: &str = "/dev/net/tun";
    let tun = fs::File::options().read(true).write(true).open(TUN);
    tun.map_err(|error| {
        let how = match error.kind() {
            io::ErrorKind::NotFound => "load the kernel's module: modprobe tun",
            io::ErrorKind::PermissionDenied => {
                "let users open it (chmod 0666 /dev/net/tun, as distributions do), or be root"
            }
            _ => "in a container, pass the device to it (--device /dev/net/tun)",
        };
        Error::Missing(format!(
            "a lab needs {TUN}, but it cannot be opened: {error}; {how}"
        ))
    })?;
    Command::new("ip").arg("-V").output().map_err(|error| {
        Error::Missing(format!(
            "a lab needs the program ip, but it cannot be run: {error}; install the Debian package iproute2"
        ))
    })?;
    Ok(())
}

/// Namespaces of our own; for those who may not make them, a user namespace first, in which they may.
fn separate() -> Result<(), Error> {
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    let refused = |error: Errno| {
        let why = match error {
            Errno::EPERM => {
                "user namespaces are not allowed here (see sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; in a chroot or container be root with CAP_SYS_ADMIN)"
            }
            Errno::ENOSPC => "no more of them are allowed (see sysctl user.max_user_namespaces)",
            _ => "does the kernel have them (CONFIG_USER_NS, CONFIG_NET_NS, CONFIG_PID_NS)?",
        };
        Error::Missing(format!("a lab needs namespaces of its own: {error}; {why}"))
    };
    match unshare(namespaces) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(refused(error)),
    }
    // Root in there, ourselves outside (user_namespaces(7): groups first, then the maps).
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | namespaces).map_err(refused)?;
    let files = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ];
    for (name, text) in files {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text)
            .map_err(|error| Error::Missing(format!("cannot write {path}: {error}")))?;
    }
    Ok(())
}

/// As the /proc of the outer process tells it; in the space itself a parent outside has no number.
fn parent_outside() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(parent.trim().to_owned())
}

/// Ended processes leave the table; `Break` with its exit code once `main` has ended.
fn reap(main: Pid) -> ControlFlow<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => {
                return ControlFlow::Break(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                return ControlFlow::Break(128 + signal as u8);
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return ControlFlow::Continue(()),
            Ok(_) => {}
        }
    }
}

fn passed_on() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        signals.add(signal);
    }
    signals
}

fn wait_signal(signals: &SigSet) -> Signal {
    // Only a signal that is not in the set could make it fail: ask again.
    loop {
        if let Ok(signal) = signals.wait() {
            return signal;
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    // It has not been waited for, so the number is its own.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
}
