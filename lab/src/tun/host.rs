//! One host: a network namespace held by a thread, with one TUN device in it.
//!
//! A thread may have a network namespace of its own (namespaces(7)); what it starts, and every
//! socket it opens, belongs to that namespace. So a host is entered by handing its thread work,
//! and it is gone when the thread, its sockets and its processes are.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
};

use longspan_proto::ids::NodeId;
use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{Error, Process};

/// The device's name in each host.
pub const DEVICE: &str = "wan0";

/// The largest packet, in bytes: the internet's usual one.
pub const MTU: usize = 1_500;

/// Packets that wait in the kernel until the driver reads them; more are dropped and counted as
/// overrun. Enough for a burst of 1.5 MB, little enough that an overloaded lab loses packets
/// instead of delaying them unseen.
const QUEUE: usize = 1_000;

/// Is there where the kernel has IPv6 (proc_pid_net(5)).
const IPV6: &str = "/proc/net/if_inet6";

type Work = Box<dyn FnOnce() + Send>;

/// One host of a lab.
#[derive(Debug, Clone)]
pub struct Host {
    name: NodeId,
    thread: i32,
    work: mpsc::Sender<Work>,
}

impl Host {
    /// Makes the namespace and the device in it, with `addresses`.
    pub(super) fn start(
        name: &NodeId,
        addresses: &[Ipv4Addr],
    ) -> Result<(Host, Arc<SyncDevice>), Error> {
        let (work, waiting) = mpsc::channel::<Work>();
        let (tell, told) = mpsc::channel();
        let mut setup = String::from("link set lo up\n");
        if Path::new(IPV6).exists() {
            // Otherwise the kernel itself looks for routers and neighbours, which nobody here has.
            setup += &format!("link set {DEVICE} addrgenmode none\n");
        }
        for address in addresses {
            setup += &format!("address add {address}/24 dev {DEVICE}\n");
        }
        setup += &format!("link set {DEVICE} mtu {MTU} txqueuelen {QUEUE} up\n");
        let spawned = thread::Builder::new()
            .name(format!("host {name}"))
            .spawn(move || {
                let made = make(&setup).map(|device| (gettid().as_raw(), device));
                let fine = made.is_ok();
                if tell.send(made).is_ok() && fine {
                    waiting.into_iter().for_each(|work| work());
                }
            });
        spawned.map_err(|error| Error::host(name, error))?;
        // The thread tells before it ends, whatever happens.
        let made = told
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        let (thread, device) = made.map_err(|error| Error::host(name, error))?;
        let host = Host {
            name: name.clone(),
            thread,
            work,
        };
        Ok((host, Arc::new(device)))
    }

    /// Its name.
    pub fn name(&self) -> &NodeId {
        &self.name
    }

    /// Where other processes of the lab find its network namespace (`nsenter --net=…`).
    pub fn namespace(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), self.thread)
    }

    /// Does `work` in the host and gives its result. A socket that is made there stays in the
    /// host wherever it is used. Waits for what was handed over before; so the work must be short.
    pub fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = mpsc::channel();
        let work = Box::new(move || {
            let _ = tell.send(work());
        });
        let ended = || Error::host(&self.name, io::Error::other("its thread ended"));
        self.work.send(work).map_err(|_| ended())?;
        told.recv().map_err(|_| ended())
    }

    /// Starts a program in the host, with its output at the end of `log`.
    pub fn spawn(&self, command: Command, log: &Path) -> Result<Process, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log = log.to_owned();
        self.enter(move || Process::spawn(command, &log))?
            .map_err(|error| Error::program(&self.name, &program, error))
    }

    /// Starts a program in the host exactly as `command` says.
    pub fn start_with(&self, mut command: Command) -> Result<std::process::Child, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.enter(move || command.spawn())?
            .map_err(|error| Error::program(&self.name, &program, error))
    }

    /// A UDP socket in the host.
    pub fn udp(&self, address: SocketAddr) -> Result<UdpSocket, Error> {
        self.enter(move || UdpSocket::bind(address))?
            .map_err(|error| Error::host(&self.name, error))
    }

    /// A TCP connection from the host; to its own loopback it passes by the model.
    pub fn tcp(&self, address: SocketAddr) -> Result<TcpStream, Error> {
        self.enter(move || TcpStream::connect(address))?
            .map_err(|error| Error::host(&self.name, error))
    }

    /// Packets that the kernel dropped because the driver did not read them in time. Where it is
    /// not zero the lab was too slow, and what was measured is not the model.
    pub fn overrun(&self) -> Result<u64, Error> {
        let dropped = || -> io::Result<u64> {
            // Of this thread, so of this host.
            let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let line = table
                .lines()
                .find_map(|line| line.trim().strip_prefix(DEVICE)?.strip_prefix(':'));
            // The fourth counter of the sending half, after eight of the receiving one.
            let field = line.and_then(|line| line.split_whitespace().nth(8 + 3));
            field
                .and_then(|field| field.parse().ok())
                .ok_or_else(|| io::Error::other(format!("no {DEVICE} in /proc/net/dev")))
        };
        self.enter(dropped)?
            .map_err(|error| Error::host(&self.name, error))
    }
}

/// On the host's thread.
fn make(setup: &str) -> io::Result<SyncDevice> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let device = DeviceBuilder::new()
        .name(DEVICE)
        // It is up once its addresses are there.
        .enable(false)
        .build_sync()?;
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run ip: {error}")))?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(setup.as_bytes())?;
    }
    let done = ip.wait_with_output()?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("ip: {}", why.trim())));
    }
    Ok(device)
}
