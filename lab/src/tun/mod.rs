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

mod carry;
mod host;
mod packet;
mod place;
mod process;
pub mod space;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
};

use longspan_proto::ids::{Net, NodeId};
use serde::Serialize;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

pub use host::{DEVICE, Host, MTU};
pub use place::{MAX_NETS, Spec, place};
pub use process::Process;

pub use crate::delay::Began as Clock;
use crate::{
    delay::{Began, Queue},
    world::{Change, ChangeError, Counts, Live, World},
};
use carry::{Arriving, Carried, Reader, Target};
use place::addresses;

/// Hosts of one lab. Each costs two threads and a network namespace; their addresses are of one /24.
pub const MAX_HOSTS: usize = 250;

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
    queue: Arc<Arriving>,
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
            let reads = move || {
                urgent();
                reader.run(&from);
            };
            start_thread(format!("from {name}"), reads)
                .and_then(|()| {
                    start_thread(format!("to {name}"), move || {
                        urgent();
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

/// Lets the calling thread run before all others where this user may (CAP_SYS_NICE): on a busy
/// machine packets otherwise wait for a processor for milliseconds, which no model asked for. The
/// kernel leaves the others 5 % of each processor whatever happens (sched(7)).
pub fn urgent() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    // Any real-time priority is above everything that has none.
    let lowest = ThreadPriority::Min;
    let _ = set_thread_priority_and_policy(thread_native_id(), lowest, policy);
}

fn start_thread(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(run).map(drop)
}
