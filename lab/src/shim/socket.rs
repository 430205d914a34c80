//! The UDP half: what leaves waits in a [`Queue`], and a thread lets it go.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};

use super::Shim;
use crate::{
    delay::{Queue, Refused},
    wan::{Reason, Verdict},
    world::Followed,
};

/// Destinations whose state is kept. When there are more, all are forgotten, which costs their
/// random state and nothing else: only somebody who sends from ever new addresses gets there.
const MAX_LANES: usize = 65_536;

/// How long the thread waits before it tries again where the system's buffer is full.
const FULL_BUFFER: Duration = Duration::from_micros(200);

/// What happened to a shim's datagrams.
#[derive(Debug, Default)]
pub struct Counts {
    /// Handed to the network.
    pub sent: AtomicU64,
    /// Lost on the way, as the model said.
    pub lost: AtomicU64,
    /// Dropped where the model's bottleneck had its queue full.
    pub queue_full: AtomicU64,
    /// Dropped because more than [`MAX_WAITING`](super::MAX_WAITING) bytes were under way.
    pub overflowed: AtomicU64,
}

pub(super) struct Socket {
    shim: Shim,
    inner: Arc<dyn AsyncUdpSocket>,
    lanes: Mutex<HashMap<SocketAddr, Followed>>,
    queue: Arc<Queue<Datagram>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

struct Datagram {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    contents: Box<[u8]>,
}

impl Socket {
    pub fn new(shim: Shim, inner: Arc<dyn AsyncUdpSocket>) -> Socket {
        let queue = Arc::new(Queue::new(shim.began));
        let (waiting, socket, counts) = (queue.clone(), inner.clone(), shim.counts.clone());
        let spawned = thread::Builder::new()
            .name("wan".to_owned())
            .spawn(move || {
                waiting.run(|datagram| {
                    send(&*socket, &datagram);
                    counts.sent.fetch_add(1, Relaxed);
                });
            });
        if let Err(error) = spawned {
            // Without its thread nothing would ever leave; `try_send` then says so.
            tracing::error!("cannot emulate delays: {error}");
            queue.close();
        }
        Socket {
            shim,
            inner,
            lanes: Mutex::default(),
            queue,
        }
    }

    /// Decides over one datagram and lets it wait.
    fn push(
        &self,
        lanes: &mut HashMap<SocketAddr, Followed>,
        transmit: &Transmit<'_>,
        contents: &[u8],
    ) -> io::Result<()> {
        let destination = transmit.destination;
        if lanes.len() >= MAX_LANES && !lanes.contains_key(&destination) {
            lanes.clear();
        }
        let lane = lanes.entry(destination).or_insert_with(|| {
            let (to, net) = self.shim.who(destination);
            self.shim.live.follow(self.shim.me.clone(), to, net)
        });
        let verdict = lane.send(self.shim.began.time(), contents.len());
        let counts = &self.shim.counts;
        let at = match verdict {
            Verdict::Deliver(at) => at,
            Verdict::Drop(reason) => {
                let counter = match reason {
                    Reason::Lost => &counts.lost,
                    Reason::QueueFull => &counts.queue_full,
                };
                counter.fetch_add(1, Relaxed);
                return Ok(());
            }
        };
        let datagram = Datagram {
            destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            contents: contents.into(),
        };
        match self.queue.push(at, contents.len(), datagram) {
            Ok(()) => {}
            Err(Refused::Full) => {
                self.shim.counts.overflowed.fetch_add(1, Relaxed);
            }
            Err(Refused::Closed) => {
                return Err(io::Error::other("the emulated network has ended"));
            }
        }
        Ok(())
    }
}

impl AsyncUdpSocket for Socket {
    /// Always ready: what cannot leave yet waits here, not at the caller.
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Ready)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for contents in transmit.contents.chunks(segment.max(1)) {
            self.push(&mut lanes, transmit, contents)?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// One: each datagram has a fate of its own, so batches would only be taken apart again.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Errors are the network's: like a real one it drops the datagram, and says nothing.
fn send(inner: &dyn AsyncUdpSocket, datagram: &Datagram) {
    let transmit = Transmit {
        destination: datagram.destination,
        ecn: datagram.ecn,
        contents: &datagram.contents,
        segment_size: None,
        src_ip: datagram.src_ip,
    };
    // The system's buffer empties within microseconds on a machine that is not stuck.
    for _ in 0..50 {
        match inner.try_send(&transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_BUFFER),
            _ => return,
        }
    }
}

#[derive(Debug)]
struct Ready;

impl UdpPoller for Ready {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
