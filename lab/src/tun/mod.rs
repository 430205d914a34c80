//! The TUN driver: hosts in network namespaces, and between them nothing but the model. Real,
//! unmodified programs run in them, ours and others.
//!
//! ```text
//!   host a: wan0 ──read──▶ reader of a: Lane a → b decides ──▶ queue of b ──when due──▶ wan0 :host b
//! ```
//!
//! Each host is a network namespace with one TUN device, whose other end is this process. A reader
//! thread for each host takes every packet that leaves it and asks the lane of (from, to, net),
//! where the destination's address tells host and net; a writer thread for each host lets arrive
//! what is due. There is no router and no other way out. What a host sends to itself stays in it.
//!
//! A process that does this has to be in a [`space`] of its own, so that its end is the end of
//! everything in it.

mod host;
mod packet;
mod process;
pub mod space;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use longspan_proto::ids::{Net, NodeId, Region, Zone};
use serde::Serialize;
use tun_rs::SyncDevice;

pub use host::{DEVICE, Host, MTU};
pub use process::Process;

pub use crate::delay::Began as Clock;
use crate::{
    delay::{Began, Queue, Refused},
    wan::Verdict,
    world::{Change, ChangeError, Counts, Followed, Live, Placed, Who, World},
};
use packet::Header;

/// Hosts of one lab. Each costs two threads and a network namespace; their addresses are of one /24.
pub const MAX_HOSTS: usize = 250;

/// Nets of one lab, the internet among them; each is a /24 of its own.
pub const MAX_NETS: usize = 200;

/// Why a lab did not start, or a host did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the system's is missing; the text says what, and how to get it.
    #[error("{0}")]
    Missing(String),
    /// The world cannot be laid between hosts.
    #[error("{0}")]
    World(String),
    /// Nobody is called so.
    #[error("no host {name}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All there are.
        known: String,
    },
    /// The system refused something to a host.
    #[error("host {host}: {source}")]
    Host {
        /// Which.
        host: NodeId,
        /// Why.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program} in host {host}: {source}")]
    Program {
        /// Where.
        host: NodeId,
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    fn host(host: &NodeId, source: io::Error) -> Error {
        Error::Host {
            host: host.clone(),
            source,
        }
    }

    fn program(host: &NodeId, program: &str, source: io::Error) -> Error {
        Error::Program {
            host: host.clone(),
            program: program.to_owned(),
            source,
        }
    }
}

/// A host that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: NodeId,
    /// Where it is.
    pub region: Region,
    /// In which data centre there.
    pub zone: Option<Zone>,
    /// On which leased lines it is, beside the internet.
    pub lines: Vec<Net>,
}

/// Gives each host its addresses: on the internet 10.77.0.N for the N-th host, on the M-th line
/// (by name) 10.77.M.N. The port is 0: it does not matter.
pub fn place(hosts: &[Spec]) -> Result<BTreeMap<NodeId, Placed>, Error> {
    let mut lines: Vec<&Net> = hosts.iter().flat_map(|host| &host.lines).collect();
    lines.sort();
    lines.dedup();
    if hosts.len() > MAX_HOSTS {
        let count = hosts.len();
        return Err(Error::World(format!(
            "{count} hosts; the limit is {MAX_HOSTS}"
        )));
    }
    if lines.len() + 1 > MAX_NETS {
        let count = lines.len() + 1;
        return Err(Error::World(format!(
            "{count} nets; the limit is {MAX_NETS}"
        )));
    }
    let mut placed = BTreeMap::new();
    for (index, host) in hosts.iter().enumerate() {
        let address = |net: usize| SocketAddr::from(([10, 77, net as u8, index as u8 + 1], 0));
        let on = host.lines.iter().map(|line| {
            let net = 1 + lines
                .iter()
                .position(|known| *known == line)
                .unwrap_or_default();
            (line.clone(), vec![address(net)])
        });
        let place = Placed {
            zone: host.zone.clone(),
            lines: on.collect(),
            ..Placed::new(host.region.clone(), vec![address(0)])
        };
        if placed.insert(host.name.clone(), place).is_some() {
            return Err(Error::World(format!("host {} is named twice", host.name)));
        }
    }
    Ok(placed)
}

/// Hosts, and the world between them. Dropping it ends the hosts; their processes belong to whoever
/// holds them.
#[derive(Debug)]
pub struct Lab {
    live: Live,
    began: Began,
    hosts: BTreeMap<NodeId, Running>,
}

#[derive(Debug)]
struct Running {
    host: Host,
    address: Ipv4Addr,
    carried: Arc<Carried>,
    queue: Arc<Queue<Box<[u8]>>>,
}

