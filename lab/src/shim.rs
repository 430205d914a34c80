//! The model as a UDP socket: what is sent is delivered later, or not at all. Stands between quinn
//! and the real socket; what arrives is not touched (the sender's shim has delayed it).

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use longspan_proto::time::Time;
use quinn::{AsyncUdpSocket, UdpPoller, udp};
use tokio::sync::mpsc;

use crate::{wan::Verdict, world::World};

/// Most bytes on their way at once: 100 ms of 200 Mbit/s to fourteen regions and half a second of
/// flight are below it. Above, packets are dropped and counted.
pub const MAX_IN_FLIGHT: usize = 256 << 20;

/// Timers fire on whole milliseconds, rounded up; half of one early is right on average.
const EARLY: Duration = Duration::from_micros(500);

/// A socket in the emulated world.
pub struct Shim {
    inner: Arc<dyn AsyncUdpSocket>,
    world: World,
    queue: mpsc::UnboundedSender<Parcel>,
    counts: Arc<Counts>,
}

/// What became of the datagrams.
#[derive(Debug, Default)]
struct Counts {
    in_flight: AtomicUsize,
    number: AtomicU64,
    dropped: AtomicU64,
}

struct Parcel {
    due: Time,
    /// Keeps the order of what is due at the same time.
    number: u64,
    to: SocketAddr,
    from: Option<IpAddr>,
    ecn: Option<udp::EcnCodepoint>,
    bytes: Bytes,
}

impl Shim {
    /// Wraps a socket; must be called inside a Tokio runtime.
    pub fn wrap(inner: Arc<dyn AsyncUdpSocket>, world: World) -> Arc<dyn AsyncUdpSocket> {
        // Bounded by `MAX_IN_FLIGHT`, which is checked before anything enters.
        let (queue, parcels) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        tokio::spawn(deliver(
            parcels,
            inner.clone(),
            world.clone(),
            counts.clone(),
        ));
        Arc::new(Shim {
            inner,
            world,
            queue,
            counts,
        })
    }
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim")
            .field("inner", &self.inner)
            .field("counts", &self.counts)
            .finish()
    }
}

/// The emulated network never pushes back.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Shim {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        let size = transmit
            .segment_size
            .unwrap_or(transmit.contents.len())
            .max(1);
        for datagram in transmit.contents.chunks(size) {
            let Verdict::Deliver(due) = self.world.send(transmit.destination, datagram.len())
            else {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            if self.counts.in_flight.load(Ordering::Relaxed) + datagram.len() > MAX_IN_FLIGHT {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.counts
                .in_flight
                .fetch_add(datagram.len(), Ordering::Relaxed);
            let parcel = Parcel {
                due,
                number: self.counts.number.fetch_add(1, Ordering::Relaxed),
                to: transmit.destination,
                from: transmit.src_ip,
                ecn: transmit.ecn,
                bytes: Bytes::copy_from_slice(datagram),
            };
            // The task ends with the runtime; then nothing is delivered any more.
            let _ = self.queue.send(parcel);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// One: a batch would share its fate.
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

/// Sends each parcel when it is due.
async fn deliver(
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    socket: Arc<dyn AsyncUdpSocket>,
    world: World,
    counts: Arc<Counts>,
) {
    let mut waiting: BinaryHeap<Reverse<Parcel>> = BinaryHeap::new();
    loop {
        let wait = waiting
            .peek()
            .map(|Reverse(next)| next.due.saturating_since(world.now() + EARLY));
        match wait {
            Some(Duration::ZERO) => {
                let Some(Reverse(parcel)) = waiting.pop() else {
                    continue;
                };
                counts
                    .in_flight
                    .fetch_sub(parcel.bytes.len(), Ordering::Relaxed);
                send(&socket, &parcel).await;
            }
            Some(wait) => tokio::select! {
                parcel = parcels.recv() => match parcel {
                    Some(parcel) => waiting.push(Reverse(parcel)),
                    None => return,
                },
                () = tokio::time::sleep(wait) => {}
            },
            None => match parcels.recv().await {
                Some(parcel) => waiting.push(Reverse(parcel)),
                None => return,
            },
        }
        while let Ok(parcel) = parcels.try_recv() {
            waiting.push(Reverse(parcel));
        }
    }
}

async fn send(socket: &Arc<dyn AsyncUdpSocket>, parcel: &Parcel) {
    let transmit = udp::Transmit {
        destination: parcel.to,
        ecn: parcel.ecn,
        contents: &parcel.bytes,
        segment_size: None,
        src_ip: parcel.from,
    };
    let mut poller = socket.clone().create_io_poller();
    loop {
        match socket.try_send(&transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            // As on a real network, what cannot be sent is lost.
            _ => return,
        }
    }
}

impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Parcel {}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
