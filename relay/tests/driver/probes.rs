//! Links are measured beside QUIC.

use std::{
    io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use longspan_relay::node::Hooks;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use crate::world::{World, eventually};

/// Every datagram leaves this much later.
const DELAY: Duration = Duration::from_millis(25);

#[derive(Debug)]
struct Delaying {
    inner: Arc<dyn AsyncUdpSocket>,
    queue: tokio::sync::mpsc::UnboundedSender<Later>,
}

#[derive(Debug)]
struct Later {
    due: tokio::time::Instant,
    to: SocketAddr,
    contents: Vec<u8>,
}

impl Delaying {
    fn wrap(inner: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        let (queue, mut later) = tokio::sync::mpsc::unbounded_channel::<Later>();
        let out = inner.clone();
        tokio::spawn(async move {
            while let Some(Later { due, to, contents }) = later.recv().await {
                tokio::time::sleep_until(due).await;
                let _ = out.try_send(&Transmit {
                    destination: to,
                    ecn: None,
                    contents: &contents,
                    segment_size: None,
                    src_ip: None,
                });
            }
        });
        Arc::new(Delaying { inner, queue })
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Delaying {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let size = transmit
            .segment_size
            .unwrap_or(transmit.contents.len())
            .max(1);
        for contents in transmit.contents.chunks(size) {
            let later = Later {
                due: tokio::time::Instant::now() + DELAY,
                to: transmit.destination,
                contents: contents.to_vec(),
            };
            self.queue
                .send(later)
                .map_err(|_| io::Error::other("the queue is gone"))?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// Microseconds in a peer's view.
fn micros(peer: Option<serde_json::Value>, name: &str) -> Option<i64> {
    peer?[name].as_i64()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_round_trip_of_a_slow_link_is_measured_at_both_ends() {
    let world = World::chain_with(&["a", "b"], |mut config| {
        config.hooks = Hooks {
            socket: Some(Arc::new(Delaying::wrap)),
            connect: None,
        };
        config
    })
    .await;
    let rtt = 2 * DELAY.as_micros() as i64;
    for (at, to) in [("a", "b"), ("b", "a")] {
        eventually("the round trip is known", || {
            micros(world.nodes[at].peer(to), "rtt_us").is_some()
        })
        .await;
        let measured = micros(world.nodes[at].peer(to), "rtt_us").unwrap();
        // Never less than the emulated delay; more only as far as this machine is late.
        assert!((rtt..rtt + 40_000).contains(&measured), "{measured} µs");
    }
    // The clocks' offset cancels: what remains of both raw differences is the round trip.
    let raw = |at: &str, to: &str| micros(world.nodes[at].peer(to), "raw_delay_us").unwrap();
    let sum = raw("a", "b") + raw("b", "a");
    assert!((rtt..rtt + 40_000).contains(&sum), "{sum} µs");
}