/// What has left one host.
#[derive(Debug, Default)]
struct Carried {
    lanes: Mutex<HashMap<Ipv4Addr, Lane>>,
    /// Nobody has the destination, or it was no IPv4 packet.
    astray: AtomicU64,
    /// More than [`MAX_WAITING`](crate::shim::MAX_WAITING) bytes were on their way to one host.
    overflowed: AtomicU64,
}

#[derive(Debug)]
struct Lane {
    to: NodeId,
    net: Net,
    lane: Followed,
}

/// What one direction has carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// From which host.
    pub from: NodeId,
    /// To which.
    pub to: NodeId,
    /// Over which net.
    pub net: Net,
    /// How much, and what became of it.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What the lab itself did to packets, which no model asked for. All are zero in a sound run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Faulty {
    /// Dropped by the kernel because they were not read in time.
    pub overrun: u64,
    /// Dropped because too much was under way to one host.
    pub overflowed: u64,
    /// To nobody in the lab.
    pub astray: u64,
}

impl Lab {
    /// Starts a host for every node of `world`; see [`place`] for their addresses. The calling
    /// process must be in a [`space`].
    pub fn start(world: World) -> Result<Lab, Error> {
        world.check().map_err(Error::World)?;
        if world.nodes.len() > MAX_HOSTS {
            let count = world.nodes.len();
            return Err(Error::World(format!(
                "{count} hosts; the limit is {MAX_HOSTS}"
            )));
        }
        let began = Began::now();
        let mut everybody = HashMap::new();
        let mut hosts = BTreeMap::new();
        let mut devices = Vec::new();
        for (name, placed) in &world.nodes {
            let addresses = addresses(name, placed)?;
            let (host, device) = Host::start(
                name,
                &addresses.iter().map(|(ip, _)| *ip).collect::<Vec<_>>(),
            )?;
            let queue = Arc::new(Queue::new(began));
            let who = placed.who(name);
            for (address, net) in &addresses {
                let target = Target {
                    who: who.clone(),
                    name: name.clone(),
                    net: net.clone(),
                    queue: queue.clone(),
                };
                if everybody.insert(*address, target).is_some() {
                    return Err(Error::World(format!(
                        "two hosts have the address {address}"
                    )));
                }
            }
            let running = Running {
                host,
                address: addresses[0].0,
                carried: Arc::default(),
                queue,
            };
            hosts.insert(name.clone(), running);
            devices.push((who, device));
        }
        let lab = Lab {
            live: Live::of(world),
            began,
            hosts,
        };
        let everybody = Arc::new(everybody);
        for ((who, device), running) in devices.into_iter().zip(lab.hosts.values()) {
            let reader = Reader {
                who,
                live: lab.live.clone(),
                began,
                everybody: everybody.clone(),
                carried: running.carried.clone(),
            };
            let name = running.host.name();
            let (from, to, queue) = (device.clone(), device, running.queue.clone());
            start_thread(format!("from {name}"), move || reader.run(&from))
                .and_then(|()| {
                    start_thread(format!("to {name}"), move || {
                        // What a host does not take is lost, as on a real wire.
                        queue.run(|packet| drop(to.send(&packet)));
                    })
                })
                .map_err(|error| Error::host(name, error))?;
        }
        Ok(lab)
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> Result<&Host, Error> {
        self.running(name).map(|running| &running.host)
    }

    /// All hosts with their addresses on the internet.
    pub fn hosts(&self) -> impl Iterator<Item = (&Host, Ipv4Addr)> {
        let hosts = self.hosts.values();
        hosts.map(|running| (&running.host, running.address))
    }

    /// A host's address on the internet.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr, Error> {
        self.running(name).map(|running| running.address)
    }

    /// Changes the world; the next packet meets it.
    pub fn apply(&self, change: &Change) -> Result<(), ChangeError> {
        self.live.apply(change)
    }

    /// The world now.
    pub fn world(&self) -> Arc<World> {
        self.live.world()
    }

    /// The clock of [`World`] changes and packets.
    pub fn clock(&self) -> Began {
        self.began
    }

    /// Every direction that has carried something, and what.
    pub fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (from, running) in &self.hosts {
            for lane in running.carried.lanes().values() {
                links.push(Link {
                    from: from.clone(),
                    to: lane.to.clone(),
                    net: lane.net.clone(),
                    counts: lane.lane.counts(),
                });
            }
        }
        links.sort_by(|a, b| (&a.from, &a.to, &a.net).cmp(&(&b.from, &b.to, &b.net)));
        links
    }

    /// What went wrong in the lab itself.
    pub fn faulty(&self) -> Result<Faulty, Error> {
        let mut faulty = Faulty::default();
        for running in self.hosts.values() {
            faulty.overrun += running.host.overrun()?;
            faulty.overflowed += running.carried.overflowed.load(Relaxed);
            faulty.astray += running.carried.astray.load(Relaxed);
        }
        Ok(faulty)
    }

    fn running(&self, name: &str) -> Result<&Running, Error> {
        self.hosts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.hosts.keys().map(NodeId::as_str).collect();
            Error::Unknown {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Writers end when nothing is under way; a host's thread when its last handle is gone; a
        // reader when its device goes with the host's namespace.
        self.hosts
            .values()
            .for_each(|running| running.queue.close());
    }
}

