//! The node's UDP socket as QUIC sees it: without the probes.

use std::{
    collections::HashMap,
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll, ready},
};

use longspan_proto::wire::probe::is_probe;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::Link;
use crate::{engine::Clock, peers::Peer};

/// Connections by the peer's address; two of one pair stand side by side for a moment.
type Links = HashMap<SocketAddr, Vec<(usize, Arc<Link>)>>;

/// See the [module](self).
pub(crate) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    clock: Clock,
    links: RwLock<Links>,
}

impl Socket {
    pub fn new(inner: Arc<dyn AsyncUdpSocket>, clock: Clock) -> Socket {
        Socket {
            inner,
            clock,
            links: RwLock::default(),
        }
    }

    /// Probes from the peer's address are for its link from now on.
    pub fn add(&self, peer: &Peer) {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(peer.conn.remote_address())
            .or_default()
            .push((peer.conn.stable_id(), peer.link.clone()));
    }

    pub fn remove(&self, peer: &Peer) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let address = peer.conn.remote_address();
        if let Some(held) = links.get_mut(&address) {
            held.retain(|(id, _)| *id != peer.conn.stable_id());
            if held.is_empty() {
                links.remove(&address);
            }
        }
    }

    /// Sends one probe; false if the socket is full (a late probe is worth nothing).
    pub fn send(&self, peer: &Peer, datagram: &[u8]) -> bool {
        self.inner
            .try_send(&Transmit {
                destination: peer.conn.remote_address(),
                ecn: None,
                contents: datagram,
                segment_size: None,
                src_ip: peer.conn.local_ip(),
            })
            .is_ok()
    }

    fn arrived(&self, from: SocketAddr, datagram: &[u8]) {
        let now = self.clock.now();
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let known = links.get(&from).is_some_and(|links| {
            links
                .iter()
                .any(|(_, link)| link.arrived(now, datagram).is_ok())
        });
        if !known {
            metrics::counter!("longspan_rejected_total", "reason" => "probe").increment(1);
        }
    }

    /// Takes the probes out of one receive buffer of datagrams `stride` long; the new length.
    fn filter(&self, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        let stride = meta.stride.max(1);
        let received = meta.len.min(buffer.len());
        let any = buffer[..received].chunks(stride).any(is_probe);
        if !any {
            return received;
        }
        let (mut from, mut to) = (0, 0);
        while from < received {
            let end = (from + stride).min(received);
            if is_probe(&buffer[from..end]) {
                self.arrived(meta.addr, &buffer[from..end]);
            } else {
                buffer.copy_within(from..end, to);
                to += end - from;
            }
            from = end;
        }
        to
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.inner).finish()
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, buffers, metas))?;
        for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(count) {
            // A length of 0 is no datagram to quinn.
            meta.len = self.filter(buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl AsyncUdpSocket for Nowhere {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nothing is sent")
        }
        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            Ok(())
        }
        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    /// Datagrams as received together (GRO): all of one length but the last.
    fn filtered(datagrams: &[&[u8]]) -> Vec<u8> {
        let socket = Socket::new(Arc::new(Nowhere), Clock::new(std::time::Duration::ZERO));
        let mut buffer = datagrams.concat();
        let meta = RecvMeta {
            len: buffer.len(),
            stride: datagrams[0].len(),
            ..RecvMeta::default()
        };
        let len = socket.filter(&mut buffer, &meta);
        buffer.truncate(len);
        buffer
    }

    #[test]
    fn probes_are_taken_from_between_quic_packets() {
        assert_eq!(
            filtered(&[b"\x40aaa", b"\x2abbb", b"\xc0ccc", b"\x40d"]),
            b"\x40aaa\xc0ccc\x40d"
        );
        assert_eq!(filtered(&[b"\x40aaa", b"\x40bb"]), b"\x40aaa\x40bb");
        assert_eq!(filtered(&[b"\x2aaaa", b"\x2abb"]), b"");
        // The last datagram, shorter, is the probe.
        assert_eq!(filtered(&[b"\x40aaa", b"\x00"]), b"\x40aaa");
    }
}
