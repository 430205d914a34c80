//! The UDP half: a heap of datagrams by the time they leave, and a thread that lets them go.
//!
//! It is a thread and not a task because tokio's timers tick in whole milliseconds, which would
//! add up to 2 ms to every emulated round trip; a condition variable is good to about 0.1 ms.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use longspan_proto::time::Time;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};

use super::{Lane, Shim};
use crate::wan::{Reason, Verdict};

/// Bytes under way from one socket. More are dropped and counted: 64 MB are more than two seconds
/// at 200 Mbit/s, over four times the longest delay of the matrix at the rate of its links.
pub const MAX_WAITING: usize = 64 << 20;

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
    /// Dropped because more than [`MAX_WAITING`] bytes were under way.
    pub overflowed: AtomicU64,
}

pub(super) struct Socket {
    shim: Shim,
    inner: Arc<dyn AsyncUdpSocket>,
    queue: Arc<Queue>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub fn new(shim: Shim, inner: Arc<dyn AsyncUdpSocket>) -> Socket {
        let queue = Arc::new(Queue::default());
        let runner = (shim.clone(), inner.clone(), queue.clone());
        let spawned = thread::Builder::new()
            .name("wan".to_owned())
            .spawn(move || release(&runner.0, &*runner.1, &runner.2));
        if let Err(error) = spawned {
            // Without its thread nothing would ever leave; `try_send` then says so.
            tracing::error!("cannot emulate delays: {error}");
            queue.lock().closed = true;
        }
        Socket { shim, inner, queue }
    }
}

/// What is under way, shared by the socket and its thread.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lanes: HashMap<SocketAddr, Lane>,
    waiting: BinaryHeap<Reverse<Datagram>>,
    bytes: usize,
    /// Numbers datagrams, so that those of the same time leave in order.
    next: u64,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Datagram {
    at: Time,
    n: u64,
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    contents: Box<[u8]>,
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Datagram {}

impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datagram {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.n).cmp(&(other.at, other.n))
    }
}

impl AsyncUdpSocket for Socket {
    /// Always ready: what cannot leave yet waits here, not at the caller.
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Ready)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = self.shim.now();
        let mut state = self.queue.lock();
        if state.closed {
            return Err(io::Error::other("the emulated network has ended"));
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        let head = state.waiting.peek().map(|Reverse(first)| first.n);
        for contents in transmit.contents.chunks(segment.max(1)) {
            state.push(&self.shim, now, transmit, contents);
        }
        let new_head = state.waiting.peek().map(|Reverse(first)| first.n);
        drop(state);
        if head != new_head {
            self.queue.changed.notify_one();
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
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
    }
}

impl State {
    fn push(&mut self, shim: &Shim, now: Time, transmit: &Transmit<'_>, contents: &[u8]) {
        let destination = transmit.destination;
        if self.lanes.len() >= MAX_LANES && !self.lanes.contains_key(&destination) {
            self.lanes.clear();
        }
        let lane = self
            .lanes
            .entry(destination)
            .or_insert_with(|| Lane::new(shim, shim.me.clone(), shim.who(destination)));
        let at = match lane.current(shim).send(now, contents.len()) {
            Verdict::Deliver(at) => at,
            Verdict::Drop(reason) => {
                let counter = match reason {
                    Reason::Lost => &shim.counts.lost,
                    Reason::QueueFull => &shim.counts.queue_full,
                };
                counter.fetch_add(1, Relaxed);
                return;
            }
        };
        if self.bytes + contents.len() > MAX_WAITING {
            shim.counts.overflowed.fetch_add(1, Relaxed);
            return;
        }
        self.bytes += contents.len();
        self.waiting.push(Reverse(Datagram {
            at,
            n: self.next,
            destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            contents: contents.into(),
        }));
        self.next += 1;
    }
}

/// The thread: lets every datagram go at its time. It ends when the socket is gone and what was
/// under way has left.
fn release(shim: &Shim, inner: &dyn AsyncUdpSocket, queue: &Queue) {
    let mut state = queue.lock();
    loop {
        let Some(Reverse(first)) = state.waiting.peek() else {
            if state.closed {
                return;
            }
            let waited = queue.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let due = shim.instant(first.at);
        let now = Instant::now();
        if due > now {
            let waited = queue.changed.wait_timeout(state, due - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let Some(Reverse(datagram)) = state.waiting.pop() else {
            continue;
        };
        state.bytes -= datagram.contents.len();
        drop(state);
        send(inner, &datagram);
        shim.counts.sent.fetch_add(1, Relaxed);
        state = queue.lock();
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