impl Carried {
    fn lanes(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has an address.
#[derive(Debug)]
struct Target {
    who: Who,
    name: NodeId,
    net: Net,
    queue: Arc<Queue<Box<[u8]>>>,
}

/// Takes what leaves one host.
struct Reader {
    who: Who,
    live: Live,
    began: Began,
    everybody: Arc<HashMap<Ipv4Addr, Target>>,
    carried: Arc<Carried>,
}

impl Reader {
    /// Until the device is gone.
    fn run(&self, device: &SyncDevice) {
        let mut buffer = vec![0; MTU];
        loop {
            match device.recv(&mut buffer) {
                Ok(length) => self.carry(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn carry(&self, packet: &[u8]) {
        let now = self.began.time();
        let header = Header::parse(packet);
        let target = header.and_then(|header| Some((header, self.everybody.get(&header.to)?)));
        let Some((header, target)) = target else {
            self.carried.astray.fetch_add(1, Relaxed);
            return;
        };
        let mut lanes = self.carried.lanes();
        let lane = lanes.entry(header.to).or_insert_with(|| Lane {
            to: target.name.clone(),
            net: target.net.clone(),
            lane: self
                .live
                .follow(self.who.clone(), target.who.clone(), target.net.clone()),
        });
        let verdict = lane.lane.send(now, header.payload);
        drop(lanes);
        if let Verdict::Deliver(at) = verdict
            && target.queue.push(at, packet.len(), packet.into()) == Err(Refused::Full)
        {
            self.carried.overflowed.fetch_add(1, Relaxed);
        }
    }
}

/// A node's IPv4 addresses with their nets; the first one is on the internet.
fn addresses(name: &NodeId, placed: &Placed) -> Result<Vec<(Ipv4Addr, Net)>, Error> {
    let internet = Net::internet();
    let nets = [(&internet, &placed.addrs)]
        .into_iter()
        .chain(&placed.lines);
    let mut addresses = Vec::new();
    for (net, addrs) in nets {
        let [SocketAddr::V4(address)] = addrs[..] else {
            return Err(Error::World(format!(
                "host {name} has {} addresses on {net}; it must have one, of IPv4",
                addrs.len()
            )));
        };
        addresses.push((*address.ip(), net.clone()));
    }
    if addresses
        .iter()
        .any(|(ip, _)| IpAddr::V4(*ip).is_loopback() || ip.is_unspecified())
    {
        return Err(Error::World(format!(
            "host {name} has an address that is no host's"
        )));
    }
    Ok(addresses)
}

fn start_thread(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, lines: &[&str]) -> Spec {
        Spec {
            name: name.parse().expect("a name"),
            region: "hk".parse().expect("a region"),
            zone: None,
            lines: lines
                .iter()
                .map(|net| net.parse().expect("a net"))
                .collect(),
        }
    }

    #[test]
    fn hosts_get_addresses_of_their_own_on_every_net() {
        let placed = place(&[spec("b", &["line-2"]), spec("a", &["line-1", "line-2"])]);
        let placed = placed.expect("placed");
        let of = |name: &str| {
            let node: NodeId = name.parse().expect("a name");
            let found = addresses(&node, &placed[&node]).expect("addresses");
            let found = found.iter().map(|(ip, net)| format!("{net} {ip}"));
            found.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(of("b"), "internet 10.77.0.1, line-2 10.77.2.1");
        assert_eq!(
            of("a"),
            "internet 10.77.0.2, line-1 10.77.1.2, line-2 10.77.2.2"
        );
    }

    #[test]
    fn hosts_that_cannot_be_are_refused() {
        let told = place(&[spec("a", &[]), spec("a", &[])]).expect_err("refused");
        assert_eq!(told.to_string(), "host a is named twice");
        let many: Vec<Spec> = (0..=MAX_HOSTS)
            .map(|n| spec(&format!("h{n}"), &[]))
            .collect();
        let told = place(&many).expect_err("refused").to_string();
        assert_eq!(told, "251 hosts; the limit is 250");
        let name: NodeId = "a".parse().expect("a name");
        let placed = |addrs: &[&str]| {
            let addrs = addrs.iter().map(|addr| addr.parse().expect("an address"));
            Placed::new("hk".parse().expect("a region"), addrs.collect())
        };
        for addrs in [
            &["127.0.0.1:1"][..],
            &["[::1]:1"],
            &[],
            &["10.0.0.1:1", "10.0.0.1:2"],
        ] {
            assert!(addresses(&name, &placed(addrs)).is_err(), "{addrs:?}");
        }
    }
}
